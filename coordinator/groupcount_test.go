package coordinator

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// Groups are counted where their shards are, also after shards went to another gateway,
// and one too many is refused by whichever request would make it.
func TestGroupsAreCounted(t *testing.T) {
	f := newFleet(t, 8, Config{})
	a := f.join(1)
	f.topic("topic", 3)
	eventually(t, "one serves", func() bool { return f.ready(1) })
	commit := func(g *fleetMember, group string) wire.Code {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Generation, req.Group = 8, -1, group
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = "topic"
		rt.Partitions = append(rt.Partitions, kmsg.NewOffsetCommitRequestTopicPartition())
		req.Topics = append(req.Topics, rt)
		return wire.Code(g.c.OffsetCommit(t.Context(), Caller{Tenant: "default"}, req).Topics[0].Partitions[0].ErrorCode)
	}
	const n = 30
	for i := range n {
		if code := commit(a, fmt.Sprint("group-", i)); code != wire.None {
			t.Fatal(code)
		}
	}
	if got := a.c.Groups(); got["default"] != n || len(got) != 1 {
		t.Fatalf("%v", got)
	}
	b := f.join(2)
	eventually(t, "both serve", func() bool { return f.ready(1, 2) })
	eventually(t, "the groups are counted once", func() bool {
		x, y := a.c.Groups()["default"], b.c.Groups()["default"]
		return x > 0 && y > 0 && x+y == n
	})
	b.stop()
	eventually(t, "one serves again", func() bool { return f.ready(1) && a.c.Groups()["default"] == n })
	if got := b.c.Groups()["default"]; got != 0 {
		t.Errorf("%d groups of a coordinator that has ended", got)
	}
}

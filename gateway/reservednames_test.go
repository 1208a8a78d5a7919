package gateway

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// No client makes a topic of a name that is kept for internal ones, that can be taken for such a name, or that is none at
// all: neither by asking for it nor by using it. Names that merely resemble them are its own.
func TestReservedTopicNames(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	refused := []string{"__consumer_offsets", "__consumer.offsets", "..consumer_offsets", "__transaction_state", "__share.group_state", "__cluster_metadata",
		"__braid_audit", "__braid_coordinator", "__braid.audit", "..braid..anything", "__braid_", "", ".", "..", "tab\there", "nul\x00", "ümlaut", "оrders", "or\u200bders", "a b", "a/b", strings.Repeat("x", 250), strings.Repeat("__braid_", 1280)}
	made := []string{"braid.x", "braid", "_braid_audit", "__Braid_audit", "consumer_offsets", "__consumer_offsets2", strings.Repeat("x", 249)}
	r := f.raw()
	create := func(name string) wire.Code {
		t.Helper()
		req := withVersion(kmsg.NewPtrCreateTopicsRequest(), 7)
		x := kmsg.NewCreateTopicsRequestTopic()
		x.Topic, x.NumPartitions, x.ReplicationFactor = name, 1, 1
		req.Topics = append(req.Topics, x)
		req.TimeoutMillis = 60_000
		resp := do[*kmsg.CreateTopicsResponse](r, 7, req)
		if e := resp.Topics[0]; e.ErrorCode != 0 && (e.ErrorMessage == nil || *e.ErrorMessage == "" || len(*e.ErrorMessage) > 500) {
			t.Errorf("%.40q: no clear reason: %v", name, e.ErrorMessage)
		}
		return wire.Code(resp.Topics[0].ErrorCode)
	}
	use := func(name string) wire.Code {
		t.Helper()
		req := withVersion(kmsg.NewPtrMetadataRequest(), 9)
		req.AllowAutoTopicCreation = true
		x := kmsg.NewMetadataRequestTopic()
		x.Topic = &name
		req.Topics = append(req.Topics, x)
		return wire.Code(do[*kmsg.MetadataResponse](r, 9, req).Topics[0].ErrorCode)
	}
	for _, name := range refused {
		if got := create(name); got != wire.InvalidTopicException {
			t.Errorf("asked for %.40q: %v", name, got)
		}
		if got := use(name); got != wire.InvalidTopicException && !(internalTopic(name) && got == wire.UnknownTopicOrPartition) {
			t.Errorf("used %.40q: %v", name, got)
		}
	}
	for _, name := range made {
		if got := create(name); got != wire.None {
			t.Errorf("asked for %.40q: %v", name, got)
		}
	}
	s, err := f.watcher.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for x := range s.Topics(catalog.DefaultTenant) {
		if reservedTopic(x.Name) {
			t.Errorf("%q is there", x.Name)
		}
		n++
	}
	if n != len(made) {
		t.Errorf("%d topics are there", n)
	}
}

package coordinator

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// Where groups stand is told by all gateways together; the shards of one that does not answer are named.
func TestStandingsOfAllGateways(t *testing.T) {
	f := newFleet(t, 8, Config{})
	a, b := f.join(1), f.join(2)
	peers := fleetPeers{1: a.c, 2: b.c}
	a.c.peers, b.c.peers = peers, peers
	eventually(t, "both serve", func() bool { return f.ready(1, 2) })
	var want []catalog.GroupStand
	commit := func(group, topic string, partition int32, offset int64) {
		t.Helper()
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Generation, req.Group = 8, -1, group
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = partition, offset
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		node, _ := a.c.Owner("default", KeyGroup, group)
		resp := peers[node].OffsetCommit(t.Context(), Caller{Tenant: "default"}, req)
		if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatal(wire.Code(code))
		}
	}
	for i := range 20 {
		group := fmt.Sprintf("group-%02d", i)
		commit(group, "topic", 1, int64(100+i))
		want = append(want, catalog.GroupStand{Group: group, Partition: 1, Offset: int64(100 + i)})
	}
	d := named{a.c.directory}
	none := idOf("none")
	got := Standings(t.Context(), d, peers, []catalog.ID{idOf("topic"), none}, nil)
	if s := got[idOf("topic")]; !slices.Equal(s.Groups, want) || len(s.Silent) > 0 || s.Unlisted != 0 {
		t.Errorf("%+v", s)
	}
	if s, ok := got[none]; !ok || len(s.Groups) > 0 || len(s.Silent) > 0 {
		t.Errorf("a topic without groups: %+v", s)
	}

	delete(peers, 2)
	s := Standings(t.Context(), d, peers, []catalog.ID{idOf("topic")}, nil)[idOf("topic")]
	var away []int32
	for n := range int32(8) {
		if owner, ok := d.Shard(n); ok && owner.Node == 2 {
			away = append(away, n)
		}
	}
	if len(away) == 0 || !slices.Equal(s.Silent, away) || len(s.Groups) == 0 || len(s.Groups) >= len(want) {
		t.Errorf("shards %v are away: %+v", away, s)
	}
	// They are back, and are asked for alone.
	peers[2] = b.c
	late := Standings(t.Context(), d, peers, []catalog.ID{idOf("topic")}, away)[idOf("topic")]
	if len(late.Silent) > 0 || len(late.Groups)+len(s.Groups) != len(want) {
		t.Errorf("%+v", late)
	}
}

// named also knows the internal topic by its name.
type named struct{ Directory }

func (d named) TopicByName(tenant, name string) (catalog.Topic, bool) {
	if tenant == catalog.SystemTenant && name == TopicName {
		return catalog.Topic{Tenant: tenant, Name: name, Partitions: 8}, true
	}
	return d.Directory.TopicByName(tenant, name)
}

// More groups than an answer has room for are counted.
func TestStandOfManyGroups(t *testing.T) {
	f := newFleet(t, 1, Config{})
	a := f.join(1)
	eventually(t, "it serves", func() bool { return f.ready(1) })
	if code := a.c.within("default", "g", func(m *machine) {
		for i := range standGroups + 7 {
			g := m.newGroup(groupKey{"default", fmt.Sprint("many-", i)})
			g.offsets["topic"] = &topicStore{id: idOf("topic"), partitions: map[int32]*committed{0: {offset: 5}}}
		}
	}); code != wire.None {
		t.Fatal(code)
	}
	all, shards := a.c.ownStand(&PeerStand{Topics: []catalog.ID{idOf("topic"), idOf("topic")}})
	if len(all) != 1 || len(all[0].Groups) != standGroups || all[0].Unlisted != 7 || !slices.Equal(shards, []int32{0}) {
		t.Errorf("%d topics, shards %v", len(all), shards)
	}
	for _, bad := range []*PeerStand{{}, {Topics: make([]catalog.ID, StandTopics+1)}} {
		if _, err := (fleetPeers{1: a.c}).Ask(context.Background(), 1, &PeerRequest{Stand: bad}); err == nil {
			t.Error("a question about no topic, or too many, was taken")
		}
	}
}

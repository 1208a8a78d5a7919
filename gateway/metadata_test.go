package gateway

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func metadata(r *raw, version int16, names ...string) *kmsg.MetadataResponse {
	r.tb.Helper()
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = true
	for _, n := range names {
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: ptr(n)})
	}
	return do[*kmsg.MetadataResponse](r, version, req)
}

func TestMetadataCreatesTopics(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2), withConfig(func(c *Config) { c.NumPartitions = 3 }))
	a, b := f.rawTo(0), f.rawTo(1)
	// Many clients at once, through both gateways.
	var wg sync.WaitGroup
	ids := make([][16]byte, 8)
	for i := range ids {
		r := f.rawTo(i % 2)
		wg.Go(func() { ids[i] = metadata(r, 12, "auto").Topics[0].TopicID })
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == [16]byte{} {
			t.Errorf("ids %v", ids)
		}
	}
	if m := metadata(b, 12, "auto"); m.Topics[0].ErrorCode != 0 || len(m.Topics[0].Partitions) != 3 {
		t.Errorf("%+v", m.Topics)
	}
	for name, want := range map[string]wire.Code{"bad name": wire.InvalidTopicException, "__transaction_state": wire.UnknownTopicOrPartition} {
		if m := metadata(a, 12, name); wire.Code(m.Topics[0].ErrorCode) != want {
			t.Errorf("%s: %v", name, wire.Code(m.Topics[0].ErrorCode))
		}
	}
	// The client may not want it.
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: ptr("unwanted")}}
	if m := do[*kmsg.MetadataResponse](a, 4, req); wire.Code(m.Topics[0].ErrorCode) != wire.UnknownTopicOrPartition {
		t.Errorf("%+v", m.Topics)
	}
	f.admin.fail = &span.RejectedError{Code: wire.PolicyViolation, Detail: "no"}
	if m := metadata(a, 12, "refused"); wire.Code(m.Topics[0].ErrorCode) != wire.PolicyViolation {
		t.Errorf("%+v", m.Topics)
	}
	f.admin.fail = fmt.Errorf("who knows")
	if m := metadata(a, 12, "broken"); wire.Code(m.Topics[0].ErrorCode) != wire.LeaderNotAvailable {
		t.Errorf("%+v", m.Topics)
	}
}

func TestMetadataByIDAndAll(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	topic := f.topic("one", 2)
	f.topic("two", 70)
	r := f.raw()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{{TopicID: topic.ID}, {TopicID: [16]byte{3}}, {TopicID: topic.ID}}
	m := do[*kmsg.MetadataResponse](r, 13, req)
	if len(m.Topics) != 2 || *m.Topics[0].Topic != "one" || wire.Code(m.Topics[1].ErrorCode) != wire.UnknownTopicID || m.Topics[1].Topic != nil {
		t.Errorf("%+v", m.Topics)
	}
	for v := int16(0); v <= 13; v++ {
		all := kmsg.NewPtrMetadataRequest()
		m := do[*kmsg.MetadataResponse](r, v, all)
		if len(m.Topics) != 2 || *m.Topics[0].Topic != "one" || len(m.Topics[1].Partitions) != 70 {
			t.Errorf("version %d: %d topics", v, len(m.Topics))
		}
		if v > 0 {
			none := kmsg.NewPtrMetadataRequest()
			none.Topics = []kmsg.MetadataRequestTopic{}
			if m := do[*kmsg.MetadataResponse](r, v, none); len(m.Topics) != 0 || len(m.Brokers) != 1 {
				t.Errorf("version %d, no topics: %+v", v, m)
			}
		}
	}
	// The kept answer follows the catalog.
	f.topic("three", 1)
	if m := do[*kmsg.MetadataResponse](r, 9, kmsg.NewPtrMetadataRequest()); len(m.Topics) != 3 {
		t.Errorf("%d topics, want 3", len(m.Topics))
	}
	f.deleteTopic("three")
	if m := do[*kmsg.MetadataResponse](r, 9, kmsg.NewPtrMetadataRequest()); len(m.Topics) != 2 {
		t.Errorf("%d topics, want 2", len(m.Topics))
	}
	if m := do[*kmsg.MetadataResponse](r, 11, req); len(m.Topics) != 2 || wire.Code(m.Topics[0].ErrorCode) != wire.InvalidRequest {
		t.Errorf("by id before its version: %+v", m.Topics)
	}
}

// A client is told the addresses of the listener that it came in by.
func TestListenersAndZones(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(3), func(c *fleetConfig) {
		c.listeners = []ListenerConfig{{Name: "INTERNAL", Bind: "127.0.0.1:0"}, {Name: "EXTERNAL", Bind: "127.0.0.1:0", Advertise: "kafka.example.com:9093"}}
		c.zones = []string{"z1", "z2", "z2"}
	})
	f.topic("spread", 60)
	// A gateway that has no such listener is not told of.
	s, err := f.cat.Register(t.Context(), catalog.Gateway{Node: 99, Zone: "z1", Listeners: []catalog.Listener{{Name: "OTHER", Advertise: "nowhere:1"}}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	f.watchUntil(func(s *catalog.Snapshot) bool { return len(s.Gateways()) == 4 })
	leaders := func(i, listener int) (map[int32]int, *kmsg.MetadataResponse) {
		r := f.dial(f.gateways[i].Addrs()[listener].Bound)
		m := metadata(r, 12, "spread")
		by := map[int32]int{}
		for _, p := range m.Topics[0].Partitions {
			by[p.Leader]++
			if len(p.Replicas) != 1 || p.Replicas[0] != p.Leader || len(p.OfflineReplicas) != 0 {
				t.Fatalf("%+v", p)
			}
		}
		return by, m
	}
	by, m := leaders(1, 0)
	if len(m.Brokers) != 3 || by[1] != 0 || by[2] < 15 || by[3] < 15 {
		t.Errorf("from zone z2: leaders %v of %+v", by, m.Brokers)
	}
	for i, b := range m.Brokers {
		if want := f.gateways[i].Addrs()[0].Bound; fmt.Sprintf("%s:%d", b.Host, b.Port) != want || b.Rack == nil || *b.Rack != []string{"z1", "z2", "z2"}[i] {
			t.Errorf("broker %+v, want %s", b, want)
		}
	}
	if by, _ := leaders(0, 0); by[1] != 60 {
		t.Errorf("from zone z1: leaders %v", by)
	}
	_, m = leaders(0, 1)
	for _, b := range m.Brokers {
		if b.Host != "kafka.example.com" || b.Port != 9093 {
			t.Errorf("external: %+v", b)
		}
	}
}

func TestLeadersMoveLittle(t *testing.T) {
	t.Parallel()
	gw := func(nodes ...int32) *brokers {
		var list []*catalog.Gateway
		for _, n := range nodes {
			list = append(list, &catalog.Gateway{Node: n, Listeners: []catalog.Listener{{Name: "L", Advertise: fmt.Sprintf("h%d:1", n)}}})
		}
		return newBrokers(list, "L", "", broker{node: nodes[0]})
	}
	four, three := gw(1, 2, 3, 4), gw(1, 2, 3)
	const n = 4000
	by := map[int32]int{}
	id := catalog.RandomID()
	for p := range int32(n) {
		a, b := four.leader(id, p), three.leader(id, p)
		by[a]++
		if a != 4 && a != b {
			t.Fatalf("partition %d moved from %d to %d though 4 left", p, a, b)
		}
	}
	for node, count := range by {
		if count < n/4*8/10 || count > n/4*12/10 {
			t.Errorf("node %d leads %d of %d", node, count, n)
		}
	}
}

// While a gateway is not registered, its clients still see it.
func TestUnregisteredGatewayShowsItself(t *testing.T) {
	t.Parallel()
	b := newBrokers([]*catalog.Gateway{{Node: 2, Listeners: []catalog.Listener{{Name: "L", Advertise: "b:1"}}}}, "L", "", broker{node: 1, host: "a", port: 9})
	if len(b.list) != 2 || b.list[0].node != 1 || b.list[0].host != "a" || b.find(2) == nil {
		t.Errorf("%+v", b.list)
	}
}

// A gateway that drains is named to nobody as long as there is another.
func TestDrainingGatewayIsNotNamed(t *testing.T) {
	t.Parallel()
	at := func(node int32, draining bool) *catalog.Gateway {
		return &catalog.Gateway{Node: node, Draining: draining, Listeners: []catalog.Listener{{Name: "L", Advertise: fmt.Sprintf("h%d:9", node)}}}
	}
	for _, c := range []struct {
		name     string
		gateways []*catalog.Gateway
		self     int32
		want     []int32
	}{
		{"another drains", []*catalog.Gateway{at(1, false), at(2, true), at(3, false)}, 1, []int32{1, 3}},
		{"this one drains", []*catalog.Gateway{at(1, false), at(2, true)}, 2, []int32{1}},
		{"the only one drains", []*catalog.Gateway{at(2, true)}, 2, []int32{2}},
		{"all drain", []*catalog.Gateway{at(1, true), at(2, true)}, 2, []int32{2}},
		{"not registered yet", []*catalog.Gateway{at(1, false), at(3, false)}, 2, []int32{1, 2, 3}},
		{"others drain, not registered", []*catalog.Gateway{at(1, true)}, 2, []int32{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []int32
			for _, b := range newBrokers(c.gateways, "L", "", broker{node: c.self, host: "self", port: 9}).list {
				got = append(got, b.node)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("told of %v, want %v", got, c.want)
			}
		})
	}
}

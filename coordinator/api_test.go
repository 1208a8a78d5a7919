package coordinator

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

var caller = Caller{Tenant: "default", ClientID: "client", ClientHost: "/127.0.0.1"}

// commitOffset commits as a simple consumer.
func commitOffset(c *Coordinator, group, topic string, partition int32, offset int64) wire.Code {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 9, group, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset, rp.Metadata = partition, offset, kmsg.StringPtr("m")
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return wire.Code(c.OffsetCommit(ctx, caller, req).Topics[0].Partitions[0].ErrorCode)
}

// fetchOffset is the committed offset, -1 if none.
func fetchOffset(c *Coordinator, group, topic string, partition int32) (int64, wire.Code) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 9
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	rt := kmsg.NewOffsetFetchRequestGroupTopic()
	rt.Topic, rt.Partitions = topic, []int32{partition}
	rg.Topics = append(rg.Topics, rt)
	req.Groups = append(req.Groups, rg)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	g := c.OffsetFetch(ctx, caller, req).Groups[0]
	if g.ErrorCode != 0 {
		return -1, wire.Code(g.ErrorCode)
	}
	return g.Topics[0].Partitions[0].Offset, wire.None
}

// A group of members lives through a take-over: their sessions go on, they need
// not join again.
func TestMembersOutliveATakeOver(t *testing.T) {
	f := newFleet(t, 1, Config{InitialRebalanceDelay: -1})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	ctx := context.Background()
	join := func(c *Coordinator, id string) *kmsg.JoinGroupResponse {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID = 9, "g", id
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 10_000, 10_000, "consumer"
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = "range", subscribe("topic")
		req.Protocols = append(req.Protocols, p)
		return c.JoinGroup(ctx, caller, req)
	}
	id := join(a.c, "").MemberID
	joined := join(a.c, id)
	if joined.ErrorCode != 0 || joined.LeaderID != id || len(joined.Members) != 1 {
		t.Fatalf("%+v", joined)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 5, "g", id, joined.Generation
	sync.ProtocolType, sync.Protocol = joined.ProtocolType, joined.Protocol
	sa := kmsg.NewSyncGroupRequestGroupAssignment()
	sa.MemberID, sa.MemberAssignment = id, []byte("work")
	sync.GroupAssignment = append(sync.GroupAssignment, sa)
	if got := a.c.SyncGroup(ctx, caller, sync); got.ErrorCode != 0 || string(got.MemberAssignment) != "work" {
		t.Fatalf("%+v", got)
	}
	a.freeze()
	a.expire()
	b := f.join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Version, beat.Group, beat.MemberID, beat.Generation = 4, "g", id, joined.Generation
	if got := b.c.Heartbeat(ctx, caller, beat); got.ErrorCode != 0 {
		t.Error(wire.Code(got.ErrorCode))
	}
	if got := a.c.Heartbeat(ctx, caller, beat); wire.Code(got.ErrorCode) != wire.NotCoordinator {
		t.Error(wire.Code(got.ErrorCode))
	}
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Version, describe.Groups = 6, []string{"g", "none"}
	got := b.c.DescribeGroups(ctx, caller, describe)
	if g := got.Groups[0]; g.State != "Stable" || string(g.Members[0].MemberAssignment) != "work" || g.Members[0].ClientHost != "/127.0.0.1" {
		t.Errorf("%+v", g)
	}
	if g := got.Groups[1]; wire.Code(g.ErrorCode) != wire.GroupIDNotFound {
		t.Errorf("%+v", g)
	}
	list := kmsg.NewPtrListGroupsRequest()
	list.Version = 5
	for _, tc := range []struct {
		states, types []string
		want          int
	}{{nil, nil, 1}, {[]string{"stable"}, nil, 1}, {[]string{"Empty"}, nil, 0}, {nil, []string{"Classic"}, 1}, {nil, []string{"consumer"}, 0}} {
		list.StatesFilter, list.TypesFilter = tc.states, tc.types
		if got := b.c.ListGroups(ctx, caller, list); len(got.Groups) != tc.want || got.ErrorCode != 0 {
			t.Errorf("%+v: %+v", tc, got)
		}
	}
	if got := b.c.ListGroups(ctx, Caller{Tenant: "other"}, list); len(got.Groups) != 0 {
		t.Errorf("another tenant sees %+v", got)
	}
}

// What is parked when the shard goes is told to look for the new owner.
func TestParkedRequestsAreToldOfTheLoss(t *testing.T) {
	f := newFleet(t, 1, Config{InitialRebalanceDelay: time.Hour})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group = 3, "g"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 10_000, 7_200_000, "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name = "range"
	req.Protocols = append(req.Protocols, p)
	answers := make(chan wire.Code, 1)
	a.c.JoinGroupAsync(caller, req, func(resp *kmsg.JoinGroupResponse) { answers <- wire.Code(resp.ErrorCode) })
	select {
	case code := <-answers:
		t.Fatal(code)
	default:
	}
	f.join(2)
	a.freeze()
	a.expire()
	if code := <-answers; code != wire.NotCoordinator {
		t.Error(code)
	}
}

func TestProducerIDsAreUnique(t *testing.T) {
	f := newFleet(t, 1, Config{ProducerIDBlock: 7})
	gateways := []*fleetMember{f.join(1), f.join(2)}
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for _, g := range gateways {
		for range 4 {
			wg.Go(func() {
				for range 50 {
					req := kmsg.NewPtrInitProducerIDRequest()
					req.Version = 5
					resp := g.c.InitProducerID(context.Background(), caller, req)
					mu.Lock()
					if resp.ErrorCode != 0 || resp.ProducerEpoch != 0 || resp.ProducerID < catalog.ProducerIDBase || seen[resp.ProducerID] {
						t.Errorf("%+v", resp)
					}
					seen[resp.ProducerID] = true
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID = 5, kmsg.StringPtr("tx")
	if resp := gateways[0].c.InitProducerID(context.Background(), caller, req); resp.ErrorCode == 0 || resp.ProducerID != -1 {
		t.Errorf("%+v", resp)
	}
}

func TestRequestChecks(t *testing.T) {
	f := newFleet(t, 1, Config{OffsetMetadataMax: 4})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	ctx := context.Background()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.SessionTimeoutMillis = 9, 10_000
	if got := a.c.JoinGroup(ctx, caller, join); wire.Code(got.ErrorCode) != wire.InvalidGroupID {
		t.Error(wire.Code(got.ErrorCode))
	}
	join.Group, join.SessionTimeoutMillis = "g", 5999
	if got := a.c.JoinGroup(ctx, caller, join); wire.Code(got.ErrorCode) != wire.InvalidSessionTimeout {
		t.Error(wire.Code(got.ErrorCode))
	}
	// What the next owner could not read must not get into the log.
	long := strings.Repeat("x", maxName+1)
	for name, change := range map[string]func(r *kmsg.JoinGroupRequest, c *Caller){
		"group":    func(r *kmsg.JoinGroupRequest, _ *Caller) { r.Group = long },
		"type":     func(r *kmsg.JoinGroupRequest, _ *Caller) { r.ProtocolType = long },
		"protocol": func(r *kmsg.JoinGroupRequest, _ *Caller) { r.Protocols[0].Name = long },
		"instance": func(r *kmsg.JoinGroupRequest, _ *Caller) { r.InstanceID = &long },
		"client":   func(_ *kmsg.JoinGroupRequest, c *Caller) { c.ClientID = long },
		"metadata": func(r *kmsg.JoinGroupRequest, _ *Caller) { r.Protocols[0].Metadata = make([]byte, 5<<20) },
	} {
		r := kmsg.NewPtrJoinGroupRequest()
		r.Version, r.Group, r.SessionTimeoutMillis, r.ProtocolType = 9, "g", 10_000, "consumer"
		r.Protocols = append(r.Protocols, kmsg.JoinGroupRequestProtocol{Name: "range"})
		who := caller
		change(r, &who)
		if code := wire.Code(a.c.JoinGroup(ctx, who, r).ErrorCode); code != wire.InvalidRequest && code != wire.InvalidGroupID {
			t.Errorf("%s: %v", name, code)
		}
	}
	if code := commitOffset(a.c, long, "topic", 0, 1); code != wire.InvalidGroupID {
		t.Error(code)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group = 5, "g"
	if got := a.c.SyncGroup(ctx, caller, sync); wire.Code(got.ErrorCode) != wire.InconsistentGroupProtocol {
		t.Error(wire.Code(got.ErrorCode))
	}
	for _, tc := range []struct {
		topic     string
		partition int32
		want      wire.Code
	}{{"topic", 0, wire.None}, {"topic", 8, wire.UnknownTopicOrPartition}, {"topic", -1, wire.UnknownTopicOrPartition}, {"none", 0, wire.UnknownTopicOrPartition}} {
		if code := commitOffset(a.c, "g", tc.topic, tc.partition, 1); code != tc.want {
			t.Errorf("%+v: %v", tc, code)
		}
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 10, "g", -1
	req.Topics = make([]kmsg.OffsetCommitRequestTopic, 2)
	req.Topics[0].TopicID, req.Topics[1].TopicID = idOf("topic"), idOf("none")
	for i := range req.Topics {
		for _, metadata := range []string{"1234", "12345", "日本語だ", "😀😀😀"} {
			req.Topics[i].Partitions = append(req.Topics[i].Partitions, kmsg.OffsetCommitRequestTopicPartition{Partition: 1, Offset: 5, LeaderEpoch: 3, Metadata: kmsg.StringPtr(metadata)})
		}
	}
	resp := a.c.OffsetCommit(ctx, caller, req)
	for i, want := range []wire.Code{wire.None, wire.OffsetMetadataTooLarge, wire.None, wire.OffsetMetadataTooLarge} {
		if got := wire.Code(resp.Topics[0].Partitions[i].ErrorCode); got != want {
			t.Errorf("%d: %v, want %v", i, got, want)
		}
		if got := wire.Code(resp.Topics[1].Partitions[i].ErrorCode); got != wire.UnknownTopicID {
			t.Errorf("%d: %v", i, got)
		}
	}
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Version = 10
	fetch.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g", Topics: []kmsg.OffsetFetchRequestGroupTopic{
		{TopicID: idOf("topic"), Partitions: []int32{1}}, {TopicID: idOf("none"), Partitions: []int32{1}}}}, {Group: "other"}}
	got := a.c.OffsetFetch(ctx, caller, fetch)
	if p := got.Groups[0].Topics[0].Partitions[0]; p.Offset != 5 || p.LeaderEpoch != 3 || *p.Metadata != "日本語だ" {
		t.Errorf("%+v", p)
	}
	if p := got.Groups[0].Topics[1].Partitions[0]; wire.Code(p.ErrorCode) != wire.UnknownTopicID || p.Offset != -1 {
		t.Errorf("%+v", p)
	}
	if g := got.Groups[1]; g.ErrorCode != 0 || len(g.Topics) != 0 {
		t.Errorf("%+v", g)
	}
	if all, err := a.c.CommittedOffsets(ctx, idOf("topic"), 1); err != nil || len(all) != 1 || all[0] != (GroupOffset{"default", "g", 5}) {
		t.Errorf("%+v", all)
	}
	remove := kmsg.NewPtrDeleteGroupsRequest()
	remove.Version, remove.Groups = 2, []string{"g", "none"}
	gone := a.c.DeleteGroups(ctx, caller, remove)
	if gone.Groups[0].ErrorCode != 0 || wire.Code(gone.Groups[1].ErrorCode) != wire.GroupIDNotFound {
		t.Errorf("%+v", gone)
	}
}

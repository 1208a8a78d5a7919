package coordinator

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// OffsetFetch, versions 1 to 10 (topic ids), as Apache Kafka 4.3. Answers wait
// for what is on its way into the log, whether or not the request asks for
// stable offsets, so that nothing is told that a change of owner could undo.

// fetchTopic is one topic that is asked for.
type fetchTopic struct {
	name       string // "" if the id is not known
	id         catalog.ID
	partitions []int32
}

// fetchedTopic is one topic of the answer.
type fetchedTopic struct {
	name       string
	id         catalog.ID
	code       wire.Code      // of all partitions
	unstable   map[int32]bool // an open transaction may change them
	partitions []fetchedOffset
}

type fetchedOffset struct {
	partition   int32
	offset      int64 // -1: none
	leaderEpoch int32
	metadata    string
}

// OffsetFetch answers for one group, from version 8 on for several; each of them
// may belong to another gateway and gets its own code.
func (c *Coordinator) OffsetFetch(ctx context.Context, caller Caller, req *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	resp := kmsg.NewPtrOffsetFetchResponse()
	resp.Version = req.Version
	if req.Version < 8 {
		topics := c.resolveFetch(ctx, caller.Tenant, req)
		got, code := c.fetchGroup(ctx, caller, req.Group, nil, -1, topics, req.Topics == nil, req.RequireStable)
		fillFetch(resp, req, got, code)
		return resp
	}
	resp.Groups = make([]kmsg.OffsetFetchResponseGroup, len(req.Groups))
	var wg sync.WaitGroup
	for i := range req.Groups {
		one := func() {
			g := &req.Groups[i]
			topics := c.resolveFetchGroup(ctx, caller.Tenant, req.Version, g)
			got, code := c.fetchGroup(ctx, caller, g.Group, g.MemberID, g.MemberEpoch, topics, g.Topics == nil, req.RequireStable)
			resp.Groups[i] = fetchGroupResponse(g, req.Version, got, code)
		}
		if len(req.Groups) == 1 {
			one()
			break
		}
		// What waits is the log of each group's shard: wait for all of them together.
		wg.Go(one)
	}
	wg.Wait()
	return resp
}

func (c *Coordinator) resolveFetch(ctx context.Context, tenant string, req *kmsg.OffsetFetchRequest) []fetchTopic {
	topics := make([]fetchTopic, len(req.Topics))
	for i := range req.Topics {
		t, _ := c.lookUp(ctx, tenant, req.Topics[i].Topic, [16]byte{}, false)
		topics[i] = fetchTopic{req.Topics[i].Topic, t.ID, req.Topics[i].Partitions}
	}
	return topics
}

func (c *Coordinator) resolveFetchGroup(ctx context.Context, tenant string, version int16, g *kmsg.OffsetFetchRequestGroup) []fetchTopic {
	topics := make([]fetchTopic, len(g.Topics))
	for i := range g.Topics {
		rt := &g.Topics[i]
		t, ok := c.lookUp(ctx, tenant, rt.Topic, rt.TopicID, version >= 10)
		topics[i] = fetchTopic{rt.Topic, t.ID, rt.Partitions}
		if version >= 10 {
			topics[i] = fetchTopic{t.Name, rt.TopicID, rt.Partitions}
			if !ok {
				topics[i].name = ""
			}
		}
	}
	return topics
}

// fetchGroup asks the group's shard. topics is not looked at if all are wanted.
func (c *Coordinator) fetchGroup(ctx context.Context, caller Caller, name string, memberID *string, memberEpoch int32, topics []fetchTopic, all, stable bool) ([]fetchedTopic, wire.Code) {
	type result struct {
		topics []fetchedTopic
		code   wire.Code
	}
	r := await(ctx, func(done func(result)) {
		code := c.within(caller.Tenant, name, func(m *machine) {
			key := groupKey{caller.Tenant, name}
			if code := m.groups[key].checkConsumerFetch(memberID, memberEpoch); code != wire.None {
				m.reply(func() { done(result{nil, code}) })
				return
			}
			got := m.fetch(key, topics, all)
			if stable {
				m.noteUnstable(key, got)
			}
			m.durably(func() { done(result{got, wire.None}) }, func(code wire.Code) { done(result{nil, code}) })
		})
		if code != wire.None {
			done(result{nil, code})
		}
	}, func() result { return result{nil, wire.RequestTimedOut} })
	return r.topics, r.code
}

// fetch reads committed offsets; a partition without one gets -1. A group that
// is not there has none.
func (m *machine) fetch(key groupKey, topics []fetchTopic, all bool) []fetchedTopic {
	g := m.groups[key]
	if all {
		if g == nil {
			return nil
		}
		got := make([]fetchedTopic, 0, len(g.offsets))
		for name, store := range g.offsets {
			t := fetchedTopic{name: name, id: store.id, partitions: make([]fetchedOffset, 0, len(store.partitions))}
			for p, o := range store.partitions {
				t.partitions = append(t.partitions, fetchedOffset{p, o.offset, o.leaderEpoch, o.metadata})
			}
			got = append(got, t)
		}
		return got
	}
	got := make([]fetchedTopic, len(topics))
	for i, t := range topics {
		got[i] = fetchedTopic{name: t.name, id: t.id, partitions: make([]fetchedOffset, len(t.partitions))}
		if t.name == "" {
			got[i].code = wire.UnknownTopicID
		}
		var store *topicStore
		if g != nil {
			store = g.offsets[t.name]
		}
		if store != nil && !store.id.IsZero() && !t.id.IsZero() && store.id != t.id {
			// Committed for an earlier topic of this name.
			store = nil
		}
		for j, p := range t.partitions {
			got[i].partitions[j] = fetchedOffset{p, -1, -1, ""}
			if store != nil && got[i].code == wire.None {
				if o := store.partitions[p]; o != nil {
					got[i].partitions[j] = fetchedOffset{p, o.offset, o.leaderEpoch, o.metadata}
				}
			}
		}
	}
	return got
}

func fillFetch(resp *kmsg.OffsetFetchResponse, req *kmsg.OffsetFetchRequest, got []fetchedTopic, code wire.Code) {
	resp.ErrorCode = int16(code)
	if code != wire.None {
		if req.Version >= 2 {
			return
		}
		// Version 1 has no code but those of partitions.
		got = make([]fetchedTopic, len(req.Topics))
		for i := range got {
			got[i].name = req.Topics[i].Topic
			for _, p := range req.Topics[i].Partitions {
				got[i].partitions = append(got[i].partitions, fetchedOffset{p, -1, -1, ""})
			}
		}
	}
	resp.Topics = make([]kmsg.OffsetFetchResponseTopic, len(got))
	for i := range got {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = got[i].name
		t.Partitions = make([]kmsg.OffsetFetchResponseTopicPartition, len(got[i].partitions))
		for j, o := range got[i].partitions {
			p := kmsg.NewOffsetFetchResponseTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = o.partition, o.offset, o.leaderEpoch, kmsg.StringPtr(o.metadata)
			p.ErrorCode = int16(code)
			if got[i].unstable[o.partition] {
				p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = -1, -1, kmsg.StringPtr(""), int16(wire.UnstableOffsetCommit)
			}
			t.Partitions[j] = p
		}
		resp.Topics[i] = t
	}
}

func fetchGroupResponse(g *kmsg.OffsetFetchRequestGroup, version int16, got []fetchedTopic, code wire.Code) kmsg.OffsetFetchResponseGroup {
	rg := kmsg.NewOffsetFetchResponseGroup()
	rg.Group = g.Group
	rg.ErrorCode = int16(code)
	if code != wire.None {
		return rg
	}
	rg.Topics = make([]kmsg.OffsetFetchResponseGroupTopic, 0, len(got))
	for i := range got {
		if version >= 10 && got[i].id.IsZero() {
			// Nothing that this version could call it by.
			continue
		}
		t := kmsg.NewOffsetFetchResponseGroupTopic()
		t.Topic, t.TopicID = got[i].name, got[i].id
		t.Partitions = make([]kmsg.OffsetFetchResponseGroupTopicPartition, len(got[i].partitions))
		for j, o := range got[i].partitions {
			p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = o.partition, o.offset, o.leaderEpoch, kmsg.StringPtr(o.metadata)
			p.ErrorCode = int16(got[i].code)
			if got[i].unstable[o.partition] {
				p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = -1, -1, kmsg.StringPtr(""), int16(wire.UnstableOffsetCommit)
			}
			t.Partitions[j] = p
		}
		rg.Topics = append(rg.Topics, t)
	}
	return rg
}

package coordinator

import (
	"context"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// OffsetCommit, versions 2 to 10 (topic ids), as Apache Kafka 4.3.

// commitRequest is an OffsetCommit whose topics were looked up.
type commitRequest struct {
	key        groupKey
	version    int16
	generation int32
	memberID   string
	instance   *string
	retention  int64 // ms; -1: the coordinator's
	topics     []topicOffsets
}

// OffsetCommit answers once the offsets are in the log. Topics are looked up by
// name, from version 10 on by id; what is not there gets
// UNKNOWN_TOPIC_OR_PARTITION or UNKNOWN_TOPIC_ID. The group "" may commit, as in Kafka.
func (c *Coordinator) OffsetCommit(ctx context.Context, caller Caller, req *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitResponse {
	if len(req.Group) > maxName {
		return commitResponse(req, wire.InvalidGroupID)
	}
	resp := commitResponse(req, wire.None)
	r := &commitRequest{
		key:        groupKey{caller.Tenant, req.Group},
		version:    req.Version,
		generation: req.Generation,
		memberID:   req.MemberID,
		instance:   req.InstanceID,
		retention:  -1,
	}
	if req.Version <= 4 && req.RetentionTimeMillis >= 0 {
		r.retention = req.RetentionTimeMillis
	}
	c.resolveCommit(ctx, caller.Tenant, req, resp, r)
	code := await(ctx, func(done func(wire.Code)) {
		if code := c.within(caller.Tenant, req.Group, func(m *machine) { m.commit(r, done) }); code != wire.None {
			done(code)
		}
	}, func() wire.Code { return wire.RequestTimedOut })
	if code == wire.CoordinatorLoadInProgress && req.Version < 4 {
		// Old consumers take this for "try again", and the other for fatal.
		code = wire.NotCoordinator
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			switch wire.Code(p.ErrorCode) {
			case wire.UnknownTopicID, wire.UnknownTopicOrPartition:
				// Found before the group was asked.
			default:
				if code != wire.None {
					p.ErrorCode = int16(code)
				}
			}
		}
	}
	return resp
}

// resolveCommit checks each partition. What is fine goes into r; the others get
// their code in resp.
func (c *Coordinator) resolveCommit(ctx context.Context, tenant string, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, r *commitRequest) {
	for i := range req.Topics {
		rt := &req.Topics[i]
		topic, ok := c.lookUp(ctx, tenant, rt.Topic, rt.TopicID, req.Version >= 10)
		t := topicOffsets{name: topic.Name, id: topic.ID, partitions: make([]partitionOffset, 0, len(rt.Partitions))}
		for j := range rt.Partitions {
			p := &rt.Partitions[j]
			code := wire.None
			switch {
			case !ok && req.Version >= 10:
				code = wire.UnknownTopicID
			case !ok, p.Partition < 0, p.Partition >= topic.Partitions:
				code = wire.UnknownTopicOrPartition
			case p.Metadata != nil && utf16Len(*p.Metadata) > c.config.OffsetMetadataMax:
				code = wire.OffsetMetadataTooLarge
			}
			resp.Topics[i].Partitions[j].ErrorCode = int16(code)
			if code != wire.None {
				continue
			}
			o := partitionOffset{partition: p.Partition, offset: p.Offset, leaderEpoch: p.LeaderEpoch}
			if req.Version < 6 {
				o.leaderEpoch = -1
			}
			if p.Metadata != nil {
				o.metadata = *p.Metadata
			}
			t.partitions = append(t.partitions, o)
		}
		if len(t.partitions) > 0 {
			r.topics = append(r.topics, t)
		}
	}
}

// utf16Len is the length as Java counts it, which is what the limit is about.
func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

func commitResponse(req *kmsg.OffsetCommitRequest, code wire.Code) *kmsg.OffsetCommitResponse {
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Version = req.Version
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, len(req.Topics))
	for i := range req.Topics {
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic, t.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		t.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(req.Topics[i].Partitions))
		for j := range t.Partitions {
			t.Partitions[j].Partition = req.Topics[i].Partitions[j].Partition
			t.Partitions[j].ErrorCode = int16(code)
		}
		resp.Topics[i] = t
	}
	return resp
}

func (m *machine) commit(r *commitRequest, done func(wire.Code)) {
	code := m.checkCommit(r)
	if code == wire.None && !m.mayHold(r.key.tenant, m.groups[r.key].offsetsGrowth(r)) {
		code = wire.PolicyViolation
	}
	if code != wire.None {
		m.reply(func() { done(code) })
		return
	}
	if len(r.topics) > 0 {
		expires := int64(-1)
		if r.retention >= 0 {
			expires = m.now + r.retention
		}
		rec := &offsetsRecord{key: r.key, committed: m.now, expires: expires, topics: r.topics}
		for _, part := range rec.split(maxOffsetsPerRecord) {
			m.emit(part.encode())
			m.applyOffsets(part)
		}
	}
	m.durably(func() { done(wire.None) }, done)
}

func (m *machine) checkCommit(r *commitRequest) wire.Code {
	g := m.groups[r.key]
	if g == nil {
		switch {
		case r.generation < 0:
			// Offsets without members: a simple group, made by the commit.
			return m.mayGrow(r.key)
		case r.version >= 9:
			return wire.GroupIDNotFound
		}
		return wire.IllegalGeneration
	}
	if g.consumer != nil {
		return g.checkConsumerCommit(r)
	}
	if r.generation < 0 && g.state == stateEmpty {
		return wire.None
	}
	switch {
	case r.generation >= 0 || r.memberID != "" || r.instance != nil:
		if code := g.check(r.memberID, r.instance); code != wire.None {
			return code
		}
		if r.generation != g.generation {
			return wire.IllegalGeneration
		}
	case g.state != stateEmpty:
		return wire.UnknownMemberID
	}
	switch g.state {
	case stateCompleting:
		// The member knows the generation, but not yet what it was assigned.
		return wire.RebalanceInProgress
	case stateStable, statePreparing:
		// Members commit while they are at work: that they live is plain.
		if mb := g.members[r.memberID]; mb != nil {
			m.alive(mb, int64(mb.sessionTimeout))
		}
	}
	return wire.None
}

// checkConsumerCommit holds a commit against what the member has. One that comes with an
// older epoch is taken for partitions that the member has had since then (KIP-1251).
func (g *group) checkConsumerCommit(r *commitRequest) wire.Code {
	if r.generation < 0 && len(g.consumer.members) == 0 {
		return wire.None
	}
	mb := g.consumer.members[r.memberID]
	if mb == nil {
		return wire.UnknownMemberID
	}
	stale := wire.StaleMemberEpoch
	switch {
	case mb.classic != nil:
		stale = wire.IllegalGeneration
	case r.version < 9:
		return wire.UnsupportedVersion
	}
	switch {
	case r.generation == mb.epoch:
		return wire.None
	case r.generation > mb.epoch:
		return stale
	}
	for i := range r.topics {
		for j := range r.topics[i].partitions {
			p := r.topics[i].partitions[j].partition
			since, ok := mb.assigned.find(r.topics[i].id, p)
			if !ok {
				since, ok = mb.revoking.find(r.topics[i].id, p)
			}
			if !ok || r.generation < since {
				return stale
			}
		}
	}
	return wire.None
}

// checkConsumerFetch holds an OffsetFetch against the member that asks, if one does.
func (g *group) checkConsumerFetch(memberID *string, epoch int32) wire.Code {
	if g == nil || g.consumer == nil || memberID == nil && epoch < 0 {
		return wire.None
	}
	var mb *consumerMember
	if memberID != nil {
		mb = g.consumer.members[*memberID]
	}
	switch {
	case mb == nil:
		return wire.UnknownMemberID
	case mb.epoch == epoch:
		return wire.None
	case mb.classic != nil:
		return wire.IllegalGeneration
	}
	return wire.StaleMemberEpoch
}

// maxOffsetsPerRecord and maxOffsetsBytes keep records of large commits small.
const (
	maxOffsetsPerRecord = 4096
	maxOffsetsBytes     = 256 << 10
)

// split cuts a record into several of at most n offsets each, and of about
// maxOffsetsBytes.
func (r *offsetsRecord) split(n int) []*offsetsRecord {
	total, size := 0, 0
	for i := range r.topics {
		total += len(r.topics[i].partitions)
		for j := range r.topics[i].partitions {
			size += r.topics[i].partitions[j].size()
		}
	}
	if total <= n && size <= maxOffsetsBytes {
		return []*offsetsRecord{r}
	}
	var parts []*offsetsRecord
	part, count, size := &offsetsRecord{key: r.key, committed: r.committed, expires: r.expires}, 0, 0
	for _, t := range r.topics {
		for len(t.partitions) > 0 {
			if count == n || size > maxOffsetsBytes {
				parts = append(parts, part)
				part, count, size = &offsetsRecord{key: r.key, committed: r.committed, expires: r.expires}, 0, 0
			}
			k := 0
			for k < len(t.partitions) && count < n && size <= maxOffsetsBytes {
				size += t.partitions[k].size()
				count++
				k++
			}
			part.topics = append(part.topics, topicOffsets{t.name, t.id, t.partitions[:k]})
			t.partitions = t.partitions[k:]
		}
	}
	return append(parts, part)
}

// size is what the offset takes in a record, at most.
func (p *partitionOffset) size() int { return 24 + len(p.metadata) }

// lookUp finds a topic by name or id. One that is not there is looked up once
// more after the directory has caught up, so that a topic made through another
// gateway a moment ago is found.
func (c *Coordinator) lookUp(ctx context.Context, tenant, name string, id [16]byte, byID bool) (catalog.Topic, bool) {
	find := func() (catalog.Topic, bool) {
		if byID {
			t, ok := c.directory.TopicByID(id)
			return t, ok && t.Tenant == tenant
		}
		return c.directory.TopicByName(tenant, name)
	}
	t, ok := find()
	if !ok && c.refresh(ctx) {
		t, ok = find()
	}
	return t, ok && !t.Deleting
}

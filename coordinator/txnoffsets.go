package coordinator

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// TxnOffsetCommit, versions 0 to 5, as Apache Kafka 4.3. The offsets are kept
// beside the group's own until the transaction ends; OffsetFetch with
// require_stable refuses partitions that have some.

// pendingOffsets are what a group gets when a producer's transaction commits.
type pendingOffsets struct {
	began  int64 // tells the transaction from the producer's others, which came before; 0: nobody said
	topics map[string]*pendingTopic
	weight int64
}

type pendingTopic struct {
	id         catalog.ID
	partitions map[int32]partitionOffset
	weight     int64
}

// TxnOffsetCommit takes offsets of a group into a transaction.
func (c *Coordinator) TxnOffsetCommit(ctx context.Context, caller Caller, req *kmsg.TxnOffsetCommitRequest) *kmsg.TxnOffsetCommitResponse {
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	resp.Version = req.Version
	code := wire.None
	switch {
	case req.Group == "" || len(req.Group) > maxName:
		code = wire.InvalidGroupID
	case req.TransactionalID == "" || len(req.TransactionalID) > maxName:
		code = wire.InvalidRequest
	}
	// A member of the consumer protocol gives its epoch as the generation.
	r := &commitRequest{key: groupKey{caller.Tenant, req.Group}, version: 9, generation: -1, retention: -1}
	if req.Version >= 3 {
		r.generation, r.memberID, r.instance = req.Generation, req.MemberID, req.InstanceID
	}
	resp.Topics = make([]kmsg.TxnOffsetCommitResponseTopic, len(req.Topics))
	refused := map[[2]int]bool{}
	for i := range req.Topics {
		rt := &req.Topics[i]
		topic, ok := c.lookUp(ctx, caller.Tenant, rt.Topic, [16]byte{}, false)
		out := topicOffsets{name: rt.Topic, id: topic.ID}
		t := kmsg.NewTxnOffsetCommitResponseTopic()
		t.Topic = rt.Topic
		for j := range rt.Partitions {
			p := &rt.Partitions[j]
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			switch {
			case !ok, p.Partition < 0, p.Partition >= topic.Partitions:
				rp.ErrorCode = int16(wire.UnknownTopicOrPartition)
			case p.Metadata != nil && utf16Len(*p.Metadata) > c.config.OffsetMetadataMax:
				rp.ErrorCode = int16(wire.OffsetMetadataTooLarge)
			default:
				o := partitionOffset{partition: p.Partition, offset: p.Offset, leaderEpoch: -1}
				if req.Version >= 2 {
					o.leaderEpoch = p.LeaderEpoch
				}
				if p.Metadata != nil {
					o.metadata = *p.Metadata
				}
				out.partitions = append(out.partitions, o)
			}
			refused[[2]int{i, j}] = rp.ErrorCode != 0
			t.Partitions = append(t.Partitions, rp)
		}
		resp.Topics[i] = t
		if len(out.partitions) > 0 {
			r.topics = append(r.topics, out)
		}
	}
	if code == wire.None {
		code = c.commitInTxn(ctx, r, req)
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if !refused[[2]int{i, j}] {
				resp.Topics[i].Partitions[j].ErrorCode = int16(code)
			}
		}
	}
	return resp
}

func (c *Coordinator) commitInTxn(ctx context.Context, r *commitRequest, req *kmsg.TxnOffsetCommitRequest) wire.Code {
	// This group's shard must be here before anybody else is asked.
	k := comingKey{r.key, req.ProducerID}
	var ticket *coming
	if code := c.within(r.key.tenant, r.key.group, func(m *machine) { ticket = m.expectOffsets(k) }); code != wire.None {
		return code
	}
	// Where the shard is lost the machine goes, and its tickets with it.
	defer c.within(r.key.tenant, r.key.group, func(m *machine) { m.forgetComing(k, ticket) })
	// The transaction must hold the group: from version 5 on it is taken in by this.
	began, code := c.peerAdd(ctx, &addRequest{key: groupKey{r.key.tenant, req.TransactionalID}, producer: req.ProducerID, epoch: req.ProducerEpoch,
		groups: []string{r.key.group}, verify: req.Version < 5})
	switch code {
	case wire.None:
	case wire.ProducerFenced:
		return wire.InvalidProducerEpoch
	case wire.NotCoordinator, wire.CoordinatorLoadInProgress, wire.CoordinatorNotAvailable, wire.RequestTimedOut:
		// Of the other coordinator: the client is to try this one again.
		return wire.CoordinatorLoadInProgress
	default:
		return code
	}
	_, code = ask(ctx, c, r.key, func(m *machine) (struct{}, wire.Code) {
		if !m.isComing(k, ticket) {
			return struct{}{}, wire.CoordinatorLoadInProgress
		}
		return struct{}{}, m.commitPending(r, req.ProducerID, began)
	})
	return code
}

// coming is a TxnOffsetCommit between the question whether its transaction is open and the record of its offsets. The transaction may
// be ended meanwhile, by another instance of the client, and this group told so before the record is there: nobody
// would ever end those offsets, and the producer's next commit would take them along. So whoever ends
// offsets of the producer voids the tickets, and the client asks again.
type coming struct{ _ byte } // each has an address of its own

type comingKey struct {
	group    groupKey
	producer int64
}

func (m *machine) expectOffsets(k comingKey) *coming {
	ticket := new(coming)
	if m.coming == nil {
		m.coming = map[comingKey]map[*coming]bool{}
	}
	if m.coming[k] == nil {
		m.coming[k] = map[*coming]bool{}
	}
	m.coming[k][ticket] = true
	return ticket
}

func (m *machine) isComing(k comingKey, ticket *coming) bool { return m.coming[k][ticket] }

func (m *machine) forgetComing(k comingKey, ticket *coming) {
	delete(m.coming[k], ticket)
	if len(m.coming[k]) == 0 {
		delete(m.coming, k)
	}
}

// commitPending keeps offsets until the producer's transaction ends.
func (m *machine) commitPending(r *commitRequest, producer, began int64) wire.Code {
	if r.generation >= 0 || r.memberID != "" || r.instance != nil {
		code := m.checkCommit(r)
		switch code {
		case wire.RebalanceInProgress, wire.GroupIDNotFound, wire.StaleMemberEpoch:
			// Codes that this request's clients do not know.
			code = wire.IllegalGeneration
		}
		if code != wire.None {
			return code
		}
	}
	if len(r.topics) == 0 {
		return wire.None
	}
	if g := m.groups[r.key]; began != 0 && g != nil && g.txns[producer] != nil && g.txns[producer].began > began {
		return wire.CoordinatorLoadInProgress // a later transaction's are here
	}
	if m.groups[r.key] == nil {
		if code := m.mayGrow(r.key); code != wire.None {
			return code
		}
	}
	if !m.mayHold(r.key.tenant, m.groups[r.key].pendingGrowth(r)) {
		return wire.PolicyViolation
	}
	all := &offsetsRecord{key: r.key, committed: m.now, expires: -1, topics: r.topics}
	for _, part := range all.split(maxOffsetsPerRecord) {
		p := &txnOffsets{producer, began, part}
		m.emit(p.encode())
		m.applyTxnOffsets(p)
	}
	return wire.None
}

func (m *machine) applyTxnOffsets(r *txnOffsets) {
	g := m.groups[r.offsets.key]
	if g == nil {
		g = m.newGroup(r.offsets.key)
	}
	if g.txns == nil {
		g.txns = map[int64]*pendingOffsets{}
	}
	p := g.txns[r.producer]
	switch {
	case p == nil || p.began != r.began && p.began != 0 && r.began != 0:
		// Those of another transaction would be what an earlier one left behind.
		if p != nil {
			g.load.add(-p.weight)
		}
		p = &pendingOffsets{began: r.began, topics: map[string]*pendingTopic{}}
		g.txns[r.producer] = p
	case p.began == 0:
		// An earlier release, or a gateway of one, did not say: they count as this transaction's.
		p.began = r.began
	}
	before := p.weight
	for _, t := range r.offsets.topics {
		pt := p.topics[t.name]
		if pt == nil || pt.id != t.id {
			if pt != nil {
				p.weight -= pt.weight
			}
			pt = &pendingTopic{id: t.id, partitions: map[int32]partitionOffset{}, weight: weightOfTopic(t.name)}
			p.weight += pt.weight
			p.topics[t.name] = pt
		}
		for _, o := range t.partitions {
			more := o.weight()
			if was, ok := pt.partitions[o.partition]; ok {
				more -= was.weight()
			}
			pt.partitions[o.partition] = o
			pt.weight += more
			p.weight += more
		}
	}
	g.load.add(p.weight - before)
}

// record of all that is pending, as of ms.
func (p *pendingOffsets) record(key groupKey, at int64) *offsetsRecord {
	r := &offsetsRecord{key: key, committed: at, expires: -1}
	names := make([]string, 0, len(p.topics))
	for name := range p.topics {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t := topicOffsets{name: name, id: p.topics[name].id}
		for _, o := range p.topics[name].partitions {
			t.partitions = append(t.partitions, o)
		}
		slices.SortFunc(t.partitions, func(a, b partitionOffset) int { return int(a.partition) - int(b.partition) })
		r.topics = append(r.topics, t)
	}
	return r
}

// settleOffsets ends the pending offsets of a producer's transaction. Doing it again does nothing, also when it
// comes late: those of a later transaction stay, and what an earlier one left is dropped.
func (m *machine) settleOffsets(key groupKey, producer, began int64, commit bool) wire.Code {
	delete(m.coming, comingKey{key, producer})
	g := m.groups[key]
	if g == nil || g.txns[producer] == nil {
		return wire.None
	}
	if is := g.txns[producer].began; began != 0 && is != 0 {
		if is > began {
			return wire.None
		}
		commit = commit && is == began
	}
	r := txnSettled{key: key, producer: producer, committed: commit, at: m.now}
	m.emit(r.encode())
	m.applySettled(r)
	return wire.None
}

func (m *machine) applySettled(r txnSettled) {
	g := m.groups[r.key]
	if g == nil || g.txns[r.producer] == nil {
		return
	}
	p := g.txns[r.producer]
	delete(g.txns, r.producer)
	g.load.add(-p.weight)
	if r.committed {
		m.applyOffsets(p.record(r.key, r.at))
	}
}

// unstable tells whether an open transaction may change a partition's offset.
func (g *group) unstable(topic string, partition int32) bool {
	for _, p := range g.txns {
		if t := p.topics[topic]; t != nil {
			if _, ok := t.partitions[partition]; ok {
				return true
			}
		}
	}
	return false
}

// snapshotPending writes again what is pending in a group.
func (m *machine) snapshotPending(g *group) {
	for producer, p := range g.txns {
		for _, part := range p.record(g.key, m.now).split(maxOffsetsPerRecord) {
			m.emit((&txnOffsets{producer, p.began, part}).encode())
		}
	}
}

var errSettle = errors.New("the group's coordinator did not settle its offsets")

// settleGroup ends the pending offsets of a group, wherever its shard is.
func (c *Coordinator) settleGroup(ctx context.Context, key groupKey, producer, began int64, commit bool) error {
	if code := c.peerSettle(ctx, key, producer, began, commit); code != wire.None {
		return errors.Join(errSettle, code)
	}
	return nil
}

// settleLocal does it at the owner of the group's shard.
func (c *Coordinator) settleLocal(ctx context.Context, key groupKey, producer, began int64, commit bool) wire.Code {
	_, code := ask(ctx, c, key, func(m *machine) (struct{}, wire.Code) {
		return struct{}{}, m.settleOffsets(key, producer, began, commit)
	})
	return code
}

// noteUnstable marks the partitions of an OffsetFetch whose offsets an open
// transaction may change.
func (m *machine) noteUnstable(key groupKey, got []fetchedTopic) {
	g := m.groups[key]
	if g == nil || len(g.txns) == 0 {
		return
	}
	for i := range got {
		for _, o := range got[i].partitions {
			if g.unstable(got[i].name, o.partition) {
				if got[i].unstable == nil {
					got[i].unstable = map[int32]bool{}
				}
				got[i].unstable[o.partition] = true
			}
		}
	}
}

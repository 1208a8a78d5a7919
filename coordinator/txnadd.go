package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// AddPartitionsToTxn, versions 0 to 5, and AddOffsetsToTxn, versions 0 to 4, as
// Apache Kafka 4.3. What they add is only a name; where its records go is told
// by the gateway that appends them (Enlist).
//
// Differences: versions 4 and 5 of AddPartitionsToTxn, which are for brokers, are
// served to anybody.

// addRequest adds to a transaction.
type addRequest struct {
	key      groupKey
	producer int64
	epoch    int16
	parts    []partKey
	groups   []string
	verify   bool // change nothing, tell whether they are in it
}

// AddPartitionsToTxn adds partitions to the transactions of producers.
func (c *Coordinator) AddPartitionsToTxn(ctx context.Context, caller Caller, req *kmsg.AddPartitionsToTxnRequest) *kmsg.AddPartitionsToTxnResponse {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	resp.Version = req.Version
	if req.Version < 4 {
		topics := make([]kmsg.AddPartitionsToTxnRequestTransactionTopic, len(req.Topics))
		for i := range req.Topics {
			topics[i].Topic, topics[i].Partitions = req.Topics[i].Topic, req.Topics[i].Partitions
		}
		codes := c.addPartitions(ctx, caller, req.TransactionalID, req.ProducerID, req.ProducerEpoch, topics, false, req.Version)
		for i := range topics {
			t := kmsg.NewAddPartitionsToTxnResponseTopic()
			t.Topic = topics[i].Topic
			for j, p := range topics[i].Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, int16(codes[i][j])
				t.Partitions = append(t.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp
	}
	for i := range req.Transactions {
		rt := &req.Transactions[i]
		codes := c.addPartitions(ctx, caller, rt.TransactionalID, rt.ProducerID, rt.ProducerEpoch, rt.Topics, rt.VerifyOnly, req.Version)
		out := kmsg.NewAddPartitionsToTxnResponseTransaction()
		out.TransactionalID = rt.TransactionalID
		for j := range rt.Topics {
			t := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
			t.Topic = rt.Topics[j].Topic
			for k, p := range rt.Topics[j].Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
				rp.Partition, rp.ErrorCode = p, int16(codes[j][k])
				t.Partitions = append(t.Partitions, rp)
			}
			out.Topics = append(out.Topics, t)
		}
		resp.Transactions = append(resp.Transactions, out)
	}
	return resp
}

// addPartitions returns a code for each partition of each topic. If one of them
// is not there, none is added.
func (c *Coordinator) addPartitions(ctx context.Context, caller Caller, id string, producer int64, epoch int16,
	topics []kmsg.AddPartitionsToTxnRequestTransactionTopic, verify bool, version int16) [][]wire.Code {
	codes := make([][]wire.Code, len(topics))
	r := &addRequest{key: groupKey{caller.Tenant, id}, producer: producer, epoch: epoch, verify: verify}
	unknown := false
	for i := range topics {
		codes[i] = make([]wire.Code, len(topics[i].Partitions))
		topic, ok := c.lookUp(ctx, caller.Tenant, topics[i].Topic, [16]byte{}, false)
		for j, p := range topics[i].Partitions {
			if !ok || p < 0 || p >= topic.Partitions {
				codes[i][j], unknown = wire.UnknownTopicOrPartition, true
				continue
			}
			r.parts = append(r.parts, partKey{topic.ID, p})
		}
	}
	code := wire.OperationNotAttempted
	if !unknown {
		if _, code = c.add(ctx, r); code == wire.ProducerFenced && version < 2 {
			code = wire.InvalidProducerEpoch
		}
	}
	for i := range codes {
		for j := range codes[i] {
			if codes[i][j] == wire.None {
				codes[i][j] = code
			}
		}
	}
	return codes
}

// AddOffsetsToTxn adds a group, whose offsets come by TxnOffsetCommit, to a transaction.
func (c *Coordinator) AddOffsetsToTxn(ctx context.Context, caller Caller, req *kmsg.AddOffsetsToTxnRequest) *kmsg.AddOffsetsToTxnResponse {
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	resp.Version = req.Version
	code := wire.InvalidGroupID
	if req.Group != "" && len(req.Group) <= maxName {
		_, code = c.add(ctx, &addRequest{key: groupKey{caller.Tenant, req.TransactionalID}, producer: req.ProducerID, epoch: req.ProducerEpoch, groups: []string{req.Group}})
	}
	if code == wire.ProducerFenced && req.Version < 2 {
		code = wire.InvalidProducerEpoch
	}
	resp.ErrorCode = int16(code)
	return resp
}

// add tells when the transaction began too.
func (c *Coordinator) add(ctx context.Context, r *addRequest) (began int64, code wire.Code) {
	if r.key.group == "" || len(r.key.group) > maxName {
		return 0, wire.InvalidRequest
	}
	return ask(ctx, c, r.key, func(m *machine) (int64, wire.Code) {
		if code := m.addToTxn(r); code != wire.None {
			return 0, code
		}
		return m.txns[r.key].started, wire.None
	})
}

// addToTxn adds what is not in the transaction yet, and begins one if there is none.
func (m *machine) addToTxn(r *addRequest) wire.Code {
	t, code := m.checkTxn(r.key, r.producer, r.epoch)
	switch {
	case code != wire.None:
		return code
	case t.state.decided():
		return wire.ConcurrentTransactions
	case r.verify:
		for _, k := range r.parts {
			if t.state != txnOngoing || t.parts[k] == nil {
				return wire.TransactionAbortable
			}
		}
		for _, g := range r.groups {
			if t.state != txnOngoing || !t.groups[g] {
				return wire.InvalidTxnState
			}
		}
		return wire.None
	}
	return m.grow(t, r.parts, r.groups)
}

func (m *machine) grow(t *transaction, parts []partKey, groups []string) wire.Code {
	ongoing := t.state == txnOngoing
	var freshParts []partKey
	var freshGroups []string
	for _, k := range parts {
		if !ongoing || t.parts[k] == nil {
			freshParts = append(freshParts, k)
		}
	}
	for _, g := range groups {
		if !ongoing || !t.groups[g] {
			freshGroups = append(freshGroups, g)
		}
	}
	if ongoing && len(freshParts)+len(freshGroups) == 0 {
		return wire.None
	}
	if ongoing && (len(t.parts)+len(freshParts) > maxTxnParts || len(t.groups)+len(freshGroups) > maxTxnGroups) {
		return wire.InvalidRequest
	}
	m.beginTxn(t)
	for _, k := range freshParts {
		t.parts[k] = &txnPart{}
	}
	for _, g := range freshGroups {
		t.groups[g] = true
	}
	m.emit(t.encodeAdded(freshParts, freshGroups, nil))
	if !ongoing {
		m.armTxn(t)
	}
	return wire.None
}

// Enlist is what a gateway tells before it appends to a partition in a transaction.
type Enlist struct {
	Tenant   string
	ID       string // transactional id
	Producer int64
	Epoch    int16
	// Implicit: the partition need not have been added (Produce from version 12 on).
	Implicit bool
	At       chain.Enlist
}

// enlistResult is what the machine says to an Enlist.
type enlistResult struct {
	granted bool
	out     chain.Enlisted
	began   bool  // no participant on the cluster yet: begin one in this slot
	slot    int32 // of it
	term    int64
	add     *participant // and the partition is to be added there
}

// EnlistLocal serves an Enlist at the transactional id's owner. The code is what
// Apache Kafka's verification says of the partition; NOT_COORDINATOR and the
// like mean that the owner is another.
func (c *Coordinator) EnlistLocal(ctx context.Context, e *Enlist) (chain.Enlisted, wire.Code) {
	key := groupKey{e.Tenant, e.ID}
	since, held := int64(0), false
	if c.participants == nil {
		return chain.Enlisted{}, wire.InvalidTxnState
	}
	since, held = c.participants.Held(&e.At)
	if !e.At.Foreign {
		// Nothing to do but to write it down: no turn is needed.
		res, code := ask(ctx, c, key, func(m *machine) (enlistResult, wire.Code) { return m.enlist(e, since, held, nil) })
		return res.out, code
	}
	unlock, code := c.locks.take(ctx, key)
	if code != wire.None {
		return chain.Enlisted{}, code
	}
	defer unlock()
	res, code := ask(ctx, c, key, func(m *machine) (enlistResult, wire.Code) { return m.enlist(e, since, held, nil) })
	if code != wire.None || res.granted {
		return res.out, code
	}
	if res.began {
		p := participant{cluster: e.At.Cluster, term: res.term, slot: res.slot}
		number, ok := c.number(key.tenant, key.group)
		if !ok {
			return chain.Enlisted{}, wire.CoordinatorNotAvailable
		}
		p.id = fmt.Sprintf("__braid-%s-%d-%d-%d", c.fleet, number, res.term, res.slot)
		var err error
		p.producer, p.epoch, err = c.participants.Begin(ctx, e.At.Cluster, p.id)
		if err != nil {
			c.logger.Warn("no transaction can be begun on a cluster", "cluster", e.At.Cluster, "err", err)
			ask(context.WithoutCancel(ctx), c, key, func(m *machine) (struct{}, wire.Code) {
				// What is stuck there is left alone for good.
				if m.term == res.term {
					m.dropSlot(p.cluster, p.slot, false)
				}
				return struct{}{}, wire.None
			})
			return chain.Enlisted{}, wire.CoordinatorNotAvailable
		}
		// It took a while: the topic may be held by now.
		since, held = c.participants.Held(&e.At)
		res, code = ask(ctx, c, key, func(m *machine) (enlistResult, wire.Code) {
			res, code := m.enlist(e, since, held, &p)
			if code != wire.None && m.term == p.term {
				m.dropSlot(p.cluster, p.slot, true)
			}
			return res, code
		})
		if code != wire.None || res.granted {
			return res.out, code
		}
	}
	t := span.Transaction{ID: res.add.id, Producer: res.add.producer, Epoch: res.add.epoch}
	err := c.participants.Add(ctx, e.At.Cluster, t, e.At.Physical.Name, []int32{e.At.Index})
	switch {
	case errors.Is(err, ErrParticipantEnded):
		return chain.Enlisted{}, wire.TransactionAbortable
	case err != nil:
		c.logger.Debug("a partition was not added on its cluster", "cluster", e.At.Cluster, "err", err)
		return chain.Enlisted{}, wire.CoordinatorNotAvailable
	}
	// From here on it need not be added again.
	res, code = ask(ctx, c, key, func(m *machine) (enlistResult, wire.Code) { return m.added(e, res) })
	return res.out, code
}

// enlist notes that records of a transaction go to a copy. begun is the
// participant that was begun for it.
func (m *machine) enlist(e *Enlist, since int64, held bool, begun *participant) (enlistResult, wire.Code) {
	key := groupKey{e.Tenant, e.ID}
	t, code := m.checkTxn(key, e.Producer, e.Epoch)
	k := partKey{e.At.Topic, e.At.Partition}
	switch {
	case code == wire.ProducerFenced:
		return enlistResult{}, wire.InvalidProducerEpoch
	case code != wire.None:
		return enlistResult{}, code
	case t.state.decided():
		return enlistResult{}, wire.ConcurrentTransactions
	case !e.Implicit && (t.state != txnOngoing || t.parts[k] == nil):
		return enlistResult{}, wire.InvalidTxnState
	}
	// From the seal on even those that began before the hold come too late: the seal has looked at who is there. The
	// cluster would refuse their markers, and their transactions there would never end.
	sealing := held && since == 0
	at := place{cluster: e.At.Cluster, topic: e.At.Physical.Name, id: e.At.Physical.ID, index: e.At.Index, foreign: e.At.Foreign, base: e.At.First, floor: e.At.Floor}
	var part *txnPart
	if t.state == txnOngoing {
		part = t.parts[k]
	}
	if part != nil {
		for i := range part.places {
			if part.places[i].id == at.id && part.places[i].index == at.index {
				return m.placed(t, &part.places[i], sealing)
			}
		}
	}
	if held && (t.state != txnOngoing || t.started >= since && !m.inTopic(t, &at)) {
		// Those that began before the hold may go on, so that they can end.
		return enlistResult{}, wire.ReassignmentInProgress
	}
	if at.foreign && begun == nil && (t.state != txnOngoing || t.participant(at.cluster) == nil) {
		if len(t.participants) >= maxTxnParticipants {
			return enlistResult{}, wire.InvalidTxnState
		}
		slot, ok := m.takeSlot(at.cluster)
		if !ok {
			return enlistResult{}, wire.ConcurrentTransactions
		}
		return enlistResult{began: true, slot: slot, term: m.term}, wire.None
	}
	if part != nil && len(part.places) >= maxTxnPlaces || part == nil && len(t.parts) >= maxTxnParts {
		return enlistResult{}, wire.InvalidTxnState
	}
	fresh := t.state != txnOngoing
	m.beginTxn(t)
	if part == nil {
		part = &txnPart{}
		t.parts[k] = part
	}
	part.places = append(part.places, at)
	var joined *participant
	if begun != nil {
		t.participants = append(t.participants, *begun)
		joined = begun
	}
	m.emit(t.encodeAdded([]partKey{k}, nil, joined))
	if fresh {
		m.armTxn(t)
	}
	return m.placed(t, &part.places[len(part.places)-1], sealing)
}

// inTopic tells whether the transaction is open in the physical topic already. It may go on there, for the
// seal waits for its end.
func (m *machine) inTopic(t *transaction, at *place) bool {
	if t.state != txnOngoing {
		return false
	}
	if at.foreign {
		p := t.participant(at.cluster)
		if p == nil {
			return false
		}
		for _, part := range t.parts {
			for i := range part.places {
				if b := &part.places[i]; b.id == at.id && m.there[thereKey{p.id, b.id, b.index}] == (thereAs{p.producer, p.epoch}) {
					return true
				}
			}
		}
		return false
	}
	for _, part := range t.parts {
		for i := range part.places {
			if part.places[i].id == at.id {
				return true
			}
		}
	}
	return false
}

// placed answers for a place that is written down. sealing: the topic is being sealed.
func (m *machine) placed(t *transaction, at *place, sealing bool) (enlistResult, wire.Code) {
	if !at.foreign {
		return enlistResult{granted: true}, wire.None
	}
	p := t.participant(at.cluster)
	if p == nil {
		return enlistResult{}, wire.InvalidTxnState
	}
	out := chain.Enlisted{ID: p.id, Producer: p.producer, Epoch: p.epoch, Base: at.base}
	if as, ok := m.there[thereKey{p.id, at.id, at.index}]; ok && as == (thereAs{p.producer, p.epoch}) {
		return enlistResult{granted: true, out: out}, wire.None
	}
	if sealing && !m.inTopic(t, at) {
		return enlistResult{}, wire.ReassignmentInProgress
	}
	copied := *p
	return enlistResult{out: out, add: &copied}, wire.None
}

// added notes that the partition is in the transaction on its cluster, so that
// it is not added for each batch. It is known to this owner only.
func (m *machine) added(e *Enlist, res enlistResult) (enlistResult, wire.Code) {
	t, code := m.checkTxn(groupKey{e.Tenant, e.ID}, e.Producer, e.Epoch)
	switch {
	case code == wire.ProducerFenced:
		return enlistResult{}, wire.InvalidProducerEpoch
	case code != wire.None:
		return enlistResult{}, code
	case t.state != txnOngoing:
		return enlistResult{}, wire.ConcurrentTransactions
	}
	if m.there == nil {
		m.there = map[thereKey]thereAs{}
	}
	m.there[thereKey{res.add.id, e.At.Physical.ID, e.At.Index}] = thereAs{res.add.producer, res.add.epoch}
	res.granted = true
	return res, wire.None
}

// thereKey and thereAs say which partitions are in the transactions on clusters.
type (
	thereKey struct {
		id    string
		topic catalog.ID
		index int32
	}
	thereAs struct {
		producer int64
		epoch    int16
	}
)

// forgetThere forgets the partitions of a transaction that is over.
func (m *machine) forgetThere(t *transaction) {
	for _, part := range t.parts {
		for i := range part.places {
			if at := &part.places[i]; at.foreign {
				if p := t.participant(at.cluster); p != nil {
					delete(m.there, thereKey{p.id, at.id, at.index})
				}
			}
		}
	}
}

// checkParticipants asks the clusters that run their own part whether it is open.
// ended tells that one is not.
func (c *Coordinator) checkParticipants(ctx context.Context, t *transaction) (ended bool, code wire.Code) {
	ctx, cancel := context.WithTimeout(ctx, participantPatience)
	defer cancel()
	for i := range t.participants {
		p := &t.participants[i]
		topic, index, ok := t.anyPlace(p.cluster)
		if !ok {
			continue
		}
		err := c.participants.Add(ctx, p.cluster, span.Transaction{ID: p.id, Producer: p.producer, Epoch: p.epoch}, topic, []int32{index})
		switch {
		case errors.Is(err, ErrParticipantEnded):
			c.logger.Warn("a cluster has ended its part of a transaction, which is aborted", "cluster", p.cluster, "transactional_id", t.key.group, "err", err)
			return true, wire.None
		case err != nil:
			c.logger.Info("a transaction cannot be committed while a cluster is away", "cluster", p.cluster, "err", err)
			return false, wire.CoordinatorNotAvailable
		}
	}
	return false, wire.None
}

// participantPatience bounds one round of questions to clusters.
const participantPatience = 5 * time.Second

// anyPlace is one partition of the transaction on a cluster.
func (t *transaction) anyPlace(cluster string) (topic string, index int32, ok bool) {
	for _, k := range t.sortedParts() {
		for i := range t.parts[k].places {
			if at := &t.parts[k].places[i]; at.foreign && at.cluster == cluster {
				return at.topic, at.index, true
			}
		}
	}
	return "", 0, false
}

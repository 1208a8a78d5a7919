package coordinator

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

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
	begin   bool // no participant on the cluster yet, and none is ready: begin one
	slot    int32
	term    int64
	shard   int32
	add     *participant // and the partition is to be added there
	asked   int64        // ms, when its cluster was asked to
}

// promises tells whether the result needs what the log does not have yet.
func (r enlistResult) promises() bool { return !r.begin }

// EnlistLocal serves an Enlist at the transactional id's owner. The code is what
// Apache Kafka's verification says of the partition; NOT_COORDINATOR and the
// like mean that the owner is another.
func (c *Coordinator) EnlistLocal(ctx context.Context, e *Enlist) (chain.Enlisted, wire.Code) {
	key := groupKey{e.Tenant, e.ID}
	if c.participants == nil {
		return chain.Enlisted{}, wire.InvalidTxnState
	}
	if !e.At.Foreign {
		// Nothing to do but to write it down: no turn is needed.
		since, held := c.participants.Held(&e.At)
		res, code := ask(ctx, c, key, func(m *machine) (enlistResult, wire.Code) { return m.enlist(e, since, held, nil) })
		return res.out, code
	}
	unlock, code := c.locks.takePart(ctx, key, lockPart{partition: partKey{e.At.Topic, e.At.Partition}}, false)
	if code != wire.None {
		return chain.Enlisted{}, code
	}
	defer unlock()
	// Waiting for the turn may have taken long: the topic may be held, or sealed, since.
	since, held := c.participants.Held(&e.At)
	res, code := askFor(ctx, c, key, func(m *machine) (enlistResult, wire.Code) {
		return m.enlist(e, since, held, nil)
	}, enlistResult.promises)
	if code == wire.None && res.begin {
		res, code = c.beginOn(ctx, e)
	}
	if code != wire.None || res.granted {
		return res.out, code
	}
	if res, code = c.addPlace(ctx, e, res); code != wire.None || res.granted {
		return res.out, code
	}
	// From here on it need not be added again. The place is in the log, and this is not.
	res, code = askFor(ctx, c, key, func(m *machine) (enlistResult, wire.Code) { return m.added(e, res) }, func(enlistResult) bool { return false })
	return res.out, code
}

// addWithin is how long after the question whether a topic is held a try to add a partition of it may begin. A seal waits a
// little longer than that (the controller's enlistedGrace) between its word to coordinators and its look at who is in
// the topic: what is added after that look may find its marker refused.
const addWithin = 100 * time.Millisecond

// addPlace has the place of res added to the transaction on its cluster, unless its topic is sealed by then.
func (c *Coordinator) addPlace(ctx context.Context, e *Enlist, res enlistResult) (enlistResult, wire.Code) {
	key := groupKey{e.Tenant, e.ID}
	t := span.Transaction{ID: res.add.id, Producer: res.add.producer, Epoch: res.add.epoch}
	for began := time.Now(); ; {
		asked := c.clock.Now().UnixMilli()
		until := time.Now().Add(addWithin)
		if since, held := c.participants.Held(&e.At); held {
			var code wire.Code
			res, code = ask(ctx, c, key, func(m *machine) (enlistResult, wire.Code) { return m.enlist(e, since, held, nil) })
			switch {
			case code != wire.None || res.granted:
				return res, code
			case res.add == nil || res.add.id != t.ID || res.add.producer != t.Producer || res.add.epoch != t.Epoch:
				return enlistResult{}, wire.ConcurrentTransactions // on with another one
			}
		}
		err := c.participants.Add(ctx, e.At.Cluster, t, e.At.Physical.Name, []int32{e.At.Index}, until)
		switch {
		case err == nil:
			res.asked = asked
			return res, wire.None
		case errors.Is(err, ErrParticipantEnded):
			return enlistResult{}, wire.TransactionAbortable
		case errors.Is(err, span.ErrTransactionLate) && ctx.Err() == nil && time.Since(began) < participantPatience:
			continue
		}
		c.logger.Debug("a partition was not added on its cluster", "cluster", e.At.Cluster, "err", err)
		return enlistResult{}, wire.CoordinatorNotAvailable
	}
}

// enlist notes that records of a transaction go to a copy. begun is the
// participant that was begun for it, if there is none yet.
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
	if part != nil && len(part.places) >= maxTxnPlaces || part == nil && t.state == txnOngoing && len(t.parts) >= maxTxnParts {
		return enlistResult{}, wire.InvalidTxnState
	}
	if !m.mayHold(e.Tenant, weightPart+at.weight()) {
		return enlistResult{}, wire.PolicyViolation
	}
	switch {
	case !at.foreign:
	case t.state == txnOngoing && t.participant(at.cluster) != nil:
		begun = nil
	case begun == nil:
		if t.state == txnOngoing && len(t.participants) >= maxTxnParticipants {
			return enlistResult{}, wire.InvalidTxnState
		}
		r, ok := m.takeReady(at.cluster)
		switch {
		case !ok && !m.hasSlot(at.cluster):
			return enlistResult{}, wire.ConcurrentTransactions
		case !ok:
			return enlistResult{begin: true}, wire.None
		}
		begun = &participant{cluster: at.cluster, id: slotID(m.fleet, m.shard, m.term, r.slot), term: m.term, slot: r.slot, producer: r.producer, epoch: r.epoch}
	}
	fresh := t.state != txnOngoing
	m.beginTxn(t)
	if part == nil {
		part = &txnPart{}
		t.part(k, part)
	}
	t.addPlace(part, at)
	var joined *participant
	if begun != nil {
		t.addParticipant(*begun)
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
				if b := &part.places[i]; b.id == at.id && m.isThere(p, b) {
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
	if m.isThere(p, at) {
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
	m.there[thereKey{res.add.id, e.At.Physical.ID, e.At.Index}] = thereAs{res.add.producer, res.add.epoch, res.asked}
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
		asked    int64 // ms, when the cluster was asked to add it
	}
)

// isThere tells whether a place is in a transaction on its cluster, as far as this owner knows.
func (m *machine) isThere(p *participant, at *place) bool {
	as, ok := m.there[thereKey{p.id, at.id, at.index}]
	return ok && as.producer == p.producer && as.epoch == p.epoch
}

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

// justAnswered is how long a cluster's word counts that a part is open, ms: it was said by adding a partition to it. Of
// short transactions no cluster is asked again before the commit. The part's own timeout is longer by far.
const justAnswered = 500

// partCheck is a participant that is asked whether its part is open.
type partCheck struct {
	participant
	there bool // a partition that is in the part for sure, so that it can be asked by it
	topic string
	index int32
	asked int64 // ms, when it last said that the part is open, or a moment before
}

// checks names the participants of a transaction that have not just said that their part is open. A place that is written down need not be in the part: where it was not added
// before its topic was sealed, adding it now would have the cluster refuse its marker for good.
func (m *machine) checks(t *transaction) []partCheck {
	out := make([]partCheck, len(t.participants))
	for i := range t.participants {
		out[i].participant = t.participants[i]
	}
	for _, k := range t.sortedParts() {
		for i := range t.parts[k].places {
			at := &t.parts[k].places[i]
			for j := range out {
				if c := &out[j]; at.foreign && at.cluster == c.cluster && m.isThere(&c.participant, at) {
					c.there, c.topic, c.index = true, at.topic, at.index
					c.asked = max(c.asked, m.there[thereKey{c.id, at.id, at.index}].asked)
				}
			}
		}
	}
	return slices.DeleteFunc(out, func(c partCheck) bool { return c.there && c.asked >= m.now-justAnswered })
}

// checkParticipants asks the clusters that run their own part whether it is open.
// ended tells that one is not.
func (c *Coordinator) checkParticipants(ctx context.Context, key groupKey, parts []partCheck) (ended bool, code wire.Code) {
	ctx, cancel := context.WithTimeout(ctx, participantPatience)
	defer cancel()
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() {
			p := &parts[i]
			x := span.Transaction{ID: p.id, Producer: p.producer, Epoch: p.epoch}
			if p.there {
				// The cluster waits for an end of the part that it has begun by itself, and so does this question.
				errs[i] = c.participants.Add(ctx, p.cluster, x, p.topic, []int32{p.index}, time.Time{})
			} else {
				errs[i] = c.participants.Open(ctx, p.cluster, x)
			}
		})
	}
	wg.Wait()
	code = wire.None
	for i, err := range errs {
		switch cluster := parts[i].cluster; {
		case errors.Is(err, ErrParticipantEnded):
			c.logger.Warn("a cluster has ended its part of a transaction, which is aborted", "cluster", cluster, "transactional_id", key.group, "err", err)
			ended = true
		case err != nil:
			c.logger.Info("a transaction cannot be committed while a cluster is away", "cluster", cluster, "err", err)
			code = wire.CoordinatorNotAvailable
		}
	}
	if ended {
		return true, wire.None // whatever the others say
	}
	return false, code
}

// participantPatience bounds one round of questions to clusters.
const participantPatience = 5 * time.Second

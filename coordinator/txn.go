package coordinator

import (
	"cmp"
	"math"
	"slices"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// A transactional id is a state machine of its own, in the shard of its name.
// What it decides is a record before anybody hears of it; what follows from a
// decision (markers, the ends of transactions on other clusters, offsets of
// groups) is done outside of the machine and may be done again at any time.
//
//	Empty ──▶ Ongoing ──▶ PrepareCommit ──▶ CompleteCommit ──▶ Ongoing …
//	             └──────▶ PrepareAbort  ──▶ CompleteAbort  ──▶ Ongoing …

// txnState of a transactional id; the values are in the log.
type txnState int8

const (
	txnEmpty txnState = iota
	txnOngoing
	txnPrepareCommit
	txnPrepareAbort
	txnCompleteCommit
	txnCompleteAbort
	txnStates // how many there are
)

// String is the name that clients are shown.
func (s txnState) String() string {
	switch s {
	case txnEmpty:
		return "Empty"
	case txnOngoing:
		return "Ongoing"
	case txnPrepareCommit:
		return "PrepareCommit"
	case txnPrepareAbort:
		return "PrepareAbort"
	case txnCompleteCommit:
		return "CompleteCommit"
	case txnCompleteAbort:
		return "CompleteAbort"
	}
	return "Dead"
}

// decided tells whether participants are to be told.
func (s txnState) decided() bool { return s == txnPrepareCommit || s == txnPrepareAbort }

// noID and noEpoch stand for a producer that is not there.
const (
	noID    = int64(-1)
	noEpoch = int16(-1)
)

// lastEpoch is the largest epoch that a client is given. The one after it is for
// the markers that fence it; then the next producer id begins.
const lastEpoch = int16(math.MaxInt16 - 1)

// transaction is one transactional id.
type transaction struct {
	key       groupKey // its group is the transactional id
	producer  int64
	epoch     int16
	lastEpoch int16 // that the client had before the last bump, -1
	before    int64 // producer id before a rotation, -1
	next      int64 // producer id that begins when the decision is carried out, -1: stays
	timeout   int32 // ms
	state     txnState
	bumped    bool  // the decision bumped the epoch (KIP-890): markers carry the new one
	started   int64 // ms, when the first part came; 0. Tells the id's transactions apart
	updated   int64 // ms

	parts        map[partKey]*txnPart
	groups       map[string]bool
	participants []participant

	left chain.LeftOut // of a redo, see txnredo.go

	formers []*former // transactions before, the oldest first, see txnwritten.go

	timer *timer
	load  load
	open  int64 // of load: the present transaction
}

// partKey names a partition.
type partKey struct {
	topic     catalog.ID
	partition int32
}

// txnPart is a partition of a transaction, and where appends to it went.
type txnPart struct {
	places []place
}

// place is a copy that records of the transaction were appended to, or were about to.
type place struct {
	cluster string
	topic   string // physical
	id      catalog.ID
	index   int32
	foreign bool  // the cluster runs transactions of its own
	base    int32 // the client's sequence of the first record, for a foreign one
	floor   int64 // physical offset at or past which its records lie, for a foreign one
}

// participant is the transaction of ours on a cluster that runs its own.
type participant struct {
	cluster  string
	id       string // transactional id there
	term     int64  // of the shard's owner that began it
	slot     int32
	producer int64
	epoch    int16
}

// there names it as its cluster does.
func (p *participant) there() span.Transaction {
	return span.Transaction{ID: p.id, Producer: p.producer, Epoch: p.epoch}
}

func (m *machine) newTransaction(key groupKey) *transaction {
	t := &transaction{key: key, producer: noID, epoch: noEpoch, lastEpoch: noEpoch, before: noID, next: noID,
		parts: map[partKey]*txnPart{}, groups: map[string]bool{}}
	t.timer = newTimer(func() { m.transactionDue(t) })
	t.load = load{of: &m.held, tenant: key.tenant}
	t.load.add(weightOf(key, weightTxn))
	m.txns[key] = t
	m.ids.grew(key.tenant, 1)
	return t
}

// empty forgets the parts of the last transaction. What clusters still write of it is among the formers.
func (t *transaction) empty() {
	t.grew(-t.open)
	t.parts, t.groups, t.participants, t.started, t.bumped, t.left = map[partKey]*txnPart{}, map[string]bool{}, nil, 0, false, chain.LeftOut{}
}

func (t *transaction) participant(cluster string) *participant {
	for i := range t.participants {
		if t.participants[i].cluster == cluster {
			return &t.participants[i]
		}
	}
	return nil
}

// clone is a copy for those who work outside of the machine.
func (t *transaction) clone() *transaction {
	c := *t
	c.timer, c.load = nil, load{}
	c.participants, c.formers = slices.Clone(t.participants), nil
	c.parts = make(map[partKey]*txnPart, len(t.parts))
	for k, p := range t.parts {
		c.parts[k] = &txnPart{places: slices.Clone(p.places)}
	}
	c.groups = make(map[string]bool, len(t.groups))
	for g := range t.groups {
		c.groups[g] = true
	}
	return &c
}

// sortedParts lists the parts in an order that never varies.
func (t *transaction) sortedParts() []partKey { return sortedParts(t.parts) }

func sortedParts(parts map[partKey]*txnPart) []partKey {
	keys := make([]partKey, 0, len(parts))
	for k := range parts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b partKey) int {
		if d := cmp.Compare(string(a.topic[:]), string(b.topic[:])); d != 0 {
			return d
		}
		return cmp.Compare(a.partition, b.partition)
	})
	return keys
}

func (t *transaction) sortedGroups() []string {
	groups := make([]string, 0, len(t.groups))
	for g := range t.groups {
		groups = append(groups, g)
	}
	slices.Sort(groups)
	return groups
}

// writeTxn has the whole state of a transactional id written.
func (m *machine) writeTxn(t *transaction) {
	// Also where this owner's clock is behind the former one's: see nextStart.
	t.updated = max(m.now, t.updated, t.started)
	m.emit(t.encode())
	m.armTxn(t)
}

// armTxn sets the timer to the transaction's timeout, or to when the id is forgotten.
func (m *machine) armTxn(t *transaction) {
	switch {
	case t.state == txnOngoing:
		m.timers.stop(t.timer)
		m.timers.set(t.timer, t.started+int64(t.timeout))
	case t.state.decided():
		m.timers.stop(t.timer)
	default:
		m.timers.stop(t.timer)
		m.timers.set(t.timer, t.updated+m.config.TransactionalIDExpiration.Milliseconds())
	}
}

// transactionDue is the end of a timeout: of the transaction, or of an id that
// nobody has used for long.
func (m *machine) transactionDue(t *transaction) {
	if m.txns[t.key] != t {
		return
	}
	switch {
	case t.state == txnOngoing:
		if m.overdue != nil {
			key := t.key
			m.reply(func() { m.overdue(key) })
		}
		// Should whoever is told not get through, it is told again.
		m.timers.set(t.timer, m.now+txnRetry)
	case t.key.isRedo():
		// It goes with the transaction whose part it appends anew.
	case !t.state.decided():
		m.emit(txnGone{t.key}.encode())
		m.dropTxn(t)
	}
}

// txnRetry is how long after a timeout that nobody acted on it is told again, ms.
const txnRetry = 1000

func (m *machine) dropTxn(t *transaction) {
	m.timers.stop(t.timer)
	if m.txns[t.key] == t {
		delete(m.txns, t.key)
		m.ids.grew(t.key.tenant, -1)
		t.load.end()
	}
}

// checkTxn finds the transactional id of a client's request, and holds producer
// id and epoch against it.
func (m *machine) checkTxn(key groupKey, producer int64, epoch int16) (*transaction, wire.Code) {
	t := m.txns[key]
	switch {
	case t == nil, t.producer != producer:
		return nil, wire.InvalidProducerIDMapping
	case t.epoch != epoch:
		return nil, wire.ProducerFenced
	}
	return t, wire.None
}

// begin makes the transaction an ongoing one, if it is not.
func (m *machine) beginTxn(t *transaction) {
	if t.state == txnOngoing {
		return
	}
	t.empty()
	t.state, t.started = txnOngoing, t.nextStart(m.now)
}

// nextStart is when a transaction begins that follows on the last one. It is always later than that one's, also where an
// owner's clock is behind the former owner's: it tells the transactions of an id apart.
func (t *transaction) nextStart(now int64) int64 { return max(now, t.updated+1) }

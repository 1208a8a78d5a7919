package coordinator

import (
	"log/slog"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// machine is the state of one shard. It does no I/O, reads no clock and makes no
// random numbers: whoever drives it hands time in, and gets records, answers and
// the next time at which it wants to be woken. A shard drives it with the real
// log, tests with a virtual clock, and replay with the records alone.
//
// A machine is not safe for concurrent use. An event is one call of a method
// that takes a request, or of tick, or of a continuation. After each event the
// driver takes effects and
//
//  1. appends the records to the log, in order,
//  2. runs the replies, which hold no promise that needs the log,
//  3. runs the waits once all records emitted so far are durable: first the
//     continuation, as an event of its own, then the reply.
//
// If the log refuses, the driver calls lost on all waits and drops the machine:
// nothing is ever undone in it.
type machine struct {
	config Config
	now    int64 // ms, set by the driver before each event; never goes back
	newID  func() string
	topics topicNames
	logger *slog.Logger
	// configs are those of a group's own, by their names; nil: none has any.
	configs func(tenant, group string) map[string]string

	groups map[groupKey]*group
	txns   map[groupKey]*transaction
	term   int64 // of the owner
	shard  int32
	fleet  string
	there  map[thereKey]thereAs
	slots  map[string]*slots // transactional ids of ours on other clusters, by cluster
	coming map[comingKey]map[*coming]bool
	timers timers
	counts tally // of groups
	ids    tally // of transactional ids
	held   tally // of bytes that both hold
	// most is how many bytes a tenant may hold on this gateway, where the config says otherwise; nil: that.
	most func(tenant string, config int64) int64
	// room tells whether a tenant that has so many groups on this gateway may have one more; nil: any.
	room func(tenant string, here int64) bool
	// overdue is told of a transaction past its timeout, as a reply; nil: nobody.
	overdue func(key groupKey)
	// watch has the markers of a former transaction looked for, and its slots given back; nil: nobody. ends is what its clusters
	// said, nil if they were told before this owner's time.
	watch func(key groupKey, f *former, ends map[string]ending)
	// freed is told, as a reply, of a place in a pool whose transaction is complete and written, and with which producer it goes on.
	freed func(was participant, next span.Transaction)
	out   effects
}

// groupKey names a group; tenants do not see one another's.
type groupKey struct {
	tenant string
	group  string
}

// topicNames is what a machine knows of topics. It is an input like time: replay does
// not look at it.
type topicNames interface {
	// exists tells whether the topic of this id is there; true when it cannot be told.
	exists(id [16]byte) bool
	// named finds a topic that is not being deleted.
	named(tenant, name string) (id catalog.ID, partitions int32, ok bool)
	name(id catalog.ID) (name string, ok bool)
	// version changes, before its topics are asked for, whenever one of the tenant's came, went
	// or grew. It is never 0.
	version(tenant string) uint64
}

// configOf is a config of a group in ms: its own, or else is.
func (m *machine) configOf(key groupKey, name string, is time.Duration) int64 {
	if m.configs != nil {
		if own := m.configs(key.tenant, key.group); own[name] != "" {
			is = GroupMillis(own, name)
		}
	}
	return is.Milliseconds()
}

// effects are what an event asks of the driver.
type effects struct {
	records []record
	replies []func()
	waits   []wait
	lazy    bool // nobody waits for the records, nor for the waits: they may go with the next ones
}

// wait is something to do once the records of the event are durable.
type wait struct {
	then func()          // continuation in the machine, may be nil
	ok   func()          // reply, may be nil; runs outside the machine
	lost func(wire.Code) // reply if the shard was lost instead; nil only if ok is nil
}

func newMachine(config Config, newID func() string, topics topicNames, logger *slog.Logger) *machine {
	return &machine{
		config: config,
		newID:  newID,
		topics: topics,
		logger: logger,
		groups: map[groupKey]*group{},
		txns:   map[groupKey]*transaction{},
		slots:  map[string]*slots{},
	}
}

// take hands the effects of the last event over.
func (m *machine) take() effects {
	e := m.out
	m.out = effects{}
	return e
}

// emit has a record written, and applies nothing: state that is not in memory
// yet is changed by the caller or by apply.
func (m *machine) emit(r record) { m.out.records = append(m.out.records, r) }

// reply answers at once.
func (m *machine) reply(fn func()) { m.out.replies = append(m.out.replies, fn) }

// durably answers once everything so far is in the log.
func (m *machine) durably(ok func(), lost func(wire.Code)) {
	m.out.waits = append(m.out.waits, wait{ok: ok, lost: lost})
}

// afterwards goes on in the machine once everything so far is in the log.
func (m *machine) afterwards(then func()) {
	m.out.waits = append(m.out.waits, wait{then: then})
}

// lazily lets all of this event wait until something else goes into the log, or for a moment.
func (m *machine) lazily() { m.out.lazy = true }

// wake is when tick wants to be called next, ms; ok is false for never.
func (m *machine) wake() (at int64, ok bool) { return m.timers.next() }

// tick runs the timers that are due.
func (m *machine) tick() {
	for t := m.timers.due(m.now); t != nil; t = m.timers.due(m.now) {
		t.fire()
	}
}

// lose answers everything that is parked; the machine is not used any more.
func (m *machine) lose(code wire.Code) {
	for _, g := range m.groups {
		for _, mb := range g.order {
			g.answerJoin(m, mb, joinAnswer{memberID: mb.id, code: code})
			g.answerSync(m, mb, syncAnswer{code: code})
		}
	}
}

package explore

import (
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// The planted bugs of [Lose].
const (
	// NoLeaseWait goes on as soon as a silent gateway's lease is taken.
	NoLeaseWait Bug = "a fence that does not wait out the lease"
	// AbsentIsStopped trusts an absent registration, also where the lease was taken.
	AbsentIsStopped Bug = "absent is taken for stopped"
	// AnswerAfterLease passes answers on that came after the lease's end.
	AnswerAfterLease Bug = "an answer is passed on after the lease"
	// AnswerAcrossLeases passes answers on under a new lease that were asked for under the last one.
	AnswerAcrossLeases Bug = "an answer is passed on under the next lease"
	// ReadAfterLease serves what was read after the lease's end.
	ReadAfterLease Bug = "reads are served after the lease"
	// EarlyWord acknowledges a fence while appends are under way.
	EarlyWord Bug = "a word with appends under way"
	// StaleResume goes on at the old copy when the fence is gone from the catalog, by the chain as it was read before.
	StaleResume Bug = "a fence that is gone is taken for undone"
	// StaleEnd commits the end that was read first, though the state says that more has landed since.
	StaleEnd Bug = "producers' state past the end is cut off"
	// CutAtHighest ends a lost span at the highest word, whatever is in doubt.
	CutAtHighest Bug = "a cut that ignores doubt"
	// CutAtDoubt ends a lost span at the lowest doubt, whatever is accounted for.
	CutAtDoubt Bug = "a cut that ignores accounts"
	// ForgetKnown keeps batches below the cut, and does not judge retries by them.
	ForgetKnown Bug = "what is known below the cut is forgotten"
	// NoDoubts forgets what was on its way when the connection was cut.
	NoDoubts Bug = "doubts are not noted"
	// NoJudging takes all that is stranded for what nobody appended again.
	NoJudging Bug = "a return that does not judge"
	// HastyReturn judges before producers have come again.
	HastyReturn Bug = "a return that does not wait for retries"
	// SkipAll goes on to leave out all that was left out.
	SkipAll Bug = "what came back is left out"
	// NoExpectation places a later batch of a producer before one that was sent back.
	NoExpectation Bug = "a later batch overtakes one that was sent back"
	// RetainByEnd has retention take a lost span for one that ends at its cut.
	RetainByEnd Bug = "retention drops a lost span that looks empty"
)

// Awaiter is the controller's decision on a fence: "wait", "revoke" those that are
// named, or "holds". It is asked when patience is over; first are the gateways that
// were registered at the first look.
type Awaiter func(first, gateways []catalog.Gateway, words []catalog.HoldAck, revoked []catalog.Revoked, ttl time.Duration, revoke bool,
	gone func(lease int64) time.Duration) (do string, silent []catalog.Gateway)

// Losing bounds a walk of an extend whose old copy cannot be sealed: behind a
// fence, or, if Hangs, gone with its cluster, which comes back later.
type Losing struct {
	Gateways, Producers, Batches, Window int
	Hangs, InPlace                       bool
	// Budgets of events: connections lost by clients and to the copy; deadlines that
	// pass; producers that end; gateways cut off from the catalog; controllers that
	// take over; other topics' extends that take a lease; clocks that skip a tick;
	// consumers that read.
	Drops, Cuts, Expires, Leaves, Deaf, Takeovers, Others, Skews, Reads int
	Await                                                               Awaiter
	Bug                                                                 Bug
	MaxStates                                                           int // 0: none
	Progress                                                            func(states int)
}

// Bounds are the sizes of a walk in words.
func (c Losing) Bounds() string {
	how := "a fence"
	if c.Hangs {
		how = "a cluster that is gone and comes back, its tail appended anew"
	}
	if c.Hangs && c.InPlace {
		how = "a cluster that is gone and comes back, its tail read in place"
	}
	return fmt.Sprintf("%s, %d gateways, %d producers of %d batches (%d in flight); at most %d cut off from the catalog, %d take-overs, %d leases taken by others, %d ticks skipped, %d reads, %d deadlines passed, %d producers that end, %d connections cut to copies, %d to gateways",
		how, c.Gateways, c.Producers, c.Batches, c.Window, c.Deaf, c.Takeovers, c.Others, c.Skews, c.Reads, c.Expires, c.Leaves, c.Cuts, c.Drops)
}

// ticks of a lease, so that its margin is one.
const leaseTTL = 6 * time.Nanosecond

var (
	holderTicks = uint8(leaseTTL - catalog.LeaseMargin(leaseTTL))
	waiterTicks = uint8(catalog.FenceWait(leaseTTL))
)

const (
	maxLosingFlights = 6
	losingRoom       = 8
	losingOffsets    = 24
	maxLeases        = 1 // that a gateway takes after its first
)

// landing is one batch on its way in a [loss].
type landing struct {
	used    bool
	state   uint8 // waiting, sent or landed
	gateway uint8
	prod    uint8
	seq     uint8
	copy    uint8 // where it was submitted last
	pos     uint8
	live    bool  // the client still waits for this answer
	unknown bool  // an attempt may have landed in copy
	floor   uint8 // at or past this
	gen     uint8 // of the gateway's lease when it was submitted
}

func (f *landing) out() bool   { return f.used && f.state != waiting }
func (f *landing) rec() record { return recordOf(f.prod, f.seq) }

// host is a gateway: its session, its target, and what it can account for.
type host struct {
	known, target uint8
	registered    bool
	gen           uint8 // of its lease
	deaf          bool  // cut off from the catalog
	left, expiry  uint8 // ticks of its lease by its own clock, and by the catalog's
	revoked       bool  // a lease of it, taking, was taken, and that is on record
	taking        uint8
	gone          uint8 // ticks + 1 for which the controller has seen that lease away

	fenced, word, stopped bool
	placed                uint8
	acks, read            uint8 // positions in the old copy, as bits
	hw                    uint8 // all below is known to lie in the target's copy
	doubt                 [maxProducers]int8
	doubtFirst            [maxProducers]uint8
	expect                [maxProducers]int8 // sequence that was sent back; -1 none
}

// Where an extend with its return is.
const (
	beforeExtend uint8 = iota
	fencing
	committed
	sealedAgain
	judged
	returned
)

// loss is one state.
type loss struct {
	copies   [2]physical
	versions [3][2]uint8
	nv       uint8
	phase    uint8
	hung     bool
	gws      [maxGateways]host
	cls      [maxProducers]client
	left     uint8 // producers that have ended, as bits
	fl       [maxLosingFlights]landing
	orphans  [maxOrphans]orphan
	served   [losingOffsets]record

	// The controller in charge, as far as the catalog does not know it.
	ctl struct {
		looked             bool
		first              [maxGateways]uint8 // generations of leases at the first look + 1; 0 none
		holds, ended, told bool
		end, state         uint8
	}
	again [maxProducers]int8 // where each went on, once judged; -1 not

	drops, cuts, expires, leaves, deafs, takeovers, others, skews, reads uint8
}

// loser walks losses.
type loser struct {
	cfg Losing
	ledger
	hash hasher
	fault
	out []step[loss]
}

// Lose walks all states that cfg allows, depth first.
func Lose(cfg Losing) (Result, error) {
	if cfg.Gateways > maxGateways || cfg.Producers > maxProducers || cfg.Batches > maxBatches || cfg.Producers*cfg.Batches > maxLog {
		return Result{}, fmt.Errorf("the bounds exceed the model's")
	}
	if cfg.Await == nil {
		cfg.Await = StandardAwait
	}
	e := &loser{cfg: cfg, hash: newHasher(), ledger: ledger{byKey: map[string]uint16{}}}
	return search(e.begin(), e.key, e.visit, cfg.MaxStates, cfg.Progress), nil
}

func (e *loser) begin() loss {
	var w loss
	w.copies[0].exists, w.copies[1].exists = true, true
	w.versions[0] = e.number(version{chain: chain.New(copyName(0), 0, time.Time{})})
	w.nv = 1
	for g := range w.gws {
		h := &w.gws[g]
		for p := range h.doubt {
			h.doubt[p], h.expect[p] = -1, -1
		}
		if g < e.cfg.Gateways {
			h.registered, h.left, h.expiry = true, holderTicks, uint8(leaseTTL)
		}
	}
	for i := range w.cls {
		for j := range w.cls[i].acked {
			w.cls[i].acked[j] = -1
		}
		w.cls[i].via = uint8(i % e.cfg.Gateways)
		w.again[i] = -1
	}
	c := &e.cfg
	w.drops, w.cuts, w.expires, w.leaves = uint8(c.Drops), uint8(c.Cuts), uint8(c.Expires), uint8(c.Leaves)
	w.deafs, w.takeovers, w.others, w.skews, w.reads = uint8(c.Deaf), uint8(c.Takeovers), uint8(c.Others), uint8(c.Skews), uint8(c.Reads)
	return w
}

func (e *loser) version(w *loss, i uint8) *version {
	n := w.versions[i]
	return &e.versions[int(n[0])|int(n[1])<<8]
}

func (e *loser) newest(w *loss) *version { return e.version(w, w.nv-1) }

func (e *loser) emit(w loss, format string, args ...any) {
	e.out = append(e.out, step[loss]{w, format, args})
}

func (e *loser) visit(w *loss, fresh func() bool, out []step[loss]) ([]step[loss], string) {
	e.bad, e.out = "", out
	e.settle(w)
	if !fresh() && e.bad == "" {
		return e.out, ""
	}
	e.check(w)
	if e.bad == "" {
		e.clients(w)
		e.gateways(w)
		e.copies(w)
		e.controller(w)
	}
	return e.out, e.bad
}

// key hashes a state up to renaming of gateways.
func (e *loser) key(w *loss) [2]uint64 {
	var order [maxGateways]uint64
	for g := range uint8(e.cfg.Gateways) {
		order[g] = e.likeness(w, g)
	}
	perm := ranks(order[:e.cfg.Gateways])
	n := *w
	for g := range w.gws {
		n.gws[perm[g]] = w.gws[g]
		n.ctl.first[perm[g]] = w.ctl.first[g]
	}
	for i := range n.cls {
		n.cls[i].via = perm[n.cls[i].via]
	}
	at := 0
	for g := range uint8(maxGateways) {
		for i := range w.fl {
			if w.fl[i].used && perm[w.fl[i].gateway] == g {
				n.fl[at] = w.fl[i]
				n.fl[at].gateway = g
				at++
			}
		}
	}
	return hashOf(&e.hash, &n)
}

// likeness hashes all that a state holds of a gateway, but its name.
func (e *loser) likeness(w *loss, g uint8) uint64 {
	var all struct {
		own     host
		first   uint8
		clients uint8 // whose connection it has, as bits
		fl      [maxLosingFlights]landing
	}
	all.own, all.first = w.gws[g], w.ctl.first[g]
	for i := range w.cls {
		if w.cls[i].via == g {
			all.clients |= 1 << i
		}
	}
	at := 0
	for i := range w.fl {
		if f := &w.fl[i]; f.used && f.gateway == g {
			all.fl[at] = *f
			all.fl[at].gateway = 0
			at++
		}
	}
	return maphash.Bytes(e.hash[0], bytesOf(&all))
}

// add puts a version of the chain behind the others.
func (e *loser) add(w *loss, v version) {
	w.versions[w.nv] = e.number(v)
	w.nv++
}

// inChain tells which record the newest version has at each offset, and which of
// them a return appended anew.
func (e *loser) inChain(w *loss) (at [losingOffsets]record, anew [losingOffsets]bool) {
	v := e.newest(w)
	for i := range v.chain.Spans {
		s := &v.chain.Spans[i]
		p := &w.copies[copyOf(s)]
		for pos := range int64(p.n) {
			o := s.Start + pos
			if !s.IsOpen() && o >= s.End || leftOut(s, o) {
				continue
			}
			at[o], anew[o] = p.log[pos]&^replayed, p.log[pos]&replayed != 0
		}
	}
	return at, anew
}

// replayed marks a record that a return has appended anew.
const replayed record = 0x80

func leftOut(s *catalog.Span, offset int64) bool {
	return slices.ContainsFunc(s.Copies[0].Skip, func(g catalog.Gap) bool { return offset >= g.From && offset < g.To })
}

// check holds the state against the invariants.
func (e *loser) check(w *loss) {
	if e.bad != "" {
		return
	}
	at, anew := e.inChain(w)
	var times [maxProducers * maxBatches]uint8
	var next [maxProducers]uint8
	for o, r := range at {
		if r == 0 {
			continue
		}
		if times[r-1]++; times[r-1] > 1 {
			e.wrong("%s is in the chain twice", name(r))
			return
		}
		if anew[o] {
			continue // behind those that went on
		}
		if r.seq() < next[r.producer()] || r.seq() > next[r.producer()] && !e.cfg.Hangs {
			e.wrong("%s at %d, when sequence %d of its producer is due", name(r), o, next[r.producer()])
			return
		}
		next[r.producer()] = r.seq() + 1
	}
	for p := range w.cls {
		for seq, offset := range w.cls[p].acked {
			if r := recordOf(uint8(p), uint8(seq)); offset >= 0 && at[offset] != r {
				e.wrong("%s was acknowledged at %d, where there is %s", name(r), offset, name(at[offset]))
				return
			}
		}
	}
	for o, r := range w.served {
		// Of a cluster that is gone a record may have been read that is not in the
		// chain (yet); nothing else comes to its offset.
		if r != 0 && at[o] != r && !(e.cfg.Hangs && at[o] == 0) {
			e.wrong("%s was served at %d, where there is %s", name(r), o, name(at[o]))
			return
		}
	}
	if w.phase == returned {
		p := &w.copies[0]
		for _, r := range p.log[:p.n] {
			p := r.producer()
			due := w.again[p] < 0 || int8(r.seq()) < w.again[p] || w.over(p, uint8(e.cfg.Batches)) && w.left&(1<<p) == 0
			if times[r-1] == 0 && due {
				e.wrong("%s came back with its cluster, and is nowhere", name(r))
				return
			}
		}
	}
}

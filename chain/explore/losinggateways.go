package explore

import (
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// openAt is the copy that a version appends to, and the span's start.
func (e *loser) openAt(w *loss, v uint8) (c uint8, start int64) { return openCopy(e.version(w, v)) }

func (w *loss) outOf(g uint8) (n int) {
	for i := range w.fl {
		if w.fl[i].out() && w.fl[i].gateway == g {
			n++
		}
	}
	return n
}

// alive tells whether a gateway may pass on what the old copy answers.
func (e *loser) alive(h *host, bug Bug) bool {
	return e.cfg.Hangs || h.left > 0 || e.cfg.Bug == bug
}

// settle does what gateways do at once: going on to a version that they know,
// submitting, and giving out all that they would.
func (e *loser) settle(w *loss) {
	for g := range uint8(e.cfg.Gateways) {
		h := &w.gws[g]
		if h.known != h.target && w.outOf(g) == 0 {
			was, _ := e.openAt(w, h.target)
			now, _ := e.openAt(w, h.known)
			h.target = h.known
			if was != now {
				h.fenced, h.stopped, h.placed, h.hw, h.acks, h.read, h.word = false, false, 0, 0, 0, 0, false
				for p := range h.doubt {
					h.doubt[p], h.doubtFirst[p] = -1, 0
				}
			}
		}
		e.submit(w, g)
		if h.known > 0 || !e.cfg.Hangs {
			e.serve(w, g, 0)
		}
	}
}

// flows tells whether a gateway submits.
func flows(h *host) bool { return !h.fenced && !h.stopped && h.known == h.target }

func (e *loser) submit(w *loss, g uint8) {
	h := &w.gws[g]
	if !flows(h) {
		return
	}
	c, _ := e.openAt(w, h.target)
	var blocked [maxProducers]bool
	for i := range w.fl {
		f := &w.fl[i]
		if !f.used || f.gateway != g {
			continue
		}
		placed := h.placed&(1<<f.prod) != 0
		if f.state != waiting {
			blocked[f.prod] = blocked[f.prod] || !placed // its first batch on this copy goes alone
			continue
		}
		if blocked[f.prod] {
			continue
		}
		blocked[f.prod] = !placed
		if !placed {
			if r, _, early := e.judgeLanding(w, f); r != chain.RuleAppend || early {
				continue
			}
		}
		if !f.unknown || f.copy != c {
			f.floor, f.unknown = h.hw, false
		}
		f.state, f.copy, f.gen = sent, c, h.gen
	}
}

// judgeLanding asks the sealed state about a producer's first batch on a span.
func (e *loser) judgeLanding(w *loss, f *landing) (r chain.Ruling, offset int64, early bool) {
	h := &w.gws[f.gateway]
	st := chain.FindProducer(e.version(w, h.target).state, int64(f.prod)+1)
	r, offset = chain.Judge(st, 0, int32(f.seq), int32(f.seq))
	if r == chain.RuleAppend && (st == nil || st.Jump) && h.expect[f.prod] >= 0 && e.cfg.Bug != NoExpectation {
		early = chain.Early(st, 0, int32(h.expect[f.prod]), int32(f.seq))
	}
	return r, offset, early
}

// serve reads all that a gateway gives out now, of the old copy while it is open
// from position on.
func (e *loser) serve(w *loss, g uint8, from uint8) {
	h := &w.gws[g]
	v := e.version(w, h.known)
	for i := range v.chain.Spans {
		s := &v.chain.Spans[i]
		c := copyOf(s)
		p := &w.copies[c]
		first, end := uint8(0), p.n
		switch {
		case s.Copies[0].Unreadable:
			continue
		case !s.IsOpen():
			end = min(end, uint8(s.End-s.Start))
		case c == 0 && (h.fenced || !e.alive(h, ReadAfterLease)):
			continue
		default:
			first, end = from, p.hw
		}
		for pos := first; pos < end; pos++ {
			o := s.Start + int64(pos)
			r := p.log[pos] &^ replayed
			if leftOut(s, o) {
				continue
			}
			if old := w.served[o]; old != 0 && old != r {
				e.wrong("offset %d was served as %s, and is %s at gateway %d", o, name(old), name(r), g)
			}
			w.served[o] = r
		}
	}
}

func (w *loss) drop(i int) {
	copy(w.fl[i:], w.fl[i+1:])
	w.fl[len(w.fl)-1] = landing{}
}

func (w *loss) linger(o orphan) {
	for i := range w.orphans {
		if w.orphans[i].kind == noOrphan {
			w.orphans[i] = o
			return
		}
	}
}

func (w *loss) reconnect(p, via, batches uint8) {
	for i := range w.fl {
		if f := &w.fl[i]; f.used && f.prod == p {
			f.live = false
		}
	}
	c := &w.cls[p]
	c.via, c.next = via, c.base(batches)
}

// ok answers a client.
func (e *loser) ok(w *loss, i int, offset int64) {
	f := w.fl[i]
	w.drop(i)
	if !f.live {
		return
	}
	c := &w.cls[f.prod]
	if old := c.acked[f.seq]; old >= 0 && int64(old) != offset {
		e.wrong("%s was acknowledged at %d, and at %d", name(f.rec()), old, offset)
	}
	c.acked[f.seq] = int8(offset)
}

// refuse answers as out of order.
func (e *loser) refuse(w *loss, i int) {
	f := w.fl[i]
	w.drop(i)
	if !f.live {
		return
	}
	c := &w.cls[f.prod]
	if c.base(uint8(e.cfg.Batches)) == f.seq {
		e.wrong("%s was refused as out of order, when all before it are acknowledged", name(f.rec()))
		return
	}
	w.reconnect(f.prod, c.via, uint8(e.cfg.Batches))
}

// sendBack answers with an error that makes the client come again, with all that
// waits behind; the gateway expects it.
func (e *loser) sendBack(w *loss, i int) {
	f := w.fl[i]
	h := &w.gws[f.gateway]
	if h.expect[f.prod] < 0 || int8(f.seq) < h.expect[f.prod] {
		h.expect[f.prod] = int8(f.seq)
	}
	live := f.live
	w.drop(i)
	for j := len(w.fl) - 1; j >= i; j-- {
		if b := &w.fl[j]; b.used && b.gateway == f.gateway && b.prod == f.prod && b.state == waiting {
			live = live || b.live
			w.drop(j)
		}
	}
	if live {
		w.reconnect(f.prod, w.cls[f.prod].via, uint8(e.cfg.Batches))
	}
}

// abandon gives up on what a copy has not answered: its outcome is unknown, and it
// waits in line.
func (e *loser) abandon(w *loss, g, c uint8) (any bool) {
	for i := range w.fl {
		f := &w.fl[i]
		if !f.out() || f.gateway != g || f.copy != c {
			continue
		}
		if f.state == sent {
			w.linger(orphan{kind: lateAppend, copy: c, rec: f.rec()})
		}
		f.state, f.pos, f.unknown = waiting, 0, true
		e.doubt(w, f)
		any = true
	}
	return any
}

func (e *loser) doubt(w *loss, f *landing) {
	if f.copy != 0 || e.cfg.Bug == NoDoubts {
		return
	}
	h := &w.gws[f.gateway]
	d := h.doubts()
	d.Note(int64(f.prod), chain.Doubt{Floor: int64(f.floor), First: int32(f.seq)})
	h.setDoubts(d)
}

func (h *host) doubts() chain.Doubts {
	m := chain.Doubts{}
	for p, floor := range h.doubt {
		if floor >= 0 {
			m[int64(p)] = chain.Doubt{Floor: int64(floor), First: int32(h.doubtFirst[p])}
		}
	}
	return m
}

func (h *host) setDoubts(m chain.Doubts) {
	for p := range h.doubt {
		h.doubt[p], h.doubtFirst[p] = -1, 0
		if d, ok := m[int64(p)]; ok {
			h.doubt[p], h.doubtFirst[p] = int8(d.Floor), uint8(d.First)
		}
	}
}

// word is what a gateway says to a fence.
func (e *loser) wordOf(w *loss, g uint8) catalog.HoldAck {
	h := &w.gws[g]
	known := func(bits uint8, acked bool) (out []catalog.KnownBatch) {
		for pos := range w.copies[0].n {
			if r := w.copies[0].log[pos]; bits&(1<<pos) != 0 {
				out = append(out, catalog.KnownBatch{From: int64(pos), To: int64(pos) + 1, Producer: int64(r.producer()) + 1,
					First: int32(r.seq()), Last: int32(r.seq()), Acked: acked})
			}
		}
		return out
	}
	d := h.doubts().Lowest(0)
	a := chain.AccountOf(0, d, 0, known(h.acks, true), known(h.read, false), 64)
	switch e.cfg.Bug {
	case CutAtHighest:
		a.Doubt = -1
	case CutAtDoubt:
		a.Batches = nil
	}
	return catalog.HoldAck{Node: int32(g), Next: []int64{int64(h.hw)}, Accounts: []catalog.Account{*a}}
}

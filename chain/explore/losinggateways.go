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

func (e *loser) clients(w *loss) {
	for p := range uint8(e.cfg.Producers) {
		c := &w.cls[p]
		base := c.base(uint8(e.cfg.Batches))
		if base == uint8(e.cfg.Batches) || w.left&(1<<p) != 0 {
			continue
		}
		if c.next < uint8(e.cfg.Batches) && c.next < base+uint8(e.cfg.Window) {
			n := *w
			n.cls[p].next = max(c.next, base)
			seq := n.cls[p].next
			for i := range n.fl {
				if !n.fl[i].used {
					n.fl[i] = landing{used: true, gateway: c.via, prod: p, seq: seq, live: true}
					n.cls[p].next++
					e.emit(n, "p%d sends %d to gateway %d", p, seq, c.via)
					break
				}
			}
		}
		if w.drops > 0 && c.next > base {
			for g := range uint8(e.cfg.Gateways) {
				n := *w
				n.drops--
				n.reconnect(p, g, uint8(e.cfg.Batches))
				e.emit(n, "p%d's connection is cut, it goes to gateway %d", p, g)
			}
		}
		if w.leaves > 0 && c.next > base {
			n := *w
			n.leaves--
			n.left |= 1 << p
			n.reconnect(p, c.via, uint8(e.cfg.Batches))
			e.emit(n, "p%d ends", p)
		}
	}
}

// onTheWire adds a batch for whose answer the client does not care any more.
func (w *loss) onTheWire(g, p, seq uint8) bool {
	for i := range w.fl {
		if !w.fl[i].used {
			w.fl[i] = landing{used: true, gateway: g, prod: p, seq: seq}
			return true
		}
	}
	return false
}

func (e *loser) gateways(w *loss) {
	for g := range uint8(e.cfg.Gateways) {
		h := &w.gws[g]
		e.catalogEvents(w, g)
		e.lineEvents(w, g)
		if w.cuts > 0 {
			for c := range uint8(2) {
				if n := *w; e.abandon(&n, g, c) {
					n.cuts--
					n.gws[g].stopped = true
					e.emit(n, "gateway %d loses its connection to copy %d", g, c)
				}
			}
		}
		if h.fenced || h.known > h.target || w.hung && h.target == 0 && h.stopped {
			if n := *w; e.abandon(&n, g, 0) {
				n.gws[g].stopped = true
				e.emit(n, "gateway %d gives up on copy 0's answers", g)
			}
		}
		if c, _ := e.openAt(w, h.target); h.stopped && !h.fenced && h.known == h.target && w.outOf(g) == 0 && !w.copies[c].sealed {
			n := *w
			n.gws[g].stopped = false
			if c == 0 && w.hung {
				// Nobody knows and nobody can be asked.
				for i := 0; i < len(n.fl); i++ {
					if n.fl[i].used && n.fl[i].gateway == g {
						e.sendBack(&n, i)
						i = -1
					}
				}
				e.emit(n, "gateway %d sends all back", g)
			} else {
				e.emit(n, "gateway %d goes on at copy %d", g, c)
			}
		}
		if w.reads > 0 && h.known == 0 && !h.fenced && !w.hung && w.copies[0].hw > 0 && e.cfg.Hangs {
			top := w.copies[0].hw
			for _, from := range []uint8{0, top - 1, top} {
				n := *w
				n.reads--
				m := &n.gws[g]
				m.hw = max(m.hw, top)
				m.read |= (1<<top - 1) &^ (1<<from - 1)
				e.serve(&n, g, from)
				e.emit(n, "gateway %d reads from %d to %d", g, from, top)
			}
		}
	}
}

// lineEvents are about what waits at a gateway.
func (e *loser) lineEvents(w *loss, g uint8) {
	h := &w.gws[g]
	var first [maxProducers]bool
	for i := range w.fl {
		f := w.fl[i]
		if !f.used || f.gateway != g || first[f.prod] {
			continue
		}
		first[f.prod] = true
		if f.state != waiting {
			continue
		}
		if w.expires > 0 {
			n := *w
			n.expires--
			e.sendBack(&n, i)
			e.emit(n, "gateway %d sends %s back", g, f.rec())
			if next := w.cls[f.prod].next; f.live && next < uint8(e.cfg.Batches) && w.left&(1<<f.prod) == 0 && n.onTheWire(g, f.prod, next) {
				e.emit(n, "gateway %d sends %s back, and %s comes, sent before that was heard", g, f.rec(), recordOf(f.prod, next))
			}
		}
		if !flows(h) || h.placed&(1<<f.prod) != 0 {
			continue
		}
		c, _ := e.openAt(w, h.target)
		switch r, offset, early := e.judgeLanding(w, &f); {
		case r == chain.RuleDuplicate:
			n := *w
			e.ok(&n, i, offset)
			e.emit(n, "gateway %d answers %s from the sealed state: %d", g, f.rec(), offset)
		case r == chain.RuleMissing || early:
			n := *w
			switch {
			case holdsProducer(&w.copies[c], f.prod):
				n.gws[g].placed |= 1 << f.prod
				n.gws[g].expect[f.prod] = -1
				e.emit(n, "gateway %d learns that copy %d knows p%d", g, c, f.prod)
			case early:
				e.sendBack(&n, i)
				e.emit(n, "gateway %d sends %s back: it is too early", g, f.rec())
			case h.known == w.nv-1:
				e.refuse(&n, i)
				e.emit(n, "gateway %d refuses %s", g, f.rec())
			}
		}
	}
}

// catalogEvents are about what a gateway hears and says.
func (e *loser) catalogEvents(w *loss, g uint8) {
	h := &w.gws[g]
	if h.deaf || !h.registered {
		n := *w
		m := &n.gws[g]
		m.deaf = false
		if !h.registered {
			if m.gen++; m.gen > maxLeases {
				return
			}
			m.known, m.fenced = w.nv-1, w.phase == fencing
		}
		m.registered, m.left, m.expiry = true, holderTicks, uint8(leaseTTL)
		e.emit(n, "gateway %d has the catalog again", g)
		return
	}
	for v := h.known + 1; v < w.nv; v++ {
		n := *w
		n.gws[g].known = v
		e.emit(n, "gateway %d learns of version %d", g, v)
	}
	if w.phase == fencing && !h.fenced && h.known == 0 {
		n := *w
		n.gws[g].fenced = true
		e.emit(n, "gateway %d heeds the fence", g)
	}
	if e.cfg.Bug == StaleResume && w.phase > fencing && h.fenced && h.known == h.target {
		n := *w
		n.gws[g].fenced = false
		e.emit(n, "gateway %d finds the fence gone", g)
	}
	if w.phase == fencing && h.fenced && !h.word && (w.outOf(g) == 0 || e.cfg.Bug == EarlyWord) {
		n := *w
		n.gws[g].word = true
		e.emit(n, "gateway %d acknowledges the fence", g)
	}
	if w.deafs > 0 && w.phase <= fencing {
		n := *w
		n.deafs--
		n.gws[g].deaf = true
		e.emit(n, "gateway %d is cut off from the catalog", g)
	}
}

// copies lets requests arrive, records be committed and answers come back.
func (e *loser) copies(w *loss) {
	for c := range uint8(2) {
		if p := &w.copies[c]; p.hw < p.n {
			n := *w
			n.copies[c].hw++
			e.emit(n, "copy %d commits %s", c, p.log[p.hw]&^replayed)
		}
	}
	var arrived, answered [maxGateways][2]bool // per connection
	for i := range w.fl {
		f := w.fl[i]
		if !f.out() {
			continue
		}
		g, c := f.gateway, f.copy
		if f.state == sent {
			if !arrived[g][c] {
				arrived[g][c] = true
				e.arrives(*w, i)
			}
			answered[g][c] = true
			continue
		}
		if !answered[g][c] {
			answered[g][c] = true
			e.answers(*w, i)
		}
	}
	for i, o := range w.orphans {
		if o.kind == noOrphan {
			continue
		}
		n := *w
		copy(n.orphans[i:], n.orphans[i+1:])
		n.orphans[len(n.orphans)-1] = orphan{}
		if a, _ := n.copies[o.copy].arrive(o.rec); a == appended {
			e.emit(n, "a late %s lands in copy %d", o.rec, o.copy)
		}
	}
}

func (e *loser) arrives(n loss, i int) {
	f := &n.fl[i]
	h := &n.gws[f.gateway]
	g, c, r := f.gateway, f.copy, f.rec()
	a, pos := n.copies[c].arrive(r)
	switch a {
	case isFull:
		return
	case appended, duplicate:
		f.state, f.pos = landed, pos
	case isSealed, isGone:
		f.state, h.stopped = waiting, true
	case refusedSequence:
		for j := range i {
			if b := &n.fl[j]; b.used && b.gateway == g && b.prod == f.prod {
				// Only since an earlier one has no answer yet.
				f.state, h.stopped = waiting, true
				e.emit(n, "gateway %d's %s is refused behind an earlier one", g, r)
				return
			}
		}
		h.placed |= 1 << f.prod
		if ru, offset, _ := e.judgeLanding(&n, f); ru == chain.RuleDuplicate {
			e.ok(&n, i, offset)
		} else {
			e.refuse(&n, i)
		}
	}
	e.emit(n, "gateway %d's %s arrives at copy %d: %s", g, r, c, arrivals[a])
}

func (e *loser) answers(n loss, i int) {
	f := &n.fl[i]
	h := &n.gws[f.gateway]
	g, c, r, pos := f.gateway, f.copy, f.rec(), f.pos
	if pos >= n.copies[c].hw || c == 0 && (n.hung || n.copies[0].sealed) {
		return
	}
	if c == 0 && !e.cfg.Hangs && (!e.alive(h, AnswerAfterLease) || f.gen != h.gen && e.cfg.Bug != AnswerAcrossLeases) {
		f.state = waiting
		e.sendBack(&n, i)
		e.emit(n, "gateway %d does not pass on the answer to %s: its lease is over", g, r)
		return
	}
	_, start := e.openAt(&n, c)
	offset := start + int64(pos)
	if v := e.version(&n, h.known); c == 0 && h.known > 0 && offset >= v.chain.Spans[0].End {
		f.state = waiting
		e.emit(n, "gateway %d holds %s, which landed past the end", g, r)
		return
	}
	if at, _ := e.openAt(&n, h.target); c == at {
		h.placed |= 1 << f.prod
		h.hw = max(h.hw, pos+1)
	}
	if c == 0 {
		h.acks |= 1 << pos
		d := h.doubts()
		d.Resolve(int64(f.prod), 0, int32(f.seq))
		h.setDoubts(d)
	}
	if h.expect[f.prod] >= 0 && int8(f.seq) >= h.expect[f.prod] {
		h.expect[f.prod] = -1
	}
	e.ok(&n, i, offset)
	e.emit(n, "%s is acknowledged at %d by gateway %d", r, offset, g)
}

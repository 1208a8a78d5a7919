package explore

import (
	"github.com/braidstream/braid/chain"
)

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

package explore

import (
	"github.com/braidstream/braid/chain"
)

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

package explore

import (
	"fmt"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// openCopy is the physical partition that a version appends to.
func openCopy(v *version) (c uint8, start int64) {
	s := chain.OpenSpan(&v.chain)
	return copyOf(s), s.Start
}

// startOf is the logical start of the span that lies on a copy, by the newest
// version that has it.
func (e *explorer) startOf(w *world, c uint8) int64 {
	for i := int(w.nv) - 1; i >= 0; i-- {
		v := e.at(w, uint8(i))
		for j := range v.chain.Spans {
			if s := &v.chain.Spans[j]; copyOf(s) == c {
				return s.Start
			}
		}
	}
	return 0
}

// endOf is where the span on a copy ended, by version i; -1 while it is open there.
func (e *explorer) endOf(w *world, i, c uint8) int64 {
	v := e.at(w, i)
	last := int64(-1)
	for j := range v.chain.Spans {
		if s := &v.chain.Spans[j]; copyOf(s) == c {
			return s.End
		} else if s.IsOpen() {
			last = s.Start
		}
	}
	// It vanished empty.
	return last
}

// settle does what gateways do at once and what commutes with all else: moving
// on to a version that is known, sending what may be sent, and reading all that
// they would give to a consumer.
func (e *explorer) settle(w *world) {
	for g := range uint8(e.cfg.Gateways) {
		gw := &w.gws[g]
		if gw.known != gw.target {
			if w.out(g) == 0 || e.cfg.Bug == OvertakeAtSwitch {
				gw.target, gw.stopped, gw.placed = gw.known, false, 0
			}
		}
		e.send(w, g)
		e.serve(w, g)
	}
}

// out counts the flights of a gateway that a copy has.
func (w *world) out(g uint8) (n int) {
	for i := range w.fl {
		if f := &w.fl[i]; f.used && f.gateway == g && f.state != waiting {
			n++
		}
	}
	return n
}

// send submits what needs no asking, in order.
func (e *explorer) send(w *world, g uint8) {
	gw := &w.gws[g]
	if gw.stopped || gw.known != gw.target {
		return
	}
	c, _ := openCopy(e.at(w, gw.target))
	var blocked [maxProducers]bool
	for i := range w.fl {
		f := &w.fl[i]
		if !f.used || f.gateway != g {
			continue
		}
		if f.state != waiting {
			if gw.placed&(1<<f.prod) == 0 && (f.copy == c || e.cfg.Bug != OvertakeAtSwitch) {
				blocked[f.prod] = true // its first batch on this copy goes alone
			}
			continue
		}
		if blocked[f.prod] && e.cfg.Bug != PipelineFresh {
			continue
		}
		if gw.placed&(1<<f.prod) == 0 {
			if r, _ := e.judge(w, gw.target, f); r != chain.RuleAppend && e.cfg.Bug != PipelineFresh {
				blocked[f.prod] = true
				continue
			}
			blocked[f.prod] = true
		}
		f.state, f.copy = sent, c
	}
}

// judge asks the state that was sealed before a version's open span.
func (e *explorer) judge(w *world, v uint8, f *flight) (chain.Ruling, int64) {
	state := e.at(w, v).state
	if e.cfg.Bug == NoSealedState {
		state = nil
	}
	return chain.Judge(chain.FindProducer(state, int64(f.prod)+1), 0, int32(f.seq), int32(f.seq))
}

// serve reads everything that the gateway would give out now.
func (e *explorer) serve(w *world, g uint8) {
	gw := &w.gws[g]
	v := e.at(w, gw.known)
	top := int64(-1)
	for i := range w.served {
		if w.served[i] != 0 {
			top = int64(i)
		}
	}
	for i := range v.chain.Spans {
		s := &v.chain.Spans[i]
		p := &w.copies[copyOf(s)]
		end := s.End - s.Start
		if s.IsOpen() {
			if gw.stopped && gw.known == gw.target {
				continue // it has heard of the seal
			}
			end = int64(p.hw)
			// A consumer that has read up to top asks here for what is next.
			if p.exists && top+1 > s.Start+int64(p.n) {
				if e.cfg.Bug == UnprovedEnd {
					e.wrong("gateway %d answers out of range at %d, after %d was served", g, top+1, top)
				}
				// It proves: a newer version is there, or it must be so.
				if gw.known == w.nv-1 {
					e.wrong("offset %d is out of range by the newest version, after %d was served", top+1, top)
				}
			}
		}
		for pos := int64(0); pos < end && pos < int64(p.n); pos++ {
			at := s.Start + pos
			switch old := w.served[at]; {
			case old == 0:
				w.served[at] = p.log[pos]
			case old != p.log[pos]:
				e.wrong("offset %d was served as %s, and is %s at gateway %d", at, name(old), name(p.log[pos]), g)
			}
		}
	}
}

func (r record) String() string { return name(r) }

func name(r record) string {
	if r == 0 {
		return "nothing"
	}
	return fmt.Sprintf("p%d/%d", r.producer(), r.seq())
}

func (w *world) add(f flight) bool {
	for i := range w.fl {
		if !w.fl[i].used {
			f.used = true
			w.fl[i] = f
			return true
		}
	}
	return false
}

// remove takes a flight out and keeps the order of the others.
func (w *world) remove(i int) {
	copy(w.fl[i:], w.fl[i+1:])
	w.fl[len(w.fl)-1] = flight{}
}

func (w *world) linger(o orphan) {
	for i := range w.orphans {
		if w.orphans[i].kind == noOrphan {
			w.orphans[i] = o
			return
		}
	}
	// No room: this one never lands, which is a behaviour too.
}

// ok answers a client.
func (e *explorer) ok(w *world, i int, offset int64) {
	f := w.fl[i]
	w.remove(i)
	if !f.live {
		return
	}
	c := &w.cls[f.prod]
	if old := c.acked[f.seq]; old >= 0 && int64(old) != offset {
		e.wrong("p%d/%d was acknowledged at %d, and at %d", f.prod, f.seq, old, offset)
	}
	c.acked[f.seq] = int8(offset)
}

// outOfOrder answers a client, which sends everything from its first batch
// without an answer on again.
func (e *explorer) outOfOrder(w *world, i int) {
	f := w.fl[i]
	w.remove(i)
	if !f.live {
		return
	}
	c := &w.cls[f.prod]
	if c.base(uint8(e.cfg.Batches)) == f.seq {
		e.wrong("p%d/%d was refused as out of order, when all before it are acknowledged", f.prod, f.seq)
		return
	}
	w.reconnect(f.prod, c.via, uint8(e.cfg.Batches))
}

func (w *world) reconnect(p, via, batches uint8) {
	for i := range w.fl {
		if f := &w.fl[i]; f.used && f.prod == p {
			f.live = false
		}
	}
	c := &w.cls[p]
	c.via, c.next = via, c.base(batches)
}

func (e *explorer) expandClients(w *world) {
	for p := range uint8(e.cfg.Producers) {
		c := &w.cls[p]
		base := c.base(uint8(e.cfg.Batches))
		if base == uint8(e.cfg.Batches) {
			continue
		}
		if c.next < uint8(e.cfg.Batches) && c.next < base+uint8(e.cfg.Window) {
			n := *w
			if n.cls[p].next = max(c.next, base); n.add(flight{gateway: c.via, prod: p, seq: n.cls[p].next, live: true}) {
				n.cls[p].next++
				e.emit(n, "p%d sends %d to gateway %d", p, n.cls[p].next-1, c.via)
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
	}
}

func (e *explorer) expandGateways(w *world) {
	for g := range uint8(e.cfg.Gateways) {
		gw := &w.gws[g]
		for v := gw.known + 1; v < w.nv; v++ {
			n := *w
			n.gws[g].known = v
			e.emit(n, "gateway %d learns of version %d", g, v)
		}
		if gw.stopped && gw.known == w.nv-1 && gw.known == gw.target && w.out(g) == 0 {
			c, _ := openCopy(e.at(w, gw.target))
			// A probe finds the copy open, and no extend that may have sealed it is under way.
			if p := &w.copies[c]; p.exists && !p.sealed && !(w.ext.active && steps[w.ext.step] == catalog.StepSeal) {
				n := *w
				n.gws[g].stopped = false
				e.emit(n, "gateway %d finds copy %d open again", g, c)
			}
		}
		e.expandWaiting(w, g)
		if w.crashes > 0 {
			n := *w
			n.crashes--
			n.crashGateway(g, e.cfg.Batches)
			e.emit(n, "gateway %d is killed and starts again", g)
		}
		if w.cuts > 0 && w.out(g) > 0 {
			for c := range w.created {
				if n := *w; n.cut(g, c) {
					n.cuts--
					e.emit(n, "gateway %d loses its connection to copy %d", g, c)
				}
			}
		}
	}
}

// expandWaiting does what a first batch on a span needs to ask for.
func (e *explorer) expandWaiting(w *world, g uint8) {
	gw := &w.gws[g]
	if gw.stopped || gw.known != gw.target {
		return
	}
	var first [maxProducers]bool
	for i := range w.fl {
		f := w.fl[i]
		if !f.used || f.gateway != g || first[f.prod] {
			continue
		}
		first[f.prod] = true
		if f.state != waiting || gw.placed&(1<<f.prod) != 0 {
			continue
		}
		c, _ := openCopy(e.at(w, gw.target))
		switch r, offset := e.judge(w, gw.target, &f); r {
		case chain.RuleDuplicate:
			n := *w
			e.ok(&n, i, offset)
			e.emit(n, "gateway %d answers p%d/%d from the sealed state: %d", g, f.prod, f.seq, offset)
		case chain.RuleMissing:
			p := &w.copies[c]
			switch n := *w; {
			case holdsProducer(p, f.prod):
				n.gws[g].placed |= 1 << f.prod
				e.emit(n, "gateway %d learns that copy %d knows p%d", g, c, f.prod)
			case gw.known == w.nv-1 || e.cfg.Bug == JudgeByPast:
				e.outOfOrder(&n, i)
				e.emit(n, "gateway %d refuses p%d/%d", g, f.prod, f.seq)
			}
			// Otherwise proving finds the newer version: "learns of version".
		}
	}
}

func holdsProducer(p *physical, prod uint8) bool {
	for _, r := range p.log[:p.n] {
		if r.producer() == prod {
			return true
		}
	}
	return false
}

func (w *world) crashGateway(g uint8, batches int) {
	for i := len(w.fl) - 1; i >= 0; i-- {
		f := w.fl[i]
		if !f.used || f.gateway != g {
			continue
		}
		if f.state == sent {
			w.linger(orphan{kind: lateAppend, copy: f.copy, rec: recordOf(f.prod, f.seq)})
		}
		w.remove(i)
	}
	for p := range w.cls {
		if c := &w.cls[p]; c.via == g {
			c.next = c.base(uint8(batches))
		}
	}
	// It registers, then loads linearizably.
	w.gws[g] = gateway{up: true, known: w.nv - 1, target: w.nv - 1}
}

// cut ends a connection: what was on it may still land, and the gateway sends it
// again in order, since the copy tells duplicates.
func (w *world) cut(g, c uint8) (any bool) {
	for i := range w.fl {
		f := &w.fl[i]
		if !f.used || f.gateway != g || f.copy != c || f.state != sent && f.state != landed {
			continue
		}
		if f.state == sent {
			w.linger(orphan{kind: lateAppend, copy: c, rec: recordOf(f.prod, f.seq)})
		}
		f.state, f.copy, f.pos = waiting, 0, 0
		any = true
	}
	return any
}

// stateOf is what a copy's log of n records remembers of its producers.
func stateOf(p *physical, n uint8) []span.Producer {
	var out []span.Producer
	for i, r := range p.log[:n] {
		id := int64(r.producer()) + 1
		var st *span.Producer
		for j := range out {
			if out[j].ID == id {
				st = &out[j]
			}
		}
		if st == nil {
			out = append(out, span.Producer{ID: id, TxnStart: -1})
			st = &out[len(out)-1]
		}
		st.LastSequence, st.LastOffset = int32(r.seq()), int64(i)
		st.Batches = append(st.Batches, span.ProducedBatch{FirstSequence: int32(r.seq()), LastSequence: int32(r.seq()), FirstOffset: int64(i), LastOffset: int64(i)})
	}
	return out
}

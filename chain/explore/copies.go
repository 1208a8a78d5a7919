package explore

import "github.com/braidstream/braid/chain"

// arrival is what a leader makes of a batch, as a broker does.
type arrival uint8

const (
	appended arrival = iota
	duplicate
	isSealed
	refusedSequence
	isGone
	isFull
)

var arrivals = [...]string{"appended", "duplicate", "sealed", "out of order", "gone", "full"}

func (w *world) arrive(c uint8, r record) (arrival, uint8) { return w.copies[c].arrive(r) }

func (p *physical) arrive(r record) (arrival, uint8) {
	if !p.exists {
		return isGone, 0
	}
	if p.sealed {
		return isSealed, 0
	}
	last := int(-1)
	for i, old := range p.log[:p.n] {
		if old.producer() != r.producer() {
			continue
		}
		if old == r {
			return duplicate, uint8(i)
		}
		last = int(old.seq())
	}
	if last >= 0 && int(r.seq()) != last+1 {
		return refusedSequence, 0
	}
	if int(p.n) == len(p.log) {
		return isFull, 0
	}
	p.log[p.n] = r
	p.n++
	return appended, p.n - 1
}

// expandCopies lets requests arrive, records be committed and answers come back.
func (e *explorer) expandCopies(w *world) {
	for c := range w.created {
		if p := &w.copies[c]; p.hw < p.n {
			n := *w
			n.copies[c].hw++
			e.emit(n, "copy %d commits %s at %d", c, p.log[p.hw], p.hw)
		}
	}
	var arrived, answered [maxGateways][maxCopies]bool // per connection
	for i := range w.fl {
		f := w.fl[i]
		if !f.used || f.state == waiting {
			continue
		}
		if f.state == sent {
			if !arrived[f.gateway][f.copy] {
				arrived[f.gateway][f.copy] = true
				e.arriveFlight(*w, i)
			}
			answered[f.gateway][f.copy] = true // answers come in order
			continue
		}
		if !answered[f.gateway][f.copy] {
			answered[f.gateway][f.copy] = true
			e.answerFlight(*w, i)
		}
	}
	for i, o := range w.orphans {
		if o.kind == noOrphan {
			continue
		}
		n := *w
		copy(n.orphans[i:], n.orphans[i+1:])
		n.orphans[len(n.orphans)-1] = orphan{}
		p := &n.copies[o.copy]
		switch o.kind {
		case lateAppend:
			if a, _ := n.arrive(o.copy, o.rec); a != appended {
				continue // nothing comes of it
			}
			e.emit(n, "a late %s lands in copy %d", o.rec, o.copy)
		case lateSeal:
			p.sealed = true
			e.emit(n, "a late seal reaches copy %d", o.copy)
		case lateUnseal:
			p.sealed = false
			e.emit(n, "a late unseal reaches copy %d", o.copy)
		case lateDrop:
			p.exists = false
			e.emit(n, "a late delete reaches copy %d", o.copy)
		}
	}
}

func (e *explorer) arriveFlight(n world, i int) {
	f := &n.fl[i]
	g, r := f.gateway, recordOf(f.prod, f.seq)
	a, pos := n.arrive(f.copy, r)
	c := f.copy
	switch a {
	case isFull:
		return
	case appended, duplicate:
		f.state, f.pos = landed, pos
	case isSealed, isGone:
		f.state = refused
	case refusedSequence:
		// The copy knows the producer; what it does not know may be older than it.
		if gw := &n.gws[g]; c == e.copyAt(&n, gw.target) {
			gw.placed |= 1 << f.prod
		}
		if ru, offset := e.judge(&n, n.gws[g].target, f); ru == chain.RuleDuplicate {
			e.ok(&n, i, offset)
		} else {
			e.outOfOrder(&n, i)
		}
	}
	e.emit(n, "gateway %d's %s arrives at copy %d: %s", g, r, c,
		arrivals[a])
}

func (e *explorer) copyAt(w *world, v uint8) uint8 {
	c, _ := openCopy(e.at(w, v))
	return c
}

func (e *explorer) answerFlight(n world, i int) {
	f := &n.fl[i]
	gw := &n.gws[f.gateway]
	g, r, c, pos := f.gateway, recordOf(f.prod, f.seq), f.copy, f.pos
	if f.state == refused {
		if c == e.copyAt(&n, gw.target) {
			gw.stopped = true
		}
		f.state, f.copy = waiting, 0
		e.emit(n, "gateway %d holds %s", g, r)
		return
	}
	if pos >= n.copies[c].hw {
		return
	}
	offset := e.startOf(&n, c) + int64(pos)
	if end := e.endOf(&n, gw.known, c); end >= 0 && offset >= end {
		// Past the end that this gateway knows: not in the chain.
		f.state, f.copy, f.pos = waiting, 0, 0
		e.emit(n, "gateway %d holds %s, which landed past the end", g, r)
		return
	}
	if c == e.copyAt(&n, gw.target) {
		gw.placed |= 1 << f.prod
	}
	e.ok(&n, i, offset)
	e.emit(n, "%s is acknowledged at %d by gateway %d", r, offset, g)
}

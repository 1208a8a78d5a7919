package explore

import (
	"errors"
	"time"

	"github.com/braidstream/braid/chain"
)

func (e *explorer) expandControllers(w *world) {
	if !w.ext.active && w.moves > 0 && w.nv < maxVersions {
		n := *w
		n.moves--
		n.ext = extending{active: true, rev: w.ext.rev + 1}
		e.emit(n, "an extend begins")
	}
	if w.ext.active && w.cancels > 0 && !w.ext.cancel {
		n := *w
		n.cancels--
		n.ext.cancel = true
		e.emit(n, "the extend is to be cancelled")
	}
	for i := range uint8(controllers) {
		c := &w.ctl[i]
		if w.takeovers > 0 && w.leader != i {
			n := *w
			n.takeovers--
			n.leader = i
			e.emit(n, "controller %d takes over", i)
		}
		if w.crashes > 0 && c.on {
			for _, o := range e.remains(c, w) {
				n := *w
				n.crashes--
				n.ctl[i] = controller{up: true}
				if o.kind != noOrphan {
					n.linger(o)
				}
				e.emit(n, "controller %d is killed and starts again", i)
			}
		}
		switch {
		case !c.on:
			if w.ext.active && w.leader == i {
				n := *w
				n.ctl[i] = controller{up: true, on: true, step: w.ext.step, fresh: w.ext.fresh, rev: w.ext.rev, ver: w.nv - 1, turned: w.ext.turned}
				e.emit(n, "controller %d takes the extend up", i)
			}
		case c.pend != noPending:
			e.expandPending(w, i)
		default:
			e.decide(w, i)
		}
	}
}

// remains are what may be left of a crashed controller's request: nothing, or
// something that lands later.
func (e *explorer) remains(c *controller, w *world) []orphan {
	out := []orphan{{}}
	if c.landed {
		return out
	}
	old := e.copyAt(w, c.ver)
	switch c.pend {
	case pendSeal:
		out = append(out, orphan{kind: lateSeal, copy: old})
	case pendUnseal:
		if e.cfg.Bug == LateUnseal {
			out = append(out, orphan{kind: lateUnseal, copy: old})
		}
	case pendDrop:
		if c.fresh != 0 {
			out = append(out, orphan{kind: lateDrop, copy: c.fresh})
		}
	}
	return out
}

// expandPending lets a request to a copy land, and be answered.
func (e *explorer) expandPending(w *world, i uint8) {
	c := &w.ctl[i]
	old := e.copyAt(w, c.ver)
	n := *w
	m := &n.ctl[i]
	if !c.landed {
		if c.pend == pendUnseal && e.cfg.Bug != LateUnseal && !n.write(i) {
			e.emit(n, "controller %d lets go of an unseal", i)
			return
		}
		m.landed = true
		switch c.pend {
		case pendCreate:
			if n.created == maxCopies {
				return
			}
			at := n.created
			n.created++
			n.copies[at].exists = true
			if e.cfg.Bug == ReusePhysical {
				n.copies[at] = n.copies[0]
				n.copies[at].sealed = false
			}
			m.fresh = at
		case pendSeal:
			n.copies[old].sealed = true
		case pendUnseal:
			n.copies[old].sealed = false
		case pendDrop:
			if c.fresh != 0 {
				n.copies[c.fresh].exists = false
			}
		}
		e.emit(n, "controller %d's request lands: %s", i, pendNames[c.pend])
		return
	}
	m.pend, m.landed = noPending, false
	switch c.pend {
	case pendCreate:
		// The id is recorded in the catalog, if it is still the leader's to record.
		if !n.write(i) {
			break
		}
		n.ext.fresh, n.ext.rev = c.fresh, n.ext.rev+1
		m.rev = n.ext.rev
	case pendSeal:
		p := &n.copies[old]
		switch {
		case e.cfg.Bug == EndAtHighWatermark:
			m.end = p.hw
		case !p.sealed || p.hw < p.n:
			return // the probe fails, or the log is not committed up to its end yet
		default:
			m.end = p.n
		}
		m.sealed = true
	case pendUnseal:
		m.undone |= 1
	case pendDrop:
		m.undone |= 2
	}
	e.emit(n, "controller %d is answered: %s", i, pendNames[c.pend])
}

var pendNames = [...]string{"", "create", "seal", "unseal", "drop"}

// write tells whether the catalog takes a write of controller i; if not the
// controller lets go of the extend.
func (w *world) write(i uint8) bool {
	c := &w.ctl[i]
	if w.leader == i && w.ext.active && w.ext.rev == c.rev {
		return true
	}
	*c = controller{up: true}
	return false
}

func (e *explorer) decide(w *world, i uint8) {
	c := &w.ctl[i]
	v := e.at(w, c.ver)
	q := Question{Step: steps[c.step], Created: c.fresh != 0, Left: 1, Cancel: w.ext.cancel, Settled: true, Sealed: c.sealed,
		Unsealed: c.undone&1 != 0, Dropped: c.undone&2 != 0, Turned: c.turned, PartitionsNow: 1}
	if c.fresh != 0 && chain.Extended(&v.chain, copyName(c.fresh).TopicID) {
		q.Moved, q.Left = 1, 0
	}
	a := e.cfg.Decide(q)
	n := *w
	m := &n.ctl[i]
	switch a.Do {
	case "create":
		m.pend = pendCreate
	case "record":
		if n.write(i) {
			n.ext.step, n.ext.rev = stepIndex(a.Step), n.ext.rev+1
			m.step, m.rev = n.ext.step, n.ext.rev
		}
	case "turn":
		if n.write(i) {
			n.ext.fresh, n.ext.turned, n.ext.rev = 0, true, n.ext.rev+1
			m.fresh, m.turned, m.rev = 0, true, n.ext.rev
		}
	case "seal":
		m.pend = pendSeal
		if e.cfg.Bug == StateBeforeSeal {
			m.state = w.copies[e.copyAt(w, c.ver)].n + 1
		}
	case "unseal":
		m.pend = pendUnseal
	case "drop":
		m.pend = pendDrop
	case "forget":
		if n.write(i) {
			n.ext = extending{rev: n.ext.rev + 1}
			*m = controller{up: true}
		}
	case "done", "settle":
		*m = controller{up: true}
	case "commit":
		e.commit(w, i)
		return
	default:
		e.wrong("the controller wants to %q", a.Do)
		return
	}
	e.emit(n, "controller %d: %s %s", i, a.Do, a.Step)
}

// commit reads the producers' state, then ends the span and opens the next.
func (e *explorer) commit(w *world, i uint8) {
	c := &w.ctl[i]
	old := e.copyAt(w, c.ver)
	n := *w
	m := &n.ctl[i]
	if c.state == 0 {
		m.state = w.copies[old].n + 1
		if e.cfg.Bug == EndAtHighWatermark {
			m.state = c.end + 1 // folded from the records below that end
		}
		e.emit(n, "controller %d reads the producers' state", i)
		return
	}
	fenced := e.cfg.Bug != UnfencedCommit
	if fenced && (!n.write(i) || c.ver != n.nv-1) {
		*m = controller{up: true}
		e.emit(n, "controller %d: the commit is refused", i)
		return
	}
	if n.nv == maxVersions {
		return
	}
	v := e.at(w, c.ver)
	open := chain.OpenSpan(&v.chain)
	end := open.Start + int64(c.end)
	state, err := chain.MergeProducers(v.state, stateOf(&w.copies[old], c.state-1),
		chain.Merge{Copy: &open.Copies[0], End: end, Now: time.UnixMilli(0)})
	if errors.Is(err, chain.ErrPastEnd) {
		m.state = 0
		e.emit(n, "controller %d: the state goes past the end, it is read again", i)
		return
	}
	if err != nil {
		e.wrong("merge: %v", err)
		return
	}
	next, err := chain.Extend(&v.chain, chain.Extension{End: end, MaxTimestamp: -1, To: copyName(c.fresh), At: time.Time{}})
	if err != nil {
		e.wrong("extend: %v", err)
		return
	}
	if err := chain.Follows(&e.at(w, n.nv-1).chain, &next); err != nil {
		e.wrong("the committed chain does not follow the one before: %v", err)
		return
	}
	n.versions[n.nv] = e.number(version{next, state})
	n.nv++
	n.ext = extending{rev: n.ext.rev + 1}
	*m = controller{up: true}
	e.emit(n, "controller %d commits: span ends at %d, next on copy %d", i, end, c.fresh)
}

// expand emits all events that can happen next.
func (e *explorer) expand(w *world) {
	e.expandClients(w)
	e.expandGateways(w)
	e.expandCopies(w)
	e.expandControllers(w)
}

// check holds the state against the invariants.
func (e *explorer) check(w *world) {
	if e.bad != "" {
		return
	}
	v := e.at(w, w.nv-1)
	var next [maxProducers]uint8
	var at [maxOffsets]record
	for i := range v.chain.Spans {
		s := &v.chain.Spans[i]
		p := &w.copies[copyOf(s)]
		n := int64(p.n)
		if !s.IsOpen() {
			if n = s.End - s.Start; n > int64(p.n) {
				e.wrong("span %d ends at %d, its copy has %d records", s.Seq, s.End, p.n)
				return
			}
		} else if !p.exists {
			e.wrong("the open span's copy is gone")
			return
		}
		for pos := range n {
			r := p.log[pos]
			at[s.Start+pos] = r
			if r.seq() != next[r.producer()] {
				e.wrong("%s at %d, when sequence %d of its producer is due", name(r), s.Start+pos, next[r.producer()])
				return
			}
			next[r.producer()]++
		}
	}
	for p := range w.cls {
		for seq, offset := range w.cls[p].acked {
			if offset >= 0 && at[offset] != recordOf(uint8(p), uint8(seq)) {
				e.wrong("p%d/%d was acknowledged at %d, where there is %s", p, seq, offset, name(at[offset]))
			}
		}
	}
	for i, r := range w.served {
		if r != 0 && at[i] != r {
			e.wrong("%s was served at %d, where there is %s", name(r), i, name(at[i]))
		}
	}
}

package explore

import (
	"errors"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// StandardAwait decides on a fence as it is designed (DESIGN section 4). The
// controller's own tests hand in its real decision.
func StandardAwait(first, gateways []catalog.Gateway, words []catalog.HoldAck, revoked []catalog.Revoked, _ time.Duration, revoke bool,
	gone func(int64) time.Duration) (string, []catalog.Gateway) {
	silent := slices.DeleteFunc(slices.Clone(gateways), func(g catalog.Gateway) bool {
		late := revoke && !slices.ContainsFunc(first, func(w catalog.Gateway) bool { return w.Lease == g.Lease })
		return late || slices.ContainsFunc(words, func(w catalog.HoldAck) bool { return w.Node == g.Node })
	})
	switch {
	case len(silent) > 0 && revoke:
		return "revoke", silent
	case !revoke:
		return "holds", silent
	}
	for _, x := range revoked {
		held := slices.ContainsFunc(gateways, func(g catalog.Gateway) bool { return g.Lease == x.Lease })
		if !held && gone(x.Lease) < catalog.FenceWait(x.TTL) {
			return "wait", nil
		}
	}
	return "holds", nil
}

func leaseOf(g, gen uint8) int64 { return int64(g)<<8 | int64(gen) }

func (e *loser) controller(w *loss) {
	if w.phase == beforeExtend && e.cfg.Hangs && !w.hung {
		n := *w
		n.hung = true
		e.emit(n, "the cluster hangs")
	}
	if w.phase == beforeExtend && w.hung == e.cfg.Hangs {
		n := *w
		n.phase = fencing
		e.emit(n, "an extend begins")
	}
	if w.phase <= fencing {
		e.ticks(w)
	}
	if w.phase == fencing {
		if w.takeovers > 0 && !e.cfg.Hangs {
			n := *w
			n.takeovers--
			n.ctl = loss{}.ctl
			for g := range n.gws {
				n.gws[g].gone = 0
			}
			e.emit(n, "another controller takes over")
		}
		switch {
		case !w.ctl.holds:
			e.await(w)
		case e.cfg.Hangs:
			e.cut(w)
		default:
			e.end(w)
		}
	}
	if w.others > 0 && w.phase <= fencing {
		for g := range uint8(e.cfg.Gateways) {
			if h := &w.gws[g]; h.registered && !h.revoked {
				n := *w
				n.others--
				n.gws[g].taken()
				e.emit(n, "another topic's extend takes gateway %d's lease", g)
			}
		}
	}
	if e.cfg.Hangs && w.phase >= committed {
		e.comesBack(w)
		e.retain(w)
	}
}

func (h *host) taken() { h.registered, h.revoked, h.gone, h.taking = false, true, 0, h.gen }

// ticks lets time pass, where somebody's lease runs out or is waited for. A clock
// may be a tick behind, or ahead, over the time of a lease.
func (e *loser) ticks(w *loss) {
	slow := uint8(1<<e.cfg.Gateways - 1)
	any := false
	n := *w
	for g := range uint8(e.cfg.Gateways) {
		h := &n.gws[g]
		if h.deaf || !h.registered {
			any = any || h.left > 0 || h.registered
			h.left -= min(h.left, 1)
			if h.expiry -= min(h.expiry, 1); h.expiry == 0 {
				h.registered = false
			}
		}
		if h.gone > 0 && h.gone <= waiterTicks {
			h.gone++
			any = true
		}
	}
	if !any {
		return
	}
	e.emit(n, "a tick")
	if w.skews == 0 {
		return
	}
	n.skews--
	for g := range uint8(e.cfg.Gateways) {
		if slow&(1<<g) != 0 && n.gws[g].left < w.gws[g].left {
			m := n
			m.gws[g].left = w.gws[g].left
			e.emit(m, "a tick that gateway %d's clock does not count", g)
		}
	}
	for g := range n.gws {
		if h := &n.gws[g]; h.gone > 0 && h.gone <= waiterTicks {
			h.gone++
		}
	}
	e.emit(n, "a tick that the controller's clock counts twice")
}

// await looks at who has stopped, when patience is over.
func (e *loser) await(w *loss) {
	var first, gateways []catalog.Gateway
	var words []catalog.HoldAck
	var revoked []catalog.Revoked
	n := *w
	noted := false
	if !w.ctl.looked && !e.cfg.Hangs {
		n.ctl.looked = true
		for g := range n.gws {
			if h := &n.gws[g]; h.registered {
				n.ctl.first[g] = h.gen + 1
			}
		}
		e.emit(n, "the controller looks for the first time")
		return
	}
	for g, gen := range w.ctl.first {
		if gen > 0 {
			first = append(first, catalog.Gateway{Node: int32(g), Lease: leaseOf(uint8(g), gen-1)})
		}
	}
	for g := range uint8(e.cfg.Gateways) {
		h := &n.gws[g]
		if h.registered {
			gateways = append(gateways, catalog.Gateway{Node: int32(g), Lease: leaseOf(g, h.gen)})
		}
		if h.word {
			words = append(words, catalog.HoldAck{Node: int32(g)})
		}
		if h.revoked {
			revoked = append(revoked, catalog.Revoked{Node: int32(g), Lease: leaseOf(g, h.taking), TTL: leaseTTL})
			if gone := !h.registered || h.gen != h.taking; gone && h.gone == 0 {
				h.gone, noted = 1, true
			}
		}
	}
	if e.cfg.Hangs && len(words) < len(gateways) {
		return // what is given up where a gateway gives no word is not walked here
	}
	if e.cfg.Bug == AbsentIsStopped {
		revoked = nil
	}
	do, silent := e.cfg.Await(first, gateways, words, revoked, leaseTTL, !e.cfg.Hangs, func(lease int64) time.Duration {
		if e.cfg.Bug == NoLeaseWait {
			return catalog.FenceWait(leaseTTL)
		}
		return time.Duration(max(n.gws[lease>>8].gone, 1) - 1)
	})
	switch do {
	case "wait":
		if noted {
			e.emit(n, "the controller finds a lease taken")
		}
	case "revoke":
		for _, s := range silent {
			if h := &n.gws[s.Node]; h.revoked {
				return // one record for each gateway is enough
			}
			n.gws[s.Node].taken()
		}
		e.emit(n, "the controller takes the leases of %d silent gateways", len(silent))
	case "holds":
		n.ctl.holds = true
		for g := range n.gws {
			if h := &n.gws[g]; h.revoked && h.gone > waiterTicks {
				h.revoked, h.gone, h.taking = false, 0, 0
			}
		}
		e.emit(n, "the fence holds")
	default:
		e.wrong("the controller wants to %q", do)
	}
}

// end reads where a fenced copy ends, then its producers' state, and commits.
func (e *loser) end(w *loss) {
	p := &w.copies[0]
	n := *w
	switch {
	case !w.ctl.ended:
		if p.hw == p.n {
			n.ctl.ended, n.ctl.end = true, p.n
			e.emit(n, "the controller reads the end: %d", p.n)
		}
		return
	case !w.ctl.told:
		n.ctl.told, n.ctl.state = true, p.n
		e.emit(n, "the controller reads the producers' state")
		return
	}
	v := e.version(w, 0)
	open := chain.OpenSpan(&v.chain)
	end := int64(w.ctl.end)
	read := w.ctl.state
	if e.cfg.Bug == StaleEnd {
		// What would follow of calling it a duplicate.
		end = min(end, int64(read))
	}
	state, err := chain.MergeProducers(v.state, stateOf(p, read), chain.Merge{Copy: &open.Copies[0], End: max(end, pastEnd(e.cfg.Bug)), Now: time.UnixMilli(0)})
	if errors.Is(err, chain.ErrPastEnd) {
		n.ctl.ended, n.ctl.told, n.ctl.end, n.ctl.state = false, false, 0, 0
		e.emit(n, "the state goes past the end: both are read again")
		return
	}
	if err != nil {
		e.wrong("merge: %v", err)
		return
	}
	e.commit(n, chain.Extension{End: end, MaxTimestamp: -1, To: copyName(1)}, state)
}

// pastEnd is how far the planted bug believes the state.
func pastEnd(b Bug) int64 {
	if b == StaleEnd {
		return maxLog
	}
	return 0
}

// cut ends a span whose copy is gone.
func (e *loser) cut(w *loss) {
	var words []catalog.HoldAck
	for g := range uint8(e.cfg.Gateways) {
		if w.gws[g].word {
			words = append(words, e.wordOf(w, g))
		}
	}
	v := e.version(w, 0)
	open := chain.OpenSpan(&v.chain)
	cut := chain.CutAt(open, 0, words)
	var fresh []span.Producer
	if e.cfg.Bug != ForgetKnown {
		fresh = cut.Producers(&open.Copies[0], 0)
	}
	state, err := chain.MergeProducers(v.state, fresh, chain.Merge{Copy: &open.Copies[0], End: cut.End, Now: time.UnixMilli(0), Lossy: true})
	if err != nil {
		e.wrong("merge: %v", err)
		return
	}
	e.commit(*w, chain.Extension{End: cut.End, MaxTimestamp: -1, To: copyName(1), Lossy: true, Room: losingRoom, Unreadable: true, Skip: cut.Skip}, state)
}

func (e *loser) commit(n loss, x chain.Extension, state []chain.ProducerState) {
	next, err := chain.Extend(&e.version(&n, 0).chain, x)
	if err != nil {
		e.wrong("extend: %v", err)
		return
	}
	e.add(&n, version{next, state})
	n.phase = committed
	n.ctl = loss{}.ctl
	e.emit(n, "the controller commits: the span ends at %d and leaves out %v", x.End, x.Skip)
}

// retain lets retention look at the chain while the cluster is away: nothing is too old, but
// spans below the start go. A return finds nothing to take in of one that is gone.
func (e *loser) retain(w *loss) {
	if w.phase == returned {
		return
	}
	v := e.newest(w)
	out, dropped := chain.Trim(&v.chain, v.chain.Start)
	if sp := lostSpan(&v.chain); e.cfg.Bug == RetainByEnd && sp.End <= v.chain.Start {
		out.Spans, dropped = v.chain.Spans[1:], v.chain.Spans[:1]
	}
	if len(dropped) == 0 {
		return
	}
	n := *w
	e.add(&n, version{out, v.state})
	n.phase = returned
	e.emit(n, "retention drops the span that ends at %d", dropped[0].End)
}

// lostSpan is the span that was cut off.
func lostSpan(c *catalog.Chain) *catalog.Span { return &c.Spans[0] }

// comesBack takes what a cluster holds that came back.
func (e *loser) comesBack(w *loss) {
	n := *w
	v := e.newest(w)
	sp := lostSpan(&v.chain)
	c := &sp.Copies[0]
	old := &w.copies[0]
	zones := chain.Stranded(sp, c, int64(old.n))
	stranded := func(do func(r record)) {
		for _, z := range zones {
			for o := z.From; o < z.To; o++ {
				do(old.log[o-sp.Start])
			}
		}
	}
	switch w.phase {
	case committed:
		n.phase, n.hung = sealedAgain, false
		n.copies[0].sealed = true
		n.copies[0].hw = n.copies[0].n
		for i := range n.orphans {
			if n.orphans[i].copy == 0 {
				n.orphans[i] = orphan{} // the seal refuses it
			}
		}
		e.emit(n, "the cluster is back, and is sealed at %d", old.n)
	case sealedAgain:
		soon := false
		fresh := &w.copies[1]
		stranded(func(r record) {
			p := r.producer()
			if n.again[p] >= 0 {
				return
			}
			for _, x := range fresh.log[:fresh.n] {
				if x.producer() == p {
					n.again[p] = int8(x.seq())
					return
				}
			}
			soon = soon || !w.over(p, uint8(e.cfg.Batches))
		})
		if soon && e.cfg.Bug != HastyReturn {
			return
		}
		if e.cfg.Bug == NoJudging {
			n.again = [maxProducers]int8{-1, -1}
		}
		n.phase = judged
		e.emit(n, "the controller judges: went on from %v", n.again)
	case judged:
		again := chain.Again{}
		for p, first := range w.again {
			if first >= 0 {
				again[int64(p)] = chain.WentOn{First: int32(first)}
			}
		}
		next := catalog.Chain{NextSeq: v.chain.NextSeq, Start: v.chain.Start, Spans: slices.Clone(v.chain.Spans)}
		next.Spans[0].Copies = slices.Clone(next.Spans[0].Copies)
		l := &next.Spans[0]
		l.Copies[0].Unreadable = false
		if !e.inPlace(sp) {
			if e.replay(w, stranded, again) {
				return
			}
		} else {
			l.End = max(sp.End, int64(old.n))
			l.Copies[0].Skip = nil
			for _, z := range zones {
				for o := z.From; o < z.To; o++ {
					r := old.log[o-sp.Start]
					if e.cfg.Bug == SkipAll || again.Has(int64(r.producer()), 0, int32(r.seq())) {
						l.Copies[0].Skip, _ = chain.LeaveOut(l.Copies[0].Skip, o, o+1)
					}
				}
			}
		}
		if err := chain.Validate(&next); err != nil {
			e.wrong("the chain of a return: %v", err)
			return
		}
		e.add(&n, version{next, v.state})
		n.phase = returned
		e.emit(n, "the return ends: the span ends at %d and leaves out %v", l.End, l.Copies[0].Skip)
	}
}

// inPlace tells how what is stranded is taken in. Without a cut nobody knows what
// was served.
func (e *loser) inPlace(sp *catalog.Span) bool { return e.cfg.InPlace || sp.End == sp.Start }

// replay appends the next stranded record anew, if there is one.
func (e *loser) replay(w *loss, stranded func(func(record)), again chain.Again) (more bool) {
	fresh := &w.copies[1]
	had := 0 // as the fresh copy knows of the return's own producer
	for _, r := range fresh.log[:fresh.n] {
		if r&replayed != 0 {
			had++
		}
	}
	stranded(func(r record) {
		if more || again.Has(int64(r.producer()), 0, int32(r.seq())) {
			return
		}
		if had--; had >= 0 {
			return
		}
		more = true
		if n := *w; int(fresh.n) < len(fresh.log) {
			n.copies[1].log[fresh.n] = r | replayed
			n.copies[1].n++
			e.emit(n, "the return appends %s anew", r)
		}
	})
	return more
}

// over tells whether a producer has all its answers, or has ended, with nothing of
// it on its way any more: what a return waits for at most.
func (w *loss) over(p, batches uint8) bool {
	for i := range w.fl {
		if w.fl[i].used && w.fl[i].prod == p {
			return false
		}
	}
	for _, o := range w.orphans {
		if o.kind != noOrphan && o.rec.producer() == p {
			return false
		}
	}
	return w.left&(1<<p) != 0 || w.cls[p].base(batches) == batches
}

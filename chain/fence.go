package chain

import (
	"context"
	"time"

	"github.com/braidstream/braid/catalog"
)

// fenceTarget stops a target because the controller asked for it. Needs mu.
func (p *Partition) fenceTarget(t *target, e *catalog.Extend) {
	if t.fencedBy == e.Op {
		return
	}
	// A copy that is gone answers nothing more that could be passed on.
	t.fencedBy, t.gone = e.Op, e.Unreadable
	p.halt(t, stopFenced)
}

// heedFence stops the partition for an extend's fence, and tells whether it is
// still, with the first offset past what it acknowledged or served (-1: nothing)
// and, where the copy is gone, at most limit batches of an account.
func (p *Partition) heedFence(e *catalog.Extend, limit int) (still bool, next int64, a *catalog.Account) {
	p.mu.Lock()
	defer p.unlock()
	if p.dead != nil {
		return true, -1, nil
	}
	v := p.view.Load()
	if s := OpenSpan(v.chain); s != nil && fences(e, s.Copies[0].TopicID) {
		p.mute = s.Seq
	}
	t := p.cur
	if t == nil {
		if e.Unreadable {
			a = p.account(nil, limit)
		}
		return true, p.hw, a
	}
	if t.end < 0 && fences(e, t.copy.TopicID) {
		p.fenceTarget(t, e)
	}
	if t.fencedBy == e.Op && t.flying.n > 0 {
		return false, -1, nil
	}
	if e.Unreadable {
		a = p.account(t, limit)
	}
	return true, max(p.hw, t.acks.next), a
}

// holds tells whether the session of a lease stands still.
func (l *Logs) holds(lease int64) bool { return l.alive() && l.lease() == lease }

// mayServe tells whether what the copy, which cannot be sealed, has answered to a
// reader's question sent under a lease may be passed on. A session that is new has
// loaded the fences before it began, though they may not have been heeded yet.
func (p *Partition) mayServe(lease int64, c *catalog.Copy) bool {
	// In this order: where no extend is seen any more, its commit is.
	return p.l.holds(lease) && !fences(p.l.source.Extend(p.topic), c.TopicID) && !p.behind()
}

// accountBatches bounds the batches that one acknowledgement lists: it is one
// value in the catalog.
const accountBatches = 8192

// watchFences stops partitions for fences and acknowledges that to the
// controller, for each topic when all its partitions here are still.
func (l *Logs) watchFences(ctx context.Context) {
	type asking struct {
		op   string
		gone bool
	}
	acked := map[catalog.ID]asking{}
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.fencePoke:
		case <-retry:
		}
		retry = nil
		asked := l.source.Fences()
		wanted := make(map[catalog.ID]struct{}, len(asked))
		for _, id := range asked {
			wanted[id] = struct{}{}
			e := l.source.Extend(id)
			if !asksToStop(e) || e.Step != catalog.StepSeal || acked[id] == (asking{e.Op, e.Unreadable}) {
				continue
			}
			ack := catalog.HoldAck{Node: l.node, At: time.Now().UTC()}
			if !l.stillFor(e, &ack) {
				continue // the last append that returns pokes again
			}
			if err := l.source.HoldAck(ctx, id, e.Op, ack); err != nil {
				l.log.Warn("a fence was not acknowledged", "topic", id, "op", e.Op, "err", err)
				retry = time.After(100 * time.Millisecond)
				continue
			}
			acked[id] = asking{e.Op, e.Unreadable}
		}
		for id := range acked {
			if _, ok := wanted[id]; !ok {
				delete(acked, id)
			}
		}
	}
}

// stillFor stops all partitions of the fenced topic and fills in the
// acknowledgement; false while appends are under way.
//
// A partition that is opened here after this sees the same extend and begins
// stopped, since the source shows the extend before it is listed.
func (l *Logs) stillFor(e *catalog.Extend, ack *catalog.HoldAck) bool {
	still := true
	ps := l.partitionsOf(e.Topic.ID)
	limit := min(ackedTail, accountBatches/max(len(ps), 1))
	for _, p := range ps {
		ok, next, a := p.heedFence(e, limit)
		still = still && ok
		if a != nil {
			ack.Accounts = append(ack.Accounts, *a)
		}
		if int(p.index) >= len(ack.Next) {
			grown := make([]int64, p.index+1)
			for i := range grown {
				grown[i] = -1
			}
			copy(grown, ack.Next)
			ack.Next = grown
		}
		ack.Next[p.index] = next
	}
	return still
}

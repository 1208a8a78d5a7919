package coordinator

import (
	"context"
	"fmt"
	"slices"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// A slot is a transactional id of ours on one cluster. One that was used is made
// ready for its next transaction (InitProducerId, where the commit did not) as soon as the log has it that the
// former one is complete and its markers are written, and not only when a producer waits for it. Not
// before: an owner that takes over may have to tell the cluster once more how the former one ends, by its
// producer and epoch.

// slots are those that this owner has begun on one cluster.
type slots struct {
	free  []int32
	ready []readySlot // the latest last
	next  int32
	used  int // by transactions
}

// readySlot is a slot that nobody has used since it got its producer and epoch.
type readySlot struct {
	slot     int32
	producer int64
	epoch    int16
	at       int64 // ms
}

// readyFor is how long a slot stays ready, ms. A cluster forgets ids that are not used,
// after days unless it was configured otherwise.
const readyFor = 60_000

// slotID is the transactional id of a slot. It belongs to one owner of one shard.
func slotID(fleet string, shard int32, term int64, slot int32) string {
	return fmt.Sprintf("__braid-%s-%d-%d-%d", fleet, shard, term, slot)
}

func (m *machine) slotsOn(cluster string) *slots {
	s := m.slots[cluster]
	if s == nil {
		s = &slots{}
		m.slots[cluster] = s
	}
	return s
}

// hasSlot tells whether the pool has room for one more.
func (m *machine) hasSlot(cluster string) bool { return m.slotsOn(cluster).used < m.config.PoolSize }

// takeReady gives a slot that is ready, if there is one and room in the pool.
func (m *machine) takeReady(cluster string) (r readySlot, ok bool) {
	s := m.slotsOn(cluster)
	if s.used >= m.config.PoolSize {
		return r, false
	}
	for len(s.ready) > 0 {
		if s.ready[0].at >= m.now-readyFor {
			break
		}
		s.free, s.ready = append(s.free, s.ready[0].slot), slices.Delete(s.ready, 0, 1)
	}
	n := len(s.ready)
	if n == 0 {
		return r, false
	}
	r, s.ready = s.ready[n-1], s.ready[:n-1]
	s.used++
	return r, true
}

// takeSlot gives a number that no other transaction of this term uses.
func (m *machine) takeSlot(cluster string) (int32, bool) {
	s := m.slotsOn(cluster)
	if s.used >= m.config.PoolSize {
		return 0, false
	}
	s.used++
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot, true
	}
	s.next++
	return s.next - 1, true
}

// giveSlot gives it back once the log has it that its transaction is complete, unless it belongs to an
// earlier term: those are not used again, as a former owner may still be at work on them.
func (m *machine) giveSlot(p *participant, next span.Transaction) {
	if p.term != m.term {
		return
	}
	was := *p
	m.afterwards(func() {
		if m.freed == nil {
			m.dropSlot(was.cluster, was.slot, true)
			return
		}
		m.reply(func() { m.freed(was, next) })
	})
}

// dropSlot frees a place in the pool. A slot that is stuck at its cluster is not used again.
func (m *machine) dropSlot(cluster string, slot int32, again bool) {
	s := m.slotsOn(cluster)
	s.used--
	if again {
		s.free = append(s.free, slot)
	}
}

// readied puts a slot that nobody uses at the disposal of the next transaction.
func (m *machine) readied(cluster string, r readySlot) {
	s := m.slotsOn(cluster)
	r.at = m.now
	s.ready = append(s.ready, r)
}

// readySlot makes a slot ready whose transaction is over: with next, or with what the cluster gives it.
func (c *Coordinator) readySlot(ctx context.Context, number int32, was *participant, next span.Transaction) {
	var err error
	if next.ID == "" {
		within, cancel := context.WithTimeout(ctx, participantPatience)
		defer cancel()
		if next.Producer, next.Epoch, err = c.participants.Begin(within, was.cluster, was.id); err != nil {
			c.logger.Debug("a transactional id on a cluster was not made ready for its next use", "cluster", was.cluster, "err", err)
		}
	}
	c.inTerm(number, was.term, func(m *machine) {
		m.dropSlot(was.cluster, was.slot, err != nil) // whoever takes it tries again
		if err == nil {
			m.readied(was.cluster, readySlot{slot: was.slot, producer: next.Producer, epoch: next.Epoch})
		}
	})
}

// inTerm gives a slot back, whatever the shard has to wait for. If the shard is lost its slots are not used again.
func (c *Coordinator) inTerm(number int32, term int64, fn func(m *machine)) {
	c.mu.RLock()
	s := c.shards[number]
	c.mu.RUnlock()
	if s != nil {
		s.inTerm(term, fn)
	}
}

// beginOn begins a transaction on a cluster where no slot is ready.
func (c *Coordinator) beginOn(ctx context.Context, e *Enlist) (enlistResult, wire.Code) {
	key := groupKey{e.Tenant, e.ID}
	unlock, code := c.locks.takePart(ctx, key, lockPart{cluster: e.At.Cluster}, true)
	if code != wire.None {
		return enlistResult{}, code
	}
	defer unlock()
	// Another partition of the transaction may have begun it meanwhile.
	since, held := c.participants.Held(&e.At)
	res, code := askFor(ctx, c, key, func(m *machine) (enlistResult, wire.Code) {
		res, code := m.enlist(e, since, held, nil)
		if code == wire.None && res.begin {
			var ok bool
			if res.slot, ok = m.takeSlot(e.At.Cluster); !ok {
				return enlistResult{}, wire.ConcurrentTransactions
			}
			res.term, res.shard = m.term, m.shard
		}
		return res, code
	}, enlistResult.promises)
	if code != wire.None || !res.begin {
		return res, code
	}
	p := participant{cluster: e.At.Cluster, term: res.term, slot: res.slot, id: slotID(c.fleet, res.shard, res.term, res.slot)}
	var err error
	p.producer, p.epoch, err = c.participants.Begin(ctx, e.At.Cluster, p.id)
	if err != nil {
		c.logger.Warn("no transaction can be begun on a cluster", "cluster", e.At.Cluster, "err", err)
		// What is stuck there is left alone for good.
		c.inTerm(res.shard, p.term, func(m *machine) { m.dropSlot(p.cluster, p.slot, false) })
		return enlistResult{}, wire.CoordinatorNotAvailable
	}
	// It took a while: the topic may be held by now.
	since, held = c.participants.Held(&e.At)
	unused := func(m *machine) {
		m.dropSlot(p.cluster, p.slot, false)
		m.readied(p.cluster, readySlot{slot: p.slot, producer: p.producer, epoch: p.epoch})
	}
	asked := false
	answer, code := ask(ctx, c, key, func(m *machine) (enlistResult, wire.Code) {
		asked = true // before ask returns, if at all
		res, code := m.enlist(e, since, held, &p)
		if t := m.txns[key]; m.term == p.term && (code != wire.None || t.participant(p.cluster).id != p.id) {
			// It is held, or another of its partitions has found a slot that was ready.
			unused(m)
		}
		return res, code
	})
	if !asked {
		// The shard's log is behind, or its lease is in doubt.
		c.inTerm(res.shard, p.term, unused)
	}
	return answer, code
}

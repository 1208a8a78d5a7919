package coordinator

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Settling carries out what was decided: it tells every participant, again and
// again until all know, and then has the machine complete the transaction. It
// may be done by two owners at once, and what a former owner said may come late: markers carry the term as
// the coordinator's epoch, so that a former owner's come to nothing, a transaction on a cluster
// can be ended only once, and a group is told which of the producer's transactions it is.

// settlers are the transactions that are being settled by this gateway.
type settlers struct {
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	busy   map[groupKey]chan struct{}
	// writing is closed, and forgotten, when something has changed of a former transaction of the id.
	writing map[groupKey]chan struct{}
	looks   chan struct{} // bounds those for lost markers
}

// run calls f in a goroutine that Close waits for; false when it is closed.
func (s *settlers) run(f func(ctx context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(func() { f(s.ctx) })
	return true
}

func (s *settlers) end() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
}

// settleTxn makes sure that a decision is carried out. done is closed when all
// parts are, or when this gateway has lost the transaction's shard. first is the decision, if the
// caller knows it to be in the log.
func (c *Coordinator) settleTxn(key groupKey, first *settling) (done <-chan struct{}) {
	s := &c.settlers
	s.mu.Lock()
	ch, busy := s.busy[key]
	if !busy {
		ch = make(chan struct{})
		s.busy[key] = ch
	}
	s.mu.Unlock()
	if busy {
		return ch
	}
	over := func() { s.over(key, ch) }
	if !s.run(func(ctx context.Context) {
		defer over()
		c.settleUntilDone(ctx, key, first, over)
	}) {
		over()
	}
	return ch
}

// over ends the settling that ch stands for. It may be called again.
func (s *settlers) over(key groupKey, ch chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[key] == ch {
		delete(s.busy, key)
		close(ch)
	}
}

// awaitSettled settles a transaction and waits for that, for a while.
func (c *Coordinator) awaitSettled(ctx context.Context, key groupKey, first *settling) {
	t := time.NewTimer(settlePatience)
	defer t.Stop()
	select {
	case <-c.settleTxn(key, first):
	case <-t.C:
	case <-ctx.Done():
	}
}

// settleUntilDone calls over in the event that completes the transaction: whatever is decided
// for the id after that is settled anew.
func (c *Coordinator) settleUntilDone(ctx context.Context, key groupKey, first *settling, over func()) {
	told := map[string]bool{}
	ends := map[string]ending{}
	most := time.Second
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, most) {
		t, code := first, wire.None
		known := first != nil
		if !known {
			t, code = ask(ctx, c, key, func(m *machine) (*settling, wire.Code) { return m.toSettle(key) })
		}
		first = nil
		var written <-chan struct{}
		switch {
		case code == wire.CoordinatorLoadInProgress, code == wire.CoordinatorNotAvailable, code == wire.RequestTimedOut && ctx.Err() == nil:
			// Of a shard that is ours: tried again.
		case code != wire.None, t == nil:
			return
		default:
			if t.state == txnPrepareCommit && len(t.participants) > 0 && c.at(FaultTxnDecided) != nil {
				return
			}
			t.doubt = !known
			c.tell(ctx, t, told, ends)
			mended := c.mend(ctx, t, told)
			if most = time.Second; !mended {
				most = redoPause
			}
			if mended && t.allTold(told) {
				code := c.within(key.tenant, key.group, func(m *machine) {
					if m.completeTxn(key, t.producer, t.epoch, ends) == wire.None {
						over()
						t = nil
						return
					}
					written = c.settlers.written(key)
				})
				if t == nil || code == wire.NotCoordinator {
					return
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-written:
		case <-time.After(wait):
		}
	}
}

// redoPause is the longest time between attempts to append a part anew: each leaves what it
// has appended behind, aborted.
const redoPause = 15 * time.Second

// settling is a decided transaction with the term in which it is carried out.
type settling struct {
	*transaction
	term int64
	// doubt: the decision may have been told before, so what clusters say of it is checked in their logs.
	doubt bool
}

func (m *machine) toSettle(key groupKey) (*settling, wire.Code) {
	t := m.txns[key]
	if t == nil || !t.state.decided() {
		return nil, wire.None
	}
	return m.settlingOf(t), wire.None
}

func (m *machine) settlingOf(t *transaction) *settling {
	return &settling{transaction: t.clone(), term: m.term}
}

// tellAtOnce bounds the participants that are told at the same time.
const tellAtOnce = 16

// Names of the parts of a transaction in what was told.
func partitionPart(k partKey) string {
	return "partition " + k.topic.String() + "-" + strconv.Itoa(int(k.partition))
}
func groupPart(group string) string { return "group " + group }

// hasMarker tells whether a partition of the transaction takes a marker of ours.
func (p *txnPart) hasMarker() bool {
	return slices.ContainsFunc(p.places, func(at place) bool { return !at.foreign })
}

// allTold tells whether every participant knows.
func (t *settling) allTold(told map[string]bool) bool {
	for k, part := range t.parts {
		if part.hasMarker() && !told[partitionPart(k)] {
			return false
		}
	}
	for i := range t.participants {
		if !told[clusterPart(t.participants[i].cluster)] {
			return false
		}
	}
	for g := range t.groups {
		if !told[groupPart(g)] {
			return false
		}
	}
	return true
}

// tell tells all participants that are not in told yet. ends gets what clusters say, by cluster.
func (c *Coordinator) tell(ctx context.Context, t *settling, told map[string]bool, ends map[string]ending) {
	ctx, cancel := context.WithTimeout(ctx, 2*participantPatience)
	defer cancel()
	commit := t.state == txnPrepareCommit
	var mu sync.Mutex
	var wg sync.WaitGroup
	limit := make(chan struct{}, tellAtOnce)
	tell := func(name string, f func() error) {
		mu.Lock()
		done := told[name]
		mu.Unlock()
		if done {
			return
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			err := f()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				c.logger.Debug("a part of a transaction is not ended yet", "transactional_id", t.key.group, "part", name, "err", err)
				return
			}
			told[name] = true
		})
	}
	marker := batch.Marker{Commit: commit, CoordinatorEpoch: int32(min(t.term, 1<<31-1)), ProducerID: t.producer, ProducerEpoch: t.epoch}
	for _, k := range t.sortedParts() {
		if t.parts[k].hasMarker() {
			tell(partitionPart(k), func() error { return c.participants.Mark(ctx, k.topic, k.partition, marker) })
		}
	}
	for i := range t.participants {
		p := &t.participants[i]
		mu.Lock() // those before this one are on their way
		mended := told[torn(p.cluster)]
		mu.Unlock()
		if mended {
			continue
		}
		tell(clusterPart(p.cluster), func() error {
			e, aborted, err := c.endPart(ctx, t, p, commit)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if aborted {
				c.metrics.txnTorn.Inc()
				told[torn(p.cluster)] = true
				return errRedo
			}
			ends[p.cluster] = e
			return nil
		})
	}
	for _, g := range t.sortedGroups() {
		tell(groupPart(g), func() error {
			return c.settleGroup(ctx, groupKey{t.key.tenant, g}, t.producer, t.started, commit)
		})
	}
	wg.Wait()
}

// ending is what a cluster said to the end of its part.
type ending struct {
	next  span.Transaction // producer with which its transactional id goes on
	asked time.Time        // a moment before it was told
	doubt bool             // it may have been told before, or has ended the part by itself
}

// endPart ends the transaction on a cluster that runs its own. torn: the cluster
// has aborted what was to be committed.
func (c *Coordinator) endPart(ctx context.Context, t *settling, p *participant, commit bool) (e ending, torn bool, err error) {
	e = ending{asked: time.Now(), doubt: t.doubt}
	e.next, err = c.participants.End(ctx, p.cluster, p.there(), commit)
	if !errors.Is(err, ErrParticipantEnded) {
		return e, false, err
	}
	if commit {
		c.logger.Error("a cluster has ended its part of a committed transaction by itself: what it aborted is appended anew", "cluster", p.cluster,
			"tenant", t.key.tenant, "transactional_id", t.key.group, "producer_id", t.producer, "there", p.id, "err", err)
	}
	e.doubt = true
	return e, commit, nil
}

// mend has the torn parts of a transaction appended anew, and tells whether all are.
func (c *Coordinator) mend(ctx context.Context, t *settling, told map[string]bool) bool {
	all := true
	for i := range t.participants {
		p := &t.participants[i]
		if !told[torn(p.cluster)] || told[clusterPart(p.cluster)] {
			continue
		}
		if err := c.redo(ctx, t, p, told); err != nil {
			all = false
			c.logger.Info("a part of a transaction is not appended anew yet", "cluster", p.cluster, "transactional_id", t.key.group, "err", err)
			continue
		}
		told[clusterPart(p.cluster)] = true
	}
	return all
}

// The names of a cluster's part in what was told: that it has ended, that it was
// found aborted, and that operators know.
func clusterPart(cluster string) string { return "cluster " + cluster }
func torn(cluster string) string        { return "torn " + cluster }
func reported(cluster string) string    { return "reported " + cluster }

package coordinator

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// A cluster that runs its own transactions says that one is decided, and writes the markers by itself after that. Its client's
// transaction is complete then, and becomes one of the id's formers until all its markers are there: the log keeps what
// has to be known of it to write those that the cluster loses, for this owner and for those that take the shard over.
//
//   - At most one transaction of an id is answered whose markers are to come: the next one may begin, and be decided, and is
//     complete when those of the one before are written. A new incarnation of the producer waits for them as well. So whoever has
//     the answer to either finds all in place that came before, as with Apache Kafka.
//   - Where markers do not come for long (pendingPatience) nobody waits for them any more. They are looked for all the same.
//   - The slot of a part is used again when its markers are written. A record of the next one in the same partition would be
//     ended by what is missing.

// former is a transaction of an id that all its clusters have decided. Nothing in it changes but late.
type former struct {
	producer     int64
	started      int64 // ms
	commit       bool
	parts        map[partKey]*txnPart // on clusters that run their own part
	participants []participant

	late bool // its markers are not waited for any more; not in the log
}

// maxFormers bounds those of one id. All but the last are late.
const maxFormers = 8

// pendingPatience is how long the markers of a cluster are waited for. Longer than that it is away, or a partition there has no
// leader, or refuses them.
const pendingPatience = 30 * time.Second

// awaitPatience is how long a request waits for them.
const awaitPatience = time.Second

// awaitsMarkers tells whether markers of a former transaction are waited for.
func (t *transaction) awaitsMarkers() bool {
	return slices.ContainsFunc(t.formers, func(f *former) bool { return !f.late })
}

// keepFormer makes what a transaction leaves to clusters one of its id's formers.
func (m *machine) keepFormer(t *transaction, ends map[string]ending) {
	if len(t.participants) == 0 {
		return
	}
	if m.watch == nil {
		for i := range t.participants {
			m.giveSlot(&t.participants[i], span.Transaction{})
		}
		return
	}
	f := &former{producer: t.producer, started: t.started, commit: t.state == txnPrepareCommit, parts: map[partKey]*txnPart{},
		participants: slices.Clone(t.participants)}
	for k, part := range t.parts {
		if slices.ContainsFunc(part.places, func(at place) bool { return at.foreign }) {
			f.parts[k] = &txnPart{places: slices.DeleteFunc(slices.Clone(part.places), func(at place) bool { return !at.foreign })}
		}
	}
	if len(t.formers) >= maxFormers {
		m.logger.Warn("markers of a transaction are not looked for any more: too many of its id have lost theirs", "tenant", t.key.tenant, "transactional_id", t.key.group)
		t.load.add(-t.formers[0].weight())
		t.formers = slices.Delete(t.formers, 0, 1)
	}
	t.formers = append(t.formers, f)
	t.load.add(f.weight())
	m.watch(t.key, f, ends)
}

// watchFormer has a former transaction looked after when the machine serves, see machine.watch.
func (m *machine) watchFormer(key groupKey, f *former, ends map[string]ending) {
	if m.watch != nil {
		m.reply(func() { m.watch(key, f, ends) })
	}
}

// dropFormer forgets one whose markers are all there. An id that goes on tells the log with its next record.
func (m *machine) dropFormer(key groupKey, f *former) {
	t := m.txns[key]
	if t == nil {
		return
	}
	i := slices.Index(t.formers, f)
	if i < 0 {
		return
	}
	t.load.add(-f.weight())
	t.formers = slices.Delete(t.formers, i, i+1)
	if t.state != txnOngoing && !t.state.decided() {
		m.writeTxn(t)
		m.lazily()
	}
}

func (f *former) encode(e *encoder) {
	e.int(f.producer)
	e.int(f.started)
	e.bool(f.commit)
	encodeParts(e, f.parts, sortedParts(f.parts))
	e.count(len(f.participants))
	for i := range f.participants {
		f.participants[i].encode(e)
	}
}

func decodeFormer(d *decoder) *former {
	f := &former{producer: d.int(), started: d.int(), commit: d.bool(), parts: decodeParts(d, true)}
	for range d.count(maxTxnParticipants, 6) {
		f.participants = append(f.participants, decodeParticipant(d))
	}
	return f
}

// written is closed when something has changed of the formers of an id.
func (s *settlers) written(key groupKey) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.writing[key]
	if ch == nil {
		ch = make(chan struct{})
		s.writing[key] = ch
	}
	return ch
}

func (s *settlers) changed(key groupKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.writing[key]; ch != nil {
		delete(s.writing, key)
		close(ch)
	}
}

// askInit asks the machine for a producer id and epoch. Whoever has to wait for markers hears of each change since the answer.
func (c *Coordinator) askInit(ctx context.Context, r *initRequest) (initResult, wire.Code) {
	return ask(ctx, c, r.key, func(m *machine) (initResult, wire.Code) {
		res, code := m.initProducer(r)
		if res.writing {
			res.written = c.settlers.written(r.key)
		}
		return res, code
	})
}

// awaitMarkers waits until something has changed of the formers of an id, for a while.
func awaitMarkers(ctx context.Context, written <-chan struct{}) {
	t := time.NewTimer(awaitPatience)
	defer t.Stop()
	select {
	case <-written:
	case <-t.C:
	case <-ctx.Done():
	}
}

// watchFormer looks after a former transaction for as long as the shard is ours by the term.
func (c *Coordinator) watchFormer(number int32, term int64, key groupKey, f *former, ends map[string]ending) {
	c.settlers.run(func(ctx context.Context) {
		defer c.settlers.changed(key)
		written := make([]bool, len(f.participants))
		var wg sync.WaitGroup
		for i := range f.participants {
			p := &f.participants[i]
			e, known := ends[p.cluster]
			e.doubt = e.doubt || !known
			wg.Go(func() { written[i] = c.watchPart(ctx, number, term, key, f, p, e) })
		}
		wg.Wait()
		if !slices.Contains(written, false) {
			c.inShard(ctx, number, term, func(m *machine) { m.dropFormer(key, f) })
		}
	})
}

// watchPart waits until the markers of a part are written, and gives its slot back. false: somebody else does.
func (c *Coordinator) watchPart(ctx context.Context, number int32, term int64, key groupKey, f *former, p *participant, e ending) bool {
	began, late := time.Now(), false
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, redoPause) {
		err := c.partWritten(ctx, key, f, p, &e)
		if err == nil {
			return c.inShard(ctx, number, term, func(m *machine) {
				if !late {
					m.giveSlot(p, e.next)
					m.lazily() // with the completion, which has to be in the log first
				}
			})
		}
		c.logger.Debug("the markers of a part are not there yet", "cluster", p.cluster, "transactional_id", key.group, "there", p.id, "err", err)
		if !late && ctx.Err() == nil && time.Since(began) > pendingPatience {
			late = true
			c.reportLate(ctx, key, f, p, err)
			c.inTerm(number, term, func(m *machine) {
				f.late = true
				if p.term == term {
					m.dropSlot(p.cluster, p.slot, false)
				}
			})
			c.settlers.changed(key)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
		ours := false
		c.inTerm(number, term, func(m *machine) { ours = m.txns[key] != nil && slices.Contains(m.txns[key].formers, f) })
		if !ours {
			return false
		}
	}
}

// partWritten waits for the markers of a part, for seconds at most, and writes those that are lost.
func (c *Coordinator) partWritten(ctx context.Context, key groupKey, f *former, p *participant, e *ending) error {
	within, cancel := context.WithTimeout(ctx, 2*participantPatience)
	defer cancel()
	if err := c.participants.Written(within, p.cluster, p.there()); err != nil {
		// Whoever does not answer may have been killed.
		e.doubt = e.doubt || !errors.Is(err, span.ErrTransactionPending)
		return err
	}
	if e.doubt || time.Since(e.asked) >= markersSure {
		select {
		case c.settlers.looks <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		_, err := c.endHanging(within, key, f.parts, p, f.commit)
		<-c.settlers.looks
		if err != nil {
			return err
		}
	}
	c.witness(f, p)
	return nil
}

// reportLate tells operators that committed readers wait for markers.
func (c *Coordinator) reportLate(ctx context.Context, key groupKey, f *former, p *participant, err error) {
	what := []any{"cluster", p.cluster, "tenant", key.tenant, "transactional_id", key.group, "there", p.id, "producer_id", p.producer,
		"producer_epoch", p.epoch, "commit", f.commit, "err", err}
	switch {
	case errors.Is(err, span.ErrTransactionPending):
		c.logger.Warn("a cluster does not write the markers of a transaction, which it has decided", what...)
	case errors.Is(err, errHanging) && !errors.Is(err, span.ErrUnavailable):
		c.logger.Warn("a cluster has lost markers of a transaction, and they cannot be written: committed readers of its partitions there wait for them", what...)
		c.reportHanging(ctx, key, f.producer, p)
	default:
		c.logger.Warn("a cluster that has decided a transaction does not tell whether its markers are written", what...)
	}
}

// witness counts the markers that a cluster has written: one in each partition of the part.
// A part that is looked for again, by an owner that took over, is counted again: then a
// certificate has to look for itself.
func (c *Coordinator) witness(f *former, p *participant) {
	w, ok := c.participants.(witness)
	if !ok {
		return
	}
	for k, part := range f.parts {
		for i := range part.places {
			if at := &part.places[i]; at.cluster == p.cluster {
				w.Marked(k.topic, k.partition, at.id)
			}
		}
	}
}

// inShard runs fn as an event of the machine, if need be when the shard takes events again. false: it is not ours by the term any more.
func (c *Coordinator) inShard(ctx context.Context, number int32, term int64, fn func(m *machine)) bool {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		ours, done := false, false
		c.inTerm(number, term, func(*machine) { ours = true })
		if !ours {
			return false
		}
		c.mu.RLock()
		s := c.shards[number]
		c.mu.RUnlock()
		if s != nil {
			s.do(func(m *machine) {
				if m.term == term {
					fn(m)
					done = true
				}
			})
		}
		if done {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

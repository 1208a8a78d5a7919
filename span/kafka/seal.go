package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

const (
	configMaxMessage = "max.message.bytes"
	sealedValue      = "0"
	// probePause lies between two probes of a leader that has not applied the
	// seal; a probe itself takes a millisecond or two.
	probePause = time.Millisecond
)

// Seal implements [span.Store]. The topic gets sealConfigs, and each leader is
// asked with probes until it refuses. The order of what follows matters:
//
//   - The producers are described before the end is asked, for that takes the log's
//     lock: an append which holds the lock since before the seal is over then, and one
//     that takes it later meets the limits of timestamps.
//   - The log end is asked before and after the producers are described: if it is
//     the same, the description is of exactly the records below it.
//   - The end is asked of the same broker that refused, for the leader epoch that
//     metadata names; a deposed leader, cut off yet reachable, answers neither. If
//     another broker leads by then it is probed too, since a broker may lead a
//     moment before it applies a config of the same metadata batch.
//   - The high watermark is asked after the log end, until it has reached it.
//   - The last stable offset is asked last: below the high watermark it belongs to
//     a transaction whose marker the seal would refuse. Its coordinator would never
//     try again, so the seal is undone at once.
func (s *Store) Seal(ctx context.Context, t span.Topic) ([]span.End, error) {
	ends, err := s.seal(ctx, t)
	return ends, s.wrap("seal", t, err)
}

func (s *Store) seal(ctx context.Context, t span.Topic) ([]span.End, error) {
	meta, err := s.meta.fresh(ctx, t)
	if err != nil {
		return nil, err
	}
	own, err := s.ownConfigs(ctx, t)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	altered := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if maps.Equal(own, sealConfigs) {
		altered <- nil
	} else {
		s.rememberSeal(t.ID, own)
		if err := s.checkTransactions(ctx, t, meta); err != nil {
			return nil, err
		}
		begin = time.Now()
		go func() { // its answer is waited for below
			err := s.setSealConfigs(ctx, t, sealConfigs)
			altered <- err
			if err != nil {
				cancel(err)
			}
		}()
	}
	run := &sealing{s: s, t: t, ends: make([]span.End, len(meta.partitions)), done: make([]bool, len(meta.partitions))}
	err = run.all(ctx, meta)
	if alterErr := <-altered; alterErr != nil {
		return nil, alterErr
	}
	if errors.Is(err, span.ErrOpenTransaction) {
		// The caller's context may end any time; this must not wait for it.
		undo, stop := context.WithTimeout(s.closing, s.opts.RequestTimeout)
		defer stop()
		return nil, errors.Join(err, s.unseal(undo, t))
	}
	if err != nil {
		return nil, err
	}
	s.forgetLosses(t, len(run.ends))
	first := time.Unix(0, run.first.Load())
	s.log.Info("sealed", "topic", t.Name, "partitions", len(run.ends), "until_refused", first.Sub(begin).Round(10*time.Microsecond),
		"refused_to_done", time.Since(first).Round(10*time.Microsecond))
	return run.ends, nil
}

// sealing is one Seal under way.
type sealing struct {
	s     *Store
	t     span.Topic
	first atomic.Int64 // when the first refusal came

	mu   sync.Mutex
	ends []span.End
	done []bool
}

func (r *sealing) all(ctx context.Context, meta *topicMeta) error {
	var last error
	for try := 0; ; try++ {
		byLeader := map[int32]map[int32]int32{}
		open := 0
		for i := range r.done {
			if r.done[i] {
				continue
			}
			open++
			if i >= len(meta.partitions) || meta.partitions[i].leader < 0 {
				continue
			}
			p := meta.partitions[i]
			if byLeader[p.leader] == nil {
				byLeader[p.leader] = map[int32]int32{}
			}
			byLeader[p.leader][int32(i)] = p.epoch
		}
		if open == 0 {
			return nil
		}
		errs := make([]error, 0, len(byLeader))
		var mu sync.Mutex
		var wg sync.WaitGroup
		for node, epochs := range byLeader {
			wg.Go(func() {
				if err := r.atLeader(ctx, node, epochs); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		last = errors.Join(append(errs, last)...)
		if len(errs) > 0 {
			last = errors.Join(errs...)
		}
		for _, err := range errs {
			for _, fatal := range []error{span.ErrOpenTransaction, span.ErrGone, span.ErrDenied} {
				if errors.Is(err, fatal) {
					return err
				}
			}
		}
		r.mu.Lock()
		left := 0
		for _, d := range r.done {
			if !d {
				left++
			}
		}
		r.mu.Unlock()
		if left == 0 {
			return nil
		}
		if err := r.s.pause(ctx, min(retryFirst<<min(try, 10), retryMost)); err != nil {
			return unavailable(fmt.Errorf("%d of %d partitions are not known to be sealed: %w", left, len(r.done), errors.Join(context.Cause(ctx), err, last)))
		}
		fresh, err := r.s.meta.fresh(ctx, r.t)
		if errors.Is(err, span.ErrGone) || errors.Is(err, span.ErrDenied) {
			return err
		}
		if err == nil {
			meta = fresh
		} else {
			last = err
		}
		for len(meta.partitions) > len(r.done) { // grown meanwhile
			r.done, r.ends = append(r.done, false), append(r.ends, span.End{})
		}
	}
}

// atLeader probes one broker until it refuses for all of its partitions, then
// reads their ends. Partitions that it does not lead any more stay undone.
func (r *sealing) atLeader(ctx context.Context, node int32, epochs map[int32]int32) error {
	b := r.s.broker(node)
	if b == nil {
		return fmt.Errorf("broker %d is not known", node)
	}
	open := make([]int32, 0, len(epochs))
	for p := range epochs {
		open = append(open, p)
	}
	sealed := map[int32]int32{}
	var met error
	for len(open) > 0 {
		codes, err := r.s.probe(ctx, b, r.t, open)
		if err != nil {
			return err
		}
		rest := open[:0]
		for _, p := range open {
			switch code := codes[p]; {
			case code == wire.MessageTooLarge:
				r.first.CompareAndSwap(0, time.Now().UnixNano())
				sealed[p] = epochs[p]
			case code == wire.CorruptMessage:
				rest = append(rest, p)
			case kindOf(code) == kindDenied:
				return fmt.Errorf("%w: %w", span.ErrDenied, code)
			default:
				met = code // it moved, or the broker lags: metadata is asked anew
			}
		}
		if open = rest; len(open) > 0 {
			if err := r.s.pause(ctx, probePause); err != nil {
				return errors.Join(context.Cause(ctx), err)
			}
		}
	}
	if len(sealed) > 0 {
		if err := r.readEnds(ctx, b, sealed); err != nil {
			return err
		}
	}
	return met
}

// readEnds reads the final ends of partitions that the broker refuses appends for.
func (r *sealing) readEnds(ctx context.Context, b *broker, epochs map[int32]int32) error {
	var met error
	for len(epochs) > 0 {
		before := []question{{timestamp: timestampLatest, who: leaderReplica}}
		qs := []question{
			{timestamp: timestampLatest, who: leaderReplica},
			{timestamp: timestampLatest, who: consumer},
			{timestamp: timestampLatest, who: consumer, committed: true},
			{timestamp: timestampEarliest, who: consumer},
			{timestamp: timestampMax, who: consumer},
		}
		firstEnd := startAll(ctx, b, r.t, epochs, before)
		barrier := b.start(ctx, describeProducers(r.t, epochs), 0, 0)
		answers := startAll(ctx, b, r.t, epochs, qs)
		err := firstEnd()
		resp, barrierErr := barrier()
		if err := errors.Join(err, barrierErr, answers()); err != nil {
			return err
		}
		passed := resp.(*kmsg.DescribeProducersResponse)
		next := map[int32]int32{}
	partitions:
		for p, epoch := range epochs {
			producers := []span.Producer{}
			if code := producersOf(passed, r.t, p, func(a *kmsg.DescribeProducersResponseTopicPartitionActiveProducer) {
				producers = append(producers, activeProducer(a))
			}); code != wire.None {
				met = code
				continue
			}
			for _, q := range append(before, qs...) {
				switch code := q.answers[p].code; {
				case code == wire.None:
				case kindOf(code) == kindRetry:
					next[p] = epoch
					continue partitions
				default: // another leader, another epoch: it is probed again
					met = code
					continue partitions
				}
			}
			end, high, stable := qs[0].answers[p].offset, qs[1].answers[p].offset, qs[2].answers[p].offset
			switch {
			case before[0].answers[p].offset != end:
				// An append got in before the description, or behind it.
				next[p] = epoch
			case high < end:
				next[p] = epoch
			case high > end:
				// The answers came from two connections, so from two moments.
				next[p] = epoch
			case stable < high:
				return fmt.Errorf("%w: in partition %d from offset %d on", span.ErrOpenTransaction, p, stable)
			default:
				r.finish(p, span.End{Partition: p, Start: qs[3].answers[p].offset, End: end, MaxTimestamp: qs[4].answers[p].timestamp, Producers: producers})
			}
		}
		if epochs = next; len(epochs) > 0 {
			if err := r.s.pause(ctx, probePause); err != nil {
				return errors.Join(context.Cause(ctx), err)
			}
		}
	}
	return met
}

func (r *sealing) finish(p int32, e span.End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends[p], r.done[p] = e, true
}

// checkTransactions fails when a transaction is open, before the seal could wedge it.
func (s *Store) checkTransactions(ctx context.Context, t span.Topic, meta *topicMeta) error {
	if err := s.enlistedIn(ctx, t); err != nil {
		return err
	}
	byLeader := map[int32]map[int32]int32{}
	for i, p := range meta.partitions {
		if p.leader < 0 {
			continue // the seal itself will find its leader, and looks again
		}
		if byLeader[p.leader] == nil {
			byLeader[p.leader] = map[int32]int32{}
		}
		byLeader[p.leader][int32(i)] = p.epoch
	}
	errs := make(chan error, len(byLeader))
	for node, epochs := range byLeader {
		go func() {
			errs <- func() error {
				b := s.broker(node)
				if b == nil {
					return nil
				}
				// The high watermark first: what is decided between the questions counts as decided.
				qs := []question{{timestamp: timestampLatest, who: consumer}, {timestamp: timestampLatest, who: consumer, committed: true}}
				if err := s.askAll(ctx, b, t, epochs, qs); err != nil {
					return unavailable(err)
				}
				for p := range epochs {
					high, stable := qs[0].answers[p], qs[1].answers[p]
					if high.code == wire.None && stable.code == wire.None && stable.offset < high.offset {
						return fmt.Errorf("%w: in partition %d from offset %d on", span.ErrOpenTransaction, p, stable.offset)
					}
				}
				return nil
			}()
		}()
	}
	var all []error
	for range byLeader {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

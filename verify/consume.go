package verify

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// reached says whether a record is the last of its partition, or lies past it.
func (r *run) reached(v Value, partition int32, offset int64) bool {
	if v.Producer == markerProducer {
		return true
	}
	m := r.markers[partition].Load()
	return m > 0 && offset >= m-1
}

// each hands out the values of a poll, and notes everything else in it.
func (r *run) each(name string, fetches kgo.Fetches, f func(partition int32, offset int64, v Value)) {
	fetches.EachError(func(_ string, p int32, err error) {
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, kgo.ErrClientClosed) {
			r.problem("%s: partition %d: %v", name, p, err)
		}
	})
	fetches.EachRecord(func(rec *kgo.Record) {
		v, _, err := parsePayload(rec.Value, r.id)
		switch {
		case errors.Is(err, errForeign):
			r.history.Foreign(rec.Partition)
		case err != nil:
			r.history.Damaged(rec.Partition, rec.Offset)
		default:
			f(rec.Partition, rec.Offset, v)
		}
	})
}

// consume is a direct consumer: it reads each partition from the run's begin to its last record.
// It never resets an offset, so that an endpoint which calls one out of range is noticed.
func (r *run) consume(ctx context.Context, name string) error {
	opts := []kgo.Opt{kgo.ConsumePartitions(r.begins()), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500 * time.Millisecond)}
	if r.committed {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	cl, err := r.client(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	done := make([]bool, r.Partitions)
	for left := r.Partitions; left > 0; {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			r.unread(name, done)
			return nil
		}
		r.each(name, fetches, func(p int32, offset int64, v Value) {
			r.polled.Add(1)
			if r.onPolled != nil {
				r.onPolled(name, p, offset, v)
			} else {
				r.history.Polled(Reader{Name: name}, p, offset, v)
			}
			if !done[p] && r.reached(v, p, offset) {
				done[p] = true
				left--
				if r.onRead != nil {
					r.onRead(name, p)
				}
			}
		})
	}
	return nil
}

// unread notes the partitions that a reader did not finish.
func (r *run) unread(name string, done []bool) {
	var open []int
	for p, d := range done {
		if !d {
			open = append(open, p)
		}
	}
	if len(open) > 0 && r.phase.Load() == "settling" {
		r.problem("%s did not read partitions %v to the end within %s", name, open, r.Settle)
	}
}

// groupRead is the run's consumer group.
type groupRead struct {
	*run
	name string

	mu       sync.Mutex
	done     []bool
	left     int
	finished chan struct{} // closed when every partition is read to its end
}

func newGroupRead(r *run) *groupRead {
	return &groupRead{
		run: r, name: "braid-verify-" + r.id, done: make([]bool, r.Partitions),
		left: r.Partitions, finished: make(chan struct{}),
	}
}

// consume is one member. It commits what it polled at its next poll, so that the group is given
// each record at least once, whoever leaves.
func (g *groupRead) consume(ctx context.Context, name string) error {
	reader := Reader{Name: name, Group: g.name}
	cl, err := g.client(
		kgo.ConsumerGroup(g.name), kgo.ConsumeTopics(g.Topic), kgo.BlockRebalanceOnPoll(),
		kgo.AdjustFetchOffsetsFn(func(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			for p, o := range offsets[g.Topic] {
				// Nothing committed: from where the run begins, not from the topic's start.
				if o.EpochOffset().Offset < 0 && int(p) < len(g.begin) {
					offsets[g.Topic][p] = kgo.NewOffset().At(g.begin[p])
				}
			}
			return offsets, nil
		}),
		// Polls are recorded before a rebalance may go on, so none falls into the next session.
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			for _, p := range assigned[g.Topic] {
				g.history.Assigned(reader, p)
			}
		}),
		kgo.AutoCommitInterval(time.Second),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	// Leaving is a courtesy, and takes no longer than this when nobody answers.
	defer func() {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(g.Settle, 5*time.Second))
		defer cancel()
		cl.AllowRebalance()
		_ = cl.LeaveGroupContext(leave)
	}()
	poll, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-g.finished:
			cancel()
		case <-poll.Done():
		}
	})
	defer watch.Wait()
	defer cancel()
	for {
		fetches := cl.PollFetches(poll)
		g.each(name, fetches, func(p int32, offset int64, v Value) {
			g.polled.Add(1)
			g.history.Polled(reader, p, offset, v)
			if g.reached(v, p, offset) {
				g.finish(p)
			}
		})
		cl.AllowRebalance()
		if poll.Err() != nil || fetches.IsClientClosed() {
			if ctx.Err() != nil {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.unread("the group", g.done)
			}
			return nil
		}
	}
}

func (g *groupRead) finish(p int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done[p] {
		return
	}
	g.done[p] = true
	g.history.GroupDone(g.name, p)
	if g.left--; g.left == 0 {
		close(g.finished)
	}
}

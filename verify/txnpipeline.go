package verify

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// pipelineRecords is how many records a pipeline takes into one transaction at most.
const pipelineRecords = 50

// pipeline is one member of a group that reads the first topic, writes a value to one of the others for each that
// it read, and commits its place in the same transaction.
func (r *txnRun) pipeline(ctx context.Context, i int) error {
	w := r.txnWriter(kindPipeline, i)
	for ctx.Err() == nil {
		session, err := kgo.NewGroupTransactSession(r.pipelineOptions(w, ctx)...)
		if err != nil {
			return err
		}
		for goOn := true; goOn && err == nil && ctx.Err() == nil; {
			goOn, err = w.process(ctx, session)
		}
		session.Close()
		if err != nil {
			return err
		}
		pause(ctx, time.Duration(w.random.IntN(50))*time.Millisecond)
	}
	return nil
}

func (r *txnRun) pipelineOptions(w *txnWriter, ctx context.Context) []kgo.Opt {
	topic := r.first
	return topic.clientOptions(append(w.options(ctx),
		kgo.ConsumerGroup(r.group), kgo.ConsumeTopics(topic.Topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(250*time.Millisecond), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(time.Second),
		kgo.AdjustFetchOffsetsFn(func(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
			for p, o := range offsets[topic.Topic] {
				// Nothing committed: from where the run begins, not from the topic's start.
				if o.EpochOffset().Offset < 0 && int(p) < len(topic.begin) {
					offsets[topic.Topic][p] = kgo.NewOffset().At(topic.begin[p])
				}
			}
			return offsets, nil
		}))...)
}

// process makes one transaction of what it reads. It tells whether the session can go on.
func (w *txnWriter) process(ctx context.Context, s *kgo.GroupTransactSession) (goOn bool, err error) {
	poll, cancel := context.WithTimeout(ctx, time.Second)
	fetches := s.PollRecords(poll, pipelineRecords)
	cancel()
	var values []Value
	assigned := map[int32]bool{}
	reader := Reader{Name: w.txnID, Group: w.group}
	w.first.each(w.txnID, fetches, func(p int32, offset int64, v Value) {
		if !assigned[p] {
			// After an abort, or a rebalance, it goes back. What it may not leave out or do twice is judged by its offsets.
			assigned[p] = true
			w.first.history.Assigned(reader, p)
		}
		w.first.polled.Add(1)
		w.history.Polled(reader, 0, p, offset, v)
		values = append(values, v)
	})
	if len(values) == 0 {
		return true, nil
	}
	if err := s.Begin(); err != nil {
		return false, nil
	}
	f := w.begin()
	for _, v := range values {
		w.history.Consumed(f.number, v)
		topic := 1 + w.random.IntN(len(w.topics)-1)
		if err := w.send(ctx, f, topic, int32(w.random.IntN(w.topics[topic].Partitions)), s.Produce); err != nil {
			return false, err
		}
	}
	fate := w.fate()
	if fate == fateCut {
		return false, w.abort(f)
	}
	if err := s.Client().Flush(ctx); err != nil || f.err() != nil {
		fate = fateAbort
	}
	switch fate {
	case fateForsaken:
		return false, w.abort(f)
	case fateAbort:
		_, err := s.End(ctx, kgo.TryAbort)
		return err == nil && f.err() == nil, w.abort(f)
	}
	end, cancel := context.WithCancel(ctx)
	defer cancel()
	if fate == fateCutCommit {
		timer := time.AfterFunc(time.Duration(w.random.IntN(10_000))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	// The session aborts by itself where the group was rebalanced. It may do so after a commit that had no clear answer,
	// so what was not committed is not surely aborted.
	committed, endErr := s.End(end, kgo.TryCommit)
	if committed && endErr == nil {
		err = w.done(f)
	}
	return endErr == nil && fate == fateCommit, err
}

// watchOffsets observes the pipelines' offsets until they are past the last records of the first topic.
func (r *txnRun) watchOffsets(ctx context.Context, admin *kadm.Client) {
	for ctx.Err() == nil {
		// What cannot be told now is asked again.
		if offsets, err := r.groupOffsets(ctx, admin); err == nil {
			past := 0
			for p, o := range offsets {
				r.history.Observed("watcher", p, o)
				if m := r.first.markers[p].Load(); m > 0 && o >= m {
					past++
				}
			}
			if past == r.first.Partitions {
				return
			}
		}
		pause(ctx, 50*time.Millisecond)
	}
	if r.first.phase.Load() == "settling" {
		r.first.problem("the pipelines did not process everything within %s", r.Settle)
	}
}

package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// txnWriter writes values of one producer, one transaction after the other. Its clients come and go.
type txnWriter struct {
	*txnRun
	id     int32 // of its values
	txnID  string
	next   [][]int64 // sequence, by topic and partition
	random *rand.Rand
}

// pipelineIDs is where the ids of values of pipelines begin.
const pipelineIDs = 1 << 20

func (r *txnRun) txnWriter(kind string, i int) *txnWriter {
	w := &txnWriter{txnRun: r, id: int32(i), txnID: r.txnID(kind, i), random: rand.New(rand.NewPCG(uint64(i), uint64(len(kind))))}
	if kind == kindPipeline {
		w.id += pipelineIDs
	}
	for _, t := range r.topics {
		w.next = append(w.next, make([]int64, t.Partitions))
	}
	return w
}

const (
	kindProducer = "producer"
	kindPipeline = "pipeline"
)

func (r *txnRun) txnID(kind string, i int) string { return fmt.Sprintf("%s-%s-%d", r.group, kind, i) }

// options of a client. It ends with ctx, whatever it waits for.
func (w *txnWriter) options(ctx context.Context) []kgo.Opt {
	return append(w.first.producerOptions(), kgo.TransactionalID(w.txnID), kgo.TransactionTimeout(w.Timeout), kgo.WithContext(ctx))
}

// flight is what was sent in one transaction.
type flight struct {
	number int64
	began  time.Time

	mu      sync.Mutex
	offsets []int64
	blind   blind
	failed  error
}

func (w *txnWriter) begin() *flight {
	return &flight{number: w.history.Begin(w.id), began: time.Now()}
}

// send sends the next value of a partition.
func (w *txnWriter) send(ctx context.Context, f *flight, topic int, partition int32, produce func(context.Context, *kgo.Record, func(*kgo.Record, error))) error {
	t := w.topics[topic]
	v := Value{w.id, partition, w.next[topic][partition]}
	w.next[topic][partition]++
	if err := w.history.Wrote(f.number, topic, v); err != nil {
		return fmt.Errorf("record the history: %w", err)
	}
	t.sent.Add(1)
	f.mu.Lock()
	i := len(f.offsets)
	f.offsets = append(f.offsets, -1)
	f.mu.Unlock()
	payload := appendPayload(make([]byte, 0, w.RecordSize), t.id, time.Since(t.start), v, w.RecordSize)
	produce(ctx, &kgo.Record{Topic: t.Topic, Partition: partition, Value: payload}, func(rec *kgo.Record, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if err != nil {
			f.failed = err
			return
		}
		f.offsets[i] = f.blind.offset(rec)
	})
	return nil
}

// err is why a record was not taken, after a flush.
func (f *flight) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// done says that the transaction's commit was acknowledged.
func (w *txnWriter) done(f *flight) error {
	now := time.Now()
	if err := w.history.Committed(f.number, f.offsets, f.began, now); err != nil {
		return fmt.Errorf("record the history: %w", err)
	}
	w.committed.Add(1)
	w.first.acked.Add(int64(len(f.offsets)))
	w.mu.Lock()
	last := w.lastCommit
	w.lastCommit = now
	w.mu.Unlock()
	if !last.IsZero() {
		w.first.longer(max(0, now.Sub(last)))
	}
	return nil
}

// produceTxns makes transactions at the producer's share of the rate for the run's duration.
func (r *txnRun) produceTxns(ctx context.Context, i int) error {
	w := r.txnWriter(kindProducer, i)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work, stop := context.WithDeadline(ctx, r.first.start.Add(r.Duration))
	defer stop()
	finished := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-r.Until:
			stop()
		case <-work.Done():
		}
		// A transaction that has begun may end after the workload.
		if t := time.NewTimer(r.Settle); !waits(t, finished) {
			cancel()
		}
	})
	defer watch.Wait()
	defer stop()
	defer close(finished)
	every := time.Duration(float64(time.Second) * float64(r.Producers) * float64(r.Records) / float64(r.Rate))
	due := r.first.start
	for work.Err() == nil {
		cl, err := r.first.client(w.options(ctx)...)
		if err != nil {
			return err
		}
		goOn := true
		for goOn && err == nil {
			// After a pause at most a second's worth is caught up: the rate is a load, not a debt.
			if late := time.Now().Add(-time.Second); due.Before(late) {
				due = late
			}
			due = due.Add(every)
			if !pause(work, time.Until(due)) {
				break
			}
			goOn, err = w.transact(ctx, cl)
		}
		cl.Close()
		if err != nil {
			return err
		}
		if goOn {
			return nil
		}
		// Another instance with the same transactional id goes on, and fences this one.
		pause(work, time.Duration(w.random.IntN(50))*time.Millisecond)
	}
	return nil
}

// waits tells whether a channel is closed before a timer's time.
func waits(t *time.Timer, closed <-chan struct{}) bool {
	defer t.Stop()
	select {
	case <-closed:
		return true
	case <-t.C:
		return false
	}
}

// pause waits, unless the context ends.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fate is what is to become of a transaction.
type fate int

const (
	fateCommit    fate = iota
	fateAbort          // on purpose
	fateCut            // given up before its end, with records under way
	fateForsaken       // given up before its end, with all records acknowledged
	fateCutCommit      // given up during its commit
)

func (w *txnWriter) fate() fate {
	switch n := w.random.IntN(100); {
	case n < w.Aborts:
		return fateAbort
	case n < w.Aborts+w.Kills:
		return []fate{fateCut, fateForsaken, fateCutCommit}[w.random.IntN(3)]
	}
	return fateCommit
}

// transact makes one transaction over all topics. It tells whether the client can go on.
func (w *txnWriter) transact(ctx context.Context, cl *kgo.Client) (goOn bool, err error) {
	if err := cl.BeginTransaction(); err != nil {
		return false, nil // another client begins with the id anew
	}
	f := w.begin()
	start := w.random.IntN(len(w.topics))
	for i := range w.Records {
		topic := (start + i) % len(w.topics)
		if err := w.send(ctx, f, topic, int32(w.random.IntN(w.topics[topic].Partitions)), cl.Produce); err != nil {
			return false, err
		}
	}
	fate := w.fate()
	if fate == fateCut {
		return false, w.abort(f)
	}
	if err := cl.Flush(ctx); err != nil || f.err() != nil {
		fate = fateAbort
	}
	switch fate {
	case fateForsaken:
		return false, w.abort(f)
	case fateAbort:
		err := cl.EndTransaction(ctx, kgo.TryAbort)
		return err == nil && f.err() == nil, w.abort(f)
	}
	end, cancel := context.WithCancel(ctx)
	defer cancel()
	if fate == fateCutCommit {
		timer := time.AfterFunc(time.Duration(w.random.IntN(10_000))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	if err := cl.EndTransaction(end, kgo.TryCommit); err != nil {
		return false, nil // unknown
	}
	return fate == fateCommit, w.done(f)
}

// abort notes that no commit of a transaction was asked for.
func (w *txnWriter) abort(f *flight) error {
	if err := w.history.Aborted(f.number); err != nil {
		return fmt.Errorf("record the history: %w", err)
	}
	return nil
}

// fence has whatever is still open of the transactional ids ended: a new instance of each begins.
func (r *txnRun) fence(ctx context.Context, kind string, n int) error {
	cl, err := r.first.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	settle, cancel := context.WithTimeout(ctx, r.Settle)
	defer cancel()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			err := retry(settle, func() error {
				req := kmsg.NewPtrInitProducerIDRequest()
				req.TransactionalID = kmsg.StringPtr(r.txnID(kind, i))
				req.TransactionTimeoutMillis = int32(r.Timeout.Milliseconds())
				resp, err := req.RequestWith(settle, cl)
				if err != nil {
					return err
				}
				return kerr.ErrorForCode(resp.ErrorCode)
			})
			if err != nil {
				r.first.problem("%s %d: its last transaction could not be ended: %v", kind, i, err)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// groupOffsets asks what the pipelines have committed, of partitions where that is stable.
func (r *txnRun) groupOffsets(ctx context.Context, admin *kadm.Client) (map[int32]int64, error) {
	got, err := admin.FetchOffsets(kadm.RequireStable(ctx), r.group)
	if err != nil {
		return nil, err
	}
	offsets := map[int32]int64{}
	for p, o := range got[r.first.Topic] {
		if o.Err != nil {
			return nil, o.Err
		}
		if o.At >= 0 && p >= 0 && int(p) < r.first.Partitions {
			offsets[p] = o.At
		}
	}
	return offsets, nil
}

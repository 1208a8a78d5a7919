package verify

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// txnRun is the state of one run over several topics. Each topic has a run of its own, for its records' names,
// its readers and its final read; the phases are common to all.
type txnRun struct {
	TxnOptions
	topics  []*run
	first   *run // topics[0]: its clients and its problems serve all
	history *TxnHistory
	group   string // of the pipelines, and the beginning of all transactional ids

	committed atomic.Int64 // transactions

	mu         sync.Mutex
	lastCommit time.Time
}

// RunTxns verifies the transactions of an endpoint: producers write to several topics in each, some of which are aborted or given up in
// the middle, and pipelines consume one topic, write to the others and commit their place in
// the same transaction. The error says that the run could not be made, or was cancelled; what
// the endpoint did wrong is in the report, which is complete only where its Complete says so.
func RunTxns(ctx context.Context, o TxnOptions) (TxnReport, error) {
	if err := o.complete(); err != nil {
		return TxnReport{}, err
	}
	r, err := newTxnRun(&o)
	if err != nil {
		return TxnReport{}, err
	}
	admin, err := r.first.client()
	if err != nil {
		return TxnReport{}, err
	}
	defer admin.Close()
	if err := r.prepareTxns(ctx, kadm.NewClient(admin)); err != nil {
		return TxnReport{}, fmt.Errorf("verify: %w", err)
	}

	start := time.Now()
	for _, t := range r.topics {
		t.start = start
	}
	stopProgress := r.reportTxns()
	err = r.txnWorkload(ctx, kadm.NewClient(admin))
	seconds := time.Since(start).Seconds()
	if err == nil {
		r.enter("final read")
		err = r.finalReads(ctx, kadm.NewClient(admin))
	}
	stopProgress()

	report := CheckTxns(r.history)
	report.Seconds = seconds
	for i, t := range r.topics {
		if err == nil && t.own && report.OK() && report.Complete() {
			if _, err := kadm.NewClient(admin).DeleteTopic(ctx, t.Topic); err != nil {
				t.problem("topic %s could not be deleted: %v", t.Topic, err)
			}
		}
		report.Topics[i].Seconds = seconds
		report.Problems = append(report.Problems, t.listed()...)
	}
	if err != nil {
		return report, fmt.Errorf("verify: %w", err)
	}
	return report, nil
}

func newTxnRun(o *TxnOptions) (*txnRun, error) {
	var id [runDigits / 2]byte
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	name := hex.EncodeToString(id[:])
	r := &txnRun{TxnOptions: *o, group: "braid-verify-" + name}
	for i := range max(len(o.Topics), len(o.Configs)) {
		// A record that comes to lie in another topic is foreign there.
		_, _ = rand.Read(id[:])
		r.topics = append(r.topics, &run{Options: o.topic(i, name), id: hex.EncodeToString(id[:]), own: len(o.Topics) == 0, committed: true})
	}
	r.first = r.topics[0]
	return r, nil
}

// enter begins a phase, in every topic's run.
func (r *txnRun) enter(phase string) {
	for _, t := range r.topics {
		t.phase.Store(phase)
	}
}

// prepareTxns finds or makes the topics, and notes where they end.
func (r *txnRun) prepareTxns(ctx context.Context, admin *kadm.Client) error {
	var names []TxnTopic
	for _, t := range r.topics {
		if err := t.prepare(ctx, admin); err != nil {
			return err
		}
		names = append(names, TxnTopic{t.Topic, t.Partitions})
	}
	r.history = NewTxnHistory(names...)
	r.history.Grouped = r.Pipelines > 0
	for i, t := range r.topics {
		t.history = r.history.Topic(i)
		for p, o := range t.begin {
			t.history.FinalFrom(int32(p), o)
		}
		t.onPolled = func(name string, partition int32, offset int64, v Value) {
			r.history.Polled(Reader{Name: name}, i, partition, offset, v)
		}
		t.onRead = func(name string, partition int32) { r.history.Read(name, i, partition) }
	}
	return nil
}

// txnWorkload runs producers, pipelines and readers, and returns when all have seen the last record of
// each partition, or had their time.
func (r *txnRun) txnWorkload(ctx context.Context, admin *kadm.Client) error {
	r.enter("workload")
	work, stop := context.WithCancel(ctx)
	defer stop()
	var reading, piping, writing sync.WaitGroup
	defer reading.Wait()
	defer piping.Wait()
	defer stop() // before the waits above

	var failed atomic.Pointer[error]
	fail := func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
			stop()
		}
	}
	over := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := failed.Load(); err != nil {
			return *err
		}
		return nil
	}
	for _, t := range r.topics {
		for i := range r.Consumers {
			reading.Go(func() { fail(t.consume(work, fmt.Sprintf("consumer %d", i))) })
		}
	}
	pipes, stopPipes := context.WithCancel(work)
	defer stopPipes()
	for i := range r.Pipelines {
		piping.Go(func() { fail(r.pipeline(pipes, i)) })
	}
	var settled chan struct{}
	if r.Pipelines > 0 {
		settled = make(chan struct{})
		piping.Go(func() {
			r.watchOffsets(pipes, admin)
			close(settled)
		})
	}
	for i := range r.Producers {
		writing.Go(func() { fail(r.produceTxns(work, i)) })
	}
	writing.Wait()
	if err := over(); err != nil {
		return err
	}
	r.enter("settling")
	// What was given up is aborted; else it would hold the readers up until its timeout.
	if err := errors.Join(r.fence(ctx, kindProducer, r.Producers), r.first.mark(ctx)); err != nil {
		return err
	}
	if r.Pipelines > 0 {
		timer := time.AfterFunc(r.Settle, stopPipes)
		<-settled
		timer.Stop()
		stopPipes()
		piping.Wait()
		if err := errors.Join(over(), r.fence(ctx, kindPipeline, r.Pipelines)); err != nil {
			return err
		}
	}
	for _, t := range r.topics[1:] {
		if err := t.mark(ctx); err != nil {
			return err
		}
	}
	timer := time.AfterFunc(r.Settle, stop)
	defer timer.Stop()
	reading.Wait()
	return over()
}

// finalReads reads what all topics hold at the end, and what the group has committed.
func (r *txnRun) finalReads(ctx context.Context, admin *kadm.Client) error {
	for _, t := range r.topics {
		if err := t.finalRead(ctx, admin); err != nil {
			return err
		}
	}
	if r.Pipelines == 0 {
		return nil
	}
	settle, cancel := context.WithTimeout(ctx, r.Settle)
	defer cancel()
	if err := retry(settle, func() error {
		offsets, err := r.groupOffsets(settle, admin)
		if err != nil {
			return err
		}
		for p, o := range offsets {
			r.history.GroupOffset(p, o)
		}
		return nil
	}); err != nil {
		r.first.problem("final read: offsets of group %s: %v", r.group, err)
	}
	return ctx.Err()
}

// reportTxns is [run.report] with the counts of all topics.
func (r *txnRun) reportTxns() (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	r.first.Progress = func(p Progress) {
		p.Sent, p.Acknowledged, p.Polled, p.Final = 0, 0, 0, 0
		for _, t := range r.topics {
			p.Sent += t.sent.Load()
			p.Acknowledged += t.acked.Load()
			p.Polled += t.polled.Load()
			p.Final += t.final.Load()
		}
		p.Committed = r.committed.Load()
		r.Progress(p)
	}
	return r.first.report()
}

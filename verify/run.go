package verify

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// prepareTimeout bounds what comes before the workload, and is for a topic to be everywhere.
const prepareTimeout = 30 * time.Second

// run is one run's state.
type run struct {
	Options
	id      string // 16 hexadecimal digits
	history *History
	start   time.Time
	begin   []int64 // each partition's end before the run
	own     bool    // the topic is the run's

	// Of a run over several topics, see txnrun.go.
	committed bool                                                      // readers want committed records only
	onPolled  func(name string, partition int32, offset int64, v Value) // instead of History.Polled
	onRead    func(name string, partition int32)                        // a consumer has read a partition to its end

	phase               atomic.Value // string
	sent, acked, polled atomic.Int64
	final               atomic.Int64
	longest             atomic.Int64 // nanoseconds

	markers []atomic.Int64 // offset + 1 of each partition's last record, 0 until acknowledged

	mu       sync.Mutex
	problems []string
	dropped  int
}

// Run verifies an endpoint. The error says that the run could not be made, or was cancelled; what
// the endpoint did wrong is in the report, which is complete only where Report.Complete says so.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.complete(); err != nil {
		return Report{}, err
	}
	var id [runDigits / 2]byte
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	r := &run{Options: o, id: hex.EncodeToString(id[:])}
	admin, err := r.client()
	if err != nil {
		return Report{}, err
	}
	defer admin.Close()
	if err := r.prepare(ctx, kadm.NewClient(admin)); err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}

	r.start = time.Now()
	stopProgress := r.report()
	err = r.workload(ctx)
	seconds := time.Since(r.start).Seconds()
	if err == nil {
		r.phase.Store("final read")
		err = r.finalRead(ctx, kadm.NewClient(admin))
	}
	stopProgress()

	report := Check(r.history)
	report.Topic, report.Seconds = r.Topic, seconds
	if err == nil && r.own && report.OK() && report.Complete() {
		if _, err := kadm.NewClient(admin).DeleteTopic(ctx, r.Topic); err != nil {
			r.problem("topic %s could not be deleted: %v", r.Topic, err)
		}
	}
	report.Problems = r.listed()
	if err != nil {
		return report, fmt.Errorf("verify: %w", err)
	}
	return report, nil
}

// prepare finds or makes the topic, and notes where it ends.
func (r *run) prepare(ctx context.Context, admin *kadm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	if r.Topic == "" {
		r.Topic, r.own = "braid-verify-"+r.id, true
	}
	configs := map[string]*string{}
	for k, v := range r.Config {
		configs[k] = &v
	}
	err := retry(ctx, func() error {
		_, err := admin.CreateTopic(ctx, int32(r.Partitions), -1, configs, r.Topic)
		switch {
		case errors.Is(err, kerr.TopicAlreadyExists):
			return nil
		case errors.Is(err, kerr.InvalidReplicationFactor), kerr.IsRetriable(err):
			return err // fewer brokers are alive than the endpoint's default asks for; that may pass
		case err != nil:
			return final{err}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("create topic %s: %w", r.Topic, err)
	}
	err = retry(ctx, func() error {
		ends, err := admin.ListEndOffsets(ctx, r.Topic)
		if err != nil {
			return err
		}
		if err := ends.Error(); err != nil {
			return err
		}
		n := len(ends[r.Topic])
		if n > maxPartitions {
			return final{fmt.Errorf("it has %d partitions, and may have up to %d", n, maxPartitions)}
		}
		if n == 0 {
			return errors.New("it has no partitions")
		}
		r.begin = make([]int64, n)
		for p, e := range ends[r.Topic] {
			if int(p) >= n {
				return fmt.Errorf("partition %d of %d", p, n)
			}
			r.begin[p] = e.Offset
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("find the ends of topic %s: %w", r.Topic, err)
	}
	r.Partitions = len(r.begin)
	r.history = NewHistory(r.Partitions)
	r.history.RepeatsAllowed = r.NonIdempotent
	r.markers = make([]atomic.Int64, r.Partitions)
	for p, o := range r.begin {
		r.history.FinalFrom(int32(p), o)
	}
	return nil
}

// final is an error that does not pass.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// retry tries until it succeeds or the context ends: a topic takes a moment to be everywhere.
func retry(ctx context.Context, try func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		var f final
		if errors.As(err, &f) {
			return f.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// workload runs producers and consumers, and returns when the consumers have seen each partition's
// last record, or had their time.
func (r *run) workload(ctx context.Context) error {
	r.phase.Store("workload")
	readers, stopReaders := context.WithCancel(ctx)
	defer stopReaders()
	var reading, writing sync.WaitGroup
	defer reading.Wait()
	defer stopReaders() // before the wait above

	var failed atomic.Pointer[error]
	fail := func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
			stopReaders()
		}
	}
	for i := range r.Consumers {
		reading.Go(func() { fail(r.consume(readers, fmt.Sprintf("consumer %d", i))) })
	}
	group := newGroupRead(r)
	for i := range r.GroupConsumers {
		reading.Go(func() { fail(group.consume(readers, fmt.Sprintf("member %d", i))) })
	}
	for i := range r.Producers {
		writing.Go(func() { fail(r.produce(readers, int32(i))) })
	}
	writing.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	r.phase.Store("settling")
	if err := r.mark(ctx); err != nil {
		return err
	}
	// Readers end by themselves once they have seen the markers.
	timer := time.AfterFunc(r.Settle, stopReaders)
	defer timer.Stop()
	reading.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// problem notes what the report should tell, up to a bound.
func (r *run) problem(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.problems, s) {
		return
	}
	if len(r.problems) >= 20 {
		r.dropped++
		return
	}
	r.problems = append(r.problems, s)
}

// listed are the problems so far.
func (r *run) listed() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.problems)
	if r.dropped > 0 {
		list = append(list, fmt.Sprintf("and %d more", r.dropped))
	}
	return list
}

// report calls Progress until the function that it returns is called, which waits for the last call.
func (r *run) report() (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	tell := func() {
		phase, _ := r.phase.Load().(string)
		r.Progress(Progress{
			Phase: phase, Elapsed: time.Since(r.start), Total: r.Duration,
			Sent: r.sent.Load(), Acknowledged: r.acked.Load(), Polled: r.polled.Load(), Final: r.final.Load(),
			LongestPause: time.Duration(r.longest.Load()),
		})
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(r.ProgressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tell()
			case <-quit:
				tell()
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// begins is where every reader of the run starts.
func (r *run) begins() map[string]map[int32]kgo.Offset {
	offsets := map[int32]kgo.Offset{}
	for p, o := range r.begin {
		offsets[int32(p)] = kgo.NewOffset().At(o)
	}
	return map[string]map[int32]kgo.Offset{r.Topic: offsets}
}

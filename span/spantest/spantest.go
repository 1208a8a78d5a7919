// Package spantest is the conformance suite of the span contract. Every
// implementation of span.Store runs it in its own tests:
//
//	spantest.Run(t, func(t *testing.T) span.Store { … }, spantest.Capabilities{…})
//
// It is written against the contract's text, not against an implementation.
package spantest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Capabilities says what an implementation is not asked for, and how to treat it.
// The zero value asks for everything that no cluster lacks.
type Capabilities struct {
	// Config is set on every topic, besides what a test needs.
	Config map[string]string
	// NoSeal: the cluster grants no seal; Seal must fail with span.ErrCannotSeal.
	NoSeal bool
	// Control: transactional and control batches may be appended as they are
	// (a Kafka cluster takes them from its own coordinators only).
	Control bool
	// ProducerBatches: Producers tells each producer's last batches and offsets.
	ProducerBatches bool
	// Restart ends the store and returns it as it is after a restart of what is
	// behind it. nil: nothing is restarted.
	Restart func(t *testing.T, s span.Store) span.Store
	// Patience is how long something may take that is due now; default 3 min, as a machine may have much else to do.
	Patience time.Duration
}

type suite struct {
	open func(t *testing.T) span.Store
	caps Capabilities
}

// Run runs the suite. open returns a fresh handle to the store under test, which the
// suite closes; topics of different tests have different names.
func Run(t *testing.T, open func(t *testing.T) span.Store, caps Capabilities) {
	if caps.Patience == 0 {
		caps.Patience = 3 * time.Minute
	}
	s := &suite{open: open, caps: caps}
	for _, test := range []struct {
		name string
		run  func(e *env)
	}{
		{"CreateAndList", (*env).createAndList},
		{"FreshIDs", (*env).freshIDs},
		{"Gone", (*env).gone},
		{"AddPartitions", (*env).addPartitions},
		{"Handles", (*env).handles},
		{"AppendAndRead", (*env).appendAndRead},
		{"AppendContract", (*env).appendContract},
		{"MidBatch", (*env).midBatch},
		{"MaxBytes", (*env).maxBytes},
		{"ReadBounds", (*env).readBounds},
		{"LongPoll", (*env).longPoll},
		{"Pipelining", (*env).pipelining},
		{"PipeliningProducer", (*env).pipeliningProducer},
		{"ManyAppenders", (*env).manyAppenders},
		{"Duplicates", (*env).duplicates},
		{"OutOfOrder", (*env).outOfOrder},
		{"EpochFence", (*env).epochFence},
		{"Unsound", (*env).unsound},
		{"Timestamps", (*env).timestamps},
		{"LogAppendTime", (*env).logAppendTime},
		{"DeleteBefore", (*env).deleteBefore},
		{"Sizes", (*env).sizes},
		{"Probe", (*env).probe},
		{"Seal", (*env).seal},
		{"SealUnderFire", (*env).sealUnderFire},
		{"SealedFIFO", (*env).sealedFIFO},
		{"SealedReads", (*env).sealedReads},
		{"ProducersAfterSeal", (*env).producersAfterSeal},
		{"Transactions", (*env).transactions},
		{"Restart", (*env).restart},
		{"Health", (*env).health},
		{"Close", (*env).close},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(s.env(t)) })
	}
}

// env is what one test works with.
type env struct {
	*testing.T
	ctx  context.Context
	s    span.Store
	caps Capabilities
}

var serial atomic.Int64

func (s *suite) env(t *testing.T) *env {
	ctx, cancel := context.WithTimeout(context.Background(), 10*s.caps.Patience)
	e := &env{T: t, ctx: ctx, s: s.open(t), caps: s.caps}
	t.Cleanup(func() {
		cancel()
		if err := e.s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

// name returns a topic name that was never used.
func (e *env) name() string {
	return fmt.Sprintf("spantest-%d-%d", time.Now().UnixNano(), serial.Add(1))
}

// create makes a topic that is deleted at the end of the test.
func (e *env) create(partitions int32, config ...string) span.Topic {
	e.Helper()
	return e.createNamed(e.name(), partitions, config...)
}

func (e *env) createNamed(name string, partitions int32, config ...string) span.Topic {
	e.Helper()
	t, err := e.s.Create(e.ctx, e.spec(name, partitions, config...))
	if err != nil {
		e.Fatalf("create: %v", err)
	}
	e.Cleanup(func() {
		// The store may be closed, or the topic gone: it only has to be tidy.
		_ = e.s.Delete(e.ctx, t)
	})
	return t
}

func (e *env) spec(name string, partitions int32, config ...string) span.Spec {
	m := maps.Clone(e.caps.Config)
	if m == nil {
		m = map[string]string{}
	}
	for i := 0; i+1 < len(config); i += 2 {
		m[config[i]] = config[i+1]
	}
	return span.Spec{Name: name, Partitions: partitions, Config: m}
}

// log returns a handle that is released at the end of the test.
func (e *env) log(t span.Topic, partition int32) span.Log {
	l := e.s.Log(t, partition)
	e.Cleanup(l.Release)
	return l
}

// now is a base for timestamps that no cluster finds too old or too new.
func now() int64 { return time.Now().Add(-time.Minute).UnixMilli() }

// plain builds a batch without a producer, a record per value, at the timestamp.
func (e *env) plain(ts int64, values ...string) []byte {
	e.Helper()
	return e.build(batch.NewBuilder(), ts, values...)
}

// produced builds a batch of a producer.
func (e *env) produced(id int64, epoch int16, seq int32, ts int64, values ...string) []byte {
	e.Helper()
	return e.build(batch.NewBuilder().Producer(id, epoch, seq), ts, values...)
}

func (e *env) build(b *batch.Builder, ts int64, values ...string) []byte {
	e.Helper()
	for _, v := range values {
		b.Add(batch.Record{Timestamp: ts, Value: []byte(v)})
	}
	raw, err := b.Build()
	if err != nil {
		e.Fatalf("build a batch: %v", err)
	}
	return raw
}

// nextProducer gives producer ids far above what clusters give to their own clients.
func nextProducer() int64 { return 1<<40 + time.Now().UnixNano()%(1<<30)*64 + serial.Add(1)%64 }

// start submits an append and returns what tells its end.
func (e *env) start(l span.Log, b []byte) <-chan *span.Append {
	done := make(chan *span.Append, 1)
	a := &span.Append{Batch: b, Deadline: time.Now().Add(e.caps.Patience)}
	a.Done = func(a *span.Append) { done <- a }
	l.Append(a)
	return done
}

func (e *env) wait(done <-chan *span.Append) *span.Append {
	e.Helper()
	select {
	case a := <-done:
		return a
	case <-time.After(2 * e.caps.Patience):
		e.Fatal("append was not answered")
		return nil
	}
}

func (e *env) put(l span.Log, b []byte) *span.Append {
	e.Helper()
	return e.wait(e.start(l, b))
}

func (e *env) mustPut(l span.Log, b []byte) *span.Append {
	e.Helper()
	a := e.put(l, b)
	if a.Err != nil {
		e.Fatalf("append: %v", a.Err)
	}
	return a
}

// answered asks again while a cluster does not answer: on a busy machine one that is
// well may be slower than a store waits, and all that is asked so may be repeated.
func answered[T any](e *env, ask func() (T, error)) (T, error) {
	for end := time.Now().Add(e.caps.Patience); ; {
		v, err := ask()
		if !errors.Is(err, span.ErrUnavailable) || time.Now().After(end) {
			return v, err
		}
	}
}

func (e *env) offsets(l span.Log) span.Offsets {
	e.Helper()
	o, err := answered(e, func() (span.Offsets, error) { return l.Offsets(e.ctx) })
	if err != nil {
		e.Fatalf("offsets: %v", err)
	}
	return o
}

// record is what a reader sees of one.
type record struct {
	offset int64
	ts     int64
	value  string
}

// read returns one read's records from offset on, and where the batches begin.
func (e *env) read(l span.Log, r span.ReadRequest) ([]record, span.ReadResult) {
	e.Helper()
	res, err := answered(e, func() (span.ReadResult, error) { return l.Read(e.ctx, r) })
	if err != nil {
		e.Fatalf("read at %d: %v", r.Offset, err)
	}
	return e.records(res.Batches, r.Offset), res
}

func (e *env) records(run []byte, from int64) []record {
	e.Helper()
	var out []record
	it := batch.NewIter(run)
	for it.Next() {
		if err := batch.Verify(it.Bytes); err != nil {
			e.Fatalf("read batch: %v", err)
		}
		if it.Header.IsControl() {
			continue
		}
		for r, err := range batch.Records(it.Bytes, 64<<20) {
			if err != nil {
				e.Fatalf("read batch: %v", err)
			}
			if r.Offset >= from {
				out = append(out, record{r.Offset, r.Timestamp, string(r.Value)})
			}
		}
	}
	if err := it.Err(); err != nil || len(it.Rest()) > 0 {
		e.Fatalf("read returned something else than whole batches: %d bytes left, %v", len(it.Rest()), err)
	}
	return out
}

// all reads everything from offset to the high watermark.
func (e *env) all(l span.Log, offset int64) []record {
	e.Helper()
	var out []record
	for {
		res, err := answered(e, func() (span.ReadResult, error) {
			return l.Read(e.ctx, span.ReadRequest{Offset: offset, MaxBytes: 1 << 20})
		})
		if err != nil {
			e.Fatalf("read at %d: %v", offset, err)
		}
		if len(res.Batches) == 0 {
			res.Release()
			if offset < res.HighWatermark {
				e.Fatalf("nothing at %d, below the high watermark %d", offset, res.HighWatermark)
			}
			return out
		}
		out = append(out, e.records(res.Batches, offset)...)
		for h := range batch.Walk(res.Batches) {
			offset = h.NextOffset()
		}
		res.Release()
	}
}

func (e *env) wantErr(what string, err, kind error) {
	e.Helper()
	if !errors.Is(err, kind) {
		e.Fatalf("%s: got error %v, want kind %q", what, err, kind)
	}
}

// untilGone repeats a request to a deleted topic until it finds the topic gone: brokers
// of several nodes learn of a deletion one after the other, and a busy one is late.
func (e *env) untilGone(what string, request func() error) {
	e.Helper()
	for end := time.Now().Add(e.caps.Patience); ; {
		err := request()
		if errors.Is(err, span.ErrGone) {
			return
		}
		if err != nil && !errors.Is(err, span.ErrUnavailable) || time.Now().After(end) {
			e.Fatalf("%s of a deleted topic: got error %v, want kind %q", what, err, span.ErrGone)
		}
	}
}

func (e *env) wantCode(what string, err error, code wire.Code) {
	e.Helper()
	var r *span.RejectedError
	if !errors.As(err, &r) || r.Code != code {
		e.Fatalf("%s: got error %v, want a rejection with %v", what, err, code)
	}
}

// mustSeal seals, or ends the test where nothing can be sealed.
func (e *env) mustSeal(t span.Topic) []span.End {
	e.Helper()
	ends, err := answered(e, func() ([]span.End, error) { return e.s.Seal(e.ctx, t) })
	if err != nil {
		e.Fatalf("seal: %v", err)
	}
	for i, end := range ends {
		if end.Partition != int32(i) {
			e.Fatalf("end %d is of partition %d", i, end.Partition)
		}
		if end.Producers == nil {
			continue
		}
		producers, err := answered(e, func() ([]span.Producer, error) { return e.log(t, int32(i)).Producers(e.ctx) })
		if err != nil {
			e.Fatalf("producers of sealed partition %d: %v", i, err)
		}
		byID := func(a, b span.Producer) int { return cmp.Compare(a.ID, b.ID) }
		slices.SortFunc(producers, byID)
		slices.SortFunc(end.Producers, byID)
		if !reflect.DeepEqual(slices.Clip(end.Producers), slices.Clip(producers)) && len(producers)+len(end.Producers) > 0 {
			e.Fatalf("the seal told the producers %+v of partition %d, the log has %+v", end.Producers, i, producers)
		}
	}
	return ends
}

// sameEnd compares what every store tells of an end.
func sameEnd(a, b span.End) bool {
	return a.Partition == b.Partition && a.Start == b.Start && a.End == b.End && a.MaxTimestamp == b.MaxTimestamp
}

// sealable tells whether the store seals; where not, it checks that it says so.
func (e *env) sealable() bool {
	if !e.caps.NoSeal {
		return true
	}
	_, err := e.s.Seal(e.ctx, e.create(1))
	e.wantErr("seal", err, span.ErrCannotSeal)
	return false
}

package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/leaks"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
)

var topics atomic.Int64

// checked holds the tests whose goroutines are counted.
var checked sync.Map

// patience is how long tests wait for what must happen, and appends for their turn: on a
// machine that has much else to do.
const patience = 3 * time.Minute

func topicName() string { return fmt.Sprintf("braid.test-%d-%d", time.Now().UnixNano(), topics.Add(1)) }

// open opens a store that is checked for leaked goroutines when the test ends.
func open(t testing.TB, c *testkit.Cluster, change ...func(*kafka.Options)) *kafka.Store {
	t.Helper()
	return openAt(t, strings.Split(c.Bootstrap(), ","), change...)
}

func openAt(t testing.TB, bootstrap []string, change ...func(*kafka.Options)) *kafka.Store {
	t.Helper()
	o := kafka.Options{Name: "east-1", Bootstrap: bootstrap}
	for _, f := range change {
		f(&o)
	}
	if _, again := checked.LoadOrStore(t, true); !again {
		before := goleak.IgnoreCurrent()
		t.Cleanup(func() { // the first to be registered, so after all stores were closed
			checked.Delete(t)
			// A node that the test started again waits for its process.
			leaks.None(t, before, goleak.IgnoreAnyFunction("github.com/braidstream/braid/internal/testkit.(*Process).Wait"),
				goleak.IgnoreAnyFunction("github.com/braidstream/braid/internal/testkit.fork.func1"))
		})
	}
	s, err := kafka.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func create(t testing.TB, s span.Store, partitions int32, config map[string]string) span.Topic {
	t.Helper()
	topic, err := s.Create(t.Context(), span.Spec{Name: topicName(), Partitions: partitions, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func oneBatch(t testing.TB, records int, value string) []byte {
	t.Helper()
	b := batch.NewBuilder()
	for range records {
		b.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)})
	}
	raw, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func producerBatch(t testing.TB, id int64, epoch int16, seq int32, records int, value string) []byte {
	t.Helper()
	b := batch.NewBuilder().Producer(id, epoch, seq)
	for range records {
		b.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)})
	}
	raw, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// appendSync appends and waits.
func appendSync(t testing.TB, l span.Log, raw []byte) *span.Append {
	t.Helper()
	done := make(chan struct{})
	a := &span.Append{Batch: raw, Deadline: time.Now().Add(patience), Done: func(*span.Append) { close(done) }}
	l.Append(a)
	select {
	case <-done:
	case <-time.After(2 * patience):
		t.Fatal("append was never done")
	}
	return a
}

// readAll reads every record's value from offset on up to the high watermark.
func readAll(t testing.TB, l span.Log, offset int64) (values []string, offsets []int64) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		r, err := l.Read(ctx, span.ReadRequest{Offset: offset, MaxBytes: 1 << 20})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		b := r.Batches
		for len(b) > 0 {
			h, size, err := batch.Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			for rec, err := range batch.Records(b[:size], 64<<20) {
				if err != nil {
					t.Fatal(err)
				}
				if rec.Offset >= offset {
					values, offsets = append(values, string(rec.Value)), append(offsets, rec.Offset)
				}
			}
			offset = h.NextOffset()
			b = b[size:]
		}
		done := offset >= r.HighWatermark
		r.Release()
		if done {
			return values, offsets
		}
	}
}

func versions(t *testing.T, f func(t *testing.T, c *testkit.Cluster)) {
	for _, v := range []string{testkit.Kafka43, testkit.Kafka39} {
		t.Run(v, func(t *testing.T) { f(t, testkit.Shared(t, testkit.Version(v))) })
	}
}

func TestAppendReadSeal(t *testing.T) {
	versions(t, func(t *testing.T, c *testkit.Cluster) {
		s := open(t, c)
		topic := create(t, s, 3, map[string]string{"max.message.bytes": "2000000"})
		if _, err := s.Create(t.Context(), span.Spec{Name: topic.Name, Partitions: 1}); !errors.Is(err, span.ErrExists) {
			t.Fatalf("second create: %v", err)
		}
		l := s.Log(topic, 1)
		defer l.Release()
		if err := l.Probe(t.Context()); err != nil {
			t.Fatalf("probe of an open topic: %v", err)
		}
		raw := oneBatch(t, 3, "v")
		before := bytes.Clone(raw)
		for i := range 5 {
			a := appendSync(t, l, raw)
			if a.Err != nil || a.BaseOffset != int64(3*i) || a.LogAppendTime != -1 {
				t.Fatalf("append %d: %+v", i, a)
			}
		}
		if !bytes.Equal(raw, before) {
			t.Error("the store changed the caller's batch")
		}
		values, offsets := readAll(t, l, 4)
		if len(values) != 11 || offsets[0] != 4 {
			t.Fatalf("read %d values from %v", len(values), offsets)
		}
		o, err := l.Offsets(t.Context())
		if err != nil || o.Start != 0 || o.End != 15 || o.HighWatermark != 15 || o.LastStable != 15 {
			t.Fatalf("offsets %+v %v", o, err)
		}
		if start, err := l.DeleteBefore(t.Context(), 6); err != nil || start != 6 {
			t.Fatalf("trim: %d %v", start, err)
		}
		if _, err := l.Read(t.Context(), span.ReadRequest{Offset: 2}); !errors.Is(err, span.ErrOffsetOutOfRange) {
			t.Fatalf("read below the start: %v", err)
		}
		if _, err := l.Read(t.Context(), span.ReadRequest{Offset: 99}); !errors.Is(err, span.ErrOffsetOutOfRange) {
			t.Fatalf("read past the end: %v", err)
		}
		at, found, err := l.OffsetFor(t.Context(), span.MaxTimestamp)
		if err != nil || !found || at.Timestamp <= 0 {
			t.Fatalf("largest timestamp: %+v %v %v", at, found, err)
		}
		a := appendSync(t, l, producerBatch(t, 1<<41, 3, 0, 2, "p"))
		if a.Err != nil || a.BaseOffset != 15 {
			t.Fatalf("%+v", a)
		}
		a = appendSync(t, l, producerBatch(t, 1<<41, 3, 0, 2, "p"))
		if a.Err != nil || a.BaseOffset != 15 || !a.Duplicate {
			t.Fatalf("duplicate: %+v", a)
		}
		a = appendSync(t, l, producerBatch(t, 1<<41, 3, 7, 2, "p"))
		var rejected *span.RejectedError
		if !errors.As(a.Err, &rejected) {
			t.Fatalf("gap: %+v", a)
		}
		for i := range 3 {
			ends, err := s.Seal(t.Context(), topic)
			if err != nil {
				t.Fatalf("seal %d: %v", i, err)
			}
			if ends[1].End != 17 || ends[1].Start != 6 || ends[1].MaxTimestamp <= 0 || ends[0].End != 0 || ends[0].MaxTimestamp != -1 {
				t.Fatalf("ends %+v", ends)
			}
		}
		if a := appendSync(t, l, raw); !errors.Is(a.Err, span.ErrSealed) {
			t.Fatalf("append after the seal: %+v", a)
		}
		if err := l.Probe(t.Context()); !errors.Is(err, span.ErrSealed) {
			t.Fatalf("probe of a sealed topic: %v", err)
		}
		if err := s.Configure(t.Context(), topic, map[string]string{"max.message.bytes": "3000000", "retention.ms": "5000000"}); err != nil {
			t.Fatal(err)
		}
		if a := appendSync(t, l, raw); !errors.Is(a.Err, span.ErrSealed) {
			t.Fatalf("append after configuring a sealed topic: %+v", a)
		}
		ps, err := l.Producers(t.Context())
		if err != nil || len(ps) != 1 || ps[0].ID != 1<<41 || ps[0].Epoch != 3 || ps[0].LastSequence != 1 || ps[0].TxnStart != -1 {
			t.Fatalf("producers %+v %v", ps, err)
		}
		for range 2 {
			if err := s.TakeSealBack(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Probe(t.Context()); err != nil {
			t.Fatalf("probe after the seal was taken back: %v", err)
		}
		if a := appendSync(t, l, raw); a.Err != nil || a.BaseOffset != 17 {
			t.Fatalf("append after the seal was taken back: %+v", a)
		}
		// As large as it was configured while it was sealed.
		if a := appendSync(t, l, oneBatch(t, 1, string(make([]byte, 2_500_000)))); a.Err != nil {
			t.Fatalf("large append after the seal was taken back: %+v", a)
		}
		if err := s.AddPartitions(t.Context(), topic, 5); err != nil {
			t.Fatal(err)
		}
		l4 := s.Log(topic, 4)
		defer l4.Release()
		if a := appendSync(t, l4, raw); a.Err != nil {
			t.Fatalf("append to a new partition: %+v", a)
		}
		h, err := s.Health(t.Context())
		if err != nil || !h.CanSeal || !h.Writable || h.Brokers != 1 || h.Answering != 1 || h.ClusterID != c.ID() {
			t.Fatalf("health %+v %v", h, err)
		}
		t.Logf("health %+v", h)
		list, err := s.Topics(t.Context(), "braid.test")
		if err != nil || len(list) == 0 {
			t.Fatalf("topics %v %v", list, err)
		}
		if err := s.Delete(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), topic); err != nil {
			t.Fatalf("second delete: %v", err)
		}
		// The controller has answered; the broker hears of it in its time.
		waitFor(t, "appends to a deleted topic to be refused", func() bool { return errors.Is(appendSync(t, l, raw).Err, span.ErrGone) })
		waitFor(t, "reads of a deleted topic to be refused", func() bool {
			r, err := l.Read(t.Context(), span.ReadRequest{Offset: 10})
			r.Release()
			return errors.Is(err, span.ErrGone)
		})
		waitFor(t, "the cluster to confirm that the topic is gone", func() bool {
			gone, err := s.ConfirmGone(t.Context(), topic)
			return err == nil && gone
		})
		// Another cluster at the address has none of the topics either: that says nothing of them.
		wrong := open(t, c, func(o *kafka.Options) { o.ClusterID = "another" })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if gone, err := wrong.ConfirmGone(ctx, topic); gone || err == nil {
			t.Fatalf("another cluster confirms: gone %v, %v", gone, err)
		}
		if list, err := wrong.Topics(ctx, "braid.test"); err == nil {
			t.Fatalf("another cluster lists %v", list)
		}
		another, err := s.Create(t.Context(), span.Spec{Name: topic.Name, Partitions: 1})
		if err != nil {
			t.Fatal(err)
		}
		if gone, err := s.ConfirmGone(t.Context(), another); err != nil || gone {
			t.Fatalf("a topic that is there: gone %v, %v", gone, err)
		}
		waitFor(t, "the cluster to confirm that another topic has the name", func() bool {
			gone, err := s.ConfirmGone(t.Context(), topic)
			return err == nil && gone
		})
	})
}

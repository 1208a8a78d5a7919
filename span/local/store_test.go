package local_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
)

func open(t testing.TB, dir string, change ...func(*local.Options)) *local.Store {
	t.Helper()
	o := local.Options{Dir: dir, Name: "here", MinSpace: -1, LowSpace: -1, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&o)
	}
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t testing.TB, s span.Store, name string, partitions int32, config ...string) span.Topic {
	t.Helper()
	cfg := map[string]string{}
	for i := 0; i < len(config); i += 2 {
		cfg[config[i]] = config[i+1]
	}
	topic, err := s.Create(context.Background(), span.Spec{Name: name, Partitions: partitions, Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// made builds a batch of records with the values given, at the timestamp.
func made(t testing.TB, ts int64, values ...string) []byte {
	t.Helper()
	b := batch.NewBuilder()
	for _, v := range values {
		b.Add(batch.Record{Timestamp: ts, Value: []byte(v)})
	}
	raw, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// put appends one batch and waits.
func put(l span.Log, b []byte) *span.Append {
	done := make(chan struct{})
	a := &span.Append{Batch: b, Done: func(*span.Append) { close(done) }}
	l.Append(a)
	<-done
	return a
}

func mustPut(t testing.TB, l span.Log, b []byte) *span.Append {
	t.Helper()
	a := put(l, b)
	if a.Err != nil {
		t.Fatal(a.Err)
	}
	return a
}

// readAll returns the values of all records from offset to the high watermark, as "offset=value".
func readAll(t testing.TB, l span.Log, offset int64) []string {
	t.Helper()
	var out []string
	for {
		r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Batches) == 0 {
			return out
		}
		it := batch.NewIter(r.Batches)
		for it.Next() {
			if err := batch.Verify(it.Bytes); err != nil {
				t.Fatal(err)
			}
			for rec, err := range batch.Records(it.Bytes, 1<<24) {
				if err != nil {
					t.Fatal(err)
				}
				if rec.Offset >= offset {
					out = append(out, fmt.Sprintf("%d=%s", rec.Offset, rec.Value))
				}
			}
			offset = it.Header.NextOffset()
		}
		r.Release()
	}
}

func TestAppendReadReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	topic := create(t, s, "t", 2)
	l := s.Log(topic, 1)
	for i := range 10 {
		if a := mustPut(t, l, made(t, int64(1000+i), fmt.Sprint("a", i), fmt.Sprint("b", i))); a.BaseOffset != int64(2*i) {
			t.Fatalf("offset %d, want %d", a.BaseOffset, 2*i)
		}
	}
	want := readAll(t, l, 0)
	if len(want) != 20 {
		t.Fatal(want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, func(o *local.Options) { o.FlushBytes = 1 })
	l = s.Log(topic, 1)
	if got := readAll(t, l, 0); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if a := mustPut(t, l, made(t, 2000, "x")); a.BaseOffset != 20 {
		t.Fatal(a.BaseOffset)
	}
	at, ok, err := l.OffsetFor(context.Background(), 1005)
	if err != nil || !ok || at.Offset != 10 {
		t.Fatal(at, ok, err)
	}
	at, ok, err = l.OffsetFor(context.Background(), span.MaxTimestamp)
	if err != nil || !ok || at.Offset != 20 {
		t.Fatal(at, ok, err)
	}
	ends, err := s.Seal(context.Background(), topic)
	if err != nil || ends[1].End != 21 {
		t.Fatal(ends, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	l = s.Log(topic, 1)
	if got := readAll(t, l, 0); len(got) != 21 {
		t.Fatal(got)
	}
	if a := put(l, made(t, 1, "y")); a.Err != span.ErrSealed {
		t.Fatal(a.Err)
	}
}

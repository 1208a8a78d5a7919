package local_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

func memOptions(fs *vfs.Mem) local.Options {
	return local.Options{Dir: "/data", Name: "here", FS: fs, LogFileBytes: 64 << 10, FlushBytes: 1 << 30, MemoryBudget: 4 << 20,
		MinSpace: -1, LowSpace: -1, Logger: slog.New(slog.DiscardHandler)}
}

// written is a directory with every kind of file, and what was acknowledged in it.
type written struct {
	fs     *vfs.Mem
	topics []span.Topic
	values [][]string // by topic, offset order
}

func writeDirectory(t testing.TB) written {
	w := written{fs: vfs.NewMem()}
	s, err := local.Open(memOptions(w.fs))
	if err != nil {
		t.Fatal(err)
	}
	add := func(i, n int) {
		l := s.Log(w.topics[i], 0)
		defer l.Release()
		for j := range n {
			v := fmt.Sprintf("%d/%d/%0*d", i, len(w.values[i]), 1+j%3*400, 0)
			b := batch.NewBuilder().Producer(1<<40, 0, int32(len(w.values[i])))
			raw, err := b.Add(batch.Record{Timestamp: int64(1000 + j), Value: []byte(v)}).Build()
			if err != nil {
				t.Fatal(err)
			}
			a := mustPut(t, l, raw)
			w.values[i] = append(w.values[i], fmt.Sprintf("%d=%s", a.BaseOffset, v))
		}
	}
	for i := range 2 {
		topic, err := s.Create(context.Background(), span.Spec{Name: fmt.Sprint("t", i), Partitions: 1, Config: map[string]string{"segment.bytes": "6000", "retention.ms": "-1"}})
		if err != nil {
			t.Fatal(err)
		}
		w.topics = append(w.topics, topic)
		w.values = append(w.values, nil)
		add(i, 30)
	}
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	add(0, 20)
	add(1, 5)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestWhole: a directory without damage is found to have none.
func TestWhole(t *testing.T) {
	w := writeDirectory(t)
	r, err := local.CheckFS(w.fs, "/data")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 || r.Topics != 2 || r.Batches != 85 || r.Segments < 4 {
		t.Fatalf("report %+v", r)
	}
	var got []string
	err = local.DumpFS(w.fs, "/data", "t0", 0, func(d local.Dumped) error {
		if d.Problem != "" {
			return errors.New(d.Problem)
		}
		for rec, err := range batch.Records(d.Raw, 1<<20) {
			if err != nil {
				return err
			}
			got = append(got, fmt.Sprintf("%d=%s", rec.Offset, rec.Value))
		}
		return nil
	})
	if err != nil || !slices.Equal(got, w.values[0]) {
		t.Fatalf("dump: %v, %d records", err, len(got))
	}
}

// TestFlippedBits damages every kind of file at many places. Whatever is
// hit: what is served is what was written, and what is not served is said so.
func TestFlippedBits(t *testing.T) {
	w := writeDirectory(t)
	sizes := w.fs.Sizes()
	names := slices.Sorted(maps.Keys(sizes))
	kinds := map[string]int{}
	for _, name := range names {
		step := int64(1)
		if sizes[name] > 2000 {
			step = 37
		}
		if sizes[name] > 60_000 {
			step = 211
		}
		for at := int64(0); at < sizes[name]; at += step {
			fs := w.fs.Clone()
			fs.Flip(name, at, 1<<(at%8))
			outcome := afterDamage(t, w, fs, fmt.Sprintf("%s at %d", name, at))
			kind := name[strings.LastIndex(name, "/")+1:]
			if i := strings.LastIndex(kind, "."); i >= 0 {
				kind = kind[i:]
			}
			kinds[kind+" "+outcome]++
		}
	}
	t.Logf("outcomes: %v", kinds)
}

// afterDamage opens a damaged directory and returns what came of it: "refused",
// "fenced", or "harmless".
func afterDamage(t *testing.T, w written, fs *vfs.Mem, what string) string {
	report, checkErr := local.CheckFS(fs.Clone(), "/data")
	s, err := local.Open(memOptions(fs))
	if err != nil {
		if checkErr == nil && len(report.Problems) == 0 {
			t.Errorf("%s: check finds nothing, open fails: %v", what, err)
		}
		return "refused"
	}
	defer s.Close()
	h, err := s.Health(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	outcome := "harmless"
	for i, topic := range w.topics {
		l := s.Log(topic, 0)
		o, err := l.Offsets(context.Background())
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if o.End != int64(len(w.values[i])) && h.Writable {
			t.Errorf("%s: topic %d ends at %d of %d, and takes appends", what, i, o.End, len(w.values[i]))
		}
		for offset := range int64(len(w.values[i])) {
			r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 1})
			switch {
			case err == nil && len(r.Batches) > 0:
				rec, err := firstRecord(r.Batches)
				if err != nil || rec != w.values[i][offset] {
					t.Errorf("%s: offset %d is served as %.30q, %v", what, offset, rec, err)
				}
			case errors.Is(err, span.ErrStorage):
				outcome = "fenced"
			case !h.Writable:
				outcome = "fenced"
			default:
				t.Errorf("%s: offset %d of topic %d is gone: %v", what, offset, i, err)
			}
			r.Release()
		}
		l.Release()
	}
	if outcome != "harmless" && checkErr == nil && len(report.Problems) == 0 {
		t.Errorf("%s: check finds nothing, reads fail", what)
	}
	return outcome
}

func firstRecord(b []byte) (string, error) {
	h, size, err := batch.Parse(b)
	if err != nil || size != len(b) {
		return "", fmt.Errorf("%d bytes of %d: %w", len(b), size, err)
	}
	for rec, err := range batch.Records(b, 1<<20) {
		return fmt.Sprintf("%d=%s", h.BaseOffset, rec.Value), err
	}
	return "", errors.New("empty")
}

package local_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit/summary"
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
	fs     *vfs.Mem // of a process that came to its end
	killed *vfs.Mem // of one that was killed instead
	topics []span.Topic
	values [][]string // by topic, offset order
	// Twelve records, the keys and values told by their offsets.
	compacted span.Topic
	// Transactions of two records each, the odd ones aborted, in segments and in the log.
	transacted span.Topic
	committed  []string // offset order
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
	// One that a compaction went over, with all of its records in it.
	topic, err := s.Create(context.Background(), span.Spec{Name: "compacted", Partitions: 1, Config: map[string]string{
		"segment.bytes": "4096", "retention.ms": "-1", "cleanup.policy": "compact"}})
	if err != nil {
		t.Fatal(err)
	}
	w.compacted = topic
	l := s.Log(topic, 0)
	for i := range 12 {
		value := fmt.Sprintf("%0500d", i)
		raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: 1, Key: fmt.Append(nil, i), Value: []byte(value)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
	l.Release()
	w.transacted = create(t, s, "transacted", 1, "segment.bytes", "4096", "retention.ms", "-1")
	w.transact(t, s, 0, 8)
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.CompactNow(); err != nil {
		t.Fatal(err)
	}
	add(0, 20)
	add(1, 5)
	w.transact(t, s, 8, 12)
	w.killed = w.fs.Clone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *written) transact(t testing.TB, s *local.Store, from, to int) {
	l := s.Log(w.transacted, 0)
	defer l.Release()
	for i := from; i < to; i++ {
		id := int64(1)<<41 + int64(i%3)
		for r := range 2 {
			v := fmt.Sprintf("txn/%d/%d/%0*d", i, r, 1+r*400, 0)
			raw, err := batch.NewBuilder().Producer(id, 0, int32(i/3*2+r)).Transactional().Add(batch.Record{Timestamp: 1, Value: []byte(v)}).Build()
			if err != nil {
				t.Fatal(err)
			}
			if a := mustPut(t, l, raw); i%2 == 0 {
				w.committed = append(w.committed, fmt.Sprintf("%d=%s", a.BaseOffset, v))
			}
		}
		raw, err := batch.Marker{Commit: i%2 == 0, ProducerID: id, Timestamp: 1}.Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
}

// TestWhole: a directory without damage is found to have none.
func TestWhole(t *testing.T) {
	w := writeDirectory(t)
	r, err := local.CheckFS(w.fs, "/data")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 || r.Topics != 4 || r.Batches != 133 || r.Segments < 6 {
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

// TestFlippedBits damages every kind of file at many places, all of their headers and ends among them, after a clean stop and after a kill. Whatever is
// hit: what is served is what was written, and what is not served is said so.
func TestFlippedBits(t *testing.T) {
	w := writeDirectory(t)
	kinds := map[string]int{}
	var mu sync.Mutex
	flip := func(t *testing.T, left *vfs.Mem, names []string) {
		sizes := left.Sizes()
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for at := range flips(sizes[name]) {
					fs := left.Clone()
					fs.Flip(name, at, 1<<(at%8))
					outcome := afterDamage(t, w, fs, fmt.Sprintf("%s at %d", name, at))
					kind := name[strings.LastIndex(name, "/")+1:]
					if i := strings.LastIndex(kind, "."); i >= 0 {
						kind = kind[i:]
					}
					mu.Lock()
					kinds[kind+" "+outcome]++
					mu.Unlock()
				}
			})
		}
	}
	t.Run("files", func(t *testing.T) {
		flip(t, w.fs, slices.Sorted(maps.Keys(w.fs.Sizes())))
		t.Run("killed", func(t *testing.T) {
			// Segments are the same.
			flip(t, w.killed, append(logFiles(w.killed), "/data/checkpoint", "/data/synced"))
		})
	})
	places := 0
	for _, n := range kinds {
		places += n
	}
	t.Logf("outcomes: %v", kinds)
	if !t.Failed() {
		summary.Line(t, "local engine: %d flipped bits in files of every kind, nothing but what was written is served", places)
	}
	for _, kind := range []string{"BRAID", "checkpoint", "synced", ".log", ".seg"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(kinds)), func(k string) bool { return strings.HasPrefix(k, kind+" ") }) {
			t.Errorf("no %s was damaged", kind)
		}
		delete(kinds, kind+" harmless")
		delete(kinds, kind+" fenced")
		delete(kinds, kind+" refused")
	}
	if len(kinds) > 0 {
		t.Errorf("there are files of other kinds: %v", kinds)
	}
}

// flips are the places of a file of a size that are damaged: its first and last bytes, where headers, trailers and checksums are,
// and some between.
func flips(size int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		const dense = 64
		step := flipStep(size)
		for at := int64(0); at < size; at++ {
			edge := at < dense || at >= size-dense
			if (at%step == 0 || edge && (!testing.Short() || at%7 == 0)) && !yield(at) {
				return
			}
		}
	}
}

// flipStep is the distance between the places of a file that are damaged.
func flipStep(size int64) int64 {
	step := int64(1)
	switch {
	case size > 60_000:
		step = 307
	case size > 2000:
		step = 101
	}
	if os.Getenv("BRAID_SOAK") != "" {
		return (step + 2) / 3
	}
	if testing.Short() {
		return step * 7
	}
	return step
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
	outcome = w.transactionsAfterDamage(t, s, h.Writable, what, outcome)
	outcome = w.timesAfterDamage(t, s, h.Writable, what, outcome)
	outcome = w.compactedAfterDamage(t, s, h.Writable, what, outcome)
	if outcome != "harmless" && checkErr == nil && len(report.Problems) == 0 {
		t.Errorf("%s: check finds nothing, reads fail", what)
	}
	return outcome
}

// transactionsAfterDamage reads what was committed.
func (w *written) transactionsAfterDamage(t *testing.T, s *local.Store, writable bool, what, outcome string) string {
	l := s.Log(w.transacted, 0)
	defer l.Release()
	o, err := l.Offsets(context.Background())
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return outcome
	}
	if want := int64(36); o.LastStable != want && writable {
		t.Errorf("%s: last stable offset %d of %d, and takes appends", what, o.LastStable, want)
	}
	seen := map[int64]modelRecord{}
	for offset := int64(0); offset < o.LastStable; {
		r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 600, Committed: true})
		if err == nil && len(r.Batches) > 0 {
			offset = shown(t, &r, offset, true, seen)
			r.Release()
			continue
		}
		r.Release()
		if !errors.Is(err, span.ErrStorage) && writable {
			t.Errorf("%s: committed records at %d: %v", what, offset, err)
		}
		outcome = "fenced"
		offset++ // others can be read
	}
	for _, c := range w.committed {
		offset, value := int64(0), ""
		if _, err := fmt.Sscanf(c, "%d=%s", &offset, &value); err != nil {
			t.Fatal(err)
		}
		if r, ok := seen[offset]; ok && r.value != value || !ok && outcome == "harmless" && writable {
			t.Errorf("%s: the committed record %.20s is read as %.20q", what, c, r.value)
		}
		delete(seen, offset)
	}
	for offset, r := range seen {
		t.Errorf("%s: read as committed: %d, %v", what, offset, r)
	}
	return outcome
}

// timesAfterDamage looks up times: the answer is right, or there is none.
func (w *written) timesAfterDamage(t *testing.T, s *local.Store, writable bool, what, outcome string) string {
	l := s.Log(w.topics[0], 0)
	defer l.Release()
	for _, c := range []struct{ ms, want int64 }{{1000, 0}, {1013, 13}, {1029, 29}, {span.MaxTimestamp, 29}} {
		at, found, err := l.OffsetFor(context.Background(), c.ms)
		switch {
		case errors.Is(err, span.ErrStorage):
			outcome = "fenced"
		case !writable: // offsets that are lost have no times any more
		case err != nil || !found || at.Offset != c.want:
			t.Errorf("%s: time %d is at %+v, %v, %v, want %d", what, c.ms, at, found, err, c.want)
		}
	}
	return outcome
}

// compactedAfterDamage reads the compacted topic, before and after another compaction: what is damaged
// is not served, and no compaction drops it silently.
func (w *written) compactedAfterDamage(t *testing.T, s *local.Store, writable bool, what, outcome string) string {
	l := s.Log(w.compacted, 0)
	defer l.Release()
	for round := range 2 {
		fenced := !writable
		offset := int64(0)
		seen := int64(0)
		for offset < 12 {
			r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 1})
			if errors.Is(err, span.ErrStorage) || err == nil && len(r.Batches) == 0 || errors.Is(err, span.ErrOffsetOutOfRange) && !writable {
				fenced = fenced || err != nil
				r.Release()
				break
			}
			if err != nil {
				t.Errorf("%s: compacted topic at %d: %v", what, offset, err)
				break
			}
			for h, b := range batch.Walk(r.Batches) {
				offset = h.NextOffset()
				for rec, err := range batch.Records(b, 1<<20) {
					if err != nil || string(rec.Key) != fmt.Sprint(rec.Offset) || string(rec.Value) != fmt.Sprintf("%0500d", rec.Offset) {
						t.Errorf("%s: compacted topic serves %d as %.20q, %v", what, rec.Offset, rec.Key, err)
					}
					seen++
				}
			}
			r.Release()
		}
		if seen < 12 && !fenced {
			t.Errorf("%s: round %d: %d of 12 records of the compacted topic, and nothing is said", what, round, seen)
		}
		if fenced {
			outcome = "fenced"
		}
		if round == 0 {
			_ = s.CompactNow() // it may meet the damage
		}
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

// hotFS says that the page cache holds everything.
type hotFS struct{ *vfs.Mem }

type hotFile struct{ vfs.File }

func (f hotFS) OpenWrite(name string) (vfs.File, error) {
	file, err := f.Mem.OpenWrite(name)
	return hotFile{file}, err
}

func (f hotFS) Create(name string) (vfs.File, error) {
	file, err := f.Mem.Create(name)
	return hotFile{file}, err
}

func (hotFile) Cached(int64, int64) (all, known bool) { return true, true }

// What the page cache holds is checked when it is first read, and again after a while.
func TestHotReadsAreCheckedAgain(t *testing.T) {
	mem := vfs.NewMem()
	o := memOptions(mem)
	o.FS, o.LogFileBytes = hotFS{mem}, 1<<20
	var passed atomic.Int64
	o.Steady = func() time.Duration { return time.Duration(passed.Load()) }
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	topic, err := s.Create(t.Context(), span.Spec{Name: "t", Partitions: 1, Config: map[string]string{"retention.ms": "-1"}})
	if err != nil {
		t.Fatal(err)
	}
	s = inSegments(t, s, o, topic)
	defer s.Close()
	l := s.Log(topic, 0)
	defer l.Release()
	read := func() error {
		r, err := l.Read(t.Context(), span.ReadRequest{Offset: 0, MaxBytes: 250_000})
		if err == nil && len(r.Batches) == 0 {
			err = errors.New("nothing is read")
		}
		r.Release()
		return err
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	flipped := false
	for name, size := range mem.Sizes() {
		if strings.HasSuffix(name, ".seg") && size > 300_000 {
			mem.Flip(name, 50_000, 1)
			flipped = true
		}
	}
	if !flipped {
		t.Fatalf("no segment among %v", mem.Sizes())
	}
	if err := read(); err != nil {
		t.Fatalf("what was checked a moment ago is checked again: %v", err)
	}
	passed.Add(int64(10 * time.Minute))
	if err := read(); !errors.Is(err, span.ErrStorage) {
		t.Fatalf("ten minutes later: %v", err)
	}
}

package local_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// interrupted is a directory of a process that was killed, with something to do for each part of a start: a log to replay
// over several files, what is not known to be synced, segments that nothing names, a topic whose deletion is in the log,
// and what was acknowledged in it.
type interrupted struct {
	fs        *vfs.Mem
	plain     span.Topic
	compacted span.Topic
	sealed    span.Topic
	values    []string          // of plain
	latest    map[string]string // of compacted
}

func interrupt(t *testing.T) *interrupted {
	w := &interrupted{fs: vfs.NewMem(), latest: map[string]string{}}
	s, err := local.Open(memOptions(w.fs))
	if err != nil {
		t.Fatal(err)
	}
	w.plain = create(t, s, "plain", 1, "segment.bytes", "5000", "retention.ms", "-1")
	w.compacted = create(t, s, "compacted", 1, "cleanup.policy", "compact", "segment.bytes", "4096")
	w.sealed = create(t, s, "sealed", 1)
	deleted := create(t, s, "deleted", 1)
	write := func(n int) {
		for range n {
			i := len(w.values)
			v := fmt.Sprintf("%d/%0*d", i, 1+i%4*900, 0)
			a := mustPut(t, s.Log(w.plain, 0), made(t, 1, v))
			w.values = append(w.values, fmt.Sprintf("%d=%s", a.BaseOffset, v))
			key := fmt.Sprint("key", i%5)
			raw, err := batch.NewBuilder().Producer(1<<40, 0, int32(i)).Add(batch.Record{Timestamp: 1, Key: []byte(key), Value: []byte(v)}).Build()
			if err != nil {
				t.Fatal(err)
			}
			mustPut(t, s.Log(w.compacted, 0), raw)
			w.latest[key] = v
			mustPut(t, s.Log(deleted, 0), made(t, 1, "x"))
		}
	}
	write(20)
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.CompactNow(); err != nil {
		t.Fatal(err)
	}
	write(20)
	if _, err := s.Seal(t.Context(), w.sealed); err != nil {
		t.Fatal(err)
	}
	write(5)
	if err := s.Delete(t.Context(), deleted); err != nil {
		t.Fatal(err)
	}
	// It ends when segments are written, and no checkpoint names them yet.
	killed := w.fs
	ran := once(w.fs, vfs.OpSync, func() { w.fs = killed.Kill() })
	_ = s.FlushNow() // it does not come to its end
	if !ran() {
		t.Fatal("no segment was written")
	}
	_ = s.Close() // its file system is gone
	return w
}

// TestFaultAtEveryOperationOfAStart: as TestFaultAtEveryOperation, of a start after a kill, and what comes first after it. A start that
// fails says so, and leaves everything to the next one: nothing that cannot be read for once counts as the end of the log.
func TestFaultAtEveryOperationOfAStart(t *testing.T) {
	was := interrupt(t)
	atEveryOperation(t, "a start after a kill", 90, func(t *testing.T, p *plan) {
		fs := was.fs.Clone()
		p.on(fs)
		o := memOptions(fs)
		o.FlushBytes = 8 << 10
		values := slices.Clone(was.values)
		s := reopened(t, p, o)
		if s != nil {
			_ = s.CompactNow() // these may fail
			v := fmt.Sprintf("%d/more", len(values))
			if a := put(s.Log(was.plain, 0), made(t, 1, v)); a.Err == nil {
				values = append(values, fmt.Sprintf("%d=%s", a.BaseOffset, v))
			} else {
				refusedOrUnknown(t, p, a.Err)
			}
			_ = s.KeepNow()
		}
		fs.SetFault(nil)
		left := []*vfs.Mem{fs.Clone(), fs.Crash(rand.New(rand.NewPCG(uint64(p.after), 3)))}
		if s != nil {
			_ = s.Close() // of a crashed file system it fails
		}
		for _, fs := range left {
			was.verify(t, p, fs, values)
		}
	})
}

func (w *interrupted) verify(t *testing.T, p *plan, fs *vfs.Mem, values []string) {
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatalf("%s: cannot be opened again: %v", p, err)
	}
	defer func() { _ = s.Close() }()
	if h, err := s.Health(context.Background()); err != nil || !h.Writable {
		t.Fatalf("%s: opened again, %+v, %v", p, h, err)
	}
	list, err := s.Topics(context.Background(), "")
	if err != nil || len(list) != 3 {
		t.Fatalf("%s: topics %v, %v", p, list, err)
	}
	// One whose outcome is unknown may be there as well.
	if got := readAll(t, s.Log(w.plain, 0), 0); len(got) < len(values) || len(got) > len(w.values)+1 || !slices.Equal(got[:len(values)], values) {
		t.Fatalf("%s: %d records, %d were acknowledged", p, len(got), len(values))
	}
	got, _ := readKeyed(t, s.Log(w.compacted, 0), false)
	last, at := map[string]string{}, map[string]int64{}
	for offset, k := range got {
		if was, ok := at[k.key]; !ok || offset > was {
			at[k.key], last[k.key] = offset, k.value
		}
	}
	for key, value := range w.latest {
		if last[key] != value {
			t.Fatalf("%s: key %s has %.20q, want %.20q", p, key, last[key], value)
		}
	}
	if a := put(s.Log(w.sealed, 0), made(t, 1, "late")); a.Err == nil {
		t.Fatalf("%s: a sealed topic takes appends", p)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("%s: close: %v", p, err)
	}
	if rep, err := local.CheckFS(fs, "/data"); err != nil || len(rep.Problems) > 0 {
		t.Fatalf("%s: check: %+v, %v", p, rep, err)
	}
}

package local_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// apartLog is a log of batches of all sizes, all of them in segments of which the page cache has everything.
func apartLog(t *testing.T, seed uint64) (l span.Log, bases []int64) {
	t.Helper()
	mem := vfs.NewMem()
	o := memOptions(mem)
	o.FS, o.LogFileBytes, o.MemoryBudget = hotFS{mem}, 1<<20, 8<<20
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1", "segment.bytes", "5000000")
	l = s.Log(topic, 0)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 80 {
		size := 4096 + rng.IntN(200_000)
		if rng.IntN(8) == 0 {
			size = rng.IntN(4000)
		}
		value := bytes.Repeat(binary.BigEndian.AppendUint64(nil, rng.Uint64()), size/8+1)
		b := batch.NewBuilder()
		for range 1 + rng.IntN(3) {
			b.Add(batch.Record{Timestamp: 1, Value: value[:size/3]})
		}
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		bases = append(bases, mustPut(t, l, raw).BaseOffset)
	}
	l.Release()
	if err := s.Close(); err != nil { // everything goes to segments
		t.Fatal(err)
	}
	if s, err = local.Open(o); err != nil {
		t.Fatal(err)
	}
	l = s.Log(topic, 0)
	t.Cleanup(func() {
		l.Release()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	readAll(t, l, 0) // and is checked
	return l, bases
}

// joined is what a read brought, apart or not.
func joined(r *span.ReadResult) []byte {
	out := append([]byte(nil), r.Batches...)
	for _, a := range r.Apart {
		out = append(append(out, a.Header...), a.Rest...)
	}
	return out
}

// What is handed out apart are the bytes that a copy would hold, and stays so until it is released,
// whatever is read meanwhile: windows that go are spoilt here.
func TestReadApart(t *testing.T) {
	l, bases := apartLog(t, 1)
	rng := rand.New(rand.NewPCG(2, 2))
	apart := 0
	type held struct {
		res  span.ReadResult
		want []byte
	}
	var some []held
	for round := range 200 {
		at := bases[rng.IntN(len(bases))]
		most := 1 << (12 + rng.IntN(9))
		got, err := l.Read(t.Context(), span.ReadRequest{Offset: at, MaxBytes: most, Apart: true})
		if err != nil {
			t.Fatal(err)
		}
		want, err := l.Read(t.Context(), span.ReadRequest{Offset: at, MaxBytes: most})
		if err != nil {
			t.Fatal(err)
		}
		all := append([]byte(nil), want.Batches...)
		want.Release()
		have := joined(&got)
		if len(have) == 0 || len(have) > len(all) || !bytes.Equal(have, all[:len(have)]) {
			t.Fatalf("round %d: %d bytes at %d of at most %d, %d in one piece, differ", round, len(have), at, most, len(all))
		}
		if len(got.Apart) > 0 {
			apart++
			if len(got.Batches) > 0 {
				t.Fatal("both ways")
			}
			for _, a := range got.Apart {
				if len(a.Header) != batch.HeaderSize || len(a.Rest) < 1024 {
					t.Fatalf("header of %d bytes, %d behind it", len(a.Header), len(a.Rest))
				}
			}
		}
		if some = append(some, held{got, have}); len(some) > 5 {
			h := some[0]
			some = some[1:]
			if !bytes.Equal(joined(&h.res), h.want) {
				t.Fatal("what is held has changed")
			}
			h.res.Release()
		}
	}
	for _, h := range some {
		h.res.Release()
	}
	if apart < 30 {
		t.Fatalf("%d of 200 reads came apart", apart)
	}
}

// A header is its reader's own: what one writes into it no other sees.
func TestReadersApartShareNoHeaders(t *testing.T) {
	l, bases := apartLog(t, 3)
	var all sync.WaitGroup
	for reader := range 4 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(reader), 3))
			for range 60 {
				at := bases[rng.IntN(len(bases))]
				r, err := l.Read(t.Context(), span.ReadRequest{Offset: at, MaxBytes: 1 << 20, Apart: true})
				if err != nil {
					t.Error(err)
					return
				}
				for _, a := range r.Apart {
					one := append(append([]byte(nil), a.Header...), a.Rest...)
					if err := batch.Verify(one); err != nil || batch.BaseOffset(one) < at {
						t.Errorf("read at %d: batch at %d: %v", at, batch.BaseOffset(one), err)
					}
					batch.SetBaseOffset(a.Header, 1<<40+int64(reader))
					batch.SetLeaderEpoch(a.Header, int32(reader))
				}
				r.Release()
			}
		})
	}
	all.Wait()
}

// edgeFS says that the page cache holds what lies below an edge.
type edgeFS struct {
	*vfs.Mem
	edge *atomic.Int64
}

type edgeFile struct {
	vfs.File
	edge *atomic.Int64
}

func (f edgeFS) OpenWrite(name string) (vfs.File, error) {
	file, err := f.Mem.OpenWrite(name)
	return edgeFile{file, f.edge}, err
}

func (f edgeFS) Create(name string) (vfs.File, error) {
	file, err := f.Mem.Create(name)
	return edgeFile{file, f.edge}, err
}

func (f edgeFile) Cached(pos, n int64) (all, known bool) { return pos+n <= f.edge.Load(), false }

// A batch that is larger than what was asked for comes apart only if all of it is known to be in the page
// cache: what has left it and was read again is to be checked again.
func TestLargeBatchIsNotHandedOutUnseen(t *testing.T) {
	mem, edge := vfs.NewMem(), new(atomic.Int64)
	o := memOptions(mem)
	o.FS, o.LogFileBytes, o.MemoryBudget = edgeFS{mem, edge}, 1<<20, 8<<20
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1", "segment.bytes", "5000000")
	l := s.Log(topic, 0)
	for range 3 {
		raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: 1, Value: make([]byte, 300_000)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
	l.Release()
	if err := s.Close(); err != nil { // everything goes to a segment
		t.Fatal(err)
	}
	if s, err = local.Open(o); err != nil {
		t.Fatal(err)
	}
	l = s.Log(topic, 0)
	defer func() {
		l.Release()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	readAll(t, l, 0) // and is checked
	for _, c := range []struct {
		edge  int64
		most  int
		apart bool
	}{
		{290_000, 150_000, false}, // a part of it is in the page cache, and asked for
		{1 << 30, 150_000, false}, // all is, but was not looked at
		{1 << 30, 350_000, true},
	} {
		edge.Store(c.edge)
		r, err := l.Read(t.Context(), span.ReadRequest{Offset: 0, MaxBytes: c.most, Apart: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(joined(&r)) < 300_000 || len(r.Apart) > 0 != c.apart {
			t.Errorf("%+v: %d bytes, %d batches apart", c, len(joined(&r)), len(r.Apart))
		}
		r.Release()
	}
}

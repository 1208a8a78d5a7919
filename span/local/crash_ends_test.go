package local_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local/vfs"
)

// The ways in which the crash model ends a process.

func (m *machine) restart(t *rapid.T) {
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
	m.ran.restarts.Add(1)
	m.open()
	m.checkAll()
}

func (m *machine) kill(*rapid.T) {
	m.ran.kills.Add(1)
	fs := m.fs.Kill()
	m.stop()
	m.fs = fs
	m.open()
	m.checkAll()
}

func (m *machine) random(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
}

func (m *machine) crash(t *rapid.T) {
	m.ran.cuts.Add(1)
	fs := m.fs.Crash(m.random(t))
	m.stop()
	m.fs = fs
	m.open()
	m.checkAll()
}

// powerCut returns what ends the use of the file system by a power cut.
func (m *machine) powerCut(t *rapid.T) func() *vfs.Mem {
	m.ran.cuts.Add(1)
	r, fs := m.random(t), m.fs
	return func() *vfs.Mem { return fs.Crash(r) }
}

// killed is powerCut by the end of the process.
func (m *machine) killed() func() *vfs.Mem {
	m.ran.kills.Add(1)
	return m.fs.Kill
}

// flushCrash cuts the power while segments and checkpoints are written.
func (m *machine) flushCrash(t *rapid.T) { m.endsWithin(t, m.powerCut(t), m.s.FlushNow) }

// flushKill ends the process there. What the next one makes of it outlives a power cut.
func (m *machine) flushKill(t *rapid.T) {
	m.endsWithin(t, m.killed(), m.s.FlushNow)
	m.cutNext(t)
}

// compactCrash cuts the power while something is compacted.
func (m *machine) compactCrash(t *rapid.T) {
	if !m.compacted() {
		t.Skip("nothing to compact")
	}
	m.flush(t)
	m.endsWithin(t, m.powerCut(t), m.s.CompactNow)
}

// compactKill is likewise.
func (m *machine) compactKill(t *rapid.T) {
	if !m.compacted() {
		t.Skip("nothing to compact")
	}
	m.flush(t)
	m.endsWithin(t, m.killed(), m.s.CompactNow)
	m.cutNext(t)
}

// endsWithin ends the use of the file system at some operation of f.
func (m *machine) endsWithin(t *rapid.T, end func() *vfs.Mem, f func() error) {
	left := rapid.IntRange(1, 60).Draw(t, "operations")
	var mu sync.Mutex
	var after *vfs.Mem
	m.fs.SetFault(func(vfs.Op, string) error {
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			after = end()
		}
		return nil
	})
	_ = f() // it may not come to its end
	mu.Lock()
	if after == nil {
		after = end()
		left = 0
	}
	mu.Unlock()
	m.stop()
	m.fs = after
	m.open()
	m.checkAll()
}

// cutNext may cut the power before anything else is done.
func (m *machine) cutNext(t *rapid.T) {
	if rapid.Bool().Draw(t, "power cut next") {
		m.crash(t)
	}
}

// crashBusy cuts the power with appends on their way.
func (m *machine) crashBusy(t *rapid.T) { m.busyEnds(t, m.powerCut) }

// killBusy ends the process with appends on their way: some may be in the page cache only, and the next one
// finds them. Whatever it made of them outlives a power cut.
func (m *machine) killBusy(t *rapid.T) {
	m.busyEnds(t, func(*rapid.T) func() *vfs.Mem { return m.killed() })
	m.cutNext(t)
}

func (m *machine) busyEnds(t *rapid.T, how func(*rapid.T) func() *vfs.Mem) {
	mt, p, l := m.part(t)
	defer l.Release()
	left := rapid.IntRange(1, 6).Draw(t, "operations")
	flushing := rapid.Bool().Draw(t, "flushing")
	if flushing {
		left = rapid.IntRange(1, 40).Draw(t, "operations")
	}
	end := how(t)
	var mu sync.Mutex
	var after *vfs.Mem
	m.fs.SetFault(func(vfs.Op, string) error {
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			after = end()
		}
		return nil
	})
	var background sync.WaitGroup
	if flushing {
		s := m.s
		background.Go(func() {
			for range 3 {
				_ = s.FlushNow() // it may not come to its end
			}
		})
	}
	started, appends, done := m.submit(t, mt, p, l, 20)
	done.Wait()
	background.Wait()
	mu.Lock()
	if after == nil {
		after = end()
		left = 0
	}
	mu.Unlock()
	var doubt []*sent
	for i, a := range appends {
		switch {
		case a.Err == nil:
			if len(doubt) > 0 || a.BaseOffset != p.end || mt.sealed {
				t.Fatalf("acknowledged at %d, log ended at %d, %d in doubt before it", a.BaseOffset, p.end, len(doubt))
			}
			m.landed(p, started[i], a.BaseOffset)
		case errors.Is(a.Err, span.ErrUnknownOutcome):
			doubt = append(doubt, started[i])
		case errors.Is(a.Err, span.ErrSealed) && mt.sealed:
		case errors.Is(a.Err, span.ErrStorage):
		default:
			var rejected *span.RejectedError
			if !errors.As(a.Err, &rejected) || started[i].producer == nil {
				t.Fatalf("append: %v", a.Err)
			}
		}
	}
	m.stop()
	m.fs = after
	m.open()
	// Of what was in doubt a prefix landed, as it was sent.
	found := m.s.Log(mt.Topic, int32(slices.Index(mt.parts, p)))
	defer found.Release()
	o, err := found.Offsets(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got, _ := m.readAll(found, p.start, false)
	for _, d := range doubt {
		if p.end == o.End {
			break
		}
		for i, r := range d.records {
			if at := p.end + int64(i); !r.same(got[at]) {
				t.Fatalf("offset %d holds %v, want %v, which was on its way", at, got[at], r)
			}
		}
		m.landed(p, d, p.end)
	}
	m.checkAll()
}

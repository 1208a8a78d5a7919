package local_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// clocks are a wall clock that can be set and a steady one that cannot.
type clocks struct{ wall, steady atomic.Int64 } // ns

func (c *clocks) advance(d time.Duration) {
	c.wall.Add(int64(d))
	c.steady.Add(int64(d))
}

func (c *clocks) options(fs *vfs.Mem) local.Options {
	o := memOptions(fs)
	o.Now = func() time.Time { return time.Unix(0, c.wall.Load()) }
	o.Steady = func() time.Duration { return time.Duration(c.steady.Load()) }
	return o
}

// TestClockJumps: a wall clock that is set back or a year ahead, while we run or while we
// are stopped, makes nothing look old; log append times never go back.
func TestClockJumps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, tc := range []struct {
		name    string
		jump    time.Duration
		stopped bool          // it jumps between two starts
		runs    time.Duration // after the jump
		eaten   bool
	}{
		{name: "a year ahead while running", jump: year, runs: 30 * time.Minute},
		{name: "a year ahead while running, for days", jump: year, runs: 3 * 24 * time.Hour, eaten: true}, // they are three days old by then
		{name: "a year ahead at the start", jump: year, stopped: true, runs: time.Hour},
		{name: "a year back while running", jump: -year, runs: 30 * time.Minute},
		{name: "a year back at the start", jump: -year, stopped: true, runs: 30 * time.Minute},
		{name: "off for half a day", jump: 12 * time.Hour, stopped: true, eaten: true},
		{name: "off for a year, and then running for a day", jump: year, stopped: true, runs: 25 * time.Hour, eaten: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := new(clocks)
			c.wall.Store(time.Now().UnixNano())
			fs := vfs.NewMem()
			s, err := local.Open(c.options(fs))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			topic := create(t, s, "t", 1, "retention.ms", "7200000", "segment.bytes", "4096")
			stamped := create(t, s, "stamped", 1, "message.timestamp.type", "LogAppendTime", "retention.ms", "-1")
			last := int64(0)
			write := func() {
				t.Helper()
				l := s.Log(topic, 0)
				defer l.Release()
				raw, err := batch.NewBuilder().Producer(1<<40, 0, 0).Add(batch.Record{Timestamp: c.wall.Load() / 1e6, Value: []byte("x")}).Build()
				if err != nil {
					t.Fatal(err)
				}
				mustPut(t, l, raw)
				l2 := s.Log(stamped, 0)
				defer l2.Release()
				at := mustPut(t, l2, made(t, 1, fmt.Sprint(last))).LogAppendTime
				if at < last {
					t.Fatalf("log append time went back from %d to %d", last, at)
				}
				last = at
			}
			write()
			if err := s.FlushNow(); err != nil {
				t.Fatal(err)
			}
			if tc.stopped {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			c.wall.Add(int64(tc.jump))
			if tc.stopped {
				if s, err = local.Open(c.options(fs)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.RetainNow(); err != nil {
				t.Fatal(err)
			}
			c.advance(tc.runs)
			if err := s.RetainNow(); err != nil {
				t.Fatal(err)
			}
			l := s.Log(topic, 0)
			defer l.Release()
			o, err := l.Offsets(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if eaten := o.Start > 0; eaten != tc.eaten {
				t.Errorf("log start %d, want the record gone: %v", o.Start, tc.eaten)
			}
			if !tc.eaten {
				if list, err := l.Producers(context.Background()); err != nil || len(list) != 1 {
					t.Errorf("producers %v, %v", list, err)
				}
			}
			// Once more, with the clock as it is now.
			l2 := s.Log(stamped, 0)
			defer l2.Release()
			if at := mustPut(t, l2, made(t, 1, "later")).LogAppendTime; at < last {
				t.Errorf("log append time went back from %d to %d", last, at)
			}
			at, found, err := l2.OffsetFor(context.Background(), span.MaxTimestamp)
			if err != nil || !found || at.Timestamp < last {
				t.Errorf("largest time %+v, %v, %v", at, found, err)
			}
		})
	}
}

// TestClockAheadIsNoProof: what is written while the clock is a year ahead does not make a start believe it, whether it
// is in the log or in segments by then.
func TestClockAheadIsNoProof(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, tc := range []struct {
		name              string
		appended, flushed bool
	}{{"nothing is written", false, false}, {"in the log", true, false}, {"in segments", true, true}} {
		t.Run(tc.name, func(t *testing.T) {
			c := new(clocks)
			c.wall.Store(time.Now().UnixNano())
			o := c.options(vfs.NewMem())
			s, err := local.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			topic := create(t, s, "t", 1, "retention.ms", "604800000", "segment.bytes", "4096")
			stamped := create(t, s, "stamped", 1, "message.timestamp.type", "LogAppendTime", "retention.ms", "-1")
			l := s.Log(topic, 0)
			for i := range 20 {
				mustPut(t, l, made(t, c.wall.Load()/1e6, fmt.Sprintf("%0500d", i)))
			}
			if err := s.FlushNow(); err != nil {
				t.Fatal(err)
			}
			c.advance(time.Hour)
			c.wall.Add(int64(year))
			if tc.appended {
				raw, err := batch.NewBuilder().Producer(1<<40, 0, 0).Add(batch.Record{Timestamp: c.wall.Load() / 1e6, Value: make([]byte, 500)}).Build()
				if err != nil {
					t.Fatal(err)
				}
				mustPut(t, l, raw)
				l2 := s.Log(stamped, 0)
				mustPut(t, l2, made(t, 1, "x"))
				l2.Release()
			}
			l.Release()
			if tc.flushed {
				if err := s.FlushNow(); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = local.Open(o); err != nil {
				t.Fatal(err)
			}
			c.advance(time.Hour)
			if err := s.RetainNow(); err != nil {
				t.Fatal(err)
			}
			l = s.Log(topic, 0)
			defer l.Release()
			if off, err := l.Offsets(context.Background()); err != nil || off.Start != 0 {
				t.Fatalf("%+v, %v: records of two hours ago are gone", off, err)
			}
		})
	}
}

// TestDoubtDoesNotAge: when a clock that was in doubt is believed after a day, what was written and heard of in that day
// is of that day, and not as old as the gap is long; the next start sees it so too.
func TestDoubtDoesNotAge(t *testing.T) {
	c := new(clocks)
	c.wall.Store(time.Now().UnixNano())
	fs := vfs.NewMem()
	o := c.options(fs)
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "604800000")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.wall.Add(int64(30 * 24 * time.Hour))
	if s, err = local.Open(o); err != nil {
		t.Fatal(err)
	}
	// A record without a time has that of its segment.
	raw, err := batch.NewBuilder().Producer(1<<40, 0, 0).Add(batch.Record{Timestamp: batch.NoTimestamp, Value: []byte("x")}).Build()
	if err != nil {
		t.Fatal(err)
	}
	l := s.Log(topic, 0)
	c.advance(23 * time.Hour)
	mustPut(t, l, raw)
	l.Release()
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	c.advance(2 * time.Hour)
	look := func(when string) {
		t.Helper()
		if err := s.RetainNow(); err != nil {
			t.Fatal(err)
		}
		l := s.Log(topic, 0)
		defer l.Release()
		off, err := l.Offsets(context.Background())
		if err != nil || off.Start != 0 {
			t.Errorf("%s: %+v, %v: a record of two hours ago is gone", when, off, err)
		}
		if list, err := l.Producers(context.Background()); err != nil || len(list) != 1 {
			t.Errorf("%s: producers %v, %v", when, list, err)
		}
	}
	look("believed")
	left := fs.Kill()
	_ = s.Close()
	o.FS = left
	if s, err = local.Open(o); err != nil {
		t.Fatal(err)
	}
	look("after a kill")
	// It ages from there on.
	c.advance(8 * 24 * time.Hour)
	if err := s.RetainNow(); err != nil {
		t.Fatal(err)
	}
	l = s.Log(topic, 0)
	if off, err := l.Offsets(context.Background()); err != nil || off.Start != 1 {
		t.Errorf("%+v, %v: a record of eight days ago is there", off, err)
	}
	l.Release()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

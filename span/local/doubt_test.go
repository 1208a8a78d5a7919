package local_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// doubted is a store whose clock is a year ahead of the records in it.
type doubted struct {
	t     *testing.T
	c     *clocks
	o     local.Options
	fs    *vfs.Mem
	s     *local.Store
	topic span.Topic
}

const year = 365 * 24 * time.Hour

func newDoubted(t *testing.T) *doubted {
	d := &doubted{t: t, c: new(clocks), fs: vfs.NewMem()}
	d.c.wall.Store(time.Now().UnixNano())
	d.o = d.c.options(d.fs)
	d.open()
	d.topic = create(t, d.s, "t", 1, "retention.ms", "604800000", "segment.bytes", "4096")
	l := d.s.Log(d.topic, 0)
	for i := range 20 {
		mustPut(t, l, made(t, d.c.wall.Load()/1e6, fmt.Sprintf("%0500d", i)))
	}
	l.Release()
	if err := d.s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	d.stop(false)
	d.c.wall.Add(int64(year))
	t.Cleanup(func() { _ = d.s.Close() })
	return d
}

func (d *doubted) open() {
	d.t.Helper()
	var err error
	d.o.FS = d.fs
	if d.s, err = local.Open(d.o); err != nil {
		d.t.Fatal(err)
	}
}

func (d *doubted) stop(killed bool) {
	d.t.Helper()
	if killed {
		d.fs = d.fs.Kill()
		_ = d.s.Close() // its file system is gone
	} else if err := d.s.Close(); err != nil {
		d.t.Fatal(err)
	}
}

// run lets a process run for so many hours from a start to its end; gone tells whether retention has dropped the records by then.
func (d *doubted) run(hours int, killed bool) (gone bool) {
	d.t.Helper()
	d.open()
	for range hours * 4 {
		d.c.advance(15 * time.Minute)
		if err := d.s.RetainNow(); err != nil {
			d.t.Fatal(err)
		}
	}
	l := d.s.Log(d.topic, 0)
	defer l.Release()
	off, err := l.Offsets(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	d.stop(killed)
	return off.Start > 0
}

// TestDoubtAddsUp: a clock that was far ahead at a start is believed after a day of running, in however many pieces; a process
// that is killed counts as well.
func TestDoubtAddsUp(t *testing.T) {
	for _, killed := range []bool{false, true} {
		d := newDoubted(t)
		for i := range 3 {
			if d.run(7, killed) {
				t.Fatalf("killed %v: gone after %d hours in doubt", killed, 7*(i+1))
			}
			d.c.wall.Add(int64(time.Minute)) // it takes a moment to start again
		}
		if !d.run(5, killed) {
			t.Errorf("killed %v: after 26 hours in doubt retention does not act", killed)
		}
		// It is over, and does not come back.
		d.open()
		if err := d.s.Close(); err != nil {
			t.Fatal(err)
		}
		if v := checkpointVersion(t, d.fs); v != 1 {
			t.Errorf("killed %v: checkpoint of version %d without a doubt", killed, v)
		}
	}
}

// TestAnotherDoubtBeginsAnew: what a clock was doubted for counts for no other one: not for one that is set further ahead, nor
// for one that was right in between, nor for one behind that.
func TestAnotherDoubtBeginsAnew(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*doubted)
	}{
		{"further ahead", func(d *doubted) { d.c.wall.Add(int64(year)) }},
		{"less far ahead", func(d *doubted) { d.c.wall.Add(-int64(year) / 2) }},
		{"right in between", func(d *doubted) {
			d.c.wall.Add(-int64(year))
			if d.run(1, true) {
				d.t.Fatal("gone by a clock that is right")
			}
			d.c.wall.Add(int64(year))
		}},
		{"off for long", func(d *doubted) { d.c.wall.Add(int64(10 * 24 * time.Hour)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDoubted(t)
			if d.run(20, false) {
				t.Fatal("gone after 20 hours in doubt")
			}
			if v := checkpointVersion(t, d.fs); v != 2 {
				t.Errorf("checkpoint of version %d with a doubt", v)
			}
			tc.change(d)
			if d.run(20, false) {
				t.Fatal("gone after 20 hours of another doubt")
			}
			if !d.run(6, false) {
				t.Error("after a day in doubt retention does not act")
			}
		})
	}
}

func checkpointVersion(t *testing.T, fs *vfs.Mem) int {
	t.Helper()
	f, err := fs.Open("/data/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 16)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return int(binary.BigEndian.Uint16(b[8:]))
}

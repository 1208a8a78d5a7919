package local_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// fault is a way in which an operation on the file system fails.
type fault struct {
	err   error
	times int  // operations in a row
	short bool // writes only, of which the first part is written
}

const forGood = 1 << 30

func (f fault) String() string {
	switch {
	case f.times == forGood:
		return fmt.Sprintf("%v for good", f.err)
	case f.short:
		return fmt.Sprintf("%v x%d in the midst of a write", f.err, f.times)
	}
	return fmt.Sprintf("%v x%d", f.err, f.times)
}

// TestFaultAtEveryOperation lets each operation on the file system fail, of starts,
// appends, flushes, checkpoints, compactions, trims, deletions: once with an error of the disk, once for lack of
// space, five times in a row for lack of space; each write in its midst, for either reason; and everything from
// then on, as when the disk is gone. What was acknowledged is there afterwards, after the
// end of the process and after a power cut; what was not was said so; space coming back needs no restart.
func TestFaultAtEveryOperation(t *testing.T) {
	atEveryOperation(t, "a course of everything", 150, faultAt)
}

// faulty is a course of operations, and what was acknowledged in it.
type faulty struct {
	t       *testing.T
	p       *plan
	s       *local.Store
	opt     local.Options
	acked   map[string]int64 // of topic t: value -> offset
	start   int64            // of its log
	latest  map[string]int64 // of topic c: key -> offset of its last acknowledged value
	doubt   map[string]bool  // keys of c with a later value whose outcome is unknown
	created map[string]span.Topic
	deleted bool
	sealed  bool
}

// faultAt runs the course with a fault.
func faultAt(t *testing.T, p *plan) {
	fs := vfs.NewMem()
	p.on(fs)
	c := &faulty{t: t, p: p, opt: memOptions(fs),
		acked: map[string]int64{}, latest: map[string]int64{}, doubt: map[string]bool{}, created: map[string]span.Topic{}}
	c.opt.FlushBytes = 8 << 10
	c.run()
	if !p.reached() && (!c.deleted || !c.sealed || len(c.acked) != 45) {
		t.Fatalf("without a fault: %+v", c)
	}
	fs.SetFault(nil)
	if c.s != nil && errors.Is(p.err, syscall.ENOSPC) && !p.synced {
		c.goesOn()
	}
	// The next process finds what reached the system, another one what is on disk for sure.
	var after []*vfs.Mem
	after = append(after, fs.Clone(), fs.Crash(rand.New(rand.NewPCG(uint64(p.after), 3))))
	if c.s != nil {
		_ = c.s.Close() // of a crashed file system it fails
	}
	for _, left := range after {
		c.verify(fs, left)
	}
}

// open opens the store; it returns false without a disk.
func (c *faulty) open() bool {
	c.s = reopened(c.t, c.p, c.opt)
	return c.s != nil
}

func (c *faulty) topic(name string, config ...string) (span.Log, bool) {
	cfg := map[string]string{}
	for i := 0; i < len(config); i += 2 {
		cfg[config[i]] = config[i+1]
	}
	topic, err := c.s.Create(context.Background(), span.Spec{Name: name, Partitions: 1, Config: cfg})
	if errors.Is(err, span.ErrExists) {
		c.t.Fatalf("%s: a topic that was not made exists", c.p)
	}
	if err != nil {
		return nil, false
	}
	c.created[name] = topic
	return c.s.Log(topic, 0), true
}

func (c *faulty) run() {
	ctx := context.Background()
	if !c.open() {
		return
	}
	l, ok := c.topic("t", "segment.bytes", "5000", "retention.ms", "-1")
	if !ok {
		return
	}
	k, ok := c.topic("c", "cleanup.policy", "compact", "segment.bytes", "4096", "retention.ms", "-1")
	if !ok {
		return
	}
	d, ok := c.topic("d")
	if !ok {
		return
	}
	for i := range 45 {
		if i == 20 { // the process ends and starts again
			_ = c.s.Close()
			if !c.open() {
				return
			}
			l, k, d = c.s.Log(c.created["t"], 0), c.s.Log(c.created["c"], 0), c.s.Log(c.created["d"], 0)
		}
		v := fmt.Sprintf("%d/%0*d", i, 1+i%4*300, 0)
		if a := put(l, made(c.t, int64(i), v)); a.Err == nil {
			c.acked[v] = a.BaseOffset
		} else {
			refusedOrUnknown(c.t, c.p, a.Err)
		}
		key := fmt.Sprint("key", i%4)
		raw, err := batch.NewBuilder().Producer(1<<40, 0, int32(i)).Add(batch.Record{Timestamp: int64(i), Key: []byte(key), Value: make([]byte, 500)}).Build()
		if err != nil {
			c.t.Fatal(err)
		}
		var rejected *span.RejectedError
		switch a := put(k, raw); {
		case a.Err == nil:
			c.latest[key] = a.BaseOffset
			delete(c.doubt, key)
		case errors.As(a.Err, &rejected): // a batch before it did not land
		default:
			refusedOrUnknown(c.t, c.p, a.Err)
			c.doubt[key] = true
		}
		put(d, made(c.t, 1, "short-lived"))
		switch i {
		case 14, 30, 40:
			_ = c.s.FlushNow() // these may all fail
			_ = c.s.CompactNow()
		case 25:
			if start, err := l.DeleteBefore(ctx, 7); err == nil {
				c.start = start
			}
		case 27:
			if err := c.s.Delete(ctx, c.created["d"]); err == nil {
				c.deleted = true
			}
		}
		if r, err := l.Read(ctx, span.ReadRequest{Offset: max(c.start, 8), MaxBytes: 1}); err == nil {
			r.Release()
		}
	}
	if _, err := c.s.Seal(ctx, c.created["t"]); err == nil {
		c.sealed = true
	}
}

// goesOn: with space again, everything works without a restart.
func (c *faulty) goesOn() {
	if err := c.s.WatchSpaceNow(); err != nil {
		c.t.Fatal(err)
	}
	h, err := c.s.Health(context.Background())
	if err != nil || !h.Writable {
		c.t.Errorf("%s: there is space again, and %+v, %v", c.p, h, err)
		return
	}
	if _, err := c.s.Create(context.Background(), span.Spec{Name: "again", Partitions: 1}); err != nil {
		c.t.Errorf("%s: there is space again: %v", c.p, err)
	}
	if err := c.s.FlushNow(); err != nil {
		c.t.Errorf("%s: there is space again, flush: %v", c.p, err)
	}
}

// verify opens what is left and looks for what was acknowledged.
func (c *faulty) verify(was, left *vfs.Mem) {
	opt := memOptions(left)
	s, err := local.Open(opt)
	if err != nil {
		c.t.Fatalf("%s: cannot be opened again: %v\n%s", c.p, err, was.Tree())
	}
	closed := false
	defer func() {
		if !closed {
			_ = s.Close()
		}
	}()
	if h, err := s.Health(context.Background()); err != nil || !h.Writable {
		c.t.Fatalf("%s: opened again, %+v, %v", c.p, h, err)
	}
	list, err := s.Topics(context.Background(), "")
	if err != nil {
		c.t.Fatal(err)
	}
	found := map[string]span.Topic{}
	for _, topic := range list {
		found[topic.Name] = topic
	}
	for name, topic := range c.created {
		switch {
		case name == "d" && c.deleted:
			if _, ok := found[name]; ok {
				c.t.Fatalf("%s: the deleted topic is back", c.p)
			}
		case found[name] != topic && name != "d":
			c.t.Fatalf("%s: topic %s is gone", c.p, name)
		}
	}
	if topic, ok := c.created["t"]; ok {
		l := s.Log(topic, 0)
		o, err := l.Offsets(context.Background())
		if err != nil {
			c.t.Fatal(err)
		}
		got := map[string]int64{}
		for _, r := range readAll(c.t, l, o.Start) {
			var offset int64
			var value string
			if _, err := fmt.Sscanf(r, "%d=%s", &offset, &value); err != nil {
				c.t.Fatal(err)
			}
			if _, twice := got[value]; twice {
				c.t.Fatalf("%s: %.20q is there twice", c.p, value)
			}
			got[value] = offset
		}
		for v, offset := range c.acked {
			if at, ok := got[v]; offset >= max(o.Start, c.start) && (!ok || at != offset) {
				c.t.Fatalf("%s: %.20q was acknowledged at %d and is at %d, %v", c.p, v, offset, at, ok)
			}
		}
		if o.Start != c.start && o.Start != 7 {
			c.t.Fatalf("%s: log starts at %d, want %d", c.p, o.Start, c.start)
		}
		if a := put(l, made(c.t, 1, "late")); c.sealed && !errors.Is(a.Err, span.ErrSealed) {
			c.t.Fatalf("%s: sealed, and takes appends: %v", c.p, a.Err)
		}
	}
	if topic, ok := c.created["c"]; ok {
		got, _ := readKeyed(c.t, s.Log(topic, 0), false)
		last := map[string]int64{}
		for offset, r := range got {
			last[r.key] = max(last[r.key], offset)
		}
		for key, offset := range c.latest {
			if at := last[key]; at != offset && !(c.doubt[key] && at > offset) {
				c.t.Fatalf("%s: last value of %s was acknowledged at %d and is at %d", c.p, key, offset, at)
			}
		}
	}
	if err := s.Close(); err != nil {
		c.t.Fatalf("%s: close: %v", c.p, err)
	}
	closed = true
	if r, err := local.CheckFS(left, "/data"); err != nil || len(r.Problems) > 0 {
		c.t.Fatalf("%s: check: %+v, %v", c.p, r, err)
	}
}

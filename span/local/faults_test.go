package local_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit/summary"
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
	for _, f := range []fault{{err: syscall.EIO, times: 1}, {err: syscall.ENOSPC, times: 1}, {err: syscall.ENOSPC, times: 5},
		{err: syscall.EIO, times: 1, short: true}, {err: syscall.ENOSPC, times: 1, short: true}, {err: syscall.EIO, times: forGood}} {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			step, least := 1, 150
			if f.short {
				least = 50
			}
			switch {
			case testing.Short():
				step = 11
			case (f.times > 1 || f.short) && os.Getenv("BRAID_SOAK") == "":
				step = 4
			}
			kinds := map[string]bool{}
			n := 0
			for after := 1; ; after += step {
				where, hit := faultAt(t, after, f)
				if !hit {
					break
				}
				n++
				kinds[where] = true
			}
			if n*step < least {
				t.Fatalf("only %d operations", n)
			}
			if !t.Failed() {
				summary.Line(t, "local engine: %v: %d times, at %d kinds of operations and files, nothing acknowledged is lost", f, n, len(kinds))
			}
		})
	}
}

// faulty is a course of operations, and what was acknowledged in it.
type faulty struct {
	t       *testing.T
	what    string
	gone    bool // the disk, from the fault on
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

// faultAt runs the course with the after-th operation failing; hit is false if there were not so many.
func faultAt(t *testing.T, after int, f fault) (where string, hit bool) {
	fs := vfs.NewMem()
	var mu sync.Mutex
	n := 0
	synced := false // a sync failed: that is for good
	fs.SetFault(func(op vfs.Op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if f.short && op != vfs.OpWrite {
			return nil
		}
		if n++; n < after || n >= after+f.times {
			return nil
		}
		if errors.Is(f.err, syscall.ENOSPC) && (op == vfs.OpRead || op == vfs.OpOpen || op == vfs.OpRemove) {
			return nil // these need no space
		}
		hit = true
		synced = synced || op == vfs.OpSync || op == vfs.OpSyncDir
		if where == "" {
			kind := name[strings.LastIndex(name, "/")+1:]
			where = fmt.Sprintf("%s %s", op, kind[strings.LastIndex(kind, ".")+1:])
		}
		if f.short {
			return &vfs.ShortWrite{Bytes: after * 97 % 4500, Err: f.err}
		}
		return f.err
	})
	c := &faulty{t: t, what: fmt.Sprintf("%v at operation %d", f, after), gone: f.times == forGood, opt: memOptions(fs),
		acked: map[string]int64{}, latest: map[string]int64{}, doubt: map[string]bool{}, created: map[string]span.Topic{}}
	c.opt.FlushBytes = 8 << 10
	c.run()
	mu.Lock()
	reached := n >= after
	mu.Unlock()
	if !hit && !reached && (!c.deleted || !c.sealed || len(c.acked) != 45) {
		t.Fatalf("without a fault: %+v", c)
	}
	fs.SetFault(nil)
	if c.s != nil && errors.Is(f.err, syscall.ENOSPC) && !synced {
		c.goesOn(where)
	}
	// The next process finds what reached the system, another one what is on disk for sure.
	var after2 []*vfs.Mem
	after2 = append(after2, fs.Clone(), fs.Crash(rand.New(rand.NewPCG(uint64(after), 3))))
	if c.s != nil {
		_ = c.s.Close() // of a crashed file system it fails
	}
	for _, left := range after2 {
		c.verify(fs, left, where)
	}
	return where, reached
}

// open opens the store; after a failure once more, as a supervisor does. It returns false
// without a disk.
func (c *faulty) open() bool {
	for range 6 {
		s, err := local.Open(c.opt)
		if err == nil {
			c.s = s
			return true
		}
		if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) {
			c.t.Fatalf("%s: open: %v", c.what, err)
		}
	}
	if !c.gone {
		c.t.Fatalf("%s: cannot be opened", c.what)
	}
	return false
}

func (c *faulty) topic(name string, config ...string) (span.Log, bool) {
	cfg := map[string]string{}
	for i := 0; i < len(config); i += 2 {
		cfg[config[i]] = config[i+1]
	}
	topic, err := c.s.Create(context.Background(), span.Spec{Name: name, Partitions: 1, Config: cfg})
	if errors.Is(err, span.ErrExists) {
		c.t.Fatalf("%s: a topic that was not made exists", c.what)
	}
	if err != nil {
		return nil, false
	}
	c.created[name] = topic
	return c.s.Log(topic, 0), true
}

// known says whether an append failed in one of the ways that it may.
func (c *faulty) known(err error) {
	if !errors.Is(err, span.ErrStorage) && !errors.Is(err, span.ErrUnknownOutcome) {
		c.t.Errorf("%s: append: %v", c.what, err)
	}
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
			c.known(a.Err)
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
			c.known(a.Err)
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
func (c *faulty) goesOn(where string) {
	if err := c.s.WatchSpaceNow(); err != nil {
		c.t.Fatal(err)
	}
	h, err := c.s.Health(context.Background())
	if err != nil || !h.Writable {
		c.t.Errorf("%s (%s): there is space again, and %+v, %v", c.what, where, h, err)
		return
	}
	if _, err := c.s.Create(context.Background(), span.Spec{Name: "again", Partitions: 1}); err != nil {
		c.t.Errorf("%s (%s): there is space again: %v", c.what, where, err)
	}
	if err := c.s.FlushNow(); err != nil {
		c.t.Errorf("%s (%s): there is space again, flush: %v", c.what, where, err)
	}
}

// verify opens what is left and looks for what was acknowledged.
func (c *faulty) verify(was, left *vfs.Mem, where string) {
	opt := memOptions(left)
	s, err := local.Open(opt)
	if err != nil {
		c.t.Fatalf("%s (%s): cannot be opened again: %v\n%s", c.what, where, err, was.Tree())
	}
	closed := false
	defer func() {
		if !closed {
			_ = s.Close()
		}
	}()
	if h, err := s.Health(context.Background()); err != nil || !h.Writable {
		c.t.Fatalf("%s (%s): opened again, %+v, %v", c.what, where, h, err)
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
				c.t.Fatalf("%s (%s): the deleted topic is back", c.what, where)
			}
		case found[name] != topic && name != "d":
			c.t.Fatalf("%s (%s): topic %s is gone", c.what, where, name)
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
				c.t.Fatalf("%s (%s): %.20q is there twice", c.what, where, value)
			}
			got[value] = offset
		}
		for v, offset := range c.acked {
			if at, ok := got[v]; offset >= max(o.Start, c.start) && (!ok || at != offset) {
				c.t.Fatalf("%s (%s): %.20q was acknowledged at %d and is at %d, %v", c.what, where, v, offset, at, ok)
			}
		}
		if o.Start != c.start && o.Start != 7 {
			c.t.Fatalf("%s (%s): log starts at %d, want %d", c.what, where, o.Start, c.start)
		}
		if a := put(l, made(c.t, 1, "late")); c.sealed && !errors.Is(a.Err, span.ErrSealed) {
			c.t.Fatalf("%s (%s): sealed, and takes appends: %v", c.what, where, a.Err)
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
				c.t.Fatalf("%s (%s): last value of %s was acknowledged at %d and is at %d", c.what, where, key, offset, at)
			}
		}
	}
	if err := s.Close(); err != nil {
		c.t.Fatalf("%s (%s): close: %v", c.what, where, err)
	}
	closed = true
	if r, err := local.CheckFS(left, "/data"); err != nil || len(r.Problems) > 0 {
		c.t.Fatalf("%s (%s): check: %+v, %v", c.what, where, r, err)
	}
}

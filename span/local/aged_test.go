package local_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// slow is a store whose clock is the test's, and which is tended when the test says so.
type slow struct {
	t  *testing.T
	fs *vfs.Mem
	c  *clock
	s  *local.Store
	// Of .seg files.
	syncs atomic.Int64
}

func newSlow(t *testing.T) *slow {
	w := &slow{t: t, fs: vfs.NewMem(), c: new(clock)}
	w.c.ns.Store(time.Now().UnixNano())
	w.start()
	t.Cleanup(func() {
		if err := w.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *slow) start() {
	w.t.Helper()
	o := memOptions(w.fs)
	o.Now, o.Maintenance = w.c.now, 24*time.Hour
	w.fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && strings.HasSuffix(name, ".seg") {
			w.syncs.Add(1)
		}
		return nil
	})
	var err error
	if w.s, err = local.Open(o); err != nil {
		w.t.Fatal(err)
	}
}

// kill ends the process and starts another.
func (w *slow) kill() {
	w.t.Helper()
	left := w.fs.Kill()
	_ = w.s.Close() // what it writes in the end is lost
	w.fs = left
	w.start()
}

// tend is what the keeper and the cleaner do every half minute.
func (w *slow) tend() {
	w.t.Helper()
	if err := errors.Join(w.s.RetainNow(), w.s.CompactDue()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *slow) put(l span.Log, key, value string) {
	w.t.Helper()
	raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: w.c.now().UnixMilli(), Key: []byte(key), Value: []byte(value)}).Build()
	if err != nil {
		w.t.Fatal(err)
	}
	mustPut(w.t, l, raw)
}

func (w *slow) offsets(l span.Log) span.Offsets {
	w.t.Helper()
	o, err := l.Offsets(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

// Retention holds for what no segment was ever written of, a piece by segment.ms or segment.bytes at a time, and writes none.
func TestRetentionOfWhatIsInTheLog(t *testing.T) {
	for _, c := range []struct {
		name   string
		config []string
		least  int64 // records that are kept for sure
		most   int64
	}{
		// A record each ten minutes.
		{"time", []string{"retention.ms", "3600000", "segment.ms", "600000"}, 6, 8},
		{"time, coarser", []string{"retention.ms", "3600000", "segment.ms", "7200000"}, 6, 20},
		// 570 bytes each.
		{"size", []string{"retention.ms", "-1", "retention.bytes", "20000", "segment.bytes", "6000"}, 35, 47},
		{"none", []string{"retention.ms", "-1", "segment.ms", "600000"}, 144, 144},
		{"longer than that", []string{"retention.ms", "864000000", "retention.bytes", "2000000"}, 144, 144},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, killed %v", c.name, killed), func(t *testing.T) {
				w := newSlow(t)
				topic := create(t, w.s, "t", 1, c.config...)
				for i := range 144 {
					l := w.s.Log(topic, 0)
					w.put(l, "k", strings.Repeat("x", 500))
					l.Release()
					if i == 100 && killed {
						w.kill()
					}
					w.tend()
					w.c.advance(10 * time.Minute)
				}
				l := w.s.Log(topic, 0)
				defer l.Release()
				o := w.offsets(l)
				if n := o.End - o.Start; n < c.least || n > c.most {
					t.Errorf("%d records left, want %d to %d", n, c.least, c.most)
				}
				if n := len(readAll(t, l, o.Start)); int64(n) != o.End-o.Start {
					t.Errorf("%d records are read of %+v", n, o)
				}
				if n := w.s.SegmentFiles(topic, 0); n > 0 {
					t.Errorf("%d segments were written", n)
				}
				// What a flush makes of the rest is dropped when its time has come.
				if err := w.s.FlushNow(); err != nil {
					t.Fatal(err)
				}
				if again := w.offsets(l); again != o {
					t.Errorf("a flush made %+v of %+v", again, o)
				}
				w.c.advance(100 * 24 * time.Hour)
				w.tend()
				if o, aged := w.offsets(l), c.config[1] != "-1"; (o.Start == o.End) != aged {
					t.Errorf("%+v a hundred days later", o)
				}
			})
		}
	}
}

// A flush of what came over a long time does not make one segment of it, which retention could only drop as a whole; nor
// one of each record, where segment.ms is that short.
func TestFlushedSegmentsAgeOneByOne(t *testing.T) {
	w := newSlow(t)
	topic := create(t, w.s, "t", 1, "retention.ms", "86400000", "segment.ms", "1000")
	l := w.s.Log(topic, 0)
	defer l.Release()
	for range 144 {
		w.put(l, "k", "v")
		w.c.advance(10 * time.Minute)
	}
	if err := w.s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if n := w.s.SegmentFiles(topic, 0); n < 3 || n > 5 {
		t.Errorf("%d segments of a day", n)
	}
	w.c.advance(12 * time.Hour)
	w.tend()
	if o := w.offsets(l); o.Start < 36 || o.Start > 72 {
		t.Errorf("%+v, want about the first half gone", o)
	}
	// However far apart the clients say that their records are.
	far := create(t, w.s, "far", 1, "retention.ms", "1000", "segment.ms", "1000")
	lf := w.s.Log(far, 0)
	defer lf.Release()
	for range 100 {
		w.put(lf, "k", "v")
		w.c.advance(time.Hour)
	}
	if err := w.s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if n := w.s.SegmentFiles(far, 0); n > 10 {
		t.Errorf("%d segments of 100 records", n)
	}
}

// A compacted topic with little in it is compacted in the time that its configs say, counted from the appends, whoever was
// killed meanwhile; and also when nothing is appended any more.
func TestCompactionOfSlowTopics(t *testing.T) {
	for _, c := range []struct {
		name   string
		config []string
		most   int // values of the one key after a day of one per ten minutes
		idle   int // after nothing more came for an hour
	}{
		{"segment.ms", []string{"segment.ms", "600000"}, 6, 6},
		{"max.compaction.lag.ms", []string{"max.compaction.lag.ms", "1200000"}, 6, 1},
		{"neither", nil, 144, 144},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newSlow(t)
			topic := create(t, w.s, "t", 1, append([]string{"cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.01"}, c.config...)...)
			for i := range 144 {
				l := w.s.Log(topic, 0)
				w.put(l, "k", fmt.Sprint(i))
				l.Release()
				if i%50 == 49 {
					w.kill()
				}
				w.tend()
				w.c.advance(10 * time.Minute)
			}
			w.tend()
			l := w.s.Log(topic, 0)
			defer l.Release()
			if n := len(readAll(t, l, 0)); n > c.most {
				t.Errorf("%d values of the key, want %d at most; %s", n, c.most, w.s.Internals(topic, 0))
			}
			w.c.advance(time.Hour)
			w.tend()
			if n := len(readAll(t, l, 0)); n > c.idle {
				t.Errorf("%d values of the key when no more came, want %d at most; %s", n, c.idle, w.s.Internals(topic, 0))
			}
		})
	}
}

// The lag counts from the append, also where the flush came late, and in the life of another process.
func TestCompactionLagCountsFromTheAppend(t *testing.T) {
	for _, killed := range []bool{false, true} {
		w := newSlow(t)
		topic := create(t, w.s, "t", 1, "cleanup.policy", "compact", "min.cleanable.dirty.ratio", "1", "max.compaction.lag.ms", "60000")
		l := w.s.Log(topic, 0)
		w.put(l, "base", "v")
		w.put(l, "k", "1")
		w.put(l, "k", "2")
		l.Release()
		w.c.advance(50 * time.Second)
		if killed {
			w.kill()
		}
		if err := w.s.FlushNow(); err != nil {
			t.Fatal(err)
		}
		left := func() int {
			w.tend()
			l := w.s.Log(topic, 0)
			defer l.Release()
			return len(readAll(t, l, 0))
		}
		if n := left(); n != 3 {
			t.Errorf("killed %v: %d records left before their time", killed, n)
		}
		w.c.advance(11 * time.Second)
		if n := left(); n != 2 {
			t.Errorf("killed %v: %d records left after the lag; %s", killed, n, w.s.Internals(topic, 0))
		}
	}
}

// Many partitions with little in each cost a segment and a sync for each once in segment.ms, not each time one of them is due,
// and where nothing is compacted none at all; and checkpoints do not come one by one.
func TestManySlowPartitions(t *testing.T) {
	const partitions = 200
	w := newSlow(t)
	plain := create(t, w.s, "plain", partitions, "retention.ms", "3600000", "segment.ms", "60000")
	compacted := create(t, w.s, "compacted", partitions, "cleanup.policy", "compact", "segment.ms", "3600000", "min.cleanable.dirty.ratio", "0.5")
	busy := create(t, w.s, "busy", 1, "cleanup.policy", "compact", "max.compaction.lag.ms", "1000")
	before := w.s.Stats()
	const minutes = 240
	for range minutes / 10 {
		for i := range int32(partitions) {
			for _, topic := range []span.Topic{plain, compacted} {
				l := w.s.Log(topic, i)
				w.put(l, "k", strings.Repeat("x", 900))
				l.Release()
			}
		}
		for range 10 {
			l := w.s.Log(busy, 0)
			w.put(l, "k", "v")
			l.Release()
			w.tend()
			w.c.advance(time.Minute)
		}
	}
	after := w.s.Stats()
	appended := after.Appended - before.Appended
	segments, checkpoints := after.SegmentBytes-before.SegmentBytes, after.CheckpointBytes-before.CheckpointBytes
	t.Logf("%d bytes appended, %d written to the log, %d to segments, %d to %d checkpoints, %d syncs of segments", appended,
		after.LogBytes-before.LogBytes, segments, checkpoints, after.Checkpoints-before.Checkpoints, w.syncs.Load())
	// Each hour one for the flush, one for the compaction, and some for the closed ones; and those of the busy topic.
	if n, most := w.syncs.Load(), int64(4*minutes/60*partitions+4*minutes); n > most {
		t.Errorf("%d syncs of segments, want %d at most", n, most)
	}
	if n := after.Checkpoints - before.Checkpoints; n > 2*minutes+2 {
		t.Errorf("%d checkpoints in %d rounds of the keeper and the cleaner", n, minutes)
	}
	if n := w.s.SegmentFiles(plain, 0); n > 0 {
		t.Errorf("%d segments of a topic that is not compacted", n)
	}
	if n := w.s.SegmentFiles(compacted, 0); n == 0 || n > 4 {
		t.Errorf("%d segments of a compacted topic", n)
	}
	l := w.s.Log(plain, 7)
	defer l.Release()
	if o := w.offsets(l); o.End-o.Start > 8 {
		t.Errorf("retention left %+v", o)
	}
}

// A start after a flush of what came over days knows when the last of it came, and does not doubt the clock.
func TestFlushKeepsTheTime(t *testing.T) {
	for _, config := range [][]string{{"cleanup.policy", "compact,delete"}, nil} {
		w := newSlow(t)
		topic := create(t, w.s, "t", 1, append(config, "retention.ms", "43200000", "segment.ms", "864000000")...)
		l := w.s.Log(topic, 0)
		for range 3 {
			w.put(l, "k", "v")
			w.c.advance(23 * time.Hour)
		}
		l.Release()
		w.c.advance(-22 * time.Hour)
		if err := w.s.FlushNow(); err != nil {
			t.Fatal(err)
		}
		w.kill()
		w.c.advance(13 * time.Hour)
		w.tend()
		l = w.s.Log(topic, 0)
		defer l.Release()
		if o := w.offsets(l); o.Start != o.End {
			t.Errorf("%v: %+v is left half a day later", config, o)
		}
	}
}

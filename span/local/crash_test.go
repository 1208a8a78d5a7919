package local_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/internal/testkit/summary"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// TestCrashModel runs random sequences of operations and crashes against a model of what
// must be there afterwards: 10,000 of them (a hundred at a time, each of which begins at a seed of its own
// and tells it when it fails), in short runs, of which rapid makes a fifth, 300. -rapid.checks says another number than a hundred.
func TestCrashModel(t *testing.T) {
	calls := 100
	if testing.Short() {
		calls = 15
	}
	// An operation here does more than those that rapid's default of 30 is for.
	if f := flag.Lookup("rapid.steps"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("20"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Value.Set(f.DefValue) }() // it was that before
	}
	var ran tally
	t.Run("calls", func(t *testing.T) {
		for i := range calls {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				crashModel(t, &ran)
			})
		}
	})
	summary.Line(t, "local engine: %d random sequences of %d operations hold against the model, through %d power cuts, %d kills and %d restarts",
		ran.sequences.Load(), ran.operations.Load(), ran.cuts.Load(), ran.kills.Load(), ran.restarts.Load())
	t.Logf("%d compactions took %d records, %d transactions were committed and %d aborted, times were looked up %d times", ran.compactions.Load(),
		ran.compacted.Load(), ran.commits.Load(), ran.aborts.Load(), ran.lists.Load())
	if !t.Failed() && ran.sequences.Load() >= 300 && (ran.compacted.Load() == 0 || ran.commits.Load() == 0 || ran.aborts.Load() == 0 || ran.lists.Load() == 0) {
		t.Error("something was never done")
	}
}

// tally counts what was done.
type tally struct {
	sequences, operations, cuts, kills, restarts atomic.Int64
	compactions, compacted                       atomic.Int64 // passes, and the records that they dropped
	commits, aborts, lists                       atomic.Int64
}

func crashModel(t *testing.T, ran *tally) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(rt)
		m.ran = ran
		defer m.stop()
		m.open()
		rt.Repeat(map[string]func(*rapid.T){
			"":             func(*rapid.T) { ran.operations.Add(1) },
			"create":       m.create,
			"append":       m.append,
			"fence":        m.fence,
			"repeat":       m.repeat,
			"transact":     m.transact,
			"read":         m.read,
			"list":         m.list,
			"trim":         m.trim,
			"seal":         m.seal,
			"delete":       m.delete,
			"grow":         m.grow,
			"flush":        m.flush,
			"compact":      m.compact,
			"restart":      m.restart,
			"kill":         m.kill,
			"crash":        m.crash,
			"killBusy":     m.killBusy,
			"crashBusy":    m.crashBusy,
			"flushKill":    m.flushKill,
			"flushCrash":   m.flushCrash,
			"compactKill":  m.compactKill,
			"compactCrash": m.compactCrash,
		})
		m.checkAll()
		ran.operations.Add(-1) // the first look was before anything was done
		ran.sequences.Add(1)
	})
}

// machine holds the model and the store under test.
type machine struct {
	t      *rapid.T
	fs     *vfs.Mem
	s      *local.Store
	opt    local.Options
	topics []*modelTopic
	values int
	ran    *tally
}

func newMachine(t *rapid.T) *machine {
	m := &machine{t: t, fs: vfs.NewMem()}
	m.opt = local.Options{
		Dir: "/data", Name: "here", MemoryBudget: 4 << 20, MinSpace: -1, LowSpace: -1, OpenFiles: 8,
		Logger:       slog.New(slog.DiscardHandler),
		LogFileBytes: int64(rapid.SampledFrom([]int{64 << 10, 128 << 10}).Draw(t, "log file")),
		FlushBytes:   int64(rapid.SampledFrom([]int{1, 32 << 10, 1 << 30}).Draw(t, "flush")),
	}
	return m
}

func (m *machine) open() {
	m.opt.FS = m.fs
	s, err := local.Open(m.opt)
	if err != nil {
		m.t.Fatalf("open: %v\n%s", err, m.fs.Tree())
	}
	m.s = s
	if h, err := s.Health(context.Background()); err != nil || !h.Writable {
		m.t.Fatalf("opened, %+v, %v", h, err)
	}
}

func (m *machine) stop() {
	if m.s != nil {
		_ = m.s.Close() // of a crashed file system it fails
	}
}

// live picks a topic.
func (m *machine) live(t *rapid.T) *modelTopic {
	var live []*modelTopic
	for _, mt := range m.topics {
		if !mt.gone {
			live = append(live, mt)
		}
	}
	if len(live) == 0 {
		t.Skip("no topic")
	}
	return rapid.SampledFrom(live).Draw(t, "topic")
}

func (m *machine) part(t *rapid.T) (*modelTopic, *modelPart, span.Log) {
	mt := m.live(t)
	i := rapid.IntRange(0, len(mt.parts)-1).Draw(t, "partition")
	return mt, mt.parts[i], m.s.Log(mt.Topic, int32(i))
}

func (m *machine) create(t *rapid.T) {
	if len(m.topics) >= 6 {
		t.Skip("enough")
	}
	n := rapid.IntRange(1, 3).Draw(t, "partitions")
	// The smallest segment holds the largest batch: larger ones are refused.
	config := map[string]string{"retention.ms": "-1", "segment.bytes": rapid.SampledFrom([]string{"6144", "20000", "1000000"}).Draw(t, "segment")}
	mt := new(modelTopic)
	switch rapid.IntRange(0, 5).Draw(t, "policy") {
	case 0, 1:
		mt.compacted = true
		config["cleanup.policy"] = "compact"
	case 2:
		mt.compacted, mt.brief = true, true
		config["cleanup.policy"], config["delete.retention.ms"] = "compact", "0"
	}
	var err error
	if mt.Topic, err = m.s.Create(context.Background(), span.Spec{Name: fmt.Sprint("t", len(m.topics)), Partitions: int32(n), Config: config}); err != nil {
		t.Fatalf("create: %v", err)
	}
	for i := range n {
		mt.parts = append(mt.parts, newPart(i))
	}
	m.topics = append(m.topics, mt)
}

func (m *machine) read(t *rapid.T) {
	mt := m.live(t)
	i := rapid.IntRange(0, len(mt.parts)-1).Draw(t, "partition")
	m.checkPart(mt, i)
}

func (m *machine) trim(t *rapid.T) {
	_, p, l := m.part(t)
	defer l.Release()
	before := rapid.Int64Range(p.start, p.end).Draw(t, "before")
	start, err := l.DeleteBefore(context.Background(), before)
	if err != nil || start != before {
		t.Fatalf("delete before %d: %d, %v", before, start, err)
	}
	p.start = before
}

func (m *machine) seal(t *rapid.T) {
	mt := m.live(t)
	open := false
	for _, p := range mt.parts {
		open = open || len(p.open) > 0
	}
	ends, err := m.s.Seal(context.Background(), mt.Topic)
	if open && errors.Is(err, span.ErrOpenTransaction) {
		return
	}
	if err != nil || len(ends) != len(mt.parts) || open {
		t.Fatalf("seal: %+v, %v, a transaction is open: %v", ends, err, open)
	}
	for i, p := range mt.parts {
		if ends[i].Start != p.start || ends[i].End != p.end {
			t.Fatalf("sealed at %+v, want [%d, %d)", ends[i], p.start, p.end)
		}
	}
	mt.sealed = true
}

func (m *machine) delete(t *rapid.T) {
	mt := m.live(t)
	if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
		t.Skip("rarely")
	}
	if err := m.s.Delete(context.Background(), mt.Topic); err != nil {
		t.Fatal(err)
	}
	mt.gone = true
}

func (m *machine) grow(t *rapid.T) {
	mt := m.live(t)
	if len(mt.parts) > 4 {
		t.Skip("enough")
	}
	if err := m.s.AddPartitions(context.Background(), mt.Topic, int32(len(mt.parts)+1)); err != nil {
		t.Fatal(err)
	}
	mt.parts = append(mt.parts, newPart(len(mt.parts)))
}

func (m *machine) flush(t *rapid.T) {
	if err := m.s.FlushNow(); err != nil {
		t.Fatal(err)
	}
}

// compacted tells whether there is something to compact.
func (m *machine) compacted() bool {
	for _, mt := range m.topics {
		if mt.compacted && !mt.gone {
			return true
		}
	}
	return false
}

// compact compacts all that can be, and looks whether it is.
func (m *machine) compact(t *rapid.T) {
	if !m.compacted() {
		t.Skip("nothing to compact")
	}
	m.flush(t)
	if err := m.s.CompactNow(); err != nil {
		t.Fatal(err)
	}
	m.ran.compactions.Add(1)
	for _, mt := range m.topics {
		if !mt.compacted || mt.gone {
			continue
		}
		for i, p := range mt.parts {
			if cleaned, closed := m.s.Cleaned(mt.Topic, int32(i)), m.s.Closed(mt.Topic, int32(i)); cleaned != closed {
				t.Fatalf("%s/%d: compacted to %d, and closed to %d\n%s", mt.Name, i, cleaned, closed, m.s.Internals(mt.Topic, int32(i)))
			}
			m.ran.compacted.Add(p.end - p.start - int64(len(m.checkPart(mt, i))))
		}
	}
}

package local_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/batch"
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
}

// tally counts what was done.
type tally struct{ sequences, operations, cuts, kills, restarts atomic.Int64 }

func crashModel(t *testing.T, ran *tally) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(rt)
		m.ran = ran
		defer m.stop()
		m.open()
		rt.Repeat(map[string]func(*rapid.T){
			"":           func(*rapid.T) { ran.operations.Add(1) },
			"create":     m.create,
			"append":     m.append,
			"produce":    m.produce,
			"repeat":     m.repeat,
			"read":       m.read,
			"trim":       m.trim,
			"seal":       m.seal,
			"delete":     m.delete,
			"grow":       m.grow,
			"flush":      m.flush,
			"restart":    m.restart,
			"kill":       m.kill,
			"crash":      m.crash,
			"killBusy":   m.killBusy,
			"crashBusy":  m.crashBusy,
			"flushKill":  m.flushKill,
			"flushCrash": m.flushCrash,
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

type modelTopic struct {
	span.Topic
	sealed bool
	gone   bool
	parts  []*modelPart
}

type modelPart struct {
	start, end int64
	values     map[int64]string
	// The producer of this partition.
	id    int64
	epoch int16
	seq   int32
	last  []byte
	at    int64 // offset of last
}

type doubtful struct {
	values []string
	seq    int32 // -1: not the producer's
	raw    []byte
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

func (m *machine) value() string {
	m.values++
	// Some longer than a sector, so that they tear.
	n := []int{0, 10, 600, 5000}[m.values%4]
	return fmt.Sprintf("%d-%0*d", m.values, n+1, 7)
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

func newPart(i int) *modelPart {
	return &modelPart{values: map[int64]string{}, id: 1<<40 + int64(i), at: -1}
}

func (m *machine) create(t *rapid.T) {
	if len(m.topics) >= 6 {
		t.Skip("enough")
	}
	n := rapid.IntRange(1, 3).Draw(t, "partitions")
	// The smallest segment holds the largest batch: larger ones are refused.
	config := map[string]string{"retention.ms": "-1", "segment.bytes": rapid.SampledFrom([]string{"6144", "20000", "1000000"}).Draw(t, "segment")}
	topic, err := m.s.Create(context.Background(), span.Spec{Name: fmt.Sprint("t", len(m.topics)), Partitions: int32(n), Config: config})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	mt := &modelTopic{Topic: topic}
	for i := range n {
		mt.parts = append(mt.parts, newPart(i))
	}
	m.topics = append(m.topics, mt)
}

func (m *machine) build(b *batch.Builder, values []string) []byte {
	for _, v := range values {
		b.Add(batch.Record{Timestamp: int64(m.values), Value: []byte(v)})
	}
	raw, err := b.Build()
	if err != nil {
		m.t.Fatal(err)
	}
	return raw
}

func (m *machine) some(n int) []string {
	var out []string
	for range n {
		out = append(out, m.value())
	}
	return out
}

// submit starts appends to one partition: plain ones and the producer's.
func (m *machine) submit(t *rapid.T, p *modelPart, l span.Log, max int) (started []doubtful, appends []*span.Append, done *sync.WaitGroup) {
	done = new(sync.WaitGroup)
	n := rapid.IntRange(1, max).Draw(t, "appends")
	seq := p.seq
	for range n {
		d := doubtful{values: m.some(rapid.IntRange(1, 3).Draw(t, "records")), seq: -1}
		b := batch.NewBuilder()
		if rapid.Bool().Draw(t, "producer") {
			d.seq = seq
			b.Producer(p.id, p.epoch, seq)
			seq += int32(len(d.values))
		}
		d.raw = m.build(b, d.values)
		started = append(started, d)
		done.Add(1)
		a := &span.Append{Batch: d.raw, Done: func(*span.Append) { done.Done() }}
		appends = append(appends, a)
		l.Append(a)
	}
	return started, appends, done
}

// landed moves an acknowledged append into the model.
func (p *modelPart) landed(d doubtful, offset int64) {
	for i, v := range d.values {
		p.values[offset+int64(i)] = v
	}
	p.end = offset + int64(len(d.values))
	if d.seq >= 0 {
		p.seq = d.seq + int32(len(d.values))
		p.last, p.at = d.raw, offset
	}
}

func (m *machine) append(t *rapid.T) {
	mt, p, l := m.part(t)
	defer l.Release()
	started, appends, done := m.submit(t, p, l, 8)
	done.Wait()
	for i, a := range appends {
		switch {
		case mt.sealed:
			if !errors.Is(a.Err, span.ErrSealed) {
				t.Fatalf("append to a sealed topic: %v", a.Err)
			}
		case a.Err != nil:
			t.Fatalf("append: %v", a.Err)
		case a.BaseOffset != p.end:
			t.Fatalf("append landed at %d, log ended at %d", a.BaseOffset, p.end)
		default:
			p.landed(started[i], a.BaseOffset)
		}
	}
}

// produce begins a new epoch of the producer now and then, and checks that the old
// one is fenced.
func (m *machine) produce(t *rapid.T) {
	mt, p, l := m.part(t)
	defer l.Release()
	if mt.sealed || p.at < 0 {
		t.Skip("sealed, or nothing produced")
	}
	p.epoch++
	d := doubtful{values: m.some(1), seq: 0}
	d.raw = m.build(batch.NewBuilder().Producer(p.id, p.epoch, 0), d.values)
	a := put(l, d.raw)
	if a.Err != nil || a.BaseOffset != p.end {
		t.Fatalf("new epoch: %+v, log ended at %d", a, p.end)
	}
	p.landed(d, a.BaseOffset)
	old := put(l, m.build(batch.NewBuilder().Producer(p.id, p.epoch-1, 7), m.some(1)))
	if old.Err == nil {
		t.Fatalf("former epoch landed at %d", old.BaseOffset)
	}
}

// repeat sends the producer's last batch again.
func (m *machine) repeat(t *rapid.T) {
	mt, p, l := m.part(t)
	defer l.Release()
	if mt.sealed || p.at < 0 {
		t.Skip("sealed, or nothing produced")
	}
	if a := put(l, p.last); a.Err != nil || !a.Duplicate || a.BaseOffset != p.at {
		t.Fatalf("repeat: %+v, first landed at %d", a, p.at)
	}
}

func (m *machine) read(t *rapid.T) {
	mt := m.live(t)
	i := rapid.IntRange(0, len(mt.parts)-1).Draw(t, "partition")
	m.checkPart(mt, i)
}

// records reads a partition from its start.
func (m *machine) records(l span.Log, from int64, maxBytes int) (map[int64]string, int64) {
	out := map[int64]string{}
	offset := from
	for {
		r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: maxBytes})
		if err != nil {
			m.t.Fatalf("read at %d: %v", offset, err)
		}
		if len(r.Batches) == 0 {
			r.Release()
			return out, offset
		}
		for h, b := range batch.Walk(r.Batches) {
			if err := batch.Verify(b); err != nil {
				m.t.Fatal(err)
			}
			for rec, err := range batch.Records(b, 1<<24) {
				if err != nil {
					m.t.Fatal(err)
				}
				out[rec.Offset] = string(rec.Value)
			}
			offset = h.NextOffset()
		}
		r.Release()
	}
}

func (m *machine) checkPart(mt *modelTopic, i int) {
	p := mt.parts[i]
	l := m.s.Log(mt.Topic, int32(i))
	defer l.Release()
	o, err := l.Offsets(context.Background())
	if err != nil || o.Start != p.start || o.End != p.end || o.HighWatermark != p.end {
		m.t.Fatalf("%s/%d: offsets %+v, %v, want [%d, %d)", mt.Name, i, o, err, p.start, p.end)
	}
	got, end := m.records(l, p.start, 3000)
	if end != p.end {
		m.t.Fatalf("%s/%d: read to %d, want %d\n%s", mt.Name, i, end, p.end, m.s.Internals(mt.Topic, int32(i)))
	}
	for offset := p.start; offset < p.end; offset++ {
		if got[offset] != p.values[offset] {
			m.t.Fatalf("%s/%d: offset %d holds %.20q, want %.20q", mt.Name, i, offset, got[offset], p.values[offset])
		}
	}
}

func (m *machine) checkAll() {
	list, err := m.s.Topics(context.Background(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	var want []string
	for _, mt := range m.topics {
		if mt.gone {
			continue
		}
		want = append(want, mt.Name)
		for i := range mt.parts {
			m.checkPart(mt, i)
		}
	}
	var got []string
	for _, t := range list {
		got = append(got, t.Name)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.t.Fatalf("topics %v, want %v", got, want)
	}
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
	ends, err := m.s.Seal(context.Background(), mt.Topic)
	if err != nil || len(ends) != len(mt.parts) {
		t.Fatalf("seal: %+v, %v", ends, err)
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
func (m *machine) flushCrash(t *rapid.T) { m.flushEnds(t, m.powerCut(t)) }

// flushKill ends the process there. What the next one makes of it outlives a power cut.
func (m *machine) flushKill(t *rapid.T) {
	m.flushEnds(t, m.killed())
	m.cutNext(t)
}

func (m *machine) flushEnds(t *rapid.T, end func() *vfs.Mem) {
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
	_ = m.s.FlushNow() // it may not come to its end
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
	started, appends, done := m.submit(t, p, l, 20)
	done.Wait()
	background.Wait()
	mu.Lock()
	if after == nil {
		after = end()
		left = 0
	}
	mu.Unlock()
	var doubt []doubtful
	for i, a := range appends {
		switch {
		case a.Err == nil:
			if len(doubt) > 0 || a.BaseOffset != p.end || mt.sealed {
				t.Fatalf("acknowledged at %d, log ended at %d, %d in doubt before it", a.BaseOffset, p.end, len(doubt))
			}
			p.landed(started[i], a.BaseOffset)
		case errors.Is(a.Err, span.ErrUnknownOutcome):
			doubt = append(doubt, started[i])
		case errors.Is(a.Err, span.ErrSealed) && mt.sealed:
		case errors.Is(a.Err, span.ErrStorage):
		default:
			var rejected *span.RejectedError
			if !errors.As(a.Err, &rejected) || started[i].seq < 0 {
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
	got, _ := m.records(found, p.start, 1<<20)
	for _, d := range doubt {
		if p.end == o.End {
			break
		}
		for i, v := range d.values {
			if got[p.end+int64(i)] != v {
				t.Fatalf("offset %d holds %.20q, want %.20q, which was on its way", p.end+int64(i), got[p.end+int64(i)], v)
			}
		}
		p.landed(d, p.end)
	}
	m.checkAll()
}

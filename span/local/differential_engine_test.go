package local_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
	"github.com/braidstream/braid/wire"
)

// engine is our side of [TestDifferential].
type engine struct {
	t      testing.TB
	s      *local.Store
	topic  span.Topic
	l      span.Log
	ahead  atomic.Int64 // ms, so that every look at the clock is a little later
	frozen atomic.Bool
}

func newEngine(t testing.TB, name string, config map[string]string, change ...func(*local.Options)) *engine {
	e := &engine{t: t}
	opt := memOptions(vfs.NewMem())
	for _, f := range change {
		f(&opt)
	}
	opt.Now = func() time.Time {
		if !e.frozen.Load() {
			e.ahead.Add(2)
		}
		return time.Now().Add(time.Duration(e.ahead.Load()) * time.Millisecond)
	}
	s, err := local.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	e.s = s
	if e.topic, err = s.Create(context.Background(), span.Spec{Name: name, Partitions: 1, Config: config}); err != nil {
		t.Fatal(err)
	}
	e.l = s.Log(e.topic, 0)
	return e
}

func (e *engine) close() {
	e.l.Release()
	if err := e.s.Close(); err != nil {
		e.t.Fatal(err)
	}
}

// freeze lets the clock go on at its own pace.
func (e *engine) freeze() { e.frozen.Store(true) }

func (e *engine) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) flush() { e.must(e.s.FlushNow()) }

func (e *engine) compact() {
	e.must(e.s.FlushNow())
	e.must(e.s.CompactNow())
}

func (e *engine) retain() { e.must(e.s.RetainNow()) }

// code is what a client would be told.
func code(err error) wire.Code {
	var r *span.RejectedError
	switch {
	case err == nil:
		return wire.None
	case errors.As(err, &r):
		return r.Code
	case errors.Is(err, span.ErrOffsetOutOfRange):
		return wire.OffsetOutOfRange
	}
	return wire.UnknownServerError
}

func (e *engine) produce(raw []byte, _ string) string {
	a := put(e.l, raw)
	if a.Err != nil {
		return fmt.Sprint(int(code(a.Err)))
	}
	stamp := "-1"
	if a.LogAppendTime >= 0 {
		stamp = "now"
	}
	return produced(a.BaseOffset, stamp, a.LogStart, a.Duplicate)
}

// produced is the answer to an append that landed.
func produced(base int64, stamp string, start int64, duplicate bool) string {
	if duplicate {
		return fmt.Sprintf("0 duplicate of %d", base)
	}
	return fmt.Sprintf("0 at %d, log append time %s, log start %d", base, stamp, start)
}

func (e *engine) read(offset int64, committed bool) string {
	if offset < 0 {
		o, err := e.l.Offsets(context.Background())
		e.must(err)
		if offset = o.Start; offset > o.End {
			return "nothing"
		}
	}
	var out strings.Builder
	aborted := map[span.Aborted]bool{}
	for first := true; ; first = false {
		r, err := e.l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 1500, Committed: committed})
		if first {
			fmt.Fprintf(&out, "%d ", int(code(err)))
			if err == nil {
				fmt.Fprintf(&out, "[%d, %d, %d)", r.Start, r.LastStable, r.HighWatermark)
			}
		}
		if err != nil {
			if !first {
				e.t.Fatal(err)
			}
			return out.String()
		}
		for _, a := range r.Aborted {
			aborted[a] = true
		}
		if len(r.Batches) == 0 {
			r.Release()
			break
		}
		offset = describe(e.t, &out, r.Batches)
		r.Release()
	}
	out.WriteString(abortedBelow(aborted, offset))
	return out.String()
}

// abortedBelow shows the aborted transactions that began below the offset read to.
func abortedBelow(aborted map[span.Aborted]bool, offset int64) string {
	list := slices.SortedFunc(maps.Keys(aborted), func(a, b span.Aborted) int { return int(a.FirstOffset - b.FirstOffset) })
	list = slices.DeleteFunc(list, func(a span.Aborted) bool { return a.FirstOffset >= offset })
	return fmt.Sprintf(" aborted %v", list)
}

// describe writes whole batches as text and returns the offset past them.
func describe(t testing.TB, out *strings.Builder, run []byte) (next int64) {
	for h, raw := range batch.Walk(run) {
		if err := batch.Verify(raw); err != nil {
			t.Fatal(err)
		}
		next = h.NextOffset()
		fmt.Fprintf(out, "\n  [%d, %d] %d/%d seq %d attributes %x max %s:", h.BaseOffset, h.LastOffset(), h.ProducerID, h.ProducerEpoch, h.BaseSequence,
			h.Attributes, moment(&h, h.MaxTimestamp))
		for r, err := range batch.Records(raw, 1<<24) {
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString(" " + show(&h, r))
		}
	}
	return next
}

func show(h *batch.Header, r *batch.Record) string {
	value := fmt.Sprintf("%q", r.Value)
	if len(r.Value) > 100 {
		value = fmt.Sprintf("%d bytes", len(r.Value))
	}
	return fmt.Sprintf("%d@%s %q(%v)=%s(%v)%q", r.Offset, moment(h, r.Timestamp), r.Key, r.Key == nil, value, r.Value == nil, r.Headers)
}

// moment shows a time, but not that of a broker.
func moment(h *batch.Header, ms int64) string {
	if h.LogAppendTime() {
		return "now"
	}
	return fmt.Sprint(ms)
}

func (e *engine) records(committed bool) []string {
	o, err := e.l.Offsets(context.Background())
	e.must(err)
	v := newVisible(e.t, committed)
	offset := o.Start
	for {
		r, err := e.l.Read(context.Background(), span.ReadRequest{Offset: offset, Committed: committed})
		e.must(err)
		if len(r.Batches) == 0 {
			r.Release()
			return v.records
		}
		var skip []span.Aborted
		skip = append(skip, r.Aborted...)
		offset = v.add(r.Batches, skip)
		r.Release()
	}
}

// visible collects what a consumer shows its application.
type visible struct {
	t         testing.TB
	committed bool
	pending   map[int64][]int64 // first offsets of a producer's aborted transactions
	aborting  map[int64]bool
	records   []string
}

func newVisible(t testing.TB, committed bool) *visible {
	return &visible{t: t, committed: committed, pending: map[int64][]int64{}, aborting: map[int64]bool{}}
}

// add takes what one fetch returned, as Kafka's consumer does.
func (v *visible) add(run []byte, aborted []span.Aborted) (next int64) {
	for _, a := range aborted {
		if !slices.Contains(v.pending[a.ProducerID], a.FirstOffset) {
			v.pending[a.ProducerID] = append(v.pending[a.ProducerID], a.FirstOffset)
		}
	}
	for h, raw := range batch.Walk(run) {
		next = h.NextOffset()
		if h.IsControl() && h.NumRecords == 0 {
			continue // a cleaner left of a marker what its producer's state needs
		}
		if h.IsControl() {
			m, err := batch.ParseMarker(raw)
			if err != nil {
				v.t.Fatal(err)
			}
			if !m.Commit {
				delete(v.aborting, h.ProducerID)
				v.pending[h.ProducerID] = slices.DeleteFunc(v.pending[h.ProducerID], func(first int64) bool { return first < h.BaseOffset })
			}
			continue
		}
		if v.committed && h.IsTransactional() {
			if slices.ContainsFunc(v.pending[h.ProducerID], func(first int64) bool { return first <= h.LastOffset() }) {
				continue
			}
		}
		for r, err := range batch.Records(raw, 1<<24) {
			if err != nil {
				v.t.Fatal(err)
			}
			v.records = append(v.records, show(&h, r))
		}
	}
	return next
}

func (e *engine) list(ms int64) string {
	o, err := e.l.Offsets(context.Background())
	e.must(err)
	switch ms {
	case -1:
		return fmt.Sprintf("0 %d at -1", o.HighWatermark)
	case -2:
		return fmt.Sprintf("0 %d at -1", o.Start)
	}
	at, found, err := e.l.OffsetFor(context.Background(), ms)
	if err != nil || !found {
		return fmt.Sprintf("%d -1 at -1", int(code(err)))
	}
	return fmt.Sprintf("0 %d at %s", at.Offset, recent(at.Timestamp))
}

// recent hides a time that can only be a broker's: no record of a test is so young and not ahead of the clock.
func recent(ms int64) string {
	if now := time.Now().UnixMilli(); ms > now-5*60_000 && ms < now+30*60_000 {
		return "now"
	}
	return fmt.Sprint(ms)
}

func (e *engine) offsets() string {
	o, err := e.l.Offsets(context.Background())
	e.must(err)
	return fmt.Sprintf("start %d, stable %d, high watermark %d", o.Start, o.LastStable, o.HighWatermark)
}

func (e *engine) end() int64 {
	o, err := e.l.Offsets(context.Background())
	e.must(err)
	return o.HighWatermark
}

func (e *engine) deleteBefore(offset int64) string {
	if offset == -1 {
		offset = e.end()
	}
	low, err := e.l.DeleteBefore(context.Background(), offset)
	if err != nil {
		return fmt.Sprint(int(code(err)))
	}
	return fmt.Sprintf("0 %d", low)
}

func (e *engine) producers() string {
	list, err := e.l.Producers(context.Background())
	e.must(err)
	var out []string
	for _, p := range list {
		out = append(out, producerText(p.ID, int32(p.Epoch), p.LastSequence, p.LastTimestamp, p.TxnStart))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func producerText(id int64, epoch, sequence int32, last, txn int64) string {
	return fmt.Sprintf("%d/%d sequence %d at %s, transaction from %d", id, epoch, sequence, recent(last), txn)
}

func (e *engine) txnStart(id int64) int64 {
	list, err := e.l.Producers(context.Background())
	e.must(err)
	for _, p := range list {
		if p.ID == id {
			return p.TxnStart
		}
	}
	return -1
}

func (e *engine) mark(t testing.TB, m batch.Marker) {
	raw, err := m.Build()
	if err != nil {
		t.Fatal(err)
	}
	if a := put(e.l, raw); a.Err != nil || a.BaseOffset != m.Offset {
		t.Fatalf("marker %+v: %+v", m, a)
	}
	e.flush()
}

func (e *engine) configure(config map[string]string) {
	e.must(e.s.Configure(context.Background(), e.topic, config))
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/tenant/audit"
)

// lines is an audit topic in memory.
type lines struct {
	t       *testing.T
	batches [][]byte
	start   int64
	end     int64
	reads   int
	bytes   int
}

var linesBegan = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// add appends n events in a batch, one each second. Their resources are counted up over the whole topic.
func (l *lines) add(first, n int, kind, detail string) {
	l.t.Helper()
	b := batch.NewBuilder().BaseOffset(l.end)
	for i := first; i < first+n; i++ {
		at := linesBegan.Add(time.Duration(i) * time.Second)
		value, err := json.Marshal(audit.Event{Time: at, Kind: kind, Resource: fmt.Sprint(i), Detail: detail})
		if err != nil {
			l.t.Fatal(err)
		}
		b.Add(batch.Record{Timestamp: at.UnixMilli(), Value: value})
	}
	raw, err := b.Build()
	if err != nil {
		l.t.Fatal(err)
	}
	l.batches, l.end = append(l.batches, raw), l.end+int64(n)
}

func (l *lines) Offsets(context.Context, bool) (start, end int64, epoch int32, err error) {
	return l.start, l.end, 0, nil
}

func (l *lines) OffsetFor(_ context.Context, ms int64) (offset, timestamp int64, epoch int32, found bool, err error) {
	for _, raw := range l.batches {
		for rec, err := range batch.Records(raw, maxAuditRead) {
			if err != nil {
				return 0, 0, 0, false, err
			}
			if rec.Timestamp >= ms {
				return rec.Offset, rec.Timestamp, 0, true, nil
			}
		}
	}
	return 0, 0, 0, false, nil
}

func (l *lines) Read(_ context.Context, r chain.ReadRequest) (chain.ReadResult, error) {
	l.reads++
	var res chain.ReadResult
	for _, raw := range l.batches {
		h, _, err := batch.Parse(raw)
		if err != nil {
			return res, err
		}
		if h.NextOffset() <= r.Offset {
			continue
		}
		if len(res.Batches) > 0 && len(res.Batches)+len(raw) > r.MaxBytes {
			break
		}
		res.Batches = append(res.Batches, raw...)
	}
	l.bytes += len(res.Batches)
	return res, nil
}

func (l *lines) list(q audit.Query) (resources []string, from time.Time) {
	l.t.Helper()
	l.reads, l.bytes = 0, 0
	page, err := readAudit(l.t.Context(), l, q)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, e := range page.Events {
		resources = append(resources, e.Resource)
	}
	return resources, page.From
}

func numbers(from, to int) (list []string) {
	for i := from; i < to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func at(i int) time.Time { return linesBegan.Add(time.Duration(i) * time.Second) }

// Of a topic much longer than what is read for one query the newest events are shown, a page says where it ends, and
// asking on from there brings all of the others.
func TestTheNewestAuditEventsAreRead(t *testing.T) {
	t.Parallel()
	l := &lines{t: t}
	const batches, each = 2000, 50
	detail := strings.Repeat("x", 900)
	for i := range batches {
		kind := audit.Change
		if i == 5 {
			kind = audit.Denied
		}
		l.add(i*each, each, kind, detail)
	}
	const all = batches * each
	got, from := l.list(audit.Query{Limit: 20})
	if !slices.Equal(got, numbers(all-20, all)) || !from.Equal(at(all-20).Add(-1)) || l.bytes > 4<<20 {
		t.Errorf("the newest: %v from %v, %d bytes read", got, from, l.bytes)
	}
	if got, from = l.list(audit.Query{Limit: 20, Until: at(777)}); !slices.Equal(got, numbers(758, 778)) || !from.Equal(at(758).Add(-1)) {
		t.Errorf("the newest until then: %v from %v", got, from)
	}
	if got, from = l.list(audit.Query{Limit: 20, Since: at(770), Until: at(777)}); !slices.Equal(got, numbers(770, 778)) || !from.IsZero() {
		t.Errorf("all between two moments: %v from %v", got, from)
	}
	if got, from = l.list(audit.Query{Since: at(all)}); len(got) != 0 || !from.IsZero() {
		t.Errorf("none: %v from %v", got, from)
	}
	// What was read is bounded, and said.
	got, from = l.list(audit.Query{Kind: audit.Denied})
	if len(got) != 0 || from.IsZero() || l.bytes > maxAuditRead+2*auditWindow {
		t.Fatalf("rare ones: %v from %v, %d bytes read", got, from, l.bytes)
	}
	for pages := 0; !from.IsZero() && len(got) == 0; pages++ {
		if pages > 10 {
			t.Fatal("the rare ones are never found")
		}
		before := from
		if got, from = l.list(audit.Query{Kind: audit.Denied, Until: from}); !from.IsZero() && !from.Before(before) {
			t.Fatalf("no way on from %v", from)
		}
	}
	if !slices.Equal(got, numbers(5*each, 6*each)) {
		t.Errorf("the rare ones: %v", got)
	}
	var pages []string
	for until, more := (time.Time{}), true; more; more = !until.IsZero() {
		var page []string
		page, until = l.list(audit.Query{Limit: audit.MaxEvents, Until: until})
		pages = append(page, pages...)
	}
	if !slices.Equal(pages, numbers(0, all)) {
		t.Errorf("%d of %d events on all pages", len(pages), all)
	}
}

// Offsets that nobody has, as after the loss of a cluster, are passed over.
func TestAuditEventsBeforeAGapAreRead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, after, line int }{{0, 3, 10}, {3, 0, 10}, {3, 3, 10}, {40, 1, 500}, {400, 7, 5000}} {
		l := &lines{t: t}
		detail := strings.Repeat("x", c.line)
		n := 0
		for range c.before {
			l.add(n, 10, audit.Change, detail)
			n += 10
		}
		l.end += 1 << 32
		for range c.after {
			l.add(n, 10, audit.Change, detail)
			n += 10
		}
		got, from := l.list(audit.Query{})
		if !slices.Equal(got, numbers(0, n)) || !from.IsZero() || l.reads > 500 {
			t.Errorf("%+v: %d of %d events from %v in %d reads", c, len(got), n, from, l.reads)
		}
	}
	// Long lines are read in smaller windows.
	l := &lines{t: t}
	for i := range 40 {
		l.add(i*100, 100, audit.Change, strings.Repeat("y", 12<<10))
	}
	if got, from := l.list(audit.Query{Limit: 2500}); !slices.Equal(got, numbers(1500, 4000)) || !from.Equal(at(1500).Add(-1)) {
		t.Errorf("%d events from %v", len(got), from)
	}
}

// at adds a line of an event that is appended when so many seconds have gone by.
func (l *lines) at(name string, event, appended int) {
	l.t.Helper()
	value, err := json.Marshal(audit.Event{Time: at(event), Kind: audit.Change, Resource: name})
	if err != nil {
		l.t.Fatal(err)
	}
	b := batch.NewBuilder().BaseOffset(l.end)
	b.Add(batch.Record{Timestamp: at(appended).UnixMilli(), Value: value})
	raw, err := b.Build()
	if err != nil {
		l.t.Fatal(err)
	}
	l.batches, l.end = append(l.batches, raw), l.end+1
}

// Lines of several processes are not in the order of their events, and some are of one moment: who goes on from page
// to page sees all of them.
func TestPagesOfAuditEventsHaveAll(t *testing.T) {
	t.Parallel()
	l := &lines{t: t}
	for i := range 10 {
		l.at(fmt.Sprint("a", i), i, i)
	}
	l.at("late", 5, 10)
	for i := 11; i < 15; i++ {
		l.at(fmt.Sprint("b", i), i, i)
	}
	for i := range 4 {
		l.at(fmt.Sprint("together", i), 15, 15)
	}
	for limit := 1; limit < 21; limit++ {
		seen := map[string]bool{}
		for q := (audit.Query{Limit: limit}); ; {
			list, from := l.list(q)
			for _, name := range list {
				seen[name] = true
			}
			if from.IsZero() {
				break
			}
			if !q.Until.IsZero() && !from.Before(q.Until) {
				t.Fatalf("limit %d: no way on from %v", limit, from)
			}
			q.Until = from
		}
		if len(seen) != 19 {
			t.Errorf("limit %d: %d of 19 events on all pages", limit, len(seen))
		}
	}
}

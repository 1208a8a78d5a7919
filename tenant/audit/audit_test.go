package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Main(m)) }

func open(t *testing.T, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, l) })
	return l
}

func shut(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

func read(path string, q Query) ([]Event, error) {
	page, err := Read(path, q)
	return page.Events, err
}

// What is told is in the file, bounded, of a mode that nobody else may read, and is
// read back with what was there before a restart.
func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit", "audit.log")
	for i := range 2 {
		l := open(t, Options{Path: path})
		l.Record(Event{Kind: Change, Who: "User:alice", Tenant: "acme", Action: "CreateTopics", Resource: fmt.Sprint("TOPIC ", i), Result: Done, Detail: strings.Repeat("x", 10<<10)})
		l.Record(Event{Kind: Denied, Tenant: "globex", Resource: "TOPIC \x1b[2J\n\"", Result: "denied"})
		shut(t, l)
		if c := l.Counts(); c != (Counts{Written: 2}) {
			t.Errorf("%+v", c)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
	// A crash may leave half a line.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, werr := f.WriteString(`{"time":"2026-`)
	if err := errors.Join(werr, f.Close()); err != nil {
		t.Fatal(err)
	}
	all, err := read(path, Query{})
	if err != nil || len(all) != 4 || all[0].Who != "User:alice" || len(all[0].Detail) > maxText+8 || all[0].Time.IsZero() || all[1].Resource != "TOPIC \x1b[2J\n\"" {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, c := range []struct {
		q    Query
		want int
	}{{Query{Tenant: "acme"}, 2}, {Query{Kind: Denied}, 2}, {Query{Kind: Denied, Tenant: "acme"}, 0}, {Query{Limit: 1}, 1}, {Query{Since: all[2].Time}, 2}, {Query{Since: time.Now().Add(time.Hour)}, 0}} {
		if got, err := read(path, c.q); err != nil || len(got) != c.want {
			t.Errorf("%+v: %d, %v", c.q, len(got), err)
		}
	}
	// The newest come first, and the page says where it was cut: from there on to go on.
	last, err := Read(path, Query{Limit: 1})
	if err != nil || len(last.Events) != 1 || last.Events[0] != all[3] || !last.From.Equal(all[3].Time.Add(-1)) {
		t.Errorf("%+v, %v", last, err)
	}
	before, err := Read(path, Query{Limit: 2, Until: last.From})
	if err != nil || len(before.Events) != 2 || before.Events[1] != all[2] || !before.From.Equal(all[1].Time.Add(-1)) {
		t.Errorf("%+v, %v", before, err)
	}
	if whole, err := Read(path, Query{Limit: 4}); err != nil || len(whole.Events) != 4 || !whole.From.IsZero() {
		t.Errorf("%+v, %v", whole, err)
	}
}

// The files together have a bound, and the newest events are kept.
func TestRotation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Options{Path: path, FileBytes: 2000})
	const n = 600
	for i := range n {
		l.Record(Event{Kind: Change, Resource: fmt.Sprint(i), Result: Done})
	}
	shut(t, l)
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(list) != kept+1 {
		t.Fatalf("%d files, %v", len(list), err)
	}
	for _, f := range list {
		if st, err := f.Info(); err != nil || st.Size() > 2000 || st.Mode().Perm() != 0o600 {
			t.Error(f.Name(), st.Size(), st.Mode(), err)
		}
	}
	all, err := read(path, Query{})
	if err != nil || len(all) == 0 || all[len(all)-1].Resource != fmt.Sprint(n-1) {
		t.Fatalf("%d, %v", len(all), err)
	}
	for i := range all {
		if want := fmt.Sprint(n - len(all) + i); all[i].Resource != want {
			t.Fatalf("event %d is %s, want %s", i, all[i].Resource, want)
		}
	}
}

// A flood of one tenant's denials is cut, and counted; another's are written.
func TestFloods(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Options{Path: path})
	const flood = 5000
	for i := range flood {
		l.Record(Event{Kind: Denied, Tenant: "loud", Resource: fmt.Sprint(i), Result: "denied"})
		l.Record(Event{Kind: Change, Tenant: "loud", Resource: fmt.Sprint(i), Result: "TOPIC_ALREADY_EXISTS"})
	}
	l.Record(Event{Kind: Denied, Tenant: "quiet", Result: "denied"})
	shut(t, l)
	all, err := read(path, Query{})
	if err != nil {
		t.Fatal(err)
	}
	var denied, failed, quiet int
	var leftOut int64
	for _, e := range all {
		leftOut += e.LeftOut
		switch {
		case e.Tenant == "quiet":
			quiet++
		case e.Kind == Denied:
			denied++
		case e.Kind == Change:
			failed++
		}
	}
	c := l.Counts()
	if quiet != 1 || denied > flood/2 || failed > flood/2 || denied < burst/2 || int64(denied+failed)+leftOut+c.Lost != 2*flood || leftOut != c.LeftOut {
		t.Errorf("%d denied, %d failed, %d quiet, %d left out, %+v", denied, failed, quiet, leftOut, c)
	}
}

// Changes that a tenant makes in any number are cut too, and counted, over all listeners; those of operators, of the
// fleet and of others are written.
func TestFloodsOfDone(t *testing.T) {
	t.Parallel()
	b := bounds{by: map[sort]*bucket{}}
	now := time.Now()
	written := 0
	const flood = 5 * doneBurst
	for i := range flood {
		if _, ok := b.pass(&Event{Kind: Change, Tenant: "loud", Via: fmt.Sprint("L", i%2), Result: Done}, now); ok {
			written++
		}
	}
	if written != doneBurst {
		t.Errorf("%d of a flood are written", written)
	}
	for range 2 * doneBurst {
		for _, e := range []Event{{Kind: Change, Tenant: "loud", Via: AdminAPI, Result: Done}, {Kind: Change, Who: "controller", Tenant: "loud", Result: Done}, {Kind: Change, Result: Done}} {
			if _, ok := b.pass(&e, now); !ok {
				t.Fatalf("%+v is left out", e)
			}
		}
	}
	if _, ok := b.pass(&Event{Kind: Change, Tenant: "quiet", Via: "L0", Result: Done}, now); !ok {
		t.Error("another tenant's is left out")
	}
	if sums := b.sums(now); len(sums) != 1 || sums[0].Tenant != "loud" || sums[0].Result != Done || sums[0].LeftOut != flood-doneBurst {
		t.Errorf("%+v", sums)
	}
}

// However much clients tell while nothing can be written, operators' changes are kept: in the queue, and for the topic.
func TestClientsLeaveRoom(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{})}
	l := open(t, Options{Stream: g})
	for i := range 2 * maxQueued {
		l.Record(Event{Kind: Denied, Tenant: fmt.Sprint("t", i%500), Via: "L", Result: "denied"})
	}
	const own = maxQueued / 5
	for range own {
		l.Record(Event{Kind: Change, Who: "operator:olga", Via: AdminAPI, Result: Done})
	}
	close(g.open)
	shut(t, l)
	if n := bytes.Count(g.b.Bytes(), []byte("operator:olga")); n != own {
		t.Errorf("%d of %d", n, own)
	}

	w := &Log{o: Options{Topic: func(context.Context, [][]byte) error { return nil }}, poke: make(chan struct{}, 1)}
	for range 2 * maxWaiting {
		w.line(&Event{Kind: Denied, Tenant: "t", Via: "L"})
	}
	if n := len(w.waiting); n != maxWaitingOfClients {
		t.Errorf("%d of clients wait", n)
	}
	w.line(&Event{Kind: Change, Tenant: "t", Via: AdminAPI, Result: Done})
	if n := len(w.waiting); n != maxWaitingOfClients+1 {
		t.Errorf("%d wait", n)
	}
}

// Names that change do not fill the memory.
func TestBoundsAreBounded(t *testing.T) {
	t.Parallel()
	b := bounds{by: map[sort]*bucket{}}
	now := time.Now()
	for i := range 10 * maxSorts {
		b.pass(&Event{Kind: Denied, Tenant: fmt.Sprint(i)}, now)
	}
	if len(b.by) > maxSorts+1 {
		t.Errorf("%d", len(b.by))
	}
	if b.sums(now.Add(time.Hour)); len(b.by) > 0 {
		b.sums(now.Add(2 * time.Hour))
	}
	if len(b.by) != 0 {
		t.Errorf("%d are kept though all is quiet", len(b.by))
	}
	// Changes that were made are always written.
	for range 10 * burst {
		if _, ok := b.pass(&Event{Kind: Change, Result: Done}, now); !ok {
			t.Fatal("a change is left out")
		}
	}
}

// gate is a stream that takes nothing until it is opened.
type gate struct {
	open chan struct{}
	mu   sync.Mutex
	b    bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.Write(b)
}

// Who tells something never waits, and what could not be kept is counted.
func TestRecordNeverWaits(t *testing.T) {
	t.Parallel()
	g := &gate{open: make(chan struct{})}
	l := open(t, Options{Stream: g})
	const n = 3 * maxQueued
	for i := range n {
		l.Record(Event{Kind: Change, Resource: fmt.Sprint(i), Result: Done})
	}
	if l.Counts().Lost < n-maxQueued-1 {
		t.Errorf("%+v", l.Counts())
	}
	close(g.open)
	shut(t, l)
	c := l.Counts()
	if lines := bytes.Count(g.b.Bytes(), []byte("\n")); c.Written+c.Lost != n || int64(lines) != c.Written {
		t.Errorf("%d lines, %+v", lines, c)
	}
	var none *Log
	none.Record(Event{Kind: Change})
}

// The topic gets every line, in order, though its first appends fail; what it has
// not taken at the end is counted.
func TestTopic(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	fails := 1
	take := func(_ context.Context, lines [][]byte) error {
		mu.Lock()
		defer mu.Unlock()
		if fails > 0 {
			fails--
			return errors.New("away")
		}
		for _, line := range lines {
			var e Event
			if err := json.Unmarshal(line, &e); err != nil {
				t.Error(err)
			}
			got = append(got, e.Resource)
		}
		return nil
	}
	l := open(t, Options{Topic: take})
	const n = 3 * topicLines
	for i := range n {
		l.Record(Event{Kind: Change, Resource: fmt.Sprint(i), Result: Done})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l.Drain(ctx)
	shut(t, l)
	if len(got) != n {
		t.Fatalf("%d of %d", len(got), n)
	}
	for i := range got {
		if got[i] != fmt.Sprint(i) {
			t.Fatalf("%s at %d", got[i], i)
		}
	}

	never := open(t, Options{Topic: func(context.Context, [][]byte) error { return errors.New("away") }})
	never.Record(Event{Kind: Change, Result: Done})
	over, stop := context.WithCancel(t.Context())
	stop()
	if err := never.Close(over); err != nil {
		t.Error(err)
	}
	if c := never.Counts(); c.TopicLost != 1 {
		t.Errorf("%+v", c)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-01T00:00:00Z","kind":"change","leftOut":3}`))
	f.Add([]byte(`{"kind":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, ok := Parse(line)
		if !ok {
			return
		}
		e.bound()
		b, err := json.Marshal(&e)
		if err != nil {
			return // a year that JSON has no form for
		}
		if _, ok := Parse(b); !ok {
			t.Errorf("%s is written as %s, which is none", line, b)
		}
	})
}

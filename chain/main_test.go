package chain_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/chain/chaintest"
	"github.com/braidstream/braid/internal/testkit/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Main(m)) }

// patience bounds every wait of these tests; nothing is timed by it.
const patience = 3 * time.Minute

type world struct {
	t     testing.TB
	ctx   context.Context
	fleet *chaintest.Fleet
	topic catalog.ID
}

type gateway struct {
	patience time.Duration // of appends; 0: the default
	w        *world
	view     *chaintest.View
	clients  *chaintest.Clients
	logs     *chain.Logs
	p        *chain.Partition
}

func newWorld(t testing.TB, clusters ...string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	w := &world{t: t, ctx: ctx, fleet: chaintest.NewFleet(clusters...)}
	t.Cleanup(func() { w.fleet.Close(); cancel() })
	id, err := w.fleet.CreateTopic(ctx, "t", clusters[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	w.topic = id
	return w
}

func (w *world) gateway(change ...func(*chain.Options)) *gateway {
	w.t.Helper()
	g := &gateway{w: w, view: w.fleet.Catalog.View(), clients: w.fleet.Clients()}
	o := chain.Options{Source: g.view, Stores: g.clients, Node: 1, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, f := range change {
		f(&o)
	}
	g.logs = chain.NewLogs(o)
	closed := sync.OnceFunc(func() { g.logs.Close(); g.clients.Close() })
	w.t.Cleanup(closed)
	p, err := g.logs.Partition(w.topic, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	g.p = p
	return g
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) move(to string) { w.t.Helper(); w.must(w.fleet.MoveTopic(w.ctx, w.topic, to)) }

// records makes a batch of n records with the given producer; values are name-0, name-1, ...
func records(t testing.TB, name string, n int, producer int64, epoch int16, seq int32) ([]byte, batch.Header) {
	t.Helper()
	b := batch.NewBuilder().Producer(producer, epoch, seq)
	for i := range n {
		b.Add(batch.Record{Timestamp: 1000, Value: fmt.Appendf(nil, "%s-%d", name, i)})
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := batch.Validate(out, batch.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return out, h
}

type pending struct {
	t    testing.TB
	done chan struct{}
	a    *chain.Append
}

func (p *pending) wait() *chain.Append {
	p.t.Helper()
	select {
	case <-p.done:
		return p.a
	case <-time.After(patience):
		p.t.Fatal("append was never answered")
		return nil
	}
}

func (p *pending) answered() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (g *gateway) send(name string, n int, producer int64, epoch int16, seq int32) *pending {
	g.w.t.Helper()
	b, h := records(g.w.t, name, n, producer, epoch, seq)
	p := &pending{t: g.w.t, done: make(chan struct{})}
	a := &chain.Append{Batch: b, Header: h, Done: func(a *chain.Append) { p.a = a; close(p.done) }}
	if g.patience > 0 {
		a.Deadline = time.Now().Add(g.patience)
	}
	g.p.Append(a)
	// The memory is the caller's again.
	clear(b)
	return p
}

// put appends one plain record.
func (g *gateway) put(name string) *chain.Append {
	g.w.t.Helper()
	a := g.send(name, 1, -1, -1, -1).wait()
	if a.Err != nil {
		g.w.t.Fatalf("append %s: %v", name, a.Err)
	}
	return a
}

type found struct {
	offset int64
	epoch  int32
	value  string
	pid    int64
}

// readAll reads everything from offset up to the end that Offsets proves.
func (g *gateway) readAll(from int64) []found {
	g.w.t.Helper()
	_, end, _, err := g.p.Offsets(g.w.ctx, false)
	if err != nil {
		g.w.t.Fatalf("offsets: %v", err)
	}
	var out []found
	deadline := time.Now().Add(patience)
	for at := from; at < end; {
		res, err := g.p.Read(g.w.ctx, chain.ReadRequest{Offset: at, MaxBytes: 1 << 20, ClientEpoch: -1, LastFetchedEpoch: -1})
		if err != nil {
			g.w.t.Fatalf("read at %d: %v", at, err)
		}
		got := decode(g.w.t, res.Batches)
		res.Release()
		if len(got) == 0 && time.Now().After(deadline) {
			g.w.t.Fatalf("nothing to read at %d, end is %d", at, end)
		}
		for _, f := range got {
			if f.offset >= at {
				out = append(out, f)
				at = f.offset + 1
			}
		}
	}
	return out
}

func decode(t testing.TB, run []byte) []found {
	t.Helper()
	var out []found
	it := batch.NewIter(run)
	for it.Next() {
		if err := batch.Verify(it.Bytes); err != nil {
			t.Fatalf("batch at %d: %v", it.Header.BaseOffset, err)
		}
		var rr batch.RecordReader
		if err := rr.Reset(it.Bytes, 1<<24); err != nil {
			t.Fatal(err)
		}
		for rr.Next() {
			out = append(out, found{rr.Record.Offset, it.Header.PartitionLeaderEpoch, string(rr.Record.Value), it.Header.ProducerID})
		}
		rr.Close()
	}
	if it.Err() != nil || len(it.Rest()) > 0 {
		t.Fatalf("run of batches: %v, %d bytes left", it.Err(), len(it.Rest()))
	}
	return out
}

func values(fs []found) []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.value)
	}
	return out
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func isKind(t testing.TB, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error %v, want kind %v", err, kind)
	}
}

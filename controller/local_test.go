package controller

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
)

// engines are embedded clusters.
type engines map[string]span.Store

func (e engines) Store(cluster string) (span.Store, error) {
	if s, ok := e[cluster]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("cluster %s: %w", cluster, span.ErrUnavailable)
}

// localFleet is a fleet on the embedded engine.
func localFleet(t testing.TB, clusters ...string) (*fleet, engines) {
	t.Helper()
	f := newFleet(t)
	es := engines{}
	f.admin.Stores = es
	f.admin.Dial = func(_ context.Context, c catalog.Cluster) (span.Store, error) {
		s, err := local.Open(local.Options{Dir: filepath.Join(t.TempDir(), c.Name), Name: c.Name, LowSpace: -1, MinSpace: -1, Logger: logger()})
		return s, err
	}
	for _, c := range clusters {
		s, err := local.Open(local.Options{Dir: filepath.Join(t.TempDir(), c), Name: c, LowSpace: -1, MinSpace: -1, Logger: logger()})
		f.check(err)
		t.Cleanup(func() { f.check(s.Close()) })
		es[c] = s
		_, err = f.admin.AddCluster(f.ctx, ClusterSpec{Name: c, Kind: catalog.KindLocal})
		f.check(err)
	}
	return f, es
}

// producer sends idempotent batches of one record through a gateway's logs, a few
// in flight, and remembers where each was acknowledged.
type producer struct {
	id      int64
	part    *chain.Partition
	mu      sync.Mutex
	acked   map[int64]int32 // sequence by offset
	last    time.Time
	longest time.Duration
	errs    []error
}

func (p *producer) run(ctx context.Context) {
	window := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for seq := int32(0); ctx.Err() == nil; seq++ {
		window <- struct{}{}
		b := oneBatch(p.id, 0, seq, 1, time.Now(), "v")
		h, _, err := batch.Parse(b)
		if err != nil {
			panic(err)
		}
		wg.Add(1)
		p.part.Append(&chain.Append{Batch: b, Header: h, Done: func(a *chain.Append) {
			defer func() { <-window; wg.Done() }()
			p.mu.Lock()
			defer p.mu.Unlock()
			if a.Err != nil {
				p.errs = append(p.errs, fmt.Errorf("sequence %d: %w", seq, a.Err))
				return
			}
			now := time.Now()
			if !p.last.IsZero() {
				p.longest = max(p.longest, now.Sub(p.last))
			}
			p.last = now
			p.acked[a.BaseOffset] = seq
		}})
		time.Sleep(time.Millisecond) // the load, not a wait
	}
	wg.Wait()
}

// A topic moves between embedded clusters while idempotent producers append
// through a gateway's logs: nothing is lost, doubled or reordered, each move is
// certified, and the pause is short.
func TestLiveMovesOnTheEmbeddedEngine(t *testing.T) {
	t.Parallel()
	f, es := localFleet(t, "a", "b")
	f.controller(reported, func(o *Options) { o.Stores = es })
	topic := f.topic("orders", 3, "a", nil)
	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1}, 2*time.Second)
	f.check(err)
	t.Cleanup(func() { f.check(s.Close(context.Background())) })
	logs := chain.NewLogs(chain.Options{Watcher: f.watch, Catalog: f.cat, Stores: es, Node: 1, Alive: s.Alive, Logger: logger()})
	t.Cleanup(func() { logs.Close() })
	ctx, stop := context.WithCancel(f.ctx)
	var wg sync.WaitGroup
	var ps []*producer
	for p := range int32(3) {
		part, err := logs.Partition(topic.ID, p)
		f.check(err)
		x := &producer{id: catalog.ProducerIDBase + int64(p), part: part, acked: map[int64]int32{}}
		ps = append(ps, x)
		wg.Go(func() { x.run(ctx) })
	}
	const moves = 10
	verdicts := map[catalog.Verdict]int{}
	for i := range moves {
		was := make([]int, 3)
		for p, x := range ps {
			x.mu.Lock()
			was[p] = len(x.acked)
			x.mu.Unlock()
		}
		f.until("appends between two moves", func() bool {
			more := true
			for p, x := range ps {
				x.mu.Lock()
				more = more && len(x.acked) >= was[p]+5
				x.mu.Unlock()
			}
			return more
		})
		op := f.done(f.move([]string{"b", "a"}[i%2], "orders"))
		if op.State != catalog.OpDone {
			t.Fatalf("move %d: %+v", i, op)
		}
		for _, p := range f.certificate(topic, op.ID).Partitions {
			verdicts[p.Verdict]++
			if p.Verdict == catalog.VerdictViolated {
				t.Errorf("move %d: %+v", i, p)
			}
		}
	}
	stop()
	wg.Wait()
	var pauses []time.Duration
	for p, x := range ps {
		if len(x.errs) > 0 {
			t.Errorf("partition %d: %v", p, x.errs[0])
		}
		pauses = append(pauses, x.longest)
		have := map[int64]string{}
		storesOf(f, es, func() { have = f.records(topic, p) })
		if len(have) != len(x.acked) {
			t.Errorf("partition %d: %d records, %d acknowledged", p, len(have), len(x.acked))
		}
		offsets := make([]int64, 0, len(x.acked))
		for at, seq := range x.acked {
			offsets = append(offsets, at)
			if have[at] != value(seq) {
				t.Errorf("partition %d, offset %d: acknowledged %s, read %s", p, at, value(seq), have[at])
			}
		}
		slices.Sort(offsets)
		for i := 1; i < len(offsets); i++ {
			if x.acked[offsets[i-1]] >= x.acked[offsets[i]] {
				t.Errorf("partition %d: sequence %d at %d, then %d at %d", p, x.acked[offsets[i-1]], offsets[i-1], x.acked[offsets[i]], offsets[i])
			}
		}
		if n := len(f.chain(topic, p).Spans); n != moves+1 {
			t.Errorf("partition %d has %d spans", p, n)
		}
	}
	if verdicts[catalog.VerdictVerified] == 0 {
		t.Errorf("verdicts: %v", verdicts)
	}
	t.Logf("%d moves, longest time without an acknowledgement %v, verdicts %v", moves, pauses, verdicts)
}

// storesOf lets the fleet's own reader use other stores for a while.
func storesOf(f *fleet, es engines, do func()) {
	f.reading = es
	defer func() { f.reading = nil }()
	do()
}

package chain_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/chain/chaintest"
	"github.com/braidstream/braid/span"
)

// lose extends the topic from cluster a, which is called gone, onto b where the
// words of so many gateways allow.
func (w *world) lose(gateways int) chain.Cut {
	w.t.Helper()
	c := w.fleet.Catalog.Chain(w.topic, 0)
	cp := chain.OpenSpan(&c).Copies[0]
	w.fleet.Catalog.SetExtend(w.topic, &catalog.Extend{Op: "lost", Topic: catalog.TopicRef{ID: w.topic}, Mode: catalog.ModeFence, Step: catalog.StepSeal,
		Unreadable: true, Old: []catalog.PhysicalTopic{{Cluster: "a", Topic: cp.Topic, TopicID: cp.TopicID}}})
	eventually(w.t, "the gateways' words", func() bool { return len(w.fleet.Catalog.HoldAcks(w.topic)) == gateways })
	cut := chain.CutAt(chain.OpenSpan(&c), 0, w.fleet.Catalog.HoldAcks(w.topic))
	state, err := chain.MergeProducers(nil, cut.Producers(&cp, 1), chain.Merge{Copy: &cp, End: cut.End, Now: time.Now(), Lossy: true})
	w.must(err)
	to, err := w.fleet.Clients().Of("b").Create(w.ctx, span.Spec{Name: "fresh", Partitions: 1})
	w.must(err)
	next, err := chain.Extend(&c, chain.Extension{End: cut.End, MaxTimestamp: -1, Producers: w.fleet.Catalog.PutProducers(state), Skip: cut.Skip,
		To: w.fleet.Cluster("b").Copy(to, 0), Lossy: true, Room: 100, Unreadable: true, At: time.Now()})
	w.must(err)
	w.fleet.Catalog.Commit(w.topic, 0, next)
	w.fleet.Catalog.SetExtend(w.topic, nil)
	return cut
}

// back makes the copy on cluster a readable again.
func (w *world) back() {
	c := w.fleet.Catalog.Chain(w.topic, 0)
	c.Spans = slices.Clone(c.Spans)
	c.Spans[0].Copies = slices.Clone(c.Spans[0].Copies)
	c.Spans[0].Copies[0].Unreadable = false
	w.fleet.Catalog.Commit(w.topic, 0, c)
}

// A batch was on its way when its cluster was lost: it had landed, its
// acknowledgement has not come. Whoever has seen it, it is in the chain once, and
// what was acknowledged behind it stays where it was.
func TestLostClusterHoldsWhatWasOnItsWayOnce(t *testing.T) {
	for _, tc := range []struct {
		name        string
		read, acked bool // another gateway has read it; had its own record acknowledged behind it
		late        bool // its client was told that it had timed out
		end         int64
		skip        []catalog.Gap
		offset      int64 // where it is in the end
		want        []string
		wantBack    []string
	}{
		{name: "nobody has seen it", end: 1, offset: 101, want: []string{"two-0"}, wantBack: []string{"one-0", "two-0"}},
		{name: "another gateway has read it", read: true, end: 2, offset: 1, wantBack: []string{"one-0", "two-0"}},
		{name: "another's is acknowledged behind it", acked: true, end: 3, skip: []catalog.Gap{{From: 1, To: 2}}, offset: 103,
			want: []string{"two-0"}, wantBack: []string{"one-0", "three-0", "two-0"}},
		{name: "it was read, and its client has given up", read: true, late: true, end: 2, offset: 1, wantBack: []string{"one-0", "two-0"}},
		{name: "both", read: true, acked: true, end: 3, offset: 1, wantBack: []string{"one-0", "two-0", "three-0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			g, other := w.gateway(), w.gateway(func(o *chain.Options) { o.Node = 2 })
			if tc.read {
				defer other.p.Notify(50, func() {})() // a consumer at the end of the log
			}
			if a := g.send("one", 1, 7, 0, 0).wait(); a.Err != nil {
				t.Fatal(a.Err)
			}
			gate := make(chan struct{})
			defer close(gate)
			g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault { return chaintest.Fault{WaitAnswer: gate} })
			if tc.late {
				g.patience = time.Millisecond
			}
			flying := g.send("two", 1, 7, 0, 1)
			g.patience = 0
			eventually(t, "landed", func() bool { return len(w.fleet.Cluster("a").Batches("braid.1", 0)) == 2 })
			if tc.read {
				eventually(t, "the tail of the other gateway holds it", func() bool { return other.p.TailEnd() == 2 })
			}
			if tc.acked {
				if a := other.send("three", 1, 8, 0, 0).wait(); a.Err != nil || a.BaseOffset != 2 {
					t.Fatalf("%+v", a)
				}
			}
			cut := w.lose(2)
			if cut.End != tc.end || !slices.Equal(cut.Skip, tc.skip) {
				t.Errorf("cut at %d, left out %v; want %d and %v", cut.End, cut.Skip, tc.end, tc.skip)
			}
			if a := flying.wait(); tc.late && a.Err != nil {
				isKind(t, a.Err, chain.ErrTimedOut)
			} else if a.Err != nil || a.BaseOffset != tc.offset {
				t.Errorf("answered %d, %v; want %d", a.BaseOffset, a.Err, tc.offset)
			}
			// The client retries at another gateway all the same.
			if a := other.send("two", 1, 7, 0, 1).wait(); a.BaseOffset != tc.offset && !errors.Is(a.Err, chain.ErrDuplicate) {
				t.Errorf("the retry: %d, %v; want %d", a.BaseOffset, a.Err, tc.offset)
			}
			if tc.late {
				if a := g.send("next", 1, 7, 0, 2).wait(); a.Err != nil || a.BaseOffset != 102 {
					t.Errorf("what follows it: %d, %v", a.BaseOffset, a.Err)
				}
				tc.want, tc.wantBack = []string{"next-0"}, append(tc.wantBack, "next-0")
			}
			for _, r := range []*gateway{g, other, w.gateway()} {
				if tc.want == nil {
					break // nothing was appended since
				}
				if got := values(r.readAll(tc.end)); !slices.Equal(got, tc.want) {
					t.Errorf("without the cluster: %v, want %v", got, tc.want)
				}
			}
			w.back()
			for _, r := range []*gateway{g, other, w.gateway()} {
				if tc.want == nil {
					r.put("end")
					tc.want, tc.wantBack = []string{}, append(tc.wantBack, "end-0")
				}
				if got := values(r.readAll(0)); !slices.Equal(got, tc.wantBack) {
					t.Errorf("with the cluster back: %v, want %v", got, tc.wantBack)
				}
				for _, gap := range tc.skip {
					if res, err := r.p.Read(w.ctx, read(gap.From)); err != nil || decode(t, res.Batches)[0].offset != gap.To {
						t.Errorf("a read at %d: %v, %v", gap.From, decode(t, res.Batches), err)
					}
				}
			}
		})
	}
}

// deaf is a source whose changes are not heard from the word to a fence on.
type deaf struct {
	chain.Source
	mu    sync.Mutex
	shut  bool
	later []func()
}

func (d *deaf) OnChange(f func([]catalog.ID)) (cancel func()) {
	return d.Source.OnChange(func(ids []catalog.ID) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.shut {
			d.later = append(d.later, func() { f(ids) })
			return
		}
		f(ids)
	})
}

func (d *deaf) HoldAck(ctx context.Context, topic catalog.ID, op string, ack catalog.HoldAck) error {
	d.mu.Lock()
	d.shut = true
	d.mu.Unlock()
	return d.Source.HoldAck(ctx, topic, op, ack)
}

func (d *deaf) hear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = false
	for _, f := range d.later {
		f()
	}
}

// slow is a source that tells of no extend before its gate is open.
type slow struct {
	chain.Source
	once  sync.Once
	asked chan struct{} // closed when the first question waits
	gate  chan struct{}
}

func (s *slow) HoldAck(ctx context.Context, topic catalog.ID, op string, ack catalog.HoldAck) error {
	<-s.asked
	return s.Source.HoldAck(ctx, topic, op, ack)
}

func (s *slow) ReadExtend(ctx context.Context, topic catalog.ID) (*catalog.Extend, error) {
	s.once.Do(func() { close(s.asked) })
	select {
	case <-s.gate:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Source.ReadExtend(ctx, topic)
}

// A fenced gateway asks whether the extend still stands. That it is gone may mean that
// it was committed since the chain was read: the copy takes nothing any more.
func TestFenceThatIsGoneSinceTheChainWasRead(t *testing.T) {
	w := newWorld(t, "a", "b")
	s := &slow{asked: make(chan struct{}), gate: make(chan struct{})}
	d := &deaf{}
	g := w.gateway(func(o *chain.Options) { s.Source = o.Source; d.Source = s; o.Source = d })
	if a := g.send("one", 1, 7, 0, 0).wait(); a.Err != nil {
		t.Fatal(a.Err)
	}
	w.lose(1)
	sent := g.send("two", 1, 7, 0, 1)
	close(s.gate)
	if a := sent.wait(); a.Err != nil || a.BaseOffset != 101 {
		t.Errorf("answered %d, %v; want 101", a.BaseOffset, a.Err)
	}
	if n := len(w.fleet.Cluster("a").Batches("braid.1", 0)); n != 1 {
		t.Errorf("the copy that was given up holds %d batches, want 1", n)
	}
}

// A gateway that has appended nothing yet gives its word to a fence. The fence is gone
// from the catalog when the chain goes on elsewhere, and a partition hears of that a
// moment later: until then the copy that it knows takes nothing.
func TestFirstAppendBetweenACommitAndItsNews(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	d := &deaf{}
	other := w.gateway(func(o *chain.Options) { d.Source = o.Source; o.Source, o.Node = d, 2 })
	if a := g.send("one", 1, 7, 0, 0).wait(); a.Err != nil {
		t.Fatal(a.Err)
	}
	w.lose(2)
	sent := other.send("two", 1, 7, 0, 1)
	d.hear()
	if a := sent.wait(); a.Err != nil || a.BaseOffset != 101 {
		t.Errorf("answered %d, %v; want 101", a.BaseOffset, a.Err)
	}
	if n := len(w.fleet.Cluster("a").Batches("braid.1", 0)); n != 1 {
		t.Errorf("the copy that was given up holds %d batches, want 1", n)
	}
}

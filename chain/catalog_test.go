package chain_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/chain/chaintest"
	"github.com/braidstream/braid/span"
)

// real is a gateway's Logs on the embedded catalog, with clusters in memory.
type real struct {
	*world
	cat   *catalog.Catalog
	watch *catalog.Watcher
	admin *chaintest.Clients
	g     *gateway
}

func newReal(t testing.TB) *real {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, fleet: chaintest.NewFleet("a", "b")}
	emb, err := catalog.StartEmbedded(ctx, catalog.EmbeddedConfig{Dir: t.TempDir(), NoSync: true, Logger: quiet})
	w.must(err)
	t.Cleanup(func() { w.must(emb.Close()) })
	cat, err := catalog.Connect(ctx, catalog.Config{Endpoints: emb.Endpoints(), AnswerTimeout: time.Minute, Logger: quiet})
	w.must(err)
	t.Cleanup(func() { w.must(cat.Close()) })
	admin := w.fleet.Clients()
	t.Cleanup(admin.Close)
	phys, err := admin.Of("a").Create(ctx, span.Spec{Name: "first", Partitions: 1})
	w.must(err)
	topic, err := cat.CreateTopic(ctx, catalog.Topic{Tenant: catalog.DefaultTenant, Name: "t"},
		[]catalog.Chain{chain.New(w.fleet.Cluster("a").Copy(phys, 0), 0, time.Now())})
	w.must(err)
	w.topic = topic.ID
	watch, err := cat.Watch(ctx, catalog.Scope{})
	w.must(err)
	t.Cleanup(watch.Close)
	r := &real{world: w, cat: cat, watch: watch, admin: admin}
	r.g = &gateway{w: w, clients: w.fleet.Clients()}
	r.g.logs = chain.NewLogs(chain.Options{Watcher: watch, Catalog: cat, Stores: r.g.clients, Node: 3, Logger: quiet})
	t.Cleanup(func() { r.g.logs.Close(); r.g.clients.Close(); w.fleet.Close() })
	r.g.p, err = r.g.logs.Partition(w.topic, 0)
	w.must(err)
	return r
}

// move extends the topic onto a cluster, with the catalog's own commit.
func (r *real) move(to, fresh string) (pause time.Duration) {
	r.t.Helper()
	topic, pages, err := r.cat.Chains(r.ctx, catalog.DefaultTenant, r.topic)
	r.must(err)
	c := &pages[0].Chains[0]
	open := chain.OpenSpan(c)
	from := r.admin.Of(open.Copies[0].Cluster)
	old := span.Topic{Name: open.Copies[0].Topic, ID: open.Copies[0].TopicID}
	phys, err := r.admin.Of(to).Create(r.ctx, span.Spec{Name: fresh, Partitions: 1})
	r.must(err)
	began := time.Now()
	ends, err := from.Seal(r.ctx, old)
	r.must(err)
	blob, err := r.cat.Producers(r.ctx, chain.SealedState(c))
	r.must(err)
	before, err := chain.DecodeProducers(blob)
	r.must(err)
	live, err := from.Log(old, 0).Producers(r.ctx)
	r.must(err)
	end := chain.ToLogical(&open.Copies[0], ends[0].End)
	state, err := chain.MergeProducers(before, live, chain.Merge{Copy: &open.Copies[0], End: end, Now: time.Now()})
	r.must(err)
	ref, err := r.cat.PutProducers(r.ctx, r.topic, 0, open.Seq, chain.EncodeProducers(state))
	r.must(err)
	next, err := chain.Extend(c, chain.Extension{End: end, MaxTimestamp: ends[0].MaxTimestamp, Producers: ref, To: r.fleet.Cluster(to).Copy(phys, 0), At: time.Now()})
	r.must(err)
	page := pages[0]
	page.Chains = []catalog.Chain{next}
	r.must(r.cat.CommitPages(r.ctx, catalog.CommitRequest{Tenant: catalog.DefaultTenant, Topic: r.topic, TopicRevision: topic.Revision, Pages: []catalog.Page{page}}))
	return time.Since(began)
}

func TestOnTheRealCatalog(t *testing.T) {
	r := newReal(t)
	for i := range int32(3) {
		r.must(r.g.send(fmt.Sprint("s", i), 1, 7, 0, i).wait().Err)
	}
	r.move("b", "second")
	for i := int32(3); i < 6; i++ {
		if a := r.g.send(fmt.Sprint("s", i), 1, 7, 0, i).wait(); a.Err != nil || a.BaseOffset != int64(i) {
			t.Fatalf("%+v", a)
		}
	}
	if a := r.g.send("s1", 1, 7, 0, 1).wait(); a.Err != nil || a.BaseOffset != 1 || !a.Duplicate {
		t.Fatalf("%+v", a)
	}
	if got := values(r.g.readAll(0)); !slices.Equal(got, []string{"s0-0", "s1-0", "s2-0", "s3-0", "s4-0", "s5-0"}) {
		t.Fatal(got)
	}
	if start, err := r.g.p.DeleteRecords(r.ctx, 2); err != nil || start != 2 {
		t.Fatalf("%d %v", start, err)
	}
	_, err := r.g.p.Read(r.ctx, read(1))
	isKind(t, err, chain.ErrOffsetOutOfRange)
	eventually(t, "the report", func() bool {
		rs, err := r.cat.AckReports(r.ctx, r.topic)
		r.must(err)
		return len(rs) == 1 && rs[0].Node == 3 && rs[0].Records == 3 && rs[0].FirstAck != 0
	})
	topic, err := r.cat.Topic(r.ctx, catalog.DefaultTenant, r.topic)
	r.must(err)
	_, err = r.cat.MarkDeleting(r.ctx, topic)
	r.must(err)
	eventually(t, "the topic is gone", func() bool {
		_, _, _, err := r.g.p.Offsets(r.ctx, false)
		return err != nil
	})
	_, _, _, err = r.g.p.Offsets(r.ctx, false)
	isKind(t, err, chain.ErrUnknownTopic)
}

// How long a producer sees no acknowledgement beyond what the move itself takes
// from the seal to the commit.
func BenchmarkMove(b *testing.B) {
	r := newReal(b)
	r.must(r.g.send("first", 1, 7, 0, 0).wait().Err)
	var over []time.Duration
	seq := int32(1)
	for i := range b.N {
		to := []string{"b", "a"}[i%2]
		stop, longest := make(chan struct{}), make(chan time.Duration)
		go func() {
			var worst time.Duration
			last := time.Now()
			for {
				select {
				case <-stop:
					longest <- worst
					return
				default:
				}
				if a := r.g.send("x", 1, 7, 0, seq).wait(); a.Err != nil {
					b.Error(a.Err)
				}
				seq++
				worst = max(worst, time.Since(last))
				last = time.Now()
			}
		}()
		time.Sleep(5 * time.Millisecond)
		took := r.move(to, fmt.Sprint("m", i))
		time.Sleep(20 * time.Millisecond)
		close(stop)
		over = append(over, <-longest-took)
	}
	slices.Sort(over)
	b.ReportMetric(float64(over[len(over)/2].Microseconds())/1000, "ms-over-commit-p50")
	b.ReportMetric(float64(over[len(over)*99/100].Microseconds())/1000, "ms-over-commit-p99")
}

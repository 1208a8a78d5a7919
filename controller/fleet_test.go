package controller

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/internal/testkit/leaks"
	"github.com/braidstream/braid/span"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests mostly wait, for leases and pauses between tries.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(leaks.Main(m))
}

// patience is how long a test has at most, on a machine that has much else to do.
const patience = 10 * time.Minute

func logger() *slog.Logger {
	if os.Getenv("BRAID_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// fleet is a catalog, clusters in memory, and what a gateway does in brief.
type fleet struct {
	t     testing.TB
	etcd  *catalog.Embedded
	cat   *catalog.Catalog
	watch *catalog.Watcher
	doubles
	admin   *Admin
	ctx     context.Context
	reading chain.Stores // instead of the doubles, if set
}

func newFleet(t testing.TB, clusters ...string) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	f := &fleet{t: t, doubles: doubles{}, ctx: ctx}
	var err error
	if f.etcd, err = catalog.StartEmbedded(ctx, catalog.EmbeddedConfig{Dir: t.TempDir(), NoSync: true, Logger: logger()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.check(f.etcd.Close()) })
	if f.cat, err = catalog.Connect(ctx, catalog.Config{Endpoints: f.etcd.Endpoints(), AnswerTimeout: time.Minute, Logger: logger()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.check(f.cat.Close()) })
	if f.watch, err = f.cat.Watch(ctx, catalog.Scope{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.watch.Close)
	f.admin = NewAdmin(AdminOptions{Catalog: f.cat, Watcher: f.watch, Stores: f.doubles, Logger: logger(),
		Dial: func(_ context.Context, c catalog.Cluster) (span.Store, error) { return f.Store(c.Name) }})
	t.Cleanup(f.admin.Close)
	for _, c := range clusters {
		f.doubles[c] = newDouble(c)
		_, err := f.admin.AddCluster(ctx, ClusterSpec{Name: c, Kind: catalog.KindLocal})
		f.check(err)
	}
	return f
}

func (f *fleet) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) options() Options {
	return Options{Catalog: f.cat, Watcher: f.watch, Stores: f.doubles, Name: "test", Lease: time.Second, Logger: logger(),
		Damping: 50 * time.Millisecond, Retries: time.Second, GoneAfter: 50 * time.Millisecond, Linger: 50 * time.Millisecond, ReportsWait: 50 * time.Millisecond}
}

// reported has certificates wait for all reports, for tests that say what these prove:
// in them every writer goes on after the move.
func reported(o *Options) { o.ReportsWait = patience }

// controller starts one, with a fault hook if given.
func (f *fleet) controller(change ...func(*Options)) *Controller {
	o := f.options()
	for _, ch := range change {
		ch(&o)
	}
	c := New(o)
	c.Start()
	f.t.Cleanup(c.Close)
	return c
}

func (f *fleet) topic(name string, partitions int32, cluster string, config map[string]string) catalog.Topic {
	f.t.Helper()
	t, err := f.admin.CreateTopicOn(f.ctx, gateway.TopicSpec{Tenant: catalog.DefaultTenant, Name: name, Partitions: partitions, Config: config}, cluster)
	f.check(err)
	return t
}

// record writes down whether a cluster can be sealed.
func (f *fleet) record(cluster string, canSeal bool) {
	f.t.Helper()
	c, err := f.cat.Cluster(f.ctx, cluster)
	f.check(err)
	c.CanSeal = canSeal
	c, err = f.cat.PutCluster(f.ctx, c, catalog.Fence{})
	f.check(err)
	_, err = f.watch.RevisionAtLeast(f.ctx, c.Revision)
	f.check(err)
}

// grantsNoSeal makes a cluster one that was added without a grant.
func (f *fleet) grantsNoSeal(cluster string) {
	f.t.Helper()
	f.doubles[cluster].set(func() { f.doubles[cluster].canSeal = false })
	f.record(cluster, false)
}

// until waits for a condition that a change of the catalog brings.
func (f *fleet) until(what string, cond func() bool) {
	f.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-f.ctx.Done():
			f.t.Fatalf("never came: %s", what)
		case <-tick.C:
		}
	}
}

// done waits for an operation's end.
func (f *fleet) done(op catalog.Op) catalog.Op {
	f.t.Helper()
	f.until("end of operation "+string(op.Kind), func() bool {
		now, err := f.cat.Op(f.ctx, op.ID)
		f.check(err)
		op = now
		return op.IsFinished()
	})
	return op
}

func (f *fleet) move(to string, topics ...string) catalog.Op {
	f.t.Helper()
	op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpMove, Topics: topics, To: to})
	f.check(err)
	return op
}

func (f *fleet) chain(t catalog.Topic, p int) *catalog.Chain {
	f.t.Helper()
	s, err := f.watch.RefreshTopic(f.ctx, t.Tenant, t.ID)
	f.check(err)
	ch, _ := s.Chain(t.ID, int32(p))
	if ch == nil {
		f.t.Fatalf("no chain %d", p)
	}
	if err := chain.Validate(ch); err != nil {
		f.t.Fatal(err)
	}
	return ch
}

// writer appends to one partition as a gateway does: it routes to the open span,
// waits when that is sealed, and reports what it saw acknowledged.
type writer struct {
	account  *catalog.Account // what its gateway says of it at a fence, besides
	f        *fleet
	topic    catalog.Topic
	p        int
	node     int32
	run      string
	producer int64
	next     int32
	acked    map[int64]string // first value by logical offset
	mu       sync.Mutex
	report   catalog.AckReport
	span     int32
	// publishes tells whether a report is handed in; nil: all are.
	publishes func(catalog.AckReport) bool
}

func (f *fleet) writer(t catalog.Topic, p int, producer int64) *writer {
	return &writer{f: f, topic: t, p: p, node: 1, producer: producer, acked: map[int64]string{}, span: -1}
}

func (w *writer) publish() {
	w.mu.Lock()
	r := w.report
	if r.Digest != nil {
		d := catalog.AckDigest{}
		d.Merge(r.Digest)
		r.Digest = &d
	}
	w.mu.Unlock()
	if w.span >= 0 && (w.publishes == nil || w.publishes(r)) {
		w.f.check(w.f.cat.PutAckReports(w.f.ctx, w.topic.ID, []catalog.AckReport{r}))
	}
}

// restart has the writer's gateway end and begin anew, as another run.
func (w *writer) restart(run string) {
	w.f.t.Helper()
	w.mu.Lock()
	w.report.Last = true
	w.mu.Unlock()
	w.publish()
	w.span, w.run = -1, run
}

func (w *writer) append(n int) {
	w.f.t.Helper()
	if err := w.try(n); err != nil {
		w.f.t.Fatal(err)
	}
}

func (w *writer) try(n int) error {
	for {
		if w.f.ctx.Err() != nil {
			return w.f.ctx.Err()
		}
		ch := w.f.chain(w.topic, w.p)
		sp := chain.OpenSpan(ch)
		if sp.Seq != w.span {
			w.publish()
			w.mu.Lock()
			w.span = sp.Seq
			w.report = catalog.AckReport{Node: w.node, Run: w.run, Partition: int32(w.p), Span: sp.Seq, Next: -1, Digest: &catalog.AckDigest{}}
			w.mu.Unlock()
		}
		st, err := w.f.Store(sp.Copies[0].Cluster)
		if err != nil {
			return err
		}
		b := oneBatch(w.producer, 0, w.next, n, time.Now(), "v")
		var out span.Append
		st.Log(span.Topic{Name: sp.Copies[0].Topic, ID: sp.Copies[0].TopicID}, sp.Copies[0].Partition).
			Append(&span.Append{Batch: b, Done: func(a *span.Append) { out = *a }})
		if errors.Is(out.Err, span.ErrSealed) {
			time.Sleep(time.Millisecond) // held: the chain is about to change, or the seal to be undone
			continue
		}
		if out.Err != nil {
			return out.Err
		}
		at := chain.ToLogical(&sp.Copies[0], out.BaseOffset)
		h, _, err := batch.Parse(b)
		if err != nil {
			return err
		}
		w.mu.Lock()
		for i := range n {
			w.acked[at+int64(i)] = value(w.next + int32(i))
		}
		w.next += int32(n)
		w.report.Records += int64(n)
		w.report.Batches++
		w.report.Digest.Add(at, int32(n), h.CRC)
		w.report.Next = at + int64(n)
		w.report.LastAck = time.Now().UnixNano()
		if w.report.FirstAck == 0 {
			w.report.FirstAck = w.report.LastAck
		}
		w.report.Tail = append(w.report.Tail, catalog.AckedBatch{Offset: at, Records: int32(n), CRC: h.CRC})
		// A gateway keeps more; so few appends do for a batch that is not among them.
		w.report.Tail = w.report.Tail[max(0, len(w.report.Tail)-8):]
		w.mu.Unlock()
		return nil
	}
}

// through appends until the writer is on another span than it was.
func (w *writer) through() {
	w.f.t.Helper()
	for was := w.span; w.span == was; {
		w.append(1)
	}
}

func value(seq int32) string { return string(oneValue(seq)) }

func oneValue(seq int32) []byte {
	r := oneBatch(1, 0, seq, 1, time.Unix(1, 0), "v")
	for rec, err := range batch.Records(r, 1<<20) {
		if err == nil {
			return append([]byte(nil), rec.Value...)
		}
	}
	return nil
}

// records reads a whole partition through its chain, as a client would: offset and value.
func (f *fleet) records(t catalog.Topic, p int) map[int64]string {
	f.t.Helper()
	out := map[int64]string{}
	ch := f.chain(t, p)
	for i := range ch.Spans {
		sp := &ch.Spans[i]
		c := &sp.Copies[0]
		if c.Unreadable {
			continue
		}
		stores := f.reading
		if stores == nil {
			stores = f.doubles
		}
		st, err := stores.Store(c.Cluster)
		f.check(err)
		log := st.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition)
		end := int64(-1)
		if !sp.IsOpen() {
			end = chain.ToPhysical(c, sp.End)
		}
		from := chain.ToPhysical(c, max(sp.Start, ch.Start))
		f.check(walk(f.ctx, log, from, end, func(h batch.Header, b []byte) error {
			at := chain.ToLogical(c, h.BaseOffset)
			for _, g := range c.Skip {
				if at >= g.From && at < g.To {
					return nil
				}
			}
			for rec, err := range batch.Records(b, 1<<20) {
				f.check(err)
				if old, ok := out[at]; ok {
					f.t.Errorf("partition %d: two records at %d: %s and %s", p, at, old, rec.Value)
				}
				out[at] = string(rec.Value)
				at++
			}
			return nil
		}))
	}
	return out
}

// verify compares what a writer saw acknowledged with what the chain holds:
// nothing lost, nothing twice, in order.
func (w *writer) verify() {
	w.f.t.Helper()
	have := w.f.records(w.topic, w.p)
	w.mu.Lock()
	defer w.mu.Unlock()
	for at, v := range w.acked {
		if have[at] != v {
			w.f.t.Errorf("partition %d, offset %d: acknowledged %q, read %q", w.p, at, v, have[at])
		}
	}
	if len(have) != len(w.acked) {
		w.f.t.Errorf("partition %d: %d records, %d acknowledged", w.p, len(have), len(w.acked))
	}
}

// reports reads those on a topic.
func (f *fleet) reports(t catalog.Topic) []catalog.AckReport {
	f.t.Helper()
	list, err := f.cat.AckReports(f.ctx, t.ID)
	f.check(err)
	return list
}

func (f *fleet) certificate(t catalog.Topic, op string) catalog.Certificate {
	f.t.Helper()
	list, err := f.cat.Certificates(f.ctx, t.ID)
	f.check(err)
	for _, c := range list {
		if c.Op == op {
			return c
		}
	}
	f.t.Fatalf("no certificate of %s", op)
	return catalog.Certificate{}
}

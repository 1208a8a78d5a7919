package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/leaks"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/fleet"
	"github.com/braidstream/braid/span/kafka"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/remote"
)

func openCatalog(t *testing.T) (*catalog.Catalog, *catalog.Watcher) {
	t.Helper()
	etcd, err := catalog.StartEmbedded(t.Context(), catalog.EmbeddedConfig{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Close() })
	c, err := catalog.Connect(t.Context(), catalog.Config{Endpoints: etcd.Endpoints(), AnswerTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	w, err := c.Watch(t.Context(), catalog.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return c, w
}

func put(t *testing.T, c *catalog.Catalog, w *catalog.Watcher, cluster catalog.Cluster) catalog.Cluster {
	t.Helper()
	got, err := c.PutCluster(t.Context(), cluster, catalog.Fence{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.RevisionAtLeast(t.Context(), got.Revision); err != nil {
		t.Fatal(err)
	}
	return got
}

func raw(t *testing.T) []byte {
	t.Helper()
	b, err := batch.NewBuilder().Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")}).Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func appendSync(l span.Log, b []byte) *span.Append {
	done := make(chan struct{})
	a := &span.Append{Batch: b, Done: func(*span.Append) { close(done) }}
	l.Append(a)
	<-done
	return a
}

// TestLocal: a local cluster of this process is the engine itself; one of another
// process is reached over its internal listener, also after it moved.
func TestLocal(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { leaks.None(t, before) }) // the first to be registered runs last
	c, w := openCatalog(t)
	engine, err := local.Open(local.Options{Dir: t.TempDir(), Name: "here"})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close() //nolint:errcheck // closed before; this is for failures
	owner, err := fleet.New(fleet.Options{Watcher: w, Catalog: c, ProcessID: "p1", Local: map[string]span.Store{"here": engine}})
	if err != nil {
		t.Fatal(err)
	}
	other, err := fleet.New(fleet.Options{Watcher: w, Catalog: c, ProcessID: "p2"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := c.InternalToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	serve := func() *remote.Server {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return remote.Serve(l, token, owner.Own)
	}
	first := serve()
	if _, err := other.Store("here"); !errors.Is(err, fleet.ErrUnknownCluster) {
		t.Fatalf("a cluster that is not there: %v", err)
	}
	cluster := put(t, c, w, catalog.Cluster{Name: "here", Kind: catalog.KindLocal, State: catalog.ClusterActive, Owner: "p1", Internal: first.Addr().String()})
	own, err := owner.Store("here")
	if err != nil || own != span.Store(engine) {
		t.Fatalf("own engine: %v %v", own, err)
	}
	topic, err := own.Create(t.Context(), span.Spec{Name: "t", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	far, err := other.Store("here")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := other.Store("here"); err != nil || again != far {
		t.Fatal("a second store for one cluster")
	}
	l := far.Log(topic, 0)
	if a := appendSync(l, raw(t)); a.Err != nil || a.BaseOffset != 0 {
		t.Fatalf("%+v", a)
	}
	second := serve()
	cluster.Internal = second.Addr().String()
	put(t, c, w, cluster)
	moved, err := other.Store("here")
	if err != nil || moved == far {
		t.Fatalf("the owner moved, its store did not: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	l.Release()
	l = moved.Log(topic, 0)
	if a := appendSync(l, raw(t)); a.Err != nil || a.BaseOffset != 1 {
		t.Fatalf("%+v", a)
	}
	l.Release()
	dialled, err := owner.Dial(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	if err := dialled.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Health(t.Context()); err != nil {
		t.Fatalf("closing what Dial gave closed the engine: %v", err)
	}
	if err := c.DeleteCluster(t.Context(), "here", mustCluster(t, c).Revision); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Store("here"); !errors.Is(err, fleet.ErrUnknownCluster) {
		t.Fatalf("a removed cluster: %v", err)
	}
	for _, f := range []*fleet.Fleet{owner, other} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, err := f.Store("there"); !errors.Is(err, span.ErrUnavailable) {
			t.Errorf("store of a closed fleet: %v", err)
		}
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if err := engine.Close(); err != nil {
		t.Error(err)
	}
}

func mustCluster(t *testing.T, c *catalog.Catalog) catalog.Cluster {
	t.Helper()
	got, err := c.Cluster(t.Context(), "here")
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestKafkaReplaced: when a cluster's options change, appends that are under way
// come to their end, later ones are told that they did not land, and a new store
// takes over.
func TestKafkaReplaced(t *testing.T) {
	kc := testkit.Shared(t)
	c, w := openCatalog(t)
	f, err := fleet.New(fleet.Options{Watcher: w, Catalog: c, ProcessID: "p1", Kafka: kafka.Options{ClientID: "fleet-test"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	cluster := put(t, c, w, catalog.Cluster{Name: "east", Kind: catalog.KindKafka, State: catalog.ClusterActive,
		Bootstrap: strings.Split(kc.Bootstrap(), ","), ClusterID: kc.ID()})
	st, err := f.Store("east")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	topic, err := st.Create(ctx, span.Spec{Name: fmt.Sprintf("braid.fleet-test-%d", time.Now().UnixNano()), Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	l := st.Log(topic, 0)
	defer l.Release()
	const n = 200
	results := make(chan *span.Append, n)
	for range n {
		l.Append(&span.Append{Batch: raw(t), Done: func(a *span.Append) { results <- a }})
	}
	cluster.Config = map[string]string{"security.protocol": "PLAINTEXT"}
	put(t, c, w, cluster)
	landed := int64(0)
	// The old store hears of it in its time.
	for refused := false; !refused; {
		switch a := appendSync(l, raw(t)); {
		case a.Err == nil:
			landed++
		case errors.Is(a.Err, span.ErrUnavailable):
			refused = true
		default:
			t.Fatalf("append to a store that is replaced: %v", a.Err)
		}
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		if a := <-results; a.Err != nil {
			t.Errorf("append under way: %v", a.Err)
		} else {
			landed++
		}
	}
	next, err := f.Store("east")
	if err != nil || next == st {
		t.Fatalf("not replaced: %v", err)
	}
	l2 := next.Log(topic, 0)
	defer l2.Release()
	if a := appendSync(l2, raw(t)); a.Err != nil || a.BaseOffset != landed {
		t.Fatalf("after %d landed: %+v", landed, a)
	}
	if f.Stats()["east"].Batches != 1 {
		t.Errorf("stats %+v", f.Stats())
	}
	cluster, err = c.Cluster(t.Context(), "east")
	if err != nil {
		t.Fatal(err)
	}
	cluster.ClusterID = "another"
	put(t, c, w, cluster)
	wrong, err := f.Store("east")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Topics(ctx, "x"); !errors.Is(err, span.ErrUnavailable) {
		t.Errorf("a cluster of another id was taken: %v", err)
	}
}

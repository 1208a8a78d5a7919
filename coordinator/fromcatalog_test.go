package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// etcdGateway is a gateway with a session of a real catalog, and logs in memory.
type etcdGateway struct {
	c       *Coordinator
	cat     *catalog.Catalog
	watcher *catalog.Watcher
	session *catalog.Session
}

func joinEtcd(t *testing.T, endpoints []string, node int32, ttl time.Duration, logs *fleetMember) *etcdGateway {
	t.Helper()
	ctx := context.Background()
	cat, err := catalog.Connect(ctx, catalog.Config{Endpoints: endpoints, AnswerTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	session, err := cat.Register(ctx, catalog.Gateway{Node: node}, ttl)
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := cat.Watch(ctx, catalog.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{
		Node: node, Leases: CatalogLeases(cat, session), Directory: CatalogDirectory(watcher), Logs: logs, Logger: quiet(),
		EnsureTopic: func(context.Context) (catalog.Topic, error) {
			return catalog.Topic{Name: TopicName, Partitions: int32(len(logs.logs))}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return &etcdGateway{c, cat, watcher, session}
}

// stop is the clean end.
func (g *etcdGateway) stop(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	if err := g.c.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := g.session.Close(ctx); err != nil {
		t.Error(err)
	}
	g.watcher.Close()
	if err := g.cat.Close(); err != nil {
		t.Error(err)
	}
}

// serves waits until the gateway has all shards and answers.
func (g *etcdGateway) serves(t *testing.T, shards int32) {
	t.Helper()
	eventually(t, "the gateway has all shards", func() bool {
		for n := range shards {
			if s := g.watcher.Snapshot().Shard(n); s == nil || s.Node != g.session.Node() || !s.Ready {
				return false
			}
		}
		return true
	})
}

// fetched is the offset of a group once a shard answers: a short lease is lost now and
// then on a busy machine, and made anew.
func (g *etcdGateway) fetched(t *testing.T, group string) (o int64, code wire.Code) {
	t.Helper()
	eventually(t, "the group's coordinator answers", func() bool {
		o, code = fetchOffset(g.c, group, "topic", 0)
		return code != wire.NotCoordinator && code != wire.CoordinatorLoadInProgress
	})
	return o, code
}

func TestTakeOverThroughTheCatalog(t *testing.T) {
	etcd, err := catalog.StartEmbedded(context.Background(), catalog.EmbeddedConfig{Dir: t.TempDir(), NoSync: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	}()
	const shards = 16
	logs := &fleetMember{memFleet: newFleet(t, shards, Config{})}
	a := joinEtcd(t, etcd.Endpoints(), 1, patience, logs)
	began := time.Now()
	a.serves(t, shards)
	t.Logf("%d shards are served after %v", shards, time.Since(began))
	ctx := context.Background()
	if _, err := a.cat.CreateTopic(ctx, catalog.Topic{Tenant: "default", Name: "topic", Partitions: 1},
		[]catalog.Chain{{NextSeq: 1, Spans: []catalog.Span{{End: catalog.Open, Copies: []catalog.Copy{{Cluster: "a", Topic: "p", Map: []catalog.Piece{{}}}}}}}}); err != nil {
		t.Fatal(err)
	}
	// The topic is found although the watch may be behind.
	for i := range int64(20) {
		if code := commitOffset(a.c, fmt.Sprint("g", i), "topic", 0, i); code != wire.None {
			t.Fatal(code)
		}
	}
	b := joinEtcd(t, etcd.Endpoints(), 2, 5*time.Second, logs)
	eventually(t, "shards are shared", func() bool {
		n := 0
		for s := range b.watcher.Snapshot().Shards() {
			if s.Ready && s.Node == preferred(s.Number, []int32{1, 2}) {
				n++
			}
		}
		return n == shards
	})
	began = time.Now()
	a.stop(t)
	b.serves(t, shards)
	t.Logf("after a clean stop the other has all shards within %v", time.Since(began))
	for i := range int64(20) {
		if o, code := b.fetched(t, fmt.Sprint("g", i)); code != wire.None || o != i {
			t.Errorf("g%d: %d, %v", i, o, code)
		}
	}
	c := joinEtcd(t, etcd.Endpoints(), 3, patience, logs)
	eventually(t, "shards are shared", func() bool {
		n := 0
		for s := range c.watcher.Snapshot().Shards() {
			if s.Ready && s.Node == preferred(s.Number, []int32{2, 3}) {
				n++
			}
		}
		return n == shards
	})
	// The connection to the catalog is cut, as for a process that is killed: the
	// lease runs out.
	began = time.Now()
	if err := b.cat.Close(); err != nil {
		t.Error(err)
	}
	c.serves(t, shards)
	t.Logf("after a kill the other has all shards within %v (lease 5 s)", time.Since(began))
	for i := range int64(20) {
		if o, code := c.fetched(t, fmt.Sprint("g", i)); code != wire.None || o != i {
			t.Errorf("g%d: %d, %v", i, o, code)
		}
		if _, code := fetchOffset(b.c, fmt.Sprint("g", i), "topic", 0); code != wire.NotCoordinator {
			t.Errorf("the one that is cut off answers: %v", code)
		}
	}
	bctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := b.c.Close(bctx); err != nil {
		t.Log(err)
	}
	if err := b.session.Close(bctx); err == nil {
		t.Error("a session without a catalog closed cleanly")
	}
	b.watcher.Close()
	c.stop(t)
}

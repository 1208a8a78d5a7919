package catalog

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/braidstream/braid/internal/testkit/leaks"
)

// shared is one etcd for the tests that need nothing of their own: each uses
// topics and names that no other has.
var shared struct {
	once sync.Once
	etcd *Embedded
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.etcd != nil {
		if err := shared.etcd.Close(); err != nil {
			slog.Error("close etcd", "err", err)
			code = 1
		}
	}
	if err := os.RemoveAll(sharedDir); err != nil {
		slog.Error("clean up", "err", err)
	}
	if code == 0 {
		if err := leaks.Find(goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start")); err != nil {
			slog.Error("goroutines leaked", "err", err)
			code = 1
		}
	}
	os.Exit(code)
}

var sharedDir string

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t *testing.T) *Catalog {
	t.Helper()
	shared.once.Do(func() {
		if sharedDir, shared.err = os.MkdirTemp("", "catalog"); shared.err == nil {
			shared.etcd, shared.err = StartEmbedded(context.Background(), EmbeddedConfig{Dir: sharedDir, NoSync: true, Logger: quiet()})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return connect(t, shared.etcd.Endpoints())
}

func connect(t *testing.T, endpoints []string) *Catalog {
	t.Helper()
	c, err := Connect(t.Context(), Config{Endpoints: endpoints, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func watch(t *testing.T, c *Catalog, tenants ...string) *Watcher {
	t.Helper()
	w, err := c.Watch(t.Context(), Scope{Tenants: tenants})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// chains gives n chains of one open span each.
func chains(n int) []Chain {
	out := make([]Chain, n)
	for i := range out {
		out[i] = Chain{NextSeq: 1, Spans: []Span{{Seq: 0, End: Open, MaxTimestamp: -1, Opened: time.Unix(1, 0).UTC(),
			Copies: []Copy{{Cluster: "a", Topic: "braid.x", Partition: int32(i), Map: []Piece{{}}}}}}}
	}
	return out
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// tenantOf gives each test a tenant of its own.
func tenantOf(t *testing.T) string { return t.Name() }

package gateway

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/internal/testkit"
)

// shared is one etcd for all tests; each fleet works in a tenant-wide catalog of
// its own only if it has to (see newFleet).
var shared struct {
	mu   sync.Mutex
	dirs []string
	all  []*catalog.Embedded
}

func TestMain(m *testing.M) {
	code := testkit.Main(m)
	for _, e := range shared.all {
		if err := e.Close(); err != nil {
			slog.Error("close etcd", "err", err)
			code = 1
		}
	}
	for _, d := range shared.dirs {
		if err := os.RemoveAll(d); err != nil {
			slog.Error("clean up", "err", err)
		}
	}
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start")); err != nil {
			slog.Error("goroutines leaked", "err", err)
			code = 1
		}
	}
	os.Exit(code)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// freshCatalog starts an etcd and connects to it. Topics, gateways and shards
// belong to whole fleets, so each fleet has one of its own: 70 ms.
func freshCatalog(tb testing.TB) *catalog.Catalog {
	tb.Helper()
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		tb.Fatal(err)
	}
	e, err := catalog.StartEmbedded(context.Background(), catalog.EmbeddedConfig{Dir: dir, Logger: quiet()})
	if err != nil {
		tb.Fatal(err)
	}
	shared.mu.Lock()
	shared.dirs = append(shared.dirs, dir)
	shared.all = append(shared.all, e)
	shared.mu.Unlock()
	c, err := catalog.Connect(context.Background(), catalog.Config{Endpoints: e.Endpoints(), Logger: quiet()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

package gateway

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/leaks"
)

// shared is what outlives a test: etcds that are being closed, which takes a moment, and
// their directories.
var shared struct {
	ending sync.WaitGroup
	failed atomic.Bool
}

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests mostly wait: for an etcd to elect itself, for time limits, for clients. Those
	// that measure the whole process are not parallel, so they have it for themselves.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	code := testkit.Main(m)
	shared.ending.Wait()
	if shared.failed.Load() {
		code = 1
	}
	if code == 0 {
		if err := leaks.Find(goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start")); err != nil {
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
	e, err := catalog.StartEmbedded(context.Background(), catalog.EmbeddedConfig{Dir: dir, NoSync: true, Logger: quiet()})
	if err != nil {
		tb.Fatal(err)
	}
	c, err := catalog.Connect(context.Background(), catalog.Config{Endpoints: e.Endpoints(), AnswerTimeout: time.Minute, Logger: quiet()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
		shared.ending.Go(func() {
			if err := e.Close(); err != nil {
				slog.Error("close etcd", "err", err)
				shared.failed.Store(true)
			}
			// Its log takes 64 MB and more, and there are hundreds of them.
			if err := os.RemoveAll(dir); err != nil {
				slog.Error("clean up", "err", err)
			}
		})
	})
	return c
}

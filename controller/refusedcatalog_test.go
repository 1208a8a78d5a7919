package controller

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// TestRequestWithoutCatalog: who asks for an operation while the catalog is away is told that nothing was begun, and
// each cause once.
func TestRequestWithoutCatalog(t *testing.T) {
	t.Parallel()
	etcd, err := catalog.StartEmbedded(t.Context(), catalog.EmbeddedConfig{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.Connect(t.Context(), catalog.Config{Endpoints: etcd.Endpoints(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(errors.Join(err, etcd.Close()))
	}
	defer func() {
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := etcd.Close(); err != nil {
		t.Fatal(err)
	}
	cat.Leave() // so that it does not wait for it
	a := &Admin{AdminOptions: AdminOptions{Catalog: cat}}
	began := time.Now()
	_, err = a.Submit(t.Context(), OpRequest{Kind: catalog.OpMove, Topics: []string{"x"}, To: "a"})
	var req *RequestError
	if !errors.As(err, &req) || req.Problem != Unavailable || !strings.Contains(req.Message, "nothing is begun") || strings.Count(req.Message, "operations: ") != 1 {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

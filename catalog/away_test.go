package catalog

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
)

// TestLeadershipAfterTheCatalogWasAway: who led when the catalog went away does not wait for its own
// former lease when it is back. The lease would stand for the time to live once more: etcd prolongs all as it starts.
func TestLeadershipAfterTheCatalogWasAway(t *testing.T) {
	dir, listen := filepath.Join(t.TempDir(), "data"), testkit.Addr(t)
	start := func() *Embedded {
		return must(StartEmbedded(t.Context(), EmbeddedConfig{Dir: dir, ListenClient: listen, NoSync: true, Logger: quiet()}))(t)
	}
	e := start()
	c := connect(t, e.Endpoints())
	l := must(c.Campaign(t.Context(), "away", "me"))(t)
	// Of no matter how long a life: what was not given back is given back first.
	const long = 10 * time.Minute
	barred := must(c.grant(t.Context(), long, bootTime))(t)
	if _, err := c.elect(t.Context(), barred, "campaign", electionKey("long"), `"me"`); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := l.Resign(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("resign without the catalog: %v", err)
	}
	if err := barred.close(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("give a lease back without the catalog: %v", err)
	}
	e = start()
	defer func() { _ = e.Close() }()
	ctx, cancel = context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for _, name := range []string{"long", "away"} {
		var won *Leadership
		for won == nil {
			var err error
			if won, err = c.Campaign(ctx, name, "me"); err != nil && !errors.Is(err, ErrUnavailable) {
				t.Fatalf("campaign for %s: %v", name, err)
			}
		}
		if err := won.Resign(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestCatalogIsLookedFor: a client goes on to look for a catalog that is away, about as often in the end as in
// the beginning. By gRPC's defaults these attempts would take five minutes.
func TestCatalogIsLookedFor(t *testing.T) {
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	tried := make(chan struct{})
	go func() {
		defer close(tried)
		for range 12 {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.Close() // as a port that nobody listens on
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := Connect(ctx, Config{Endpoints: []string{"http://" + ln.Addr().String()}, AnswerTimeout: time.Hour, Logger: quiet()})
		ended <- err
	}()
	select {
	case <-tried:
	case <-time.After(2 * time.Minute):
		t.Error("the client hardly looks for its catalog any more")
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("connected to nothing")
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	<-tried
}

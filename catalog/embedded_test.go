package catalog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
)

func TestEmbeddedSurvivesRestartAndRefusesSecondProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	start := func() *Embedded {
		return must(StartEmbedded(t.Context(), EmbeddedConfig{Dir: dir, Logger: quiet()}))(t)
	}
	e := start()
	if st := must(os.Stat(dir))(t); st.Mode().Perm() != 0o700 {
		t.Errorf("mode of the directory is %v", st.Mode())
	}
	if _, err := StartEmbedded(t.Context(), EmbeddedConfig{Dir: dir, Logger: quiet()}); !errors.Is(err, ErrInUse) {
		t.Errorf("second start: %v, want ErrInUse", err)
	}
	c := must(Connect(t.Context(), Config{Endpoints: e.Endpoints(), Logger: quiet()}))(t)
	made := must(c.PutCluster(t.Context(), Cluster{Name: "a", Kind: KindLocal}, Fence{}))(t)
	fleet := c.Fleet()
	if err := errors.Join(c.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}

	e = start()
	defer func() { _ = e.Close() }()
	c = connect(t, e.Endpoints())
	got := must(c.Cluster(t.Context(), "a"))(t)
	if got.Kind != KindLocal || got.Revision != made.Revision || c.Fleet() != fleet || len(fleet) != 6 {
		t.Errorf("after the restart: %+v in fleet %q (was %q)", got, c.Fleet(), fleet)
	}
}

// The default tenant of a fresh catalog is lenient where that is asked for, and one that is there stays as it is.
func TestLenienceIsOfAFreshCatalog(t *testing.T) {
	for _, fresh := range []bool{true, false} {
		e := must(StartEmbedded(t.Context(), EmbeddedConfig{Dir: t.TempDir(), NoSync: true, Logger: quiet()}))(t)
		for _, later := range []bool{fresh, !fresh} {
			c := must(Connect(t.Context(), Config{Endpoints: e.Endpoints(), Lenient: later, AnswerTimeout: time.Minute, Logger: quiet()}))(t)
			if got := must(c.Tenant(t.Context(), DefaultTenant))(t); got.Lenient != fresh || got.Name != DefaultTenant || got.State != TenantActive {
				t.Errorf("made with %v, opened with %v: %+v", fresh, later, got)
			}
			if c.Fleet() == "" {
				t.Error("no fleet id")
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	e := must(StartEmbedded(t.Context(), EmbeddedConfig{Dir: t.TempDir(), Logger: quiet()}))(t)
	defer func() { _ = e.Close() }()
	c := connect(t, e.Endpoints())
	if _, err := c.put(t.Context(), "format", keyFormat, -1, Fence{}, format{Version: formatVersion + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(t.Context(), Config{Endpoints: e.Endpoints(), Logger: quiet()}); !errors.Is(err, ErrFormat) {
		t.Errorf("connect to a newer format: %v, want ErrFormat", err)
	}
}

// With etcd gone reads of the snapshot go on, everything else says so and
// honours its context.
func TestCatalogDown(t *testing.T) {
	dir := t.TempDir()
	listen := testkit.Addr(t)
	e := must(StartEmbedded(t.Context(), EmbeddedConfig{Dir: dir, ListenClient: listen, Logger: quiet()}))(t)
	c := connect(t, e.Endpoints())
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: "x", Name: "t"}, chains(1)))(t)
	w := watch(t, c)
	s := must(c.register(t.Context(), "gateway", gatewayKey(1), `{"node":1}`, 1, 2*time.Second, bootTime))(t)
	lost := s.Lost()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.Clusters(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("read: %v, want ErrUnavailable", err)
	}
	if _, err := w.RefreshTopic(ctx, "x", topic.ID); !errors.Is(err, ErrUnavailable) {
		t.Errorf("refresh: %v, want ErrUnavailable", err)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if _, err := c.Clusters(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("read with a context that ended: %v", err)
	}
	if w.Snapshot().TopicByName("x", "t") == nil {
		t.Error("the snapshot forgot the topic")
	}
	<-lost
	if s.Alive() {
		t.Error("session is alive after it was lost")
	}

	e = must(StartEmbedded(t.Context(), EmbeddedConfig{Dir: dir, ListenClient: listen, Logger: quiet()}))(t)
	defer func() { _ = e.Close() }()
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(c.UpdateTopic(t.Context(), Topic{Tenant: "x", Name: "t", ID: topic.ID, Partitions: 1, Revision: topic.Revision,
		Config: map[string]string{"a": "b"}}))(t)
	snap := must(w.Refresh(t.Context()))(t)
	if snap.TopicByID(topic.ID).Config["a"] != "b" || snap.Gateway(1) == nil {
		t.Error("the watch did not come back")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

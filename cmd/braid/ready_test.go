package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/braidstream/braid/catalog"
)

// TestNotReady: /readyz has a line for each thing that is missing, which says what it is and what comes of it.
func TestNotReady(t *testing.T) {
	t.Parallel()
	etcd, err := catalog.StartEmbedded(t.Context(), catalog.EmbeddedConfig{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	cat, err := catalog.Connect(t.Context(), catalog.Config{Endpoints: etcd.Endpoints(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	})
	w, err := cat.Watch(t.Context(), catalog.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	p := &process{watcher: w, nodes: []*node{{id: 1}, {id: 2}}, info: ready{Catalog: etcd.Endpoints()}}
	err = p.ready()
	if err == nil {
		t.Fatal("ready without a registration")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %v", len(lines), err)
	}
	for i, want := range []string{"gateway 1 is not registered", "gateway 2 is not registered"} {
		if !strings.Contains(lines[i], want) || !strings.Contains(lines[i], etcd.Endpoints()[0]) {
			t.Errorf("line %d: %s", i, lines[i])
		}
	}
}

package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
)

// shared holds the clusters that a test binary started once for all of its tests.
var shared struct {
	sync.Mutex
	clusters map[string]*sharedCluster
	inMain   bool
}

type sharedCluster struct {
	once sync.Once
	c    *Cluster
	dir  string
	err  error
}

// Main runs a binary's tests and then ends its shared clusters:
//
//	func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }
func Main(m *testing.M) int {
	shared.Lock()
	shared.inMain = true
	shared.Unlock()
	code := m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
	}
	return code
}

// Shared returns the test binary's cluster with these options, starting it at the first call. It
// needs Main. Tests that share a cluster use topics and groups of their own, and must leave it
// running as they found it: who stops nodes takes a cluster of their own from Kafka.
func Shared(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	notShort(t)
	p, err := newPlan(opts)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	shared.Lock()
	if !shared.inMain {
		shared.Unlock()
		t.Fatal("testkit: Shared needs a TestMain that calls testkit.Main")
	}
	if shared.clusters == nil {
		shared.clusters = map[string]*sharedCluster{}
	}
	s := shared.clusters[p.key()]
	if s == nil {
		s = &sharedCluster{}
		shared.clusters[p.key()] = s
	}
	shared.Unlock()

	s.once.Do(func() {
		if s.dir, s.err = os.MkdirTemp("", "braid-kafka-"); s.err != nil {
			return
		}
		// Not the test's context: the cluster outlives it.
		s.c, s.err = StartKafka(context.WithoutCancel(t.Context()), s.dir, opts...)
	})
	if s.err != nil {
		t.Fatalf("testkit: shared cluster: %v", s.err)
	}
	return s.c
}

func closeShared() error {
	shared.Lock()
	defer shared.Unlock()
	var errs []error
	for key, s := range shared.clusters {
		if s.c != nil {
			s.c.Close()
		}
		if s.dir != "" {
			errs = append(errs, os.RemoveAll(s.dir))
		}
		delete(shared.clusters, key)
	}
	return errors.Join(errs...)
}

package local_test

import (
	"os"
	"testing"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/leaks"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/spantest"
)

func TestMain(m *testing.M) { os.Exit(leaks.Main(withKafka{m})) }

// withKafka ends the clusters that tests share before goroutines are counted.
type withKafka struct{ m *testing.M }

func (w withKafka) Run() int { return testkit.Main(w.m) }

// conformance runs the suite on engines with the options given.
func conformance(t *testing.T, change ...func(*local.Options)) {
	dirs := map[span.Store]string{}
	spantest.Run(t, func(t *testing.T) span.Store {
		dir := t.TempDir()
		s := open(t, dir, change...)
		dirs[s] = dir
		return s
	}, spantest.Capabilities{Control: true, ProducerBatches: true, Restart: func(t *testing.T, s span.Store) span.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again := open(t, dirs[s], change...)
		dirs[again] = dirs[s]
		return again
	}})
}

func TestConformance(t *testing.T) { conformance(t) }

// TestConformanceFlushing writes everything to segments as soon as it can, in
// small log files, with next to nothing kept in memory.
func TestConformanceFlushing(t *testing.T) {
	conformance(t, func(o *local.Options) {
		o.FlushBytes, o.LogFileBytes, o.MemoryBudget, o.OpenFiles = 1, 2<<20, 4<<20, 8
	})
}

package kafka_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
	"github.com/braidstream/braid/wire"
)

// One of two brokers is dead: whether the cluster is up is what the leaders of its partitions say, not the count.
func TestHealthOfHalfACluster(t *testing.T) {
	t.Parallel()
	const partitions = 4
	f := newFake(t, partitions, 1, 0)
	var few atomic.Bool
	f.produced = func([]byte) (wire.Code, bool) {
		if few.Load() {
			return wire.NotEnoughReplicas, false
		}
		return wire.None, false
	}
	s := openAt(t, f.bootstrap(), func(o *kafka.Options) { o.HealthTimeout = patience })
	var logs []span.Log
	for p := range int32(partitions) {
		logs = append(logs, s.Log(span.Topic{Name: f.name, ID: f.id}, p))
	}
	defer func() {
		for _, l := range logs {
			l.Release()
		}
	}()
	is := func(what string, want bool, detail string) {
		t.Helper()
		waitFor(t, what, func() bool {
			h, err := s.Health(t.Context())
			return err == nil && h.Writable == want && strings.Contains(h.Detail, detail)
		})
	}
	led := func(by func(p int) int32) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for p := range f.parts {
			f.parts[p].leader = by(p)
			f.parts[p].epoch++
		}
	}
	is("both to answer", true, "2 of 2 brokers answer")
	if err := f.brokers[1].Close(); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	for c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	led(func(int) int32 { return 0 })
	is("the other to serve all", true, "1 of 2 brokers answer; silent: [1]; 4 of 4 partitions")
	waitFor(t, "an election", func() bool {
		// Its time begins anew with each try: a slow machine may have used it up.
		led(func(int) int32 { return 0 })
		if h, err := s.Health(t.Context()); err != nil || !strings.Contains(h.Detail, "4 of 4") {
			return false
		}
		led(func(p int) int32 { return int32(p % 2) })
		h, err := s.Health(t.Context())
		return err == nil && h.Writable && strings.Contains(h.Detail, "2 of 4 partitions")
	})
	led(func(int) int32 { return 1 })
	is("no leader to be left", false, "0 of 4 partitions")
	led(func(int) int32 { return 0 })
	few.Store(true)
	is("too few replicas", false, "0 of 4 partitions")
	few.Store(false)
	is("all to be served again", true, "4 of 4 partitions")
}

package coordinator

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/chain/chaintest"
	"github.com/braidstream/braid/wire"
)

// onChain is a fleet of one gateway whose shards' logs are a topic's chains.
func onChain(t *testing.T, shards int, config Config) (f *memFleet, physical *chaintest.Fleet, id catalog.ID, join func(node int32) *fleetMember) {
	t.Helper()
	physical = chaintest.NewFleet("a", "b")
	t.Cleanup(physical.Close)
	id, err := physical.CreateTopic(context.Background(), TopicName, "a", int32(shards))
	if err != nil {
		t.Fatal(err)
	}
	f = newFleet(t, shards, config)
	f.open = func(node int32) func(catalog.Topic, int32) (Log, error) {
		clients := physical.Clients()
		logs := chain.NewLogs(chain.Options{Source: physical.Catalog.View(), Stores: clients, Node: node, Logger: quiet()})
		t.Cleanup(func() { logs.Close(); clients.Close() })
		return func(_ catalog.Topic, partition int32) (Log, error) {
			return ChainLogs(logs).Open(catalog.Topic{Name: TopicName, ID: id}, partition)
		}
	}
	return f, physical, id, f.join
}

// After a move of the internal topic nothing happens in the groups, and yet the
// sealed spans are soon below the logs' starts, with all state behind them.
func TestSealedSpansAreLeft(t *testing.T) {
	const shards, groups = 6, 20
	f, physical, id, join := onChain(t, shards, Config{SealedAge: 100 * time.Millisecond})
	a := join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	for g := range groups {
		if code := commitOffset(a.c, fmt.Sprint("g", g), "topic", 0, int64(g)); code != wire.None {
			t.Fatal(code)
		}
	}
	for _, to := range []string{"b", "a"} {
		if err := physical.MoveTopic(context.Background(), id, to); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all logs begin in their open spans", func() bool {
			for p := range int32(shards) {
				if c := physical.Catalog.Chain(id, p); c.Start < chain.OpenSpan(&c).Start {
					return false
				}
			}
			return true
		})
	}
	a.stop()
	b := join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	for g := range groups {
		if o, code := fetchOffset(b.c, fmt.Sprint("g", g), "topic", 0); code != wire.None || o != int64(g) {
			t.Errorf("g%d: %d, %v", g, o, code)
		}
	}
}

// Logs are rewritten when a part of them has been sealed for long enough, and at once when a part cannot be read any
// more: the shard has all of it in memory, its next owner would not.
func TestWhenLogsAreRewritten(t *testing.T) {
	for _, tc := range []struct {
		name         string
		log          sealedLog
		phase        phase
		atOnce, aged bool
	}{
		{name: "one span", phase: phaseActive},
		{name: "sealed", phase: phaseActive, log: sealedLog{upTo: 7}, aged: true},
		{name: "unreadable", phase: phaseActive, log: sealedLog{upTo: 7, missing: 9}, atOnce: true},
		{name: "unreadable, and looks empty", phase: phaseActive, log: sealedLog{missing: 9}, atOnce: true},
		{name: "sealed behind what is unreadable", phase: phaseActive, log: sealedLog{upTo: 12, missing: 9}, atOnce: true},
		{name: "not whole in memory", phase: phaseLoading, log: sealedLog{upTo: 7, missing: 9}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &Coordinator{config: Config{}.withDefaults()}
			s := &shard{c: c, phase: tc.phase, log: tc.log, kick: make(chan struct{}, 1)}
			now := time.Unix(1_700_000_000, 0)
			if _, due, urgent := s.tidy(now); due != tc.atOnce || urgent != (tc.atOnce) {
				t.Errorf("at once: %v, urgent %v", due, urgent)
			}
			if !tc.atOnce {
				now = now.Add(c.config.SealedAge)
				if busy, due, _ := s.tidy(now); busy || due != tc.aged {
					t.Errorf("busy %v, due %v", busy, due)
				}
				if !tc.aged {
					return
				}
			}
			s.rewriteLog(now)
			if busy, due, _ := s.tidy(now); !busy || due {
				t.Errorf("when told: busy %v, due %v", busy, due)
			}
			s.rewrite = false // written, and not trimmed
			if _, due, _ := s.tidy(now.Add(sealedRetry - 1)); due {
				t.Error("due again too soon")
			}
			if _, due, _ := s.tidy(now.Add(sealedRetry)); !due {
				t.Error("never due again")
			}
		})
	}
}

// sealedLog is a log of which only the sealed part matters.
type sealedLog struct {
	Log
	upTo, missing int64
}

func (l sealedLog) Sealed() (upTo, missing int64) { return l.upTo, l.missing }

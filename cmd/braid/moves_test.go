package main

import (
	"context"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/verify"
)

// movesWanted is how many moves a test makes: few in the default run, all in a soak.
func movesWanted(t *testing.T, usual, soak int) int {
	t.Helper()
	if os.Getenv("BRAID_SOAK") != "" {
		return soak
	}
	return usual
}

// TestLiveMovesBetweenKafkaClusters moves a topic back and forth between two real
// Kafka clusters while idempotent producers and consumers of an unmodified client
// work through two gateways, one of which is stopped now and then, at times for
// longer than its lease. Nothing may be lost, duplicated or reordered.
func TestLiveMovesBetweenKafkaClusters(t *testing.T) {
	var east, west *testkit.Cluster
	var starting sync.WaitGroup
	starting.Go(func() { east = testkit.Kafka(t) })
	starting.Go(func() { west = testkit.Kafka(t) })
	starting.Wait()
	up := startUp(t)
	up.addCluster("east", east)
	up.addCluster("west", west)
	second := startBraid(t, "gateway", "--catalog-endpoints", strings.Join(up.ready.Catalog, ","), "--listen", "127.0.0.1:0")
	up.must("topic", "create", "moved", "--partitions", "6", "--cluster", "east")

	moves := movesWanted(t, 20, 100)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	moved := make(chan error, 1)
	duration := time.Duration(moves)*500*time.Millisecond + 5*time.Second
	go func() {
		moved <- func() error {
			targets := []string{"west", "east"}
			for i := range moves {
				if i%10 == 3 {
					// Every third pause outlasts the lease of 6 s.
					pause := 700 * time.Millisecond
					if i%30 == 23 {
						pause = 8 * time.Second
					}
					second.signal(syscall.SIGSTOP)
					time.AfterFunc(pause, func() { second.signal(syscall.SIGCONT) })
				}
				op, err := up.move(ctx, targets[i%2], "moved")
				if err != nil {
					return err
				}
				if op.State != "done" {
					t.Errorf("move %d: %s: %s", i, op.State, op.Message)
				}
				for _, c := range op.Certificates {
					for _, p := range c.Partitions {
						if p.Lost+p.Duplicated+p.Reordered+p.Stray != 0 || p.Verdict == "violated" {
							t.Errorf("move %d, partition %d: certificate %+v", i, p.Partition, p)
						}
					}
				}
			}
			return nil
		}()
	}()
	report, err := verify.Run(ctx, verify.Options{
		Bootstrap: []string{up.ready.Kafka[0], second.ready.Kafka[0]},
		Topic:     "moved", Producers: 4, Rate: 2000, Duration: duration, Settle: 2 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d moves\n%s", moves, report.String())
	if !report.OK() || !report.Complete() {
		t.Fatal("the history is not clean")
	}
}

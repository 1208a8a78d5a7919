package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/summary"
	"github.com/braidstream/braid/verify"
)

// TestTransactionsAreWhole runs transactions over topics on two local clusters and a real Kafka, with a group that
// consumes, writes and commits its offsets in the same ones, through three gateways. Meanwhile topics move between all clusters, the logs
// of the coordinators move, gateways are killed and stopped, shards of coordinators change hands with them, the real broker
// is killed. Every transaction must be there as a whole and once, or not at all.
func TestTransactionsAreWhole(t *testing.T) {
	if testing.Short() {
		return // minutes under the race detector; the checker itself runs under it in verify
	}
	rounds := 1
	if os.Getenv("BRAID_SOAK") != "" {
		rounds = 8
	}
	east := testkit.Kafka(t)
	up := startUpThere(t, "--set", "group.initial.rebalance.delay.ms=0", "--set", "braid.lease.ms=3000", "--local-clusters", "a,b,c")
	up.addCluster("east", east)
	second, third := up.gateway("--set", "group.initial.rebalance.delay.ms=0", "--set", "braid.lease.ms=3000"),
		up.gateway("--set", "group.initial.rebalance.delay.ms=0", "--set", "braid.lease.ms=3000")
	homes := []string{"b", "east", "c"}
	var topics []string
	for i, on := range homes {
		topics = append(topics, fmt.Sprintf("whole-%d", i))
		up.must("topic", "create", topics[i], "--partitions", "3", "--cluster", on)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(10+10*rounds)*time.Minute)
	defer cancel()

	// Each fault waits until transactions are committed after the one before.
	var committed atomic.Int64
	more := func(what string) {
		t.Helper()
		before, began := committed.Load(), time.Now()
		eventually(t, patience, "transactions are committed "+what, func() bool { return committed.Load() > before+20 || ctx.Err() != nil })
		t.Logf("%s: %d transactions committed, the last of them within %s", what, committed.Load(), time.Since(began).Round(time.Millisecond))
	}
	until := make(chan struct{})
	var faults, moves sync.WaitGroup
	stopMoves := make(chan struct{})
	var moved, tried int
	faults.Go(func() {
		defer close(until)
		defer close(stopMoves)
		more("at first")
		moves.Go(func() { moved, tried = up.moveAround(ctx, stopMoves, topics, homes) })
		more("while topics move")
		for i := range rounds {
			second.kill()
			more("after a gateway was killed")
			second.start()
			third.signal(syscall.SIGSTOP)
			// Longer than its lease: others take its shards over, and it wakes up among them.
			<-time.After(5 * time.Second)
			third.signal(syscall.SIGCONT)
			more("after a gateway was stopped")
			if err := east.Kill(); err != nil {
				t.Error(err)
			}
			if err := east.Start(ctx); err != nil {
				t.Error(err)
			}
			more("after the broker was killed")
			if rounds == 1 || i == rounds/2 {
				// The logs of the coordinators are there, and nothing else.
				if out := up.must("cluster", "drain", "a", "--to", "c"); !strings.Contains(out, "done") {
					t.Errorf("drain: %s", out)
				}
				more("after the logs of coordinators moved")
			}
			if i%2 == 1 {
				// Catalog, local clusters, controller and a gateway at once.
				up.kill()
				up.start()
				more("after the process with the catalog was killed")
			}
		}
	})
	report, err := verify.RunTxns(ctx, verify.TxnOptions{
		Bootstrap: []string{up.ready.Kafka[0], second.ready.Kafka[0], third.ready.Kafka[0]},
		Topics:    topics, Producers: 3, Pipelines: 2, Rate: 500, Records: 6, Aborts: 15, Kills: 10, Duration: 2 * time.Hour, Until: until,
		Settle: patience, ProgressEvery: 20 * time.Millisecond, Progress: func(p verify.Progress) { committed.Store(p.Committed) },
	})
	cancel()
	faults.Wait()
	moves.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d moves\n%s", moved, tried, report.String())
	if !report.OK() || !report.Complete() {
		t.Fatal("the history is not clean")
	}
	if moved == 0 {
		t.Error("nothing was moved")
	}
	if !t.Failed() {
		summary.Line(t, "%d transactions under %d moves, kills and stops: %d committed as a whole and once, %d aborted", report.Transactions, moved, report.Committed, report.Aborted)
	}
}

// moveAround moves one topic after the other to the next cluster, until it is told to stop. A move may fail while its
// target or the catalog is away; the topic is then moved another time.
func (r *running) moveAround(ctx context.Context, stop <-chan struct{}, topics, clusters []string) (moved, tried int) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return moved, tried
		case <-ctx.Done():
			return moved, tried
		case <-time.After(500 * time.Millisecond):
		}
		topic := i % len(topics)
		tried++
		to := clusters[(topic+1+i/len(topics))%len(clusters)]
		op, err := r.move(ctx, to, topics[topic])
		if err == nil && op.State == "done" {
			moved++
			continue
		}
		r.t.Logf("move %d, of %s to %s: %v %s %s", i, topics[topic], to, err, op.State, op.Message)
	}
}

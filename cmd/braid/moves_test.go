package main

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/verify"
)

// movesWanted is how many moves a test makes: few in the default run, all in a soak.
func movesWanted(t *testing.T, usual, soak int) int {
	t.Helper()
	switch {
	case os.Getenv("BRAID_SOAK") != "":
		return soak
	case testing.Short():
		return 2
	}
	return usual
}

// TestLiveMovesBetweenKafkaClusters moves a topic back and forth between two real
// Kafka clusters while idempotent producers and consumers of an unmodified client
// work through two gateways, one of which is stopped now and then, at times for
// longer than its lease. Nothing may be lost, duplicated or reordered.
func TestLiveMovesBetweenKafkaClusters(t *testing.T) {
	east, west := testkit.Kafka(t), testkit.Kafka(t)
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
		Topic:     "moved", Producers: 4, Rate: 2000, Duration: duration, Settle: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d moves\n%s", moves, report.String())
	up.noStrays(ctx, "moved", map[string]*testkit.Cluster{"east": east, "west": west})
	if !report.OK() || !report.Complete() {
		up.showChains("moved", report)
		t.Fatal("the history is not clean")
	}
}

// noStrays compares the end of every sealed span with the end of its physical
// partition, as the cluster itself tells it: nothing may have landed past a seal.
// Physical topics of these tests begin at 0, and so do their spans' maps.
func (r *running) noStrays(ctx context.Context, topic string, clusters map[string]*testkit.Cluster) {
	r.t.Helper()
	described, err := r.admin.Topic(ctx, topic)
	if err != nil {
		r.t.Fatal(err)
	}
	for name, k := range clusters {
		ends, err := kadm.NewClient(k.Client(r.t)).ListEndOffsets(ctx)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, p := range described.Partitions {
			for _, s := range p.Spans {
				if s.End == nil || s.Copies[0].Cluster != name {
					continue
				}
				end, ok := ends.Lookup(s.Copies[0].Topic, s.Copies[0].Partition)
				if !ok || end.Err != nil {
					r.t.Errorf("partition %d: no end of sealed span [%d, %d) on %s: %v", p.ID, s.Start, *s.End, name, end.Err)
					continue
				}
				if got := s.Start + end.Offset; got != *s.End {
					r.t.Errorf("partition %d: sealed span [%d, %d) on %s holds records up to %d", p.ID, s.Start, *s.End, name, got)
				}
			}
		}
	}
}

// showChains logs the spans around each anomaly.
func (r *running) showChains(topic string, report verify.Report) {
	described, err := r.admin.Topic(context.WithoutCancel(r.t.Context()), topic)
	if err != nil {
		r.t.Log(err)
		return
	}
	for _, a := range report.Anomalies() {
		for _, x := range a.Examples {
			for _, s := range described.Partitions[x.Partition].Spans {
				if x.Offset >= s.Start-5 && (s.End == nil || x.Offset <= *s.End+5) {
					end := int64(-1)
					if s.End != nil {
						end = *s.End
					}
					r.t.Logf("%s at partition %d offset %d: span [%d, %d) epoch %d %+v", a.Name, x.Partition, x.Offset, s.Start, end, s.Epoch, s.Copies)
				}
			}
		}
	}
}

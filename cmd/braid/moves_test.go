package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/summary"
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

// toldClean adds what a test that passes has seen to the summary.
func toldClean(t testing.TB, what string, reports map[string]*verify.Report) {
	t.Helper()
	var records int64
	for _, r := range reports {
		records += r.Acknowledged
	}
	if !t.Failed() {
		summary.Line(t, "%s: %d records acknowledged, 0 lost, duplicated, out of place", what, records)
	}
}

// TestLiveMovesBetweenKafkaClusters moves topics back and forth while idempotent producers and
// consumers of an unmodified client work: between two real Kafka clusters through three gateways,
// two of which are stopped now and then, one for longer than its lease; and between the engine
// and a real Kafka through the only gateway. Nothing may be lost, duplicated or reordered.
func TestLiveMovesBetweenKafkaClusters(t *testing.T) {
	east, west := testkit.Shared(t), testkit.Kafka(t)
	t.Run("three gateways", func(t *testing.T) {
		t.Parallel()
		up := startUp(t)
		up.addCluster("east", east)
		up.addCluster("west", west)
		up.moveLive(t, "moved", []string{"east", "west"}, map[string]*testkit.Cluster{"east": east, "west": west},
			up.gateway(), up.gateway())
	})
	t.Run("one gateway", func(t *testing.T) {
		t.Parallel()
		up := startUp(t)
		up.addCluster("east", east)
		up.moveLive(t, "moved-alone", []string{"a", "east"}, map[string]*testkit.Cluster{"east": east})
	})
}

// moveLive moves a topic between two clusters under a workload that lasts as long. Of two
// further gateways the first is stopped for a moment, the second for longer than its lease.
func (r *running) moveLive(t *testing.T, topic string, between []string, kafkas map[string]*testkit.Cluster, further ...*running) {
	t.Helper()
	// As many spans as a soak makes are more than a chain has by default (256).
	r.must("topic", "create", topic, "--partitions", "6", "--cluster", between[0], "--config", "braid.max.spans=1000")
	bootstrap := []string{r.ready.Kafka[0]}
	for _, g := range further {
		bootstrap = append(bootstrap, g.ready.Kafka[0])
	}
	moves := movesWanted(t, 100, 400)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+moves/4)*time.Minute)
	defer cancel()
	until := make(chan struct{})
	made, proven, doubts := 0, 0, map[string]int{} // partitions of certificates; the others by what they say
	var stopped [2]atomic.Bool
	var work sync.WaitGroup
	stopFor := func(g int, d time.Duration) {
		if len(further) == 0 || !stopped[g].CompareAndSwap(false, true) {
			return
		}
		work.Go(func() {
			defer stopped[g].Store(false)
			if err := further[g].process.Signal(syscall.SIGSTOP); err != nil {
				t.Error(err)
			}
			<-time.After(d)
			if err := further[g].process.Signal(syscall.SIGCONT); err != nil {
				t.Error(err)
			}
		})
	}
	work.Go(func() {
		defer close(until)
		for i := range moves {
			switch {
			case i%10 == 3:
				stopFor(0, 700*time.Millisecond)
			case i%30 == 17:
				stopFor(1, 8*time.Second) // the lease is 6 s
			}
			op, err := r.move(ctx, between[(i+1)%2], topic)
			if err != nil {
				t.Errorf("move %d: %v", i, err)
				return
			}
			if op.State != "done" {
				t.Errorf("move %d: %s: %s", i, op.State, op.Message)
			}
			made++
			for _, c := range op.Certificates {
				for _, p := range c.Partitions {
					if counted(p.Lost, p.Duplicated, p.Reordered, p.Stray) != 0 || p.Verdict == "violated" {
						t.Errorf("move %d, partition %d: certificate %+v", i, p.Partition, p)
					}
					if p.Verdict == "verified" {
						proven++
						continue
					}
					why := p.Verdict
					for _, g := range p.Ranges {
						why += ", " + g.What + ": " + g.Note
					}
					doubts[why]++
				}
			}
		}
	})
	report, err := verify.Run(ctx, verify.Options{Bootstrap: bootstrap, Topic: topic, Producers: 4, Rate: 1000,
		Duration: 2 * time.Hour, Until: until, Settle: patience})
	cancel()
	work.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d moves\n%s", made, report.String())
	for _, why := range slices.Sorted(maps.Keys(doubts)) {
		t.Logf("%d partitions of certificates: %s", doubts[why], why)
	}
	// A certificate that says nothing is no proof. Moves while a gateway is stopped, which then
	// reports nothing, may have such ones; two moves alone may both be of that kind.
	if all := made * 6; made >= 50 && 10*proven < 9*all {
		t.Errorf("%d of %d partitions of the moves' certificates are verified, want 9 of 10: %v", proven, all, doubts)
	}
	r.noStrays(t.Context(), topic, kafkas)
	if !report.OK() || !report.Complete() {
		r.showChains(topic, report)
		t.Fatal("the history is not clean")
	}
	summary.Line(t, "%d live moves of a topic, %d gateways, clusters %s: %d records acknowledged, 0 lost, duplicated, reordered",
		made, 1+len(further), strings.Join(between, " and "), report.Acknowledged)
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

package main

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit/summary"
	"github.com/braidstream/braid/verify"
)

// TestNothingAcknowledgedIsLostOnKill kills the only process, catalog, local
// clusters, gateway and all, again and again under load.
func TestNothingAcknowledgedIsLostOnKill(t *testing.T) {
	t.Parallel()
	up := startUpThere(t)
	bootstrap := slices.Clone(up.ready.Kafka) // a start writes it anew
	kills := movesWanted(t, 4, 30)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	done := make(chan struct{}) // the load lasts as long as the kills
	go func() {
		defer close(done)
		for range kills {
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
				return
			}
			up.kill()
			up.start()
		}
	}()
	report, err := verify.Run(ctx, verify.Options{Bootstrap: bootstrap, Producers: 3, Rate: 1000,
		Duration: 30 * time.Minute, Until: done, Settle: patience})
	<-done
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills\n%s", kills, report.String())
	if !report.OK() || !report.Complete() {
		t.Fatal("the history is not clean")
	}
	summary.Line(t, "%d kills (kill -9) of the only process: %d records acknowledged, 0 lost, duplicated, reordered", kills, report.Acknowledged)
}

// TestMovesUnderKills moves a topic between local clusters through three gateways
// in two further processes while one after the other is killed, or stopped.
func TestMovesUnderKills(t *testing.T) {
	t.Parallel()
	up := startUp(t)
	catalog := strings.Join(up.ready.Catalog, ",")
	others := []*running{up.gateway(), up.gateway()}
	standby := startBraid(t, "controller", "--catalog-endpoints", catalog)
	up.must("topic", "create", "moved", "--partitions", "4", "--cluster", "a")
	bootstrap := []string{up.ready.Kafka[0], others[0].ready.Kafka[0], others[1].ready.Kafka[0]} // a start writes them anew
	rounds := movesWanted(t, 6, 40)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	moved, done := make(chan error, 1), make(chan struct{}) // the load lasts as long as the moves
	go func() {
		defer close(done)
		moved <- func() error {
			for i := range rounds {
				o := others[i%2]
				switch i % 3 {
				case 0:
					o.kill()
				case 1:
					o.signal(syscall.SIGSTOP)
				case 2:
					// The standby controller may lead; whoever does, the move goes on.
					standby.kill()
				}
				op, err := up.move(ctx, []string{"b", "a"}[i%2], "moved")
				if err != nil {
					return err
				}
				if op.State != "done" {
					t.Errorf("move %d: %s: %s", i, op.State, op.Message)
				}
				switch i % 3 {
				case 0:
					o.start()
				case 1:
					o.signal(syscall.SIGCONT)
				case 2:
					standby.start()
				}
			}
			return nil
		}()
	}()
	report, err := verify.Run(ctx, verify.Options{
		Bootstrap: bootstrap,
		Topic:     "moved", Producers: 4, Rate: 1500, Duration: 30 * time.Minute, Until: done,
		Settle: patience,
	})
	<-done
	select {
	case merr := <-moved:
		if merr != nil {
			t.Fatal(merr)
		}
	default:
		t.FailNow() // a process could not be started, which is said
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rounds\n%s", rounds, report.String())
	if !report.OK() || !report.Complete() {
		t.Fatal("the history is not clean")
	}
	summary.Line(t, "%d moves between local clusters, a gateway or controller killed or stopped in each: %d records acknowledged, 0 lost, duplicated, reordered", rounds, report.Acknowledged)
}

// TestCleanEnd: SIGTERM drains and exits 0.
func TestCleanEnd(t *testing.T) {
	t.Parallel()
	up := startUp(t)
	up.signal(syscall.SIGTERM)
	select {
	case <-up.process.Exited():
		if err := up.process.Err(); err != nil {
			t.Fatalf("exit: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("still running long after SIGTERM")
	}
}

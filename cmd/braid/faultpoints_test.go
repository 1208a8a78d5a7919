package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/internal/testkit"
)

// TestFaultAtEachPointOfAMove stops the controller at each point of a move between the
// engine and a real Kafka, and there kills or stops each of the processes in turn: the one
// that has the controller, the catalog, the engine and a gateway; a further gateway; the
// broker. The move is finished afterwards, and the history is clean.
func TestFaultAtEachPointOfAMove(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BRAID_FAULTS_DIR", dir)
	east := testkit.Kafka(t)
	// Brokers are away for some seconds: that alone is no reason to leave them here.
	up := startUpThere(t, "--set", "braid.failure.detection.ms=60000")
	up.addCluster("east", east)
	second := up.gateway()
	up.must("topic", "create", "faulted", "--partitions", "2", "--cluster", "a")
	stop := func(r *running, d time.Duration) {
		r.signal(syscall.SIGSTOP)
		time.AfterFunc(d, func() { r.signal(syscall.SIGCONT) })
	}
	// Each lets the controller go on when its fault has begun; a controller that is
	// started anew must not be held at the same point.
	faults := []struct {
		name string
		do   func(goOn func()) error
	}{
		{"the controller's process is killed", func(goOn func()) error { up.kill(); goOn(); up.start(); return nil }},
		{"a gateway is killed", func(goOn func()) error { second.kill(); goOn(); second.start(); return nil }},
		{"the broker is killed", func(goOn func()) error {
			err := east.Node(1).Kill()
			goOn()
			return errors.Join(err, east.Node(1).Start(t.Context()))
		}},
		{"the controller's process is stopped", func(goOn func()) error { stop(up, time.Second); goOn(); return nil }},
		{"a gateway is stopped for longer than its lease", func(goOn func()) error { stop(second, 8*time.Second); goOn(); return nil }},
		{"the broker is stopped", func(goOn func()) error {
			err := east.Node(1).Pause()
			goOn()
			time.AfterFunc(2*time.Second, func() {
				if err := east.Node(1).Resume(); err != nil {
					t.Error(err)
				}
			})
			return err
		}},
	}
	// Those that a move of one topic with one page comes by.
	points := []string{controller.FaultBegun, controller.FaultCreated, controller.FaultPrepared, controller.FaultHolding,
		controller.FaultSettled, controller.FaultSealing, controller.FaultSealed, controller.FaultStored,
		controller.FaultCommitted, controller.FaultCertified}
	rounds := movesWanted(t, len(points), len(points)*len(faults))

	load := startLoad(t, []string{up.ready.Kafka[0], second.ready.Kafka[0]}, 5*time.Millisecond, 2, "faulted")
	x := load.topic("faulted")
	for i := range rounds {
		// Each point meets each fault within a soak, and each direction: the turns are shifted by one.
		point, fault := points[i%len(points)], faults[(i+i/len(points))%len(faults)]
		from, to := "a", "east"
		if up.openOn("faulted")[0] == "east" {
			from, to = to, from
		}
		what := fmt.Sprintf("%s of a move to %s: %s", point, to, fault.name)
		x.goesOn(t, "before "+what, patience)
		wanted := filepath.Join(dir, point)
		reached := wanted + ".reached"
		if err := os.WriteFile(wanted, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		moved := make(chan struct{})
		var there atomic.Bool
		go func() {
			defer close(moved)
			// Its answer may be lost with the process: what became of the move is asked below. What
			// is refused before it begins, as while a store is being opened anew, is asked for again.
			for ctx.Err() == nil && !there.Load() {
				op, err := up.move(ctx, to, "faulted")
				if _, missing := os.Stat(reached); missing == nil || there.Load() {
					return
				}
				t.Logf("%s: before it is reached: %v, %s %s", what, err, op.State, op.Message)
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		}()
		eventually(t, patience, what+": is reached", func() bool { _, err := os.Stat(reached); return err == nil })
		there.Store(true)
		if err := os.Remove(reached); err != nil {
			t.Fatal(err)
		}
		goOn := func() {
			if err := os.Remove(wanted); err != nil {
				t.Error(err)
			}
		}
		if err := fault.do(goOn); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		<-moved
		cancel()
		eventually(t, patience, what+": the move has ended", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			d, err := up.admin.Topic(ctx, "faulted")
			if err != nil || d.Moving != nil {
				return false
			}
			// Before the seal a broker that is away ends the move, and the topic is untouched.
			return openCluster(d) == to || openCluster(d) == from && strings.Contains(fault.name, "broker")
		})
	}
	x.goesOn(t, "at the end", patience)
	up.noStrays(t.Context(), "faulted", map[string]*testkit.Cluster{"east": east})
	r := load.end(3 * time.Minute)["faulted"]
	t.Logf("%d faults\n%s", rounds, r)
	if !r.OK() || !r.Complete() {
		t.Error("the history is not clean")
	}
}

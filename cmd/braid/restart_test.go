package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/braidstream/braid/console/api"
)

// waitExit waits for a process that was told to end.
func (r *running) waitExit(what string) {
	r.t.Helper()
	eventually(r.t, patience, what+" ends", func() bool {
		select {
		case <-r.process.Exited():
			return true
		default:
			return false
		}
	})
}

// TestStartAfterKill: who starts again on the data directory of a run that was killed does not wait for the leases
// of that run. They are ten minutes here, and moves, groups and the count of gateways are right long before.
func TestStartAfterKill(t *testing.T) {
	t.Parallel()
	up := startUpThere(t, "--set", "braid.lease.ms=600000")
	up.must("topic", "create", "packages", "--partitions", "1", "--cluster", "a")
	up.produce("packages", "one")
	up.kill()
	up.start()
	up.produce("packages", "two")
	up.must("topic", "move", "packages", "--to", "b")
	var s api.Status
	if err := json.Unmarshal([]byte(up.must("status", "-o", "json")), &s); err != nil || len(s.Gateways) != 1 || s.Controller == "" {
		t.Errorf("%v: %+v", err, s)
	}
	// A transaction needs a coordinator's shard, which the killed run had.
	up.must("verify", "--transactions", "--duration", "1s", "--rate", "50", "--partitions", "1", "--group-consumers", "0")
}

// TestEndWithoutCatalog: a gateway that is told to end when its catalog is away as well does so, and has drained.
func TestEndWithoutCatalog(t *testing.T) {
	t.Parallel()
	up := startUp(t)
	g := up.gateway("--set", "braid.lease.ms=600000")
	up.must("topic", "create", "packages", "--partitions", "1", "--cluster", "a")
	g.produce("packages", "one")
	up.kill()
	g.signal(syscall.SIGTERM)
	g.waitExit("the gateway")
	if err := g.process.Err(); err != nil {
		t.Errorf("it ended with %v, want exit code 0", err)
	}
}

// TestCompletionShells: a shell that is not known is wrong usage.
func TestCompletionShells(t *testing.T) {
	t.Parallel()
	for shell, want := range map[string]int{"bash": exitDone, "fisch": exitUsage} {
		var out, errs strings.Builder
		if code := run(t.Context(), []string{"completion", shell}, streams{strings.NewReader(""), &out, &errs}); code != want {
			t.Errorf("%s: exit %d, want %d\n%s", shell, code, want, errs.String())
		}
	}
}

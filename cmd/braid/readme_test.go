package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReadmePath walks the README's session with the input that it names: the lists of
// files of every package of this machine, through kcat.
func TestReadmePath(t *testing.T) {
	t.Parallel()
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		t.Fatalf("%v: scripts/install-test-deps.sh installs it", err)
	}
	up := startUp(t)
	lists, err := filepath.Glob("/var/lib/dpkg/info/*.list")
	if err != nil {
		t.Fatal(err)
	}
	var input []byte
	for _, name := range lists {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		input = append(input, b...)
	}
	if len(lists) == 0 {
		// A machine without dpkg has sources of Go.
		input = bytes.Repeat([]byte("a line like any other\n"), 100_000)
	}
	lines := bytes.Count(input, []byte("\n"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	run := func(in []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(ctx, kcat, append([]string{"-b", up.ready.Kafka[0]}, args...)...)
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kcat %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	if out := up.must("topic", "create", "packages", "--partitions", "3"); !strings.Contains(out, "topic packages created: 3 partitions") {
		t.Errorf("create: %s", out)
	}
	from := up.openOn("packages")[0]
	to := map[string]string{"a": "b", "b": "a"}[from]
	began := time.Now()
	run(input, "-P", "-t", "packages")
	read := func() int { return bytes.Count(run(nil, "-C", "-t", "packages", "-e", "-q"), []byte("\n")) }
	if n := read(); n != lines {
		t.Errorf("%d lines were produced, %d are read", lines, n)
	}
	t.Logf("%d lines produced and read in %s", lines, time.Since(began).Round(time.Millisecond))
	out := up.must("topic", "move", "packages", "--to", to)
	certificate := "certificate: move packages, " + from + " -> " + to + " (seal): "
	if !strings.Contains(out, certificate) {
		t.Errorf("move: %s", out)
	}
	// The first word of a certificate waits for gateways' reports for a while only; its last counts here.
	eventually(t, patience, "the move is verified", func() bool {
		out = up.must("topic", "describe", "packages")
		return strings.Contains(out, certificate+"verified") && strings.Contains(out, "0 lost, 0 duplicated, 0 reordered")
	})
	for _, want := range []string{"PARTITION", "open", from + " (braid.", to + " (braid.", "certificate: "} {
		if !strings.Contains(out, want) {
			t.Errorf("describe does not show %q:\n%s", want, out)
		}
	}
	if n := read(); n != lines {
		t.Errorf("%d lines were produced, %d are read after the move", lines, n)
	}
	out = up.must("verify", "--duration", "2s")
	if !strings.Contains(out, "Everything acknowledged was found, once, in order, where it was acknowledged.") {
		t.Errorf("verify: %s", out)
	}
	if out = up.must("failover", to, "--dry-run"); !strings.Contains(out, " for "+to+" (packages") {
		t.Errorf("plan of a failover: %s", out)
	}
}

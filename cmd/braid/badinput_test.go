package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/testkit"
)

// TestWrongRequests: what cannot be done is refused with exit code 1 and words that
// say what to do; the fleet stays as it is.
func TestWrongRequests(t *testing.T) {
	t.Parallel()
	up := startUp(t)
	up.must("topic", "create", "packages", "--partitions", "2", "--cluster", "a")
	up.must("topic", "create", "other", "--partitions", "1", "--cluster", "b")
	for _, tc := range []struct {
		args string
		says string
	}{
		{"topic describe pakages", "did you mean packages?"},
		{"topic move packgaes --to b", "did you mean packages?"},
		{"topic move packages --to bb", "did you mean b?"},
		{"topic delete packages2", "did you mean packages?"},
		{"topic create packages --partitions 2", "exists"},
		{"topic create new --partitions 1 --cluster aa", "did you mean a?"},
		{"topic create new --partitions 1 --config retentoin.ms=1", "retention.ms"},
		{"topic create new --partitions 1 --config retention.ms=soon", "retention.ms"},
		{"topic create new --partitions 1 --config braid.guarantee=none", "braid.guarantee"},
		{"topic create new --partitions 10000000", "partitions"},
		{"topic create ../x --partitions 1", "topic"},
		{"cluster describe aa", "did you mean a?"},
		{"cluster drain aa", "did you mean a?"},
		{"cluster drain a --to a", "itself"},
		{"cluster remove a", "holds records of topic packages"},
		{"cluster add a --bootstrap 127.0.0.1:1", "cluster a exists"},
		{"cluster add east --bootstrap 127.0.0.1:1", "cluster east"},
		{"cluster add east --bootstrap nowhere", "HOST:PORT"},
		{"cluster add east --bootstrap 127.0.0.1:1 --config security.protocl=SSL", "security.protocol"},
		{"cluster add east --bootstrap 127.0.0.1:1 --config sasl.password=s3cret", "not the secret itself"},
		{"cluster add east --bootstrap 127.0.0.1:1 --config security.protocol=SASL_SSL --config sasl.mechanism=PLAIN --config sasl.username=u --config sasl.password=file:/none", "cluster east: sasl.password: open"},
		{"failover aa", "did you mean a?"},
		{"failover a --to a", "itself"},
		{"failback aa", "did you mean a?"},
		{"op watch nothing", "unknown operation nothing"},
		{"op cancel nothing", "unknown operation nothing"},
		{"verify --bootstrap 127.0.0.1:1 --duration 1s", "127.0.0.1:1"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			out, errs, code := up.run(strings.Fields(tc.args)...)
			if code != exitFailed && code != exitUsage || !strings.Contains(strings.ReplaceAll(errs, `"`, ""), tc.says) {
				t.Errorf("exit %d, want %d; want %q in:\n%s%s", code, exitFailed, tc.says, out, errs)
			}
		})
	}
	// Where it is already there is nothing to do, which is no failure.
	if out := up.must("topic", "move", "packages", "--to", "a"); !strings.Contains(out, "nothing to do") {
		t.Errorf("move to where it is: %s", out)
	}
	if out := up.must("topic", "move", "packages", "--to", "a", "--dry-run"); !strings.Contains(out, "nothing to do") {
		t.Errorf("plan of a move to where it is: %s", out)
	}
	for name, on := range map[string]string{"packages": "a", "other": "b"} {
		d := up.topic(name)
		for _, p := range d.Partitions {
			if len(p.Spans) != 1 || p.Spans[0].Copies[0].Cluster != on {
				t.Errorf("topic %s changed: %+v", name, p)
			}
		}
	}
}

// TestDrainThenRemove: a cluster goes when no chain needs it any more, not before.
func TestDrainThenRemove(t *testing.T) {
	t.Parallel()
	up := startUp(t, "--local-clusters", "a,b,c")
	up.must("topic", "create", "kept", "--partitions", "1", "--cluster", "c")
	up.must("topic", "create", "empty", "--partitions", "1", "--cluster", "c")
	up.produce("kept", "one", "two")
	out := up.must("cluster", "drain", "c", "--to", "a")
	if !strings.Contains(out, "kept") {
		t.Errorf("the drain does not say what must still be kept:\n%s", out)
	}
	if at := up.openOn("kept"); at[0] != "a" {
		t.Errorf("topic kept is on %v", at)
	}
	if _, errs, code := up.run("cluster", "remove", "c"); code != exitFailed || !strings.Contains(errs, "holds records of topic kept") {
		t.Errorf("remove: exit %d: %s", code, errs)
	}
	if _, errs, code := up.run("topic", "create", "late", "--partitions", "1", "--cluster", "c"); code != exitFailed || !strings.Contains(errs, "drain") {
		t.Errorf("a topic on a cluster that is drained: exit %d: %s", code, errs)
	}
	up.must("topic", "delete", "kept")
	var errs string
	eventually(t, patience, "cluster c is removed", func() bool {
		var code int
		_, errs, code = up.run("cluster", "remove", "c")
		return code == 0
	})
	if _, _, code := up.run("cluster", "describe", "c"); code != exitFailed {
		t.Errorf("cluster c is still there: %s", errs)
	}
}

// TestTargetDown: a move to a cluster that does not answer is refused before anything
// is touched; of two moves of one topic the second is refused with the first's id.
func TestTargetDown(t *testing.T) {
	t.Parallel()
	east := testkit.Kafka(t)
	up := startUp(t, "--set", "braid.failure.detection.ms=3600000")
	up.addCluster("east", east)
	up.must("topic", "create", "packages", "--partitions", "1", "--cluster", "a")
	up.produce("packages", "one")
	if err := east.Pause(); err != nil {
		t.Fatal(err)
	}
	first, err := up.admin.Submit(t.Context(), api.OpRequest{Kind: "move", Topics: []string{"packages"}, To: "east"})
	if err != nil {
		t.Fatal(err)
	}
	_, errs, code := up.run("topic", "move", "packages", "--to", "b")
	if code != exitFailed || !strings.Contains(errs, first.ID) {
		t.Errorf("the second move: exit %d, want the id %s in: %s", code, first.ID, errs)
	}
	up.produce("packages", "two") // the topic takes appends meanwhile
	op := first
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !op.Ended() {
		if op, err = up.admin.Op(ctx, op.ID, op.Revision); err != nil {
			t.Fatal(err)
		}
	}
	if op.State != "failed" || !strings.Contains(op.Message, "east") {
		t.Errorf("the move is %s: %s", op.State, op.Message)
	}
	d := up.topic("packages")
	if d.Moving != nil || len(d.Partitions[0].Spans) != 1 || up.openOn("packages")[0] != "a" {
		t.Errorf("the topic was touched: %+v", d)
	}
	up.produce("packages", "three")
	if err := east.Resume(); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "a move to the cluster that is back", func() bool {
		_, _, code := up.run("topic", "move", "packages", "--to", "east")
		return code == 0
	})
}

// TestWrongStart: a process that cannot start says why, and how to start.
func TestWrongStart(t *testing.T) {
	t.Parallel()
	up := startUp(t)
	write := func(files map[string]string) string {
		dir := t.TempDir()
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := up.args[2] // after up --data-dir
	marker, err := filepath.Glob(filepath.Join(used, "clusters", "*", "BRAID"))
	if err != nil || len(marker) == 0 {
		t.Fatal(marker, err)
	}
	cluster := filepath.Base(filepath.Dir(marker[0]))
	// A cluster's directory that came from elsewhere, and one that went away.
	copied := write(map[string]string{"FORMAT": "braid-data 1\n"})
	there := filepath.Join(copied, "clusters", cluster)
	says, err := os.ReadFile(marker[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(there, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(there, "BRAID"), says, 0o600); err != nil {
		t.Fatal(err)
	}
	untouched := t.TempDir()
	lost := startUp(t)
	lost.kill()
	gone := filepath.Join(lost.args[2], "clusters", cluster)
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		args []string
		says []string
	}{
		{"a data directory in use", []string{"--data-dir", used}, []string{"is in use by process", "--data-dir"}},
		{"a data directory of a newer format", []string{"--data-dir", write(map[string]string{"FORMAT": "braid-data 99\n"})}, []string{"is of format", "braid-data 99", "use the release"}},
		{"a damaged FORMAT file", []string{"--data-dir", write(map[string]string{"FORMAT": "\x00\x7fgarbage\n"})}, []string{"FORMAT is damaged", "garbage", "braid-data 1", "--data-dir"}},
		{"an empty FORMAT file", []string{"--data-dir", write(map[string]string{"FORMAT": ""})}, []string{"FORMAT is damaged", "braid-data 1"}},
		{"a data directory with other files", []string{"--data-dir", write(map[string]string{"letter.txt": "dear"})}, []string{"letter.txt", "--data-dir"}},
		{"a data directory that cannot be made", []string{"--data-dir", filepath.Join(file, "data")}, []string{"data directory", "--data-dir"}},
		{"a cluster's directory of another installation", []string{"--data-dir", copied}, []string{there, "another installation"}},
		{"a cluster's directory that is gone", []string{"--data-dir", lost.args[2]}, []string{gone, "put it back", "lost"}},
		{"a client port that is taken", []string{"--data-dir", t.TempDir(), "--listen", up.ready.Kafka[0]}, []string{up.ready.Kafka[0], "in use"}},
		{"an HTTP port that is taken", []string{"--data-dir", untouched, "--http", up.ready.HTTP}, []string{up.ready.HTTP, "in use", "--http chooses another"}},
		{"a catalog port that is taken", []string{"--data-dir", t.TempDir(), "--catalog-listen", strings.TrimPrefix(up.ready.Catalog[0], "http://")}, []string{"in use", "--catalog-listen chooses another"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := []string{"up"}
			for flag, value := range map[string]string{"--listen": "127.0.0.1:0", "--http": "127.0.0.1:0", "--catalog-listen": "127.0.0.1:0"} {
				if flag != tc.args[len(tc.args)-2] {
					args = append(args, flag, value)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, buildBraid(t), append(args, tc.args...)...)
			out, err := cmd.CombinedOutput()
			if err == nil || ctx.Err() != nil || cmd.ProcessState.ExitCode() != exitFailed {
				t.Errorf("%v: %s", err, out)
			}
			for _, want := range tc.says {
				if !strings.Contains(string(out), want) {
					t.Errorf("does not say %q:\n%s", want, out)
				}
			}
		})
	}
	if _, err := os.Stat(filepath.Join(untouched, "catalog")); !os.IsNotExist(err) {
		t.Errorf("with an HTTP port that is taken a catalog was begun: %v", err)
	}
	// The process that was there is well.
	var s api.Status
	if err := json.Unmarshal([]byte(up.must("status", "-o", "json")), &s); err != nil || len(s.Gateways) != 1 {
		t.Errorf("status: %v, %+v", err, s)
	}
}

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/testkit"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Parallel are the tests that mostly wait; few of them start a Kafka of their own.
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	code := testkit.Main(m)
	if binary.dir != "" {
		if err := os.RemoveAll(binary.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// binary is the command under test, built once.
var binary struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// buildBraid returns the path of the built command.
func buildBraid(t testing.TB) string {
	t.Helper()
	binary.once.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "braid-test-"); binary.err != nil {
			return
		}
		binary.path = filepath.Join(binary.dir, "braid")
		args := []string{"build", "-tags", "faults", "-o", binary.path}
		if raceEnabled {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, ".")...).CombinedOutput()
		if err != nil {
			binary.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatalf("build braid: %v", binary.err)
	}
	return binary.path
}

// running is a braid process of a test.
type running struct {
	t       testing.TB
	args    []string
	env     []string // besides the test's own
	log     string
	process *testkit.Process
	ready   ready
	admin   *api.Client
}

// startBraid starts `braid args…` on free ports and waits until it is ready. It is
// killed at the end of the test, and its log shown if the test has failed.
func startBraid(t testing.TB, args ...string) *running {
	t.Helper()
	return startBraidWith(t, nil, args...)
}

// startBraidWith is startBraid with further variables of the environment, NAME=VALUE.
func startBraidWith(t testing.TB, env []string, args ...string) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{t: t, env: env, log: filepath.Join(dir, "log")}
	r.args = append(args, "--ready-file", filepath.Join(dir, "ready"))
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			if b, err := os.ReadFile(r.log); err == nil {
				t.Logf("log of braid %s:\n%s", strings.Join(args, " "), tail(b, 12<<10))
				if dir := os.Getenv("BRAID_TEST_LOGS"); dir != "" {
					name := fmt.Sprintf("%s-%s-%d.log", strings.ReplaceAll(t.Name(), "/", "-"), args[0], time.Now().UnixNano())
					if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
						t.Log(err)
					}
				}
			}
		}
	})
	r.start()
	return r
}

// startUp starts `braid up` on free ports with a data directory of its own.
func startUp(t testing.TB, args ...string) *running {
	t.Helper()
	return startBraid(t, append([]string{"up", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0",
		"--http", "127.0.0.1:0", "--catalog-listen", "127.0.0.1:0"}, args...)...)
}

// startUpThere is startUp at addresses that it has again when it is started again.
func startUpThere(t testing.TB, args ...string) *running {
	t.Helper()
	return startUp(t, append([]string{"--listen", testkit.Addr(t), "--http", testkit.Addr(t), "--catalog-listen", testkit.Addr(t)}, args...)...)
}

// gateway starts a further gateway of the same fleet. Started again it has the address
// that it had.
func (r *running) gateway(args ...string) *running {
	r.t.Helper()
	return startBraid(r.t, append([]string{"gateway", "--catalog-endpoints", strings.Join(r.ready.Catalog, ","),
		"--listen", testkit.Addr(r.t)}, args...)...)
}

func (r *running) start() {
	r.t.Helper()
	readyFile := r.args[len(r.args)-1]
	if err := os.Remove(readyFile); err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	log, err := os.OpenFile(r.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := exec.Command(buildBraid(r.t), r.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(cmd.Environ(), r.env...)
	if r.process, err = testkit.StartProcess(cmd); err != nil {
		r.t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for {
		b, err := os.ReadFile(readyFile)
		if err == nil {
			if err := json.Unmarshal(b, &r.ready); err != nil {
				r.t.Fatalf("ready file %q: %v", b, err)
			}
			break
		}
		select {
		case <-r.process.Exited():
			r.t.Fatalf("braid %s ended before it was ready", strings.Join(r.args, " "))
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("braid %s is not ready", strings.Join(r.args, " "))
		}
	}
	if r.admin, err = api.NewClient("http://" + r.ready.HTTP); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) kill() {
	if r.process != nil {
		if err := r.process.Kill(); err != nil {
			r.t.Logf("kill: %v", err)
		}
		<-r.process.Exited()
	}
}

func (r *running) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// run executes a command line against the process's admin API and returns its output.
func (r *running) run(args ...string) (stdout, stderr string, code int) {
	r.t.Helper()
	cmd := exec.Command(buildBraid(r.t), append([]string{"--admin", "http://" + r.ready.HTTP}, args...)...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must is run for a command that has to succeed.
func (r *running) must(args ...string) string {
	r.t.Helper()
	out, errs, code := r.run(args...)
	if code != 0 {
		r.t.Fatalf("braid %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// addCluster puts a real Kafka cluster behind the process.
func (r *running) addCluster(name string, k *testkit.Cluster) {
	r.t.Helper()
	r.must("cluster", "add", name, "--bootstrap", k.Bootstrap())
}

// move moves topics and waits for the end; it returns the operation.
func (r *running) move(ctx context.Context, to string, topics ...string) (api.Op, error) {
	op, err := r.admin.Submit(ctx, api.OpRequest{Kind: "move", Topics: topics, To: to})
	for err == nil && !op.Ended() {
		op, err = r.admin.Op(ctx, op.ID, op.Revision)
	}
	return op, err
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}

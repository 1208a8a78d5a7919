package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
)

// ConnectWorker is a running worker of Kafka Connect in distributed mode: its configuration, its
// connectors' offsets and their status are in topics of the cluster that it is connected to. Sources
// are exactly once.
type ConnectWorker struct {
	process *testkit.Process
	done    chan struct{} // closed when all that it said was read
	said    *tail
	url     string
}

// What a worker logs of its REST API: where it listens, at a port that was free, and, a while later,
// that it answers.
var (
	restListens = regexp.MustCompile(`REST server listening at (http://[0-9.]+:[0-9]+)/`)
	restAnswers = regexp.MustCompile(`server is started and ready to handle requests`)
)

// StartConnect starts a worker of the group, which has the connectors of connect-file, and waits until
// its REST API is there. It is killed at the end of the test, if it has not ended before.
func StartConnect(tb testing.TB, bootstrap []string, group string) *ConnectWorker {
	tb.Helper()
	cp, err := testkit.JavaClassPath(testkit.Kafka43)
	if err != nil {
		tb.Fatal(err)
	}
	cache, err := testkit.CacheDir()
	if err != nil {
		tb.Fatal(err)
	}
	plugins := filepath.Join(cache, "kafka-connect-"+testkit.Kafka43, "libs")
	if _, err := os.Stat(plugins); err != nil {
		tb.Fatalf("clients: Kafka Connect's connectors: %v", testkit.ErrNotInstalled)
	}
	properties := filepath.Join(tb.TempDir(), "worker.properties")
	if err := os.WriteFile(properties, []byte(workerProperties(bootstrap, group, plugins)), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.connect.runtime.rest.RestServer=info",
		"-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", cp, "org.apache.kafka.connect.cli.ConnectDistributed", properties)
	out, err := cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	w := &ConnectWorker{done: make(chan struct{}), said: &tail{}}
	if w.process, err = testkit.StartProcessPiped(cmd); err != nil {
		tb.Fatal(err)
	}
	listening := make(chan string, 1)
	go func() {
		defer close(w.done)
		w.follow(out, listening)
		w.process.Wait()
	}()
	tb.Cleanup(func() {
		if err := w.process.Kill(); err != nil {
			tb.Error(err)
		}
		<-w.done
		if tb.Failed() {
			tb.Logf("worker of Kafka Connect:\n%s", w.said)
		}
	})
	timer := time.NewTimer(3 * time.Minute)
	defer timer.Stop()
	select {
	case w.url = <-listening:
	case <-w.done:
		tb.Fatalf("the worker has ended: %v\n%s", w.process.Err(), w.said)
	case <-timer.C:
		tb.Fatalf("the worker does not answer:\n%s", w.said)
	}
	return w
}

// workerProperties are those of Kafka's own example for distributed mode, with waits as short as a test
// likes them.
func workerProperties(bootstrap []string, group, plugins string) string {
	var b strings.Builder
	for _, kv := range [][2]string{
		{"bootstrap.servers", strings.Join(bootstrap, ",")},
		{"group.id", group},
		{"listeners", "http://127.0.0.1:0"},
		{"plugin.path", plugins},
		{"plugin.discovery", "service_load"},
		{"key.converter", "org.apache.kafka.connect.storage.StringConverter"},
		{"value.converter", "org.apache.kafka.connect.storage.StringConverter"},
		{"config.storage.topic", group + "-configs"},
		{"config.storage.replication.factor", "1"},
		{"offset.storage.topic", group + "-offsets"},
		{"offset.storage.replication.factor", "1"},
		{"offset.storage.partitions", "2"},
		{"status.storage.topic", group + "-status"},
		{"status.storage.replication.factor", "1"},
		{"status.storage.partitions", "2"},
		{"exactly.once.source.support", "enabled"},
		{"offset.flush.interval.ms", "1000"},
		{"scheduled.rebalance.max.delay.ms", "1000"},
		{"metadata.max.age.ms", "2000"},
		// The sink reads what the source has committed.
		{"consumer.isolation.level", "read_committed"},
		{"consumer.metadata.max.age.ms", "2000"},
	} {
		fmt.Fprintf(&b, "%s=%s\n", kv[0], kv[1])
	}
	return b.String()
}

// follow keeps the end of what the worker logs and tells where its REST API listens.
func (w *ConnectWorker) follow(out io.Reader, listening chan<- string) {
	lines := bufio.NewReader(out)
	url := ""
	for {
		line, err := lines.ReadString('\n')
		// A tail takes everything.
		_, _ = io.WriteString(w.said, line)
		if m := restListens.FindStringSubmatch(line); m != nil {
			url = m[1]
		}
		if restAnswers.MatchString(line) {
			select {
			case listening <- url:
			default: // it was told
			}
		}
		if err != nil {
			return // it has ended, and its status says how
		}
	}
}

// Exited is closed when the worker has ended.
func (w *ConnectWorker) Exited() <-chan struct{} { return w.done }

// Stop ends the worker in order: it gives its connectors and tasks back to the group.
func (w *ConnectWorker) Stop() error {
	if err := w.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-w.done
	return nil
}

// errNotYet is what a worker answers while its group is about something else.
var errNotYet = errors.New("clients: not now")

// Create makes a connector; it is there when the answer is. While the workers' group
// finds together, it asks again.
func (w *ConnectWorker) Create(ctx context.Context, name string, config map[string]string) error {
	body, err := json.Marshal(map[string]any{"name": name, "config": config})
	if err != nil {
		return err
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := w.ask(ctx, http.MethodPost, "/connectors", body, nil)
		// A conflict is a rebalance, or that an attempt before, whose answer did not come, has made it.
		if !errors.Is(err, errNotYet) || w.ask(ctx, http.MethodGet, "/connectors/"+name, nil, nil) == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// ConnectStatus is what a worker says of a connector.
type ConnectStatus struct {
	Connector ConnectState   `json:"connector"`
	Tasks     []ConnectState `json:"tasks"`
}

// ConnectState is where a connector or a task runs, and how it is.
type ConnectState struct {
	State  string `json:"state"` // RUNNING, FAILED, …
	Worker string `json:"worker_id"`
	Trace  string `json:"trace"` // of what it failed by
}

// Status asks for a connector's.
func (w *ConnectWorker) Status(ctx context.Context, name string) (ConnectStatus, error) {
	var s ConnectStatus
	err := w.ask(ctx, http.MethodGet, "/connectors/"+name+"/status", nil, &s)
	return s, err
}

func (w *ConnectWorker) ask(ctx context.Context, method, path string, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", path, errNotYet, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w: %w", path, errNotYet, err)
	case resp.StatusCode == http.StatusConflict || resp.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("%s: %w: %s", path, errNotYet, b)
	case resp.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	case answer != nil:
		return json.Unmarshal(b, answer)
	}
	return nil
}

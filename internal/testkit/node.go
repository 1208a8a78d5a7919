package testkit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A Node is one broker and controller of a cluster.
type Node struct {
	cluster *Cluster
	id      int
	dir     string

	client, internal, controller *port

	mu   sync.Mutex // held over whole actions: they are rare, and must not overlap
	proc *Process
}

// ID is the node's id, from 1.
func (n *Node) ID() int { return n.id }

// Addr is the address that the node listens on for clients, HOST:PORT. It never changes.
func (n *Node) Addr() string { return n.client.addr() }

// DataDir is the node's log directory: one directory per partition in it, and the checkpoints.
func (n *Node) DataDir() string { return filepath.Join(n.dir, "data") }

// LogFile is where the node's own log output goes, all its starts one after the other.
func (n *Node) LogFile() string { return filepath.Join(n.dir, "node.log") }

// Pid is the number of the node's process, 0 when it does not run.
func (n *Node) Pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return 0
	}
	return n.proc.Pid()
}

func (n *Node) running() bool {
	if n.proc == nil {
		return false
	}
	select {
	case <-n.proc.Exited():
		return false
	default:
		return true
	}
}

// properties are the node's broker properties, in their order of precedence: testkit's, the
// cluster's, the node's.
func (n *Node) properties() map[string]string {
	c := n.cluster
	var voters []string
	for _, o := range c.nodes {
		voters = append(voters, fmt.Sprintf("%d@%s", o.id, o.controller.addr()))
	}
	advertised := n.client.addr()
	if a := c.plan.advertised[n.id]; a != "" {
		advertised = a
	}
	replicas, inSync := min(len(c.nodes), 3), 1
	if replicas == 3 {
		inSync = 2
	}
	r, i := strconv.Itoa(replicas), strconv.Itoa(inSync)
	p := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        strconv.Itoa(n.id),
		"controller.quorum.voters":       strings.Join(voters, ","),
		"listeners":                      fmt.Sprintf("CLIENT://%s,INTERNAL://%s,CONTROLLER://%s", n.client.addr(), n.internal.addr(), n.controller.addr()),
		"advertised.listeners":           fmt.Sprintf("CLIENT://%s,INTERNAL://%s", advertised, n.internal.addr()),
		"inter.broker.listener.name":     "INTERNAL",
		"controller.listener.names":      "CONTROLLER",
		"listener.security.protocol.map": "CLIENT:" + c.plan.protocol + ",INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                       n.DataDir(),

		"default.replication.factor": r,
		"min.insync.replicas":        i,
		"num.partitions":             "1",
		"auto.create.topics.enable":  "false",

		"offsets.topic.replication.factor":         r,
		"offsets.topic.num.partitions":             "4",
		"transaction.state.log.replication.factor": r,
		"transaction.state.log.min.isr":            i,
		"transaction.state.log.num.partitions":     "4",
		"group.initial.rebalance.delay.ms":         "0",

		// A dead broker of three is found in 4 s, not 9; shorter would fence healthy ones on a busy machine.
		"broker.session.timeout.ms":    "4000",
		"broker.heartbeat.interval.ms": "500",
	}
	if len(c.nodes) == 1 {
		// After SIGKILL a broker may register again only when its former session is over, so this is
		// what such a restart takes; a machine that stands still for longer loses its only broker.
		p["broker.session.timeout.ms"] = "3000"
	}
	if c.plan.version != Kafka39 {
		p["share.coordinator.state.topic.replication.factor"] = r
		p["share.coordinator.state.topic.min.isr"] = i
		p["share.coordinator.state.topic.num.partitions"] = "4"
	}
	maps.Copy(p, c.plan.properties)
	maps.Copy(p, c.plan.perNode[n.id])
	return p
}

func (n *Node) propertiesFile() string { return filepath.Join(n.dir, "server.properties") }

// format writes the properties and formats the storage.
func (n *Node) format(ctx context.Context) error {
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return fmt.Errorf("node %d: %w", n.id, err)
	}
	var b strings.Builder
	properties := n.properties()
	for _, k := range slices.Sorted(maps.Keys(properties)) {
		// A line of a Java properties file: a backslash and the line's end need escaping.
		v := strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(properties[k])
		fmt.Fprintf(&b, "%s=%s\n", k, v)
	}
	if err := os.WriteFile(n.propertiesFile(), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("node %d: %w", n.id, err)
	}
	args := append([]string{"format", "--cluster-id", n.cluster.id, "--config", n.propertiesFile()}, n.cluster.plan.format...)
	proc, err := n.launch(nil, "kafka.tools.StorageTool", args...)
	if err != nil {
		return err
	}
	select {
	case <-proc.Exited():
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("node %d: format: %w", n.id, ctx.Err()), proc.Kill())
	}
	if proc.Err() != nil {
		return fmt.Errorf("node %d: format: %w: %s", n.id, proc.Err(), n.logTail())
	}
	return nil
}

// launch starts a class of Kafka with its output in the node's log file.
func (n *Node) launch(extra []string, class string, args ...string) (*Process, error) {
	cmd, err := java(n.cluster.plan.version, extra, class, args...)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("node %d: %w", n.id, err)
	}
	defer out.Close() // the child has its own descriptor
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, n.dir
	return StartProcess(cmd)
}

// Start starts the node, unless it runs, and waits until it serves clients and the controllers
// count it among the live brokers.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		return nil
	}
	proc, err := n.launch(n.cluster.plan.java, "kafka.Kafka", n.propertiesFile())
	if err != nil {
		return err
	}
	n.proc = proc
	if err := n.await(ctx); err != nil {
		return errors.Join(err, proc.Kill())
	}
	return nil
}

// await waits until the node lists itself as a broker.
func (n *Node) await(ctx context.Context) error {
	if n.cluster.plan.protocol != "PLAINTEXT" {
		return n.awaitLog(ctx)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.Addr()), kgo.DialTimeout(2*time.Second))
	if err != nil {
		return fmt.Errorf("node %d: %w", n.id, err)
	}
	defer cl.Close()
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{} // none; nil would mean all
	return n.pollAlive(ctx, func() error {
		// A seed broker is asked as it is: no retries, no redirection.
		answer, err := cl.SeedBrokers()[0].Request(ctx, request)
		if err != nil {
			return err
		}
		for _, b := range answer.(*kmsg.MetadataResponse).Brokers {
			if int(b.NodeID) == n.id {
				return nil
			}
		}
		return errors.New("not among the live brokers yet")
	})
}

// awaitLog is for listeners that need credentials, which the node's own log line does not.
func (n *Node) awaitLog(ctx context.Context) error {
	starts, err := n.startedLines()
	if err != nil {
		return err
	}
	return n.pollAlive(ctx, func() error {
		now, err := n.startedLines()
		if err != nil {
			return err
		}
		if now == starts {
			return errors.New("not started yet")
		}
		return nil
	})
}

func (n *Node) startedLines() (int, error) {
	b, err := os.ReadFile(n.LogFile())
	if err != nil {
		return 0, fmt.Errorf("node %d: %w", n.id, err)
	}
	return strings.Count(string(b), "Kafka Server started"), nil
}

// pollAlive polls, and gives up at once when the process ends.
func (n *Node) pollAlive(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-n.proc.Exited():
			cancel(errors.New("the process ended"))
		case <-ctx.Done():
		}
	}()
	err := poll(ctx, try)
	if err != nil {
		err = fmt.Errorf("node %d does not serve: %w (%w): %s", n.id, err, context.Cause(ctx), n.logTail())
	}
	cancel(nil)
	<-watched
	return err
}

// logTail is the end of the node's log, for error messages.
func (n *Node) logTail() string { return fileTail(n.LogFile()) }

func fileTail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 3000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return fmt.Sprintf("the end of %s:\n%s", path, b)
}

// Stop ends the node in order (SIGTERM) and waits. A node that does not end in 15 s is killed,
// which happens when the controllers' majority is gone before.
func (n *Node) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return nil
	}
	if err := n.proc.Terminate(stopGrace); err != nil {
		return fmt.Errorf("node %d: %w", n.id, err)
	}
	return nil
}

// Kill ends the node at once (SIGKILL) and waits until the process is gone.
func (n *Node) Kill() error { return n.act((*Process).Kill) }

// Pause stops the node's process (SIGSTOP); the kernel goes on to accept connections for it.
func (n *Node) Pause() error {
	return n.act(func(p *Process) error { return p.Signal(syscall.SIGSTOP) })
}

// Resume ends Pause.
func (n *Node) Resume() error {
	return n.act(func(p *Process) error { return p.Signal(syscall.SIGCONT) })
}

func (n *Node) act(f func(*Process) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return nil
	}
	if err := f(n.proc); err != nil {
		return fmt.Errorf("node %d: %w", n.id, err)
	}
	return nil
}

// Restart ends the node in order, if it runs, and starts it on the same port and data.
func (n *Node) Restart(ctx context.Context) error {
	if err := n.Stop(); err != nil {
		return err
	}
	return n.Start(ctx)
}

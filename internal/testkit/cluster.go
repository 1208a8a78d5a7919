package testkit

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// MaxNodes bounds the nodes that one test binary runs at a time: each is a JVM of about 200 MB.
const MaxNodes = 12

// startTimeout bounds the start of a cluster; on an idle machine one takes 2 to 4 seconds.
const startTimeout = 5 * time.Minute

// stopGrace is how long SIGTERM may take. A node whose controllers are gone cannot end in order.
const stopGrace = 30 * time.Second

var liveNodes atomic.Int32

// A Cluster is a running Apache Kafka cluster in KRaft mode. Its methods may be called from any
// goroutine; two that act on the same node at once wait for one another.
type Cluster struct {
	plan  *plan
	id    string
	dir   string
	nodes []*Node

	closing sync.Once
}

// Kafka starts a cluster that belongs to the test and ends with it. Its data lies in t.TempDir().
//
// With -short, which means no Kafka, it skips the test; so does Shared.
func Kafka(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	notShort(t)
	c, err := StartKafka(t.Context(), t.TempDir(), opts...)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

func notShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("testkit: -short runs no Kafka")
	}
}

// StartKafka starts a cluster with its data in dir, which must be empty or not exist, and returns
// when every node serves. The caller calls Close.
func StartKafka(ctx context.Context, dir string, opts ...Option) (*Cluster, error) {
	p, err := newPlan(opts)
	if err != nil {
		return nil, err
	}
	if n := liveNodes.Add(int32(p.nodes)); n > MaxNodes {
		liveNodes.Add(-int32(p.nodes))
		return nil, fmt.Errorf("%d kafka nodes at once are more than the %d that one test binary may run: close some, or share", n, MaxNodes)
	}
	c := &Cluster{plan: p, dir: dir, id: newClusterID()}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.start(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// newClusterID is 16 random bytes in URL-safe base64, as Kafka's own Uuid prints itself.
func newClusterID() string {
	for {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails, see crypto/rand
		// Kafka refuses ids that begin with a dash: they look like an option.
		if s := base64.RawURLEncoding.EncodeToString(b[:]); s[0] != '-' {
			return s
		}
	}
}

func (c *Cluster) start(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("create the data directory: %w", err)
	}
	var reserved []*Node
	for id := 1; id <= c.plan.nodes; id++ {
		n := &Node{cluster: c, id: id, dir: filepath.Join(c.dir, fmt.Sprintf("node-%d", id))}
		reserved = append(reserved, n)
		c.nodes = reserved
		for _, p := range []**port{&n.client, &n.internal, &n.controller} {
			var err error
			if *p, err = reservePort(); err != nil {
				return err
			}
		}
	}
	return c.each(func(n *Node) error {
		if err := n.format(ctx); err != nil {
			return err
		}
		return n.Start(ctx)
	})
}

// each runs f for all nodes at once.
func (c *Cluster) each(f func(*Node) error) error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close kills the nodes and gives back their ports; the data stays. It may be called again.
func (c *Cluster) Close() {
	c.closing.Do(func() {
		// An error here means that the process is gone already.
		_ = c.each(func(n *Node) error { return n.Kill() })
		for _, n := range c.nodes {
			for _, p := range []*port{n.client, n.internal, n.controller} {
				if p != nil {
					p.release()
				}
			}
		}
		liveNodes.Add(-int32(c.plan.nodes))
	})
}

// ID is the cluster's id as Kafka shows it.
func (c *Cluster) ID() string { return c.id }

// Version is the version of Apache Kafka that runs.
func (c *Cluster) Version() string { return c.plan.version }

// Bootstrap is the comma-separated list of the nodes' client addresses. With Advertise these are
// still the addresses that the nodes listen on.
func (c *Cluster) Bootstrap() string { return strings.Join(c.Addrs(), ",") }

// Addrs lists the client addresses, HOST:PORT, by node.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// Node returns a node by its id, from 1 to the cluster's size, and nil for any other.
func (c *Cluster) Node(id int) *Node {
	if id < 1 || id > len(c.nodes) {
		return nil
	}
	return c.nodes[id-1]
}

// Nodes lists the nodes by id.
func (c *Cluster) Nodes() []*Node { return append([]*Node(nil), c.nodes...) }

// Stop ends all nodes in order (SIGTERM).
//
// Nodes of a quorum that end together leave one behind whose controlled shutdown
// nobody can agree to any more: it is killed after a grace period.
func (c *Cluster) Stop() error {
	return c.each(func(n *Node) error {
		err := n.Stop()
		if len(c.nodes) > 1 && errors.Is(err, errKilled) {
			return nil
		}
		return err
	})
}

// Kill ends all nodes at once (SIGKILL).
func (c *Cluster) Kill() error { return c.each((*Node).Kill) }

// Pause stops all nodes (SIGSTOP): connections stay up, nothing answers.
func (c *Cluster) Pause() error { return c.each((*Node).Pause) }

// Resume ends Pause.
func (c *Cluster) Resume() error { return c.each((*Node).Resume) }

// Restart ends the nodes that run, in order, and starts all on the same ports and data. It returns
// when every node serves.
func (c *Cluster) Restart(ctx context.Context) error {
	if err := c.Stop(); err != nil {
		return err
	}
	return c.Start(ctx)
}

// Start starts the nodes that do not run, on the same ports and data.
func (c *Cluster) Start(ctx context.Context) error {
	return c.each(func(n *Node) error { return n.Start(ctx) })
}

// Client opens a client to the cluster that closes with the test.
func (c *Cluster) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := c.open(opts...)
	if err != nil {
		t.Fatalf("testkit: open a client: %v", err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// open makes a client that looks again soon: its defaults, which spare a large cluster, would make
// every test that moves a leader wait for seconds.
func (c *Cluster) open(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.Addrs()...), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}, opts...)...)
}

// CreateTopic creates a topic, replicated by the cluster's default, with the configuration in
// pairs of key and value, and waits until each partition has a leader.
func (c *Cluster) CreateTopic(t testing.TB, topic string, partitions int, config ...string) {
	t.Helper()
	if len(config)%2 != 0 {
		t.Fatalf("testkit: topic %s: configuration comes in pairs, got %q", topic, config)
	}
	cl, err := c.open()
	if err != nil {
		t.Fatalf("testkit: open a client: %v", err)
	}
	defer cl.Close()
	configs := map[string]*string{}
	for i := 0; i < len(config); i += 2 {
		configs[config[i]] = &config[i+1]
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	adm := kadm.NewClient(cl)
	var failed error
	err = poll(ctx, func() error {
		_, err := adm.CreateTopic(ctx, int32(partitions), -1, configs, topic)
		if errors.Is(err, kerr.InvalidReplicationFactor) {
			return err // the controllers have not heard of a broker for a while: a busy machine
		}
		failed = err
		return nil
	})
	if err = errors.Join(err, failed); err != nil {
		t.Fatalf("testkit: create topic %s: %v", topic, err)
	}
	err = poll(ctx, func() error {
		topics, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		d := topics[topic]
		if d.Err != nil {
			return d.Err
		}
		if len(d.Partitions) != partitions {
			return fmt.Errorf("%d of %d partitions", len(d.Partitions), partitions)
		}
		for _, p := range d.Partitions {
			if p.Err != nil {
				return p.Err
			}
			if p.Leader < 0 {
				return fmt.Errorf("partition %d has no leader", p.Partition)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("testkit: wait for topic %s: %v", topic, err)
	}
}

// poll tries until it succeeds or the context ends, and then says what the last try met.
func poll(ctx context.Context, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: last met: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

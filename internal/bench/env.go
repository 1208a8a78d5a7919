package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/testkit"
)

// env is what runs while figures are taken. Parts start when they are first asked for.
type env struct {
	opts     options
	dir      string
	binary   string // braid
	extraEnv []string
	log      *slog.Logger

	ends []func()

	clusters  map[string]*testkit.Cluster
	forwarder *child
	forwardTo string
	jmx       string // where the first cluster's broker tells its counters
	fleet     *fleet
	single    *fleet // `braid up` with a local cluster
	topics    atomic.Int64
}

// fleet is Braid as it runs: a catalog, a controller and one gateway, or all in one process.
type fleet struct {
	gateway *child
	addr    string
	admin   *api.Client
	pprof   string
	catalog string
	pids    map[string]int
	added   map[string]bool
}

func (e *env) onEnd(f func()) { e.ends = append(e.ends, f) }

// close ends everything, last first.
func (e *env) close() {
	for i := len(e.ends) - 1; i >= 0; i-- {
		e.ends[i]()
	}
	e.ends = nil
}

// kafka starts a one-node cluster. Its JVM is not the tests' frugal one: it has the memory and the
// compiler that a broker has in earnest.
func (e *env) kafka(ctx context.Context, name string) (*testkit.Cluster, error) {
	if c := e.clusters[name]; c != nil {
		return c, nil
	}
	java := []string{"-Xms512m", "-Xmx1g", "-XX:TieredStopAtLevel=4"}
	if name == "a" {
		e.jmx = e.freeAddr()
		_, port, err := net.SplitHostPort(e.jmx)
		if err != nil {
			return nil, err
		}
		java = append(java, "-Dcom.sun.management.jmxremote.port="+port, "-Dcom.sun.management.jmxremote.rmi.port="+port,
			"-Dcom.sun.management.jmxremote.host=127.0.0.1", "-Djava.rmi.server.hostname=127.0.0.1",
			"-Dcom.sun.management.jmxremote.authenticate=false", "-Dcom.sun.management.jmxremote.ssl=false")
	}
	c, err := testkit.StartKafka(ctx, filepath.Join(e.dir, "kafka-"+name), testkit.JavaArgs(java...),
		testkit.Property("log.segment.delete.delay.ms", "1000"),
		testkit.Property("num.partitions", "6"))
	if err != nil {
		return nil, err
	}
	e.onEnd(c.Close)
	e.clusters[name] = c
	return c, nil
}

// forward starts the forwarder in front of the first cluster.
func (e *env) forward(ctx context.Context) (addr string, pid int, err error) {
	if e.forwarder == nil {
		k, err := e.kafka(ctx, "a")
		if err != nil {
			return "", 0, err
		}
		c, err := e.self("forward", "forward", k.Bootstrap())
		if err != nil {
			return "", 0, err
		}
		e.onEnd(c.end)
		wait, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if e.forwardTo, err = c.line(wait); err != nil {
			return "", 0, err
		}
		e.forwarder = c
	}
	return e.forwardTo, e.forwarder.proc.Pid(), nil
}

// build compiles braid. Tracing adds an endpoint for profiles to this build alone.
func (e *env) build(ctx context.Context) error {
	if e.binary == "" {
		e.binary = e.opts.braid
	}
	if e.binary != "" {
		return nil
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	dir := strings.TrimSpace(string(root))
	binary := filepath.Join(e.dir, "braid")
	args := []string{"build", "-trimpath", "-o", binary}
	if e.opts.profile != "" {
		overlay, err := e.overlay(dir)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/braid")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build braid: %w: %s", err, out)
	}
	e.binary = binary
	return nil
}

// ready is what of --ready-file is used.
type ready struct {
	Kafka []string `json:"kafka"`
	HTTP  string   `json:"http"`
}

// braid starts one process of braid and waits until it answers.
func (e *env) braid(ctx context.Context, name string, args ...string) (*child, ready, error) {
	if err := e.build(ctx); err != nil {
		return nil, ready{}, err
	}
	file := filepath.Join(e.dir, name+".ready")
	c, err := e.start(name, false, e.binary, append(args, "--ready-file", file, "--log-level", e.opts.level)...)
	if err != nil {
		return nil, ready{}, err
	}
	e.onEnd(c.end)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(60 * time.Second)
	defer late.Stop()
	for {
		b, err := os.ReadFile(file)
		if err == nil {
			var r ready
			return c, r, json.Unmarshal(b, &r)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, ready{}, err
		}
		select {
		case <-c.proc.Exited():
			return nil, ready{}, fmt.Errorf("%s ended: %w: %s", name, errors.Join(c.proc.Err(), errors.New("before it was ready")), c.tail())
		case <-late.C:
			return nil, ready{}, fmt.Errorf("%s is not ready after a minute: %s", name, c.tail())
		case <-ctx.Done():
			return nil, ready{}, ctx.Err()
		case <-tick.C:
		}
	}
}

// gateway starts the catalog (in this process, which does nothing else while figures are taken), a
// controller and one gateway, each a process of its own, so that the gateway's figures are its own.
func (e *env) gateway(ctx context.Context) (*fleet, error) {
	if e.fleet != nil {
		return e.fleet, nil
	}
	etcd, err := catalog.StartEmbedded(ctx, catalog.EmbeddedConfig{Dir: filepath.Join(e.dir, "catalog"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	e.onEnd(func() { _ = etcd.Close() })
	endpoints := strings.Join(etcd.Endpoints(), ",")
	controller, r, err := e.braid(ctx, "controller", "controller", "--catalog-endpoints", endpoints, "--http", "127.0.0.1:0",
		// A saturated machine is no lost cluster.
		"--set", "braid.failure.detection.ms=60000")
	if err != nil {
		return nil, err
	}
	f, err := newFleet(r.HTTP)
	if err != nil {
		return nil, err
	}
	f.catalog, f.pprof = endpoints, e.freeAddr()
	e.extraEnv = []string{profileVariable + "=" + f.pprof}
	gw, r, err := e.braid(ctx, "gateway", "gateway", "--catalog-endpoints", endpoints, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
		"--set", "group.initial.rebalance.delay.ms=0")
	e.extraEnv = nil
	if err != nil {
		return nil, err
	}
	f.gateway, f.addr = gw, r.Kafka[0]
	f.pids = map[string]int{"gateway": gw.proc.Pid(), "controller": controller.proc.Pid()}
	e.fleet = f
	return f, nil
}

func newFleet(http string) (*fleet, error) {
	admin, err := api.NewClient("http://" + http)
	if err != nil {
		return nil, err
	}
	return &fleet{admin: admin, added: map[string]bool{}}, nil
}

// up starts `braid up` with local clusters of these names.
func (e *env) up(ctx context.Context, clusters ...string) (*fleet, error) {
	if e.single != nil {
		return e.single, nil
	}
	pprof := e.freeAddr()
	e.extraEnv = []string{profileVariable + "=" + pprof}
	c, r, err := e.braid(ctx, "up", "up", "--data-dir", filepath.Join(e.dir, "up"), "--local-clusters", strings.Join(clusters, ","), "--listen", "127.0.0.1:0",
		"--http", "127.0.0.1:0", "--catalog-listen", "127.0.0.1:0")
	e.extraEnv = nil
	if err != nil {
		return nil, err
	}
	f, err := newFleet(r.HTTP)
	if err != nil {
		return nil, err
	}
	f.gateway, f.addr, f.pprof = c, r.Kafka[0], pprof
	f.pids = map[string]int{"up": c.proc.Pid()}
	for _, name := range clusters {
		f.added[name] = true
	}
	e.single = f
	return f, nil
}

// attach adds a cluster to the fleet unless it is there.
func (f *fleet) attach(ctx context.Context, name, bootstrap string) error {
	if f.added[name] {
		return nil
	}
	_, err := f.admin.AddCluster(ctx, api.ClusterAdd{Name: name, Bootstrap: strings.Split(bootstrap, ",")})
	if err != nil {
		return fmt.Errorf("add cluster %s: %w", name, err)
	}
	f.added[name] = true
	return nil
}

// peer is one way to the records: an address to connect to, where its topics are made, and the
// processes that stand behind it.
type peer struct {
	name  string
	addr  string
	pids  map[string]int
	fleet *fleet // nil: Kafka makes its topics itself
	place string // the cluster
}

// peers starts direct Kafka, the forwarder and the gateway, in this order.
func (e *env) peers(ctx context.Context) ([]*peer, error) {
	k, err := e.kafka(ctx, "a")
	if err != nil {
		return nil, err
	}
	broker := k.Node(1).Pid()
	if err := e.warmBroker(ctx, k.Bootstrap()); err != nil {
		return nil, err
	}
	addr, pid, err := e.forward(ctx)
	if err != nil {
		return nil, err
	}
	f, err := e.gateway(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.attach(ctx, "a", k.Bootstrap()); err != nil {
		return nil, err
	}
	return []*peer{
		{name: direct, addr: k.Bootstrap(), pids: map[string]int{"broker": broker}},
		{name: forwarder, addr: addr, pids: map[string]int{"broker": broker, "proxy": pid}},
		{name: gateway, addr: f.addr, pids: map[string]int{"broker": broker, "proxy": f.pids["gateway"], "controller": f.pids["controller"]}, fleet: f, place: "a"},
	}, nil
}

// warmBroker has a broker's code compiled before anything counts: in its first seconds a JVM takes
// several times the CPU for the same work, and whoever came first would pay for it.
func (e *env) warmBroker(ctx context.Context, addr string) error {
	p := &peer{name: direct, addr: addr}
	topic, drop, err := e.topic(ctx, p, partitions)
	if err != nil {
		return err
	}
	defer drop()
	if err := e.fill(ctx, p, topic, int64(e.opts.pick(1536, 256))*mib); err != nil {
		return err
	}
	plan := consumePlan(topic, 0)
	plan.Addr = addr
	l, err := e.startLoad(ctx, plan)
	if err != nil {
		return err
	}
	defer l.end()
	return pause(ctx, e.opts.warmUp())
}

// Names of peers.
const (
	direct    = "direct"
	forwarder = "forwarder"
	gateway   = "gateway"
	local     = "local"
)

// topic makes a fresh topic, and drop deletes it: each run has its own, so that disks stay bounded and
// no run reads what another left in a cache.
func (e *env) topic(ctx context.Context, p *peer, partitions int32) (name string, drop func(), err error) {
	name = fmt.Sprintf("bench-%s-%d", p.name, e.topics.Add(1))
	if p.fleet != nil {
		if _, err := p.fleet.admin.CreateTopic(ctx, api.TopicCreate{Name: name, Partitions: partitions, Cluster: p.place}); err != nil {
			return "", nil, fmt.Errorf("create topic %s: %w", name, err)
		}
		return name, func() {
			if err := p.fleet.admin.DeleteTopic(context.WithoutCancel(ctx), name); err != nil {
				e.log.Warn("delete topic", "topic", name, "err", err)
			}
		}, nil
	}
	adm, done, err := e.kadm("a")
	if err != nil {
		return "", nil, err
	}
	defer done()
	if _, err := adm.CreateTopic(ctx, partitions, 1, nil, name); err != nil {
		return "", nil, fmt.Errorf("create topic %s: %w", name, err)
	}
	return name, func() {
		adm, done, err := e.kadm("a")
		if err == nil {
			defer done()
			_, err = adm.DeleteTopic(context.WithoutCancel(ctx), name)
		}
		if err != nil {
			e.log.Warn("delete topic", "topic", name, "err", err)
		}
	}, nil
}

// kadm opens an admin client to a Kafka cluster that runs.
func (e *env) kadm(name string) (*kadm.Client, func(), error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(e.clusters[name].Addrs()...))
	if err != nil {
		return nil, nil, err
	}
	return kadm.NewClient(cl), cl.Close, nil
}

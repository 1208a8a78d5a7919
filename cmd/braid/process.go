package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sys/unix"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/fleet"
	"github.com/braidstream/braid/span/kafka"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/tenant/usage"
)

// ready is the JSON line of --ready-file, and what greetings show.
type ready struct {
	PID     int           `json:"pid"`
	Kafka   []string      `json:"kafka"` // first listener of every gateway
	Nodes   []readyNode   `json:"gateways"`
	HTTP    string        `json:"http"`
	Admin   string        `json:"admin"` // URL of the admin API
	Catalog []string      `json:"catalog"`
	Version string        `json:"version"`
	Took    time.Duration `json:"-"`
}

// readyNode is one gateway of the process.
type readyNode struct {
	Node      int32             `json:"node"`
	Listeners map[string]string `json:"listeners"` // name to the address that clients are told
	Bound     map[string]string `json:"bound"`     // name to the address that the socket is bound to
}

// Limits of starting and ending. A process ends within drainLimit and endGrace, whatever hangs (docs/operations.md).
const (
	startLimit = 60 * time.Second
	drainLimit = 20 * time.Second
	endGrace   = 5 * time.Second
)

// process is what one `braid up`, `braid gateway` or `braid controller` runs.
// Its parts are ended in the reverse order of their start.
type process struct {
	cfg      upConfig
	settings settings
	logger   *slog.Logger
	metrics  *prometheus.Registry

	id       string
	catalog  *catalog.Catalog
	watcher  *catalog.Watcher
	stores   *fleet.Fleet
	admin    *controller.Admin
	engines  map[string]span.Store
	share    descriptors
	internal string // address of the internal listener, "" if none

	sasl  *sasl.Server
	audit *auditor // nil: nothing is written down
	// started: nodes are complete, for those who are not the starting goroutine.
	started atomic.Bool
	info    ready
	bound   [][]gateway.ListenerConfig // by gateway
	http    net.Listener               // of the admin API
	nodes   []*node
	ends    []func(context.Context) error
	// failed gets the reason when a part ends that the process cannot go on without.
	failed chan error
}

// onEnd registers what ends a part.
func (p *process) onEnd(f func(context.Context) error) { p.ends = append(p.ends, f) }

// collectAt is by how many percent the heap grows between two collections. Most of it is large buffers that are used
// again, which the collector need not look into: to run more often than by Go's default of 100 costs little time
// and saves a quarter of the memory.
const collectAt = 60

// boundHeap sets that, unless the environment says what is wanted (see package runtime).
func boundHeap(getenv func(string) string) {
	if getenv("GOGC") == "" && getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(collectAt)
	}
}

// runProcess starts a process, tells that it is ready, and ends it when ctx does.
func runProcess(ctx context.Context, e *env, cfg upConfig, greet func(io.Writer, ready) error) error {
	began := time.Now()
	boundHeap(os.Getenv)
	s, err := readSettings(cfg.Set)
	if err != nil {
		return err
	}
	logger, err := newLogger(e.err, cfg.LogLevel)
	if err != nil {
		return err
	}
	p := &process{cfg: cfg, settings: s, logger: logger, metrics: prometheus.NewRegistry(),
		engines: map[string]span.Store{}, failed: make(chan error, 1)}
	p.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	startCtx, cancel := context.WithTimeout(ctx, startLimit)
	err = p.start(startCtx, e.streams)
	cancel()
	if err == nil {
		p.info.Took = time.Since(began)
		err = p.announce(e, greet)
	}
	if err == nil {
		select {
		case <-ctx.Done():
			logger.Info("draining")
		case err = <-p.failed:
		}
	}
	if errors.Is(err, catalog.ErrEnded) {
		// Nothing can be given back or handed over, and its part would not end: as after kill -9, the next start does.
		return err
	}
	return errors.Join(err, p.endInTime(context.WithoutCancel(ctx)))
}

func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("unknown log level %q: debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// announce writes the ready file and the greeting.
func (p *process) announce(e *env, greet func(io.Writer, ready) error) error {
	if p.cfg.ReadyFile != "" {
		line, err := json.Marshal(p.info)
		if err != nil {
			return err
		}
		// Whoever polls for the file must find it whole.
		tmp := p.cfg.ReadyFile + ".tmp"
		if err := os.WriteFile(tmp, append(line, '\n'), 0o644); err != nil {
			return fmt.Errorf("ready file: %w", err)
		}
		if err := os.Rename(tmp, p.cfg.ReadyFile); err != nil {
			return fmt.Errorf("ready file: %w", err)
		}
	}
	return e.print(p.info, func(w io.Writer) error { return greet(w, p.info) })
}

// endInTime ends the process's parts, and gives up on one that does not end although its time is over: whatever
// it waits for, the process ends.
func (p *process) endInTime(ctx context.Context) error {
	if p.catalog != nil {
		p.catalog.Leave()
	}
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.end(ctx) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(endGrace)
	defer late.Stop()
	select {
	case err := <-ended:
		return err
	case <-late.C:
		return fmt.Errorf("a part of the process did not end within %s: it is given up; nothing acknowledged is lost by that", drainLimit+endGrace)
	}
}

// givenBack is what becomes of a session that ends. Without the catalog it ends with its lease, by itself: the
// process has drained all the same.
func (p *process) givenBack(close func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := close(ctx)
		if errors.Is(err, catalog.ErrUnavailable) {
			p.logger.Info("the catalog does not answer: what is registered there ends with its lease", "err", err)
			return nil
		}
		return err
	}
}

// end stops everything that was started, last first.
func (p *process) end(ctx context.Context) error {
	var errs []error
	for i := len(p.ends) - 1; i >= 0; i-- {
		if err := p.ends[i](ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (p *process) start(ctx context.Context, out streams) error {
	p.info = ready{PID: os.Getpid(), Version: version, Kafka: []string{}, Nodes: []readyNode{}}
	if err := p.openDataDir(); err != nil {
		return err
	}
	if err := p.limitDescriptors(); err != nil {
		return err
	}
	// Before anything runs: a process that cannot have its ports must not lead, or hold up others, meanwhile.
	if err := p.tryPorts(ctx); err != nil {
		return err
	}
	if err := p.startAudit(out); err != nil {
		return err
	}
	if err := p.openCatalog(ctx); err != nil {
		return err
	}
	if err := p.openEngines(ctx); err != nil {
		return err
	}
	if err := p.openFleet(ctx); err != nil {
		return err
	}
	if err := p.bindAll(ctx); err != nil {
		return err
	}
	if p.cfg.Controller && !controlledElsewhere() {
		if err := p.startController(ctx); err != nil {
			return err
		}
	}
	if err := p.startSASL(ctx); err != nil {
		return err
	}
	for i := range p.cfg.Gateways {
		if err := p.startNode(ctx, i); err != nil {
			return err
		}
	}
	p.drainAudit()
	p.started.Store(true)
	if err := p.startConsole(); err != nil {
		return err
	}
	return p.waitReady(ctx)
}

func (p *process) openCatalog(ctx context.Context) error {
	endpoints := p.cfg.CatalogEndpoints
	if len(endpoints) == 0 {
		embedded, err := catalog.StartEmbedded(ctx, catalog.EmbeddedConfig{
			Dir: filepath.Join(p.cfg.DataDir, "catalog"), ListenClient: p.cfg.CatalogListen, Logger: p.logger})
		if err != nil {
			return portTaken(err, "--catalog-listen")
		}
		p.onEnd(func(context.Context) error { return embedded.Close() })
		go func() {
			if err := <-embedded.Err(); err != nil {
				if !errors.Is(err, catalog.ErrEnded) {
					err = fmt.Errorf("embedded catalog ended: %w", err)
				}
				p.fail(err)
			}
		}()
		endpoints = embedded.Endpoints()
	}
	p.info.Catalog = endpoints
	cat, err := catalog.Connect(ctx, catalog.Config{Endpoints: endpoints, Lenient: p.lenient(), Logger: p.logger})
	if errors.Is(err, catalog.ErrUnavailable) && len(p.cfg.CatalogEndpoints) > 0 {
		return fmt.Errorf("%w (is it running, and reachable from here? --catalog-endpoints takes its URLs; braid up prints that of its own, see --catalog-listen)", err)
	}
	if err != nil {
		return err
	}
	p.catalog = cat
	p.onEnd(func(context.Context) error { return cat.Close() })
	if len(p.cfg.CatalogEndpoints) > 0 {
		return nil // a catalog elsewhere cannot know that the directory was not copied to another machine
	}
	// This directory's catalog knows this directory's process alone by its id, and whoever had the locks of both
	// before is dead. Its leases would hold up controller, shards and gateways until they run out.
	ended, err := cat.EndFormer(ctx, p.id)
	if err == nil && ended > 0 {
		p.logger.Info("the former run of this process did not end by itself: its leases are ended", "leases", ended)
	}
	return err
}

// portTaken adds which flag chooses another port, where that is what is wrong.
func portTaken(err error, flag string) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w (is another process on that port? %s chooses another)", err, flag)
	}
	return err
}

// fail ends the process with a reason; the first counts.
func (p *process) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// openFleet registers the process, takes its local clusters into the catalog and
// makes the stores of all clusters available.
func (p *process) openFleet(ctx context.Context) error {
	var roles []string
	if p.cfg.Controller {
		roles = append(roles, "controller")
	}
	if p.cfg.Gateways > 0 {
		roles = append(roles, "gateway")
	}
	session, err := p.catalog.RegisterProcess(ctx, catalog.Process{ID: p.id, Internal: p.internal, Roles: roles,
		Version: version, Started: time.Now().UTC()}, p.settings.Lease)
	if err != nil {
		return err
	}
	p.onEnd(p.givenBack(session.Close))
	for _, name := range p.cfg.LocalClusters {
		if err := p.adoptEngine(ctx, name); err != nil {
			return err
		}
	}
	if p.watcher, err = p.catalog.Watch(ctx, catalog.Scope{}); err != nil {
		return err
	}
	p.onEnd(func(context.Context) error { p.watcher.Close(); return nil })
	p.stores, err = fleet.New(fleet.Options{Watcher: p.watcher, Catalog: p.catalog, ProcessID: p.id,
		Local: p.engines, Kafka: kafka.Options{Dial: brokerDial()}, Logger: p.logger})
	if err != nil {
		return err
	}
	p.onEnd(func(context.Context) error { return p.stores.Close() })
	p.admin = controller.NewAdmin(controller.AdminOptions{Catalog: p.catalog, Watcher: p.watcher, Stores: p.stores,
		Dial: p.stores.Dial, Logger: p.logger, MaxTopics: p.settings.MaxTopics, MaxPartitions: p.settings.MaxPartitions})
	p.onEnd(func(context.Context) error { p.admin.Close(); return nil })
	return nil
}

func (p *process) startController(ctx context.Context) error {
	token, err := p.catalog.InternalToken(ctx)
	if err != nil {
		return err
	}
	peers := coordinator.HTTPPeers(token, p.peerOf)
	held := &usage.Holdings{}
	p.metrics.MustRegister(held)
	c := controller.New(controller.Options{Holdings: held, Catalog: p.catalog, Watcher: p.watcher, Stores: p.stores,
		Name: p.id, Damping: p.settings.Detection, Lease: p.settings.Lease, CertifyBytes: p.settings.Certify, Audit: p.audit.log(), Logger: p.logger, Fault: faultHook(),
		Standings: func(ctx context.Context, topics []catalog.ID, shards []int32) map[catalog.ID]catalog.Standing {
			return coordinator.Standings(ctx, coordinator.CatalogDirectory(p.watcher), peers, topics, shards)
		}})
	c.Start()
	p.onEnd(func(context.Context) error { c.Close(); peers.Close(); return nil })
	return nil
}

func (p *process) startConsole() error {
	security, err := p.cfg.admin.security()
	if err != nil {
		return err
	}
	if security.LocalToken, err = p.localToken(security.Demand); err != nil {
		return err
	}
	s, err := console.Start(console.Options{Listener: p.http, Security: security, Admin: p.admin, Rules: p.rules(p.logger), Catalog: p.catalog, Watcher: p.watcher,
		Version: version, Fleet: p.clusterID(), DefaultPartitions: p.settings.Gateway.NumPartitions,
		Warnings: p.warnings(), Ready: p.ready, Gatherer: p.metrics, Audit: p.auditing(), Logger: p.logger})
	if err != nil {
		return err
	}
	p.onEnd(s.Close)
	p.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "braid", Subsystem: "admin", Name: "certificate_refused",
		Help: "1 while the admin API's certificate files cannot be taken as they are, and the former ones serve on."}, func() float64 {
		if s.CertificatesRefused() != "" {
			return 1
		}
		return 0
	}))
	p.info.HTTP, p.info.Admin = s.Addr(), p.cfg.admin.scheme()+"://"+advertisable(s.Addr())
	return nil
}

// auditing is the log as the console takes it: an interface of nothing is nil.
func (p *process) auditing() console.Auditor {
	if p.audit == nil {
		return nil
	}
	return p.audit
}

// lenient tells whether the default tenant, should it be made now, allows everybody what no
// ACL speaks of. Where nobody says, it does if somebody is let in unasked, who could not be
// named in rules else, and nothing asks for an authorizer.
func (p *process) lenient() bool {
	switch {
	case p.settings.Everyone != "":
		return p.settings.Everyone == "true"
	case p.settings.Gateway.Authorizer:
		return false
	}
	for i := range p.cfg.Listeners {
		if p.cfg.Listeners[i].letsIn() {
			return true
		}
	}
	return len(p.cfg.Listeners) == 0
}

// clusterID is what clients of the default tenant are told.
func (p *process) clusterID() string { return p.catalog.ClusterID() }

// warnings name what is open to the network without authentication.
func (p *process) warnings() []string {
	out := p.cfg.admin.warnings()
	for i := range p.cfg.Listeners {
		out = append(out, p.cfg.Listeners[i].warnings()...)
	}
	return out
}

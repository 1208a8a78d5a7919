package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/controller/vote"
	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/tenant/rules"
	"github.com/braidstream/braid/tenant/usage"
)

// node is one gateway of the process with what belongs to it alone: its session,
// its view of the chains, its coordinator shards and its votes.
type node struct {
	id          int32
	session     *catalog.Session
	logs        *chain.Logs
	coordinator *coordinator.Coordinator
	gateway     *gateway.Gateway

	mu         sync.Mutex
	registered catalog.Gateway
}

// update changes what is registered of the gateway. The lock is held over the write: of two the later one stays.
func (n *node) update(ctx context.Context, change func(*catalog.Gateway)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.registered)
	return n.session.Update(ctx, n.registered)
}

// peerOf is where a gateway listens for others' coordinators, "" if it does not.
func (p *process) peerOf(node int32) string {
	if g := p.watcher.Snapshot().Gateway(node); g != nil {
		return g.Peer
	}
	return ""
}

// refused tells the fleet which of the gateway's listeners serve on with former certificates.
func (n *node) refused(ctx context.Context, why map[string]string) error {
	return n.update(ctx, func(g *catalog.Gateway) {
		g.Listeners = slices.Clone(g.Listeners)
		for i := range g.Listeners {
			g.Listeners[i].Refused = why[g.Listeners[i].Name]
		}
	})
}

// startNode starts the process's i-th gateway. It registers before it serves:
// a gateway that loads first may act on chains from before a fence.
func (p *process) startNode(ctx context.Context, i int) error {
	listeners := p.bound[i]
	advertised := make([]catalog.Listener, len(listeners))
	for j, l := range listeners {
		advertised[j] = l.Record(l.Advertise)
	}
	n := &node{}
	var err error
	if n.id, err = p.catalog.NodeID(ctx, listeners[0].Advertise); err != nil {
		return err
	}
	token, err := p.catalog.InternalToken(ctx)
	if err != nil {
		return err
	}
	peer, err := net.Listen("tcp", net.JoinHostPort(bindHost(p.cfg.Listeners), "0"))
	if err != nil {
		return fmt.Errorf("listener for other gateways: %w", err)
	}
	p.closes(peer)
	n.registered = catalog.Gateway{Node: n.id, Process: p.id, Zone: p.cfg.Zone,
		Listeners: advertised, Peer: peer.Addr().String(), Version: version, Started: time.Now().UTC()}
	n.session, err = p.catalog.Register(ctx, n.registered, p.settings.Lease)
	if err != nil {
		return err
	}
	p.onEnd(p.givenBack(n.session.Close))
	// A load that is newer than the registration, now and after each loss of it:
	// chains from before a fence must not be acted on.
	reload := func(ctx context.Context) error {
		_, err := p.watcher.Refresh(ctx)
		return err
	}
	n.session.Reload(reload)
	if err := reload(ctx); err != nil {
		return err
	}
	logger := p.logger.With("node", n.id)
	metrics := prometheus.WrapRegistererWith(prometheus.Labels{"node": fmt.Sprint(n.id)}, p.metrics)
	n.logs = chain.NewLogs(chain.Options{Watcher: p.watcher, Catalog: p.catalog, Stores: p.stores, Node: n.id,
		CacheBytes: p.settings.CacheBytes, HoldBytes: p.settings.HoldBytes, HoldTime: p.settings.HoldTime,
		Alive: n.session.Alive, Lease: n.session.Lease, Logger: logger, Metrics: chain.NewMetrics(metrics)})
	metrics.MustRegister(n.logs)
	p.onEnd(func(context.Context) error { n.logs.Close(); return nil })
	peers := coordinator.HTTPPeers(token, p.peerOf)
	p.onEnd(func(context.Context) error { peers.Close(); return nil })
	n.coordinator, err = coordinator.New(coordinator.Options{Node: n.id,
		Leases:    coordinator.CatalogLeases(p.catalog, n.session),
		Directory: coordinator.CatalogDirectory(p.watcher),
		Logs:      coordinator.ChainLogs(n.logs),
		EnsureTopic: func(ctx context.Context) (catalog.Topic, error) {
			return p.ensureInternal(ctx, coordinator.TopicName, coordinator.DefaultShards, coordinator.TopicConfig())
		},
		Participants: coordinator.ChainParticipants(n.logs, clusterTransactions),
		Peers:        peers,
		Fleet:        p.catalog.Fleet(),
		Report:       p.catalog.PutTorn, Fault: faultHook(),
		MayHaveGroup: func(tenant string, here int64) bool {
			return gateway.MayHaveGroup(p.watcher.Snapshot(), tenant, n.id, here, p.settings.MaxGroups)
		},
		MostHeld: func(tenant string, config int64) int64 {
			if t := p.watcher.Snapshot().Tenant(tenant); t != nil && t.Limits.GroupBytes > 0 {
				return t.Limits.GroupBytes
			}
			return config
		},
		Config: p.settings.Coordinator, Logger: logger, Metrics: metrics})
	if err != nil {
		return err
	}
	server := n.coordinator.ServePeers(peer, token, p.auditRoutes()...)
	p.onEnd(func(context.Context) error { return server.Close() })
	if err := n.coordinator.Start(); err != nil {
		return err
	}
	p.onEnd(n.coordinator.Close)
	voter := vote.Start(p.catalog, p.watcher, n.session, p.stores, logger)
	p.onEnd(func(context.Context) error { voter.Close(); return nil })
	ledger := &usage.Ledger{}
	metrics.MustRegister(ledger)
	p.keepUsage(n.id, ledger, logger)
	cfg := p.settings.Gateway
	cfg.ClusterID = p.clusterID()
	n.gateway, err = gateway.New(gateway.Options{Watcher: p.watcher, Logs: n.logs, Coordinator: n.coordinator,
		Admin: p.admin, Rules: p.rules(logger), Users: p.catalog, SASL: p.sasl, Audit: p.audit.log(), Listeners: listeners, Node: n.id, Zone: p.cfg.Zone, Config: cfg,
		Usage: ledger, Reporter: n.session, Groups: n.coordinator.Groups, Refused: n.refused, Logger: logger, Metrics: metrics})
	if err != nil {
		return err
	}
	if err := n.gateway.Start(); err != nil {
		return err
	}
	p.onEnd(func(ctx context.Context) error {
		// Half of the time for clients to finish; then they are cut off, and what
		// they sent is still finished by the parts below.
		dctx, cancel := context.WithTimeout(ctx, drainLimit/2)
		defer cancel()
		n.sendElsewhere(dctx, p.watcher, logger)
		if err := n.gateway.Drain(dctx); err != nil {
			logger.Info("clients that did not leave are cut off", "err", err)
		}
		return n.gateway.Close()
	})
	shown := readyNode{Node: n.id, Listeners: map[string]string{}, Bound: map[string]string{}}
	for _, l := range listeners {
		shown.Listeners[l.Name] = l.Advertise
		shown.Bound[l.Name] = l.Listener.Addr().String()
	}
	p.info.Kafka = append(p.info.Kafka, listeners[0].Advertise)
	p.info.Nodes = append(p.info.Nodes, shown)
	p.nodes = append(p.nodes, n)
	return nil
}

// rules changes ACLs and quotas in the process's catalog.
func (p *process) rules(logger *slog.Logger) *rules.Store {
	return &rules.Store{Catalog: p.catalog, Watcher: p.watcher, Logger: logger}
}

// keepUsage writes down what a gateway counts, until after it has ended.
func (p *process) keepUsage(node int32, ledger *usage.Ledger, logger *slog.Logger) {
	rec := &usage.Recorder{Store: p.catalog, Writer: fmt.Sprintf("%d-%s", node, catalog.RandomName(10)), Counts: ledger.Counts, Logger: logger}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		rec.Run(ctx, usage.Every, drainLimit/10)
	}()
	p.onEnd(func(context.Context) error {
		stop()
		<-done
		return nil
	})
}

// sendElsewhere has the other gateways take over before this one's connections
// end: clients are no longer told of it, and its coordinator shards are theirs.
// A gateway that cannot say so leaves all the same; its lease tells the others later.
func (n *node) sendElsewhere(ctx context.Context, w *catalog.Watcher, logger *slog.Logger) {
	err := n.update(ctx, func(g *catalog.Gateway) { g.Draining = true })
	if err == nil {
		_, err = w.Refresh(ctx)
	}
	if err != nil {
		logger.Info("the other gateways are not told that this one leaves", "err", err)
	}
	if err := n.coordinator.Close(ctx); err != nil {
		logger.Info("coordinator shards were not handed over", "err", err)
	}
}

// clusterTransactions is the timeout that is asked for the transactions on Kafka
// clusters: the default of what they allow.
const clusterTransactions = 15 * time.Minute

// bindAll opens the sockets of all gateways and of the admin API. From then on clients are connected, and wait for
// an answer: so it comes late in a start.
func (p *process) bindAll(ctx context.Context) error {
	for i := range p.cfg.Gateways {
		listeners, err := p.bind(ctx, i)
		if err != nil {
			return err
		}
		p.bound = append(p.bound, listeners)
	}
	ln, err := p.listenAdmin(ctx)
	if err != nil {
		return err
	}
	p.http = ln
	p.closes(ln)
	return nil
}

// tryPorts tells, before anything runs, which port bindAll would not get.
func (p *process) tryPorts(ctx context.Context) error {
	for i := range p.cfg.Gateways {
		for _, l := range p.cfg.Listeners {
			ln, _, err := listen(ctx, l, i)
			if err != nil {
				return err
			}
			if err := ln.Close(); err != nil {
				return err
			}
		}
	}
	ln, err := p.listenAdmin(ctx)
	if err != nil {
		return err
	}
	return ln.Close()
}

func (p *process) listenAdmin(ctx context.Context) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", p.cfg.admin.Bind)
	if err != nil {
		return nil, portTaken(fmt.Errorf("admin API: %w", err), "--http")
	}
	return ln, nil
}

// listen opens the socket of a listener of the i-th gateway, and returns the address that it was told.
func listen(ctx context.Context, l listener, i int) (net.Listener, string, error) {
	addr, err := shift(l.Bind, i)
	if err != nil {
		return nil, "", err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, "", fmt.Errorf("listener %s: %w (is another process on that port? --listen chooses another)", l.Name, err)
	}
	return ln, addr, nil
}

// closes has a socket closed at the end, whether somebody serves it by then, and closes it, or not.
func (p *process) closes(ln net.Listener) {
	p.onEnd(func(context.Context) error {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
}

// bind opens the sockets of the i-th gateway: the listeners' ports shifted by i.
func (p *process) bind(ctx context.Context, i int) ([]gateway.ListenerConfig, error) {
	var out []gateway.ListenerConfig
	for _, l := range p.cfg.Listeners {
		ln, addr, err := listen(ctx, l, i)
		if err != nil {
			return nil, err
		}
		p.closes(ln)
		advertise := l.Advertise
		if advertise == "" {
			advertise = advertisable(ln.Addr().String())
		} else if advertise, err = shift(advertise, i); err != nil {
			return nil, err
		}
		zone := l.Zone
		if zone == "" {
			zone = p.cfg.Zone
		}
		tokens := p.settings.Tokens.Issuer != ""
		security, err := l.gateway(&tokens)
		if err != nil {
			return nil, err
		}
		out = append(out, gateway.ListenerConfig{Name: l.Name, Bind: addr, Listener: ln, Advertise: advertise, Zone: zone, Security: security})
	}
	return out, nil
}

// advertisable is how a bound address is reached from this machine.
func advertisable(bound string) string {
	host, port, err := net.SplitHostPort(bound)
	if err != nil {
		return bound
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// ensureInternal returns an internal topic and creates it if there is none; of
// several processes that try, one creates it.
func (p *process) ensureInternal(ctx context.Context, name string, partitions int32, config map[string]string) (catalog.Topic, error) {
	t, err := p.catalog.TopicNamed(ctx, catalog.SystemTenant, name)
	if err == nil || !errors.Is(err, catalog.ErrNotFound) {
		return t, err
	}
	t, err = p.admin.CreateTopic(ctx, gateway.TopicSpec{Tenant: catalog.SystemTenant, Name: name, Partitions: partitions,
		ReplicationFactor: -1, Config: config})
	if err != nil {
		// Another process may have been quicker.
		if found, ferr := p.catalog.TopicNamed(ctx, catalog.SystemTenant, name); ferr == nil {
			return found, nil
		}
	}
	return t, err
}

// ready tells whether the process answers its clients, and if not, in a line for each, what is missing.
func (p *process) ready() error {
	var missing []error
	for _, n := range p.nodes {
		if p.watcher.Snapshot().Gateway(n.id) == nil {
			missing = append(missing, fmt.Errorf("gateway %d is not registered in the catalog: clients are not told of it (it registers by itself when the catalog at %s answers)",
				n.id, strings.Join(p.info.Catalog, ",")))
		}
	}
	return errors.Join(missing...)
}

// waitReady returns when every gateway of the process is seen in the catalog.
func (p *process) waitReady(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	cancel := p.watcher.OnChange(func(catalog.Change) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer cancel()
	for {
		err := p.ready()
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/remote"
)

// openEngines opens the local clusters and serves them to other processes.
func (p *process) openEngines(ctx context.Context) error {
	for _, name := range p.cfg.LocalClusters {
		dir, err := filepath.Abs(filepath.Join(p.cfg.DataDir, "clusters", name))
		if err != nil {
			return err
		}
		known, err := p.recorded(ctx, name)
		if err != nil {
			return err
		}
		engine, err := local.Open(local.Options{Dir: dir, Name: name, ID: known.ClusterID, Fleet: p.catalog.Fleet(), MemoryBudget: p.settings.Memory, OpenFiles: p.share.segments,
			Logger: p.logger.With("cluster", name)})
		if err != nil {
			return fmt.Errorf("local cluster %s: %w", name, err)
		}
		p.engines[name] = engine
		p.metrics.MustRegister(newEngineMetrics(name, engine))
		p.onEnd(func(context.Context) error { return engine.Close() })
	}
	if len(p.engines) == 0 {
		return nil
	}
	token, err := p.catalog.InternalToken(ctx)
	if err != nil {
		return err
	}
	// Loopback unless the process serves other hosts anyway: the first listener's
	// advertised host is how they reach it.
	ln, err := net.Listen("tcp", net.JoinHostPort(bindHost(p.cfg.Listeners), "0"))
	if err != nil {
		return fmt.Errorf("internal listener: %w", err)
	}
	server := remote.Serve(ln, token, func(name string) (span.Store, error) {
		if st, ok := p.engines[name]; ok {
			return st, nil
		}
		return nil, fmt.Errorf("local cluster %q: %w", name, span.ErrUnavailable)
	})
	p.onEnd(func(context.Context) error { return server.Close() })
	p.internal = ln.Addr().String()
	return nil
}

// bindHost is the host of the first listener, as bound.
func bindHost(listeners []listener) string {
	if len(listeners) > 0 {
		if host, _, err := net.SplitHostPort(listeners[0].Bind); err == nil && host != "" {
			if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
				return host
			}
		}
	}
	return "127.0.0.1"
}

// recorded is what the catalog knows of a local cluster of this process; a fresh record, which is not there yet,
// if that is nothing.
func (p *process) recorded(ctx context.Context, name string) (catalog.Cluster, error) {
	c, err := p.catalog.Cluster(ctx, name)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return catalog.Cluster{Name: name, Kind: catalog.KindLocal, State: catalog.ClusterActive, Added: time.Now().UTC()}, nil
	case err != nil:
		return c, err
	case c.Kind != catalog.KindLocal || c.Owner != p.id && c.Owner != "":
		return c, fmt.Errorf("cluster %s is in the catalog already and belongs to another process (%s): choose other names with --local-clusters", name, c.Owner)
	}
	return c, nil
}

// adoptEngine writes a local cluster's record, or brings its addresses up to date.
func (p *process) adoptEngine(ctx context.Context, name string) error {
	dir, err := filepath.Abs(filepath.Join(p.cfg.DataDir, "clusters", name))
	if err != nil {
		return err
	}
	c, err := p.recorded(ctx, name)
	if err != nil {
		return err
	}
	h, err := p.engines[name].Health(ctx)
	if err != nil {
		return err
	}
	c.Owner, c.Dir, c.Internal, c.CanSeal, c.ClusterID, c.Zone = p.id, dir, p.internal, true, h.ClusterID, p.cfg.Zone
	_, err = p.catalog.PutCluster(ctx, c, catalog.Fence{})
	return err
}

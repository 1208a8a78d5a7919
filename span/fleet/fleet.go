// Package fleet opens the stores of all clusters in the catalog: Kafka clusters
// over their protocol, local clusters of this process directly, those of another
// process over its internal listener. A store is opened when it is first asked
// for and follows the catalog: a cluster whose addresses or options change gets
// a new store, one that is removed is closed.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
	"github.com/braidstream/braid/span/remote"
)

// linger is how long a store that was replaced stays open, so that appends under
// way end by themselves.
const linger = 45 * time.Second

// Options configure a [Fleet]. All but Logger are required.
type Options struct {
	Watcher *catalog.Watcher
	Catalog *catalog.Catalog
	// ProcessID tells which local clusters are this process's own.
	ProcessID string
	// Local holds this process's own local clusters; their owner closes them.
	Local  map[string]span.Store
	Logger *slog.Logger
}

// Fleet is the stores of all clusters. All methods may be called concurrently.
type Fleet struct {
	opts    Options
	token   string // of internal listeners
	unwatch func()
	lingers sync.WaitGroup
	stopped chan struct{}

	mu     sync.Mutex
	open   map[string]*opened
	closed bool
}

// opened is the store of one cluster as the catalog described it.
type opened struct {
	store   span.Store
	cluster catalog.Cluster
	own     bool // a local cluster of this process: not ours to close
}

// New makes a fleet and reads the secret of internal listeners from the catalog.
func New(o Options) (*Fleet, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	token, err := o.Catalog.InternalToken(ctx)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	f := &Fleet{opts: o, token: token, open: map[string]*opened{}, stopped: make(chan struct{})}
	f.unwatch = o.Watcher.OnChange(func(c catalog.Change) {
		if len(c.Clusters) > 0 {
			f.follow(c.New, c.Clusters)
		}
	})
	return f, nil
}

// Store returns the store of a cluster. It does no I/O.
func (f *Fleet) Store(cluster string) (span.Store, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("cluster %s: %w: the process is ending", cluster, span.ErrUnavailable)
	}
	if o := f.open[cluster]; o != nil {
		return o.store, nil
	}
	c := f.opts.Watcher.Snapshot().Cluster(cluster)
	if c == nil {
		return nil, fmt.Errorf("cluster %s is not in the catalog: %w", cluster, span.ErrUnavailable)
	}
	o, err := f.dial(*c)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", cluster, err)
	}
	f.open[cluster] = o
	return o.store, nil
}

// Dial opens a store of its own for a cluster that need not be in the catalog. The
// caller closes it.
func (f *Fleet) Dial(_ context.Context, c catalog.Cluster) (span.Store, error) {
	o, err := f.dial(c)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	if o.own {
		return nil, fmt.Errorf("cluster %s is a local cluster of this process", c.Name)
	}
	return o.store, nil
}

// dial makes the store; connections come later.
func (f *Fleet) dial(c catalog.Cluster) (*opened, error) {
	switch {
	case c.Kind == catalog.KindKafka:
		st, err := kafka.Open(kafka.Options{Name: c.Name, Bootstrap: c.Bootstrap, Config: c.Config, ClusterID: c.ClusterID,
			ProbeTopic: "braid." + f.opts.Catalog.Fleet() + ".probe", Logger: f.opts.Logger.With("cluster", c.Name)})
		if err != nil {
			return nil, err
		}
		return &opened{store: st, cluster: c}, nil
	case c.Kind == catalog.KindLocal && c.Owner == f.opts.ProcessID:
		st := f.opts.Local[c.Name]
		if st == nil {
			return nil, fmt.Errorf("this process owned it and does not run it now (--local-clusters): %w", span.ErrUnavailable)
		}
		return &opened{store: st, cluster: c, own: true}, nil
	case c.Kind == catalog.KindLocal && c.Internal != "":
		return &opened{store: remote.Dial(c.Internal, f.token, c.Name), cluster: c}, nil
	case c.Kind == catalog.KindLocal:
		return nil, fmt.Errorf("its process has no internal listener: %w", span.ErrUnavailable)
	default:
		return nil, fmt.Errorf("unknown kind %q: a newer release may know it", c.Kind)
	}
}

// follow forgets the stores whose clusters have changed or gone; the next caller
// opens anew.
func (f *Fleet) follow(s *catalog.Snapshot, clusters []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range clusters {
		o := f.open[name]
		if o == nil {
			continue
		}
		c := s.Cluster(name)
		if c != nil && sameEndpoint(o.cluster, *c) {
			continue
		}
		delete(f.open, name)
		if !o.own && !f.closed {
			f.lingers.Go(func() { f.retire(o.store) })
		}
	}
}

// sameEndpoint tells whether two descriptions of a cluster are reached alike.
func sameEndpoint(a, b catalog.Cluster) bool {
	return a.Kind == b.Kind && slices.Equal(a.Bootstrap, b.Bootstrap) && maps.Equal(a.Config, b.Config) &&
		a.ClusterID == b.ClusterID && a.Owner == b.Owner && a.Internal == b.Internal
}

// retire closes a store after its appends had time to end.
func (f *Fleet) retire(st span.Store) {
	t := time.NewTimer(linger)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.stopped:
	}
	if err := st.Close(); err != nil {
		f.opts.Logger.Warn("close of a replaced store", "cluster", st.Name(), "err", err)
	}
}

// Close closes all stores but the local ones of this process.
func (f *Fleet) Close() error {
	f.unwatch()
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	open := f.open
	f.open = map[string]*opened{}
	f.mu.Unlock()
	close(f.stopped)
	var errs []error
	for _, o := range open {
		if !o.own {
			errs = append(errs, o.store.Close())
		}
	}
	f.lingers.Wait()
	return errors.Join(errs...)
}

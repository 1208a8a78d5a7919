// Package fleet opens the stores of the catalog's clusters on demand and follows
// what the catalog says of them.
package fleet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
	"github.com/braidstream/braid/span/remote"
)

// drainTime bounds how long a store that was replaced waits for what is under way.
const drainTime = 30 * time.Second

var (
	// ErrUnknownCluster: the catalog has no cluster of that name.
	ErrUnknownCluster = errors.New("unknown cluster")
	// ErrNoOwner: the process that holds a local cluster's directory is not there.
	ErrNoOwner = errors.New("the owner of the local cluster is not there")
	errClosed  = errors.New("fleet is closed")
)

// Options configure [New]. Watcher is needed.
type Options struct {
	// Watcher tells of clusters and processes. The fleet does not close it.
	Watcher *catalog.Watcher
	// Catalog gives the token of internal listeners; only needed where local
	// clusters belong to other processes.
	Catalog *catalog.Catalog
	// ProcessID is this process's id in the catalog.
	ProcessID string
	// Local holds the engines of this process's own local clusters by name. The
	// fleet does not close them.
	Local map[string]span.Store
	// Kafka holds limits and time limits of stores on Kafka; what names a cluster is filled in.
	Kafka  kafka.Options
	Logger *slog.Logger
}

// Fleet finds stores by the names of their clusters. It implements chain.Stores.
type Fleet struct {
	o      Options
	cancel func() // of the watch
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	stores map[string]*opened
	token  string
	closed bool
}

// opened is a store with what it was opened from.
type opened struct {
	store span.Store
	key   [sha256.Size]byte
}

// New makes a fleet. It opens no store yet; it asks the catalog for the internal token.
func New(o Options) (*Fleet, error) {
	if o.Watcher == nil {
		return nil, errors.New("a fleet needs a watcher of the catalog")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{o: o, stores: map[string]*opened{}}
	if o.Catalog != nil {
		// Once and now: Store is called on the path of records, and does no I/O.
		ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
		defer cancel()
		var err error
		if f.token, err = o.Catalog.InternalToken(ctx); err != nil {
			return nil, fmt.Errorf("internal token: %w", err)
		}
	}
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.cancel = o.Watcher.OnChange(f.changed)
	return f, nil
}

// Store returns the store of a cluster of the catalog, the same one until the
// cluster's addresses or options change. It does no I/O. The fleet closes it.
func (f *Fleet) Store(cluster string) (span.Store, error) {
	if st, ok := f.o.Local[cluster]; ok {
		return st, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("cluster %s: %w: %w", cluster, span.ErrUnavailable, errClosed)
	}
	snapshot := f.o.Watcher.Snapshot()
	c := snapshot.Cluster(cluster)
	if c == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownCluster, cluster)
	}
	if st := f.stores[cluster]; st != nil {
		return st.store, nil
	}
	st, err := f.open(c, internalAddr(snapshot, c))
	if err != nil {
		return nil, err
	}
	f.stores[cluster] = &opened{store: st, key: keyOf(snapshot, c)}
	return st, nil
}

// Own returns the engine of a local cluster that this process holds: what it
// serves to others on its internal listener.
func (f *Fleet) Own(cluster string) (span.Store, error) {
	if st, ok := f.o.Local[cluster]; ok {
		return st, nil
	}
	return nil, fmt.Errorf("%w: %s is not held by this process", ErrUnknownCluster, cluster)
}

// Dial opens a store for a cluster that need not be in the catalog. The caller closes it.
func (f *Fleet) Dial(_ context.Context, c catalog.Cluster) (span.Store, error) {
	if st, ok := f.o.Local[c.Name]; ok && c.Kind == catalog.KindLocal {
		return borrowed{st}, nil
	}
	if c.Kind == catalog.KindKafka {
		// Of a cluster that is in the catalog, options that do not hold make it unavailable: a secret's file may come back.
		if err := kafka.CheckConfig(c.Config); err != nil {
			return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
		}
	}
	return f.open(&c, internalAddr(f.o.Watcher.Snapshot(), &c))
}

// awayAfter is how long the first appends wait for a cluster that is away, and what is not
// known to be away waits in vain: as long as a client without trouble notices little, and longer
// than a connection takes to be made anew.
const awayAfter = 300 * time.Millisecond

// borrowed is a store whose Close is somebody else's.
type borrowed struct{ span.Store }

func (borrowed) Close() error { return nil }

func (f *Fleet) open(c *catalog.Cluster, internal string) (span.Store, error) {
	switch c.Kind {
	case catalog.KindKafka:
		o := f.o.Kafka
		o.Name, o.Bootstrap, o.ClusterID = c.Name, slices.Clone(c.Bootstrap), c.ClusterID
		o.Config = maps.Clone(c.Config)
		o.Logger = f.o.Logger
		if o.AwayAfter == 0 {
			o.AwayAfter = awayAfter
		}
		st, err := kafka.Open(o)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", span.ErrUnavailable, err)
		}
		return st, nil
	case catalog.KindLocal:
		if c.Owner == f.o.ProcessID && c.Owner != "" {
			return nil, fmt.Errorf("cluster %s: %w: its directory is this process's own and is not open", c.Name, span.ErrUnavailable)
		}
		if internal == "" {
			return nil, fmt.Errorf("cluster %s: %w: %w", c.Name, span.ErrUnavailable, ErrNoOwner)
		}
		if f.token == "" {
			return nil, fmt.Errorf("cluster %s: %w: no catalog to have the internal token from", c.Name, span.ErrUnavailable)
		}
		return remote.Dial(internal, f.token, c.Name, remote.AwayAfter(awayAfter)), nil
	}
	return nil, fmt.Errorf("cluster %s: unknown kind %q", c.Name, c.Kind)
}

// internalAddr is where the owner of a local cluster listens: as its process says
// now, else as the cluster was added with.
func internalAddr(s *catalog.Snapshot, c *catalog.Cluster) string {
	if c.Kind != catalog.KindLocal {
		return ""
	}
	if p := s.Process(c.Owner); p != nil && p.Internal != "" {
		return p.Internal
	}
	return c.Internal
}

// keyOf is equal for what one store can serve.
func keyOf(s *catalog.Snapshot, c *catalog.Cluster) [sha256.Size]byte {
	h := sha256.New()
	put := func(parts ...string) {
		for _, p := range parts {
			h.Write([]byte(strconv.Itoa(len(p)) + ":" + p)) // a hash never fails
		}
	}
	put(string(c.Kind), c.ClusterID, c.Owner, internalAddr(s, c))
	put(c.Bootstrap...)
	put("config")
	for _, k := range slices.Sorted(maps.Keys(c.Config)) {
		put(k, c.Config[k])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// loadTimeout bounds the question for the token.
const loadTimeout = 5 * time.Second

// changed follows the catalog. It runs in the watcher's goroutine and only marks:
// a store that no longer fits is drained elsewhere, and the next Store opens another.
func (f *Fleet) changed(ch catalog.Change) {
	if len(ch.Clusters) == 0 && !ch.Process {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	for name, o := range f.stores {
		c := ch.New.Cluster(name)
		if c != nil && (keyOf(ch.New, c) == o.key || c.Kind == catalog.KindLocal && internalAddr(ch.New, c) == "") {
			// An owner whose lease has run out keeps its connection: it may be well.
			continue
		}
		delete(f.stores, name)
		f.o.Logger.Info("cluster changed, its store is replaced", "cluster", name, "removed", c == nil)
		f.wg.Go(func() { f.retire(name, o.store) })
	}
}

// drainer is a store that can end what is under way before it closes.
type drainer interface {
	Drain(ctx context.Context) error
}

func (f *Fleet) retire(name string, st span.Store) {
	var err error
	if d, ok := st.(drainer); ok {
		ctx, cancel := context.WithTimeout(f.ctx, drainTime)
		defer cancel()
		err = d.Drain(ctx)
	} else {
		err = st.Close()
	}
	if err != nil {
		f.o.Logger.Warn("close of a store that was replaced", "cluster", name, "error", err)
	}
}

// Close closes all stores that the fleet has opened.
func (f *Fleet) Close() error {
	f.cancel()
	f.mu.Lock()
	stores := f.stores
	f.stores, f.closed = map[string]*opened{}, true
	f.mu.Unlock()
	f.stop()
	var errs []error
	for _, o := range stores {
		errs = append(errs, o.store.Close())
	}
	f.wg.Wait()
	return errors.Join(errs...)
}

// Stats are the counters of all stores on Kafka that are open, by cluster.
func (f *Fleet) Stats() map[string]kafka.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string]kafka.Stats, len(f.stores))
	for name, o := range f.stores {
		if st, ok := o.store.(*kafka.Store); ok {
			out[name] = st.Stats()
		}
	}
	return out
}

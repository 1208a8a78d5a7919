// Package vote is a gateway's opinion of the clusters that it uses: it asks each
// of them once a second how it is and tells the catalog when its opinion changes.
// The leading controller counts the votes; no single view decides (package controller).
package vote

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// Defaults of a voter.
const (
	interval = time.Second
	// patience is how long one health check may take; a cluster that hangs is down.
	patience = 2 * time.Second
	// recovered is how many checks in a row must pass before a cluster is up again.
	recovered = 3
	// parallel bounds checks under way.
	parallel = 16
)

// Voter votes for one gateway until it is closed.
type Voter struct {
	catalog *catalog.Catalog
	watcher *catalog.Watcher
	session *catalog.Session
	stores  chain.Stores
	logger  *slog.Logger
	stop    context.CancelFunc
	done    sync.WaitGroup
	slots   chan struct{}

	mu       sync.Mutex
	opinions map[string]*opinion
}

// opinion of one cluster. Guarded by Voter.mu.
type opinion struct {
	checking bool
	up       bool
	told     bool  // the vote of this opinion is in the catalog
	lease    int64 // under which it was told: a vote dies with its lease
	since    time.Time
	passed   int // checks passed in a row
	detail   string
}

// Start begins to vote under the gateway's session.
func Start(cat *catalog.Catalog, w *catalog.Watcher, s *catalog.Session, stores chain.Stores, logger *slog.Logger) *Voter {
	ctx, stop := context.WithCancel(context.Background())
	v := &Voter{catalog: cat, watcher: w, session: s, stores: stores, logger: logger, stop: stop,
		slots: make(chan struct{}, parallel), opinions: map[string]*opinion{}}
	v.done.Go(func() { v.run(ctx) })
	return v
}

// Close ends voting and waits for checks under way.
func (v *Voter) Close() {
	v.stop()
	v.done.Wait()
}

func (v *Voter) run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		for _, c := range v.watcher.Snapshot().Clusters() {
			v.check(ctx, c.Name)
		}
		v.forget()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// check asks a cluster, unless the answer to the last question is still out.
func (v *Voter) check(ctx context.Context, name string) {
	v.mu.Lock()
	o := v.opinions[name]
	if o == nil {
		o = &opinion{since: time.Now()}
		v.opinions[name] = o
	}
	if o.checking {
		v.mu.Unlock()
		return
	}
	o.checking = true
	v.mu.Unlock()
	v.done.Go(func() {
		defer func() {
			v.mu.Lock()
			o.checking = false
			v.mu.Unlock()
		}()
		select {
		case v.slots <- struct{}{}:
			defer func() { <-v.slots }()
		case <-ctx.Done():
			return
		}
		up, detail := v.ask(ctx, name)
		if ctx.Err() != nil {
			return
		}
		if vote, ok := v.form(name, o, up, detail, time.Now()); ok {
			v.tell(ctx, o, vote)
		}
	})
}

func (v *Voter) ask(ctx context.Context, name string) (up bool, detail string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	st, err := v.stores.Store(name)
	if err != nil {
		return false, err.Error()
	}
	h, err := st.Health(ctx)
	if err != nil {
		return false, err.Error()
	}
	return h.Writable, h.Detail
}

// form updates an opinion and returns the vote that the catalog does not have yet.
func (v *Voter) form(name string, o *opinion, up bool, detail string, now time.Time) (catalog.ClusterVote, bool) {
	lease := v.session.Lease()
	v.mu.Lock()
	defer v.mu.Unlock()
	first := !o.told && o.passed == 0 && o.detail == "" && !o.up
	if up {
		o.passed++
	} else {
		o.passed = 0
	}
	next := o.up
	switch {
	case !up:
		next = false
	case first, o.passed >= recovered:
		next = true
	}
	if next != o.up {
		o.up, o.since, o.told = next, now, false
	}
	o.detail = detail
	if o.told && o.lease == lease {
		return catalog.ClusterVote{}, false
	}
	return catalog.ClusterVote{Cluster: name, Node: v.session.Node(), Up: o.up, Since: o.since, Detail: detail}, true
}

func (v *Voter) tell(ctx context.Context, o *opinion, vote catalog.ClusterVote) {
	lease := v.session.Lease()
	if err := v.catalog.PutClusterVote(ctx, v.session, vote); err != nil {
		v.logger.Debug("vote not told; it is told again", "cluster", vote.Cluster, "err", err)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	o.lease = lease
	o.told = o.up == vote.Up
	if !vote.Up {
		v.logger.Warn("cluster is down as seen from here", "cluster", vote.Cluster, "detail", vote.Detail)
	}
}

// forget drops opinions of clusters that are no more.
func (v *Voter) forget() {
	s := v.watcher.Snapshot()
	v.mu.Lock()
	defer v.mu.Unlock()
	for name := range v.opinions {
		if s.Cluster(name) == nil {
			delete(v.opinions, name)
		}
	}
}

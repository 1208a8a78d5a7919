// Package vote is a gateway's opinion of the clusters that it uses: it asks each
// of them twice a second how it is and tells the catalog when its opinion changes.
// The leading controller counts the votes; no single view decides (package controller).
package vote

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// Defaults of a voter.
const (
	interval = 500 * time.Millisecond
	// patience is how long one health check may take.
	patience = 2 * time.Second
	// hanging is how long a cluster must have given no answer at all before it is
	// called down. One that refuses connections is called down at once: a process
	// that is gone answers quickly, one that is only slow, or that we are too busy
	// to hear, does not.
	hanging = 4 * time.Second
	// stalled is how late a check may come back after its time was up before its
	// answer tells more of this process than of the cluster.
	stalled = time.Second
	// recovered is how many checks in a row must pass before a cluster is up again.
	recovered = 3
	// again is for how long a reason stands at least: some change with each check.
	again = 15 * time.Second
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
	known    bool // false until a check told enough
	up       bool
	full     bool
	told     bool      // the vote of this opinion is in the catalog
	lease    int64     // under which it was told: a vote dies with its lease
	reason   string    // the detail that was told last
	at       time.Time // when
	since    time.Time
	silent   time.Time // since when checks ran out of time, zero if the last one did not
	passed   int       // checks passed in a row
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
		began := time.Now()
		a := v.ask(ctx, name)
		now := time.Now()
		if ctx.Err() != nil || now.Sub(began) > patience+stalled {
			return
		}
		v.mu.Lock()
		up, tell := o.form(a, v.session.Lease(), now)
		since := o.since
		v.mu.Unlock()
		if tell {
			v.tell(ctx, o, catalog.ClusterVote{Cluster: name, Node: v.session.Node(), Up: up, Full: a.full, Since: since, Detail: a.detail})
		}
	})
}

// answer is what one check said.
type answer struct {
	up, timeout bool
	full        bool // up, without room: what it holds can be read
	detail      string
}

func (v *Voter) ask(ctx context.Context, name string) answer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	st, err := v.stores.Store(name)
	if err != nil {
		return answer{detail: err.Error()}
	}
	h, err := st.Health(ctx)
	if err != nil {
		timeout := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
		return answer{timeout: timeout, detail: err.Error()}
	}
	if h.Full {
		// Not down: what it holds is read there, and a failover would bring nothing back.
		return answer{up: true, full: true, detail: h.Detail}
	}
	// Brokers that are silent, of a cluster that answers: as slow to be believed.
	return answer{up: h.Writable, timeout: !h.Writable, detail: h.Detail}
}

// form updates the opinion by an answer and returns the vote, and whether the
// catalog does not have it yet under this lease. The caller holds Voter.mu.
func (o *opinion) form(a answer, lease int64, now time.Time) (up, tell bool) {
	o.detail = a.detail
	switch {
	case a.up:
		o.passed, o.silent = o.passed+1, time.Time{}
	case !a.timeout:
		o.passed, o.silent = 0, time.Time{}
	case o.silent.IsZero():
		o.passed, o.silent = 0, now
	default:
		o.passed = 0
	}
	next := o.up
	switch {
	case a.timeout && now.Sub(o.silent) < hanging:
		if !o.known {
			return false, false
		}
	case !a.up:
		next = false
	case !o.known, o.passed >= recovered:
		next = true
	}
	if next != o.up || !o.known {
		o.up, o.since, o.told, o.known = next, now, false, true
	}
	if a.full != o.full {
		o.full, o.told = a.full, false
	}
	if !o.up && !a.up && a.detail != o.reason && now.Sub(o.at) >= again {
		o.told = false // down for another reason than is shown
	}
	if tell = !o.told || o.lease != lease; tell {
		o.reason, o.at = a.detail, now
	}
	return o.up, tell
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
	o.told = o.up == vote.Up && o.full == vote.Full
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

package controller

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// VoterOptions configure a [Voter].
type VoterOptions struct {
	Catalog *catalog.Catalog
	Watcher *catalog.Watcher
	Stores  chain.Stores
	Session *catalog.Session // the gateway's
	// Every is how often a cluster is asked, Timeout how long its answer may take;
	// 0: 500 ms and 1 s.
	Every, Timeout time.Duration
	Logger         *slog.Logger
}

// Voter publishes one gateway's opinion of each cluster: up as long as it
// answers. The controller decides on those of all gateways.
type Voter struct {
	o    VoterOptions
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	votes map[string]catalog.ClusterVote // as published
	lease map[string]int64               // under which
}

// StartVoter begins to vote until Close.
func StartVoter(o VoterOptions) *Voter {
	if o.Every == 0 {
		o.Every = 500 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	ctx, stop := context.WithCancel(context.Background())
	v := &Voter{o: o, stop: stop, done: make(chan struct{}), votes: map[string]catalog.ClusterVote{}, lease: map[string]int64{}}
	go v.run(ctx)
	return v
}

// Close ends the voting; the votes vanish with the session.
func (v *Voter) Close() {
	v.stop()
	<-v.done
}

func (v *Voter) run(ctx context.Context) {
	defer close(v.done)
	tick := time.NewTicker(v.o.Every)
	defer tick.Stop()
	var asking sync.Map // cluster names: one that hangs must not be asked twice
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		for _, c := range v.o.Watcher.Snapshot().Clusters() {
			if _, busy := asking.LoadOrStore(c.Name, true); busy {
				continue
			}
			wg.Go(func() {
				defer asking.Delete(c.Name)
				v.ask(ctx, c.Name)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (v *Voter) ask(ctx context.Context, cluster string) {
	call, cancel := context.WithTimeout(ctx, v.o.Timeout)
	defer cancel()
	began := time.Now()
	err := fmt.Errorf("no answer")
	if st, serr := v.o.Stores.Store(cluster); serr != nil {
		err = serr
	} else {
		// A store that does not honour its context counts as down all the same.
		answer := make(chan error, 1)
		go func() {
			_, herr := st.Health(call)
			answer <- herr
		}()
		select {
		case err = <-answer:
		case <-call.Done():
			err = call.Err()
		}
	}
	if ctx.Err() != nil {
		return
	}
	vote := catalog.ClusterVote{Cluster: cluster, Node: v.o.Session.Node(), Up: err == nil, Since: began.UTC()}
	if err != nil {
		vote.Detail = err.Error()
	}
	lease := v.o.Session.Lease()
	v.mu.Lock()
	had, ok := v.votes[cluster]
	same := ok && had.Up == vote.Up && v.lease[cluster] == lease
	if ok && had.Up == vote.Up {
		vote.Since = had.Since
	}
	v.mu.Unlock()
	if same {
		return
	}
	if err := v.o.Catalog.PutClusterVote(ctx, v.o.Session, vote); err != nil {
		v.o.Logger.Debug("vote was not published", "cluster", cluster, "err", err)
		return // tried again at the next tick
	}
	v.mu.Lock()
	v.votes[cluster], v.lease[cluster] = vote, lease
	v.mu.Unlock()
	if !vote.Up {
		v.o.Logger.Warn("cluster does not answer", "cluster", cluster, "err", vote.Detail)
	}
}

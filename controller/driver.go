package controller

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/controller/extend"
	"github.com/braidstream/braid/span"
)

// driver carries out what package extend decides, under one leadership.
type driver struct {
	cat    *catalog.Catalog
	stores chain.Stores
	fence  catalog.Fence
	fault  func(point string) error
	log    *slog.Logger
	limits limits
	away   *away
	gone   *gone
	grants *grants
	// another gives the cluster that placement chooses for a topic beside some; "" if there is none.
	another func(topic *catalog.Topic, beside []string) string
	// standings is asked where groups stand.
	standings *standings
	sealed    atomic.Int32 // extends that hold producers up at this moment
	losses    atomic.Int64 // extends that have left copies behind that cannot be read
}

// away remembers clusters that did not answer a moment ago, so that a failover of
// thousands of topics does not wait for each of them.
type away struct {
	mu    sync.Mutex
	since map[string]time.Time
}

func (a *away) lately(cluster string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Since(a.since[cluster]) < awayFor
}

func (a *away) note(cluster string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since[cluster] = time.Now()
}

const awayFor = 5 * time.Second

// limits are the times that an extend takes at most.
type limits struct {
	call    time.Duration // one call of a store
	seal    time.Duration // all tries to seal
	linger  time.Duration // waiting for those that are open for long, before anything is held
	settle  time.Duration // waiting for open transactions
	undo    time.Duration // one go at undoing; it is taken up again later
	hold    time.Duration // lossy: how long gateways' words are waited for
	tryLost time.Duration // failover: how long the lost cluster is tried
	groups  time.Duration // how long coordinators are asked where groups stand
	ttl     time.Duration // of gateways' leases
	retries time.Duration // after a failover: how long producers come again with what they have no answer for
	gone    time.Duration // between the two answers that make a physical topic gone
}

func defaultLimits() limits {
	return limits{call: 10 * time.Second, seal: 15 * time.Second, settle: time.Minute, undo: 15 * time.Second,
		hold: 2 * time.Second, groups: time.Second, tryLost: time.Second, ttl: catalog.DefaultTTL, retries: 30 * time.Second}
}

// createPer and createMost let the creation of a physical topic take longer the more partitions it has: each must have a
// leader that takes appends. A thousand took 13 s on a busy cluster.
const (
	createPer  = 50 * time.Millisecond
	createMost = 90 * time.Second
)

// create is how long a physical topic may take to be made.
func (l limits) create(partitions int32) time.Duration {
	return max(l.call, min(l.call+time.Duration(partitions)*createPer, createMost))
}

// outcome of an extend.
type outcome struct {
	extend    catalog.Extend
	committed bool
	refused   string        // why it was undone
	byTarget  bool          // it was the target that refused, before anything was held
	sealTook  time.Duration // from the first call of the seal to the commit
}

// errHandedOn: another controller or operation has the extend.
var errHandedOn = errors.New("extend is no longer ours")

// errStuck: undoing did not get through; it is tried again later.
var errStuck = errors.New("extend cannot be undone yet")

func (d *driver) at(point string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(point)
}

// run is one extend in this controller's hands.
type run struct {
	*driver
	e         catalog.Extend
	obs       extend.Observation
	topic     catalog.Topic
	pages     []catalog.Page
	cancelled func() bool
	tell      func(why string) // what the extend waits for; may be nil
	asked     bool             // the clusters said nothing against a seal
	unmade    bool             // the target did not make the fresh topic, and nothing had been held by then

	before map[string][]chain.ProducerState // states at former seals, by reference
	ends   [][]extend.PhysicalEnd           // by old topic and physical partition
	told   [][][]span.Producer              // the same; nil where the seal did not tell
	words  []catalog.HoldAck                // lossy: what gateways know of the ends
	// reported is what runs of gateways that are over have left of that.
	reported []catalog.AckReport
	silent   []int32                 // lossy: gateways that gave no word
	standing *catalog.Standing       // lossy: where groups stood
	waits    string                  // what a sealed extend waits for, as was written
	alarms   map[int32]catalog.Alarm // repair: by partition
	sealing  time.Time
	// enlisted: those who were on their way into the topic were waited for.
	enlisted bool
	settled  time.Time
	linger   lingering

	alarmList []catalog.Alarm // as of revision alarmsAt; 0: not read
	alarmsAt  int64
}

// begin records a new extend of a topic; it is the caller's to run.
func (d *driver) begin(ctx context.Context, op *catalog.Op, t catalog.Topic, chains []*catalog.Chain, fleet, target string, mode catalog.Mode, room int64) (catalog.Extend, error) {
	if n, limit := longest(chains), configInt(t.Config, ConfigMaxSpans); int64(n) >= limit && mode != catalog.ModeLossy {
		return catalog.Extend{}, refuse(Refused, "", "a chain has reached %d spans (%s=%d)", n, ConfigMaxSpans, limit)
	}
	e := extend.Begin(op.ID, &t, openTopics(chains), target, physicalName(fleet, t.Tenant, t.Name), op.Kind, mode, time.Now().UTC())
	if mode == catalog.ModeLossy {
		// Until the commit it is a fence, which is what gateways stop for.
		e.Mode, e.Room, e.Unreadable = catalog.ModeFence, room, true
	}
	e, err := d.cat.CreateExtend(ctx, e, d.fence)
	if err != nil {
		return e, err
	}
	return e, d.at(FaultBegun)
}

// extend drives an extend to its end: committed or undone. It may be called for
// an extend that another controller left at any step. tell, which may be nil, is
// called with what an extend that has begun to seal waits for.
func (d *driver) extend(ctx context.Context, e catalog.Extend, cancelled func() bool, tell func(why string)) (outcome, error) {
	r := &run{driver: d, e: e, cancelled: cancelled, tell: tell, before: map[string][]chain.ProducerState{}}
	defer func() {
		if !r.sealing.IsZero() {
			d.sealed.Add(-1)
		}
	}()
	for {
		done, err := r.step(ctx)
		switch {
		case done:
			if r.e.Unreadable {
				d.losses.Add(1)
			}
			return r.outcome(), nil
		case err == nil:
		case errors.Is(err, catalog.ErrFenced), ctx.Err() != nil, errors.Is(err, errStuck), errors.Is(err, errHandedOn):
			return r.outcome(), err
		case errors.Is(err, catalog.ErrConflict):
			r.alarmsAt = 0 // it may be a new alarm that was in the way
			if err := r.reread(ctx); err != nil {
				return r.outcome(), err
			}
		case errors.Is(err, catalog.ErrUnavailable):
			d.log.Warn("extend waits for the catalog", "topic", e.Topic.Name, "err", err)
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return r.outcome(), err
			}
			if err := r.reread(ctx); err != nil && !errors.Is(err, catalog.ErrUnavailable) {
				return r.outcome(), err
			}
		default:
			return r.outcome(), err
		}
	}
}

func (r *run) outcome() outcome {
	o := outcome{extend: r.e, refused: r.e.Message}
	if !r.sealing.IsZero() {
		o.sealTook = time.Since(r.sealing)
	}
	o.committed = r.e.Step == catalog.StepCertify
	o.byTarget = r.unmade
	return o
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// width is how many calls to stores and catalog one extend makes at once.
const width = 16

// each calls f for all chains, several at once, and returns the first error
// after all have ended.
func each(ctx context.Context, chains []*catalog.Chain, f func(ctx context.Context, partition int, ch *catalog.Chain) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(width, len(chains)) {
		wg.Go(func() {
			for p := range next {
				if err := f(ctx, p, chains[p]); err != nil {
					cancel(err)
				}
			}
		})
	}
	for p := range chains {
		select {
		case next <- p:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

package controller

import (
	"context"
	"errors"
	"fmt"
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
	sealed atomic.Int32 // extends that hold producers up at this moment
	losses atomic.Int64 // extends that have left copies behind that cannot be read
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
	settle  time.Duration // waiting for open transactions
	undo    time.Duration // one go at undoing; it is taken up again later
	hold    time.Duration // lossy: how long gateways' words are waited for
	tryLost time.Duration // failover: how long the lost cluster is tried
	ttl     time.Duration // of gateways' leases
	retries time.Duration // after a failover: how long producers come again with what they have no answer for
}

func defaultLimits() limits {
	return limits{call: 10 * time.Second, seal: 15 * time.Second, settle: time.Minute, undo: 15 * time.Second,
		hold: 2 * time.Second, tryLost: time.Second, ttl: catalog.DefaultTTL, retries: 30 * time.Second}
}

// outcome of an extend.
type outcome struct {
	extend    catalog.Extend
	committed bool
	refused   string        // why it was undone
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

	before  map[string][]chain.ProducerState // states at former seals, by reference
	ends    [][]extend.PhysicalEnd           // by old topic and physical partition
	told    [][][]span.Producer              // the same; nil where the seal did not tell
	words   []catalog.HoldAck                // lossy: what gateways know of the ends
	silent  []int32                          // lossy: gateways that gave no word
	waits   string                           // what a sealed extend waits for, as was written
	alarms  map[int32]catalog.Alarm          // repair: by partition
	sealing time.Time
	// enlisted: those who were on their way into the topic were waited for.
	enlisted bool
	settled  time.Time

	alarmList []catalog.Alarm // as of revision alarmsAt; 0: not read
	alarmsAt  int64
}

// begin records a new extend of a topic; it is the caller's to run.
func (d *driver) begin(ctx context.Context, op *catalog.Op, t catalog.Topic, chains []*catalog.Chain, fleet, target string, mode catalog.Mode, room int64) (catalog.Extend, error) {
	if n, limit := longest(chains), configInt(t.Config, ConfigMaxSpans); int64(n) >= limit && mode != catalog.ModeLossy {
		return catalog.Extend{}, refuse(Refused, "", "a chain has reached %d spans (%s=%d)", n, ConfigMaxSpans, limit)
	}
	e := extend.Begin(op.ID, &t, openTopics(chains), target, physicalName(fleet, t.Tenant, t.Name), op.Kind, mode, time.Now().UTC())
	if mode == catalog.ModeLossy && op.Kind == catalog.OpFailover {
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
// an extend that another controller left at any step.
func (d *driver) extend(ctx context.Context, e catalog.Extend, cancelled func() bool) (outcome, error) {
	r := &run{driver: d, e: e, cancelled: cancelled, before: map[string][]chain.ProducerState{}}
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

// reread takes the extend as the catalog has it: a write of ours may have landed
// although its answer was lost.
func (r *run) reread(ctx context.Context) error {
	e, err := r.cat.Extend(ctx, r.e.Topic.Tenant, r.e.Topic.ID)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return nil // committed or forgotten: the chains tell
	case err != nil:
		return err
	case e.Op != r.e.Op:
		return errHandedOn
	}
	r.e = e
	return nil
}

// step reads what the catalog says, asks for the next action and does it.
func (r *run) step(ctx context.Context) (done bool, err error) {
	s, err := r.read(ctx)
	if err != nil {
		return false, err
	}
	if r.cancelled != nil && r.cancelled() {
		r.obs.Cancel = true
	}
	if err := r.targetLost(ctx); err != nil {
		return false, err
	}
	switch d := extend.Next(s, r.obs); d.Do {
	case extend.Create:
		return false, r.create(ctx)
	case extend.Record:
		return false, r.record(ctx, d)
	case extend.Settle:
		return false, r.settle(ctx)
	case extend.Seal:
		if err := r.seal(ctx); err != nil || !r.obs.Sealed {
			return false, err
		}
		// Appends wait from here on, so nothing is read again: the commit itself
		// compares the revisions of the topic, its pages, its alarms and the leadership.
		s.Extend = r.e
		if extend.Next(s, r.obs).Do != extend.Commit {
			return false, nil
		}
		return false, r.commit(ctx)
	case extend.Commit:
		return false, r.commit(ctx)
	case extend.Turn:
		return false, r.turn(ctx, d)
	case extend.Drop:
		return false, r.drop(ctx)
	case extend.Forget:
		if err := r.cat.DeleteExtend(ctx, r.e, r.fence); err != nil {
			return false, err
		}
		r.e.Step = catalog.StepUndone
		return true, r.at(FaultUndone)
	default:
		return true, r.finish(ctx)
	}
}

func (r *run) read(ctx context.Context) (extend.State, error) {
	s := extend.State{}
	t, pages, err := r.cat.Chains(ctx, r.e.Topic.Tenant, r.e.Topic.ID)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
	case err != nil:
		return s, err
	default:
		s.Exists, s.Deleting, s.Partitions = true, t.Deleting, t.Partitions
		s.Moved, s.Left = extend.Progress(pages, r.e.New.TopicID)
		// A change of configs does not concern the extend; partitions and deletion do,
		// and are decided on.
		r.e.TopicRevision = t.Revision
	}
	r.topic, r.pages = t, pages
	s.Extend = r.e
	return s, nil
}

func (r *run) record(ctx context.Context, d extend.Decision) error {
	next := r.e
	next.Step = d.Step
	if d.Message != "" {
		next.Message = d.Message
	}
	next, err := r.cat.UpdateExtend(ctx, next, r.fence)
	if err != nil {
		return err
	}
	r.e = next
	switch d.Step {
	case catalog.StepHold:
		return r.at(FaultHolding)
	case catalog.StepSeal:
		return r.at(FaultSealing)
	case catalog.StepUndo:
		r.log.Info("extend is undone", "topic", r.e.Topic.Name, "op", r.e.Op, "reason", r.e.Message)
		return r.at(FaultUndoing)
	}
	return nil
}

// create makes the fresh topic on the target. Whatever the target has against it
// is a reason to refuse: the topic was not touched yet.
func (r *run) create(ctx context.Context) error {
	c, err := r.cat.Cluster(ctx, r.e.Target)
	if err != nil {
		return r.refuse(err, fmt.Sprintf("cluster %s", r.e.Target))
	}
	st, err := r.stores.Store(r.e.Target)
	if err != nil {
		return r.refuse(err, fmt.Sprintf("cluster %s", r.e.Target))
	}
	call, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	hold := holdsTombstones(chainsOf(r.pages), r.topic.Config) || isCompacted(r.topic.Config)
	t, err := createPhysical(call, st, span.Spec{Name: r.e.New.Topic, Partitions: r.topic.Partitions,
		Config: physicalConfig(r.topic.Config, c.Kind, hold)})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return r.refuse(err, fmt.Sprintf("cluster %s", r.e.Target))
	}
	if err := r.at(FaultCreated); err != nil {
		return err
	}
	next := r.e
	next.New = physicalOf(r.e.Target, t, r.topic.Partitions)
	if r.e, err = r.cat.UpdateExtend(ctx, next, r.fence); err != nil {
		r.e.New.TopicID = catalog.ID{}
		return err
	}
	return r.at(FaultPrepared)
}

// refuse notes why the extend cannot work, unless it is the catalog that is away.
func (r *run) refuse(err error, what string) error {
	if errors.Is(err, catalog.ErrUnavailable) {
		return err
	}
	r.obs.Refused = fmt.Sprintf("%s: %v", what, err)
	return nil
}

// settle waits until no transaction is open on the open copies: a marker that the
// seal refuses wedges its transactional id for good. It also reads ahead what
// the commit will need.
func (r *run) settle(ctx context.Context) error {
	if r.settled.IsZero() {
		r.settled = time.Now()
	}
	if err := r.loadStates(ctx); err != nil {
		return err
	}
	if err := r.readAlarms(ctx); err != nil {
		return err
	}
	if r.e.Mode == catalog.ModeLossy || r.e.Unreadable {
		r.obs.Settled = true
		return nil
	}
	var mu sync.Mutex
	open := ""
	err := each(ctx, chainsOf(r.pages), func(ctx context.Context, p int, ch *catalog.Chain) error {
		who, err := r.openTransaction(ctx, ch)
		if who != "" {
			mu.Lock()
			open = fmt.Sprintf("partition %d: %s", p, who)
			mu.Unlock()
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		if time.Since(r.settled) < r.limits.call && errors.Is(err, span.ErrUnavailable) {
			return pause(ctx, 100*time.Millisecond)
		}
		return r.refuse(err, "the open copies cannot be read")
	case open == "":
		r.obs.Settled = true
		return r.at(FaultSettled)
	case time.Since(r.settled) > r.limits.settle:
		r.obs.Refused = "a transaction stays open: " + open
		return nil
	}
	return pause(ctx, 20*time.Millisecond)
}

func (r *run) openTransaction(ctx context.Context, ch *catalog.Chain) (string, error) {
	if chain.Extended(ch, r.e.New.TopicID) {
		return "", nil
	}
	log, err := r.openLog(ch)
	if log == nil || err != nil {
		return "", err
	}
	defer log.Release()
	call, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	o, err := log.Offsets(call)
	var lost *span.TruncatedError
	if errors.As(err, &lost) {
		// The log went back: that is what a repair is for. Its seal looks at open
		// transactions by itself.
		return "", nil
	}
	if err != nil || o.LastStable == o.HighWatermark {
		return "", err
	}
	producers, err := log.Producers(call)
	for _, p := range producers {
		if p.TxnStart >= 0 {
			return fmt.Sprintf("producer id %d since offset %d", p.ID, p.TxnStart), err
		}
	}
	return "", err
}

// openLog gives the handle of the copy that the chain appends to; nil if it is
// not on one of the old topics.
func (r *run) openLog(ch *catalog.Chain) (span.Log, error) {
	i := extend.OldIndex(&r.e, ch)
	if i < 0 {
		return nil, nil
	}
	st, err := r.stores.Store(r.e.Old[i].Cluster)
	if err != nil {
		return nil, err
	}
	return st.Log(storeTopic(r.e.Old[i]), extend.Copy(&r.e, ch).Partition), nil
}

// loadStates reads the producers' states at the former seals, before the pause.
func (r *run) loadStates(ctx context.Context) error {
	var mu sync.Mutex
	return each(ctx, chainsOf(r.pages), func(ctx context.Context, _ int, ch *catalog.Chain) error {
		ref := chain.SealedState(ch)
		mu.Lock()
		_, have := r.before[ref]
		mu.Unlock()
		if ref == "" || have {
			return nil
		}
		blob, err := r.cat.Producers(ctx, ref)
		if err != nil {
			return err
		}
		state, err := chain.DecodeProducers(blob)
		if err != nil {
			return fmt.Errorf("producers %s: %w", ref, err)
		}
		mu.Lock()
		r.before[ref] = state
		mu.Unlock()
		return nil
	})
}

// finish makes sure that an extend whose chains are all committed is ended.
func (r *run) finish(ctx context.Context) error {
	if r.e.Step == catalog.StepCertify {
		return nil
	}
	e, err := r.cat.Extend(ctx, r.e.Topic.Tenant, r.e.Topic.ID)
	switch {
	case errors.Is(err, catalog.ErrNotFound) || err == nil && e.Op != r.e.Op:
		// Ended by a commit whose answer was lost.
		if c, cerr := r.cat.Certification(ctx, r.e.Topic.ID, r.e.Op); cerr == nil {
			r.e = c
		}
		r.e.Step = catalog.StepCertify
		return r.at(FaultCommitted)
	case err != nil:
		return err
	case len(r.pages) == 0:
		return r.cat.DeleteExtend(ctx, e, r.fence)
	}
	e.Step = catalog.StepCertify
	e.TopicRevision = r.topic.Revision
	req := catalog.CommitRequest{Tenant: e.Topic.Tenant, Topic: e.Topic.ID, TopicRevision: r.topic.Revision,
		Pages: r.pages[len(r.pages)-1:], Fence: r.fence, Extend: &e, Finish: true}
	if err := r.cat.CommitPages(ctx, req); err != nil {
		return err
	}
	r.e = e
	return r.at(FaultCommitted)
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

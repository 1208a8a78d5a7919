package controller

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/tenant/audit"
	"github.com/braidstream/braid/tenant/usage"
)

// Election is the name that controllers campaign under; [catalog.Catalog.Leader] of it is who leads.
const Election = "controller"

// Options configure a [Controller]. Catalog, Watcher and Stores are needed; the
// watcher must hold all tenants.
type Options struct {
	Catalog *catalog.Catalog
	Watcher *catalog.Watcher
	Stores  chain.Stores
	// Name is shown to people as the leader.
	Name string
	// Damping is how long most gateways must call a cluster down before it is
	// failed over; 0: 2.5 s, negative: never by itself.
	Damping time.Duration
	// Lease is the time to live of gateways' registrations; 0: [catalog.DefaultTTL].
	Lease time.Duration
	// Workers is how many topics are extended at once; 0: 32.
	Workers int
	// RetentionEvery is how often retention is applied; 0: 30 s.
	RetentionEvery time.Duration
	// SweepEvery is how often orphans are looked for, and OrphanAge how long nothing
	// must have referred to one; 0: 1 min and 10 min.
	SweepEvery, OrphanAge time.Duration
	// StrayAfter is how late a seal may land after its sender is gone; 0: 30 s.
	StrayAfter time.Duration
	// Retries is how long after a failover producers send again what they have no
	// answer for; 0: 30 s. Records that came back with a cluster wait for it.
	Retries time.Duration
	// GoneAfter is how far apart a cluster must say twice that it has a physical topic no more before what
	// that held is given up; 0: 5 s.
	GoneAfter time.Duration
	// Linger is how long an extend waits, before it holds its topic, for transactions that are open there for long; 0: 30 s.
	Linger time.Duration
	// CertifyBytes is how much of a partition's sealed span is read for its certificate; 0:
	// [DefaultCertifyBytes], negative: none, so that all but the ends goes by counts.
	CertifyBytes int64
	// ReportsWait is how long a certificate waits for gateways' reports of what they saw
	// acknowledged; 0: 1.5 s.
	ReportsWait time.Duration
	// BudgetEvery is how often tenants' budgets are divided over the gateways, and MeasureEvery how
	// often it is measured what tenants store that have a limit of it; 0: 2 s and 15 s.
	BudgetEvery, MeasureEvery time.Duration
	// MeterEvery is how often it is written down what tenants hold; 0: 10 s. Holdings adds it up; nil: one of
	// the controller's own.
	MeterEvery time.Duration
	Holdings   *usage.Holdings
	// Standings tells where the groups stand in topics (at most [StandingTopics] at once): for each, as
	// far as coordinators answer before ctx ends, those of the given shards, of all if none is given.
	// nil: certificates say nothing of groups.
	Standings func(ctx context.Context, topics []catalog.ID, shards []int32) map[catalog.ID]catalog.Standing
	// Fault is called at each of [FaultPoints], in tests: an error stops the
	// controller there as a crash would.
	Fault func(point string) error
	// Audit is told of what the controller decides by itself; nil: nobody.
	Audit  *audit.Log
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Damping, 2500*time.Millisecond)
	def(&o.Lease, catalog.DefaultTTL)
	def(&o.RetentionEvery, 30*time.Second)
	def(&o.SweepEvery, time.Minute)
	def(&o.StrayAfter, 30*time.Second)
	def(&o.Retries, 30*time.Second)
	def(&o.GoneAfter, 5*time.Second)
	def(&o.Linger, 30*time.Second)
	def(&o.BudgetEvery, budgetEvery)
	def(&o.MeterEvery, usage.Every)
	def(&o.MeasureEvery, measureEvery)
	def(&o.OrphanAge, 10*time.Minute)
	if o.CertifyBytes == 0 {
		o.CertifyBytes = DefaultCertifyBytes
	}
	def(&o.ReportsWait, 1500*time.Millisecond)
	if o.Workers == 0 {
		o.Workers = 32
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Controller leads, or stands by to.
type Controller struct {
	o     Options
	loads *loads
	stop  context.CancelFunc
	done  chan struct{}

	mu      sync.Mutex
	leading bool
}

// New makes a controller; Start it.
func New(o Options) *Controller {
	return &Controller{o: o.withDefaults(), done: make(chan struct{})}
}

// Start campaigns in the background.
func (c *Controller) Start() {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.loads = watchLoads(c.o.Watcher)
	go c.run(ctx)
}

// Close gives the leadership up and waits until nothing is under way.
func (c *Controller) Close() {
	c.stop()
	<-c.done
	c.loads.close()
}

// Leading tells whether this controller leads.
func (c *Controller) Leading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leading
}

func (c *Controller) setLeading(v bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leading = v
}

// errCrashed is what a fault point answers to stop a controller without a trace.
var errCrashed = errors.New("controller was stopped at a fault point")

// Crashed is the error that [Options.Fault] returns to stop the controller.
func Crashed() error { return errCrashed }

func (c *Controller) run(ctx context.Context) {
	defer close(c.done)
	for ctx.Err() == nil {
		l, err := c.o.Catalog.Campaign(ctx, Election, c.o.Name)
		if err != nil {
			if ctx.Err() == nil {
				c.o.Logger.Warn("campaign failed, trying again", "err", err)
			}
			if pause(ctx, time.Second) != nil {
				return
			}
			continue
		}
		c.o.Logger.Info("controller leads", "name", c.o.Name)
		crashed := c.lead(ctx, l)
		resign, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		if err := l.Resign(resign); err != nil {
			c.o.Logger.Debug("leadership was not given back", "err", err)
		}
		cancel()
		if crashed {
			return
		}
	}
}

// lead runs all loops until the leadership or ctx ends. It returns true if a
// fault point stopped it.
func (c *Controller) lead(ctx context.Context, l *catalog.Leadership) (crashed bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-l.Lost():
			cancel(catalog.ErrFenced)
		case <-ctx.Done():
		}
	}()
	c.setLeading(true)
	defer c.setLeading(false)

	t := newTerm(c, ctx, cancel, l.Fence())
	defer t.wait()
	// What the last leader committed must be seen before anything is decided.
	for {
		_, err := c.o.Watcher.Refresh(ctx)
		if err == nil {
			break
		}
		if pause(ctx, 200*time.Millisecond) != nil {
			return errors.Is(context.Cause(ctx), errCrashed)
		}
	}
	t.loop("operations", t.operations)
	t.loop("extends", t.resumeExtends)
	t.loop("certificates", t.certifyAll)
	t.loop("deletions", t.deleteTopics)
	t.loop("tenants", t.removeTenants)
	t.loop("retention", t.retain)
	t.loop("sweep", t.sweep)
	t.loop("detection", t.detect)
	t.loop("leftovers", t.again)
	t.loop("returns", t.returns)
	t.loop("strays", t.strays)
	t.loop("absence", t.absence)
	t.loop("budgets", t.divideBudgets)
	t.loop("measures", t.measureTenants)
	t.loop("usage", t.meter)
	<-ctx.Done()
	return errors.Is(context.Cause(ctx), errCrashed)
}

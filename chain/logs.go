package chain

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/fair"
)

// Logs are the partitions that a gateway serves.
type Logs struct {
	source  Source
	stores  Stores
	node    int32
	log     *slog.Logger
	metrics *Metrics
	// incarnation is new with each start: a node that is started again has reports of its own.
	incarnation string

	alive    func() bool
	lease    func() int64
	holdTime time.Duration
	cache    cache
	shelf    shelf
	sizes    sizes

	room      *fair.Room   // for what is held
	tenants   atomic.Int32 // that have partitions here, the system not counted
	away      atomic.Int64 // when the catalog last did not answer, Unix ns; 0: it did
	ctx       context.Context
	stop      context.CancelFunc
	runMu     sync.Mutex // innermost
	stopped   bool
	wg        sync.WaitGroup
	cancelSub func()

	fencePoke chan struct{}
	dirtyPoke chan struct{}
	sweepPoke chan struct{}
	warming   chan struct{} // bounds the copies that are being warmed
	report    reporter

	mu      sync.Mutex
	closed  bool
	topics  map[catalog.ID]map[int32]*Partition
	dirty   map[catalog.ID]struct{}
	holders map[*Partition]struct{} // partitions in which something waits
	serving map[string]int          // how many partitions of each tenant there are
}

// NewLogs makes the partitions of one gateway. Close ends its goroutines.
func NewLogs(o Options) *Logs {
	l := &Logs{
		source: o.Source, stores: o.Stores, node: o.Node, log: o.Logger, metrics: o.Metrics, alive: o.Alive, lease: o.Lease,
		holdTime:  o.HoldTime,
		fencePoke: make(chan struct{}, 1), dirtyPoke: make(chan struct{}, 1), sweepPoke: make(chan struct{}, 1),
		warming: make(chan struct{}, warmWidth), incarnation: catalog.RandomID().String(),
		topics: map[catalog.ID]map[int32]*Partition{}, dirty: map[catalog.ID]struct{}{}, holders: map[*Partition]struct{}{}, serving: map[string]int{},
	}
	if l.source == nil {
		l.source = FromCatalog(o.Watcher, o.Catalog)
	}
	if l.log == nil {
		l.log = slog.Default()
	}
	if l.metrics == nil {
		l.metrics = NewMetrics(nil)
	}
	if l.alive == nil {
		l.alive = func() bool { return true }
	}
	if l.lease == nil {
		l.lease = func() int64 { return 0 }
	}
	if o.HoldBytes == 0 {
		o.HoldBytes = 64 << 20
	}
	l.room = fair.NewRoom(o.HoldBytes, l.several)
	if l.holdTime == 0 {
		l.holdTime = 30 * time.Second
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	l.cache.limit, l.cache.metrics, l.cache.shares = max(o.CacheBytes, 0), l.metrics, map[string]*cacheShare{}
	l.cache.poke = make(chan struct{}, 1)
	l.shelf.limit, l.shelf.keep = l.cache.limit/2, shelfTime
	l.report.poke = make(chan struct{}, 1)
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.cancelSub = l.source.OnChange(l.changed)
	l.run(l.spread)
	l.run(l.watchFences)
	l.run(l.sweep)
	l.run(l.evict)
	l.run(l.publishReports)
	l.pokeFences()
	return l
}

// Close ends all goroutines and answers everything that waits with [ErrClosed].
// Appends that a store has are answered when the store gives them back; close
// the stores for that. Reports that are due are published first.
func (l *Logs) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	all := l.all()
	l.mu.Unlock()
	l.cancelSub()
	l.flushReports(all)
	for _, p := range all {
		p.mu.Lock()
		p.kill(ErrClosed)
		p.unlock()
	}
	l.shelf.close()
	l.stop()
	l.runMu.Lock()
	l.stopped = true
	l.runMu.Unlock()
	l.wg.Wait()
}

// run starts a goroutine that Close waits for. After Close its context is over
// from the start.
func (l *Logs) run(f func(context.Context)) {
	l.runMu.Lock()
	defer l.runMu.Unlock()
	if l.stopped {
		go f(l.ctx)
		return
	}
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		f(l.ctx)
	}()
}

// Partition returns the shared handle of a partition. It fails with
// [ErrUnknownTopic] and [ErrUnknownPartition] as far as the catalog is known here.
func (l *Logs) Partition(topic catalog.ID, partition int32) (*Partition, error) {
	l.mu.Lock()
	p := l.topics[topic][partition]
	l.mu.Unlock()
	if p != nil {
		return p, nil
	}
	if _, _, err := l.source.Chain(topic, partition); err != nil {
		return nil, err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	if p = l.topics[topic][partition]; p == nil {
		p = newPartition(l, topic, partition)
		m := l.topics[topic]
		if m == nil {
			m = map[int32]*Partition{}
			l.topics[topic] = m
		}
		m[partition] = p
		l.serves(p.tenant, 1)
		// It is told of changes from here on; the version of now comes from update.
		p.view.Store(&view{chain: &catalog.Chain{}, revision: -1})
	}
	l.mu.Unlock()
	p.update()
	if err := p.gone(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Partition) gone() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// all returns every partition. Needs mu.
func (l *Logs) all() []*Partition {
	var all []*Partition
	for _, m := range l.topics {
		for _, p := range m {
			all = append(all, p)
		}
	}
	return all
}

func (l *Logs) partitionsOf(topic catalog.ID) []*Partition {
	l.mu.Lock()
	defer l.mu.Unlock()
	ps := make([]*Partition, 0, len(l.topics[topic]))
	for _, p := range l.topics[topic] {
		ps = append(ps, p)
	}
	return ps
}

// changed is called by the source.
func (l *Logs) changed(topics []catalog.ID) {
	l.mu.Lock()
	for _, id := range topics {
		if _, ok := l.topics[id]; ok {
			l.dirty[id] = struct{}{}
		}
	}
	l.mu.Unlock()
	poke(l.dirtyPoke)
	l.pokeFences()
}

func (l *Logs) pokeFences() { poke(l.fencePoke) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// spread tells partitions of changes.
func (l *Logs) spread(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.dirtyPoke:
		}
		l.mu.Lock()
		dirty := l.dirty
		l.dirty = map[catalog.ID]struct{}{}
		l.mu.Unlock()
		for id := range dirty {
			for _, p := range l.partitionsOf(id) {
				p.update()
				p.lookAhead()
				if err := p.gone(); errors.Is(err, ErrUnknownTopic) {
					l.forget(p)
				}
			}
		}
	}
}

// forget takes a dead partition out, so that a topic that comes back has fresh ones.
func (l *Logs) forget(p *Partition) {
	l.mu.Lock()
	if m := l.topics[p.topic]; m[p.index] == p {
		delete(m, p.index)
		l.serves(p.tenant, -1)
		if len(m) == 0 {
			delete(l.topics, p.topic)
		}
	}
	l.mu.Unlock()
	l.cache.leave(p)
}

// serves counts partitions of a tenant. Needs mu.
func (l *Logs) serves(tenant string, n int) {
	if tenant == catalog.SystemTenant {
		return
	}
	if l.serving[tenant] += n; l.serving[tenant] == 0 {
		delete(l.serving, tenant)
	}
	l.tenants.Store(int32(len(l.serving)))
}

// several tells whether more than one tenant has partitions here.
func (l *Logs) several() bool { return l.tenants.Load() > 1 }

func (l *Logs) takeHold(p *Partition, n int64) bool {
	if !l.room.Take(p.tenant, n) {
		return false
	}
	l.metrics.HeldBytes.Add(float64(n))
	return true
}

func (l *Logs) forceHold(p *Partition, n int64) {
	l.room.Force(p.tenant, n)
	l.metrics.HeldBytes.Add(float64(n))
}

func (l *Logs) putHold(p *Partition, n int64) {
	l.room.Put(p.tenant, n)
	l.metrics.HeldBytes.Sub(float64(n))
}

// holding notes that something waits in p.
func (l *Logs) holding(p *Partition) {
	l.mu.Lock()
	_, ok := l.holders[p]
	l.holders[p] = struct{}{}
	l.mu.Unlock()
	if !ok {
		poke(l.sweepPoke)
	}
}

// sweep answers what has waited too long; it ticks only while something waits.
func (l *Logs) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.sweepPoke:
		}
		for {
			l.mu.Lock()
			ps := make([]*Partition, 0, len(l.holders))
			for p := range l.holders {
				ps = append(ps, p)
			}
			clear(l.holders)
			l.mu.Unlock()
			if len(ps) == 0 {
				break
			}
			now := time.Now()
			for _, p := range ps {
				if p.expire(now) {
					l.mu.Lock()
					l.holders[p] = struct{}{}
					l.mu.Unlock()
				}
			}
			if !sleep(ctx, 20*time.Millisecond) {
				return
			}
		}
	}
}

// readState reads the sealed producers' state.
func (l *Logs) readState(ctx context.Context, ref string) ([]ProducerState, error) {
	if ref == "" {
		return nil, nil
	}
	b, err := l.source.Producers(ctx, ref)
	if err != nil {
		return nil, err
	}
	return DecodeProducers(b)
}

// sleep waits; false when the context ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

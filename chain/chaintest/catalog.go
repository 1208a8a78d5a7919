package chaintest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// Catalog is the truth that Views show, sooner or later.
type Catalog struct {
	mu       sync.Mutex
	revision int64
	topics   map[catalog.ID]*entry
	blobs    map[string][]byte
	reports  map[catalog.ID][]catalog.AckReport
	acks     map[catalog.ID][]catalog.HoldAck
	alarms   []catalog.Alarm
	views    []*View
	cannot   map[string]bool
}

type entry struct {
	topic    catalog.Topic
	chains   []catalog.Chain
	revision int64
	extend   *catalog.Extend
}

// NewCatalog makes an empty catalog.
func NewCatalog() *Catalog {
	return &Catalog{topics: map[catalog.ID]*entry{}, blobs: map[string][]byte{},
		reports: map[catalog.ID][]catalog.AckReport{}, acks: map[catalog.ID][]catalog.HoldAck{}, cannot: map[string]bool{}}
}

// SetCannotSeal says of a cluster that it grants no seal.
func (c *Catalog) SetCannotSeal(cluster string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cannot[cluster] = true
}

// Put stores a topic with its chains.
func (c *Catalog) Put(t catalog.Topic, chains []catalog.Chain) {
	c.mu.Lock()
	c.revision++
	t.Partitions = int32(len(chains))
	e := c.topics[t.ID]
	if e == nil {
		e = &entry{}
		c.topics[t.ID] = e
	}
	c.topics[t.ID] = &entry{topic: t, chains: chains, revision: c.revision, extend: e.extend}
	c.mu.Unlock()
	c.tell(t.ID)
}

// Remove deletes a topic.
func (c *Catalog) Remove(id catalog.ID) {
	c.mu.Lock()
	c.revision++
	delete(c.topics, id)
	c.mu.Unlock()
	c.tell(id)
}

// Commit replaces one chain.
func (c *Catalog) Commit(id catalog.ID, partition int32, next catalog.Chain) {
	// The function never fails.
	_ = c.Change(id, partition, func(catalog.Chain) (catalog.Chain, error) { return next, nil })
}

// Change makes one chain what f makes of it. As in the real catalog a change is
// lost to no other: if the topic was changed meanwhile, f is called again.
func (c *Catalog) Change(id catalog.ID, partition int32, f func(catalog.Chain) (catalog.Chain, error)) error {
	for {
		c.mu.Lock()
		e := c.topics[id]
		c.mu.Unlock()
		next, err := f(e.chains[partition])
		if err != nil {
			return err
		}
		chains := append([]catalog.Chain(nil), e.chains...)
		chains[partition] = next
		c.mu.Lock()
		if c.topics[id] != e {
			c.mu.Unlock()
			continue
		}
		c.revision++
		c.topics[id] = &entry{topic: e.topic, chains: chains, revision: c.revision, extend: e.extend}
		c.mu.Unlock()
		c.tell(id)
		return nil
	}
}

// Chain is the committed chain.
func (c *Catalog) Chain(id catalog.ID, partition int32) catalog.Chain {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topics[id].chains[partition]
}

// SetExtend shows an extend to all views that do not lag.
func (c *Catalog) SetExtend(id catalog.ID, x *catalog.Extend) {
	c.mu.Lock()
	c.revision++
	e := *c.topics[id]
	e.extend = x
	c.topics[id] = &e
	c.mu.Unlock()
	c.tell(id)
}

// PutProducers stores a producers' state and gives its reference.
func (c *Catalog) PutProducers(state []chain.ProducerState) string {
	b := chain.EncodeProducers(state)
	if b == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revision++
	ref := fmt.Sprintf("state-%d", c.revision)
	c.blobs[ref] = b
	return ref
}

// ProducersAt reads a stored state.
func (c *Catalog) ProducersAt(ref string) ([]chain.ProducerState, error) {
	c.mu.Lock()
	b := c.blobs[ref]
	c.mu.Unlock()
	return chain.DecodeProducers(b)
}

// Reports are the acknowledgement reports so far.
func (c *Catalog) Reports(id catalog.ID) []catalog.AckReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]catalog.AckReport(nil), c.reports[id]...)
}

// HoldAcks are the gateways' words for fences so far.
func (c *Catalog) HoldAcks(id catalog.ID) []catalog.HoldAck {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]catalog.HoldAck(nil), c.acks[id]...)
}

// Alarms are the alarms so far.
func (c *Catalog) Alarms() []catalog.Alarm {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]catalog.Alarm(nil), c.alarms...)
}

func (c *Catalog) tell(id catalog.ID) {
	c.mu.Lock()
	views := append([]*View(nil), c.views...)
	c.mu.Unlock()
	for _, v := range views {
		if !v.lags() {
			v.catchUp(id)
		}
	}
}

// View is one gateway's view of the catalog: a [chain.Source] that can lag or
// be cut off.
type View struct {
	c *Catalog

	mu     sync.Mutex
	known  map[catalog.ID]*entry
	lag    bool
	cut    bool
	subs   map[int]func([]catalog.ID)
	nextID int
	reads  int
}

// View makes a view that is up to date.
func (c *Catalog) View() *View {
	v := &View{c: c, known: map[catalog.ID]*entry{}, subs: map[int]func([]catalog.ID){}}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, e := range c.topics {
		v.known[id] = e
	}
	c.views = append(c.views, v)
	return v
}

// SetLag stops the watch, or lets it catch up. A linearizable read still works.
func (v *View) SetLag(lag bool) {
	v.mu.Lock()
	v.lag = lag
	v.mu.Unlock()
	if lag {
		return
	}
	v.c.mu.Lock()
	ids := make(map[catalog.ID]struct{})
	for id := range v.c.topics {
		ids[id] = struct{}{}
	}
	v.c.mu.Unlock()
	v.mu.Lock()
	for id := range v.known {
		ids[id] = struct{}{}
	}
	v.mu.Unlock()
	for id := range ids {
		v.catchUp(id)
	}
}

// SetCut makes the catalog unreachable; a cut view lags too.
func (v *View) SetCut(cut bool) {
	v.mu.Lock()
	v.cut = cut
	v.mu.Unlock()
	v.SetLag(cut)
}

// Refreshes counts linearizable reads.
func (v *View) Refreshes() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reads
}

func (v *View) lags() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lag || v.cut
}

func (v *View) catchUp(id catalog.ID) {
	// Read under v.mu: of two that catch up at once the later one has the newer state.
	v.mu.Lock()
	v.c.mu.Lock()
	e := v.c.topics[id]
	v.c.mu.Unlock()
	if e == nil {
		delete(v.known, id)
	} else {
		v.known[id] = e
	}
	var subs []func([]catalog.ID)
	for _, f := range v.subs {
		subs = append(subs, f)
	}
	v.mu.Unlock()
	for _, f := range subs {
		f([]catalog.ID{id})
	}
}

func (v *View) entry(id catalog.ID) *entry {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.known[id]
}

func (v *View) Chain(id catalog.ID, partition int32) (*catalog.Chain, int64, error) {
	e := v.entry(id)
	if e == nil {
		return nil, 0, chain.ErrUnknownTopic
	}
	if partition < 0 || int(partition) >= len(e.chains) {
		return nil, 0, chain.ErrUnknownPartition
	}
	return &e.chains[partition], e.revision, nil
}

func (v *View) Topic(id catalog.ID) (catalog.Topic, bool) {
	if e := v.entry(id); e != nil {
		return e.topic, true
	}
	return catalog.Topic{}, false
}

func (v *View) Refresh(ctx context.Context, id catalog.ID) error {
	v.mu.Lock()
	cut := v.cut
	v.reads++
	v.mu.Unlock()
	if cut {
		return catalog.ErrUnavailable
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v.catchUp(id)
	return nil
}

func (v *View) OnChange(f func([]catalog.ID)) (cancel func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := v.nextID
	v.nextID++
	v.subs[id] = f
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.subs, id)
	}
}

func (v *View) CanSeal(cluster string) bool {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	return !v.c.cannot[cluster]
}

func (v *View) Extend(id catalog.ID) *catalog.Extend {
	if e := v.entry(id); e != nil {
		return e.extend
	}
	return nil
}

func (v *View) ReadExtend(ctx context.Context, id catalog.ID) (*catalog.Extend, error) {
	if err := v.Refresh(ctx, id); err != nil {
		return nil, err
	}
	return v.Extend(id), nil
}

func (v *View) Fences() []catalog.ID {
	v.mu.Lock()
	defer v.mu.Unlock()
	var ids []catalog.ID
	for id, e := range v.known {
		if e.extend != nil && (e.extend.Mode == catalog.ModeFence || e.extend.Unreadable) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (v *View) reachable() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cut {
		return catalog.ErrUnavailable
	}
	return nil
}

func (v *View) Producers(_ context.Context, ref string) ([]byte, error) {
	if err := v.reachable(); err != nil {
		return nil, err
	}
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	b, ok := v.c.blobs[ref]
	if !ok {
		return nil, catalog.ErrNotFound
	}
	return b, nil
}

func (v *View) Report(_ context.Context, id catalog.ID, reports []catalog.AckReport) error {
	if err := v.reachable(); err != nil {
		return err
	}
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	v.c.reports[id] = append(v.c.reports[id], reports...)
	return nil
}

func (v *View) HoldAck(_ context.Context, id catalog.ID, _ string, ack catalog.HoldAck) error {
	if err := v.reachable(); err != nil {
		return err
	}
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	v.c.acks[id] = append(v.c.acks[id], ack)
	return nil
}

func (v *View) Alarm(_ context.Context, a catalog.Alarm) error {
	if err := v.reachable(); err != nil {
		return err
	}
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	v.c.alarms = append(v.c.alarms, a)
	return nil
}

func (v *View) TrimStart(ctx context.Context, id catalog.ID, partition int32, before int64) error {
	if err := v.reachable(); err != nil {
		return err
	}
	if before > v.c.Chain(id, partition).Start {
		err := v.c.Change(id, partition, func(c catalog.Chain) (catalog.Chain, error) {
			c.Start = max(c.Start, before)
			return c, nil
		})
		if err != nil {
			return err
		}
	}
	return v.Refresh(ctx, id)
}

// now is when the test's moves happen.
func now() time.Time { return time.Now() }

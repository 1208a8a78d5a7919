// Package chaintest has doubles of a cluster and of the catalog, in memory, with
// faults on demand: what a chain stands on, for tests of this room and of others.
package chaintest

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Cluster is a cluster that keeps records in memory. It treats producers as a
// broker does. Each gateway of a test gets its own [Cluster.Client].
type Cluster struct {
	name string

	mu      sync.Mutex
	topics  map[string]*topic
	used    map[string]bool // names that existed once
	nextID  uint64
	down    bool
	cannot  bool
	logTime int64
	refuse  func(b []byte) wire.Code // nil: nothing
	hangs   chan struct{}            // closed when reads get answers again; nil: they do
	hanging int
}

type topic struct {
	id     span.Topic
	parts  []*part
	config map[string]string
}

type part struct {
	stored    []stored
	start     int64
	end       int64
	sealed    bool
	producers map[int64]*span.Producer
	grown     chan struct{} // closed when something changes
	epoch     int32
}

type stored struct {
	base, next int64
	b          []byte
}

// NewCluster makes an empty cluster.
func NewCluster(name string) *Cluster {
	return &Cluster{name: name, topics: map[string]*topic{}, used: map[string]bool{}, logTime: -1}
}

// SetDown makes the cluster unreachable, or reachable again.
func (c *Cluster) SetDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	for _, t := range c.topics {
		for _, p := range t.parts {
			p.change()
		}
	}
}

// SetHangs lets reads that begin from now on have no answer, or ends that.
func (c *Cluster) SetHangs(hangs bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case hangs && c.hangs == nil:
		c.hangs = make(chan struct{})
	case !hangs && c.hangs != nil:
		close(c.hangs)
		c.hangs = nil
	}
}

// Hanging is how many reads have begun to hang.
func (c *Cluster) Hanging() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hanging
}

// hang waits as long as reads hang.
func (c *Cluster) hang(ctx context.Context, closed <-chan struct{}) error {
	c.mu.Lock()
	hangs := c.hangs
	if hangs != nil {
		c.hanging++
	}
	c.mu.Unlock()
	if hangs == nil {
		return nil
	}
	select {
	case <-hangs:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closed:
		return span.ErrUnavailable
	}
}

// SetCannotSeal makes the cluster refuse seals.
func (c *Cluster) SetCannotSeal(cannot bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cannot = cannot
}

// SetLogAppendTime stamps what is appended from now on with ms; -1 stops that.
func (c *Cluster) SetLogAppendTime(ms int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logTime = ms
}

// SetRefuses has batches refused for which refuse gives a code, as by a topic's configs; nil ends that.
func (c *Cluster) SetRefuses(refuse func(b []byte) wire.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = refuse
}

// Truncate cuts the tail of a partition's log, as an unclean election does.
func (c *Cluster) Truncate(name string, partition int32, end int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.topics[name].parts[partition]
	n := len(p.stored)
	for n > 0 && p.stored[n-1].next > end {
		n--
	}
	p.stored = p.stored[:n]
	p.end = p.start
	if n > 0 {
		p.end = p.stored[n-1].next
	}
	p.epoch++
	p.producers = map[int64]*span.Producer{}
	for _, s := range p.stored {
		h, _, err := batch.Parse(s.b)
		if err == nil {
			p.note(&h, s.base)
		}
	}
	p.change()
}

// AppendRaw puts a batch into a partition past everything, even a seal: a record
// that should not be there.
func (c *Cluster) AppendRaw(name string, partition int32, b []byte) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.topics[name].parts[partition]
	h, _, err := batch.Parse(b)
	if err != nil {
		panic(err)
	}
	return p.put(&h, b, -1)
}

// Records counts the batches of a partition that hold the record key, by walking its log.
func (c *Cluster) Batches(name string, partition int32) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out [][]byte
	for _, s := range c.topics[name].parts[partition].stored {
		out = append(out, slices.Clone(s.b))
	}
	return out
}

// Names lists the topics that exist.
func (c *Cluster) Names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for n := range c.topics {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (p *part) change() {
	close(p.grown)
	p.grown = make(chan struct{})
}

func (c *Cluster) create(spec span.Spec) (span.Topic, error) {
	if c.down {
		return span.Topic{}, span.ErrUnavailable
	}
	if c.used[spec.Name] {
		return span.Topic{}, fmt.Errorf("create %s: %w", spec.Name, span.ErrExists)
	}
	c.used[spec.Name] = true
	c.nextID++
	t := &topic{id: span.Topic{Name: spec.Name}, config: map[string]string{}}
	copy(t.id.ID[:], c.name)
	binary.BigEndian.PutUint64(t.id.ID[8:], c.nextID)
	for range spec.Partitions {
		t.parts = append(t.parts, newPart())
	}
	c.topics[spec.Name] = t
	return t.id, nil
}

func newPart() *part {
	return &part{producers: map[int64]*span.Producer{}, grown: make(chan struct{})}
}

func (c *Cluster) find(t span.Topic) (*topic, error) {
	if c.down {
		return nil, fmt.Errorf("%s: %w", c.name, span.ErrUnavailable)
	}
	found := c.topics[t.Name]
	if found == nil || found.id != t {
		return nil, fmt.Errorf("%s on %s: %w", t.Name, c.name, span.ErrGone)
	}
	return found, nil
}

func (c *Cluster) part(t span.Topic, i int32) (*part, error) {
	found, err := c.find(t)
	if err != nil {
		return nil, err
	}
	if int(i) >= len(found.parts) {
		return nil, fmt.Errorf("partition %d of %s: %w", i, t.Name, span.ErrGone)
	}
	return found.parts[i], nil
}

// append is what a leader does with a batch. Needs c.mu.
func (c *Cluster) append(t span.Topic, i int32, b []byte) (base int64, duplicate bool, err error) {
	p, err := c.part(t, i)
	if err != nil {
		return -1, false, err
	}
	if p.sealed {
		return -1, false, span.ErrSealed
	}
	h, size, err := batch.Parse(b)
	if err != nil || size != len(b) || batch.Verify(b) != nil {
		return -1, false, &span.RejectedError{Code: wire.CorruptMessage}
	}
	if h.LogAppendTime() && c.logTime >= 0 {
		return -1, false, &span.RejectedError{Code: wire.InvalidTimestamp} // LogValidator.validateTimestamp
	}
	if c.refuse != nil {
		if code := c.refuse(b); code != wire.None {
			return -1, false, &span.RejectedError{Code: code}
		}
	}
	if h.HasProducer() {
		dup, code := check(p.producers[h.ProducerID], &h)
		if code != wire.None {
			return -1, false, &span.RejectedError{Code: code}
		}
		if dup != nil {
			return dup.FirstOffset, true, nil
		}
	}
	return p.put(&h, b, c.logTime), false, nil
}

// check is a broker's judgement of a batch by its producer's state.
func check(p *span.Producer, h *batch.Header) (dup *span.ProducedBatch, code wire.Code) {
	if p == nil {
		return nil, wire.None
	}
	first, last := h.BaseSequence, h.LastSequence()
	switch {
	case h.ProducerEpoch < p.Epoch:
		return nil, wire.InvalidProducerEpoch
	case h.ProducerEpoch > p.Epoch:
		if first != 0 {
			return nil, wire.OutOfOrderSequenceNumber
		}
		return nil, wire.None
	}
	for i := range p.Batches {
		if p.Batches[i].FirstSequence == first && p.Batches[i].LastSequence == last {
			return &p.Batches[i], wire.None
		}
	}
	if first != batch.IncrementSequence(p.LastSequence, 1) {
		return nil, wire.OutOfOrderSequenceNumber
	}
	return nil, wire.None
}

func (p *part) put(h *batch.Header, b []byte, logTime int64) int64 {
	s := stored{base: p.end, next: p.end + int64(h.LastOffsetDelta) + 1, b: slices.Clone(b)}
	batch.SetBaseOffset(s.b, s.base)
	batch.SetLeaderEpoch(s.b, p.epoch)
	if logTime >= 0 {
		if err := batch.SetMaxTimestampLogAppend(s.b, logTime); err != nil {
			panic(err)
		}
	}
	p.stored = append(p.stored, s)
	p.end = s.next
	p.note(h, s.base)
	p.change()
	return s.base
}

// note takes a batch into its producer's state.
func (p *part) note(h *batch.Header, base int64) {
	if !h.HasProducer() {
		return
	}
	st := p.producers[h.ProducerID]
	if st == nil || st.Epoch != h.ProducerEpoch {
		st = &span.Producer{ID: h.ProducerID, Epoch: h.ProducerEpoch, TxnStart: -1}
		p.producers[h.ProducerID] = st
	}
	st.LastSequence, st.LastOffset, st.LastTimestamp = h.LastSequence(), base+int64(h.LastOffsetDelta), h.MaxTimestamp
	st.Batches = append(st.Batches, span.ProducedBatch{FirstSequence: h.BaseSequence, LastSequence: h.LastSequence(),
		FirstOffset: base, LastOffset: st.LastOffset, Timestamp: h.MaxTimestamp})
	if len(st.Batches) > 5 {
		st.Batches = slices.Clone(st.Batches[1:])
	}
}

func (c *Cluster) list(prefix string) ([]span.Topic, error) {
	if c.down {
		return nil, span.ErrUnavailable
	}
	var out []span.Topic
	for n, t := range c.topics {
		if strings.HasPrefix(n, prefix) {
			out = append(out, t.id)
		}
	}
	slices.SortFunc(out, func(a, b span.Topic) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Copy is the catalog's copy for a partition of a topic of this cluster.
func (c *Cluster) Copy(t span.Topic, partition int32) catalog.Copy {
	return catalog.Copy{Cluster: c.name, Topic: t.Name, TopicID: catalog.ID(t.ID), Partition: partition}
}

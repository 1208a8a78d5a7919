package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// double is a span.Store in memory that can be cut off, refuse to seal, and lie.
type double struct {
	name    string
	mu      sync.Mutex
	topics  map[string]*doubleTopic
	away    bool // answers nothing
	id      string
	canSeal bool
	revoked bool // refuses to seal what it said it would
	full    bool
	halved  bool     // it is not sure to take appends, and takes them
	unmade  error    // what it says to every topic that is to be made
	fixed   error    // what it says to every change of configs
	unknown []string // configs that it does not know
	seals   int
	makes   func(ctx context.Context, s span.Spec) // told of each topic that is to be made
	hides   bool                                   // lists none of its topics, as a broker that lags
	probed  func() error                           // asked at each probe; an error is the answer
	lists   int                                    // how often it listed its topics
	unasked int                                    // health checks that do not find out whether it can be sealed
	asked   func(l *doubleLog)                     // for its bounds
	aged    func(l *doubleLog)                     // for a time after all records, before it answers
	// answers, if set, may refuse an append, or, once it has landed, say something else of it.
	answers func(h batch.Header, b []byte, landed bool) error
}

type doubleTopic struct {
	id     catalog.ID
	config map[string]string
	sealed bool
	parts  []*doubleLog
}

type doubleLog struct {
	d       *double
	t       *doubleTopic
	index   int32
	batches []doubleBatch
	start   int64
	end     int64
	openTxn bool
}

type doubleBatch struct {
	offset int64
	bytes  []byte
}

func newDouble(name string) *double {
	return &double{name: name, id: "id-" + name, topics: map[string]*doubleTopic{}, canSeal: true}
}

func (d *double) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *double) answer() error {
	if d.away {
		return fmt.Errorf("double %s: %w", d.name, span.ErrUnavailable)
	}
	return nil
}

func (d *double) Name() string { return d.name }

func (d *double) Create(ctx context.Context, s span.Spec) (span.Topic, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.makes != nil {
		d.makes(ctx, s)
	}
	if err := d.answer(); err != nil {
		return span.Topic{}, err
	}
	if d.unmade != nil {
		return span.Topic{}, d.unmade
	}
	if d.full {
		return span.Topic{}, fmt.Errorf("double: %w", span.ErrStorage)
	}
	for _, k := range d.unknown {
		if _, ok := s.Config[k]; ok {
			return span.Topic{}, &span.RejectedError{Code: 40, Detail: "unknown config"}
		}
	}
	if d.topics[s.Name] != nil {
		return span.Topic{}, span.ErrExists
	}
	t := &doubleTopic{id: catalog.RandomID(), config: s.Config}
	d.topics[s.Name] = t
	d.grow(t, s.Partitions)
	return span.Topic{Name: s.Name, ID: t.id}, nil
}

func (d *double) grow(t *doubleTopic, total int32) {
	for p := int32(len(t.parts)); p < total; p++ {
		t.parts = append(t.parts, &doubleLog{d: d, t: t, index: p})
	}
}

// topic finds a topic for an operation. Needs d.mu.
func (d *double) topic(t span.Topic) (*doubleTopic, error) {
	if err := d.answer(); err != nil {
		return nil, err
	}
	x := d.topics[t.Name]
	if x == nil || x.id != t.ID {
		return nil, span.ErrGone
	}
	return x, nil
}

func (d *double) AddPartitions(_ context.Context, t span.Topic, total int32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, err := d.topic(t)
	if err == nil {
		d.grow(x, total)
	}
	return err
}

func (d *double) Configure(_ context.Context, t span.Topic, config map[string]string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, err := d.topic(t)
	if err == nil {
		err = d.fixed
	}
	if err != nil {
		return err
	}
	for k, v := range config {
		x.config[k] = v
	}
	return nil
}

func (d *double) Delete(_ context.Context, t span.Topic) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.answer(); err != nil {
		return err
	}
	if x := d.topics[t.Name]; x != nil && x.id == t.ID {
		delete(d.topics, t.Name)
	}
	return nil
}

func (d *double) Topics(_ context.Context, prefix string) ([]span.Topic, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.answer(); err != nil {
		return nil, err
	}
	d.lists++
	var out []span.Topic
	for n, t := range d.topics {
		if !d.hides && strings.HasPrefix(n, prefix) {
			out = append(out, span.Topic{Name: n, ID: t.id})
		}
	}
	return out, nil
}

func (d *double) Seal(_ context.Context, t span.Topic) ([]span.End, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, err := d.topic(t)
	if err != nil {
		return nil, err
	}
	if !d.canSeal || d.revoked {
		return nil, span.ErrCannotSeal
	}
	d.seals++
	x.sealed = true
	var out []span.End
	for p, l := range x.parts {
		out = append(out, span.End{Partition: int32(p), Start: l.start, End: l.end, MaxTimestamp: l.maxTimestamp()})
	}
	return out, nil
}

// size needs d.mu.
func (l *doubleLog) size() (n int64) {
	for _, b := range l.batches {
		n += int64(len(b.bytes))
	}
	return n
}

func (d *double) Log(t span.Topic, partition int32) span.Log {
	return &doubleHandle{d: d, topic: t, partition: partition}
}

func (d *double) Health(context.Context) (span.Health, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.answer(); err != nil {
		return span.Health{}, err
	}
	if d.unasked > 0 {
		d.unasked--
		return span.Health{ClusterID: d.id, Brokers: 1, SealUnknown: true, Writable: true}, nil
	}
	return span.Health{ClusterID: d.id, Brokers: 1, CanSeal: d.canSeal, Writable: !d.full && !d.halved, Detail: "disk is full"}, nil
}

func (d *double) Close() error { return nil }

type doubleHandle struct {
	d         *double
	topic     span.Topic
	partition int32
}

// log finds the log. Needs d.mu.
func (h *doubleHandle) log() (*doubleLog, error) {
	t, err := h.d.topic(h.topic)
	if err != nil {
		return nil, err
	}
	if int(h.partition) >= len(t.parts) {
		return nil, span.ErrGone
	}
	return t.parts[h.partition], nil
}

func (h *doubleHandle) Append(a *span.Append) {
	h.d.mu.Lock()
	a.BaseOffset, a.Err = h.append(a.Batch)
	if a.Err == nil && h.d.answers != nil {
		if hd, _, err := batch.Parse(a.Batch); err == nil {
			a.Err = h.d.answers(hd, a.Batch, true)
		}
	}
	h.d.mu.Unlock()
	a.Done(a)
}

func (h *doubleHandle) append(b []byte) (int64, error) {
	l, err := h.log()
	if err != nil {
		return -1, err
	}
	if l.t.sealed {
		return -1, span.ErrSealed
	}
	hd, _, err := batch.Parse(b)
	if err != nil {
		return -1, err
	}
	// As brokers do: this is not what a client sends.
	if hd.BaseOffset != 0 || hd.LogAppendTime() {
		return -1, &span.RejectedError{Code: wire.InvalidRecord}
	}
	if h.d.answers != nil {
		if err := h.d.answers(hd, b, false); err != nil {
			return -1, err
		}
	}
	if p := l.producer(hd.ProducerID); p != nil && hd.HasProducer() && p.Epoch == hd.ProducerEpoch {
		for _, x := range p.Batches {
			if x.FirstSequence == hd.BaseSequence {
				return x.FirstOffset, nil
			}
		}
		if hd.BaseSequence != batch.IncrementSequence(p.LastSequence, 1) {
			return -1, &span.RejectedError{Code: 45}
		}
	}
	at := l.end
	b = slices.Clone(b)
	batch.SetBaseOffset(b, at)
	l.batches = append(l.batches, doubleBatch{at, b})
	l.end = at + int64(hd.LastOffsetDelta) + 1
	return at, nil
}

func (l *doubleLog) maxTimestamp() int64 {
	ts := int64(-1)
	for _, b := range l.batches {
		if h, _, err := batch.Parse(b.bytes); err == nil {
			ts = max(ts, h.MaxTimestamp)
		}
	}
	return ts
}

func (l *doubleLog) producers() []span.Producer {
	var out []span.Producer
	for _, b := range l.batches {
		h, _, err := batch.Parse(b.bytes)
		if err != nil || !h.HasProducer() {
			continue
		}
		i := slices.IndexFunc(out, func(p span.Producer) bool { return p.ID == h.ProducerID })
		if i < 0 {
			out = append(out, span.Producer{ID: h.ProducerID, TxnStart: -1})
			i = len(out) - 1
		}
		p := &out[i]
		p.Epoch, p.LastSequence, p.LastOffset, p.LastTimestamp = h.ProducerEpoch, h.LastSequence(), b.offset+int64(h.LastOffsetDelta), h.MaxTimestamp
		p.Batches = append(p.Batches, span.ProducedBatch{FirstSequence: h.BaseSequence, LastSequence: h.LastSequence(),
			FirstOffset: b.offset, LastOffset: p.LastOffset, Timestamp: h.MaxTimestamp})
		p.Batches = p.Batches[max(0, len(p.Batches)-5):]
	}
	if l.openTxn {
		out = append(out, span.Producer{ID: 7, LastSequence: -1, LastOffset: -1, TxnStart: l.start})
	}
	return out
}

func (l *doubleLog) producer(id int64) *span.Producer {
	for _, p := range l.producers() {
		if p.ID == id {
			return &p
		}
	}
	return nil
}

func (h *doubleHandle) Read(_ context.Context, r span.ReadRequest) (span.ReadResult, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	res := span.ReadResult{Release: func() {}}
	l, err := h.log()
	if err != nil {
		return res, err
	}
	if r.Offset < l.start || r.Offset > l.end {
		return res, span.ErrOffsetOutOfRange
	}
	for _, b := range l.batches {
		hd, _, err := batch.Parse(b.bytes)
		if err != nil {
			return res, err
		}
		if b.offset+int64(hd.LastOffsetDelta) < r.Offset {
			continue
		}
		if len(res.Batches) > 0 && len(res.Batches)+len(b.bytes) > r.MaxBytes {
			break
		}
		res.Batches = append(res.Batches, b.bytes...)
	}
	res.Start, res.HighWatermark, res.LastStable = l.start, l.end, l.end
	return res, nil
}

func (h *doubleHandle) Offsets(context.Context) (span.Offsets, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	l, err := h.log()
	if err != nil {
		return span.Offsets{}, err
	}
	o := span.Offsets{Start: l.start, HighWatermark: l.end, LastStable: l.end, End: l.end}
	if l.openTxn {
		o.LastStable = l.start
	}
	if h.d.asked != nil {
		h.d.asked(l)
	}
	return o, nil
}

func (h *doubleHandle) OffsetFor(_ context.Context, ms int64) (span.Position, bool, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	l, err := h.log()
	if err != nil {
		return span.Position{}, false, err
	}
	want := ms
	if ms == span.MaxTimestamp {
		want = l.maxTimestamp()
	}
	for _, b := range l.batches {
		if hd, _, err := batch.Parse(b.bytes); err == nil && hd.MaxTimestamp >= want && b.offset >= l.start {
			return span.Position{Offset: b.offset, Timestamp: hd.MaxTimestamp}, true, nil
		}
	}
	if h.d.aged != nil {
		h.d.aged(l)
	}
	return span.Position{}, false, nil
}

func (h *doubleHandle) Probe(context.Context) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	l, err := h.log()
	if err == nil && h.d.probed != nil {
		err = h.d.probed()
	}
	if err == nil && l.t.sealed {
		err = span.ErrSealed
	}
	return err
}

func (h *doubleHandle) Producers(context.Context) ([]span.Producer, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	l, err := h.log()
	if err != nil {
		return nil, err
	}
	return l.producers(), nil
}

func (h *doubleHandle) DeleteBefore(_ context.Context, offset int64) (int64, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	l, err := h.log()
	if err != nil {
		return 0, err
	}
	l.start = max(l.start, min(offset, l.end))
	return l.start, nil
}

func (h *doubleHandle) Release() {}

// Sizes tells the bytes of each partition.
func (d *double) Sizes(_ context.Context, t span.Topic) ([]int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, err := d.topic(t)
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(x.parts))
	for p, l := range x.parts {
		for _, b := range l.batches {
			if b.offset >= l.start {
				out[p] += int64(len(b.bytes))
			}
		}
	}
	return out, nil
}

// doubles are the stores of a fleet.
type doubles map[string]*double

func (f doubles) Store(cluster string) (span.Store, error) {
	if d, ok := f[cluster]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("cluster %s: %w", cluster, span.ErrUnavailable)
}

// oneBatch is a batch of n records of a producer.
func oneBatch(producer int64, epoch int16, first int32, n int, at time.Time, value string) []byte {
	b := batch.NewBuilder().Producer(producer, epoch, first)
	for i := range n {
		b.Add(batch.Record{Timestamp: at.UnixMilli(), Key: []byte("k"), Value: fmt.Appendf(nil, "%s-%d", value, int(first)+i)})
	}
	out, err := b.Build()
	if err != nil {
		panic(err)
	}
	return out
}

func topicOf(sp *catalog.Span) span.Topic {
	return span.Topic{Name: sp.Copies[0].Topic, ID: sp.Copies[0].TopicID}
}

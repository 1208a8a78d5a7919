package controller

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

const (
	// DefaultCertifyBytes is how much of a sealed span is read for its certificate, per partition.
	DefaultCertifyBytes = 256 << 20
	// certifyRate paces that reading, in bytes a second of one controller: it takes from
	// a cluster that serves clients, and nobody waits for it.
	certifyRate = 32 << 20
	// secondLooks bounds how many chunks are read once more to find what differs in
	// them, and secondLookBatches what is kept of one of them.
	secondLooks       = 16
	secondLookBatches = 1 << 16
	// standStill bounds how long one read waits for extends that hold producers up: some
	// wait for a cluster that is away.
	standStill = 2 * time.Second
)

// errNothing: a log gave no batches below its end.
var errNothing = errors.New("nothing is there")

// content is what was read of a sealed span, beside what gateways saw acknowledged
// there. Offsets are logical.
type content struct {
	// digest sums up the gateways' reports, held what the log holds, chunk by chunk.
	digest  *catalog.AckDigest
	held    []catalog.AckChunk
	batches [][]seenBatch // of the chunks that were read a second time, by chunk
	stamped bool          // the cluster stamped records, so checksums differ
	// Everything in [from, to) was read; the log holds no offset of the span below
	// start any more.
	from, to, start int64
	records         int64 // found there
	bytes           int64
	err             error
	errAt           int64
	inDoubt         map[inDoubtKey]bool // batches whose outcome a gateway never learned
	aside           int64               // stranded records in no chunk: nobody saw them acknowledged
}

type inDoubtKey struct {
	records int32
	crc     uint32
}

// contentOf prepares the comparison: it adds up what the gateways reported. nil when there is
// nothing to compare; why says so for people, "" if nothing is to be said.
func contentOf(ev *evidence, limit int64) (c *content, why string) {
	switch {
	case ev.lossy || ev.end.Old < 0 || ev.end.End == ev.end.Start:
		return nil, ""
	case limit <= 0:
		return nil, "braid.certify.bytes=0"
	case ev.compacted:
		return nil, "the topic is compacted: its cluster removes records and makes batches anew"
	}
	c = &content{digest: &catalog.AckDigest{}, inDoubt: map[inDoubtKey]bool{}}
	for i := range ev.reports {
		r := &ev.reports[i]
		if r.Digest == nil && r.Records > 0 {
			return nil, "not every report says more than a count"
		}
		if r.Digest != nil {
			c.digest.Merge(r.Digest)
		}
		for _, b := range r.InDoubt {
			c.inDoubt[inDoubtKey{b.Records, b.CRC}] = true
		}
	}
	if len(c.digest.Chunks) == 0 {
		return nil, ""
	}
	return c, ""
}

// chunk is the number of the chunk that an offset belongs to, -1 for one that no gateway reported on.
func (c *content) chunk(offset int64) int {
	at := offset>>c.digest.Shift - c.digest.First
	if at < 0 || at >= int64(len(c.digest.Chunks)) {
		return -1
	}
	return int(at)
}

// readContent reads the sealed span as far as the limit allows: from its start, or the
// end of it if all would be too much. One partition is read at a time.
func (t *term) readContent(ctx context.Context, e *catalog.Extend, ev *evidence) {
	c, why := contentOf(ev, t.o.CertifyBytes)
	ev.contentWhy = why
	if c == nil {
		return
	}
	ev.content = c
	select {
	case t.reading <- struct{}{}:
		defer func() { <-t.reading }()
	case <-ctx.Done():
		c.err, c.errAt = ctx.Err(), ev.end.Start
		return
	}
	c.errAt = ev.end.Start
	end := &ev.end
	old := e.Old[end.Old]
	st, err := t.o.Stores.Store(old.Cluster)
	if err != nil {
		c.err = err
		return
	}
	log := st.Log(storeTopic(old), end.At)
	defer log.Release()
	for range readTries {
		if c.err = t.readAll(ctx, st, log, e, ev); !errors.Is(c.err, span.ErrOffsetOutOfRange) {
			return
		}
		// Its head was trimmed on the way: what is left is read from its new start.
	}
}

// readTries bounds how often a span is read again whose head is trimmed meanwhile.
const readTries = 3

// readAll reads a sealed span into ev.content.
func (t *term) readAll(ctx context.Context, st span.Store, log span.Log, e *catalog.Extend, ev *evidence) error {
	c, end := ev.content, &ev.end
	o, err := t.offsets(ctx, log)
	if err != nil {
		return err
	}
	c.start, c.records, c.aside = max(end.Start, o.Start+end.Delta), 0, 0
	c.from = t.readFrom(ctx, st, storeTopic(e.Old[end.Old]), ev, c)
	n := len(c.digest.Chunks)
	c.held, c.batches, c.to = make([]catalog.AckChunk, n), make([][]seenBatch, n), c.from
	err = t.pacedWalk(ctx, log, c.from-end.Delta, end.Physical, t.o.CertifyBytes, c, func(h batch.Header, _ []byte) error {
		b := seen(&h, end.Delta)
		if b.offset < c.from {
			return nil // begins in a chunk that is not compared
		}
		if !h.IsControl() {
			c.stamped = c.stamped || h.LogAppendTime()
			c.count(b)
			c.setAside(ev, &b)
		}
		c.to = b.next
		return nil
	})
	if err == nil {
		c.to = max(c.to, end.End)
	}
	c.errAt = c.to
	if err == nil || errors.Is(err, errEnough) {
		return t.lookAgain(ctx, log, end, c)
	}
	return err
}

// maxAside bounds how many stranded batches are kept apart, per partition.
const maxAside = 1 << 16

// setAside notes a stranded batch of which no gateway has said that it saw it acknowledged:
// it is accounted for by the return.
func (c *content) setAside(ev *evidence, b *seenBatch) {
	if ev.returned == nil || !within(ev.returned.Stranded, b.offset) || len(c.inDoubt) >= maxAside {
		return
	}
	for i := range ev.reports {
		if slices.ContainsFunc(ev.reports[i].Tail, func(a catalog.AckedBatch) bool { return a.Offset == b.offset && a.Records == b.records }) {
			return
		}
	}
	if c.chunk(b.offset) < 0 {
		c.aside += int64(b.records)
		return
	}
	c.inDoubt[inDoubtKey{b.records, b.crc}] = true
}

// within tells whether an offset lies in one of the ranges.
func within(gaps []catalog.Gap, offset int64) bool {
	return slices.ContainsFunc(gaps, func(g catalog.Gap) bool { return g.From <= offset && offset < g.To })
}

func (c *content) count(b seenBatch) {
	c.records += int64(b.records)
	if i := c.chunk(b.offset); i >= 0 {
		h := &c.held[i]
		h.Records += int64(b.records)
		h.Batches++
		h.Sum += catalog.AckHash(b.offset, b.records, b.crc)
		h.Places += catalog.AckHash(b.offset, b.records, 0)
	}
}

// readFrom decides where to begin: at the first chunk from which on the rest is likely
// within the limit, as far as the cluster tells how large the partition is.
func (t *term) readFrom(ctx context.Context, st span.Store, topic span.Topic, ev *evidence, c *content) int64 {
	m, ok := st.(span.Sizer)
	if !ok {
		return c.start
	}
	ctx, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	sizes, err := m.Sizes(ctx, topic)
	if err != nil || int(ev.end.At) >= len(sizes) {
		// Not every cluster lets itself be measured: the limit holds all the same.
		return c.start
	}
	size := sizes[ev.end.At]
	if size <= t.o.CertifyBytes {
		return c.start
	}
	offsets := ev.end.End - c.start
	at := ev.end.End - int64(float64(offsets)*float64(t.o.CertifyBytes)/float64(size))
	at = (at>>c.digest.Shift + 1) << c.digest.Shift
	return max(c.start, min(at, ev.end.End))
}

func (t *term) offsets(ctx context.Context, log span.Log) (span.Offsets, error) {
	ctx, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	return log.Offsets(ctx)
}

// pacedWalk is walk for reading that nobody waits for: it ends with errEnough past a
// limit in bytes, keeps to certifyRate, and stands still while an extend holds producers up.
func (t *term) pacedWalk(ctx context.Context, log span.Log, from, end, limit int64, c *content, f func(h batch.Header, b []byte) error) error {
	read := int64(0)
	for from < end {
		if read >= limit {
			return errEnough
		}
		began := time.Now()
		for t.driver.sealed.Load() > 0 && time.Since(began) < standStill {
			if err := pause(ctx, 5*time.Millisecond); err != nil {
				return err
			}
		}
		began = time.Now()
		call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		res, err := log.Read(call, span.ReadRequest{Offset: from, MaxBytes: readBytes})
		cancel()
		if err != nil {
			return fmt.Errorf("read at %d: %w", from, err)
		}
		n := int64(len(res.Batches))
		read, c.bytes = read+n, c.bytes+n
		next, err := walkRun(res.Batches, from, end, f)
		res.Release()
		if err != nil {
			return err
		}
		if next <= from {
			return fmt.Errorf("read at %d: %w: the log ends at %d", from, errNothing, end)
		}
		from = next
		if n < readBytes/4 {
			continue // the end of a small span: no reason to wait
		}
		if err := pause(ctx, time.Until(began.Add(time.Duration(n)*time.Second/certifyRate))); err != nil {
			return err
		}
	}
	return nil
}

// lookAgain reads those chunks once more in which the log does not hold what was
// acknowledged and nothing else: which batches it has decides what that means.
func (t *term) lookAgain(ctx context.Context, log span.Log, end *catalog.SealedEnd, c *content) error {
	looks := 0
	for i := range c.held {
		if !c.compared(i, end) || c.same(i) || looks >= secondLooks || c.held[i].Batches > secondLookBatches {
			continue
		}
		looks++
		from, to := c.digest.Range(i)
		from, to = max(from, c.from), min(to, end.Physical+end.Delta)
		list := []seenBatch{}
		err := t.pacedWalk(ctx, log, from-end.Delta, to-end.Delta, t.o.CertifyBytes, c, func(h batch.Header, _ []byte) error {
			if b := seen(&h, end.Delta); b.offset >= from && !h.IsControl() && len(list) < secondLookBatches {
				list = append(list, b)
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.batches[i] = list
	}
	return nil
}

// compared tells whether all of the chunk that lies in the span was read.
func (c *content) compared(i int, end *catalog.SealedEnd) bool {
	from, to := c.digest.Range(i)
	return max(from, end.Start) >= c.from && min(to, end.End) <= c.to
}

// same tells whether the log holds in a chunk what was acknowledged there, and nothing else.
func (c *content) same(i int) bool {
	a, l := c.digest.Chunks[i], c.held[i]
	return a.Records == l.Records && a.Batches == l.Batches && c.sum(a) == c.sum(l)
}

func (c *content) sum(x catalog.AckChunk) uint64 {
	if c.stamped {
		return x.Places
	}
	return x.Sum
}

func (c *content) hash(b *seenBatch) uint64 {
	if c.stamped {
		return catalog.AckHash(b.offset, b.records, 0)
	}
	return catalog.AckHash(b.offset, b.records, b.crc)
}

// chainNow reads where the partition's chain begins now: what lies below is gone for good
// reason. So is all of a topic that was deleted. released: the chain does not need the sealed copy
// any more, so that it may be removed, and was if it is not there.
func (t *term) chainNow(ctx context.Context, e *catalog.Extend, end *catalog.SealedEnd) (start int64, released bool) {
	_, pages, err := t.o.Catalog.Chains(ctx, e.Topic.Tenant, e.Topic.ID)
	if err != nil {
		if !errors.Is(err, catalog.ErrNotFound) {
			return 0, false
		}
		return math.MaxInt64, true
	}
	chains := chainsOf(pages)
	if int(end.Partition) >= len(chains) {
		return math.MaxInt64, true
	}
	ch := chains[end.Partition]
	for i := range ch.Spans {
		for j := range ch.Spans[i].Copies {
			if ch.Spans[i].Copies[j].TopicID == e.Old[end.Old].TopicID {
				return ch.Start, false
			}
		}
	}
	return ch.Start, true
}

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// returns takes the records of a failed cluster in again when it is back. The
// cluster itself stays failed, and takes no new spans, until an operator fails back.
func (t *term) returns(ctx context.Context) error {
	changed, stop := t.changes(ctx, 2*time.Second, func(c catalog.Change) bool { return c.Votes || len(c.Clusters) > 0 })
	defer stop()
	done := map[string]bool{} // until it goes away again
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		s := t.o.Watcher.Snapshot()
		for _, c := range s.Clusters() {
			if !healthy(opinions(s, c.Name), time.Now(), max(t.o.Damping, 0)) {
				delete(done, c.Name)
				continue
			}
			if done[c.Name] || t.failingOver(ctx, c.Name) {
				continue
			}
			all, err := t.bringBackAll(ctx, c.Name)
			if err != nil {
				return err
			}
			done[c.Name] = all
		}
	}
}

// failingOver tells whether a failover of the cluster is still under way, or whether
// that cannot be found out.
func (t *term) failingOver(ctx context.Context, cluster string) bool {
	ops, err := t.o.Catalog.Ops(ctx)
	if err != nil {
		return true
	}
	for i := range ops {
		if ops[i].Kind == catalog.OpFailover && ops[i].Cluster == cluster && !ops[i].IsFinished() {
			return true
		}
	}
	return false
}

func (t *term) bringBackAll(ctx context.Context, cluster string) (all bool, err error) {
	s, err := t.o.Watcher.Refresh(ctx)
	if err != nil {
		return false, err
	}
	all = true
	for topic := range s.AllTopics() {
		away := false
		for _, ch := range s.Chains(topic.ID) {
			away = away || sealedOn(ch, cluster, true)
		}
		if topic.Deleting {
			continue
		}
		if slices.Contains(openOn(s.Chains(topic.ID)), cluster) {
			// An extend may have been undone while the cluster could not be unsealed.
			if err := t.strayOf(ctx, topic.ID); err != nil {
				return false, err
			}
		}
		if !away {
			continue
		}
		if !t.take(topic.ID) {
			all = false
			continue
		}
		err := t.bringBack(ctx, catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}, cluster)
		t.release(topic.ID)
		switch {
		case err == nil:
		case errors.Is(err, catalog.ErrFenced), errors.Is(err, errCrashed), ctx.Err() != nil:
			return false, err
		default:
			all = false
			t.o.Logger.Warn("records of a cluster that is back are not taken in yet", "cluster", cluster, "topic", topic.Name, "err", err)
		}
	}
	return all, nil
}

// homecoming is one topic's return in hand.
type homecoming struct {
	t       *term
	e       catalog.Extend
	cluster string
	inPlace bool
	ends    map[catalog.ID][]span.End
	cert    catalog.Certificate
}

// bringBack makes what a topic left on the cluster readable again. It holds the
// topic's extend meanwhile, so that the open span stays where it is. It may be
// repeated from any point.
func (t *term) bringBack(ctx context.Context, ref catalog.TopicRef, cluster string) error {
	e, err := t.o.Catalog.Extend(ctx, ref.Tenant, ref.ID)
	switch {
	case err == nil && (e.Kind != catalog.OpReturn || e.Target != cluster):
		return &catalog.BusyError{Op: e.Op, Topic: ref.Name}
	case errors.Is(err, catalog.ErrNotFound):
		topic, err := t.o.Catalog.Topic(ctx, ref.Tenant, ref.ID)
		if err != nil {
			return err
		}
		id, err := t.o.Catalog.ProducerIDs(ctx, 1)
		if err != nil {
			return err
		}
		e = catalog.Extend{Op: catalog.NewOpID(time.Now()), Kind: catalog.OpReturn, Topic: ref, Step: catalog.StepPrepare, Mode: catalog.ModeSeal,
			Target: cluster, TopicRevision: topic.Revision, Producer: id, Started: time.Now().UTC()}
		if e, err = t.o.Catalog.CreateExtend(ctx, e, t.driver.fence); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	topic, pages, err := t.o.Catalog.Chains(ctx, ref.Tenant, ref.ID)
	if err != nil {
		return err
	}
	h := &homecoming{t: t, e: e, cluster: cluster, inPlace: configOf(topic.Config, ConfigStranded) == strandedInPlace,
		ends: map[catalog.ID][]span.End{}, cert: catalog.Certificate{Op: e.Op, Kind: catalog.OpReturn, Topic: ref, From: cluster, To: cluster, Mode: catalog.ModeSeal}}
	if err := h.sealAll(ctx, chainsOf(pages)); err != nil {
		return err
	}
	type change struct{ seq, end int64 }
	changes := map[int32][]change{}
	for p, ch := range chainsOf(pages) {
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			if c := awayCopy(sp, cluster); c != nil && sp.Hole {
				end, err := h.span(ctx, int32(p), ch, sp, c)
				if err != nil {
					return fmt.Errorf("partition %d: %w", p, err)
				}
				changes[int32(p)] = append(changes[int32(p)], change{int64(sp.Seq), end})
			}
		}
	}
	if err := t.driver.at(FaultReplayed); err != nil {
		return err
	}
	err = t.changeChains(ctx, ref, func(p int32, ch *catalog.Chain) bool {
		for _, x := range changes[p] {
			for i := range ch.Spans {
				if int64(ch.Spans[i].Seq) == x.seq {
					ch.Spans[i].End = x.end
				}
			}
		}
		return mark(ch, cluster, false)
	})
	if err != nil {
		return err
	}
	if err := t.driver.at(FaultRestored); err != nil {
		return err
	}
	h.cert.Issued = time.Now().UTC()
	if err := t.o.Catalog.PutCertificate(ctx, h.cert, t.driver.fence); err != nil {
		return err
	}
	return t.o.Catalog.DeleteExtend(ctx, e, t.driver.fence)
}

// awayCopy is the span's unreadable copy on the cluster, nil if there is none.
func awayCopy(sp *catalog.Span, cluster string) *catalog.Copy {
	for i := range sp.Copies {
		if !sp.IsOpen() && sp.Copies[i].Cluster == cluster && sp.Copies[i].Unreadable {
			return &sp.Copies[i]
		}
	}
	return nil
}

// sealAll seals the topics that were lost unsealed: gateways that were cut off
// from the catalog may still append to them.
func (h *homecoming) sealAll(ctx context.Context, chains []*catalog.Chain) error {
	st, err := h.t.o.Stores.Store(h.cluster)
	if err != nil {
		return err
	}
	for _, ch := range chains {
		for i := range ch.Spans {
			c := awayCopy(&ch.Spans[i], h.cluster)
			if c == nil || !ch.Spans[i].Hole || h.ends[c.TopicID] != nil {
				continue
			}
			call, cancel := context.WithTimeout(ctx, h.t.driver.limits.call)
			h.ends[c.TopicID], err = st.Seal(call, span.Topic{Name: c.Topic, ID: c.TopicID})
			cancel()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// span deals with the stranded records of one span and gives its end.
func (h *homecoming) span(ctx context.Context, p int32, ch *catalog.Chain, sp *catalog.Span, c *catalog.Copy) (end int64, err error) {
	physical := int64(-1)
	for _, e := range h.ends[c.TopicID] {
		if e.Partition == c.Partition {
			physical = e.End
		}
	}
	if physical < 0 {
		return 0, fmt.Errorf("%w: the seal told no end of partition %d", span.ErrUnavailable, c.Partition)
	}
	real := chain.ToLogical(c, physical)
	out := catalog.PartitionCertificate{Partition: p, Start: sp.Start, End: sp.End, Verdict: catalog.VerdictVerified,
		Checked: []string{"the cluster was sealed and its real end read"}}
	defer func() { h.cert.Partitions = append(h.cert.Partitions, out) }()
	switch {
	case real < sp.End:
		out.Lost, out.Verdict = sp.End-real, catalog.VerdictViolated
		out.Ranges = []catalog.Range{{From: real, To: sp.End, What: "lost", Note: "acknowledged, and not on the cluster that came back"}}
		return sp.End, nil
	case real == sp.End:
		return sp.End, nil
	case h.inPlace || sp.End == sp.Start:
		// Without a cut nobody knows what was served: appending all of it anew would
		// double the whole span.
		out.Found = real - sp.End
		out.Ranges = []catalog.Range{{From: sp.End, To: real, What: "stranded", Note: "read in place, behind those who went on"}}
		return real, nil
	}
	n, skipped, first, err := h.replay(ctx, p, ch, sp, c, physical)
	if err != nil {
		return 0, err
	}
	out.Found = n
	out.Checked = append(out.Checked, fmt.Sprintf("%d records were left out: their producers had appended them again", skipped))
	out.Ranges = []catalog.Range{{From: sp.End, To: real, What: "replayed", Note: fmt.Sprintf("%d records were appended anew from offset %d on", n, first)}}
	return sp.End, nil
}

// replay appends the stranded records anew at the end of the chain, under the
// return's own producer id, less those that their producers had appended again.
func (h *homecoming) replay(ctx context.Context, p int32, ch *catalog.Chain, sp *catalog.Span, c *catalog.Copy, end int64) (n, skipped, first int64, err error) {
	open := chain.OpenSpan(ch)
	if open == nil {
		return 0, 0, -1, errors.New("the chain has no open span")
	}
	old, err := h.t.o.Stores.Store(h.cluster)
	if err != nil {
		return 0, 0, -1, err
	}
	from := old.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition)
	defer from.Release()
	oc := &open.Copies[0]
	st, err := h.t.o.Stores.Store(oc.Cluster)
	if err != nil {
		return 0, 0, -1, err
	}
	to := st.Log(span.Topic{Name: oc.Topic, ID: oc.TopicID}, oc.Partition)
	defer to.Release()

	again, err := h.appendedAgain(ctx, ch, sp)
	if err != nil {
		return 0, 0, -1, err
	}
	state, err := to.Producers(ctx)
	if err != nil {
		return 0, 0, -1, err
	}
	had := int32(0) // records that a controller before this one appended
	for _, x := range state {
		if x.ID == h.e.Producer {
			had = x.LastSequence + 1
		}
	}
	first = -1
	var next int32
	err = walk(ctx, from, chain.ToPhysical(c, sp.End), end, func(hd batch.Header, b []byte) error {
		if hd.IsControl() || hd.NumRecords == 0 {
			return nil
		}
		if again.has(&hd) {
			skipped += int64(hd.NumRecords)
			return nil
		}
		seq := next
		next += hd.NumRecords
		n += int64(hd.NumRecords)
		if seq < had {
			return nil
		}
		out, err := restamp(&hd, b, h.e.Producer, seq)
		if err != nil {
			return err
		}
		at, err := appendOne(ctx, to, out)
		if err == nil && first < 0 {
			first = chain.ToLogical(oc, at)
		}
		return err
	})
	if err != nil || n == 0 {
		return n, skipped, first, err
	}
	// The next certificate must not take them for records that nobody reported.
	return n, skipped, first, h.t.o.Catalog.PutAckReports(ctx, h.e.Topic.ID, []catalog.AckReport{{Node: replayNode, Partition: p, Span: open.Seq,
		Records: n, Next: -1}})
}

// replayNode stands for the controller in acknowledgement reports.
const replayNode = -1

// restamp gives a batch to append anew: another producer id, sequences of its own,
// and no holes between its offsets, which clusters refuse.
func restamp(h *batch.Header, b []byte, producer int64, seq int32) ([]byte, error) {
	if h.LastOffsetDelta == h.NumRecords-1 && !h.IsTransactional() {
		out := append([]byte(nil), b...)
		return out, batch.SetProducer(out, producer, 0, seq)
	}
	nb := batch.NewBuilder().Codec(h.Codec()).Producer(producer, 0, seq)
	for r, err := range batch.Records(b, maxUnpacked) {
		if err != nil {
			return nil, err
		}
		nb.Add(*r)
	}
	return nb.Build()
}

// maxUnpacked bounds what one stored batch may unfold to.
const maxUnpacked = 256 << 20

// appendOne appends a batch and waits for it; a duplicate counts as appended.
func appendOne(ctx context.Context, log span.Log, b []byte) (int64, error) {
	done := make(chan struct{})
	a := &span.Append{Batch: b, Done: func(*span.Append) { close(done) }}
	if d, ok := ctx.Deadline(); ok {
		a.Deadline = d
	}
	log.Append(a)
	<-done // stores bound it by the deadline, or by their own
	if a.Err != nil {
		return -1, a.Err
	}
	return a.BaseOffset, nil
}

// reappended knows by which sequence each producer went on after the failover.
type reappended map[int64]producerStart

type producerStart struct {
	epoch int16
	first int32
}

// has tells whether a stranded batch was appended again: its producer went on, in
// the same epoch, from a sequence at or before it.
func (r reappended) has(h *batch.Header) bool {
	if !h.HasProducer() {
		return false
	}
	s, ok := r[h.ProducerID]
	return ok && s.epoch == h.ProducerEpoch && (s.first == h.BaseSequence || before(s.first, h.BaseSequence))
}

// searchBytes bounds how much of what came after the failover is searched for
// records that were appended again: retries come soon.
const searchBytes = 64 << 20

// appendedAgain reads where each producer went on after a span.
func (h *homecoming) appendedAgain(ctx context.Context, ch *catalog.Chain, after *catalog.Span) (reappended, error) {
	out := reappended{}
	size := 0
	for i := range ch.Spans {
		sp := &ch.Spans[i]
		if sp.Seq <= after.Seq || sp.Copies[0].Unreadable {
			continue
		}
		c := &sp.Copies[0]
		st, err := h.t.o.Stores.Store(c.Cluster)
		if err != nil {
			return nil, err
		}
		end := int64(-1)
		if !sp.IsOpen() {
			end = chain.ToPhysical(c, sp.End)
		}
		log := st.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition)
		o, err := log.Offsets(ctx)
		if err == nil {
			err = walk(ctx, log, max(o.Start, c.Map[0].Physical), end, func(hd batch.Header, b []byte) error {
				if _, ok := out[hd.ProducerID]; !ok && hd.HasProducer() {
					out[hd.ProducerID] = producerStart{hd.ProducerEpoch, hd.BaseSequence}
				}
				if size += len(b); size > searchBytes {
					return errEnough
				}
				return nil
			})
		}
		log.Release()
		if errors.Is(err, errEnough) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

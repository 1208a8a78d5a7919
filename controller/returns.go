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
	done := map[string]health{} // nothing is left to take in from the cluster, as of then
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		s := t.o.Watcher.Snapshot()
		for _, c := range s.Clusters() {
			votes := opinions(s, c.Name)
			now := t.health(votes)
			if !healthy(votes, time.Now(), max(t.o.Damping, 0)) || done[c.Name] == now || t.failingOver(ctx, c.Name) {
				continue
			}
			all, err := t.bringBackAll(ctx, c.Name)
			if err != nil {
				return err
			}
			if delete(done, c.Name); all {
				done[c.Name] = now
			}
		}
	}
}

// health tells times apart at which a cluster is well: it may have been away, and copies on
// it given up, between two looks, however long one of them took; and they may be given up
// although no gateway ever called it down, by an operator's force.
type health struct{ since, losses int64 }

func (t *term) health(votes []opinion) health {
	h := health{losses: t.driver.losses.Load(), since: -1}
	for _, v := range votes {
		h.since = max(h.since, v.since.UnixNano())
	}
	return h
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
			// A seal may stand that no extend stands behind; see strays.
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
	changes := map[int32]map[int32]settled{} // by partition and span
	for p, ch := range chainsOf(pages) {
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			if c := awayCopy(sp, cluster); c != nil && sp.Hole {
				x, err := h.span(ctx, int32(p), ch, sp, c)
				if err != nil {
					return fmt.Errorf("partition %d: %w", p, err)
				}
				if changes[int32(p)] == nil {
					changes[int32(p)] = map[int32]settled{}
				}
				changes[int32(p)][sp.Seq] = x
			}
		}
	}
	if err := t.driver.at(FaultReplayed); err != nil {
		return err
	}
	err = t.changeChains(ctx, ref, func(p int32, ch *catalog.Chain) bool {
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			if x, ok := changes[p][sp.Seq]; ok {
				sp.End = x.end
				if c := awayCopy(sp, cluster); c != nil {
					c.Skip = x.skip
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
	return t.o.Catalog.DeleteExtend(ctx, h.e, t.driver.fence)
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

// settled is what a return makes of a span.
type settled struct {
	end  int64
	skip []catalog.Gap
}

// span deals with the stranded records of one span: what lies past its end, and
// what it leaves out before that.
func (h *homecoming) span(ctx context.Context, p int32, ch *catalog.Chain, sp *catalog.Span, c *catalog.Copy) (x settled, err error) {
	physical := int64(-1)
	for _, e := range h.ends[c.TopicID] {
		if e.Partition == c.Partition {
			physical = e.End
		}
	}
	if physical < 0 {
		return settled{}, fmt.Errorf("%w: the seal told no end of partition %d", span.ErrUnavailable, c.Partition)
	}
	real := chain.ToLogical(c, physical)
	x = settled{sp.End, c.Skip}
	out := catalog.PartitionCertificate{Partition: p, Start: sp.Start, End: sp.End, Verdict: catalog.VerdictVerified,
		Checked: []string{"the cluster was sealed and its real end read"}}
	defer func() { h.cert.Partitions = append(h.cert.Partitions, out) }()
	if real < sp.End {
		out.Lost, out.Verdict = sp.End-real, catalog.VerdictViolated
		out.Ranges = []catalog.Range{{From: real, To: sp.End, What: "lost", Note: "acknowledged, and not on the cluster that came back"}}
		// Readers pass over it: waiting for what is not there would hold them up for good.
		defer func() { x.skip = leaveOutFrom(x.skip, max(real, sp.Start), sp.End) }()
	}
	zones := chain.Stranded(sp, c, real)
	if len(zones) == 0 {
		return x, nil
	}
	s, err := h.open(ctx, p, ch, sp, c, zones)
	if err != nil {
		return x, err
	}
	defer s.from.Release()
	if h.inPlace || sp.End == sp.Start {
		// Without a cut nobody knows what was served: appending all of it anew would
		// double the whole span.
		x.end = max(sp.End, real)
		if x.skip, out.Found, err = s.inPlace(ctx); err != nil {
			return x, err
		}
		for _, g := range zones {
			out.Ranges = append(out.Ranges, catalog.Range{From: g.From, To: g.To, What: "stranded", Note: "read in place, behind those who went on"})
		}
		for _, g := range x.skip {
			out.Ranges = append(out.Ranges, catalog.Range{From: g.From, To: g.To, What: "left out", Note: "their producers had appended them again"})
		}
		return x, nil
	}
	n, skipped, first, err := s.replay(ctx)
	if err != nil {
		return x, err
	}
	out.Found = n
	out.Checked = append(out.Checked, fmt.Sprintf("%d records were left out: their producers had appended them again", skipped))
	for _, g := range zones {
		out.Ranges = append(out.Ranges, catalog.Range{From: g.From, To: g.To, What: "replayed", Note: fmt.Sprintf("%d records of the partition were appended anew from offset %d on", n, first)})
	}
	return x, nil
}

// leaveOutFrom adds [from, end) to the ranges that a copy leaves out. What cannot be
// one more range goes into the last.
func leaveOutFrom(skip []catalog.Gap, from, end int64) []catalog.Gap {
	var out []catalog.Gap
	for _, g := range skip {
		if g.To < from {
			out = append(out, g)
		} else {
			from = min(from, g.From)
		}
	}
	if n := len(out); n == chain.MaxSkips {
		from, out = out[n-1].From, out[:n-1]
	}
	return append(out, catalog.Gap{From: from, To: end})
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

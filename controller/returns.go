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
	"github.com/braidstream/braid/tenant/audit"
)

// returns takes the records of a failed cluster in again when it is back. One that
// was failed automatically is what it was before once nothing is left to take in; one
// that an operator failed takes no new spans until an operator fails back.
func (t *term) returns(ctx context.Context) error {
	changed, stop := t.changes(ctx, 2*time.Second, func(c catalog.Change) bool { return c.Votes || len(c.Clusters) > 0 })
	defer stop()
	done := map[string]health{} // nothing is left to take in from the cluster, as of then
	open, err := t.openReturnings(ctx)
	if err != nil {
		return err
	}
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
			isDone := done[c.Name] == now
			if !healthy(votes, time.Now(), max(t.o.Damping, 0)) || isDone && !mayRevive(c) || t.failingOver(ctx, c.Name) {
				continue
			}
			if isDone {
				if healthy(votes, time.Now(), reviveFactor*max(t.o.Damping, 0)) {
					if err := t.revive(ctx, c.Name); err != nil {
						return err
					}
				}
				continue
			}
			r, all, err := t.bringBackAll(ctx, c.Name, open[c.Name])
			if err != nil {
				return err
			}
			if delete(open, c.Name); r != nil && !r.op.IsFinished() {
				open[c.Name] = r
			}
			if delete(done, c.Name); all {
				done[c.Name] = now
			}
		}
		if err := t.endForsaken(ctx, open); err != nil {
			return err
		}
	}
}

// reviveFactor is how many damping times a cluster must have been well before it takes
// new spans again: one that comes and goes is failed over sooner than it is taken back.
const reviveFactor = 2

// mayRevive tells whether a cluster is taken into use again without an operator.
func mayRevive(c *catalog.Cluster) bool { return c.State == catalog.ClusterFailed && c.Before != "" }

// revive makes a cluster what it was before it was failed automatically, unless an operator has
// failed it meanwhile. Topics that went elsewhere stay there: a move home is a
// failback, which costs, and which an operator orders.
func (t *term) revive(ctx context.Context, cluster string) error {
	revived := false
	err := t.changeCluster(ctx, cluster, func(c *catalog.Cluster) bool {
		if revived = mayRevive(c); revived {
			c.State, c.Before = c.Before, ""
		}
		return revived
	})
	if err != nil || !revived {
		return err
	}
	t.o.Audit.Record(audit.Event{Kind: audit.Change, Who: "controller", Action: "revive", Resource: "CLUSTER " + cluster,
		Detail: "the cluster is well again: it is what it was before the failover", Result: audit.Done})
	return nil
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

// bringBackAll takes in what there is, under the operation that is open for it; nil: it is found or made.
func (t *term) bringBackAll(ctx context.Context, cluster string, open *returning) (r *returning, all bool, err error) {
	s, err := t.o.Watcher.Refresh(ctx)
	if err != nil {
		return nil, false, err
	}
	if r, err = t.returning(ctx, open, cluster, strandedOn(s, cluster)); err != nil {
		return nil, false, err
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
				return nil, false, err
			}
		}
		if !away {
			continue
		}
		if !t.take(topic.ID) {
			all = false
			continue
		}
		ref := catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}
		err := t.bringBack(ctx, ref, cluster, r.id(ref.ID))
		t.release(topic.ID)
		switch {
		case err == nil:
		case errors.Is(err, catalog.ErrFenced), errors.Is(err, errCrashed), ctx.Err() != nil:
			return nil, false, err
		default:
			all = false
			t.o.Logger.Warn("records of a cluster that is back are not taken in yet", "cluster", cluster, "topic", topic.Name, "err", err)
		}
		if err := t.took(ctx, r, ref, err); err != nil {
			return nil, false, err
		}
	}
	if all && r != nil {
		err = t.endReturning(ctx, r) // also of topics that were deleted meanwhile, or resumed
	}
	return r, all, err
}

// errLostAgain: a topic was lost once more after it was looked at. The next look has an operation for it.
var errLostAgain = errors.New("lost again meanwhile")

// homecoming is one topic's return in hand.
type homecoming struct {
	t       *term
	e       catalog.Extend
	cluster string
	inPlace bool
	ends    map[catalog.ID][]span.End
	gone    map[catalog.ID]bool
	replays map[int32]*replays // by partition
}

// bringBack makes what a topic left on the cluster readable again. It holds the
// topic's extend meanwhile, so that the open span stays where it is. It may be
// repeated from any point. op is the operation that a return is begun under; with "" none is
// begun that has something to certify.
func (t *term) bringBack(ctx context.Context, ref catalog.TopicRef, cluster, op string) error {
	e, err := t.o.Catalog.Extend(ctx, ref.Tenant, ref.ID)
	switch {
	case err == nil && (e.Kind != catalog.OpReturn || e.Target != cluster):
		return &catalog.BusyError{Op: e.Op, Topic: ref.Name}
	case errors.Is(err, catalog.ErrNotFound):
		topic, pages, err := t.o.Catalog.Chains(ctx, ref.Tenant, ref.ID)
		if err != nil {
			return err
		}
		for p, ch := range chainsOf(pages) {
			if op == "" && wasLost(ch, cluster) {
				return errLostAgain
			}
			if err := (&homecoming{t: t, cluster: cluster}).mayBegin(ctx, int32(p), ch); err != nil {
				return err
			}
		}
		if op == "" {
			op = catalog.NewOpID(time.Now()) // sealed spans were hidden: it leaves no trace
		}
		ids, err := t.o.Catalog.ProducerIDs(ctx, 1)
		if err != nil {
			return err
		}
		e = catalog.Extend{Op: op, Kind: catalog.OpReturn, Topic: ref, Step: catalog.StepPrepare, Mode: catalog.ModeSeal,
			Target: cluster, TopicRevision: topic.Revision, Producer: ids[0], Started: time.Now().UTC()}
		if e, err = t.o.Catalog.CreateExtend(ctx, e, t.driver.fence); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	h := &homecoming{t: t, e: e, cluster: cluster, ends: map[catalog.ID][]span.End{}, gone: map[catalog.ID]bool{}, replays: map[int32]*replays{}}
	if len(e.Returned) == 0 {
		if err := h.takeIn(ctx); err != nil {
			return h.withdraw(ctx, err)
		}
	}
	if err := h.settle(ctx); err != nil || !e.Forfeit || op == "" {
		return err
	}
	return t.bringBack(ctx, ref, cluster, op) // that was another's, of a controller before this one
}

// settle makes the chains and the first certificate of what was written down, and hands the extend on to be certified.
func (h *homecoming) settle(ctx context.Context) error {
	t, cluster := h.t, h.cluster
	type at struct{ partition, span int32 }
	changes := map[at]int{}
	for i := range h.e.Ends {
		changes[at{h.e.Ends[i].Partition, h.e.Ends[i].Span}] = i
	}
	err := t.changeChains(ctx, h.e.Topic, func(p int32, ch *catalog.Chain) bool {
		settled := false
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			n, ok := changes[at{p, sp.Seq}]
			if !ok {
				continue
			}
			x := &h.e.Returned[n]
			if h.e.Forfeit {
				settled = loseSealed(sp, h.e.Old[h.e.Ends[n].Old]) || settled
			} else if c := awayCopy(sp, cluster); c != nil {
				sp.End, c.Skip, c.Settled, c.Gone = x.End, x.Skip, true, x.Gone
				settled = true
			}
		}
		// What was lost, and is not taken in yet, is not this one's to be shown again.
		return !h.e.Forfeit && mark(ch, cluster, false) || settled
	})
	if err != nil {
		return err
	}
	if err := t.driver.at(FaultRestored); err != nil {
		return err
	}
	if len(h.e.Ends) == 0 {
		return t.o.Catalog.DeleteExtend(ctx, h.e, t.driver.fence) // only sealed spans were hidden: nothing had happened to them
	}
	if err := t.o.Catalog.PutCertificate(ctx, firstWord(&h.e), t.driver.fence); err != nil {
		return err
	}
	if h.e.Forfeit {
		if err := t.tellForfeit(ctx, &h.e); err != nil {
			return err
		}
	}
	return t.o.Catalog.EndReturn(ctx, h.e, t.driver.fence)
}

// withdraw ends the extend of a return that failed before it could append anything: the topic can be moved and fail over while the
// return waits, also from the very cluster that it waits for. It is begun anew. Once something may have been appended
// only this extend knows what, so it stays.
func (h *homecoming) withdraw(ctx context.Context, failure error) error {
	if ctx.Err() != nil || errors.Is(failure, catalog.ErrFenced) || errors.Is(failure, errCrashed) || errors.Is(failure, errTooSoon) ||
		slices.ContainsFunc(h.e.Judged, func(j catalog.Judged) bool { return j.To != nil }) {
		return failure
	}
	if err := h.t.o.Catalog.DeleteExtend(ctx, h.e, h.t.driver.fence); err != nil {
		return errors.Join(failure, err)
	}
	return failure
}

// takeIn seals what was lost unsealed, takes the stranded records in, and writes down
// what each span becomes: the chains and the certificate are made from that.
func (h *homecoming) takeIn(ctx context.Context) error {
	topic, pages, err := h.t.o.Catalog.Chains(ctx, h.e.Topic.Tenant, h.e.Topic.ID)
	if err != nil {
		return err
	}
	// Of a state log the last record counts, so what comes back must not come after what was written since.
	h.inPlace = configOf(topic.Config, ConfigStranded) == strandedInPlace || ofShards(&topic)
	if err := h.sealAll(ctx, chainsOf(pages)); err != nil {
		return err
	}
	sealed := time.Now().UTC()
	var ends []catalog.SealedEnd
	var returned []catalog.ReturnedSpan
	var old []catalog.PhysicalTopic
	for p, ch := range chainsOf(pages) {
		for i := range ch.Spans {
			c := lostCopy(&ch.Spans[i], h.cluster)
			if c == nil {
				continue
			}
			end, x, err := h.span(ctx, int32(p), ch, i, c)
			if err != nil {
				return fmt.Errorf("partition %d: %w", p, err)
			}
			if end.Old = slices.IndexFunc(old, func(o catalog.PhysicalTopic) bool { return o.TopicID == c.TopicID }); end.Old < 0 {
				end.Old = len(old)
				old = append(old, catalog.PhysicalTopic{Cluster: h.cluster, Topic: c.Topic, TopicID: c.TopicID, Partitions: int32(len(h.ends[c.TopicID]))})
			}
			ends, returned = append(ends, end), append(returned, x)
		}
	}
	if err := h.t.driver.at(FaultReplayed); err != nil {
		return err
	}
	if len(ends) == 0 {
		return nil
	}
	next := h.e
	next.Ends, next.Returned, next.Old, next.Sealed = ends, returned, old, sealed
	if err := h.t.standAtReturn(ctx, &next); err != nil {
		return err
	}
	if next, err = h.t.o.Catalog.UpdateExtend(ctx, next, h.t.driver.fence); err != nil {
		return err
	}
	h.e = next
	return nil
}

// awayCopy is the span's unreadable copy on the cluster, nil if there is none or it is gone for good.
func awayCopy(sp *catalog.Span, cluster string) *catalog.Copy {
	for i := range sp.Copies {
		if !sp.IsOpen() && sp.Copies[i].Cluster == cluster && sp.Copies[i].Unreadable && !sp.Copies[i].Gone {
			return &sp.Copies[i]
		}
	}
	return nil
}

// lostCopy is the span's unreadable copy on the cluster if what it holds outside of the chain
// is to be taken in. That happens once: what a return before this one has appended anew
// lies in the log still, and would be found there again after each loss of the cluster.
func lostCopy(sp *catalog.Span, cluster string) *catalog.Copy {
	if c := awayCopy(sp, cluster); c != nil && sp.Hole && !c.Settled {
		return c
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
			c := lostCopy(&ch.Spans[i], h.cluster)
			if c == nil || h.ends[c.TopicID] != nil || h.gone[c.TopicID] {
				continue
			}
			call, cancel := context.WithTimeout(ctx, h.t.driver.limits.call)
			h.ends[c.TopicID], err = st.Seal(call, span.Topic{Name: c.Topic, ID: c.TopicID})
			cancel()
			if errors.Is(err, span.ErrGone) {
				h.gone[c.TopicID], err = true, h.t.confirmGone(ctx, c, err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// span deals with the stranded records of the chain's span i: what lies past its end, and
// what it leaves out before that.
func (h *homecoming) span(ctx context.Context, p int32, ch *catalog.Chain, i int, c *catalog.Copy) (end catalog.SealedEnd, x catalog.ReturnedSpan, err error) {
	sp := &ch.Spans[i]
	physical := int64(-1)
	for _, e := range h.ends[c.TopicID] {
		if e.Partition == c.Partition {
			physical = e.End
		}
	}
	gone := h.gone[c.TopicID]
	if gone {
		physical = nothingLeft(ch, sp, c)
	}
	if physical < 0 {
		return end, x, fmt.Errorf("%w: the seal told no end of partition %d", span.ErrUnavailable, c.Partition)
	}
	end, x = returnedAs(p, ch, i, c, physical)
	real := end.End
	if gone {
		x.Gone, x.Stranded = true, nil
		return end, x, nil
	}
	if real < sp.End {
		// Readers pass over it: waiting for what is not there would hold them up for good.
		defer func() { x.Skip = leaveOutFrom(x.Skip, max(real, sp.Start), sp.End) }()
	}
	if len(x.Stranded) == 0 {
		return end, x, nil
	}
	// Without a cut by those who lived nobody knows what was served past it: appending all of that
	// anew would double it, or what of it was acknowledged would change its offsets.
	x.InPlace = h.inPlace || sp.End == sp.Start || sp.Reported
	s, err := h.open(ctx, p, ch, sp, c, &x)
	if err != nil {
		return end, x, err
	}
	defer s.from.Release()
	if x.InPlace {
		x.End = max(sp.End, real)
		x.Skip, x.Taken, x.Left, err = s.inPlace(ctx)
		return end, x, err
	}
	err = s.replay(ctx, &x)
	return end, x, err
}

// nothingLeft is the physical end of a copy that is gone: that of a log which went back to where the chain begins to need
// it. The span keeps its offsets, and is passed over.
func nothingLeft(ch *catalog.Chain, sp *catalog.Span, c *catalog.Copy) int64 {
	return chain.ToPhysical(c, min(max(sp.Start, ch.Start), sp.End))
}

// returnedAs is the chain's span i, of whose copy the physical end was found, before anything is taken in.
func returnedAs(p int32, ch *catalog.Chain, i int, c *catalog.Copy, physical int64) (end catalog.SealedEnd, x catalog.ReturnedSpan) {
	sp := &ch.Spans[i]
	real := chain.ToLogical(c, physical)
	end = catalog.SealedEnd{Partition: p, At: c.Partition, Span: sp.Seq, Start: sp.Start, Next: sp.End, Delta: real - physical,
		Physical: physical, End: real, MaxTimestamp: sp.MaxTimestamp, Producers: sp.Producers, Skip: c.Skip,
		Reported: sp.Reported}
	if i+1 < len(ch.Spans) {
		end.Next = ch.Spans[i+1].Start
	}
	return end, catalog.ReturnedSpan{Cut: sp.End, End: sp.End, Skip: c.Skip, First: -1, Stranded: chain.Stranded(sp, c, real)}
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

// restamp gives a batch to append anew, as a client would send it: another producer id,
// sequences of its own, offsets from 0 without holes, and no time of a broker. Brokers refuse
// others, Kafka offsets that do not begin at 0 only in batches that are compressed.
func restamp(h *batch.Header, b []byte, producer int64, seq int32) ([]byte, error) {
	if h.LastOffsetDelta == h.NumRecords-1 && !h.IsTransactional() {
		out := append([]byte(nil), b...)
		batch.SetBaseOffset(out, 0)
		batch.SetLeaderEpoch(out, -1)
		if h.LogAppendTime() {
			if err := batch.ClearLogAppendTime(out); err != nil {
				return nil, err
			}
		}
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

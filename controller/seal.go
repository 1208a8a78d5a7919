package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/controller/extend"
	"github.com/braidstream/braid/span"
)

// seal ends the open copies in the extend's mode, and learns where they ended.
func (r *run) seal(ctx context.Context) error {
	if r.sealing.IsZero() {
		r.sealing = time.Now()
		r.sealed.Add(1)
	}
	switch {
	case r.e.Unreadable:
		return r.lost(ctx)
	case r.e.Mode == catalog.ModeFence:
		return r.fenced(ctx)
	}
	if err := r.awaitEnlisted(ctx); err != nil {
		return err
	}
	err := r.sealAll(ctx, r.limits.call)
	switch {
	case err == nil:
		r.obs.Sealed = true
		return r.at(FaultSealed)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, span.ErrCannotSeal):
		return r.cannotSeal(ctx, err)
	case errors.Is(err, span.ErrOpenTransaction):
		// Begun a moment before its coordinator heard that it may not. Nothing is
		// sealed, and it ends by its own timeout at the latest.
		return pause(ctx, 20*time.Millisecond)
	}
	return r.sourceAway(ctx, "seal", err)
}

// enlistedGrace is how long a seal of a cluster that runs transactions of its own waits, after coordinators were
// told that none may come to the topic any more, for those that are on their way into it. What comes later may
// find its markers refused, so that its transaction there would never end. Appends go on meanwhile.
const enlistedGrace = 200 * time.Millisecond

// awaitEnlisted waits once for what coordinators have let in before they heard of the seal.
func (r *run) awaitEnlisted(ctx context.Context) error {
	if r.enlisted {
		return nil
	}
	r.enlisted = true
	for _, old := range r.e.Old {
		st, err := r.stores.Store(old.Cluster)
		if err != nil {
			continue // told by the seal
		}
		if _, foreign := st.(span.Transactor); foreign {
			return pause(ctx, enlistedGrace)
		}
	}
	return nil
}

// readAlarms reads which partitions' physical logs went back, whatever the extend
// is for: their ends are not where the copy says. It is called before the seal, since
// appends wait behind it; the commit compares that no alarm has come since.
func (r *run) readAlarms(ctx context.Context) error {
	if r.alarmsAt > 0 {
		return nil
	}
	var err error
	r.alarmList, r.alarmsAt, err = r.cat.AlarmsOf(ctx, r.e.Topic.ID)
	return err
}

// heedAlarms finds which of the alarms concern the spans that end.
func (r *run) heedAlarms(ctx context.Context) error {
	if err := r.readAlarms(ctx); err != nil {
		return err
	}
	chains := chainsOf(r.pages)
	r.alarms, r.e.Alarms = map[int32]catalog.Alarm{}, nil
	for _, a := range r.alarmList {
		if a.Partition < 0 || int(a.Partition) >= len(chains) {
			continue
		}
		if sp := chain.OpenSpan(chains[a.Partition]); sp != nil && sp.Seq == a.Span {
			r.alarms[a.Partition] = a
			r.e.Alarms = append(r.e.Alarms, a)
		}
	}
	return nil
}

// anyFailed tells whether one of the clusters was declared failed.
func (d *driver) anyFailed(ctx context.Context, topics []catalog.PhysicalTopic) (bool, error) {
	for _, p := range topics {
		c, err := d.cat.Cluster(ctx, p.Cluster)
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return false, err
		}
		if err == nil && c.State == catalog.ClusterFailed {
			return true, nil
		}
	}
	return false, nil
}

func (r *run) sourceFailed(ctx context.Context) (bool, error) { return r.anyFailed(ctx, r.e.Old) }

// giveUpSource makes a failover of an extend whose source was lost after it had
// begun to seal, or of the rest of it where a part was committed.
func (r *run) giveUpSource(ctx context.Context) error {
	next := r.e
	next.Mode, next.Room, next.Unreadable = catalog.ModeFence, unknownRoom, true
	next, err := r.cat.UpdateExtend(ctx, next, r.fence)
	if err == nil {
		r.e = next
	}
	return err
}

func extendedInPart(r *run) bool {
	moved, _ := extend.Progress(r.pages, r.e.New.TopicID)
	return moved > 0
}

// sealAll seals every old topic and keeps their ends.
func (r *run) sealAll(ctx context.Context, timeout time.Duration) error {
	ends := make([][]extend.PhysicalEnd, len(r.e.Old))
	told := make([][][]span.Producer, len(r.e.Old))
	for i, old := range r.e.Old {
		var err error
		if ends[i], told[i], err = r.sealOne(ctx, old, timeout); err != nil {
			return err
		}
		if i < len(r.e.Old)-1 {
			if err := r.at(FaultSealedOne); err != nil {
				return err
			}
		}
	}
	r.ends, r.told = ends, told
	return nil
}

// sealOne seals one old topic and returns its ends and producers by physical partition.
func (r *run) sealOne(ctx context.Context, old catalog.PhysicalTopic, timeout time.Duration) ([]extend.PhysicalEnd, [][]span.Producer, error) {
	st, err := r.stores.Store(old.Cluster)
	if err != nil {
		return nil, nil, err
	}
	call, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	list, err := st.Seal(call, storeTopic(old))
	if err != nil {
		if errors.Is(err, span.ErrCannotSeal) {
			err = &noSealError{old.Cluster, err}
		}
		return nil, nil, err
	}
	ends, told := make([]extend.PhysicalEnd, old.Partitions), make([][]span.Producer, old.Partitions)
	seen := 0
	for _, end := range list {
		if end.Partition >= 0 && end.Partition < old.Partitions {
			ends[end.Partition] = extend.PhysicalEnd{End: end.End, MaxTimestamp: end.MaxTimestamp, Lossy: end.Lossy}
			told[end.Partition] = end.Producers
			seen++
		}
	}
	if seen < int(old.Partitions) {
		return nil, nil, fmt.Errorf("%w: the seal of cluster %s told the ends of %d partitions of %d", span.ErrUnavailable, old.Cluster, seen, old.Partitions)
	}
	return ends, told, nil
}

// fenced waits until every live gateway has stopped, then reads the ends. A
// gateway whose lease has run out has stopped by its own clock: its lease ran
// from a later moment than its deadline. One that is there and silent loses its
// lease, and is waited for by the full time to live and the margin, by whichever
// extend finds it revoked. Leases bind nobody at a copy whose cluster is recorded as
// one that can be sealed, so such a copy is sealed here too.
func (r *run) fenced(ctx context.Context) error {
	if _, err := r.awaitWords(ctx, r.limits.ttl, true); err != nil {
		return err
	}
	ends := make([][]extend.PhysicalEnd, len(r.e.Old))
	told := make([][][]span.Producer, len(r.e.Old))
	for i, old := range r.e.Old {
		can, err := r.sealable(ctx, old.Cluster)
		if err != nil {
			return err
		}
		if can {
			if err := r.awaitEnlisted(ctx); err != nil {
				return err
			}
			ends[i], told[i], err = r.sealOne(ctx, old, r.limits.call)
			switch {
			case err == nil:
				continue
			case errors.Is(err, span.ErrOpenTransaction):
				return pause(ctx, 20*time.Millisecond)
			case errors.Is(err, span.ErrCannotSeal):
				return r.cannotSeal(ctx, err)
			}
			return r.sourceAway(ctx, "seal", err)
		}
		st, err := r.stores.Store(old.Cluster)
		if err != nil {
			return r.sourceAway(ctx, "cluster "+old.Cluster, err)
		}
		ends[i] = make([]extend.PhysicalEnd, old.Partitions)
		for p := range ends[i] {
			if ends[i][p], err = r.quietEnd(ctx, st.Log(storeTopic(old), int32(p))); err != nil {
				return r.sourceAway(ctx, "read the end", err)
			}
		}
	}
	r.ends, r.told = ends, told
	r.obs.Sealed = true
	return r.at(FaultSealed)
}

// quietEnd reads the end of a log that nobody appends to, once all of it is committed.
func (r *run) quietEnd(ctx context.Context, log span.Log) (extend.PhysicalEnd, error) {
	defer log.Release()
	call, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	for {
		o, err := log.Offsets(call)
		if err != nil {
			return extend.PhysicalEnd{}, err
		}
		if o.HighWatermark == o.End {
			at, found, err := log.OffsetFor(call, span.MaxTimestamp)
			if err != nil || !found {
				at.Timestamp = -1
			}
			return extend.PhysicalEnd{End: o.End, MaxTimestamp: at.Timestamp}, err
		}
		if err := pause(call, 20*time.Millisecond); err != nil {
			return extend.PhysicalEnd{}, fmt.Errorf("%w: the high watermark stays at %d, the end is %d", span.ErrUnavailable, o.HighWatermark, o.End)
		}
	}
}

// awaitWords waits for the hold acknowledgements of the live gateways, as
// [extend.Await] decides, and returns the words that came. With revoke set those
// that are silent after patience are fenced off, else left out and noted.
func (r *run) awaitWords(ctx context.Context, patience time.Duration, revoke bool) ([]catalog.HoldAck, error) {
	began := time.Now()
	var first []catalog.Gateway
	for looked := false; ; looked = true {
		f := extend.Fence{Patience: patience, TTL: r.limits.ttl, Revoke: revoke, Gone: r.gone.since}
		var err error
		if f.Gateways, err = r.cat.Gateways(ctx); err != nil {
			return nil, err
		}
		if !looked {
			first = f.Gateways
		}
		f.First = first
		if revoke {
			if f.Revoked, err = r.cat.RevokedLeases(ctx); err != nil {
				return nil, err
			}
			r.gone.note(f.Gateways, f.Revoked)
		}
		if f.Words, err = r.cat.HoldAcks(ctx, r.e.Topic.ID, r.e.Op); err != nil {
			return nil, err
		}
		f.Waited = time.Since(began)
		switch do, silent := extend.Await(f); do {
		case extend.FenceHolds:
			for _, g := range silent {
				r.log.Warn("a failover goes on without a gateway's word", "node", g.Node, "topic", r.e.Topic.Name)
				r.silent = append(r.silent, g.Node)
			}
			for _, x := range f.Revoked {
				if f.Past(x) {
					if err := r.cat.ForgetRevoked(ctx, x, r.fence); err != nil {
						return nil, err
					}
				}
			}
			return f.Words, nil
		case extend.RevokeSilent:
			for _, g := range silent {
				r.log.Warn("gateway is silent, its lease is revoked", "node", g.Node, "topic", r.e.Topic.Name)
				if err := r.cat.RevokeGateway(ctx, g, r.fence); err != nil {
					return nil, err
				}
			}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// gone remembers since when this controller has found revoked leases without a
// registration, over all its extends: what one has taken another must wait for too.
type gone struct {
	mu   sync.Mutex
	seen map[int64]time.Time // by lease
}

func (g *gone) note(gateways []catalog.Gateway, revoked []catalog.Revoked) {
	g.mu.Lock()
	defer g.mu.Unlock()
	listed := map[int64]bool{}
	for _, x := range revoked {
		listed[x.Lease] = true
		held := slices.ContainsFunc(gateways, func(w catalog.Gateway) bool { return w.Lease == x.Lease })
		if _, ok := g.seen[x.Lease]; !ok && !held {
			g.seen[x.Lease] = time.Now()
		}
	}
	for lease := range g.seen {
		if !listed[lease] {
			delete(g.seen, lease) // it was waited for
		}
	}
}

// since tells for how long the lease's registration has been seen away, 0 if it has not.
func (g *gone) since(lease int64) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at, ok := g.seen[lease]; ok {
		return time.Since(at)
	}
	return 0
}

// lost ends copies on a cluster that is gone. If it can be reached after all it is
// sealed, and nothing is lost. Else the chain is cut where the live gateways'
// words allow (see [chain.CutAt]); what lies past it has its room, and comes back
// with the cluster.
func (r *run) lost(ctx context.Context) error {
	standing := r.standings.ask(ctx, &r.e.Topic, r.limits.groups)
	err := span.ErrUnavailable
	known := slices.ContainsFunc(r.e.Old, func(p catalog.PhysicalTopic) bool { return r.away.lately(p.Cluster) })
	if !known {
		if err = r.sealAll(ctx, r.limits.tryLost); err != nil && !errors.Is(err, span.ErrGone) && ctx.Err() == nil {
			for _, p := range r.e.Old {
				r.away.note(p.Cluster)
			}
		}
	}
	switch {
	case err == nil:
		r.log.Info("the lost cluster could be sealed: nothing is lost", "topic", r.e.Topic.Name)
		next := r.e
		next.Mode, next.Room, next.Unreadable = catalog.ModeSeal, 0, false
		if next, err = r.cat.UpdateExtend(ctx, next, r.fence); err != nil {
			return err
		}
		r.e = next
		r.obs.Sealed = true
		return r.at(FaultSealed)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	r.silent = nil
	words, err := r.awaitWords(ctx, r.limits.hold, false)
	if err != nil {
		return err
	}
	r.words = words
	r.standing = standing()
	// After the words: a gateway that has ended meanwhile has left a report in place of its word.
	switch r.reported, err = r.cat.AckReports(ctx, r.e.Topic.ID); {
	case errors.Is(err, catalog.ErrCorrupt):
		r.log.Error("reports of acknowledgements cannot be read: a lost span may be cut before what they tell", "topic", r.e.Topic.Name, "err", err)
	case err != nil:
		return err
	}
	r.obs.Sealed = true
	return r.at(FaultSealed)
}

// endOf gives the end of one partition's open span.
func (r *run) endOf(p int32, ch *catalog.Chain) (catalog.SealedEnd, error) {
	if r.e.Unreadable {
		c, sp := extend.Copy(&r.e, ch), chain.OpenSpan(ch)
		if c == nil {
			return catalog.SealedEnd{}, fmt.Errorf("partition %d has no open copy on what was lost", p)
		}
		cut := chain.CutAt(sp, p, r.words, r.reported...)
		x, err := extend.SealedEnd(&r.e, p, ch, extend.PhysicalEnd{End: chain.ToPhysical(c, cut.End), MaxTimestamp: -1})
		x.Skip, x.Reported = cut.Skip, cut.Reported
		return x, err
	}
	i := extend.OldIndex(&r.e, ch)
	if i < 0 {
		return catalog.SealedEnd{}, fmt.Errorf("partition %d is not on a topic that is sealed", p)
	}
	at := extend.Copy(&r.e, ch).Partition
	if int(at) >= len(r.ends[i]) {
		return catalog.SealedEnd{}, fmt.Errorf("partition %d: the seal told no end", p)
	}
	end := r.ends[i][at]
	a, alarmed := r.alarms[p]
	if alarmed {
		// What was appended after the log had gone back was given offsets that had
		// been used, and was never acknowledged: the chain ends where it went back to.
		end.End = min(end.End, chain.ToPhysical(extend.Copy(&r.e, ch), a.End))
	}
	x, err := extend.SealedEnd(&r.e, p, ch, end)
	if alarmed && err == nil {
		x.Next = max(x.Next, max(a.Acknowledged, x.End)+repairRoom)
	}
	return x, err
}

// repairRoom is what a repair leaves free past the highest offset known to have
// been acknowledged: another gateway may know of later ones.
const repairRoom = 1 << 20

// producersAt gives the producers' state at the end of one partition: what was
// known before, and what the sealed copy remembers of its own records.
func (r *run) producersAt(ctx context.Context, ch *catalog.Chain, end *catalog.SealedEnd) ([]chain.ProducerState, error) {
	before := r.before[chain.SealedState(ch)]
	m := chain.Merge{Copy: extend.Copy(&r.e, ch), End: end.End, Now: time.Now(), Lossy: end.Next > end.End}
	if r.e.Unreadable {
		cut := chain.CutAt(chain.OpenSpan(ch), end.Partition, r.words, r.reported...)
		return chain.MergeProducers(before, cut.Producers(m.Copy, m.Now.UnixMilli()), m)
	}
	_, alarmed := r.alarms[end.Partition]
	if i := extend.OldIndex(&r.e, ch); i >= 0 && r.told != nil && !alarmed {
		if at := extend.Copy(&r.e, ch).Partition; int(at) < len(r.told[i]) && r.told[i][at] != nil {
			return chain.MergeProducers(before, r.told[i][at], m)
		}
	}
	log, err := r.openLog(ch)
	if log == nil || err != nil {
		return nil, err
	}
	defer log.Release()
	call, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	fresh, err := log.Producers(call)
	if err != nil {
		return nil, err
	}
	if alarmed {
		if fresh, err = without(call, log, fresh, end.Physical); err != nil {
			return nil, err
		}
	}
	return chain.MergeProducers(before, fresh, m)
}

// without takes back what producers appended from the physical offset cut on:
// those batches are not in the chain, so a retry of them is no duplicate.
func without(ctx context.Context, log span.Log, state []span.Producer, cut int64) ([]span.Producer, error) {
	first := map[int64]batch.Header{}
	if err := walk(ctx, log, cut, -1, func(h batch.Header, _ []byte) error {
		if _, ok := first[h.ProducerID]; !ok && h.HasProducer() {
			first[h.ProducerID] = h
		}
		return nil
	}); err != nil {
		return nil, err
	}
	out := slices.Clone(state)
	for i := range out {
		p := &out[i]
		h, ok := first[p.ID]
		if !ok {
			continue
		}
		p.LastOffset = -1
		p.Batches = slices.DeleteFunc(slices.Clone(p.Batches), func(b span.ProducedBatch) bool { return b.LastOffset >= cut })
		switch {
		case h.ProducerEpoch != p.Epoch, h.BaseSequence == 0:
			p.LastSequence = batch.NoSequence
		default:
			p.LastSequence = batch.DecrementSequence(h.BaseSequence, 1)
		}
	}
	return out, nil
}

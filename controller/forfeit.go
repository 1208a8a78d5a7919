package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// Nobody appends to a sealed span, so its physical topic is missed by readers alone, and these would wait for it. Once it
// is certain that it is gone, the span is given up, whatever the topic's guarantee, as an open one is: waiting would
// bring nothing back. It keeps its offsets, readers go on behind it, and a certificate of a repair names the range, and the
// groups that had not read it.

// forfeitEnds bounds the spans that one repair gives up: what it writes has to fit into one value of the catalog.
const forfeitEnds = 1000

// sealedTopics lists the distinct physical topics of sealed spans that readers are sent to.
func sealedTopics(chains []*catalog.Chain) (out []catalog.PhysicalTopic) {
	seen := map[orphanKey]bool{}
	for _, ch := range chains {
		for i := range ch.Spans {
			for j := range ch.Spans[i].Copies {
				c := &ch.Spans[i].Copies[j]
				if k := (orphanKey{c.Cluster, c.TopicID}); !ch.Spans[i].IsOpen() && !c.Unreadable && !seen[k] {
					seen[k] = true
					out = append(out, catalog.PhysicalTopic{Cluster: c.Cluster, Topic: c.Topic, TopicID: c.TopicID})
				}
			}
		}
	}
	return out
}

// sealedAbsent gives up what is gone for certain of the physical topics that a cluster does not list.
func (t *term) sealedAbsent(ctx context.Context, ref catalog.TopicRef, cluster string, there map[catalog.ID]bool) error {
	s, err := t.o.Watcher.RefreshTopic(ctx, ref.Tenant, ref.ID)
	if err != nil {
		return err
	}
	gone := map[catalog.ID]bool{}
	for _, p := range sealedTopics(s.Chains(ref.ID)) {
		if p.Cluster != cluster || there[p.TopicID] {
			continue
		}
		err := t.confirmGone(ctx, &catalog.Copy{Cluster: p.Cluster, Topic: p.Topic, TopicID: p.TopicID}, span.ErrGone)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			gone[p.TopicID] = true
		} // else not certain: asked again at the next look
	}
	if len(gone) == 0 || !t.take(ref.ID) {
		return nil
	}
	defer t.release(ref.ID)
	return t.forfeit(ctx, ref, cluster, gone)
}

// forfeit gives up the sealed spans on physical topics that are gone. It goes by the topic's extend, as a return does, so that
// whoever leads next ends it; what is given up is written down with that.
func (t *term) forfeit(ctx context.Context, ref catalog.TopicRef, cluster string, gone map[catalog.ID]bool) error {
	topic, pages, err := t.o.Catalog.Chains(ctx, ref.Tenant, ref.ID)
	if errors.Is(err, catalog.ErrNotFound) || err == nil && topic.Deleting {
		return nil
	}
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	e := catalog.Extend{Op: catalog.NewOpID(now), Kind: catalog.OpReturn, Forfeit: true, Topic: ref, Step: catalog.StepPrepare, Mode: catalog.ModeSeal,
		Target: cluster, TopicRevision: topic.Revision, Started: now, Sealed: now}
	at := map[catalog.ID]int{}
	for p, ch := range chainsOf(pages) {
		for i := range ch.Spans {
			c := readableOn(&ch.Spans[i], cluster, gone)
			if c == nil || len(e.Ends) == forfeitEnds {
				continue
			}
			end, x := returnedAs(int32(p), ch, i, c, nothingLeft(ch, &ch.Spans[i], c))
			old, ok := at[c.TopicID]
			if !ok {
				old = len(e.Old)
				at[c.TopicID] = old
				e.Old = append(e.Old, catalog.PhysicalTopic{Cluster: cluster, Topic: c.Topic, TopicID: c.TopicID})
			}
			e.Old[old].Partitions = max(e.Old[old].Partitions, c.Partition+1)
			// What was cut off there, and came back, has been taken in.
			end.Old, end.Reported, x.Gone, x.Stranded = old, false, true, nil
			e.Ends, e.Returned = append(e.Ends, end), append(e.Returned, x)
		}
	}
	if len(e.Ends) == 0 {
		return nil
	}
	e.Standing = notRead(&e, t.driver.standings.ask(ctx, &ref, t.driver.limits.groups)())
	if e, err = t.o.Catalog.CreateExtend(ctx, e, t.driver.fence); err != nil {
		return err
	}
	return (&homecoming{t: t, e: e, cluster: cluster}).settle(ctx)
}

// readableOn is a sealed span's copy on one of a cluster's physical topics, if readers are sent there; else nil.
func readableOn(sp *catalog.Span, cluster string, topics map[catalog.ID]bool) *catalog.Copy {
	for i := range sp.Copies {
		if c := &sp.Copies[i]; !sp.IsOpen() && c.Cluster == cluster && topics[c.TopicID] && !c.Unreadable {
			return c
		}
	}
	return nil
}

// loseSealed has a sealed span's copy on a physical topic be gone for good; it tells whether it was not yet.
func loseSealed(sp *catalog.Span, on catalog.PhysicalTopic) bool {
	c := readableOn(sp, on.Cluster, map[catalog.ID]bool{on.TopicID: true})
	if c == nil {
		return false
	}
	c.Unreadable, c.Settled, c.Gone = true, true, true
	return true
}

// notRead notes at each span of a repair which groups have not read all of it, and gives the standing without them.
func notRead(e *catalog.Extend, s *catalog.Standing) *catalog.Standing {
	if s == nil {
		return nil
	}
	sum := summary(s)
	groups := map[int32][]catalog.GroupStand{}
	for _, g := range s.Groups {
		groups[g.Partition] = append(groups[g.Partition], g)
	}
	room, size := standingEntries, 0
	for i := range e.Ends {
		end, x := &e.Ends[i], &e.Returned[i]
		for _, g := range groups[end.Partition] {
			skip := skipOf(g, end.End, x.End, x.Skip, catalog.GroupLost)
			if g.Offset >= x.End || skip.Records <= 0 {
				continue
			}
			if size += len(g.Group) + 96; room == 0 || size > standingBytes {
				sum.Unlisted++
				continue
			}
			room--
			x.Groups = append(x.Groups, skip)
		}
	}
	return sum
}

// tellForfeit records a repair that gave up sealed spans, as an operation of its own. It may be repeated.
func (t *term) tellForfeit(ctx context.Context, e *catalog.Extend) error {
	var lost int64
	for i := range e.Ends {
		lost += lostOffsets(&e.Ends[i], &e.Returned[i])
	}
	now := time.Now().UTC()
	_, err := t.o.Catalog.CreateOp(ctx, catalog.Op{ID: e.Op, Kind: catalog.OpRepair, State: catalog.OpDone, Topics: []catalog.TopicRef{e.Topic}, To: e.Target,
		Total: 1, Done: 1, Progress: 100, Reason: physicalGone, Created: e.Started, Finished: now,
		Message: fmt.Sprintf("up to %d records of sealed spans are lost: cluster %s has their physical topics no more; braid topic describe %s", lost, e.Target, e.Topic.Name)})
	if errors.Is(err, catalog.ErrExists) {
		return nil
	}
	if err == nil {
		t.o.Logger.Warn("sealed spans are given up", "topic", e.Topic.Name, "cluster", e.Target, "op", e.Op, "records", lost, "reason", physicalGone)
	}
	return err
}

// lostOffsets counts the offsets that a span of which nothing is left had, as far as they were in the chain.
func lostOffsets(end *catalog.SealedEnd, x *catalog.ReturnedSpan) (n int64) {
	for _, g := range lostRanges(end, x) {
		n += g.To - g.From
	}
	return n
}

func lostRanges(end *catalog.SealedEnd, x *catalog.ReturnedSpan) []catalog.Gap {
	real := end.Physical + end.Delta
	if real >= x.Cut {
		return nil
	}
	return beside([]catalog.Gap{{From: real, To: x.Cut}}, skipsOf(x))
}

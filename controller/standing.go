package controller

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
)

// A lossy extend leaves records behind that readers pass over until their cluster is back. Where
// the groups of the topic stood is asked before its commit, since a group may commit past them a moment
// later, and once more before a return makes them readable, since from then on a group that comes
// past has read them. What lies between is what a group has skipped.

// StandingTopics is how many topics [Options.Standings] is asked for at once.
const StandingTopics = 1000

const (
	// standingEntries and standingBytes bound what an extend keeps of where groups stood.
	standingEntries = 2000
	standingBytes   = 64 << 10
	// standingsAtOnce bounds the questions under way: each has coordinators look through all groups.
	standingsAtOnce = 2
)

// standings asks for many topics together: a failover of thousands would else look through all groups as often.
type standings struct {
	of    func(ctx context.Context, topics []catalog.ID, shards []int32) map[catalog.ID]catalog.Standing
	slots chan struct{}
	wg    sync.WaitGroup

	mu   sync.Mutex
	next *standingBatch // takes topics still; nil: none
}

type standingBatch struct {
	topics map[catalog.ID]bool
	done   chan struct{}
	got    map[catalog.ID]catalog.Standing // once done
}

func newStandings(of func(context.Context, []catalog.ID, []int32) map[catalog.ID]catalog.Standing) *standings {
	return &standings{of: of, slots: make(chan struct{}, standingsAtOnce)}
}

func (s *standings) wait() { s.wg.Wait() }

// ask begins to ask, and gives what waits for the answer, as long as patience in all; that gives nil where there
// is nobody to ask.
func (s *standings) ask(ctx context.Context, topic *catalog.TopicRef, patience time.Duration) func() *catalog.Standing {
	if s.of == nil || topic.Tenant == catalog.SystemTenant {
		return func() *catalog.Standing { return nil }
	}
	id := topic.ID
	s.mu.Lock()
	b := s.next
	if b == nil {
		b = &standingBatch{topics: map[catalog.ID]bool{}, done: make(chan struct{})}
		s.next = b
		// Whoever began the batch may give up before others do.
		s.wg.Go(func() { s.run(context.WithoutCancel(ctx), b, patience) })
	}
	if b.topics[id] = true; len(b.topics) == StandingTopics {
		s.next = nil
	}
	s.mu.Unlock()
	limit := time.NewTimer(2 * patience) // its turn, and its answer
	return func() *catalog.Standing {
		defer limit.Stop()
		select {
		case <-b.done:
		case <-limit.C:
		case <-ctx.Done():
		}
		select {
		case <-b.done: // also where it came in time, and the caller did something else for longer
			got := b.got[id]
			return &got
		default:
			return &catalog.Standing{Unasked: true}
		}
	}
}

func (s *standings) run(ctx context.Context, b *standingBatch, patience time.Duration) {
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	s.mu.Lock()
	if s.next == b {
		s.next = nil
	}
	topics := make([]catalog.ID, 0, len(b.topics))
	for id := range b.topics {
		topics = append(topics, id)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b.got = s.of(ctx, topics, nil)
	close(b.done)
}

// concerned keeps of a standing those who have not gone past the ends of the spans that are lost, those
// who have not read all that is known of them first.
func concerned(s *catalog.Standing, ends []catalog.SealedEnd) *catalog.Standing {
	if s == nil {
		return nil
	}
	at := endsByPartition(ends)
	out := *s
	out.Groups = nil
	for _, g := range s.Groups {
		if end := at[g.Partition]; end != nil && end.Next > end.End && g.Offset < end.Next {
			out.Groups = append(out.Groups, g)
		}
	}
	slices.SortStableFunc(out.Groups, func(a, b catalog.GroupStand) int {
		return cmp.Compare(caughtUp(a, at), caughtUp(b, at))
	})
	size := 0
	for i, g := range out.Groups {
		if size += len(g.Group) + 32; size > standingBytes || i == standingEntries {
			out.Unlisted += int64(len(out.Groups) - i)
			out.Groups = out.Groups[:i]
			break
		}
	}
	return &out
}

func endsByPartition(ends []catalog.SealedEnd) map[int32]*catalog.SealedEnd {
	at := make(map[int32]*catalog.SealedEnd, len(ends))
	for i := range ends {
		at[ends[i].Partition] = &ends[i]
	}
	return at
}

func caughtUp(g catalog.GroupStand, at map[int32]*catalog.SealedEnd) int {
	if g.Offset < at[g.Partition].End {
		return 0
	}
	return 1
}

// unreadGroups are those that stand before or in a span that cannot be read.
func unreadGroups(s *catalog.Standing, end *catalog.SealedEnd, what string) (out []catalog.GroupSkip) {
	if s == nil {
		return nil
	}
	for _, g := range s.Groups {
		if g.Partition == end.Partition && g.Offset < end.End {
			out = append(out, skipOf(g, end.Start, end.End, end.Skip, what))
		}
	}
	return out
}

// skipOf is what a group has not read of [start, end), of which some ranges are left out.
func skipOf(g catalog.GroupStand, start, end int64, left []catalog.Gap, what string) catalog.GroupSkip {
	x := catalog.GroupSkip{Group: g.Group, Committed: g.Offset, From: max(g.Offset, start), To: end, What: what}
	x.Records = x.To - x.From
	for _, l := range left {
		x.Records -= max(min(l.To, x.To)-max(l.From, x.From), 0)
	}
	return x
}

// summary is a standing without its groups, for a certificate.
func summary(s *catalog.Standing) *catalog.Standing {
	if s == nil {
		return nil
	}
	out := *s
	out.Groups = nil
	return &out
}

// askLate asks the coordinators that did not answer when the span was lost, most of which had been on
// gateways that were lost with it. Who of their groups has gone past the span by now cannot be told from who
// was there before.
func (t *term) askLate(ctx context.Context, e *catalog.Extend) {
	s := e.Standing
	if s == nil || t.o.Standings == nil || len(s.Silent) == 0 && !s.Unasked {
		return
	}
	call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	got := t.o.Standings(call, []catalog.ID{e.Topic.ID}, s.Silent)[e.Topic.ID]
	e.Standing = concerned(&catalog.Standing{Groups: append(slices.Clone(s.Groups), got.Groups...), Unlisted: s.Unlisted + got.Unlisted,
		Silent: got.Silent, Late: merged(s.Late, got.Answered), Unasked: got.Unasked}, e.Ends)
}

// standAtReturn asks where the groups stand that stood in the lost spans, or before them, and notes those that
// have gone past them. It is called before they are made readable, with the extend that will say so.
func (t *term) standAtReturn(ctx context.Context, e *catalog.Extend) error {
	if t.o.Standings == nil {
		return nil
	}
	before, err := t.stoodBefore(ctx, e)
	if err != nil {
		return err
	}
	sum := catalog.Standing{}
	any := false
	for i := range before {
		sum.Silent = merged(sum.Silent, before[i].Standing.Silent)
		sum.Late = merged(sum.Late, before[i].Standing.Late)
		sum.Unlisted += before[i].Standing.Unlisted
		sum.Unasked = sum.Unasked || before[i].Standing.Unasked
		any = any || len(before[i].Standing.Groups) > 0
	}
	if any {
		call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		now := t.o.Standings(call, []catalog.ID{e.Topic.ID}, nil)[e.Topic.ID]
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		sum.Silent = merged(sum.Silent, now.Silent)
		sum.Unlisted += now.Unlisted + skippedGroups(e, before, &now)
	}
	if len(before) > 0 {
		e.Standing = &sum
	}
	return nil
}

// stoodBefore are the failovers that lost the return's spans, and know where groups stood then.
func (t *term) stoodBefore(ctx context.Context, e *catalog.Extend) ([]catalog.Extend, error) {
	list, err := t.o.Catalog.Postponed(ctx, e.Topic.ID)
	if err != nil {
		return nil, err
	}
	pending, err := t.o.Catalog.CertificationsOf(ctx, e.Topic.ID)
	if err != nil {
		return nil, err
	}
	ops := map[string]bool{}
	return slices.DeleteFunc(append(list, pending...), func(f catalog.Extend) bool {
		if ops[f.Op] { // postponed between the two looks
			return true
		}
		ops[f.Op] = true
		return !f.Unreadable || f.Standing == nil || !slices.ContainsFunc(f.Ends, func(end catalog.SealedEnd) bool { return endOf(e, &end) >= 0 })
	}), nil
}

// skippedGroups notes at each returned span who has gone past it since it was lost, and tells how many
// there was no room for.
func skippedGroups(e *catalog.Extend, before []catalog.Extend, now *catalog.Standing) (unlisted int64) {
	type who struct {
		group     string
		partition int32
	}
	at := make(map[who]int64, len(now.Groups))
	for _, g := range now.Groups {
		at[who{g.Group, g.Partition}] = g.Offset
	}
	room := standingEntries
	for i := range before {
		stood := map[int32][]catalog.GroupStand{}
		for _, g := range before[i].Standing.Groups {
			stood[g.Partition] = append(stood[g.Partition], g)
		}
		for _, lost := range before[i].Ends {
			j := endOf(e, &lost)
			if j < 0 {
				continue
			}
			end, x := &e.Ends[j], &e.Returned[j]
			for _, g := range stood[lost.Partition] {
				is, ok := at[who{g.Group, g.Partition}]
				if g.Offset >= x.End || !x.Gone && (!ok || is < end.Next) {
					continue
				}
				skip := skipOf(g, end.Start, x.End, x.Skip, catalog.GroupSkipped)
				if x.Gone { // nor will it be given them, wherever it stands by now
					skip.What, is = catalog.GroupLost, 0
				}
				switch {
				case skip.Records <= 0:
				case room == 0:
					unlisted++
				default:
					skip.Now = is
					x.Groups = append(x.Groups, skip)
					room--
				}
			}
		}
	}
	return unlisted
}

func merged(a, b []int32) []int32 {
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}

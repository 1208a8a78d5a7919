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

// strandedLog is what one partition's copy, back with its cluster, holds that is
// not in the chain.
type strandedLog struct {
	h         *homecoming
	partition int32
	ch        *catalog.Chain
	span      *catalog.Span
	copy      *catalog.Copy
	zones     []catalog.Gap // logical, ascending
	stays     bool          // it is to be read where it is
	from      span.Log
	again     chain.Again
}

// errTooSoon: a producer may still append again what is stranded.
var errTooSoon = errors.New("stranded records wait until their producers have had time to append them again")

// errElsewhere: producers may have appended again on a cluster that is away itself what is stranded.
var errElsewhere = errors.New("stranded records wait for another cluster, where their producers may have appended them again")

// open looks at who appended what is stranded, and who of them appended it again.
// What is found out is kept with the extend, so that a controller that takes over
// counts alike.
func (h *homecoming) open(ctx context.Context, p int32, ch *catalog.Chain, sp *catalog.Span, c *catalog.Copy, x *catalog.ReturnedSpan) (*strandedLog, error) {
	s, err := h.logOf(p, ch, sp, c)
	if err != nil {
		return nil, err
	}
	s.zones, s.stays = x.Stranded, x.InPlace
	if s.again, err = s.known(ctx); err != nil {
		s.from.Release()
		return nil, err
	}
	return s, nil
}

// logOf is the log of a lost copy, for the caller to release.
func (h *homecoming) logOf(p int32, ch *catalog.Chain, sp *catalog.Span, c *catalog.Copy) (*strandedLog, error) {
	st, err := h.t.o.Stores.Store(h.cluster)
	if err != nil {
		return nil, err
	}
	return &strandedLog{h: h, partition: p, ch: ch, span: sp, copy: c, from: copyLog(st, c)}, nil
}

func (s *strandedLog) known(ctx context.Context) (chain.Again, error) {
	if j := judgedOf(&s.h.e, s.partition, s.span.Seq); j != nil {
		return againOf(j), nil
	}
	who, err := s.who(ctx)
	if err != nil {
		return nil, err
	}
	again, err := s.appendedAgain(ctx, who)
	if err != nil {
		return nil, err
	}
	if left := len(who) - len(again); left > 0 && time.Since(s.span.SealedAt) < s.h.t.driver.limits.retries {
		return nil, fmt.Errorf("partition %d, %d producers: %w", s.partition, left, errTooSoon)
	}
	j := catalog.Judged{Partition: s.partition, Span: s.span.Seq}
	for id, a := range again {
		j.Again = append(j.Again, catalog.AppendedAgain{Producer: id, Epoch: a.Epoch, First: a.First})
	}
	if !s.stays {
		if err := s.aim(ctx, &j); err != nil {
			return nil, err
		}
	}
	next := s.h.e
	next.Judged = append(next.Judged[:len(next.Judged):len(next.Judged)], j)
	if next, err = s.h.t.o.Catalog.UpdateExtend(ctx, next, s.h.t.driver.fence); err != nil {
		return nil, err
	}
	s.h.e = next
	return again, nil
}

// who are the producers of what is stranded.
func (s *strandedLog) who(ctx context.Context) (map[int64]struct{}, error) {
	who := map[int64]struct{}{}
	err := s.walk(ctx, func(h *batch.Header, _ []byte) error {
		if h.HasProducer() {
			who[h.ProducerID] = struct{}{}
		}
		return nil
	})
	return who, err
}

// aim notes where the stranded records will be appended anew, and from where on: they are
// looked for there when the return is certified.
func (s *strandedLog) aim(ctx context.Context, j *catalog.Judged) error {
	oc, to, err := s.target()
	if err != nil {
		return err
	}
	defer to.Release()
	o, err := s.h.t.offsets(ctx, to)
	if err != nil {
		return err
	}
	j.To = &catalog.PhysicalTopic{Cluster: oc.Cluster, Topic: oc.Topic, TopicID: oc.TopicID}
	j.At, j.From = oc.Partition, o.HighWatermark
	j.Delta = chain.ToLogical(oc, j.From) - j.From
	return nil
}

// target is the open span's copy, and its log for the caller to release.
func (s *strandedLog) target() (*catalog.Copy, span.Log, error) {
	open := chain.OpenSpan(s.ch)
	if open == nil {
		return nil, nil, errors.New("the chain has no open span")
	}
	oc := &open.Copies[0]
	st, err := s.h.t.o.Stores.Store(oc.Cluster)
	if err != nil {
		return nil, nil, err
	}
	return oc, copyLog(st, oc), nil
}

// judgedOf is what a return has found out of a span; nil: nothing yet.
func judgedOf(e *catalog.Extend, partition, seq int32) *catalog.Judged {
	for i := range e.Judged {
		if j := &e.Judged[i]; j.Partition == partition && j.Span == seq {
			return j
		}
	}
	return nil
}

func againOf(j *catalog.Judged) chain.Again {
	out := chain.Again{}
	for _, a := range j.Again {
		out[a.Producer] = chain.WentOn{Epoch: a.Epoch, First: a.First}
	}
	return out
}

// walk hands on the batches of records that are stranded. What a cut left out may begin below
// where the log begins by now: its head was deleted before the cluster was lost.
func (s *strandedLog) walk(ctx context.Context, f func(h *batch.Header, b []byte) error) error {
	if len(s.zones) == 0 {
		return nil
	}
	o, err := s.h.t.offsets(ctx, s.from)
	if err != nil {
		return err
	}
	for _, g := range s.zones {
		from := max(o.Start, chain.ToPhysical(s.copy, g.From))
		err := walk(ctx, s.from, from, chain.ToPhysical(s.copy, g.To), func(h batch.Header, b []byte) error {
			if h.IsControl() || h.NumRecords == 0 {
				return nil
			}
			return f(&h, b)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inPlace gives the ranges that stay left out when the rest is read where it is:
// those of batches that were appended again. taken counts the rest, leftOut those.
func (s *strandedLog) inPlace(ctx context.Context) (skip []catalog.Gap, taken, leftOut int64, err error) {
	err = s.walk(ctx, func(h *batch.Header, _ []byte) error {
		from := chain.ToLogical(s.copy, h.BaseOffset)
		to := from + h.NextOffset() - h.BaseOffset
		left := s.cameAgain(h)
		if left {
			skip, left = chain.LeaveOut(skip, from, to)
		}
		if left {
			leftOut += int64(h.NumRecords)
		} else {
			taken += int64(h.NumRecords)
		}
		return nil
	})
	return skip, taken, leftOut, err
}

// replays counts what a return has appended anew to one partition, of all its spans: they
// have one producer id, whose sequences go on, and one report.
type replays struct {
	next    int32 // sequence
	records int64
	digest  *catalog.AckDigest // nil: not whole
}

// replay appends the stranded records anew at the end of the chain, under the
// return's own producer id, less those that their producers had appended again.
func (s *strandedLog) replay(ctx context.Context, x *catalog.ReturnedSpan) error {
	h := s.h
	oc, to, err := s.target()
	if err != nil {
		return err
	}
	defer to.Release()
	state, err := to.Producers(ctx)
	if err != nil {
		return err
	}
	had := int32(0) // records that a controller before this one appended
	for _, p := range state {
		if p.ID == h.e.Producer {
			had = p.LastSequence + 1
		}
	}
	r := h.replays[s.partition]
	if r == nil {
		r = &replays{digest: &catalog.AckDigest{}}
		h.replays[s.partition] = r
	}
	x.Sequence = r.next
	if had > r.next {
		r.digest = nil // what a controller before this one appended, or was told no offset of, is known by its count only
	}
	a := &reappend{s: s, x: x, r: r, copy: oc, to: to, had: had}
	err = s.walk(ctx, func(hd *batch.Header, b []byte) error {
		if s.cameAgain(hd) {
			x.Left += int64(hd.NumRecords)
			return nil
		}
		return a.batch(ctx, hd, b)
	})
	if err == nil {
		err = s.settleRefused(ctx, x)
	}
	if err != nil || x.Taken == 0 {
		return err
	}
	// The next certificate must not take them for records that nobody reported.
	return h.t.o.Catalog.PutAckReports(ctx, h.e.Topic.ID, []catalog.AckReport{{Node: replayNode, Run: h.e.Op, Partition: s.partition, Span: chain.OpenSpan(s.ch).Seq,
		Records: r.records, Digest: r.digest, Next: -1}})
}

// cameAgain tells whether a stranded batch was appended again by its producer.
func (s *strandedLog) cameAgain(h *batch.Header) bool {
	return h.HasProducer() && s.again.Has(h.ProducerID, h.ProducerEpoch, h.BaseSequence)
}

// stateHolds is how long a copy surely remembers a producer (half of Kafka's
// producer.id.expiration.ms).
const stateHolds = 12 * time.Hour

// appendedAgain reads where each of the producers went on after the span. A later
// span is read as far as it takes to find those that its copy knows of, so mostly
// not at all, or a little: retries come soon. One whose cluster is away as well is waited
// for: without it, records that were appended again there would be taken in twice.
func (s *strandedLog) appendedAgain(ctx context.Context, who map[int64]struct{}) (chain.Again, error) {
	out := chain.Again{}
	for i := range s.ch.Spans {
		sp := &s.ch.Spans[i]
		c := &sp.Copies[0]
		if sp.Seq <= s.span.Seq || len(out) == len(who) || c.Gone {
			continue
		}
		if s.h.isAway(c) {
			return nil, fmt.Errorf("partition %d, cluster %s: %w", s.partition, c.Cluster, errElsewhere)
		}
		if err := s.lookAgain(ctx, sp, who, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// isAway tells whether a copy is on another cluster that is away as well.
func (h *homecoming) isAway(c *catalog.Copy) bool {
	return c.Unreadable && !c.Gone && c.Cluster != h.cluster && !healthy(opinions(h.t.o.Watcher.Snapshot(), c.Cluster), time.Now(), 0)
}

// mayBegin is errElsewhere if what a partition left on the cluster has to wait for another
// cluster. It is asked before the return takes the topic's extend, since the topic could neither
// be moved nor fail over while it waited with that.
func (h *homecoming) mayBegin(ctx context.Context, p int32, ch *catalog.Chain) error {
	for i := range ch.Spans {
		sp := &ch.Spans[i]
		c := lostCopy(sp, h.cluster)
		if c == nil || !slices.ContainsFunc(ch.Spans[i+1:], func(x catalog.Span) bool { return h.isAway(&x.Copies[0]) }) {
			continue
		}
		if err := h.mayJudge(ctx, p, ch, sp, c); err != nil {
			return err
		}
	}
	return nil
}

func (h *homecoming) mayJudge(ctx context.Context, p int32, ch *catalog.Chain, sp *catalog.Span, c *catalog.Copy) error {
	s, err := h.logOf(p, ch, sp, c)
	if err != nil {
		return err
	}
	defer s.from.Release()
	o, err := h.t.offsets(ctx, s.from)
	if errors.Is(err, span.ErrGone) {
		return nil // then nothing is left to take in, which the return makes sure of
	}
	if err != nil {
		return err
	}
	s.zones = chain.Stranded(sp, c, chain.ToLogical(c, o.HighWatermark))
	who, err := s.who(ctx)
	if err != nil {
		return err
	}
	_, err = s.appendedAgain(ctx, who)
	return err
}

func (s *strandedLog) lookAgain(ctx context.Context, sp *catalog.Span, who map[int64]struct{}, out chain.Again) error {
	c := &sp.Copies[0]
	st, err := s.h.t.o.Stores.Store(c.Cluster)
	if err != nil {
		return err
	}
	log := copyLog(st, c)
	defer log.Release()
	due := len(who) - len(out)
	if time.Since(sp.Opened) < stateHolds {
		state, err := log.Producers(ctx)
		if err != nil {
			return err
		}
		due = 0
		for i := range state {
			if _, ok := out[state[i].ID]; !ok {
				if _, ok := who[state[i].ID]; ok {
					due++
				}
			}
		}
	}
	if due == 0 {
		return nil
	}
	end := int64(-1)
	// Of a span that was lost itself, what lies past its cut was taken in, or will be.
	if !sp.IsOpen() && !(sp.Hole && (c.Unreadable || c.Settled)) {
		end = chain.ToPhysical(c, sp.End)
	}
	o, err := log.Offsets(ctx)
	if err != nil {
		return err
	}
	err = walk(ctx, log, max(o.Start, c.Map[0].Physical), end, func(hd batch.Header, _ []byte) error {
		if _, ok := who[hd.ProducerID]; !ok {
			return nil
		}
		if _, ok := out[hd.ProducerID]; ok {
			return nil
		}
		out[hd.ProducerID] = chain.WentOn{Epoch: hd.ProducerEpoch, First: hd.BaseSequence}
		if due--; due == 0 {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

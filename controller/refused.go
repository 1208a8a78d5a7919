package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// What is stranded was accepted once, by a topic that may have been configured anew since: a smaller max.message.bytes,
// keys that a compacted topic demands, a range of timestamps that ends after them. A return that insisted would hold the topic's extend
// for ever. So a batch that is refused for its content is appended in halves, one that is refused for its time gets a new one, and what is
// refused one by one is left out. That is written to the catalog before anything behind it is appended: sequences
// are counted without it, by this controller and by the next.

// maxRefused bounds the ranges of refused and of stamped records, each, that a return keeps. What is stranded behind the last
// refused one is left out too.
const maxRefused = 1000

// reappend appends the stranded batches of a span anew, in their order.
type reappend struct {
	s    *strandedLog
	x    *catalog.ReturnedSpan
	r    *replays
	copy *catalog.Copy
	to   span.Log
	had  int32 // sequences that a controller before this one has appended
}

// batch appends one batch, or what its topic takes of it.
func (a *reappend) batch(ctx context.Context, h *batch.Header, b []byte) error {
	from := chain.ToLogical(a.s.copy, h.BaseOffset)
	to := from + h.NextOffset() - h.BaseOffset
	j, first, next := a.s.judged(), a.r.next, a.r.next+h.NumRecords
	if !touches(j.Refused, from, to) && (next <= a.had || first >= a.had) {
		if next <= a.had {
			a.count(h.NumRecords)
			return nil
		}
		out, err := restamp(h, b, a.s.h.e.Producer, first)
		if err == nil {
			err = a.append(ctx, out)
			if _, refused := refusedContent(err); !refused {
				return err
			}
		}
	}
	list, err := unpack(h, b, from)
	if err != nil {
		// It lies there, and nobody can read its records.
		return a.refuse(ctx, from, to, wire.CorruptMessage)
	}
	list = slices.DeleteFunc(list, func(r batch.Record) bool { return touches(j.Refused, r.Offset, r.Offset+1) })
	return a.records(ctx, h.Codec(), list, false)
}

// records appends records of one batch, fewer at a time where they are refused. Their offsets are logical ones of the lost span.
func (a *reappend) records(ctx context.Context, codec batch.Codec, list []batch.Record, stamped bool) error {
	if n := int(a.had - a.r.next); n > 0 {
		n = min(n, len(list))
		a.count(int32(n))
		list = list[n:]
	}
	if len(list) == 0 || touches(a.s.judged().Refused, list[0].Offset, list[0].Offset+1) {
		return nil // the latter: behind the last range that is kept
	}
	if !a.s.judged().Altered {
		if err := a.s.note(ctx, func(j *catalog.Judged) { j.Altered = true }); err != nil {
			return err
		}
	}
	code, err := a.try(ctx, codec, list)
	if err == nil && (len(list) == 1 && code != wire.None || code == wire.InvalidTimestamp) {
		// A seal refuses with the same codes.
		if err := a.to.Probe(ctx); err != nil {
			return err
		}
		code, err = a.try(ctx, codec, list)
	}
	switch {
	case err != nil || code == wire.None:
		return err
	case code == wire.InvalidTimestamp && !stamped:
		return a.stamp(ctx, codec, list)
	case len(list) == 1:
		return a.refuse(ctx, list[0].Offset, list[0].Offset+1, code)
	}
	half := len(list) / 2
	if err := a.records(ctx, codec, list[:half], stamped); err != nil {
		return err
	}
	return a.records(ctx, codec, list[half:], stamped)
}

// try appends records as one batch. The code is that of a refusal for what it holds.
func (a *reappend) try(ctx context.Context, codec batch.Codec, list []batch.Record) (wire.Code, error) {
	nb := batch.NewBuilder().Codec(codec).Producer(a.s.h.e.Producer, 0, a.r.next)
	for i := range list {
		nb.Add(list[i])
	}
	out, err := nb.Build()
	if err != nil {
		return wire.None, err
	}
	err = a.append(ctx, out)
	if code, refused := refusedContent(err); refused {
		return code, nil
	}
	return wire.None, err
}

// stamp gives records the time of now: their cluster was away for longer than their topic takes, so their own says
// nothing of the client.
func (a *reappend) stamp(ctx context.Context, codec batch.Codec, list []batch.Record) error {
	from, to := list[0].Offset, list[len(list)-1].Offset+1
	err := a.s.note(ctx, func(j *catalog.Judged) {
		switch n := len(j.Stamped); {
		case n > 0 && (j.Stamped[n-1].To >= from || a.s.h.kept() >= maxRefused):
			j.Stamped[n-1].To = max(j.Stamped[n-1].To, to)
		default:
			j.Stamped = append(j.Stamped, catalog.Gap{From: from, To: to})
		}
	})
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	for i := range list {
		list[i].Timestamp = now
	}
	return a.records(ctx, codec, list, true)
}

// refuse leaves [from, to) out for good.
func (a *reappend) refuse(ctx context.Context, from, to int64, code wire.Code) error {
	a.s.h.t.o.Logger.Warn("a stranded record is not appended anew: its topic refuses it by now", "topic", a.s.h.e.Topic.Name,
		"partition", a.s.partition, "cluster", a.s.h.cluster, "from", from, "to", to, "code", code.String())
	return a.s.note(ctx, func(j *catalog.Judged) {
		if a.s.h.kept() >= maxRefused {
			to = a.s.zones[len(a.s.zones)-1].To
		}
		if n := len(j.Refused); n > 0 && j.Refused[n-1].To == from && j.Refused[n-1].Code == int16(code) {
			j.Refused[n-1].To = to
			return
		}
		j.Refused = append(j.Refused, catalog.Refused{From: from, To: to, Code: int16(code)})
	})
}

// append appends one batch and counts it.
func (a *reappend) append(ctx context.Context, out []byte) error {
	at, err := appendOne(ctx, a.to, out)
	if err != nil {
		return err
	}
	made, _, err := batch.Parse(out)
	if err != nil {
		return err
	}
	a.count(made.NumRecords)
	if at < 0 {
		a.r.digest = nil
		return nil
	}
	if a.r.digest != nil {
		a.r.digest.Add(chain.ToLogical(a.copy, at), made.NumRecords, made.CRC)
	}
	if a.x.First < 0 && a.had <= a.x.Sequence {
		a.x.First = chain.ToLogical(a.copy, at)
	}
	return nil
}

func (a *reappend) count(n int32) {
	a.r.next += n
	a.r.records += int64(n)
	a.x.Taken += int64(n)
}

// settleRefused says what became of the records that were refused: where a whole batch was, it is
// read in place, as far as the chain has room to leave out all others.
func (s *strandedLog) settleRefused(ctx context.Context, x *catalog.ReturnedSpan) error {
	j := s.judged()
	if x.Refused = slices.Clone(j.Refused); len(j.Refused)+len(j.Stamped) == 0 {
		return nil
	}
	var skip []catalog.Gap
	fits, stays := true, false
	err := s.walk(ctx, func(h *batch.Header, b []byte) error {
		from := chain.ToLogical(s.copy, h.BaseOffset)
		to := from + h.NextOffset() - h.BaseOffset
		out := int32(0)
		if !s.cameAgain(h) {
			var err error
			if out, err = refusedOf(j, h, b, from); err != nil {
				return err
			}
			x.RefusedRecords += int64(out)
			if slices.ContainsFunc(j.Stamped, func(g catalog.Gap) bool { return g.From < to && from < g.To }) {
				x.Stamped += int64(h.NumRecords - out)
			}
		}
		// A transaction's is not: whether it was committed is not known there.
		if out == h.NumRecords && !h.IsTransactional() {
			stays = true
		} else if fits {
			skip, fits = chain.LeaveOut(skip, from, to)
		}
		return nil
	})
	if err != nil || !fits || !stays {
		return err
	}
	x.Skip, x.End = skip, max(x.End, s.zones[len(s.zones)-1].To)
	return nil
}

// refusedOf counts the records of a batch that its topic refuses. from is its logical offset.
func refusedOf(j *catalog.Judged, h *batch.Header, b []byte, from int64) (n int32, err error) {
	to := from + h.NextOffset() - h.BaseOffset
	if !touches(j.Refused, from, to) {
		return 0, nil
	}
	if slices.ContainsFunc(j.Refused, func(r catalog.Refused) bool { return r.From <= from && to <= r.To }) {
		return h.NumRecords, nil
	}
	for r, err := range batch.Records(b, maxUnpacked) {
		if err != nil {
			return 0, err
		}
		if at := from + r.Offset - h.BaseOffset; touches(j.Refused, at, at+1) {
			n++
		}
	}
	return n, nil
}

func touches(list []catalog.Refused, from, to int64) bool {
	return slices.ContainsFunc(list, func(r catalog.Refused) bool { return r.From < to && from < r.To })
}

// kept is how many ranges of refused and stamped records a return keeps.
func (h *homecoming) kept() (n int) {
	for i := range h.e.Judged {
		n += len(h.e.Judged[i].Refused) + len(h.e.Judged[i].Stamped)
	}
	return n
}

// judged is what the return has found out of the span; see [strandedLog.known].
func (s *strandedLog) judged() *catalog.Judged { return judgedOf(&s.h.e, s.partition, s.span.Seq) }

// note changes that, in the catalog as well.
func (s *strandedLog) note(ctx context.Context, change func(*catalog.Judged)) error {
	next := s.h.e
	next.Judged = slices.Clone(next.Judged)
	j := judgedOf(&next, s.partition, s.span.Seq)
	j.Refused, j.Stamped = slices.Clone(j.Refused), slices.Clone(j.Stamped)
	change(j)
	next, err := s.h.t.o.Catalog.UpdateExtend(ctx, next, s.h.t.driver.fence)
	if err != nil {
		return err
	}
	s.h.e = next
	return nil
}

// unpack gives the records of a batch, of their own memory and with logical offsets, of which the first is from.
func unpack(h *batch.Header, b []byte, from int64) (list []batch.Record, err error) {
	for r, err := range batch.Records(b, maxUnpacked) {
		if err != nil {
			return nil, fmt.Errorf("unpack a stranded batch: %w", err)
		}
		own := *r
		own.Offset = from + r.Offset - h.BaseOffset
		own.Key, own.Value, own.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), slices.Clone(r.Headers)
		for i := range own.Headers {
			own.Headers[i].Key, own.Headers[i].Value = bytes.Clone(own.Headers[i].Key), bytes.Clone(own.Headers[i].Value)
		}
		list = append(list, own)
	}
	return list, nil
}

// refusedContent tells whether an append was refused for what it holds: another try is refused too.
func refusedContent(err error) (wire.Code, bool) {
	var r *span.RejectedError
	if !errors.As(err, &r) {
		return wire.None, false
	}
	switch r.Code {
	case wire.MessageTooLarge, wire.RecordListTooLarge, wire.InvalidRecord, wire.InvalidTimestamp, wire.CorruptMessage,
		wire.UnsupportedCompressionType, wire.UnsupportedForMessageFormat:
		return r.Code, true
	}
	return wire.None, false
}

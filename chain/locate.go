package chain

import (
	"slices"
	"sort"

	"github.com/braidstream/braid/catalog"
)

// Place is where a read goes on.
type Place struct {
	Span   int   // index into Chain.Spans; -1: there is nothing readable from the offset on
	Offset int64 // logical; greater than asked for when that lies in a gap or in what cannot be read
}

// Locate finds where to read offset, or what comes next after it: gaps between
// spans and spans without a readable copy are stepped over. Below the chain's
// start there is nothing: it fails with [ErrOffsetOutOfRange]. Whether offset is
// past the end only the open span's copy can tell.
func Locate(c *catalog.Chain, offset int64) (Place, error) {
	if offset < c.Start {
		return Place{Span: -1}, ErrOffsetOutOfRange
	}
	// The first span that ends past the offset.
	i := sort.Search(len(c.Spans), func(i int) bool { return c.Spans[i].IsOpen() || c.Spans[i].End > offset })
	for ; i < len(c.Spans); i++ {
		s := &c.Spans[i]
		// A lossy extend keeps a span that holds nothing.
		if ReadableCopy(s) < 0 || !s.IsOpen() && s.End == s.Start {
			continue
		}
		return Place{Span: i, Offset: max(offset, s.Start)}, nil
	}
	return Place{Span: -1, Offset: offset}, nil
}

// ReadableCopy is the index of the first copy of the span that can be read, -1
// if there is none.
func ReadableCopy(s *catalog.Span) int {
	for i := range s.Copies {
		if !s.Copies[i].Unreadable {
			return i
		}
	}
	return -1
}

// Missing is the first offset past all that the chain's sealed spans have, or may come to have, at or above its start
// and that cannot be read at present, 0 if all can. With a cluster it is about spans that have a copy there.
func Missing(c *catalog.Chain, cluster string) (before int64) {
	for i := range c.Spans {
		s := &c.Spans[i]
		if s.IsOpen() || ReadableCopy(s) >= 0 || LostForGood(s) || reach(c, i) <= c.Start {
			continue
		}
		if cluster == "" || slices.ContainsFunc(s.Copies, func(c catalog.Copy) bool { return c.Cluster == cluster }) {
			before = reach(c, i)
		}
	}
	return before
}

// LostForGood tells whether no copy of the span will ever be readable again. Nobody waits for it.
func LostForGood(s *catalog.Span) bool {
	return !slices.ContainsFunc(s.Copies, func(c catalog.Copy) bool { return !c.Gone })
}

// OpenSpan is the span that takes appends, nil if there is none.
func OpenSpan(c *catalog.Chain) *catalog.Span {
	if n := len(c.Spans); n > 0 && c.Spans[n-1].IsOpen() {
		return &c.Spans[n-1]
	}
	return nil
}

// ReaderEnd is the end of the log that readers are told, where openEnd is that of the
// open span. While nothing lies in the open span that is where the last record before
// it ends: over the gap that a lost cluster left no position moves, so who reads up to
// the open span's start would never be done. It is no lower than what was told before
// the gap was made, since a span is cut past all that is known to be acknowledged.
// Offsets in the gap stay in range.
func ReaderEnd(c *catalog.Chain, openEnd int64) int64 {
	open := OpenSpan(c)
	if open == nil || openEnd > open.Start {
		return openEnd
	}
	for i := len(c.Spans) - 2; i >= 0; i-- {
		if s := &c.Spans[i]; s.End > s.Start {
			return max(s.End, c.Start)
		}
	}
	// All that there ever was is trimmed.
	return c.Start
}

// LeaderEpoch is the epoch that clients are told: that of the last span.
func LeaderEpoch(c *catalog.Chain) int32 {
	if n := len(c.Spans); n > 0 {
		return c.Spans[n-1].Epoch
	}
	return -1
}

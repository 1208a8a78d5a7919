package chain

import (
	"math"
	"slices"

	"github.com/braidstream/braid/catalog"
)

// Trim moves the chain's start up to before and drops the sealed spans whose
// records all lie below it, also those that may turn up yet (see [Below]); dropped are
// those, whose physical partitions nothing needs any more. The open span always stays, and
// so does what later spans need to know of the producers. A start that is past before is
// left alone; at it, spans below the start go.
//
// The caller makes sure that before is not past the end of the log.
func Trim(c *catalog.Chain, before int64) (out catalog.Chain, dropped []catalog.Span) {
	out = *c
	if before < c.Start {
		return out, nil
	}
	out.Start = before
	n := Below(c, before)
	if n == 0 {
		return out, nil
	}
	if out.Sealed == "" {
		out.Sealed = SealedState(c)
	}
	out.Spans = slices.Clone(c.Spans[n:])
	return out, slices.Clone(c.Spans[:n])
}

// Below counts the chain's first spans of which all records lie below an offset, also
// those that may turn up yet. The open span is none of them.
func Below(c *catalog.Chain, offset int64) int {
	n := 0
	for n < len(c.Spans) && !c.Spans[n].IsOpen() && reach(c, n) <= offset {
		n++
	}
	return n
}

// reach is the first offset past all that records of the sealed span i have, or may come to
// have. A span that awaits its cluster was cut where no more was known to be acknowledged,
// maybe at its own start: what the copy holds past that takes offsets of the room behind it.
func reach(c *catalog.Chain, i int) int64 {
	s := &c.Spans[i]
	switch {
	case !Awaited(s):
		return s.End
	case i+1 < len(c.Spans):
		return c.Spans[i+1].Start
	default:
		return math.MaxInt64
	}
}

// Awaited tells whether a span was cut off with its cluster, and what its copy holds outside
// of the chain is still to be taken in. Until then nobody knows which records it has.
func Awaited(s *catalog.Span) bool {
	return s.Hole && slices.ContainsFunc(s.Copies, func(c catalog.Copy) bool { return c.Unreadable && !c.Settled })
}

package chain

import (
	"slices"

	"github.com/braidstream/braid/catalog"
)

// Trim moves the chain's start up to before and drops the sealed spans whose
// records all lie below it; dropped are those, whose physical partitions nothing
// needs any more. The open span always stays, and so does what later spans need
// to know of the producers. A start that is past before is left alone; at it, spans below the start go.
//
// The caller makes sure that before is not past the end of the log.
func Trim(c *catalog.Chain, before int64) (out catalog.Chain, dropped []catalog.Span) {
	out = *c
	if before < c.Start {
		return out, nil
	}
	out.Start = before
	n := 0
	for n < len(c.Spans) && !c.Spans[n].IsOpen() && c.Spans[n].End <= before {
		n++
	}
	if n == 0 {
		return out, nil
	}
	if out.Sealed == "" {
		out.Sealed = SealedState(c)
	}
	out.Spans = slices.Clone(c.Spans[n:])
	return out, slices.Clone(c.Spans[:n])
}

package chain

import "github.com/braidstream/braid/catalog"

// Stranded lists, ascending, what the copy of an ended span holds that is not in
// the chain: what the span leaves out, and what lies past its end, of a log that
// ends at real. All offsets are logical.
func Stranded(sp *catalog.Span, c *catalog.Copy, real int64) []catalog.Gap {
	var zones []catalog.Gap
	for _, g := range c.Skip {
		if g.From < real {
			zones = append(zones, catalog.Gap{From: g.From, To: min(g.To, real)})
		}
	}
	if real > sp.End {
		zones = append(zones, catalog.Gap{From: sp.End, To: real})
	}
	return zones
}

// Again knows by which batch each producer went on after a failover.
type Again map[int64]WentOn

// WentOn is the first batch of a producer behind the cut.
type WentOn struct {
	Epoch int16
	First int32 // sequence
}

// Has tells whether a stranded batch was appended again: its producer went on, in
// the same epoch, from a sequence at or before it. A batch without a producer id
// (negative) is never known to have been.
func (a Again) Has(producer int64, epoch int16, first int32) bool {
	if producer < 0 {
		return false
	}
	s, ok := a[producer]
	if !ok || s.Epoch != epoch {
		return false
	}
	_, after := ahead(s.First, first)
	return after
}

// LeaveOut adds the stranded range [from, to), which was appended again, to what a
// span that is read in place goes on to leave out. It is false where there is no
// room for another gap: then the range is read twice.
func LeaveOut(skip []catalog.Gap, from, to int64) ([]catalog.Gap, bool) {
	n := len(skip)
	switch {
	case n > 0 && skip[n-1].To == from:
		skip[n-1].To = to
	case n == MaxSkips:
		return skip, false
	default:
		skip = append(skip, catalog.Gap{From: from, To: to})
	}
	return skip, true
}

package chain

import (
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
)

// Extension says how a chain's open span ended and where the next one lies.
type Extension struct {
	// End is the first offset past the last record of the open span (logical).
	End          int64
	MaxTimestamp int64 // largest timestamp of its records, ms; -1 unknown or none
	// Producers refers to the producers' state at the end, cumulative over the
	// chain (see [MergeProducers]); "" if there is none.
	Producers string
	// To is the fresh physical partition; its map is made here.
	To catalog.Copy
	// PhysicalStart is the first offset that To will give, 0 for a fresh topic.
	PhysicalStart int64
	// Lossy leaves Room offsets free behind End, for records that may have been
	// acknowledged and are not in the chain.
	Lossy bool
	Room  int64
	// Unreadable marks the ended span's copies as away.
	Unreadable bool
	// Skip lists what the ended span's copies hold before End that is not in the chain.
	Skip []catalog.Gap
	// Reported is that of the ended span.
	Reported bool
	At       time.Time
}

// New is the chain of a partition that begins with the physical partition to.
func New(to catalog.Copy, physicalStart int64, at time.Time) catalog.Chain {
	to.Map = []catalog.Piece{{Physical: physicalStart}}
	return catalog.Chain{
		Start:   physicalStart,
		NextSeq: 1,
		Spans: []catalog.Span{{Start: physicalStart, End: catalog.Open, MaxTimestamp: -1,
			Copies: []catalog.Copy{to}, Opened: at}},
	}
}

// Extend ends the open span and opens the next one. Normally the next begins at
// the end, and a span without records vanishes. A lossy extend leaves room and
// keeps the ended span whatever it holds, since records may turn up for it.
// The given chain is not changed.
func Extend(c *catalog.Chain, x Extension) (catalog.Chain, error) {
	open := OpenSpan(c)
	switch {
	case open == nil:
		return catalog.Chain{}, invalid("no open span to extend")
	case x.End < open.Start || x.End > maxOffset:
		return catalog.Chain{}, invalid("end %d of a span that begins at %d", x.End, open.Start)
	case x.Lossy && (x.Room <= 0 || x.Room > maxOffset-x.End):
		return catalog.Chain{}, invalid("lossy extend with room %d", x.Room)
	case !x.Lossy && x.Room != 0:
		return catalog.Chain{}, invalid("room %d without loss", x.Room)
	}
	next := catalog.Span{
		Seq:          c.NextSeq,
		Start:        x.End + x.Room,
		End:          catalog.Open,
		Epoch:        open.Epoch + 1,
		MaxTimestamp: -1,
		Opened:       x.At,
	}
	to := x.To
	to.Map = []catalog.Piece{{Physical: x.PhysicalStart, Delta: next.Start - x.PhysicalStart}}
	to.Unreadable, to.Settled, to.Gone = false, false, false
	next.Copies = []catalog.Copy{to}

	out := *c
	out.NextSeq++
	out.Sealed = x.Producers
	out.Spans = append(make([]catalog.Span, 0, len(c.Spans)+1), c.Spans[:len(c.Spans)-1]...)
	// A span without records may be dropped even if the start lies past it.
	if x.End > open.Start || x.Lossy {
		ended := *open
		ended.End = x.End
		ended.MaxTimestamp = x.MaxTimestamp
		ended.Producers = x.Producers
		ended.Hole, ended.Reported = x.Lossy, x.Reported
		ended.SealedAt = x.At
		if x.Unreadable || len(x.Skip) > 0 {
			ended.Copies = slices.Clone(ended.Copies)
			for i := range ended.Copies {
				ended.Copies[i].Unreadable, ended.Copies[i].Skip = x.Unreadable, x.Skip
			}
		}
		out.Spans = append(out.Spans, ended)
	}
	out.Spans = append(out.Spans, next)
	if err := Validate(&out); err != nil {
		return catalog.Chain{}, err
	}
	return out, Follows(c, &out)
}

// Extended tells whether the open span lies on the physical topic id already: an
// extend that is repeated after its commit leaves such a chain alone.
func Extended(c *catalog.Chain, id catalog.ID) bool {
	s := OpenSpan(c)
	if s == nil {
		return false
	}
	for i := range s.Copies {
		if s.Copies[i].TopicID == id {
			return true
		}
	}
	return false
}

// SealedState refers to the producers' state that a producer's first batch on
// the open span is judged by; "" if there is none.
func SealedState(c *catalog.Chain) string {
	if c.Sealed != "" {
		return c.Sealed
	}
	// A chain written without Sealed.
	for i := len(c.Spans) - 1; i >= 0; i-- {
		if !c.Spans[i].IsOpen() {
			return c.Spans[i].Producers
		}
	}
	return ""
}

// ProducerRefs lists the stored states that the chain refers to.
func ProducerRefs(c *catalog.Chain) []string {
	var refs []string
	if c.Sealed != "" {
		refs = append(refs, c.Sealed)
	}
	for i := range c.Spans {
		if r := c.Spans[i].Producers; r != "" && !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	return refs
}

package controller

import (
	"fmt"
	"math"
	"slices"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// replayed is what was found of the stranded records where a return has appended them anew.
type replayed struct {
	batches, records int64           // looked up
	first            int64           // logical offset of the first of them
	missing          []catalog.Range // of the lost log: not found as they were appended
	lost, twice      int64           // records
	whole            bool            // all of them were looked up
	altered          bool            // some are not there as they were stranded
	from             int64           // logical offset in the lost log of what was not; 0: nothing was
	why              string          // if not
	err              error
}

// strandedRecords is how many records of a span lay outside of the chain; 0 for one that did not return.
func (ev *evidence) strandedRecords() int64 {
	if ev.returned == nil {
		return 0
	}
	return ev.returned.Records()
}

// judgeEarly says of a returned span what is known before it was read.
func judgeEarly(ev *evidence) catalog.PartitionCertificate {
	v := returnedVerdict(ev)
	v.c.Unread, v.c.Unreported = true, true // reports are not looked at yet
	v.check(toComeContent)
	v.doubt(ev.end.Start, ev.returned.Cut, "not read yet")
	return v.give()
}

// judgeReturned says what became of a span whose cluster was lost and is back, as far as
// the evidence goes. All that lies in its log was acknowledged, or is stranded and was taken in, or
// was appended again elsewhere.
func judgeReturned(p int32, ev *evidence) catalog.PartitionCertificate {
	v := returnedVerdict(ev)
	v.c.Partition = p
	var rest besides
	for _, r := range ev.reports {
		v.c.Acknowledged += r.Records
		rest.unknown += r.Unknown
		rest.markers += r.Markers
	}
	if ev.returned.Gone {
		v.gone(ev, rest)
		return v.give()
	}
	if ev.released && (ev.tailErr != nil || ev.strayErr != nil) {
		v.c.Unread = true
		v.heard(ev.reports, true)
		v.check(goneUnread)
		v.doubt(ev.end.Start, ev.end.End, "the span was dropped before it was read")
		return v.give()
	}
	v.counts(ev, ev.end.Physical+ev.end.Delta-ev.end.Start, rest)
	v.tail(ev)
	v.content(ev)
	in := *ev
	in.tail = slices.DeleteFunc(slices.Clone(ev.tail), func(b seenBatch) bool { return within(ev.returned.Stranded, b.offset) })
	v.boundary(&in)
	v.replay(ev)
	v.stray(ev)
	if real := ev.end.Physical + ev.end.Delta; ev.end.Reported && ev.returned.Cut < real {
		v.doubt(ev.returned.Cut, real, "which of it was acknowledged, through gateways that ended without a report, is not known")
	}
	if silent := ev.unheard(); len(silent) > 0 {
		v.doubt(ev.returned.Cut, ev.end.Next, fmt.Sprintf("gateways %v gave no word when the cluster was lost, and no report since: what only they acknowledged has other offsets now, what was on its way through them may be there twice", silent))
	}
	return v.give()
}

// What a certificate says of stranded ranges.
const (
	readInPlace = "read in place, behind those who went on"
	cameAgain   = "their producers had appended them again"
)

// physicalGone is what certificates say of a copy whose cluster has it no more.
const physicalGone = "the cluster answers, and has the physical topic no more"

// gone judges a span of which nothing is left: all that lay in it is lost, as far as retention had left it.
func (v *verdict) gone(ev *evidence, rest besides) {
	c, x := v.c, ev.returned
	if ev.forfeit {
		// Gateways' reports went when the certificate of its seal was complete.
		c.Unreported = true
		v.check("the span had been sealed before it was lost, at offset %d: what is lost is counted by offsets, with ends of transactions and what compaction had removed", x.Cut)
		return
	}
	left := ev.end.Physical + ev.end.Delta - ev.end.Start // retention had taken them before
	v.heard(ev.reports, x.Cut > ev.end.Start)
	if more := c.Acknowledged - left; more > c.Lost {
		v.rangeOf(x.Cut, x.Cut+more-c.Lost, "lost", "more was acknowledged than the span had been ended with")
		c.Lost = more
	}
	if c.Unreported {
		v.check("no gateway has reported what it saw acknowledged")
	} else {
		v.check("%s reported %d records acknowledged, and %d of unknown outcome", reporters(ev.reports), c.Acknowledged, rest.unknown)
	}
	switch silent := ev.unheard(); {
	case len(silent) > 0:
		v.doubt(x.Cut, ev.end.Next, fmt.Sprintf("gateways %v gave no word when the copy was lost, and no report since: what only they acknowledged is lost", silent))
	case ev.end.Reported || x.Cut == ev.end.Start:
		v.doubt(x.Cut, ev.end.Next, "whether more was acknowledged, through gateways that are no more, is not known")
	}
}

// returnedVerdict begins with what the return itself has found and done.
func returnedVerdict(ev *evidence) verdict {
	end, x := &ev.end, ev.returned
	v := verdict{c: &catalog.PartitionCertificate{Partition: end.Partition, End: x.Cut, Start: end.Next, Groups: x.Groups}}
	c := v.c
	real := end.Physical + end.Delta
	if x.Gone {
		v.check("%s: it was deleted there, or the cluster's disks were emptied", physicalGone)
		for _, g := range lostRanges(end, x) {
			c.Lost += g.To - g.From
			v.rangeOf(g.From, g.To, "lost", physicalGone)
		}
		return v
	}
	v.check("the cluster that came back was sealed, and its log ends at offset %d; the chain had ended it at %d", real, x.Cut)
	if real < x.Cut {
		c.Lost = x.Cut - real
		v.rangeOf(real, x.Cut, "lost", "acknowledged, and not on the cluster that came back")
	}
	switch {
	case len(x.Stranded) == 0:
	case x.InPlace:
		c.InPlace, c.LeftOut = x.Taken, x.Left
		for _, g := range x.Stranded {
			at := g.From
			for _, out := range x.Skip {
				from, to := max(out.From, at), min(out.To, g.To)
				if from >= to {
					continue
				}
				if at < from {
					v.rangeOf(at, from, "stranded", readInPlace)
				}
				v.rangeOf(from, to, "left out", cameAgain)
				at = to
			}
			if at < g.To {
				v.rangeOf(at, g.To, "stranded", readInPlace)
			}
		}
	case x.Taken == 0:
		c.LeftOut = x.Left
		for _, g := range beside(x.Stranded, x.Refused) {
			if x.Left > 0 { // else it holds no records
				v.rangeOf(g.From, g.To, "left out", cameAgain)
			}
		}
	default:
		c.Replayed, c.LeftOut = x.Taken, x.Left
		note := fmt.Sprintf("%d records of the partition were appended anew", x.Taken)
		if x.First >= 0 {
			note += fmt.Sprintf(" from offset %d on", x.First)
		}
		for _, g := range beside(x.Stranded, x.Refused) {
			v.rangeOf(g.From, g.To, "replayed", note)
		}
	}
	v.refused(x)
	if len(x.Stranded) > 0 {
		v.check("%d stranded records were left out: their producers had appended them again", x.Left)
	}
	return v
}

// refused names what was not appended anew since its topic refuses it for good, and what has another time.
func (v *verdict) refused(x *catalog.ReturnedSpan) {
	if x.Stamped > 0 {
		v.check("up to %d stranded records were appended anew with the time of that: their topic does not take their own any more", x.Stamped)
	}
	if x.RefusedRecords == 0 {
		return
	}
	unread := false
	for _, r := range x.Refused {
		for _, g := range beside([]catalog.Gap{{From: r.From, To: min(r.To, x.End)}}, skipsOf(x)) {
			v.rangeOf(g.From, g.To, "stranded", fmt.Sprintf("%s: their topic refuses them by now (%s)", readInPlace, wire.Code(r.Code).String()))
		}
		for _, g := range append(slices.Clone(x.Skip), catalog.Gap{From: x.End, To: math.MaxInt64}) {
			if from, to := max(r.From, g.From), min(r.To, g.To); from < to {
				unread = true
				v.rangeOf(from, to, "left out", fmt.Sprintf("not readable any more: their topic refuses them by now (%s)", wire.Code(r.Code).String()))
			}
		}
	}
	v.check("%d stranded records were not appended anew: their topic refuses them by now, for good", x.RefusedRecords)
	if unread {
		v.doubts = true
		v.check("whether any of those that are not readable any more was acknowledged is known of no gateway that gave its word")
	}
}

func skipsOf(x *catalog.ReturnedSpan) []catalog.Refused {
	var out []catalog.Refused
	for _, g := range x.Skip {
		out = append(out, catalog.Refused{From: g.From, To: g.To})
	}
	return out
}

// beside is what of the gaps lies in none of the others, which are ascending.
func beside(gaps []catalog.Gap, others []catalog.Refused) (out []catalog.Gap) {
	for _, g := range gaps {
		for _, o := range others {
			if o.To <= g.From || o.From >= g.To {
				continue
			}
			if g.From < o.From {
				out = append(out, catalog.Gap{From: g.From, To: o.From})
			}
			g.From = o.To
		}
		if g.From < g.To {
			out = append(out, g)
		}
	}
	return out
}

// replay judges what was found of the records that were appended anew.
func (v *verdict) replay(ev *evidence) {
	x, r := ev.returned, &ev.replay
	if x.InPlace || x.Taken == 0 {
		return
	}
	v.c.Lost += r.lost
	v.c.Duplicated += r.twice
	v.c.Ranges = append(v.c.Ranges, r.missing...)
	if r.batches > 0 {
		how := "by sequence, count and checksum"
		if r.altered {
			how = "by sequence and count (their topic refused some as they were: they were halved, or have the time of the append)"
		}
		v.check("%d batches of %d stranded records, appended anew from offset %d on, were read back there and compared %s", r.batches, r.records, r.first, how)
	}
	switch {
	case r.err != nil:
		v.doubt(x.Stranded[0].From, x.Stranded[len(x.Stranded)-1].To, "what was appended anew could not be read back: "+r.err.Error())
	case !r.whole:
		// How many there are is known from the return alone: nobody else has counted them there.
		v.doubt(max(r.from, x.Stranded[0].From), x.Stranded[len(x.Stranded)-1].To,
			fmt.Sprintf("%d records that were appended anew were not read where they went: %s", x.Taken-r.records, r.why))
	}
}

// cutShort tells whether an offset is known to be missing, of a log that came back shorter than
// what was acknowledged on it.
func (ev *evidence) cutShort(offset int64) bool {
	return ev.returned != nil && offset >= ev.end.Physical+ev.end.Delta && offset < ev.returned.Cut
}

// unheard are the gateways that the failover went without, and that have not reported since.
func (ev *evidence) unheard() []int32 {
	heard := nodes(ev.reports)
	return slices.DeleteFunc(slices.Clone(ev.silent), func(n int32) bool { return heard[n] })
}

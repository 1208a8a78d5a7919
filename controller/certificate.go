package controller

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
)

// seenBatch is a batch as it was read of a copy; offsets are logical.
type seenBatch struct {
	offset   int64
	next     int64
	records  int32
	crc      uint32
	producer int64
	epoch    int16
	first    int32 // sequence; -1 none
	last     int32
	stamped  bool // by the cluster, so that the checksum is another
}

func seen(h *batch.Header, delta int64) seenBatch {
	return seenBatch{offset: h.BaseOffset + delta, next: h.NextOffset() + delta, records: h.NumRecords, crc: h.CRC,
		producer: h.ProducerID, epoch: h.ProducerEpoch, first: h.BaseSequence, last: h.LastSequence(), stamped: h.LogAppendTime()}
}

// evidence is all that the judge of one partition is given.
type evidence struct {
	end     catalog.SealedEnd
	reports []catalog.AckReport // on the sealed span, and next on the one after it
	next    []catalog.AckReport
	// tail are the batches at the end of the sealed span, from tailFrom on; head
	// those at the beginning of the next one. nil with an error.
	tail, head       []seenBatch
	tailFrom         int64
	tailErr, headErr error
	// strayEnd is the physical log end of the sealed copy as read again after the
	// gateways' leases had turned over; -1 not yet read.
	strayEnd int64
	strayErr error
	// rewritten: the cluster stamps records, so checksums differ; compacted: it
	// removes records.
	rewritten, compacted bool
	sized                bool  // the topic's retention is by size too, so that its cluster trims heads
	chainStart           int64 // where the chain began after the log start was read
	released             bool  // nor did the chain need the sealed copy then: what is not there any more was given up
	alarm                *catalog.Alarm
	// content is what was read of the sealed span beside its ends; nil: nothing, and
	// contentWhy says why, or contentLater that it is still to come.
	content      *content
	contentWhy   string
	contentLater bool
	// before is what the certificate said when the sealed end had been read again; set where the copy is
	// released, and cannot be read any more.
	before *catalog.PartitionCertificate
	lossy  bool // the old copy is away
	gone   bool // lossy: its cluster is not, but has the physical topic no more
	// forfeit: the returned span is given up, and had been sealed before.
	forfeit bool
	silent  []int32 // gateways that it was ended without
	away    string  // the old copy's cluster
	final   bool    // gateways have had the time to say who went on
	// standing is where groups stood when it was lost.
	standing *catalog.Standing
	// returned is what a return has made of the span, whose log is then as it came back; nil otherwise.
	returned *catalog.ReturnedSpan
	replay   replayed
}

// judge says what an extend did to one partition, as far as the evidence goes.
func judge(p int32, ev *evidence) catalog.PartitionCertificate {
	end := &ev.end
	c := catalog.PartitionCertificate{Partition: p, End: end.End, Start: end.Next}
	var rest besides
	for _, r := range ev.reports {
		c.Acknowledged += r.Records
		rest.unknown += r.Unknown
		rest.markers += r.Markers
	}
	held := end.End - end.Start
	c.PauseMs, c.Idle = pauseMs(ev.reports, ev.next)
	c.Idle = c.Idle || c.PauseMs == nil && ev.final && silentSince(ev.reports)
	v := verdict{c: &c}
	if ev.before != nil {
		if v.keep(ev.before) {
			v.content(ev)
		}
		return v.give()
	}

	if end.Next > end.End {
		v.rangeOf(end.End, end.Next, "hole", "left free for records that may have been acknowledged and are not here")
	}
	if ev.alarm != nil {
		v.rangeOf(end.End, max(ev.alarm.Acknowledged, end.End), "lost", "the physical log went back to "+strconv.FormatInt(end.End, 10))
		c.Lost += max(ev.alarm.Acknowledged-end.End, 0)
	}
	if ev.lossy {
		for _, g := range end.Skip {
			v.rangeOf(g.From, g.To, "stranded", "on its way when the cluster was lost, and acknowledged by no gateway that gave its word")
		}
		c.Unread = true
		what, why := catalog.GroupWaits, "the cluster is away: nothing was read of it"
		toCome, until := toComeReturn(ev.away), "what was is read in place when the cluster is back"
		if ev.gone {
			what, why = catalog.GroupLost, physicalGone+": nothing was read of it"
			toCome, until = toComeGone(ev.away), "what was is lost"
		}
		c.Groups = unreadGroups(ev.standing, end, what)
		by := "gateways that live account for"
		if end.Reported {
			by += ", and, further, by what others had reported when they ended"
		}
		v.heard(ev.reports, true)
		if c.Unreported {
			v.check("no gateway has reported what it saw acknowledged; the span was ended at offset %d by what %s, and nothing was read", end.End, by)
		} else {
			v.check("%s reported %d records acknowledged; the span was ended at offset %d by what %s, and nothing was read", reporters(ev.reports), c.Acknowledged, end.End, by)
		}
		v.check("%s", toCome)
		v.doubt(end.Start, end.End, why)
		if end.Reported || end.End == end.Start {
			v.doubt(end.End, end.Next, "no gateway that lives has seen anything acknowledged from here on; "+until)
		}
		if len(ev.silent) > 0 {
			v.doubt(end.End, end.Next, fmt.Sprintf("gateways %v gave no word in time: what only they acknowledged is cut off, what was on its way through them may come twice", ev.silent))
		}
		return v.give()
	}
	v.counts(ev, held, rest)
	v.tail(ev)
	v.content(ev)
	v.boundary(ev)
	v.stray(ev)
	return v.give()
}

// What an early certificate says of the later ones.
const (
	toComeEnd     = "to come: the sealed end is read again when the gateways' leases have turned over"
	toComeContent = "to come: the sealed span is read and compared with what the gateways saw acknowledged"
)

// toComeReturn is what the certificate of a lost cluster's span says until the cluster is back.
func toComeReturn(cluster string) string {
	return "to come: the span is read and compared with what the gateways saw acknowledged, and what is stranded is taken in, when cluster " + cluster + " is back"
}

// toComeGone is what it says where the cluster is there, and the copy is not.
func toComeGone(cluster string) string {
	return "to come: cluster " + cluster + " is asked once more for the physical topic, and what is lost is counted"
}

func isToCome(s string) bool { return strings.HasPrefix(s, "to come: ") }

// heard notes whether any gateway said what it saw acknowledged. Where none did and there are
// records, or may be, nobody knows how many were.
func (v *verdict) heard(reports []catalog.AckReport, records bool) {
	v.c.Unreported = records && len(reports) == 0
}

type verdict struct {
	c      *catalog.PartitionCertificate
	doubts bool
}

func (v *verdict) check(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(v.c.Checked, s) {
		v.c.Checked = append(v.c.Checked, s)
	}
}

func (v *verdict) rangeOf(from, to int64, what, note string) {
	if n := len(v.c.Ranges); n > 0 {
		if last := &v.c.Ranges[n-1]; last.What == what && last.Note == note && last.From <= from && from <= last.To && from < to {
			last.To = max(last.To, to)
			return
		}
	}
	v.c.Ranges = append(v.c.Ranges, catalog.Range{From: from, To: to, What: what, Note: note})
}

// doubt makes the verdict unverified.
func (v *verdict) doubt(from, to int64, note string) {
	v.doubts = true
	v.rangeOf(from, to, "unverified", note)
}

func (v *verdict) give() catalog.PartitionCertificate {
	switch c := v.c; {
	case c.Lost > 0 || c.Duplicated > 0 || c.Reordered > 0 || c.Stray > 0:
		c.Verdict = catalog.VerdictViolated
	case v.doubts:
		c.Verdict = catalog.VerdictUnverified
	default:
		c.Verdict = catalog.VerdictVerified
	}
	return *v.c
}

// keep takes over what the certificate said before the copy was removed, and tells whether
// the content was still to come then.
func (v *verdict) keep(before *catalog.PartitionCertificate) bool {
	pause, idle := v.c.PauseMs, v.c.Idle
	*v.c = *before
	if pause != nil || idle {
		v.c.PauseMs, v.c.Idle = pause, idle
	}
	v.c.Ranges = slices.Clone(before.Ranges)
	v.c.Checked = slices.DeleteFunc(slices.Clone(before.Checked), func(s string) bool { return s == toComeContent })
	v.doubts = before.Verdict == catalog.VerdictUnverified
	return len(v.c.Checked) < len(before.Checked)
}

// besides is what else than acknowledged records the reports account for.
type besides struct {
	unknown int64 // records whose outcome was never learned
	markers int64 // ends of transactions, which take an offset each
}

// found is how many records a span of so many offsets holds. A cluster may have written an end more
// than once, or a gateway counted one twice: then what was acknowledged stands.
func (b besides) found(held, acknowledged int64) int64 {
	return max(held-b.markers, min(held, acknowledged))
}

// counts compares what the gateways saw acknowledged with what the span holds.
// Records that no report accounts for were appended by a gateway that is gone:
// what else that one may have acknowledged cannot be known. Where all of the span was
// read, content says it more exactly.
func (v *verdict) counts(ev *evidence, held int64, rest besides) {
	c, end := v.c, &ev.end
	v.heard(ev.reports, held > 0)
	if ev.content.complete(end) && ev.alarm == nil {
		c.Found = ev.content.records
		v.check("%s reported %d records acknowledged, the span holds %d", reporters(ev.reports), c.Acknowledged, c.Found)
		return
	}
	c.Found = rest.found(held, c.Acknowledged)
	if held == 0 && len(ev.reports) == 0 {
		v.check("no gateway reported anything acknowledged on the span, and by its end, as it was read at the seal, it holds nothing")
		return
	}
	ends := ""
	if rest.markers > 0 {
		ends = fmt.Sprintf(", and %d ends of transactions", rest.markers)
	}
	v.check("%s reported %d records acknowledged%s, the span holds %d", reporters(ev.reports), c.Acknowledged, ends, held)
	aside := ev.strandedRecords()
	switch n := held - c.Acknowledged - rest.unknown - rest.markers; {
	case len(ev.reports) == 0 && held > 0:
		v.doubt(end.Start, end.End, fmt.Sprintf("%d records are there, and no gateway reported what it saw acknowledged", held))
	case ev.alarm != nil:
	case c.Acknowledged > held:
		c.Lost = max(c.Lost, c.Acknowledged-held)
		v.rangeOf(end.Start, end.End, "lost", "more was acknowledged than is there")
	case n > 0 && n == aside:
	case n > 0 && aside > 0:
		v.doubt(end.Start, end.End, fmt.Sprintf("%d records are there that no report accounts for, and %d were stranded", n, aside))
	case n > 0:
		v.doubt(end.Start, end.End, fmt.Sprintf("%d records were appended by gateways that gave no report", n))
	case c.Acknowledged+rest.markers > held:
		v.doubt(end.Start, end.End, fmt.Sprintf("%d more were reported than are there, and which of them are ends of transactions was not looked at", c.Acknowledged+rest.markers-held))
	}
}

// nodes are the gateways that reported.
func nodes(reports []catalog.AckReport) map[int32]bool {
	out := map[int32]bool{}
	for i := range reports {
		out[reports[i].Node] = true
		for _, n := range reports[i].Nodes {
			out[n] = true
		}
	}
	delete(out, replayNode)
	return out
}

// reporters says who reported.
func reporters(reports []catalog.AckReport) string {
	s := "1 gateway"
	if n := len(nodes(reports)); n != 1 {
		s = fmt.Sprintf("%d gateways", n)
	}
	if slices.ContainsFunc(reports, func(r catalog.AckReport) bool { return r.Node == replayNode }) {
		s += ", and the return of a cluster,"
	}
	return s
}

// tail looks for the last acknowledged batches at their offsets.
func (v *verdict) tail(ev *evidence) {
	if ev.end.End == ev.end.Start {
		return
	}
	if ev.tailErr != nil {
		v.doubt(ev.tailFrom, ev.end.End, "the sealed copy could not be read: "+ev.tailErr.Error())
		return
	}
	at := make(map[int64]seenBatch, len(ev.tail))
	for _, b := range ev.tail {
		at[b.offset] = b
	}
	looked := 0
	for _, r := range ev.reports {
		for _, a := range r.Tail {
			if a.Offset < ev.tailFrom || ev.alarm != nil && a.Offset >= ev.end.End || ev.cutShort(a.Offset) {
				continue
			}
			looked++
			b, ok := at[a.Offset]
			switch {
			case ok && b.records == a.Records && (ev.rewritten || b.stamped || b.crc == a.CRC):
			case ev.compacted && (!ok || b.records <= a.Records):
			default:
				v.c.Lost += int64(a.Records)
				v.rangeOf(a.Offset, a.Offset+int64(a.Records), "lost", "an acknowledged batch is not at its offset")
			}
		}
	}
	how := "by offset, count and checksum"
	if ev.rewritten {
		how = "by offset and count (the cluster stamps records)"
	}
	v.check("%d of the last acknowledged batches were looked up %s", looked, how)
}

// producerKey tells producers apart; a new epoch begins its sequences anew.
type producerKey struct {
	id    int64
	epoch int16
}

// boundary follows each producer's sequences over the end of the span into the
// next one.
func (v *verdict) boundary(ev *evidence) {
	if ev.headErr != nil {
		v.doubt(ev.end.Next, ev.end.Next, "the next span could not be read: "+ev.headErr.Error())
		return
	}
	if ev.tailErr != nil || len(ev.head) == 0 {
		return
	}
	last := map[producerKey]seenBatch{}
	spans := map[producerKey][]seenBatch{}
	for _, b := range ev.tail {
		if b.first >= 0 {
			k := producerKey{b.producer, b.epoch}
			last[k] = b
			spans[k] = append(spans[k], b)
		}
	}
	checked := 0
	for _, b := range ev.head {
		if b.first < 0 || b.producer < 0 {
			continue
		}
		k := producerKey{b.producer, b.epoch}
		prev, ok := last[k]
		if !ok {
			last[k], spans[k] = b, append(spans[k], b)
			continue
		}
		checked++
		switch want := batch.IncrementSequence(prev.last, 1); {
		case b.first == want:
			last[k] = b
		case before(b.first, want):
			if covered(spans[k], b) {
				v.c.Duplicated += int64(b.records)
				v.rangeOf(b.offset, b.next, "duplicated", fmt.Sprintf("sequences %d to %d of producer id %d are there before", b.first, b.last, b.producer))
			} else {
				v.c.Reordered += int64(b.records)
				v.rangeOf(b.offset, b.next, "reordered", fmt.Sprintf("sequences %d to %d of producer id %d come after %d", b.first, b.last, b.producer, prev.last))
			}
		default:
			last[k] = b
			if !ev.compacted && ev.end.Next == ev.end.End {
				missing := int64((b.first - want) & math.MaxInt32)
				v.c.Lost += missing
				v.rangeOf(prev.next, b.offset, "lost", fmt.Sprintf("sequences %d to %d of producer id %d are missing", want, batch.DecrementSequence(b.first, 1), b.producer))
			}
		}
		spans[k] = append(spans[k], b)
	}
	v.check("%d batches at the beginning of the next span follow their producers' sequences", checked)
}

// before tells whether sequence a lies before b; sequences wrap.
func before(a, b int32) bool { return a != b && (b-a)&math.MaxInt32 < 1<<30 }

func covered(in []seenBatch, b seenBatch) bool {
	for _, x := range in {
		if (b.first-x.first)&math.MaxInt32 <= (x.last-x.first)&math.MaxInt32 {
			return true
		}
	}
	return false
}

// stray looks once more past the sealed end.
func (v *verdict) stray(ev *evidence) {
	switch {
	case ev.strayErr != nil:
		v.doubt(ev.end.End, ev.end.End, "the sealed end could not be read again: "+ev.strayErr.Error())
	case ev.strayEnd < 0:
		v.check(toComeEnd)
	case ev.alarm != nil:
	default:
		if n := ev.strayEnd - ev.end.Physical; n > 0 {
			v.c.Stray = n
			v.rangeOf(ev.end.End, ev.end.End+n, "stray", "records past the sealed end, which nobody is served")
		}
		v.check("the sealed end was read again after the gateways' leases had turned over")
	}
}

// pauseMs is the time over the boundary in which an append waited and none was acknowledged, nil unknown. idle: those who
// went on had begun to when the chain went on already, so that nobody waited.
func pauseMs(sealed, next []catalog.AckReport) (ms *float64, idle bool) {
	var last, first, asked int64
	idle = true
	note := func(r *catalog.AckReport) {
		if r.FirstAck == 0 {
			return
		}
		if first == 0 || r.FirstAck < first {
			first = r.FirstAck
		}
		if r.Asked > 0 && (asked == 0 || r.Asked < asked) {
			asked = r.Asked
		}
		idle = idle && r.Idle
	}
	for i := range sealed {
		last = max(last, sealed[i].LastAck)
		note(&sealed[i])
	}
	for i := range next {
		note(&next[i])
	}
	switch since := max(last, asked); {
	case first == 0:
		return nil, false
	case idle:
		return nil, true
	case since == 0 || first <= since:
		return nil, false
	default:
		took := float64(first-since) / 1e6
		return &took, false
	}
}

// silentSince tells whether gateways that saw records acknowledged on a span have heard of none since.
func silentSince(sealed []catalog.AckReport) bool {
	return len(sealed) > 0 && !slices.ContainsFunc(sealed, func(r catalog.AckReport) bool { return r.FirstAck > 0 || r.Asked > 0 })
}

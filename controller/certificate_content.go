package controller

import (
	"fmt"
	"slices"

	"github.com/braidstream/braid/catalog"
)

// complete tells whether all of the span was read; nil is nothing.
func (c *content) complete(end *catalog.SealedEnd) bool {
	return c != nil && c.err == nil && c.from <= end.Start && c.to >= end.End
}

// content compares, chunk by chunk, the batches that gateways saw acknowledged with
// those that the sealed span holds.
func (v *verdict) content(ev *evidence) {
	c, end := ev.content, &ev.end
	switch {
	case ev.contentLater:
		v.check(toComeContent)
		return
	case c == nil && ev.contentWhy != "":
		v.check("what lies before the last batches was compared by count only: %s", ev.contentWhy)
		return
	case c == nil:
		return
	}
	if c.start > end.Start {
		v.check("offsets %d to %d are not there any more", end.Start, c.start)
		if !ev.sized && c.start > ev.chainStart {
			v.doubt(max(end.Start, ev.chainStart), c.start, "these offsets are gone from the sealed copy, and nothing of Braid's has trimmed them")
		}
	}
	switch {
	case c.err == nil:
	case ev.released && c.errAt == end.End:
		v.check("what differs was not looked at more closely: the sealed copy was removed before")
	case ev.released:
		v.check("offsets %d to %d by count only: the sealed copy was removed before they were read", c.errAt, end.End)
	default:
		v.doubt(c.errAt, end.End, "the sealed span could not be read: "+c.err.Error())
	}
	if c.held == nil {
		return // nothing was read
	}
	compared, named := 0, slices.Clone(v.c.Ranges)
	for i := range c.digest.Chunks {
		from, to := c.digest.Range(i)
		if from >= end.End || to <= end.Start || !c.compared(i, end) || ev.alarm != nil && to > end.End {
			continue
		}
		compared++
		if !c.same(i) {
			v.chunk(ev, i, named)
		}
	}
	v.unreported(ev)
	how := "by offset, count and checksum"
	if c.stamped {
		how = "by offset and count (the cluster stamps records)"
	}
	v.check("every batch acknowledged in offsets %d to %d was compared with the sealed span %s: %d sums of %d offsets each, %d bytes read",
		c.from, c.to, how, compared, int64(1)<<c.digest.Shift, c.bytes)
	if c.err == nil && c.from > max(c.start, end.Start) {
		v.check("offsets %d to %d by count only: more than %s", max(c.start, end.Start), c.from, ConfigCertifyBytes)
	}
	if c.err == nil && c.to < end.End {
		v.check("offsets %d to %d by count only: more than %s", c.to, end.End, ConfigCertifyBytes)
	}
}

// ConfigCertifyBytes is the setting that bounds what a certificate reads.
const ConfigCertifyBytes = "braid.certify.bytes"

// unreported doubts what the span holds beside the chunks that gateways reported on.
func (v *verdict) unreported(ev *evidence) {
	c, end := ev.content, &ev.end
	if !c.complete(end) || ev.alarm != nil {
		return // the counts over the whole span have said it
	}
	rest := c.records - c.aside
	for i := range c.held {
		rest -= c.held[i].Records
	}
	if rest > 0 {
		v.doubt(end.Start, end.End, fmt.Sprintf("%d records were appended by gateways that gave no report", rest))
	}
}

// chunk judges a chunk in which the log does not hold just what was acknowledged. What was
// acknowledged is what the log holds, less batches of others, plus batches that are missing.
// Only sums are known of it, so the question is whether they can be explained without
// a missing batch.
// named are the ranges that the counts and the last batches' own comparison have found.
func (v *verdict) chunk(ev *evidence, i int, named []catalog.Range) {
	c, end := ev.content, &ev.end
	a, l := c.digest.Chunks[i], c.held[i]
	from, to := c.digest.Range(i)
	from, to = max(from, end.Start), min(to, end.End)
	batches := c.batches[i]
	if n := len(batches); n > 0 {
		to = max(to, batches[n-1].next) // it begins in the chunk, and may end past it
	}
	surplus, diff := l.Batches-a.Batches, c.sum(l)-c.sum(a)
	lost := func(n int64, note string) {
		if !slices.ContainsFunc(named, func(r catalog.Range) bool { return r.What == "lost" && r.From < to && from < r.To }) {
			v.c.Lost += max(n, 1)
		} // else it is counted
		v.rangeOf(from, to, "lost", note)
	}
	switch {
	case batches == nil:
		if a.Records > l.Records {
			lost(a.Records-l.Records, "more was acknowledged than is there")
			return
		}
		v.doubt(from, to, "not what was acknowledged, and not looked at more closely")
	case surplus < 0 && c.twice(batches, -surplus, a.Records-l.Records, -diff):
		// Two gateways had the same batches acknowledged, each on a retry of its own.
	case a.Records > l.Records:
		lost(a.Records-l.Records, "more was acknowledged than is there")
	case surplus <= 0:
		lost(1, "an acknowledged batch is not there as it was acknowledged: altered, doubled or in another's place")
	default:
		extra, ok := c.explain(batches, surplus, l.Records-a.Records, diff)
		switch {
		case ok:
			v.extra(c, batches, extra)
		case surplus <= 2:
			lost(1, "an acknowledged batch is not there as it was acknowledged: altered, doubled or in another's place")
		default:
			v.doubt(from, to, fmt.Sprintf("%d records were appended by gateways that gave no report: what was acknowledged beside them goes by its count", l.Records-a.Records))
		}
	}
}

// extra judges batches that no report accounts for, while all that was acknowledged is there.
func (v *verdict) extra(c *content, batches []seenBatch, extra []int) {
	for _, i := range extra {
		b := &batches[i]
		if j := twin(batches, i); j >= 0 {
			v.c.Duplicated += int64(b.records)
			v.rangeOf(b.offset, b.next, "duplicated", fmt.Sprintf("sequences %d to %d of producer id %d are there twice, also at %d", b.first, b.last, b.producer, batches[j].offset))
			continue
		}
		if !c.inDoubt[inDoubtKey{b.records, b.crc}] {
			v.doubt(b.offset, b.next, fmt.Sprintf("%d records were appended by a gateway that gave no report", b.records))
		}
	}
}

// twin finds another batch with the same producer and sequences; -1 for none.
func twin(batches []seenBatch, i int) int {
	b := &batches[i]
	for j := range batches {
		o := &batches[j]
		if j != i && b.producer >= 0 && b.first >= 0 && o.producer == b.producer && o.epoch == b.epoch && o.first == b.first {
			return j
		}
	}
	return -1
}

// explain finds the batches that nobody reported, by their number, records and sum: for one
// or two of them all possibilities are tried, more only if they are all those whose outcome
// a gateway never learned.
func (c *content) explain(batches []seenBatch, surplus, records int64, diff uint64) ([]int, bool) {
	switch surplus {
	case 1:
		for i := range batches {
			if int64(batches[i].records) == records && c.hash(&batches[i]) == diff {
				return []int{i}, true
			}
		}
	case 2:
		at := make(map[uint64]int, len(batches))
		for i := range batches {
			h := c.hash(&batches[i])
			if j, ok := at[diff-h]; ok && int64(batches[i].records+batches[j].records) == records {
				return []int{j, i}, true
			}
			at[h] = i
		}
	}
	var doubted []int
	for i := range batches {
		if c.inDoubt[inDoubtKey{batches[i].records, batches[i].crc}] {
			doubted = append(doubted, i)
			records -= int64(batches[i].records)
			diff -= c.hash(&batches[i])
		}
	}
	return doubted, int64(len(doubted)) == surplus && records == 0 && diff == 0
}

// twice tells whether what was acknowledged beyond what is there are n batches of an idempotent
// producer that are there, one behind the other as a client has them on their way: they were
// counted by two.
func (c *content) twice(batches []seenBatch, n, records int64, diff uint64) bool {
	type run struct {
		of      []*seenBatch // the last n
		records int64
		sum     uint64
	}
	runs := map[producerKey]*run{}
	for i := range batches {
		b := &batches[i]
		if b.producer < 0 {
			continue
		}
		k := producerKey{b.producer, b.epoch}
		r := runs[k]
		if r == nil {
			r = &run{}
			runs[k] = r
		}
		r.of, r.records, r.sum = append(r.of, b), r.records+int64(b.records), r.sum+c.hash(b)
		if int64(len(r.of)) > n {
			r.records, r.sum = r.records-int64(r.of[0].records), r.sum-c.hash(r.of[0])
			r.of = r.of[1:]
		}
		if int64(len(r.of)) == n && r.records == records && r.sum == diff {
			return true
		}
	}
	return false
}

package verify

import (
	"cmp"
	"maps"
	"slices"
)

// Check judges a history. It changes nothing, so that it may be asked again; nothing may be
// recorded meanwhile. Its time is that of sorting each partition's records by offset, and beside
// the history it needs 32 bytes for each record of the largest partition.
func Check(h *History) Report {
	r := Report{Partitions: make([]PartitionReport, len(h.parts))}
	c := checker{report: &r, repeatsAllowed: h.RepeatsAllowed}
	var pauses, latency durations
	for i, p := range h.parts {
		p.mu.Lock()
		r.Partitions[i] = c.partition(int32(i), p)
		pauses.merge(&p.pauses)
		latency.merge(&p.latency)
		p.mu.Unlock()
	}
	for _, a := range c.anomalies() {
		a.to.Count = a.from.count
		a.to.Examples = a.from.examples
	}
	for _, p := range r.Partitions {
		r.Sent += p.Sent
		r.Acknowledged += p.Acknowledged
		r.Aborted += p.Aborted
		r.Unknown += p.Unknown
		r.Found += p.Found
		r.Polled += p.Polled
		r.Foreign += p.Foreign
		r.Unverified += p.Unverified
	}
	r.Pauses = summary(&pauses)
	r.Latency = summary(&latency)
	return r
}

// checker gathers the anomalies of all partitions.
type checker struct {
	report         *Report
	repeatsAllowed bool

	lost, duplicated, repeated, reordered, nonMonotonic, skipped finding
	phantom, aborted, conflicting, misplaced                     finding
}

type anomaly struct {
	to   *Anomaly
	from *finding
}

func (c *checker) anomalies() []anomaly {
	r := c.report
	return []anomaly{
		{&r.Lost, &c.lost}, {&r.Duplicated, &c.duplicated}, {&r.Repeated, &c.repeated}, {&r.Reordered, &c.reordered},
		{&r.NonMonotonic, &c.nonMonotonic}, {&r.Skipped, &c.skipped}, {&r.Phantom, &c.phantom},
		{&r.AbortedRead, &c.aborted}, {&r.Conflicting, &c.conflicting}, {&r.Misplaced, &c.misplaced},
	}
}

func (c *checker) partition(n int32, p *partition) PartitionReport {
	r := PartitionReport{
		Partition: n, Polled: p.polledN, Foreign: p.foreign, Verified: p.finalDone && !p.truncated,
		Pauses: summary(&p.pauses),
	}
	for _, producer := range slices.Sorted(maps.Keys(p.lanes)) {
		c.lane(n, p, producer, &r)
	}
	c.extras(p)
	c.offsets(n, p)
	c.reordered.merge(n, &p.reordered)
	c.nonMonotonic.merge(n, &p.nonMonotonic)
	c.phantom.merge(n, &p.phantom)
	c.aborted.merge(n, &p.aborted)
	return r
}

// merge adds what a partition found while its history was recorded.
func (f *finding) merge(partition int32, o *finding) {
	f.count += o.count
	for _, e := range o.examples[:min(len(o.examples), maxExamples-len(f.examples))] {
		e.Partition = partition
		f.examples = append(f.examples, e)
	}
}

func (s spot) value(partition int32) Value { return Value{s.producer, partition, s.sequence} }

// lane compares, value by value, what was acknowledged and what was read with what is there.
func (c *checker) lane(n int32, p *partition, producer int32, r *PartitionReport) {
	l := p.lanes[producer]
	counted := producer != markerProducer
	for seq := range l.sent {
		v := Value{producer, n, seq}
		ack, read, found := l.acked.at(seq), l.read.at(seq)-1, l.final.has(seq)
		if counted {
			r.Sent++
			switch {
			case ack == ackAborted:
				r.Aborted++
			case ack == ackUnknown:
				r.Unknown++
			default:
				r.Acknowledged++
			}
			if found {
				r.Found++
			}
		}
		acked := ack == ackNoOffset || ack >= ackBase
		if !found && (acked || read >= 0) {
			// What was read counts as written, acknowledged or not.
			at := read
			if ack >= ackBase {
				at = ack - ackBase
			}
			if !p.finalDone || at >= 0 && at < p.finalFrom {
				r.Unverified++
			} else {
				c.lost.add(Example{Partition: n, Value: ref(v), Offset: at})
			}
		}
		if ack >= ackBase && read >= 0 && read != ack-ackBase && !slices.Contains(p.extras[v], ack-ackBase) {
			at := ack - ackBase
			c.misplaced.add(Example{Partition: n, Value: ref(v), Offset: read, OtherOffset: ref(at)})
		}
		if !found {
			continue
		}
		for group, done := range p.groups {
			if seen := l.byGroup[group]; done && (seen == nil || !seen.has(seq)) && counted {
				c.skipped.add(Example{Partition: n, Value: ref(v), Offset: read, Reader: "group " + group})
			}
		}
	}
}

// extras judges values that were seen at more than one offset.
func (c *checker) extras(p *partition) {
	values := slices.SortedFunc(maps.Keys(p.extras), func(a, b Value) int {
		return cmp.Or(cmp.Compare(a.Producer, b.Producer), cmp.Compare(a.Sequence, b.Sequence))
	})
	for _, v := range values {
		first := p.lanes[v.Producer].read.at(v.Sequence) - 1
		for _, o := range p.extras[v] {
			e := Example{Partition: v.Partition, Value: ref(v), Offset: o, OtherOffset: ref(first)}
			if c.repeatsAllowed {
				c.repeated.add(e)
			} else {
				c.duplicated.add(e)
			}
		}
	}
}

// A spot is one statement that a value lies at an offset.
type spot struct {
	offset   int64
	sequence int64
	producer int32
	read     bool // somebody read it there; else it was only acknowledged there
}

func (s spot) sameValue(o spot) bool { return s.producer == o.producer && s.sequence == o.sequence }

// offsets looks for offsets that two values were said to have, and for records that readers jumped
// over. Both need the partition's records by offset.
func (c *checker) offsets(partition int32, p *partition) {
	var n int64
	for _, l := range p.lanes {
		n += l.sent
	}
	spots := make([]spot, 0, n+n/8+p.extraN)
	for producer, l := range p.lanes {
		for seq := range l.sent {
			ack, read := l.acked.at(seq)-ackBase, l.read.at(seq)-1
			if read >= 0 {
				spots = append(spots, spot{read, seq, producer, true})
			}
			if ack >= 0 && ack != read {
				spots = append(spots, spot{ack, seq, producer, false})
			}
		}
	}
	for v, offsets := range p.extras {
		for _, o := range offsets {
			spots = append(spots, spot{o, v.Sequence, v.Producer, true})
		}
	}
	slices.SortFunc(spots, func(a, b spot) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.producer, b.producer), cmp.Compare(a.sequence, b.sequence))
	})
	for i := 0; i < len(spots); {
		j := i + 1
		for j < len(spots) && spots[j].offset == spots[i].offset {
			j++
		}
		// Sorted by value too: if there are two, the last is not the first.
		if last := spots[j-1]; !last.sameValue(spots[i]) {
			a, b := spots[i].value(partition), last.value(partition)
			c.conflicting.add(Example{Partition: partition, Value: ref(a), Other: ref(b), Offset: last.offset})
		}
		i = j
	}
	for _, g := range p.gaps {
		i, _ := slices.BinarySearchFunc(spots, g.after+1, func(s spot, o int64) int { return cmp.Compare(s.offset, o) })
		for ; i < len(spots) && spots[i].offset < g.at; i++ {
			if s := spots[i]; s.read {
				v := s.value(partition)
				c.skipped.add(Example{Partition: partition, Value: ref(v), Offset: s.offset, Reader: g.reader})
			}
		}
	}
}

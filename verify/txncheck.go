package verify

import (
	"maps"
	"slices"
)

// CheckTxns judges a history of transactions. Each topic is judged by [Check]: what was committed and
// acknowledged is there once, in each producer's order, where it was acknowledged, and nothing of a transaction whose
// commit was never asked for was ever read. Over the topics it asks, of each transaction whatever its outcome:
//
//   - Torn: at the end, of what could be read, some of its records are there and others are not.
//   - TornView: a reader was given one of its records, and had at some time gone past the place of another, in whatever
//     topic and partition, without being given that one. What a reader of committed records is given of a
//     partition is always the beginning of what the partition holds in the end; so a reader's view is one such beginning for each
//     partition, and a transaction may never be there in one and be left out of another. Whether the reader has
//     got to the other place yet is not judged: partitions are read side by side, and neither Kafka nor
//     Braid promises that what is committed becomes visible in all of them at one moment.
//   - Hidden: it is there at the end, and a reader has gone past all that it could have been given of it.
//
// And of the group that consumes the first topic, where [TxnHistory.Grouped] says so, with the records below its
// last offset compared with those that transactions which are there consumed: Unprocessed, Reprocessed, OffsetLost,
// OffsetBackwards; see [TxnReport].
func CheckTxns(h *TxnHistory) TxnReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := TxnReport{Transactions: int64(len(h.txns)), Pauses: summary(&h.pauses), Latency: summary(&h.latency)}
	for i, t := range h.topics {
		topic := Check(t)
		topic.Topic = h.names[i]
		r.Topics = append(r.Topics, topic)
	}
	c := txnChecker{h: h, report: &r, there: make([]bool, len(h.txns))}
	for n := range h.txns {
		c.whole(int64(n))
	}
	for _, name := range slices.Sorted(maps.Keys(h.views)) {
		for n := range h.txns {
			c.seen(int64(n), name, h.views[name])
		}
	}
	if h.Grouped {
		c.offsets()
	}
	r.OffsetBackwards = Anomaly{h.backwards.count, c.named(h.backwards.examples)}
	for _, a := range []struct {
		to   *Anomaly
		from *finding
	}{{&r.Torn, &c.torn}, {&r.TornView, &c.tornView}, {&r.Hidden, &c.hidden}, {&r.Unprocessed, &c.unprocessed},
		{&r.Reprocessed, &c.reprocessed}, {&r.OffsetLost, &c.offsetLost}} {
		a.to.Count, a.to.Examples = a.from.count, a.from.examples
	}
	return r
}

type txnChecker struct {
	h      *TxnHistory
	report *TxnReport
	there  []bool // by transaction: committed, as far as can be told

	torn, tornView, hidden, unprocessed, reprocessed, offsetLost finding
}

// named puts the first topic's name to examples.
func (c *txnChecker) named(examples []Example) []Example {
	out := slices.Clone(examples)
	for i := range out {
		out[i].Topic = c.h.names[0]
	}
	return out
}

// look says whether a value was found at the end, and where it lies: where it was read first, else where it
// was acknowledged, -1 if nobody said. open: nobody could look there.
func (c *txnChecker) look(p part) (found, open bool, at int64) {
	part := c.h.topics[p.topic].parts[p.value.Partition]
	l := part.lanes[p.value.Producer]
	found, at = l.final.has(p.value.Sequence), l.read.at(p.value.Sequence)-1
	if at < 0 {
		at = max(-1, l.acked.at(p.value.Sequence)-ackBase)
	}
	if found {
		return true, false, at
	}
	return false, !part.finalDone || at >= 0 && at < part.finalFrom || at < 0 && part.trimmed, at
}

func (c *txnChecker) example(number int64, p part, at int64) Example {
	return Example{Topic: c.h.names[p.topic], Partition: p.value.Partition, Offset: at, Value: ref(p.value), Transaction: ref(number)}
}

// with adds another part to an example.
func (c *txnChecker) with(e Example, p part, at int64) Example {
	e.Other, e.OtherTopic = ref(p.value), c.h.names[p.topic]
	if at >= 0 {
		e.OtherOffset = ref(at)
	}
	return e
}

// whole judges what is there of a transaction at the end.
func (c *txnChecker) whole(number int64) {
	t := &c.h.txns[number]
	var found, missing, open int
	var aFound, aMissing part
	for _, p := range t.parts {
		switch is, unread, _ := c.look(p); {
		case is:
			found++
			aFound = p
		case unread:
			open++
		default:
			missing++
			aMissing = p
		}
	}
	switch t.outcome {
	case outcomeCommitted:
		c.report.Committed++
	case outcomeAborted:
		c.report.Aborted++
	default:
		c.report.Unknown++
		if found > 0 {
			c.report.UnknownThere++
		}
	}
	c.there[number] = found > 0 || t.outcome == outcomeCommitted
	switch {
	case found > 0 && missing > 0:
		_, _, at := c.look(aMissing)
		_, _, foundAt := c.look(aFound)
		c.torn.add(c.with(c.example(number, aMissing, at), aFound, foundAt))
	case open > 0:
		c.report.Unverified++
	}
}

// seen judges what a reader was given of a transaction.
func (c *txnChecker) seen(number int64, reader string, w *view) {
	var seen, past *part
	var pastAt int64
	var pastFound bool
	parts := c.h.txns[number].parts
	for i := range parts {
		p := &parts[i]
		if given := w.seen[p.topic][laneKey{p.value.Producer, p.value.Partition}]; given != nil && given.has(p.value.Sequence) {
			seen = p
			continue
		}
		found, _, at := c.look(*p)
		last, read := w.last[p.topic][p.value.Partition]
		gone := w.done[p.topic][p.value.Partition] || read && at >= 0 && last > at
		if gone && (past == nil || found && !pastFound) {
			past, pastAt, pastFound = p, at, found
		}
	}
	switch {
	case past == nil:
	case seen != nil:
		_, _, at := c.look(*seen)
		e := c.with(c.example(number, *past, pastAt), *seen, at)
		e.Reader = reader
		c.tornView.add(e)
	case pastFound:
		e := c.example(number, *past, pastAt)
		e.Reader = reader
		c.hidden.add(e)
	}
}

// offsets compares the group's offsets with what transactions consumed.
func (c *txnChecker) offsets() {
	counts := map[laneKey]*column{}
	by := map[Value]int64{} // one of those that consumed it, where there are several
	for n := range c.h.txns {
		if !c.there[n] {
			continue
		}
		for _, v := range c.h.txns[n].consumed {
			key := laneKey{v.Producer, v.Partition}
			if counts[key] == nil {
				counts[key] = &column{}
			}
			times := counts[key].at(v.Sequence) + 1
			counts[key].set(v.Sequence, times)
			if times > 1 {
				by[v] = int64(n)
			}
		}
	}
	for partition, p := range c.h.topics[0].parts {
		committed, told := c.h.committed[int32(partition)]
		if !told || !p.finalDone {
			c.report.OffsetsUnverified++
			continue
		}
		for _, producer := range slices.Sorted(maps.Keys(p.lanes)) {
			l := p.lanes[producer]
			count := counts[laneKey{producer, int32(partition)}]
			if count == nil {
				count = &column{}
			}
			for seq := range l.sent {
				if !l.final.has(seq) {
					continue
				}
				at, times := l.read.at(seq)-1, count.at(seq)
				var to *finding
				switch {
				case times > 1:
					to = &c.reprocessed
				case times == 0 && at < committed:
					to = &c.unprocessed
				case times == 1 && at >= committed:
					to = &c.offsetLost
				default:
					continue
				}
				v := Value{producer, int32(partition), seq}
				e := Example{Topic: c.h.names[0], Partition: v.Partition, Value: ref(v), Offset: at, OtherOffset: ref(committed)}
				if n, twice := by[v]; twice {
					e.Transaction = ref(n)
				}
				to.add(e)
			}
		}
	}
}

package chain

import (
	"math"

	"github.com/braidstream/braid/batch"
)

// Ruling is what the producers' state at a seal says about a batch that comes to
// the next span.
type Ruling int8

const (
	// RuleAppend: it is what the producer has to append next, or nothing is known
	// of the producer.
	RuleAppend Ruling = iota
	// RuleDuplicate: it was appended before the seal.
	RuleDuplicate
	// RuleMissing: batches before it are not in the sealed spans. Another gateway
	// may have placed them on the open span; if not, it is out of order.
	RuleMissing
	// RuleOldEpoch: a newer epoch of the producer has appended.
	RuleOldEpoch
)

// String names the ruling.
func (r Ruling) String() string {
	switch r {
	case RuleAppend:
		return "append"
	case RuleDuplicate:
		return "duplicate"
	case RuleMissing:
		return "missing"
	case RuleOldEpoch:
		return "old epoch"
	}
	return "?"
}

// sequenceSpace is how many sequence numbers there are: after 2^31-1 comes 0.
const sequenceMask = math.MaxInt32

// ahead is how far sequence b lies after a, and whether it is after rather than
// before: sequences wrap, so half of the space counts as past.
func ahead(a, b int32) (distance int32, after bool) {
	distance = (b - a) & sequenceMask
	return distance, distance < 1<<30
}

// Judge decides on a batch of a producer that the open span's copy may not know,
// by the state p that was sealed before it (nil: unknown producer). offset is
// where a duplicate was appended, -1 if the state cannot tell.
//
// The rules are those of a broker (KIP-98, ProducerAppendInfo), with two
// differences. What lies before the last five batches is still a duplicate,
// since a producer's sequences below its last are all in the log. And a
// producer of whom records may have been lost (p.Jump) may jump forward.
func Judge(p *ProducerState, epoch int16, first, last int32) (r Ruling, offset int64) {
	switch {
	case p == nil:
		return RuleAppend, -1
	case epoch < p.Epoch:
		return RuleOldEpoch, -1
	case epoch > p.Epoch:
		if first == 0 || p.Jump {
			return RuleAppend, -1
		}
		return RuleMissing, -1
	}
	for i := range p.Batches {
		if b := &p.Batches[i]; b.FirstSequence == first && b.LastSequence == last {
			return RuleDuplicate, b.FirstOffset
		}
	}
	if p.LastSequence == batch.NoSequence {
		if first == 0 || p.Jump {
			return RuleAppend, -1
		}
		return RuleMissing, -1
	}
	distance, after := ahead(batch.IncrementSequence(p.LastSequence, 1), first)
	switch {
	case after && (distance == 0 || p.Jump):
		return RuleAppend, -1
	case after:
		return RuleMissing, -1
	}
	// It begins before what is next. Unless it also ends there it is no retry of
	// anything; a broker calls that out of order.
	if _, ok := ahead(last, p.LastSequence); ok {
		return RuleDuplicate, -1
	}
	return RuleMissing, -1
}

package chain

import "github.com/braidstream/braid/catalog"

// EpochEnd answers OffsetForLeaderEpoch from the chain (KIP-101, KIP-279): the
// largest epoch that is not above the asked one, and the offset at which the
// next epoch begins. The end of the last epoch is openEnd, which the caller has
// from the open span's copy. For an epoch above all it gives -1, -1; for one
// below all the asked epoch itself and where the log begins.
//
// The end of an epoch is where the next span begins, not where its own span
// ends: a gap, even one left for lost records, is no truncation to a reader that
// stands in it, since its offsets are never given again.
func EpochEnd(c *catalog.Chain, epoch int32, openEnd int64) (int32, int64) {
	n := len(c.Spans)
	if n == 0 || epoch > c.Spans[n-1].Epoch {
		return -1, -1
	}
	for i := n - 1; i >= 0; i-- {
		s := &c.Spans[i]
		if s.Epoch > epoch {
			continue
		}
		switch {
		case i+1 < n:
			return s.Epoch, max(c.Spans[i+1].Start, c.Start)
		case s.IsOpen():
			return s.Epoch, openEnd
		default:
			return s.Epoch, s.End
		}
	}
	return epoch, max(c.Spans[0].Start, c.Start)
}

// Diverges tells whether a reader at offset, whose last record had the epoch
// last, has read another history than the chain's, and if so from where on.
func Diverges(c *catalog.Chain, offset int64, last int32, openEnd int64) (epoch int32, end int64, diverges bool) {
	if last < 0 {
		return -1, -1, false
	}
	epoch, end = EpochEnd(c, last, openEnd)
	if epoch < 0 {
		return -1, -1, false
	}
	return epoch, end, end < offset || epoch < last
}

package chain

import (
	"fmt"

	"github.com/braidstream/braid/catalog"
)

// Bounds of what a chain may hold: far above what the product makes, low enough
// that a broken catalog value cannot hurt.
const (
	// MaxSpans bounds a chain whatever braid.max.spans says.
	MaxSpans  = 1024
	maxCopies = 16
	maxPieces = 1 << 16
	// MaxSkips bounds the ranges that a copy leaves out.
	MaxSkips = 64
	// maxOffset leaves room above for arithmetic that cannot overflow.
	maxOffset = int64(1) << 62
)

// UnknownRoom is how many offsets a lossy extend leaves free when it is not
// known how far the lost copy had come.
const UnknownRoom = int64(1) << 32

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidChain, fmt.Sprintf(format, args...))
}

// Validate checks the structure of one chain: spans ascend without overlap,
// sequence numbers and epochs strictly grow, only the last span is open, every
// span has a copy with a sane map, and no physical partition is used twice. It
// fails with [ErrInvalidChain].
func Validate(c *catalog.Chain) error {
	if c.Start < 0 || c.Start > maxOffset {
		return invalid("start %d", c.Start)
	}
	if len(c.Spans) > MaxSpans {
		return invalid("%d spans, at most %d", len(c.Spans), MaxSpans)
	}
	type place struct {
		id        catalog.ID
		partition int32
	}
	used := make(map[place]int32, len(c.Spans))
	for i := range c.Spans {
		s := &c.Spans[i]
		last := i == len(c.Spans)-1
		switch {
		case s.Seq < 0 || s.Seq >= c.NextSeq:
			return invalid("span %d: the next sequence number is %d", s.Seq, c.NextSeq)
		case s.Epoch < 0:
			return invalid("span %d: epoch %d", s.Seq, s.Epoch)
		case s.Start < 0 || s.Start > maxOffset:
			return invalid("span %d: start %d", s.Seq, s.Start)
		case s.IsOpen() && !last:
			return invalid("span %d is open and not the last", s.Seq)
		case s.IsOpen() && s.Hole:
			return invalid("span %d is open and has a hole behind it", s.Seq)
		case !s.IsOpen() && (s.End < s.Start || s.End > maxOffset):
			return invalid("span %d: from %d to %d", s.Seq, s.Start, s.End)
		case !s.IsOpen() && s.End == s.Start && !s.Hole:
			return invalid("span %d is sealed and empty", s.Seq)
		}
		if i > 0 {
			p := &c.Spans[i-1]
			switch {
			case s.Seq <= p.Seq:
				return invalid("span %d after span %d", s.Seq, p.Seq)
			case s.Epoch <= p.Epoch:
				return invalid("span %d: epoch %d after %d", s.Seq, s.Epoch, p.Epoch)
			case s.Start < p.End:
				return invalid("span %d begins at %d, the one before ends at %d", s.Seq, s.Start, p.End)
			}
		}
		if len(s.Copies) == 0 || len(s.Copies) > maxCopies {
			return invalid("span %d: %d copies", s.Seq, len(s.Copies))
		}
		for j := range s.Copies {
			cp := &s.Copies[j]
			if err := validateCopy(s, cp); err != nil {
				return err
			}
			at := place{cp.TopicID, cp.Partition}
			if other, ok := used[at]; ok {
				return invalid("spans %d and %d use partition %d of the physical topic %s", other, s.Seq, cp.Partition, cp.Topic)
			}
			used[at] = s.Seq
		}
	}
	if n := len(c.Spans); n > 0 && !c.Spans[n-1].IsOpen() && c.Start > c.Spans[n-1].End {
		return invalid("start %d past the end %d", c.Start, c.Spans[n-1].End)
	}
	return nil
}

func validateCopy(s *catalog.Span, c *catalog.Copy) error {
	switch {
	case c.Cluster == "" || c.Topic == "":
		return invalid("span %d: a copy without cluster or topic", s.Seq)
	case c.Partition < 0:
		return invalid("span %d: physical partition %d", s.Seq, c.Partition)
	case len(c.Map) == 0 || len(c.Map) > maxPieces:
		return invalid("span %d: map of %d pieces", s.Seq, len(c.Map))
	case c.Gone && !c.Unreadable:
		return invalid("span %d has a copy that is gone and readable", s.Seq)
	case s.IsOpen() && c.Unreadable:
		return invalid("span %d is open and unreadable", s.Seq)
	}
	for i, p := range c.Map {
		logical := p.Physical + p.Delta
		switch {
		case p.Physical < 0 || p.Physical > maxOffset || logical < 0 || logical > maxOffset:
			return invalid("span %d: piece at %d with delta %d", s.Seq, p.Physical, p.Delta)
		case i == 0 && logical > s.Start:
			return invalid("span %d begins at %d, its copy at %d", s.Seq, s.Start, logical)
		case i > 0 && (p.Physical <= c.Map[i-1].Physical || p.Delta < c.Map[i-1].Delta):
			return invalid("span %d: pieces at %d and %d", s.Seq, c.Map[i-1].Physical, p.Physical)
		}
	}
	return validateSkip(s, c)
}

func validateSkip(s *catalog.Span, c *catalog.Copy) error {
	if s.IsOpen() && len(c.Skip) > 0 || len(c.Skip) > MaxSkips {
		return invalid("span %d: %d ranges are left out", s.Seq, len(c.Skip))
	}
	at := s.Start
	for _, g := range c.Skip {
		if g.From < at || g.To <= g.From || g.To > s.End {
			return invalid("span %d leaves out %d to %d", s.Seq, g.From, g.To)
		}
		at = g.To + 1
	}
	return nil
}

// Follows checks that next may come after prev as a version of the same chain:
// the start and the next sequence number only grow, a sealed span keeps its
// range and epoch, an open one keeps its place until it is sealed, and no new
// span reaches below what was there. Both must be valid by themselves.
func Follows(prev, next *catalog.Chain) error {
	if next.Start < prev.Start {
		return invalid("start goes back from %d to %d", prev.Start, next.Start)
	}
	if next.NextSeq < prev.NextSeq {
		return invalid("next sequence number goes back from %d to %d", prev.NextSeq, next.NextSeq)
	}
	bySeq := make(map[int32]*catalog.Span, len(next.Spans))
	for i := range next.Spans {
		bySeq[next.Spans[i].Seq] = &next.Spans[i]
	}
	var top int64
	var epoch int32 = -1
	for i := range prev.Spans {
		old := &prev.Spans[i]
		epoch = max(epoch, old.Epoch)
		top = max(top, old.Start, old.End)
		now, ok := bySeq[old.Seq]
		if !ok {
			switch {
			case old.IsOpen(): // sealed empty and vanished, or sealed and trimmed
			case reach(prev, i) > next.Start:
				return invalid("span %d is gone, and the start is still %d", old.Seq, next.Start)
			}
			continue
		}
		switch {
		case now.Start != old.Start || now.Epoch != old.Epoch:
			return invalid("span %d moved from %d at epoch %d to %d at epoch %d", old.Seq, old.Start, old.Epoch, now.Start, now.Epoch)
		case !old.IsOpen() && now.End != old.End:
			return invalid("span %d is sealed at %d, and now at %d", old.Seq, old.End, now.End)
		}
	}
	for i := range next.Spans {
		s := &next.Spans[i]
		if s.Seq < prev.NextSeq {
			continue
		}
		if s.Start < top || s.Epoch <= epoch {
			return invalid("new span %d at %d with epoch %d, when %d and %d were taken", s.Seq, s.Start, s.Epoch, top, epoch)
		}
	}
	return nil
}

package verify

import (
	"math/bits"
	"time"
)

// durations counts durations in buckets that are at most 1/16 wide of their value, from 1 µs up.
type durations struct {
	counts [40 * 16]uint64
	total  uint64
	max    time.Duration
}

// bucket: below 16 µs one bucket a microsecond; from there 16 buckets to each power of two.
func bucket(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < 16 {
		return int(us)
	}
	shift := bits.Len64(us) - 5
	return min((shift+1)*16+int(us>>shift)-16, 40*16-1)
}

// floor is the smallest duration of a bucket.
func floor(i int) time.Duration {
	if i < 16 {
		return time.Duration(i) * time.Microsecond
	}
	shift := i/16 - 1
	return time.Duration(uint64(16+i%16)<<shift) * time.Microsecond
}

func (s *durations) add(d time.Duration) {
	s.counts[bucket(d)]++
	s.total++
	s.max = max(s.max, d)
}

func (s *durations) merge(o *durations) {
	for i, n := range o.counts {
		s.counts[i] += n
	}
	s.total += o.total
	s.max = max(s.max, o.max)
}

// quantile is the duration that the share q of all did not exceed, rounded up to its bucket's end.
func (s *durations) quantile(q float64) time.Duration {
	if s.total == 0 {
		return 0
	}
	want := uint64(q * float64(s.total))
	var seen uint64
	for i, n := range s.counts {
		seen += n
		if seen > want || seen == s.total {
			return min(floor(i+1), s.max)
		}
	}
	return s.max
}

package local

import (
	"sync"
	"time"
)

// checks remembers which bytes of a segment were found to be what was written, so
// that many readers of what the page cache holds do not each compute the same
// checksums. It is believed for as long as the page cache still has the bytes, and
// for checkedFor at most: nothing tells of pages that went and were read again.
type checks struct {
	mu     sync.Mutex
	ranges []checked // few; adjacent ones are one
}

type checked struct {
	from, to int64
	since    time.Duration
}

const (
	checkedFor = 10 * time.Minute
	// maxChecked bounds the ranges: readers that go through a file leave one each.
	maxChecked = 16
)

// from tells up to where the bytes from pos on were checked not long ago: pos if
// they were not. now is a steady clock's.
func (c *checks) from(pos int64, now time.Duration) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.ranges {
		if r.from <= pos && pos < r.to && now-r.since < checkedFor {
			return r.to
		}
	}
	return pos
}

// add notes that [from, to) is what was written.
func (c *checks) add(from, to int64, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	made := checked{from, to, now}
	keep := c.ranges[:0]
	for _, r := range c.ranges {
		switch {
		case now-r.since >= checkedFor:
		case r.from <= made.to && made.from <= r.to:
			// One range has the age of its oldest part.
			made = checked{min(r.from, made.from), max(r.to, made.to), min(r.since, made.since)}
		default:
			keep = append(keep, r)
		}
	}
	if len(keep) == maxChecked {
		keep = append(keep[:0], keep[1:]...)
	}
	c.ranges = append(keep, made)
}

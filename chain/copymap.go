package chain

import (
	"sort"

	"github.com/braidstream/braid/catalog"
)

// The map of a copy is piecewise constant. Deltas never fall from piece to
// piece, so both directions are monotone: a rise leaves a hole in the logical
// offsets, which readers step over.

// ToLogical maps a physical offset of the copy to the logical one. An offset
// below the first piece maps as if that piece began earlier.
func ToLogical(c *catalog.Copy, physical int64) int64 {
	return physical + c.Map[pieceOfPhysical(c.Map, physical)].Delta
}

// ToPhysical maps a logical offset to the physical one at which its record lies,
// or the next record when the offset lies in a hole of the map.
func ToPhysical(c *catalog.Copy, logical int64) int64 {
	m := c.Map
	// The last piece that begins at or before the logical offset.
	i := sort.Search(len(m), func(i int) bool { return m[i].Physical+m[i].Delta > logical }) - 1
	if i < 0 {
		return m[0].Physical
	}
	p := logical - m[i].Delta
	if i+1 < len(m) && p > m[i+1].Physical {
		return m[i+1].Physical
	}
	return p
}

// pieceOfPhysical is the index of the piece that holds a physical offset, and
// the offset at which the next piece begins.
func pieceOfPhysical(m []catalog.Piece, physical int64) int {
	if len(m) == 1 {
		return 0
	}
	i := sort.Search(len(m), func(i int) bool { return m[i].Physical > physical }) - 1
	return max(i, 0)
}

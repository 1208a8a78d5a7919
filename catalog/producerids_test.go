package catalog

import (
	"crypto/aes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// No two numbers have the same image, whatever the key, and none leaves the range: each has its way back.
func TestProducerOrderIsAPermutation(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		block, err := aes.NewCipher(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		if err != nil {
			t.Fatal(err)
		}
		p := permutation{block}
		n := rapid.Int64Range(0, 1<<producerBits-1).Draw(t, "number")
		image := p.of(n)
		if image < 0 || image >= 1<<producerBits {
			t.Fatalf("%d becomes %d", n, image)
		}
		left, right := uint32(image>>halfBits), uint32(image)&halfMask
		for round := rounds - 1; round >= 0; round-- {
			left, right = right^p.round(uint32(round), left), left
		}
		if back := int64(left)<<halfBits | int64(right); back != n {
			t.Fatalf("%d becomes %d, which comes from %d", n, image, back)
		}
	})
}

// Ids that are given out one after the other do not tell that they were, nor how many there were between.
func TestProducerIDsTellNothing(t *testing.T) {
	c := open(t)
	ids, err := c.ProducerIDs(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.ProducerIDs(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, again...)
	up, near := 0, 0
	for i := 1; i < len(ids); i++ {
		if d := ids[i] - ids[i-1]; d > 0 {
			up++
			if d < 1<<20 {
				near++
			}
		} else if d > -1<<20 {
			near++
		}
	}
	if up < 800 || up > 1200 || near > 0 {
		t.Errorf("%d of %d are larger than the one before, %d near it", up, len(ids), near)
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 2000 || ids[0] < permutedProducers || ids[len(ids)-1] >= 2*permutedProducers {
		t.Errorf("%d different ones from %d to %d", len(slices.Compact(ids)), ids[0], ids[len(ids)-1])
	}
}

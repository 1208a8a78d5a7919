package fair

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// However many take what they get: nobody has more than half, there is room for who comes with
// nothing.
func TestRoomStaysForWhoComes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const most = 1024
		r := NewRoom(most, func() bool { return true })
		greedy := rapid.IntRange(1, 6).Draw(t, "greedy")
		piece := rapid.SliceOfN(rapid.Int64Range(1, 5), greedy, greedy).Draw(t, "pieces")
		slack := int64(6*greedy + 6)
		take := func() {
			for progress := true; progress; {
				progress = false
				for i := range greedy {
					progress = r.Take(fmt.Sprint(i), piece[i]) || progress
				}
			}
		}
		take()
		free := most - r.Used()
		for owner, n := range r.Of() {
			if n > most/2+slack {
				t.Fatalf("%s has %d of %d", owner, n, most)
			}
		}
		if free < most>>greedy-slack || !r.Take("new", free) {
			t.Fatalf("%d is free of %d beside %d owners", free, most, greedy)
		}
		r.Put("new", free)
		for owner, n := range r.Of() {
			r.Put(owner, n)
		}
		if r.Used() != 0 || len(r.Of()) != 0 {
			t.Fatalf("%d used, %v", r.Used(), r.Of())
		}
	})
}

// Alone, an owner has all of the room.
func TestRoomOfOneOwner(t *testing.T) {
	t.Parallel()
	r := NewRoom(100, func() bool { return false })
	if !r.Take("a", 60) || !r.Take("a", 40) || r.Take("a", 1) {
		t.Error("it is not the bound that holds")
	}
	r.Force("a", 10)
	if r.Used() != 110 {
		t.Errorf("%d used", r.Used())
	}
	several := NewRoom(100, func() bool { return true })
	if !several.Take("a", 90) || several.Take("a", 1) || several.Take("b", 11) || !several.Take("b", 10) {
		t.Error("one piece has what is there, and no more is taken than there is")
	}
}

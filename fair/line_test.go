package fair

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// Two owners that always wait have had the same, but for what the items cost that were
// begun for each and are not paid for; whoever comes anew is next.
func TestLineIsFair(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const most = 100
		var l Line[int]
		n := rapid.IntRange(2, 6).Draw(t, "owners")
		had := map[string]int64{}
		name := func(i int) string { return fmt.Sprintf("owner-%d", i) }
		for i := range n {
			for range 3 {
				l.Push(name(i), i)
			}
		}
		costs := make([]int, n)
		for i := range costs {
			costs[i] = rapid.IntRange(1, most).Draw(t, "cost")
		}
		for range 200 {
			owner, i, ok := l.Pop()
			if !ok || owner != name(i) {
				t.Fatalf("popped %q %d %v", owner, i, ok)
			}
			cost := int64(costs[i])
			if rapid.Bool().Draw(t, "told late") {
				// Paid for by a guess first.
				guess := int64(rapid.IntRange(0, most).Draw(t, "guess"))
				l.Pay(owner, guess)
				l.Pay(owner, cost-guess)
			} else {
				l.Pay(owner, cost)
			}
			had[owner] += cost
			l.Push(owner, i)
			for a := range n {
				for b := range n {
					if d := had[name(a)] - had[name(b)]; d > 2*most {
						t.Fatalf("%s has had %d, %s %d", name(a), had[name(a)], name(b), had[name(b)])
					}
				}
			}
			if rapid.IntRange(0, 19).Draw(t, "someone comes") == 0 {
				// It waits at most for those who had nothing since the latest turn began.
				l.Push("sparse", -1)
				before := map[string]int{}
				for {
					owner, i, _ := l.Pop()
					l.Pay(owner, most)
					if owner == "sparse" {
						break
					}
					if _, twice := before[owner]; twice {
						t.Fatalf("%s went twice before one who had nothing yet", owner)
					}
					before[owner] = i
				}
				for owner, i := range before {
					had[owner] += most
					l.Push(owner, i)
				}
			}
		}
	})
}

// No owner whose demand is below its share ever waits for more than the turns of those who
// are below theirs too, and one who wants everything has all that the others leave.
func TestLineServesDemandBelowTheShareAtOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var l Line[int]
		quiet := rapid.IntRange(1, 5).Draw(t, "quiet owners")
		// In each round of time 100 one item of each quiet owner comes, of at most half an even
		// share; the noisy one always has items of any cost up to 10 waiting.
		share := 100 / (quiet + 1)
		noisy := 0
		for range 3000 {
			l.Push("noisy", -1)
		}
		l.Pop()
		l.Pay("noisy", 1)
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			left := 100
			waiting := 0
			for i := range quiet {
				if rapid.Bool().Draw(t, "comes") {
					l.Push(fmt.Sprintf("quiet-%d", i), i)
					waiting++
				}
			}
			for left > 0 {
				owner, i, ok := l.Pop()
				if !ok {
					t.Fatal("nothing waits")
				}
				cost := rapid.IntRange(1, 10).Draw(t, "cost")
				switch {
				case owner == "noisy" && waiting > 0:
					t.Fatalf("the noisy owner goes before %d others", waiting)
				case owner == "noisy":
					noisy++
				default:
					cost = rapid.IntRange(1, max(1, share/2)).Draw(t, "quiet cost")
					waiting--
					if owner != fmt.Sprintf("quiet-%d", i) {
						t.Fatalf("item %d of %s", i, owner)
					}
				}
				l.Pay(owner, int64(cost))
				left -= cost
			}
			if waiting > 0 {
				t.Fatalf("%d wait at the end of a round that had room for all", waiting)
			}
		}
		if noisy == 0 {
			t.Fatal("the noisy owner had nothing")
		}
	})
}

// Whatever comes in whatever order: each item has its turn once, those of one owner in
// their order, and what was not used is not saved up.
func TestLineKeepsItems(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var l Line[int]
		waiting := map[string][]int{}
		total, next := 0, 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				owner := fmt.Sprint(rapid.IntRange(0, 200).Draw(t, "owner"))
				l.Push(owner, next)
				waiting[owner] = append(waiting[owner], next)
				next++
				total++
			},
			"pop": func(t *rapid.T) {
				owner, item, ok := l.Pop()
				if ok != (total > 0) {
					t.Fatalf("ok %v with %d waiting", ok, total)
				}
				if !ok {
					return
				}
				if item != waiting[owner][0] {
					t.Fatalf("%d of %v", item, waiting[owner])
				}
				waiting[owner] = waiting[owner][1:]
				total--
				l.Pay(owner, int64(rapid.IntRange(-5, 50).Draw(t, "cost")))
			},
			"": func(t *rapid.T) {
				if l.Len() != total {
					t.Fatalf("%d wait, of %d", l.Len(), total)
				}
				for i, o := range l.order {
					if o.at != i {
						t.Fatalf("owner %s is at %d, not %d", o.name, o.at, i)
					}
				}
			},
		})
	})
}

// Owners that come once are forgotten, however many.
func TestLineForgets(t *testing.T) {
	t.Parallel()
	var l Line[int]
	l.Push("stays", 0)
	l.Push("stays", 0)
	for i := range 5 * mostIdle {
		l.Push(fmt.Sprint(i), i)
		owner, _, _ := l.Pop()
		l.Pay(owner, 1)
	}
	if n := len(l.owners); n > 3*mostIdle {
		t.Errorf("%d owners are remembered", n)
	}
}

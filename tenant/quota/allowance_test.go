package quota

import "testing"

// A share holds for all clients of a tenant together; what is told is no longer than the
// whole budget would mean, or a window.
func TestAllowance(t *testing.T) {
	t.Parallel()
	a := &Allowance{}
	whole := map[string]float64{ProducerByteRate: 10_000, ControllerMutationRate: 1}
	a.Set(map[string]float64{ProducerByteRate: 100, ControllerMutationRate: 1}, whole)
	var table *Table
	one, two := table.Client(&Meters{}, "ann", "", 1).Within(a), table.Client(&Meters{}, "bob", "", 1).Within(a)
	if wait := one.Produced(900, 1); wait != 0 {
		t.Errorf("%d ms below the share", wait)
	}
	if wait := two.Produced(9100, 1); wait != WindowMillis {
		t.Errorf("told to wait %d ms for the share", wait)
	}
	before := two.Epoch()
	if held, _ := two.Turn(1); held != 90_000 {
		t.Errorf("held for %d ms, 10,000 bytes in 10 s being ten times the share", held)
	}
	if held, _ := table.Client(&Meters{}, "bob", "", 1).Within(a).After(two).Turn(1); held != 90_000 {
		t.Errorf("held for %d ms only, after a change of something else", held)
	}
	if held, _ := one.Turn(1); held != 0 {
		t.Errorf("a client that did not exceed it is held for %d ms", held)
	}
	if use := a.Sample(1001)[ProducerByteRate]; !use.Limited || use.Rate < 9000 || use.Rate > 10_000 {
		t.Errorf("%+v", use)
	}
	if !a.Sample(1002)[ProducerByteRate].Limited {
		t.Error("who is held wants no more")
	}
	a.Set(whole, whole) // the next division
	if two.Epoch() == before {
		t.Error("turns of the smaller share stand")
	}
	if held, _ := two.Turn(1003); held != 0 {
		t.Errorf("held for %d ms by the whole budget", held)
	}
	if a.Sample(1004)[ProducerByteRate].Limited {
		t.Error("limited although there is room")
	}
	if wait := two.Produced(200_000, 1004); wait < 10_000 {
		t.Errorf("%d ms although the whole budget is exceeded", wait)
	}
	// What is not in the budget is not limited.
	if one.Fetched(1<<40, 1) != 0 || one.Metered() || one.FetchAtMost() < 1<<60 {
		t.Error("limited by what is not set")
	}
	if wait, refused := one.Mutate(12, true, 2000); wait != 0 || refused {
		t.Errorf("a burst: %d ms", wait)
	}
	if wait, refused := two.Mutate(1, true, 2000); wait != 1000 || !refused {
		t.Errorf("overdrawn: %d ms, refused %v", wait, refused)
	}
	if wait, _ := (*Client)(nil).Turn(1); (*Client)(nil).Within(nil) != nil || wait != 0 {
		t.Error("a tenant without a budget has an allowance")
	}
}

// A client's own quota and the tenant's share hold both.
func TestAllowanceBesideAQuota(t *testing.T) {
	t.Parallel()
	table := Compile(nil)
	if table != nil {
		t.Fatal("a table of nothing")
	}
	a := &Allowance{}
	shares := map[string]float64{ConsumerByteRate: 100, RequestPercentage: 1}
	a.Set(shares, shares)
	c := table.Client(&Meters{}, "ann", "", 1).Within(a)
	if c.FetchAtMost() != 1000 || !c.Metered() {
		t.Errorf("%v at most", c.FetchAtMost())
	}
	if wait := c.Worked(60e9, 1); wait != WindowMillis {
		t.Errorf("%d ms: a wait for work is at most a window", wait)
	}
	if c.Fetched(3000, 1) == 0 || c.Unfetched(3000, 1) != 0 {
		t.Error("what was not sent counts")
	}
}

// Turns are as far apart as what was used last takes. They run ahead no further than a client
// is held, however many there are, and are forgotten when nothing is exceeded any more.
func TestTurns(t *testing.T) {
	t.Parallel()
	a := &Allowance{}
	shares := map[string]float64{ProducerByteRate: 1000, ConsumerByteRate: 1000}
	a.Set(shares, shares)
	var table *Table
	one, two := table.Client(&Meters{}, "ann", "", 1).Within(a), table.Client(&Meters{}, "bob", "", 1).Within(a)
	one.Produced(10_400, 1)
	two.Produced(200, 1)
	for _, want := range []int64{600, 800, 1000} {
		if held, epoch := two.Turn(1); held != want || epoch != two.Epoch() {
			t.Errorf("held for %d ms instead of %d, epoch %d of %d", held, want, epoch, two.Epoch())
		}
	}
	for range 10_000 {
		if held, _ := two.Turn(1); held > HeldMillis {
			t.Fatalf("held for %d ms", held)
		}
	}
	const later = 2000 // what is over the share has been worked off
	if held, epoch := two.Turn(later); held != 0 || epoch != two.Epoch() {
		t.Errorf("held for %d ms although nothing is exceeded, epoch %d of %d", held, epoch, two.Epoch())
	}
	three := table.Client(&Meters{}, "cid", "", 1).Within(a)
	three.Produced(1000, later)
	if held, _ := three.Turn(later); held > 1500 {
		t.Errorf("held for %d ms for turns that are over", held)
	}
	// What is given back is no use: it neither sets how far turns are apart nor unsets it.
	four := table.Client(&Meters{}, "dan", "", 1).Within(a)
	four.Fetched(20_000, later)
	before := four.last[consume].Load()
	four.Fetched(4000, later)
	if four.last[consume].Load() == before {
		t.Fatal("what was used last is not known")
	}
	four.Unfetched(4000, later)
	if got := four.last[consume].Load(); got != 4000 {
		t.Errorf("used %d last", got)
	}
}

// A budget that is next to nothing means a long wait, which is a number all the same.
func TestWaitsAreBounded(t *testing.T) {
	t.Parallel()
	for _, limit := range []float64{1e-9, 5e-324, 0} {
		var r Rate
		r.Record(1e9, 1)
		if wait := r.Throttle(limit, 1); wait != LongestMillis {
			t.Errorf("%d ms at %v a second", wait, limit)
		}
		var b Bucket
		b.Take(1e9, limit, 1)
		if wait := b.Wait(limit, 1); wait != LongestMillis {
			t.Errorf("%d ms for tokens at %v a second", wait, limit)
		}
	}
	a := &Allowance{}
	shares := map[string]float64{ProducerByteRate: 5e-324}
	a.Set(shares, shares)
	var table *Table
	c := table.Client(&Meters{}, "ann", "", 1).Within(a)
	if wait := c.Produced(1<<40, 1); wait <= 0 || wait > LongestMillis {
		t.Errorf("told to wait %d ms", wait)
	}
	for range 3 {
		if held, _ := c.Turn(1); held <= 0 || held > LongestMillis {
			t.Errorf("held for %d ms", held)
		}
	}
}

// Who waits for a larger share is woken by one, or by the end of the limit, and by nothing else.
func TestGrownShareWakes(t *testing.T) {
	t.Parallel()
	a := &Allowance{}
	set := func(share float64) {
		a.Set(map[string]float64{ProducerByteRate: share}, map[string]float64{ProducerByteRate: 1000})
	}
	set(100)
	c := (*Client)(nil).Within(a)
	woken := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	grown := c.Grown()
	set(100)
	set(50)
	if woken(grown) || c.Grown() != grown {
		t.Error("woken by a share that did not grow")
	}
	set(60)
	if !woken(grown) {
		t.Error("not woken by a larger share")
	}
	grown = c.Grown()
	a.Set(nil, nil)
	if !woken(grown) {
		t.Error("not woken by the end of the limit")
	}
	if (*Client)(nil).Grown() != nil {
		t.Error("nobody's limit grows")
	}
}

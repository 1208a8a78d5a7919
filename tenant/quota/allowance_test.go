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
	// The next turn is when what the one before used last is paid for.
	if held, _ := two.Turn(1); held != 90_000+91_000 {
		t.Errorf("the second turn is in %d ms", held)
	}
	if held, _ := table.Client(&Meters{}, "bob", "", 1).Within(a).After(two).Turn(1); held < 181_000 {
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

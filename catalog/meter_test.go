package catalog

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// sumOf is what a tenant used, over all readings from a time on.
func sumOf(t *testing.T, c *Catalog, since time.Time, tenant string) (total Usage, readings int) {
	t.Helper()
	for r, err := range c.Readings(t.Context(), since) {
		if err != nil {
			t.Fatal(err)
		}
		if u, ok := r.Tenants[tenant]; ok {
			total, readings = total.Add(u), readings+1
		}
	}
	return total, readings
}

// Readings are written over the one before only, and folding keeps their sum.
func TestReadingsAreFolded(t *testing.T) {
	c := open(t)
	tenant := "folded-" + RandomName(8)
	// Hours of a year of its own: the catalog is shared.
	begin := time.Date(2001, 5, 7, 22, 0, 0, 0, time.UTC)
	unit := Usage{Received: 1, Sent: 2, Requests: 3, Connections: 4, ConnectionSeconds: 0.5, PartitionSeconds: 6, ByteSeconds: 7}
	want := Usage{}
	for h := range 4 {
		for w := range foldOps + 3 {
			r := Reading{Hour: begin.Add(time.Duration(h) * time.Hour).Format(HourLayout), Writer: fmt.Sprintf("%d-x", w), Seq: 1, Tenants: map[string]Usage{tenant: unit}}
			r.Revision = must(c.PutReading(t.Context(), r, Fence{}))(t)
			want = want.Add(unit)
			if w > 0 {
				continue
			}
			stale := r
			stale.Revision = 0
			if _, err := c.PutReading(t.Context(), stale, Fence{}); !errors.Is(err, ErrExists) {
				t.Errorf("begun anew: %v", err)
			}
			r.Seq++
			must(c.PutReading(t.Context(), r, Fence{}))(t)
			if _, err := c.PutReading(t.Context(), r, Fence{}); !errors.Is(err, ErrConflict) {
				t.Errorf("over another: %v", err)
			}
		}
	}
	check := func(readings int) {
		t.Helper()
		if got, n := sumOf(t, c, begin, tenant); got != want || n != readings {
			t.Errorf("%+v in %d readings, want %+v in %d", got, n, want, readings)
		}
	}
	check(4 * (foldOps + 3))
	fold := func(hours, days time.Time) {
		t.Helper()
		if err := c.FoldReadings(t.Context(), hours, days, Fence{}); err != nil {
			t.Fatal(err)
		}
	}
	fold(begin.Add(2*time.Hour), time.Time{})
	check(2 + 2*(foldOps+3))
	old := Reading{Hour: begin.Format(HourLayout), Writer: "0-x", Seq: 3, Revision: 1, Tenants: map[string]Usage{tenant: unit}}
	if _, err := c.PutReading(t.Context(), old, Fence{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("one that was folded: %v", err)
	}
	// One that comes late is folded too.
	old.Revision = 0
	must(c.PutReading(t.Context(), old, Fence{}))(t)
	want = want.Add(unit)
	fold(begin.Add(24*time.Hour), begin.Add(2*time.Hour))
	check(1 + 2)
	fold(begin.Add(24*time.Hour), begin.Add(24*time.Hour))
	check(2)
	if _, n := sumOf(t, c, begin.Add(2*time.Hour), tenant); n != 1 {
		t.Errorf("%d readings from the second day on", n)
	}
	if _, n := sumOf(t, c, begin.Add(48*time.Hour), tenant); n != 0 {
		t.Errorf("%d readings of later days", n)
	}
}

// Readings of a part of the tenants are folded with those of the same part, so that none grows beyond what is taken for a
// value; those of a release that knew no parts are one of their own.
func TestPartsAreFoldedApart(t *testing.T) {
	c := open(t)
	begin := time.Date(2003, 5, 7, 4, 0, 0, 0, time.UTC)
	unit, tenant := Usage{Received: 1}, "parted-"+RandomName(8)
	writers := []string{"1-x.3", "2-x.3", "1-x.11", "1-x"}
	for h := range 2 {
		for _, w := range writers {
			must(c.PutReading(t.Context(), Reading{Hour: begin.Add(time.Duration(h) * time.Hour).Format(HourLayout), Writer: w, Seq: 1, Tenants: map[string]Usage{tenant: unit}}, Fence{}))(t)
		}
	}
	read := func() (text string) {
		t.Helper()
		for r, err := range c.Readings(t.Context(), begin) {
			if err != nil {
				t.Fatal(err)
			}
			if u, ok := r.Tenants[tenant]; ok {
				text += fmt.Sprint(r.Hour, " ", r.Writer, " ", u.Received, "\n")
			}
		}
		return text
	}
	for _, step := range []struct {
		hours, days time.Duration
		want        string
	}{
		{2 * time.Hour, 0, "2003-05-07T04 all 1\n2003-05-07T04 all.11 1\n2003-05-07T04 all.3 2\n2003-05-07T05 all 1\n2003-05-07T05 all.11 1\n2003-05-07T05 all.3 2\n"},
		{2 * time.Hour, 0, "2003-05-07T04 all 1\n2003-05-07T04 all.11 1\n2003-05-07T04 all.3 2\n2003-05-07T05 all 1\n2003-05-07T05 all.11 1\n2003-05-07T05 all.3 2\n"},
		{2 * time.Hour, 2 * time.Hour, "2003-05-07 all 2\n2003-05-07 all.11 2\n2003-05-07 all.3 4\n"},
	} {
		if err := c.FoldReadings(t.Context(), begin.Add(step.hours), begin.Add(step.days), Fence{}); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != step.want {
			t.Errorf("%s\nwant\n%s", got, step.want)
		}
	}
}

func TestSharesAreWatched(t *testing.T) {
	c := open(t)
	tenant := "shares-" + RandomName(8)
	must(c.CreateTenant(t.Context(), Tenant{Name: tenant}))(t)
	w := watch(t, c)
	if w.Snapshot().Share(tenant) != nil {
		t.Error("a share that nobody wrote")
	}
	s := Share{Tenant: tenant, Of: map[string]float64{"producer_byte_rate": 10}, Rates: map[string]map[int32]float64{"producer_byte_rate": {1: 4, 2: 6}},
		Connections: map[int32]int64{2: 7}, Stored: 8, Full: true}
	if err := c.PutShare(t.Context(), s, Fence{}); err != nil {
		t.Fatal(err)
	}
	snap := must(w.Refresh(t.Context()))(t)
	got := snap.Share(tenant)
	if got == nil || got.Rates["producer_byte_rate"][2] != 6 || got.Connections[2] != 7 || !got.Full || got.Revision == 0 || got.Tenant != tenant {
		t.Errorf("%+v", got)
	}
	if err := c.PutShare(t.Context(), s, Fence{Key: "nobody", Revision: 7}); !errors.Is(err, ErrFenced) {
		t.Errorf("of a former leader: %v", err)
	}
	s.Tenant = "shares-of-nobody"
	if err := c.PutShare(t.Context(), s, Fence{}); !errors.Is(err, ErrNoTenant) {
		t.Errorf("of no tenant: %v", err)
	}
}

// Many shares are written in few transactions; a tenant that is gone keeps no other from having its own.
func TestManyShares(t *testing.T) {
	c := open(t)
	w := watch(t, c)
	var shares []Share
	const n = shareOps + 5
	prefix := "many-" + RandomName(8)
	for i := range n {
		name := fmt.Sprint(prefix, "-", i)
		if i != 3 {
			must(c.CreateTenant(t.Context(), Tenant{Name: name}))(t)
		}
		shares = append(shares, Share{Tenant: name, Stored: int64(i)})
	}
	if err := c.PutShares(t.Context(), shares, Fence{}); err != nil {
		t.Fatal(err)
	}
	snap := must(w.Refresh(t.Context()))(t)
	for i, s := range shares {
		if got := snap.Share(s.Tenant); (got != nil) != (i != 3) || got != nil && got.Stored != int64(i) {
			t.Errorf("%s: %+v", s.Tenant, got)
		}
	}
	if err := c.PutShares(t.Context(), shares[:2], Fence{Key: "nobody", Revision: 7}); !errors.Is(err, ErrFenced) {
		t.Errorf("of a former leader: %v", err)
	}
	if err := c.PutShares(t.Context(), nil, Fence{}); err != nil {
		t.Error(err)
	}
}

// A gateway's report goes with its registration.
func TestReportsOfUseAreLeased(t *testing.T) {
	c := open(t)
	const node = 4711
	s := must(c.Register(t.Context(), Gateway{Node: node}, 0))(t)
	if err := s.PutUse(t.Context(), GatewayUse{Node: node, Tenants: map[string]TenantUse{"acme": {Rates: map[string]float64{"producer_byte_rate": 5}, Limited: []string{"producer_byte_rate"}, Groups: 2}}}); err != nil {
		t.Fatal(err)
	}
	find := func() *GatewayUse {
		for _, u := range must(c.Uses(t.Context()))(t) {
			if u.Node == node {
				return &u
			}
		}
		return nil
	}
	if u := find(); u == nil || u.Tenants["acme"].Groups != 2 || u.Tenants["acme"].Rates["producer_byte_rate"] != 5 {
		t.Errorf("%+v", u)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u := find(); u != nil {
		t.Errorf("%+v of a gateway that is gone", u)
	}
	if err := s.PutUse(t.Context(), GatewayUse{Node: node}); !errors.Is(err, ErrSessionLost) {
		t.Errorf("after the end: %v", err)
	}
}

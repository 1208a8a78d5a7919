package controller

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/usage"
)

// meter adds up what tenants hold, partitions and stored bytes, writes it down beside
// what gateways count, and makes old readings one.
//
// The time between two leaders is nobody's: as much is not counted. Two leaders do not
// both count, since each write compares the leadership.
func (t *term) meter(ctx context.Context) error {
	held := t.o.Holdings
	if held == nil {
		held = &usage.Holdings{}
	}
	// What an earlier leadership of this process counted was written by it, or is lost; and
	// what has passed since is another's.
	none := func(string) bool { return false }
	held.Keep(none)
	defer held.Keep(none)
	rec := &usage.Recorder{Store: t.o.Catalog, Writer: "controller-" + catalog.RandomName(10), Fence: t.driver.fence, Counts: held.Counts, Logger: t.o.Logger}
	for folded := (time.Time{}); ; {
		now := time.Now()
		s := t.o.Watcher.Snapshot()
		for _, x := range s.Tenants() {
			_, partitions := tenantCounts(s, x.Name)
			held.Set(x.Name, partitions, t.stored.of(x.Name).bytes, now)
		}
		if err := rec.Flush(ctx, now); err != nil {
			if errors.Is(err, catalog.ErrFenced) || ctx.Err() != nil {
				return err
			}
			t.o.Logger.Debug("usage was not written down, tried again", "err", err)
		}
		held.Keep(func(tenant string) bool { return s.Tenant(tenant) != nil })
		if now.Sub(folded) > t.o.MeterEvery*6 {
			if err := t.o.Catalog.FoldReadings(ctx, now.Add(-usage.FoldAfter), now.Add(-usage.Keep), t.driver.fence); err != nil {
				return err
			}
			folded = now
		}
		if err := pause(ctx, t.o.MeterEvery); err != nil {
			// What was held until now is written by who still leads.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			if ferr := rec.Flush(last, time.Now()); ferr != nil {
				t.o.Logger.Debug("the last usage was not written down", "err", ferr)
			}
			return err
		}
	}
}

// lastFlush bounds the write of a leader that leaves.
const lastFlush = 2 * time.Second

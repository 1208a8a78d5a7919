package usage

import (
	"sync"
	"time"
)

// Holdings add up what tenants hold over time: partitions and stored bytes. The leading
// controller has them. The zero value is ready.
type Holdings struct {
	mu sync.Mutex
	by map[string]*holding
}

type holding struct {
	partitions, bytes int64
	at                time.Time
	sum               Counts
}

func (h *holding) pass(now time.Time) {
	if d := now.Sub(h.at).Seconds(); d > 0 {
		h.sum.PartitionSeconds += float64(h.partitions) * d
		h.sum.ByteSeconds += float64(h.bytes) * d
		h.at = now
	}
}

// Set says what a tenant holds from now on.
func (h *Holdings) Set(tenant string, partitions, bytes int64, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.by[tenant]
	if x == nil {
		if h.by == nil {
			h.by = map[string]*holding{}
		}
		x = &holding{at: now}
		h.by[tenant] = x
	}
	x.pass(now)
	x.partitions, x.bytes = partitions, bytes
}

// Keep forgets the tenants that are not named: they are gone. What they held until the
// last Counts was counted by it.
func (h *Holdings) Keep(named func(tenant string) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for tenant := range h.by {
		if !named(tenant) {
			delete(h.by, tenant)
		}
	}
}

// Counts are what tenants held up to a moment.
func (h *Holdings) Counts(now time.Time) map[string]Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[string]Counts, len(h.by))
	for tenant, x := range h.by {
		x.pass(now)
		out[tenant] = x.sum
	}
	return out
}

// each yields what tenants hold.
func (h *Holdings) each(f func(tenant string, partitions, bytes int64)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for tenant, x := range h.by {
		f(tenant, x.partitions, x.bytes)
	}
}

// Counts are what all tenants used of a gateway up to a moment.
func (l *Ledger) Counts(now time.Time) map[string]Counts {
	out := map[string]Counts{}
	for _, name := range l.Tenants() {
		out[name] = l.Find(name).Counts(now)
	}
	return out
}

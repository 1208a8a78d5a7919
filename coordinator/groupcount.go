package coordinator

import (
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/catalog"
)

// groupCounts are the groups of each tenant in the shards that this gateway answers
// for. A machine counts its own; the sums take part from when its shard answers until it
// is handed over or lost.
type groupCounts struct {
	by sync.Map // tenant to *atomic.Int64
}

func (c *groupCounts) add(tenant string, n int64) {
	v, ok := c.by.Load(tenant)
	if !ok {
		v, _ = c.by.LoadOrStore(tenant, new(atomic.Int64))
	}
	v.(*atomic.Int64).Add(n)
}

func (c *groupCounts) of(tenant string) int64 {
	if v, ok := c.by.Load(tenant); ok {
		return v.(*atomic.Int64).Load()
	}
	return 0
}

// Groups counts each tenant's groups in the shards that this gateway answers for.
func (c *Coordinator) Groups() map[string]int64 {
	out := map[string]int64{}
	c.counts.by.Range(func(k, v any) bool {
		if n := v.(*atomic.Int64).Load(); n > 0 && k != catalog.SystemTenant {
			out[k.(string)] = n
		}
		return true
	})
	return out
}

// grew counts a group that came or went.
func (m *machine) grew(tenant string, n int64) {
	if m.counts == nil {
		m.counts = map[string]int64{}
	}
	if m.counts[tenant] += n; m.counts[tenant] == 0 {
		delete(m.counts, tenant)
	}
	if m.total != nil {
		m.total.add(tenant, n)
	}
}

// counted makes the machine's groups part of the gateway's sums; uncounted takes them out.
func (m *machine) counted(total *groupCounts) {
	m.total = total
	for tenant, n := range m.counts {
		total.add(tenant, n)
	}
}

func (m *machine) uncounted() {
	if m.total == nil {
		return
	}
	for tenant, n := range m.counts {
		m.total.add(tenant, -n)
	}
	m.total = nil
}

// mayGrow tells whether a tenant may have one more group. It is asked on behalf of a
// request only, never in replay: what was let in stays.
func (m *machine) mayGrow(key groupKey) bool {
	return m.room == nil || m.total == nil || m.room(key.tenant, m.total.of(key.tenant))
}

// groupLimit is what clients are told whose tenant has as many groups as it may.
const groupLimit = "the limit of groups is reached: delete some, or have the limit raised"

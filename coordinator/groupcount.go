package coordinator

import (
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// groupCounts are the groups, or the transactional ids, of each tenant in the shards that this gateway answers
// for. A machine counts its own; the sums take part from when its shard answers until it
// is handed over or lost.
type groupCounts struct {
	by      sync.Map     // tenant to *atomic.Int64
	refused atomic.Int64 // since the start
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

func (c *groupCounts) sum() (n int64) {
	c.by.Range(func(_, v any) bool {
		n += v.(*atomic.Int64).Load()
		return true
	})
	return n
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

// tally is what a machine has of a kind, by tenant.
type tally struct {
	by    map[string]int64
	total *groupCounts // the gateway's; nil until the shard answers
}

// grew counts one that came or went.
func (t *tally) grew(tenant string, n int64) {
	if t.by == nil {
		t.by = map[string]int64{}
	}
	if t.by[tenant] += n; t.by[tenant] == 0 {
		delete(t.by, tenant)
	}
	if t.total != nil {
		t.total.add(tenant, n)
	}
}

// counted makes it part of the gateway's sums; uncounted takes it out.
func (t *tally) counted(total *groupCounts) {
	t.total = total
	for tenant, n := range t.by {
		total.add(tenant, n)
	}
}

func (t *tally) uncounted() {
	if t.total == nil {
		return
	}
	for tenant, n := range t.by {
		t.total.add(tenant, -n)
	}
	t.total = nil
}

// refused counts a name that was not let in.
func (t *tally) refused(code wire.Code) wire.Code {
	if t.total != nil {
		t.total.refused.Add(1)
	}
	return code
}

// maxNewName bounds the names of groups and transactional ids that are made, in bytes. Kafka's only bound is that of a
// string, and memory is the sum of all; those from before stay.
const maxNewName = 1024

// mayGrow tells whether a tenant may have one more group. It is asked on behalf of a
// request only, never in replay: what was let in stays.
func (m *machine) mayGrow(key groupKey) wire.Code {
	switch {
	case len(key.group) > maxNewName:
		return m.counts.refused(wire.InvalidGroupID)
	case m.room != nil && m.counts.total != nil && !m.room(key.tenant, m.counts.total.of(key.tenant)):
		return m.counts.refused(wire.PolicyViolation)
	}
	return wire.None
}

// mayBegin is mayGrow for transactional ids. Those of the fleet's own work are not counted against anybody.
func (m *machine) mayBegin(key groupKey) wire.Code {
	switch {
	case key.tenant == catalog.SystemTenant:
	case len(key.group) > maxNewName:
		return m.ids.refused(wire.InvalidRequest)
	case m.ids.total != nil && m.ids.total.of(key.tenant) >= m.config.MaxTransactionalIDs:
		return m.ids.refused(wire.PolicyViolation)
	case !m.mayHold(key.tenant, weightOf(key, weightTxn)):
		return wire.PolicyViolation
	}
	return wire.None
}

// heldRefused is what clients are told who want more than their tenant may hold.
const heldRefused = "the limit of what groups and transactions of the tenant hold (group.bytes) is reached: delete groups or offsets, or have the limit raised"

// What clients are told whose group is not let in.
var growthRefused = map[wire.Code]string{
	wire.PolicyViolation: "the limit of groups is reached: delete some, or have the limit raised",
	wire.InvalidGroupID:  "the name of a new group has at most 1024 bytes",
}

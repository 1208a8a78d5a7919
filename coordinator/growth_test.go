package coordinator

import (
	"strings"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// One tenant does not take the memory of a gateway: not by transactional ids, nor by long names.
func TestGrowthIsBounded(t *testing.T) {
	t.Parallel()
	m := newMachine(Config{MaxTransactionalIDs: 2}.withDefaults(), newUUID, allTopics{}, quiet())
	long := strings.Repeat("x", maxNewName+1)
	old := m.newTransaction(groupKey{"acme", long}) // from before
	var groups, ids groupCounts
	m.counts.counted(&groups)
	m.ids.counted(&ids)
	begin := func(tenant, id string) wire.Code {
		_, code := m.initProducer(&initRequest{key: groupKey{tenant, id}, timeout: 1000, producer: noID, epoch: noEpoch, fresh: 7})
		return code
	}
	check := func(what string, got, want wire.Code) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("a long one that is there", begin("acme", long), wire.None)
	check("the second", begin("acme", "a"), wire.None)
	check("one too many", begin("acme", "b"), wire.PolicyViolation)
	_, code := m.initProducer(&initRequest{key: groupKey{"acme", "b"}, timeout: 1000, producer: noID, epoch: noEpoch, fresh: noID})
	check("one too many, before a producer id is taken", code, wire.PolicyViolation)
	check("one that is there", begin("acme", "a"), wire.None)
	check("another tenant's", begin("globex", "b"), wire.None)
	check("a long one", begin("globex", long), wire.InvalidRequest)
	check("the longest", begin("globex", long[1:]), wire.None)
	for _, id := range []string{"a", "b", long} {
		check("the fleet's own", begin(catalog.SystemTenant, id), wire.None)
	}
	m.dropTxn(old)
	check("after one has gone", begin("acme", "b"), wire.None)
	if a, g, refused := ids.of("acme"), ids.of("globex"), ids.refused.Load(); a != 2 || g != 2 || refused != 3 {
		t.Errorf("%d and %d ids, %d refused", a, g, refused)
	}
	m.ids.uncounted()
	if n := ids.of("acme"); n != 0 {
		t.Errorf("%d ids of a shard that is another's", n)
	}

	m.room = func(_ string, here int64) bool { return here < 1 }
	commit := func(group string) wire.Code {
		return m.checkCommit(&commitRequest{key: groupKey{"acme", group}, generation: -1})
	}
	check("a new group of a long name", commit(long), wire.InvalidGroupID)
	check("the first group", commit("g"), wire.None)
	m.newGroup(groupKey{"acme", long}) // from before
	check("a group that is there", commit(long), wire.None)
	check("a group too many", commit("g"), wire.PolicyViolation)
	if n := groups.refused.Load(); n != 2 {
		t.Errorf("%d groups refused", n)
	}
}

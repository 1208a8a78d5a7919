package catalog

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// EndFormer ends the leases of former runs of a process, by its id: registrations,
// shards, votes and leadership need not run out then. It returns how many it ended.
//
// The caller knows that no former run lives, and that none had the id elsewhere: it holds
// the lock of the directory that the id is kept in, and it calls before it registers
// anything itself. A holder that is dead passes nothing on, so nobody has to be waited
// for; what it sent while it lived may still land, as it may after its lease has run out.
func (c *Catalog) EndFormer(ctx context.Context, process string) (int, error) {
	what := "end former runs of process " + process
	leases := map[int64]struct{}{}
	found := func(it item) {
		if it.lease != 0 {
			leases[it.lease] = struct{}{}
		}
	}
	items, _, err := c.list(ctx, what, processKey(process), clientv3.WithRange(processKey(process)+"\x00"))
	if err != nil {
		return 0, err
	}
	for _, it := range items {
		found(it)
	}
	nodes := map[int32]bool{}
	if items, _, err = c.list(ctx, what, fleetRoot+"gateway/"); err != nil {
		return 0, err
	}
	for _, it := range items {
		var g Gateway
		if err := decode(it.value, &g); err != nil {
			return 0, fmt.Errorf("%s: %s: %w", what, it.key, err)
		}
		if g.Process == process {
			nodes[g.Node] = true
			found(it)
		}
	}
	if items, _, err = c.list(ctx, what, fleetRoot+"shard/"); err != nil {
		return 0, err
	}
	for _, it := range items {
		var s Shard
		if err := decode(it.value, &s); err != nil {
			return 0, fmt.Errorf("%s: %s: %w", what, it.key, err)
		}
		if nodes[s.Node] {
			found(it)
		}
	}
	if items, _, err = c.list(ctx, what, electionPrefix); err != nil {
		return 0, err
	}
	for _, it := range items {
		var who string
		if err := decode(it.value, &who); err != nil {
			return 0, fmt.Errorf("%s: %s: %w", what, it.key, err)
		}
		if who == process {
			found(it)
		}
	}
	for id := range leases {
		l := lease{c: c, id: clientv3.LeaseID(id)}
		if err := l.revoke(ctx); err != nil {
			return 0, fmt.Errorf("%s: %w", what, err)
		}
	}
	return len(leases), nil
}

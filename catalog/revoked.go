package catalog

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Revoked is a gateway's lease that a controller took. The gateway need not have
// heard of that: until [FenceWait] of TTL has passed since its registration went
// away, its holder may go on as if it had the lease.
type Revoked struct {
	Node  int32         `json:"node"`
	Lease int64         `json:"lease"`
	TTL   time.Duration `json:"ttl"` // as granted, ns

	Revision int64 `json:"-"`
}

// RevokeGateway ends a gateway's lease. The record of that is written first, and
// stays until somebody has waited: an absent registration otherwise means that
// the lease has run out, which by its holder's clock it did before.
func (c *Catalog) RevokeGateway(ctx context.Context, g Gateway, fence Fence) error {
	call, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.cli.TimeToLive(call, clientv3.LeaseID(g.Lease))
	if err != nil {
		return failure(call, "revoke gateway", err)
	}
	if r.GrantedTTL <= 0 {
		return nil // it ran out, or another has taken it and written that down
	}
	x := Revoked{Node: g.Node, Lease: g.Lease, TTL: time.Duration(r.GrantedTTL) * time.Second}
	if _, err := c.put(ctx, "revoke gateway", revokedKey(g.Lease), -1, fence, &x); err != nil {
		return err
	}
	l := lease{c: c, id: clientv3.LeaseID(g.Lease)}
	return l.revoke(ctx)
}

// RevokedLeases reads the leases that were taken and not waited for yet. To know of
// each gateway that is absent why, read them after [Catalog.Gateways].
func (c *Catalog) RevokedLeases(ctx context.Context) ([]Revoked, error) {
	items, _, err := c.list(ctx, "revoked leases", revokedPrefix)
	if err != nil {
		return nil, err
	}
	out := make([]Revoked, len(items))
	for i, it := range items {
		if err := decode(it.value, &out[i]); err != nil {
			return nil, fmt.Errorf("revoked leases: %w", err)
		}
		out[i].Revision = it.revision
	}
	return out, nil
}

// ForgetRevoked drops the record of a lease whose holder has stopped for certain.
// It is no error if another has dropped it.
func (c *Catalog) ForgetRevoked(ctx context.Context, r Revoked, fence Fence) error {
	return c.remove(ctx, "revoked lease", revokedKey(r.Lease), -1, fence)
}

package catalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TenantUse is what one gateway tells of one tenant for the division of its budget.
type TenantUse struct {
	// Rates are by the names of budgets, by the second, of the time since the report before.
	Rates map[string]float64 `json:"rates,omitempty"`
	// Limited names the budgets whose share on this gateway was not enough.
	Limited []string `json:"limited,omitempty"`
	// Connections that are open, and groups whose coordinator the gateway is.
	Connections int64 `json:"connections,omitempty"`
	Groups      int64 `json:"groups,omitempty"`
}

// GatewayUse is one gateway's report, of the tenants that have a budget or a limit and
// use anything. It is under the gateway's lease.
type GatewayUse struct {
	Node    int32                `json:"node"`
	Tenants map[string]TenantUse `json:"tenants"`
}

// Share says how a tenant's budget is divided over gateways, and what it has over all of
// them. The leading controller writes it; see package tenant/usage.
type Share struct {
	Tenant string `json:"tenant"`
	// Rates are by the name of the budget and the gateway's node; Of is the budget that
	// they were made from.
	Rates map[string]map[int32]float64 `json:"rates,omitempty"`
	Of    map[string]float64           `json:"of,omitempty"`
	// Connections and groups by node, as the gateways told.
	Connections map[int32]int64 `json:"connections,omitempty"`
	Groups      map[int32]int64 `json:"groups,omitempty"`
	// Stored is what its topics were measured to hold, bytes of one copy, and Full whether
	// that has reached the limit: appends are refused.
	Stored int64 `json:"stored,omitempty"`
	Full   bool  `json:"full,omitempty"`

	Revision int64 `json:"-"`
}

func useKey(node int32) string      { return dataRoot + "use/" + strconv.Itoa(int(node)) }
func shareKey(tenant string) string { return tenantPrefix(tenant) + "share/now" }

// PutUse writes a gateway's report under its present lease. It fails with
// [ErrSessionLost] when that is over.
func (s *Session) PutUse(ctx context.Context, u GatewayUse) error {
	lease, alive := s.lease()
	if !alive {
		return fmt.Errorf("report of use: %w", ErrSessionLost)
	}
	_, err := s.c.put(ctx, "report of use", useKey(u.Node), -1, Fence{}, &u, clientv3.WithLease(lease))
	return leaseLost(err)
}

// Uses reads the reports of all gateways that live.
func (c *Catalog) Uses(ctx context.Context) ([]GatewayUse, error) {
	return listOf[GatewayUse](ctx, c, "reports of use", dataRoot+"use/", nil)
}

// PutShare writes how a tenant's budget is divided. A tenant that is gone meanwhile
// keeps none: it fails with [ErrNoTenant].
func (c *Catalog) PutShare(ctx context.Context, s Share, fence Fence) error {
	what := "share of tenant " + s.Tenant
	value, err := encode(&s)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	r, err := c.txn(ctx, what, fence.guard(ofTenant(s.Tenant)), []clientv3.Op{clientv3.OpPut(shareKey(s.Tenant), value)}, fence.probe(nil))
	if err != nil || r.Succeeded {
		return err
	}
	if err := fence.check(r); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, ErrNoTenant)
}

// Bounds of one transaction of [Catalog.PutShares].
const (
	shareOps   = txnOps - 8
	shareBytes = 256 << 10
)

// PutShares is PutShare of many: of thousands of tenants whose load moves, each write would cost a round trip. Each
// transaction writes about a hundred, so that some may be written when others fail. Tenants that are gone meanwhile are passed over.
func (c *Catalog) PutShares(ctx context.Context, shares []Share, fence Fence) error {
	for len(shares) > 0 {
		var cmps []clientv3.Cmp
		var ops []clientv3.Op
		size := 0
		for len(ops) < min(len(shares), shareOps) && size < shareBytes {
			s := &shares[len(ops)]
			value, err := encode(s)
			if err != nil {
				return fmt.Errorf("share of tenant %s: %w", s.Tenant, err)
			}
			size += len(value)
			cmps, ops = ofTenant(s.Tenant, cmps...), append(ops, clientv3.OpPut(shareKey(s.Tenant), value))
		}
		some := shares[:len(ops)]
		shares = shares[len(ops):]
		r, err := c.txn(ctx, "shares of tenants", fence.guard(cmps), ops, fence.probe(nil))
		if err != nil {
			return err
		}
		if r.Succeeded {
			continue
		}
		for _, s := range some {
			if err := c.PutShare(ctx, s, fence); err != nil && !errors.Is(err, ErrNoTenant) {
				return err
			}
		}
	}
	return nil
}

// Share returns how a tenant's budget is divided, nil if it never was.
func (s *Snapshot) Share(tenant string) *Share {
	if l := s.shares.list(tenant); len(l) > 0 {
		return l[0]
	}
	return nil
}

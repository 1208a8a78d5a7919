package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// EntityPart is one part of whom a client quota is for.
type EntityPart struct {
	Type string  `json:"type"` // user, client-id, ip
	Name *string `json:"name"` // nil: the default of its type
}

// ClientQuota is what was set for one entity of a tenant, by Kafka's names:
// producer_byte_rate, consumer_byte_rate (bytes/s), request_percentage,
// controller_mutation_rate, connection_creation_rate.
type ClientQuota struct {
	Tenant string             `json:"tenant"`
	Entity []EntityPart       `json:"entity"`
	Values map[string]float64 `json:"values"`

	Revision int64 `json:"-"`
}

// EntityKey names an entity whatever the order of its parts; equal keys are the same entity.
func EntityKey(entity []EntityPart) string {
	sorted := slices.SortedFunc(slices.Values(entity), func(a, b EntityPart) int { return strings.Compare(a.Type, b.Type) })
	parts := make([]string, 0, 3*len(sorted))
	for _, p := range sorted {
		if p.Name == nil {
			parts = append(parts, p.Type, "default", "")
		} else {
			parts = append(parts, p.Type, "named", *p.Name)
		}
	}
	return hashed(parts...)
}

// PutQuotas writes the quotas of entities of an existing tenant, each if its
// Revision still stands (0: there is none; [ErrConflict] otherwise); one without
// values is removed. All are written or none, as far as one transaction goes
// (120; more are written in their order, in several). It returns the revision
// from which snapshots have them.
func (c *Catalog) PutQuotas(ctx context.Context, tenant string, quotas []ClientQuota) (revision int64, err error) {
	ops, cmps := make([]clientv3.Op, len(quotas)), make([]clientv3.Cmp, len(quotas))
	for i := range quotas {
		q := quotas[i]
		q.Tenant = tenant
		key := quotaPrefix(tenant) + EntityKey(q.Entity)
		cmps[i] = clientv3.Compare(clientv3.ModRevision(key), "=", q.Revision)
		if len(q.Values) == 0 {
			ops[i] = clientv3.OpDelete(key)
			continue
		}
		value, err := encode(&q)
		if err != nil {
			return 0, fmt.Errorf("quotas: %w", err)
		}
		ops[i] = clientv3.OpPut(key, value)
	}
	return c.ofTenant(ctx, "quotas", tenant, cmps, ops)
}

// DeleteQuota removes what was set for an entity. What is not there is no error.
func (c *Catalog) DeleteQuota(ctx context.Context, tenant string, entity []EntityPart) (revision int64, err error) {
	return c.ofTenant(ctx, "quotas", tenant, nil, []clientv3.Op{clientv3.OpDelete(quotaPrefix(tenant) + EntityKey(entity))})
}

// Quotas reads a tenant's client quotas linearizably, in no order that means anything.
func (c *Catalog) Quotas(ctx context.Context, tenant string) ([]ClientQuota, error) {
	return listOf(ctx, c, "quotas", quotaPrefix(tenant), func(q *ClientQuota, rev int64) { q.Revision = rev })
}

// Quotas returns a tenant's client quotas, in no order that means anything.
func (s *Snapshot) Quotas(tenant string) []*ClientQuota { return s.quotas.list(tenant) }

// SameQuotas tells at no cost that a tenant's client quotas are the same in both
// snapshots; false says nothing.
func (s *Snapshot) SameQuotas(o *Snapshot, tenant string) bool {
	return s.quotas[tenant] == o.quotas[tenant]
}

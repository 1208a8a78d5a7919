package catalog

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TenantState is what may be done with a tenant.
type TenantState string

const (
	TenantActive TenantState = "active"
	// TenantDeleting: its clients are refused; at DeleteAt its topics go, and then it. Until
	// then it can be made active again.
	TenantDeleting TenantState = "deleting"
	// TenantRemoving: the grace is over and its topics are going; there is no way back.
	TenantRemoving TenantState = "removing"
)

// Tenant is a logical cluster. [DefaultTenant] exists without a record, which a
// record overrides; [SystemTenant] never has one.
type Tenant struct {
	Name        string `json:"name"`
	DisplayName string `json:"displayName,omitempty"`
	// ClusterID is what its clients are told that their cluster's id is.
	ClusterID string      `json:"clusterId,omitempty"`
	State     TenantState `json:"state"`
	DeleteAt  time.Time   `json:"deleteAt,omitzero"` // deleting: when the grace is over
	// Clusters are those that its topics may be placed on; empty: any.
	Clusters []string     `json:"clusters,omitempty"`
	Limits   TenantLimits `json:"limits,omitzero"`
	// Defaults are topic configs that a topic gets where its creator sets none.
	Defaults map[string]string `json:"defaults,omitempty"`
	// Budget bounds the whole tenant over all gateways, by the names of Kafka's client quotas:
	// producer_byte_rate, consumer_byte_rate (bytes/s), request_percentage (of one core),
	// controller_mutation_rate (partitions/s).
	Budget map[string]float64 `json:"budget,omitempty"`
	// SuperUsers are principals that no ACL binds, as Kafka writes them: User:alice.
	SuperUsers []string `json:"superUsers,omitempty"`
	// Lenient allows everybody what no ACL of the resource speaks of: Kafka's allow.everyone.if.no.acl.found.
	Lenient bool      `json:"allowEveryoneIfNoAclFound,omitempty"`
	Created time.Time `json:"created,omitzero"`

	Revision int64 `json:"-"`
}

// TenantLimits bound what a tenant may have; 0 is no limit.
type TenantLimits struct {
	Topics       int64 `json:"topics,omitempty"`
	Partitions   int64 `json:"partitions,omitempty"`
	Groups       int64 `json:"groups,omitempty"`
	Connections  int64 `json:"connections,omitempty"`  // over all gateways
	StorageBytes int64 `json:"storageBytes,omitempty"` // of one copy of its records
	GroupBytes   int64 `json:"groupBytes,omitempty"`   // that its groups and transactional ids hold, on each gateway
}

// ErrNoTenant: the tenant that the write belongs to does not exist.
var ErrNoTenant = fmt.Errorf("no such tenant: %w", ErrNotFound)

// defaultTenant is what snapshots show of the default tenant while it has no record.
var defaultTenant = &Tenant{Name: DefaultTenant, State: TenantActive}

// NewClusterID makes a cluster id as Kafka does: 16 random bytes in URL-safe base64.
// It never begins with a dash.
func NewClusterID() string {
	for {
		var b [16]byte
		rand.Read(b[:]) //nolint:errcheck // see RandomName
		if s := base64.RawURLEncoding.EncodeToString(b[:]); s[0] != '-' {
			return s
		}
	}
}

// ErrRetired: a tenant had this name. It is not given again: groups that expire
// with time, usage and audit records are kept by it.
var ErrRetired = fmt.Errorf("the name was another tenant's: %w", ErrExists)

// CreateTenant writes a new tenant, active, with a cluster id if it has none. It
// fails with [ErrExists] when the name is taken, with [ErrRetired] when it was.
func (c *Catalog) CreateTenant(ctx context.Context, t Tenant) (Tenant, error) {
	if t.ClusterID == "" {
		t.ClusterID = NewClusterID()
	}
	if t.Created.IsZero() {
		t.Created = time.Now().UTC()
	}
	t.State, t.DeleteAt, t.Revision = TenantActive, time.Time{}, 0
	what := "tenant " + t.Name
	value, err := encode(&t)
	if err != nil || !tenantName(t.Name) || t.Name == DefaultTenant {
		return t, errors.Join(fmt.Errorf("%s: the name is not a tenant's: %w", what, ErrExists), err)
	}
	key, retired := tenantKey(t.Name), retiredKey(t.Name)
	r, err := c.txn(ctx, what, []clientv3.Cmp{absent(key), absent(retired)}, []clientv3.Op{clientv3.OpPut(key, value)},
		[]clientv3.Op{clientv3.OpGet(retired, clientv3.WithKeysOnly())})
	switch {
	case err != nil:
		return t, err
	case r.Succeeded:
		t.Revision = r.Header.Revision
		return t, nil
	case len(r.Responses[0].GetResponseRange().Kvs) > 0:
		return t, fmt.Errorf("%s: %w", what, ErrRetired)
	}
	return t, fmt.Errorf("%s: %w", what, ErrExists)
}

// tenantName tells whether a tenant may be named so. Which names are sensible is
// the caller's affair.
func tenantName(name string) bool { return name != "" && name != SystemTenant }

// UpdateTenant writes t if its Revision still stands (0: there is no record, as
// of the default tenant before its first) and returns it with the new one.
func (c *Catalog) UpdateTenant(ctx context.Context, t Tenant) (Tenant, error) {
	what := "tenant " + t.Name
	if !tenantName(t.Name) {
		return t, fmt.Errorf("%s: the name is not a tenant's: %w", what, ErrConflict)
	}
	rev, err := c.put(ctx, what, tenantKey(t.Name), t.Revision, Fence{}, &t)
	if err == nil {
		t.Revision = rev
	}
	return t, err
}

// UpdateTenantAt is UpdateTenant while the tenant's rules are at what was read; [ErrConflict] if not.
func (c *Catalog) UpdateTenantAt(ctx context.Context, t Tenant, at RulesAt) (Tenant, error) {
	what := "tenant " + t.Name
	if !tenantName(t.Name) {
		return t, fmt.Errorf("%s: the name is not a tenant's: %w", what, ErrConflict)
	}
	value, err := encode(&t)
	if err != nil {
		return t, fmt.Errorf("%s: %w", what, err)
	}
	r, err := c.txn(ctx, what, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(tenantKey(t.Name)), "=", t.Revision),
		clientv3.Compare(clientv3.ModRevision(rulesKey(t.Name)), "=", at.rules)}, []clientv3.Op{clientv3.OpPut(tenantKey(t.Name), value)}, nil)
	switch {
	case err != nil:
		return t, err
	case !r.Succeeded:
		return t, fmt.Errorf("%s: %w", what, ErrConflict)
	}
	t.Revision = r.Header.Revision
	return t, nil
}

// DeleteTenant removes a tenant that is removing and has no topics any more, with
// its users, ACLs, quotas and group configs, at once, and retires its name. It fails
// with [ErrConflict] when it changed, is not removing, or has topics. Removing what is gone succeeds.
func (c *Catalog) DeleteTenant(ctx context.Context, t Tenant, fence Fence) error {
	what := "remove tenant " + t.Name
	if t.State != TenantRemoving || t.Name == DefaultTenant {
		return fmt.Errorf("%s: it is not being removed: %w", what, ErrConflict)
	}
	key := tenantKey(t.Name)
	cmps := fence.guard([]clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(key), "=", t.Revision),
		// No key of the range exists.
		clientv3.Compare(clientv3.CreateRevision(tenantPrefix(t.Name)+"topic/").WithPrefix(), "=", 0),
	})
	value, err := encode(time.Now().UTC())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := c.unclaimAll(ctx, t); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ops := []clientv3.Op{clientv3.OpDelete(key), clientv3.OpDelete(tenantPrefix(t.Name), clientv3.WithPrefix()),
		clientv3.OpPut(retiredKey(t.Name), value)}
	return c.removeAll(ctx, what, key, cmps, ops, fence)
}

// Tenant reads one tenant linearizably. The default tenant is always found.
func (c *Catalog) Tenant(ctx context.Context, name string) (Tenant, error) {
	var t Tenant
	rev, err := c.get(ctx, "tenant "+name, tenantKey(name), &t)
	if rev == 0 && name == DefaultTenant && errors.Is(err, ErrNotFound) {
		return *defaultTenant, nil
	}
	t.Revision = rev
	return t, err
}

// Tenants reads all tenants linearizably, by name; the default one is among them.
func (c *Catalog) Tenants(ctx context.Context) ([]Tenant, error) {
	ts, err := listOf(ctx, c, "tenants", fleetRoot+"tenant/", func(t *Tenant, rev int64) { t.Revision = rev })
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(ts, func(t Tenant) bool { return t.Name == DefaultTenant }) {
		ts = append(ts, *defaultTenant)
	}
	slices.SortFunc(ts, func(a, b Tenant) int { return strings.Compare(a.Name, b.Name) })
	return ts, nil
}

// ofTenant guards a write by the tenant's existence.
func ofTenant(tenant string, cmps ...clientv3.Cmp) []clientv3.Cmp {
	if tenant == DefaultTenant {
		return cmps
	}
	return append(cmps, clientv3.Compare(clientv3.CreateRevision(tenantKey(tenant)), ">", 0))
}

// refusedOf gives the reason of a refused write of a tenant's records, whose else
// branch read the tenant's key first.
func refusedOf(what, tenant string, r *clientv3.TxnResponse) error {
	if tenant != DefaultTenant && len(r.Responses[0].GetResponseRange().Kvs) == 0 {
		return fmt.Errorf("%s: tenant %s: %w", what, tenant, ErrNoTenant)
	}
	return fmt.Errorf("%s: %w", what, ErrConflict)
}

// Tenant returns a tenant, one that is being deleted too; nil if there is none.
// The default tenant is always there.
func (s *Snapshot) Tenant(name string) *Tenant {
	if t := s.tenants[name]; t != nil {
		return t
	}
	if name == DefaultTenant {
		return defaultTenant
	}
	return nil
}

// Tenants returns all tenants by name; the default one is among them.
func (s *Snapshot) Tenants() []*Tenant {
	if s.tenantList == nil {
		return []*Tenant{defaultTenant}
	}
	return s.tenantList
}

func (s *Snapshot) listTenants() {
	s.tenantList = slices.Collect(maps.Values(s.tenants))
	if s.tenants[DefaultTenant] == nil {
		s.tenantList = append(s.tenantList, defaultTenant)
	}
	slices.SortFunc(s.tenantList, func(a, b *Tenant) int { return strings.Compare(a.Name, b.Name) })
}

package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ACL is one access rule of a tenant, in the names that Kafka writes them with.
type ACL struct {
	Tenant       string `json:"tenant"`
	ResourceType string `json:"resourceType"` // TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID, ...
	ResourceName string `json:"resourceName"`
	PatternType  string `json:"patternType"` // LITERAL, PREFIXED
	Principal    string `json:"principal"`   // User:alice, User:*
	Host         string `json:"host"`        // an address or *
	Operation    string `json:"operation"`   // READ, WRITE, ...
	Permission   string `json:"permission"`  // ALLOW, DENY

	Revision int64 `json:"-"`
}

// key is the rule's own: a hash of everything it says, so that the same rule is there once.
func (a *ACL) key() string {
	return hashed(a.ResourceType, a.ResourceName, a.PatternType, a.Principal, a.Host, a.Operation, a.Permission)
}

// hashed gives 32 hex digits that stand for the parts, each with its length.
func hashed(parts ...string) string {
	h := sha256.New()
	var b []byte
	for _, p := range parts {
		b = append(binary.AppendUvarint(b[:0], uint64(len(p))), p...)
		h.Write(b) //nolint:errcheck // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// RulesAt is what a tenant's rules and its record were at: a write that is guarded
// by it lands only if no rule, and nothing of the tenant, has changed since.
type RulesAt struct{ rules, tenant int64 }

// stand compares what was read with what is.
func (at RulesAt) stand(tenant string) []clientv3.Cmp {
	return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(rulesKey(tenant)), "=", at.rules),
		clientv3.Compare(clientv3.ModRevision(tenantKey(tenant)), "=", at.tenant)}
}

// RulesAt reads where a tenant's rules are. Read it before the rules themselves:
// a change in between is then found.
func (c *Catalog) RulesAt(ctx context.Context, tenant string) (RulesAt, error) {
	r, err := c.txn(ctx, "ACLs", nil, []clientv3.Op{clientv3.OpGet(rulesKey(tenant), clientv3.WithKeysOnly()),
		clientv3.OpGet(tenantKey(tenant), clientv3.WithKeysOnly())}, nil)
	if err != nil {
		return RulesAt{}, err
	}
	at := func(i int) int64 {
		if kvs := r.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			return kvs[0].ModRevision
		}
		return 0
	}
	return RulesAt{rules: at(0), tenant: at(1)}, nil
}

// PutACLs writes rules of an existing tenant, all of them or none as far as one
// transaction goes (119 rules; more are written in their order, in several), and
// returns the revision from which snapshots have them. A rule that is there
// stays. It fails with [ErrNoTenant] where the tenant does not exist.
func (c *Catalog) PutACLs(ctx context.Context, tenant string, acls []ACL) (revision int64, err error) {
	return c.putACLs(ctx, tenant, acls, nil)
}

// PutACLsAt is PutACLs while the rules are at what was read; [ErrConflict] if not.
// With a revision besides an error, some have landed.
func (c *Catalog) PutACLsAt(ctx context.Context, tenant string, acls []ACL, at RulesAt) (revision int64, err error) {
	return c.putACLs(ctx, tenant, acls, &at)
}

func (c *Catalog) putACLs(ctx context.Context, tenant string, acls []ACL, at *RulesAt) (int64, error) {
	ops := make([]clientv3.Op, len(acls))
	for i := range acls {
		a := acls[i]
		a.Tenant = tenant
		value, err := encode(&a)
		if err != nil {
			return 0, fmt.Errorf("ACLs: %w", err)
		}
		ops[i] = clientv3.OpPut(aclPrefix(tenant)+a.key(), value)
	}
	return c.changeACLs(ctx, tenant, ops, at)
}

// DeleteACLs removes rules, as [Catalog.PutACLs] writes them. What is not there is no error.
func (c *Catalog) DeleteACLs(ctx context.Context, tenant string, acls []ACL) (revision int64, err error) {
	return c.deleteACLs(ctx, tenant, acls, nil)
}

// DeleteACLsAt is DeleteACLs as [Catalog.PutACLsAt] is PutACLs.
func (c *Catalog) DeleteACLsAt(ctx context.Context, tenant string, acls []ACL, at RulesAt) (revision int64, err error) {
	return c.deleteACLs(ctx, tenant, acls, &at)
}

func (c *Catalog) deleteACLs(ctx context.Context, tenant string, acls []ACL, at *RulesAt) (int64, error) {
	ops := make([]clientv3.Op, len(acls))
	for i := range acls {
		ops[i] = clientv3.OpDelete(aclPrefix(tenant) + acls[i].key())
	}
	return c.changeACLs(ctx, tenant, ops, at)
}

// changeACLs runs operations on a tenant's rules. Each transaction writes the key
// of the rules too, by whose revision others see that something has changed.
func (c *Catalog) changeACLs(ctx context.Context, tenant string, ops []clientv3.Op, at *RulesAt) (revision int64, err error) {
	if len(ops) == 0 {
		return c.Now(ctx)
	}
	for from := 0; from < len(ops); {
		to := portion(ops, from, tenantOps-1)
		guards := ofTenant(tenant)
		if at != nil {
			guards = append(guards, at.stand(tenant)...)
		}
		then := append([]clientv3.Op{clientv3.OpPut(rulesKey(tenant), "")}, ops[from:to]...)
		r, err := c.txn(ctx, "ACLs", guards, then, []clientv3.Op{clientv3.OpGet(tenantKey(tenant), clientv3.WithKeysOnly())})
		if err != nil {
			return revision, err
		}
		if !r.Succeeded {
			return revision, refusedOf("ACLs", tenant, r)
		}
		from, revision = to, r.Header.Revision
		if at != nil {
			at.rules = revision
		}
	}
	return revision, nil
}

// tenantOps is how many operations of a tenant's records one transaction holds.
const tenantOps = txnOps - 8

// portion is the end of those of the operations from an index on that go into one
// transaction.
func portion(ops []clientv3.Op, from, most int) int {
	to, size := from, 0
	for to < len(ops) && to-from < most && (to == from || size+len(ops[to].ValueBytes()) <= txnBytes) {
		size += len(ops[to].ValueBytes())
		to++
	}
	return to
}

// ofTenant runs operations under the tenant's existence, in as few transactions
// as etcd takes; cmps, if any, guard the operation of the same index.
func (c *Catalog) ofTenant(ctx context.Context, what, tenant string, cmps []clientv3.Cmp, ops []clientv3.Op) (revision int64, err error) {
	if len(ops) == 0 {
		return c.Now(ctx)
	}
	for from := 0; from < len(ops); {
		to := portion(ops, from, tenantOps)
		guards := ofTenant(tenant)
		if cmps != nil {
			guards = append(guards, cmps[from:to]...)
		}
		r, err := c.txn(ctx, what, guards, ops[from:to], []clientv3.Op{clientv3.OpGet(tenantKey(tenant), clientv3.WithKeysOnly())})
		if err != nil {
			return revision, err
		}
		if !r.Succeeded {
			return revision, refusedOf(what, tenant, r)
		}
		from, revision = to, r.Header.Revision
	}
	return revision, nil
}

// ACLs reads a tenant's rules linearizably, in no order that means anything.
func (c *Catalog) ACLs(ctx context.Context, tenant string) ([]ACL, error) {
	return listOf(ctx, c, "ACLs", aclPrefix(tenant), func(a *ACL, rev int64) { a.Revision = rev })
}

// ACLs returns a tenant's rules, in no order that means anything.
func (s *Snapshot) ACLs(tenant string) []*ACL { return s.acls.list(tenant) }

// SameACLs tells at no cost that a tenant's rules are the same in both snapshots;
// false says nothing.
func (s *Snapshot) SameACLs(o *Snapshot, tenant string) bool { return s.acls[tenant] == o.acls[tenant] }

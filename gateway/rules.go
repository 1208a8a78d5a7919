package gateway

import (
	"context"

	"github.com/braidstream/braid/tenant"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/quota"
	"github.com/braidstream/braid/tenant/rules"
)

// RuleAdmin changes a tenant's ACLs and client quotas, and takes its users away; *rules.Store is one.
type RuleAdmin interface {
	CreateACLs(ctx context.Context, tenant string, asked []acl.Binding, o rules.Options) []error
	DeleteACLs(ctx context.Context, tenant string, filters []acl.Filter, o rules.Options) ([][]acl.Binding, []error)
	// DeleteUser takes away a user as it was read, but the last one who may change the rules.
	DeleteUser(ctx context.Context, tenant, name string, revision int64, o rules.Options) error
	AlterQuotas(ctx context.Context, tenant string, changes []quota.Change, o rules.Options) []error
}

// signedOn is the principal that asks, if it has signed on.
func (call *call) signedOn() string {
	if call.principal == tenant.Anonymous() {
		return ""
	}
	return call.principal.String()
}

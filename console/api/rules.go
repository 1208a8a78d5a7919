package api

import (
	"context"
	"net/http"
	"net/url"
)

// ACL is one access rule of a tenant, in Kafka's names.
type ACL struct {
	ResourceType string `json:"resourceType"` // TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID, USER
	ResourceName string `json:"resourceName"` // * is any
	PatternType  string `json:"patternType"`  // LITERAL, PREFIXED
	Principal    string `json:"principal"`    // User:alice, User:*
	Host         string `json:"host"`         // an address, or *
	Operation    string `json:"operation"`    // READ, WRITE, ALL, ...
	Permission   string `json:"permission"`   // ALLOW, DENY
}

// ACLFilter selects rules; what is empty selects any.
type ACLFilter struct {
	ResourceType string `json:"resourceType,omitempty"`
	ResourceName string `json:"resourceName,omitempty"`
	PatternType  string `json:"patternType,omitempty"` // LITERAL, PREFIXED, or MATCH: what decides about a resource of that name
	Principal    string `json:"principal,omitempty"`
	Host         string `json:"host,omitempty"`
	Operation    string `json:"operation,omitempty"`
	Permission   string `json:"permission,omitempty"`
}

// ACLAdd asks for rules: all of them or, if one is refused, none.
type ACLAdd struct {
	ACLs []ACL `json:"acls"`
	// Force adds them whomever they lock out.
	Force  bool `json:"force,omitempty"`
	DryRun bool `json:"dryRun,omitempty"`
}

// ACLDelete asks for the removal of what a filter selects.
type ACLDelete struct {
	Filter ACLFilter `json:"filter"`
	Force  bool      `json:"force,omitempty"`
	DryRun bool      `json:"dryRun,omitempty"`
}

// ACLs are the rules that were listed, added or deleted.
type ACLs struct {
	ACLs []ACL `json:"acls"`
	// Notes say what follows from a change, such as that a tenant is guarded from now on.
	Notes []string `json:"notes,omitempty"`
}

// QuotaEntity is one part of whom a quota is for; a name that is absent is the default
// of its type.
type QuotaEntity struct {
	Type string  `json:"type"` // user, client-id, ip
	Name *string `json:"name,omitempty"`
}

// Quota is what was set for an entity, by Kafka's names: producer_byte_rate and
// consumer_byte_rate (bytes/s), request_percentage, controller_mutation_rate
// (partitions/s), connection_creation_rate (connections/s).
type Quota struct {
	Entity []QuotaEntity      `json:"entity"`
	Values map[string]float64 `json:"values"`
}

// QuotaSet changes the quotas of an entity; null removes one.
type QuotaSet struct {
	Entity []QuotaEntity       `json:"entity"`
	Values map[string]*float64 `json:"values"`
}

// ACLs lists a tenant's rules that a filter selects.
func (c *Client) ACLs(ctx context.Context, tenant string, f ACLFilter) (ACLs, error) {
	q := url.Values{}
	for k, v := range map[string]string{"resourceType": f.ResourceType, "resourceName": f.ResourceName, "patternType": f.PatternType,
		"principal": f.Principal, "host": f.Host, "operation": f.Operation, "permission": f.Permission} {
		if v != "" {
			q.Set(k, v)
		}
	}
	return get[ACLs](ctx, c, tenantPath(tenant)+"/acls?"+q.Encode())
}

// AddACLs adds rules to a tenant.
func (c *Client) AddACLs(ctx context.Context, tenant string, req ACLAdd) (ACLs, error) {
	return send[ACLs](ctx, c, http.MethodPost, tenantPath(tenant)+"/acls", req)
}

// DeleteACLs removes a tenant's rules that a filter selects.
func (c *Client) DeleteACLs(ctx context.Context, tenant string, req ACLDelete) (ACLs, error) {
	return send[ACLs](ctx, c, http.MethodPost, tenantPath(tenant)+"/acls/delete", req)
}

// Quotas lists a tenant's client quotas.
func (c *Client) Quotas(ctx context.Context, tenant string) ([]Quota, error) {
	return get[[]Quota](ctx, c, tenantPath(tenant)+"/quotas")
}

// SetQuota changes the quotas of one entity and returns them all.
func (c *Client) SetQuota(ctx context.Context, tenant string, req QuotaSet) (Quota, error) {
	return send[Quota](ctx, c, http.MethodPost, tenantPath(tenant)+"/quotas", req)
}

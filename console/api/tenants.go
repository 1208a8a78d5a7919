package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Tenant is a logical cluster: what its clients take for a Kafka cluster of their own.
type Tenant struct {
	Name        string `json:"name"`
	DisplayName string `json:"displayName,omitempty"`
	ClusterID   string `json:"clusterId"` // as its clients see it
	State       string `json:"state"`     // active, deleting, removing
	// DeleteAt is when the data of a tenant that is deleting goes.
	DeleteAt *time.Time `json:"deleteAt,omitempty"`
	Clusters []string   `json:"clusters"` // that its topics may be on; empty: any
	// Limits that are set: topics, partitions, groups, group.bytes, connections, storage.bytes.
	Limits   map[string]int64  `json:"limits"`
	Defaults map[string]string `json:"defaults"` // topic configs
	// Budget over all gateways: producer_byte_rate, consumer_byte_rate (bytes/s),
	// request_percentage, controller_mutation_rate (partitions/s).
	Budget     map[string]float64 `json:"budget"`
	SuperUsers []string           `json:"superUsers"`
	// AllowEveryone: everybody may do what no ACL of the resource speaks of.
	AllowEveryone bool       `json:"allowEveryoneIfNoAclFound"`
	Created       *time.Time `json:"created,omitempty"`
	// What it holds.
	Topics     int `json:"topics"`
	Partitions int `json:"partitions"`
	Users      int `json:"users"`
	ACLs       int `json:"acls"`
	Quotas     int `json:"quotas"`
}

// TenantSet says what to set of a tenant; what is absent stays, null takes an entry away.
type TenantSet struct {
	Name        string              `json:"name,omitempty"` // of a new one
	DisplayName *string             `json:"displayName,omitempty"`
	Clusters    *[]string           `json:"clusters,omitempty"`
	Limits      map[string]int64    `json:"limits,omitempty"` // 0: none
	Defaults    map[string]*string  `json:"defaults,omitempty"`
	Budget      map[string]*float64 `json:"budget,omitempty"`
	SuperUsers  *[]string           `json:"superUsers,omitempty"`
	// AllowEveryone lets everybody do what no ACL of the resource speaks of.
	AllowEveryone *bool `json:"allowEveryoneIfNoAclFound,omitempty"`
	Force         bool  `json:"force,omitempty"` // the super users, and that, whomever it locks out
}

// User signs on to a tenant. Its credentials are never shown.
type User struct {
	Tenant     string    `json:"tenant"`
	Name       string    `json:"name"`
	Mechanisms []string  `json:"mechanisms"`
	Created    time.Time `json:"created"`
	// SignsOn is the name to sign on by at a listener that has no tenant: NAME where the user holds that, else NAME@TENANT.
	SignsOn string `json:"signsOn"`
	// Password is the one that was generated, in the answer to what generated it and nowhere else.
	Password string `json:"password,omitempty"`
}

// UserAdd asks for a user, or for new credentials of one.
type UserAdd struct {
	Name       string `json:"name,omitempty"`
	Mechanism  string `json:"mechanism,omitempty"`  // default SCRAM-SHA-256; for new credentials all that there are
	Password   string `json:"password,omitempty"`   // default: one is generated
	Iterations int    `json:"iterations,omitempty"` // default 8192
}

// Of returns a client whose topics and operations are those of a tenant.
func (c *Client) Of(tenant string) *Client {
	of := *c
	of.tenant = tenant
	return &of
}

// Tenants lists all tenants by name.
func (c *Client) Tenants(ctx context.Context) ([]Tenant, error) {
	return get[[]Tenant](ctx, c, "/tenants")
}

// Tenant returns one.
func (c *Client) Tenant(ctx context.Context, name string) (Tenant, error) {
	return get[Tenant](ctx, c, tenantPath(name))
}

// CreateTenant makes a tenant.
func (c *Client) CreateTenant(ctx context.Context, req TenantSet) (Tenant, error) {
	return send[Tenant](ctx, c, http.MethodPost, "/tenants", req)
}

// SetTenant changes a tenant.
func (c *Client) SetTenant(ctx context.Context, name string, req TenantSet) (Tenant, error) {
	return send[Tenant](ctx, c, http.MethodPatch, tenantPath(name), req)
}

// DeleteTenant cuts a tenant's clients off at once and its data after the grace.
func (c *Client) DeleteTenant(ctx context.Context, name string, grace time.Duration) (Tenant, error) {
	return send[Tenant](ctx, c, http.MethodDelete, tenantPath(name)+"?grace="+url.QueryEscape(grace.String()), nil)
}

// UndeleteTenant brings a tenant back whose grace is not over.
func (c *Client) UndeleteTenant(ctx context.Context, name string) (Tenant, error) {
	return send[Tenant](ctx, c, http.MethodPost, tenantPath(name)+"/undelete", nil)
}

// Users lists a tenant's users by name.
func (c *Client) Users(ctx context.Context, tenant string) ([]User, error) {
	return get[[]User](ctx, c, tenantPath(tenant)+"/users")
}

// AddUser makes a user.
func (c *Client) AddUser(ctx context.Context, tenant string, req UserAdd) (User, error) {
	return send[User](ctx, c, http.MethodPost, tenantPath(tenant)+"/users", req)
}

// RotateUser gives a user a new password.
func (c *Client) RotateUser(ctx context.Context, tenant, name string, req UserAdd) (User, error) {
	return send[User](ctx, c, http.MethodPost, tenantPath(tenant)+"/users/"+url.PathEscape(name)+"/rotate", req)
}

// DeleteUser takes a user away; its sessions end. The last one with a password who may change the tenant's rules goes
// with force only.
func (c *Client) DeleteUser(ctx context.Context, tenant, name string, force bool) error {
	path := tenantPath(tenant) + "/users/" + url.PathEscape(name)
	if force {
		path += "?force=true"
	}
	_, err := send[struct{}](ctx, c, http.MethodDelete, path, nil)
	return err
}

func tenantPath(name string) string { return "/tenants/" + url.PathEscape(name) }

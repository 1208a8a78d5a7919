// Package tenant says on whose behalf a request is served. A tenant is a logical
// cluster of its own: its topics, groups and transactional ids are its own
// names, and no other tenant sees them.
package tenant

import "github.com/braidstream/braid/catalog"

// Principal is who a connection was authenticated as. The zero value is nobody.
type Principal struct {
	Type string // "User", as in Kafka's principals
	Name string
}

// Anonymous is the principal of a connection that did not authenticate.
func Anonymous() Principal { return Principal{Type: "User", Name: "ANONYMOUS"} }

// String is the principal as Kafka writes it, such as User:alice.
func (p Principal) String() string { return p.Type + ":" + p.Name }

// Tenant is what a gateway needs to know of a tenant.
type Tenant struct {
	// Name keys everything of the tenant in the catalog and in the coordinators.
	Name string
}

// Connection is what is known of a connection when its first request comes.
type Connection struct {
	Listener   string // name of the listener it came in by
	ServerName string // TLS server name, "" without
	Principal  Principal
}

// Resolver finds the tenant of a connection. Implementations are called
// concurrently and do no I/O.
type Resolver interface {
	Resolve(c Connection) (Tenant, error)
}

// Single resolves every connection to the default tenant.
type Single struct{}

// Resolve never fails.
func (Single) Resolve(Connection) (Tenant, error) {
	return Tenant{Name: catalog.DefaultTenant}, nil
}

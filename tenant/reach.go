package tenant

import (
	"strings"

	"github.com/braidstream/braid/catalog"
)

// Reach is what a connection may sign on to: the tenants of a snapshot, or the
// one that its listener or its TLS server name says. It implements the Directory
// of package sasl. It does no I/O.
//
// A user belongs to one tenant. alice@acme is user alice of tenant acme; alice
// alone is the one who has claimed the name ([catalog.Bare]), which the operator
// gives. Who administers a tenant gives none: else a name that does not work would
// tell of another tenant's user, and one that does could be taken from it. A user
// whose own name is alice@acme signs on as alice@acme@its-tenant unless it has
// claimed that name. Of users from before names were claimed the first of several
// has it.
type Reach struct {
	Snapshot *catalog.Snapshot
	// Only is the tenant that the connection is bound to; "" is any.
	Only string
	// Asked: Only is what the client asked for by the TLS server name, and nobody
	// else has said. It narrows, and proves nothing: a token or a certificate that
	// names no tenant would be good for each.
	Asked bool
}

// Active tells whether a tenant may be signed on to.
func (r Reach) Active(name string) bool {
	if name == catalog.SystemTenant {
		return false
	}
	t := r.Snapshot.Tenant(name)
	return t != nil && t.State == catalog.TenantActive
}

// User finds the user that signs on by a name; nil if there is none.
func (r Reach) User(name string) *catalog.User {
	if r.Only != "" && !r.Active(r.Only) {
		return nil
	}
	if r.Only == "" {
		// It is held also while its tenant is being deleted: it can be brought back.
		if u := r.Snapshot.Bare(name); u != nil {
			if r.Active(u.Tenant) {
				return u
			}
			return nil
		}
	}
	if at := strings.LastIndexByte(name, '@'); at > 0 {
		of := name[at+1:]
		if (r.Only == "" || r.Only == of) && r.Active(of) {
			if u := r.Snapshot.User(of, name[:at]); u != nil {
				return u
			}
		}
	}
	if r.Only != "" {
		return r.Snapshot.User(r.Only, name)
	}
	var first *catalog.User
	for _, u := range r.Snapshot.UsersNamed(name) {
		if u.Bare == catalog.BareBefore && r.Active(u.Tenant) && (first == nil || u.CreatedAt.Before(first.CreatedAt)) {
			first = u
		}
	}
	return first
}

// SignsOn is the name by which a user signs on where nothing but the name tells its tenant.
func SignsOn(s *catalog.Snapshot, u *catalog.User) string {
	if u.Bare == catalog.BareClaimed {
		return u.Name
	}
	if u.Bare == catalog.BareBefore {
		if at := (Reach{Snapshot: s}).User(u.Name); at != nil && at.Tenant == u.Tenant && at.Name == u.Name {
			return u.Name
		}
	}
	return u.Name + "@" + u.Tenant
}

// Tenant settles the tenant of a principal whose token or certificate names one
// ("" if it does not).
func (r Reach) Tenant(named string) (string, bool) {
	switch {
	case named == "" && r.Asked:
		return "", false
	case named == "":
		named = r.Only
	case r.Only != "" && r.Only != named:
		return "", false
	}
	return named, named != "" && r.Active(named)
}

// Mapped settles tenant and principal of a certificate, by the name that the
// mapping rules made of it: NAME, or NAME@TENANT where the connection is not
// bound to a tenant yet, or by the client's own word alone.
func (r Reach) Mapped(name string) (of, principal string, ok bool) {
	if r.Only == "" || r.Asked {
		at := strings.LastIndexByte(name, '@')
		if at <= 0 {
			return "", "", false
		}
		of, name = name[at+1:], name[:at]
	}
	of, ok = r.Tenant(of)
	return of, name, ok && name != ""
}

// Stands tells whether a user is still there as it was when it signed on: in an
// active tenant, with the same credential.
func (r Reach) Stands(u *catalog.User, credential string) bool {
	if !r.Active(u.Tenant) {
		return false
	}
	now := r.Snapshot.User(u.Tenant, u.Name)
	if now == u {
		return true
	}
	if now == nil || !now.CreatedAt.Equal(u.CreatedAt) {
		return false
	}
	a, b := now.Credentials[credential], u.Credentials[credential]
	return string(a.StoredKey) == string(b.StoredKey) && string(a.Salt) == string(b.Salt) && len(a.StoredKey) > 0
}

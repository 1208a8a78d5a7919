package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bare says whether a user signs on by its name alone where nothing but that name tells its tenant. Else it is
// NAME@TENANT. If tenants' own administrators could give bare names, each could find out by one which users others
// have, and could take it from them.
type Bare string

const (
	// BareBefore is of records that were written before names were claimed: of several the first holds the name,
	// unless one has claimed it.
	BareBefore Bare = ""
	// BareClaimed holds the name; no other user does, for as long as this one is there.
	BareClaimed Bare = "claimed"
	// BareNone does not.
	BareNone Bare = "none"
)

// maxClaims bounds how often a claim is tried anew while others change what is in its way.
const maxClaims = 8

// claimedUser writes a new user that claims its bare name, or one without it where the name is another user's or
// reads as one of another tenant.
func (c *Catalog) claimedUser(ctx context.Context, u User) (User, error) {
	for try := 0; ; try++ {
		u.Bare = BareClaimed
		cmps, free, err := c.freeName(ctx, u.Name)
		if err != nil {
			return u, err
		}
		if !free || try == maxClaims {
			u.Bare = BareNone
			return c.putUser(ctx, u, nil, nil)
		}
		holder, err := encode(u.Tenant)
		if err != nil {
			return u, err
		}
		put, err := c.putUser(ctx, u, cmps, []clientv3.Op{clientv3.OpPut(bareKey(u.Name), holder)})
		if !errors.Is(err, ErrConflict) {
			return put, err
		}
	}
}

// freeName tells whether nobody has claimed a name, and what must still stand when it is claimed. A claim whose user
// is gone, which whoever removes users without knowing of claims leaves behind, is none.
func (c *Catalog) freeName(ctx context.Context, name string) ([]clientv3.Cmp, bool, error) {
	what, key := fmt.Sprintf("bare name %.100q", name), bareKey(name)
	var cmps []clientv3.Cmp
	if of, ok := tenantIn(name); ok {
		switch _, err := c.Tenant(ctx, of); {
		case err == nil:
			return nil, false, nil
		case !errors.Is(err, ErrNotFound):
			return nil, false, err
		}
		cmps = append(cmps, absent(tenantKey(of)))
	}
	var holder string
	rev, err := c.get(ctx, what, key, &holder)
	if errors.Is(err, ErrNotFound) {
		return append(cmps, absent(key)), true, nil
	}
	if err != nil {
		return nil, false, err
	}
	cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(key), "=", rev))
	u, err := c.User(ctx, holder, name)
	switch {
	case errors.Is(err, ErrNotFound):
		// putUser itself has the key of its own tenant's user absent; a condition twice is no harm.
		return append(cmps, absent(userKey(holder, name))), true, nil
	case err != nil:
		return nil, false, err
	case u.Bare == BareClaimed:
		return nil, false, nil
	}
	return append(cmps, clientv3.Compare(clientv3.ModRevision(userKey(holder, name)), "=", u.Revision)), true, nil
}

// unclaim ends the claim that a tenant's user of this name may have.
func unclaim(tenant, name string) (clientv3.Op, error) {
	holder, err := encode(tenant)
	key := bareKey(name)
	return clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", holder)}, []clientv3.Op{clientv3.OpDelete(key)}, nil), err
}

// unclaimAll ends the claims of a tenant that is being removed.
func (c *Catalog) unclaimAll(ctx context.Context, t Tenant) error {
	users, err := c.Users(ctx, t.Name)
	if err != nil {
		return err
	}
	var ops []clientv3.Op
	for i := range users {
		if users[i].Bare == BareClaimed {
			op, err := unclaim(t.Name, users[i].Name)
			if err != nil {
				return err
			}
			ops = append(ops, op)
		}
	}
	for part := range slices.Chunk(ops, 32) {
		stands := clientv3.Compare(clientv3.ModRevision(tenantKey(t.Name)), "=", t.Revision)
		if _, err := c.txn(ctx, "bare names of tenant "+t.Name, []clientv3.Cmp{stands}, part, nil); err != nil {
			return err
		}
	}
	return nil
}

// tenantIn is the tenant that NAME@TENANT names, if there may be one of that name.
func tenantIn(name string) (string, bool) {
	at := strings.LastIndexByte(name, '@')
	if at <= 0 {
		return "", false
	}
	of := name[at+1:]
	return of, of != "" && !strings.ContainsFunc(of, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}

// MayClaim tells whether a bare name may be claimed for a new user of a tenant: no user of another tenant signs on by
// it as before names were claimed. Whether one has claimed it [Catalog.PutUser] sees.
func (s *Snapshot) MayClaim(tenant, name string) bool {
	return !slices.ContainsFunc(s.UsersNamed(name), func(u *User) bool { return u.Tenant != tenant && u.Bare == BareBefore })
}

// Alone tells whether a tenant is the only one there is, and a bare name could never be read as one of another that
// is made later. Then the tenant's own administrators may claim it: there is nobody to take it from or to learn of.
func (s *Snapshot) Alone(tenant, name string) bool {
	_, other := tenantIn(name)
	all := s.Tenants()
	return !other && len(all) == 1 && all[0].Name == tenant
}

// Bare returns the user that has claimed a bare name; nil if none has.
func (s *Snapshot) Bare(name string) *User {
	for _, u := range s.UsersNamed(name) {
		if u.Bare == BareClaimed {
			return u
		}
	}
	return nil
}

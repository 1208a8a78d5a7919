package catalog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// MaxUserName bounds a user's name, in bytes.
const MaxUserName = 1024

// MaxUsers bounds the users of one tenant: every gateway keeps all of them in mind.
const MaxUsers = 10_000

// CheckUserName tells why a name must not be given to a user: it is empty or too
// long, stands for others already, or cannot be told from another when it is
// shown, since it holds characters that are not seen or blanks that are not
// noticed. Letters of different alphabets that look the same are not found out.
func CheckUserName(name string) error {
	switch {
	case name == "" || len(name) > MaxUserName:
		return fmt.Errorf("a user's name has 1 to %d bytes, not %d", MaxUserName, len(name))
	case name == "*" || name == "ANONYMOUS":
		return fmt.Errorf("%q stands for others and is no user's name", name)
	case !utf8.ValidString(name):
		return errors.New("a user's name is UTF-8")
	case strings.HasPrefix(name, " ") || strings.HasSuffix(name, " ") || strings.Contains(name, "  "):
		return errors.New("a user's name has no blanks at its ends, nor two together")
	}
	for _, r := range name {
		if !Seen(r) {
			return fmt.Errorf("a user's name holds no characters that are not seen (%U)", r)
		}
	}
	return nil
}

// Seen tells whether a character is one that shows, or a blank: no control character, format (bidirectional,
// zero width), variation, private use or surrogate, which change how the rest of a line looks.
func Seen(r rune) bool {
	return unicode.IsGraphic(r) && (!unicode.IsSpace(r) || r == ' ') && !unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// Scram is one salted credential (RFC 5802): what a server needs to check a
// password, not the password.
type Scram struct {
	Salt       []byte `json:"salt"`
	StoredKey  []byte `json:"storedKey"`
	ServerKey  []byte `json:"serverKey"`
	Iterations int    `json:"iterations"`
}

// String leaves the keys out: who has them can answer as the server, and can guess passwords.
func (s Scram) String() string { return fmt.Sprintf("scram(%d iterations, redacted)", s.Iterations) }

// GoString is String, for %#v.
func (s Scram) GoString() string { return s.String() }

// LogValue implements [slog.LogValuer].
func (s Scram) LogValue() slog.Value { return slog.StringValue(s.String()) }

// User is one who may sign on to a tenant.
type User struct {
	Tenant string `json:"tenant"`
	Name   string `json:"name"`
	// Credentials by SASL mechanism: SCRAM-SHA-256, SCRAM-SHA-512.
	Credentials map[string]Scram `json:"credentials,omitempty"`
	CreatedAt   time.Time        `json:"createdAt"`
	// Bare says whether it holds its name where nothing else tells the tenant. It stays what it was when the user was made.
	Bare Bare `json:"bare,omitempty"`

	Revision int64 `json:"-"`
}

// String names the user and the mechanisms.
func (u User) String() string {
	return fmt.Sprintf("user %s of tenant %s (%s)", u.Name, u.Tenant, strings.Join(slices.Sorted(maps.Keys(u.Credentials)), ", "))
}

// GoString is String, for %#v.
func (u User) GoString() string { return u.String() }

// LogValue implements [slog.LogValuer].
func (u User) LogValue() slog.Value { return slog.StringValue(u.String()) }

// ErrRulesChanged: the tenant's rules, its record, or who may change the rules is not what was read (see [RulesAt]).
var ErrRulesChanged = errors.New("the tenant's rules have changed")

// PutUser writes a user of an existing tenant if its Revision still stands (0:
// there is none of that name, else [ErrExists]) and returns it with the new one.
// It fails with [ErrNoTenant] where the tenant does not exist. A new user that is [BareClaimed] claims its bare name
// in the same transaction, and is [BareNone] where that is not free.
func (c *Catalog) PutUser(ctx context.Context, u User) (User, error) {
	if u.Revision == 0 && u.Bare == BareClaimed {
		return c.claimedUser(ctx, u)
	}
	return c.putUser(ctx, u, nil, nil)
}

// putUser is PutUser under further conditions ([ErrConflict] if one does not hold), with what else is written.
func (c *Catalog) putUser(ctx context.Context, u User, cmps []clientv3.Cmp, also []clientv3.Op) (User, error) {
	what := fmt.Sprintf("user %.100q", u.Name)
	if u.Name == "" || len(u.Name) > MaxUserName {
		return u, fmt.Errorf("%s: a name of %d bytes, want 1 to %d: %w", what, len(u.Name), MaxUserName, ErrTooLarge)
	}
	if u.CreatedAt.IsZero() {
		u.CreatedAt = time.Now().UTC()
	}
	value, err := encode(&u)
	if err != nil {
		return u, fmt.Errorf("%s: %w", what, err)
	}
	key := userKey(u.Tenant, u.Name)
	r, err := c.txn(ctx, what, ofTenant(u.Tenant, append(cmps, clientv3.Compare(clientv3.ModRevision(key), "=", u.Revision))...),
		append(also, clientv3.OpPut(key, value)),
		[]clientv3.Op{clientv3.OpGet(tenantKey(u.Tenant), clientv3.WithKeysOnly()), clientv3.OpGet(key, clientv3.WithKeysOnly())})
	if err != nil {
		return u, err
	}
	if !r.Succeeded {
		err := refusedOf(what, u.Tenant, r)
		switch there := len(r.Responses[1].GetResponseRange().Kvs) > 0; {
		case errors.Is(err, ErrNoTenant):
		case !there && u.Revision == 0: // one of cmps
		case !there:
			err = fmt.Errorf("%s: %w", what, ErrNotFound)
		case u.Revision == 0:
			err = fmt.Errorf("%s: %w", what, ErrExists)
		}
		return u, err
	}
	u.Revision = r.Header.Revision
	return u, nil
}

// DeleteUser removes a user that is at this revision (-1: at any), and has whoever writes by an earlier [RulesAt] look
// again. Removing what is gone succeeds.
func (c *Catalog) DeleteUser(ctx context.Context, tenant, name string, revision int64) error {
	return c.deleteUser(ctx, tenant, name, revision, nil, true)
}

// DeleteUserAt is DeleteUser while the tenant's rules and its record are at what was read, else it fails with
// [ErrRulesChanged]. Only the removal of one who may change the rules (admin) makes others look again.
func (c *Catalog) DeleteUserAt(ctx context.Context, tenant, name string, revision int64, at RulesAt, admin bool) error {
	return c.deleteUser(ctx, tenant, name, revision, &at, admin)
}

func (c *Catalog) deleteUser(ctx context.Context, tenant, name string, revision int64, at *RulesAt, admin bool) error {
	what, key := fmt.Sprintf("user %.100q", name), userKey(tenant, name)
	cmps := ofTenant(tenant)
	if revision >= 0 {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(key), "=", revision))
	}
	if at != nil {
		cmps = append(cmps, at.stand(tenant)...)
	}
	release, err := unclaim(tenant, name)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ops := []clientv3.Op{clientv3.OpDelete(key), release}
	if admin {
		ops = append(ops, clientv3.OpPut(rulesKey(tenant), ""))
	}
	r, err := c.txn(ctx, what, cmps, ops, []clientv3.Op{clientv3.OpGet(tenantKey(tenant), clientv3.WithKeysOnly()), clientv3.OpGet(key, clientv3.WithKeysOnly())})
	if err != nil || r.Succeeded {
		return err
	}
	switch there := r.Responses[1].GetResponseRange().Kvs; {
	case len(there) == 0:
		return nil
	case revision >= 0 && there[0].ModRevision != revision:
		return refusedOf(what, tenant, r)
	default:
		return fmt.Errorf("%s: %w", what, ErrRulesChanged)
	}
}

// User reads one user linearizably.
func (c *Catalog) User(ctx context.Context, tenant, name string) (User, error) {
	var u User
	rev, err := c.get(ctx, fmt.Sprintf("user %.100q", name), userKey(tenant, name), &u)
	u.Revision = rev
	return u, err
}

// Users reads a tenant's users linearizably, by name.
func (c *Catalog) Users(ctx context.Context, tenant string) ([]User, error) {
	us, err := listOf(ctx, c, "users", userPrefix(tenant), func(u *User, rev int64) { u.Revision = rev })
	slices.SortFunc(us, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return us, err
}

// User returns a user of a tenant or nil.
func (s *Snapshot) User(tenant, name string) *User {
	u, _ := s.users.get(address{tenant: tenant, name: name})
	return u
}

// Users returns a tenant's users by name.
func (s *Snapshot) Users(tenant string) []*User { return s.users.list(tenant) }

// UsersNamed returns the users of this name in all watched tenants, by tenant.
func (s *Snapshot) UsersNamed(name string) []*User {
	of, _ := s.usersNamed.get(nameID(name))
	return of
}

// nameID spreads names over a table; two names never share one in practice (128 bits of SHA-256).
func nameID(name string) (id ID) {
	sum := sha256.Sum256([]byte(name))
	copy(id[:], sum[:])
	return id
}

// nameUser keeps what UsersNamed answers; u nil takes the tenant's user out.
func (e *edit) nameUser(a address, u *User) {
	id := nameID(a.name)
	old, _ := e.s.usersNamed.get(id)
	of := slices.DeleteFunc(slices.Clone(old), func(o *User) bool { return o.Tenant == a.tenant })
	if u != nil {
		of = append(of, u)
		slices.SortFunc(of, func(a, b *User) int { return strings.Compare(a.Tenant, b.Tenant) })
	}
	if len(of) == 0 {
		e.s.usersNamed.remove(id, e.gen)
		return
	}
	e.s.usersNamed.set(id, of, e.gen)
}

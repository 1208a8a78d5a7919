package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Role says what an operator may ask of the admin API. Each may all that the one
// before it may.
type Role string

const (
	RoleViewer   Role = "viewer"   // looks
	RoleOperator Role = "operator" // runs the fleet: topics, moves, failovers, quotas
	RoleAdmin    Role = "admin"    // says who may do what, and which clusters there are
)

// Roles in the order of what they may.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleAdmin} }

// Allows tells whether who has the role r may do what needs the role need. A role
// that this release does not know may nothing, and what needs none of the known
// ones is nobody's.
func (r Role) Allows(need Role) bool {
	has, wants := slices.Index(Roles(), r), slices.Index(Roles(), need)
	return wants >= 0 && has >= wants
}

// Operator is one who may sign on to the admin API: by a token, or by a
// certificate that is mapped to the name.
type Operator struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// TokenHash is the SHA-256 of the token, which has 256 random bits: nothing is
	// gained by trying tokens against it. Empty: certificates only.
	TokenHash []byte    `json:"tokenHash,omitempty"`
	Created   time.Time `json:"created"`
	Rotated   time.Time `json:"rotated,omitzero"` // the token, last
	Expires   time.Time `json:"expires,omitzero"` // zero: never

	Revision int64 `json:"-"`
}

// Expired tells whether the operator may no longer sign on.
func (o *Operator) Expired(now time.Time) bool { return !o.Expires.IsZero() && !now.Before(o.Expires) }

// String leaves the hash out.
func (o Operator) String() string { return fmt.Sprintf("operator %s (%s)", o.Name, o.Role) }

// GoString is String, for %#v.
func (o Operator) GoString() string { return o.String() }

// LogValue implements [slog.LogValuer].
func (o Operator) LogValue() slog.Value { return slog.StringValue(o.String()) }

func operatorKey(name string) string { return operatorPrefix + segment(name) }

const operatorPrefix = fleetRoot + "operator/"

// PutOperator writes an operator if its Revision still stands (0: there is none of
// the name, else [ErrExists]) and returns it with the new one.
func (c *Catalog) PutOperator(ctx context.Context, o Operator) (Operator, error) {
	rev, err := c.put(ctx, "operator "+o.Name, operatorKey(o.Name), o.Revision, Fence{}, &o)
	if err == nil {
		o.Revision = rev
	}
	return o, err
}

// ReplaceOperator writes an operator that exists, as it was read but for what the
// caller changed. With standing it does so only while that one is as it was read too. It
// fails with [ErrConflict] when either changed.
func (c *Catalog) ReplaceOperator(ctx context.Context, o Operator, standing *Operator) (Operator, error) {
	what, key := "operator "+o.Name, operatorKey(o.Name)
	value, err := encode(&o)
	if err != nil {
		return o, fmt.Errorf("%s: %w", what, err)
	}
	cmps := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", o.Revision)}
	if standing != nil {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(operatorKey(standing.Name)), "=", standing.Revision))
	}
	r, err := c.txn(ctx, what, cmps, []clientv3.Op{clientv3.OpPut(key, value)}, nil)
	switch {
	case err != nil:
		return o, err
	case !r.Succeeded:
		return o, fmt.Errorf("%s: %w", what, ErrConflict)
	}
	o.Revision = r.Header.Revision
	return o, nil
}

// DeleteOperator removes an operator as it was read. With standing it does so only
// while that one is as it was read too: of two admins who remove each other at the
// same moment, one stays. It fails with [ErrConflict] when either changed.
func (c *Catalog) DeleteOperator(ctx context.Context, o Operator, standing *Operator) error {
	key := operatorKey(o.Name)
	cmps := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", o.Revision)}
	if standing != nil {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(operatorKey(standing.Name)), "=", standing.Revision))
	}
	r, err := c.txn(ctx, "operator "+o.Name, cmps, []clientv3.Op{clientv3.OpDelete(key)}, nil)
	if err == nil && !r.Succeeded {
		err = fmt.Errorf("operator %s: %w", o.Name, ErrConflict)
	}
	return err
}

// Operator reads one operator linearizably.
func (c *Catalog) Operator(ctx context.Context, name string) (Operator, error) {
	var o Operator
	rev, err := c.get(ctx, "operator "+name, operatorKey(name), &o)
	o.Revision = rev
	return o, err
}

// Operators reads all operators linearizably, by name.
func (c *Catalog) Operators(ctx context.Context) ([]Operator, error) {
	list, err := listOf(ctx, c, "operators", operatorPrefix, func(o *Operator, rev int64) { o.Revision = rev })
	slices.SortFunc(list, func(a, b Operator) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// Operator returns an operator of the snapshot, nil if there is none of the name.
func (s *Snapshot) Operator(name string) *Operator { return s.operators[name] }

// Operators is how many there are.
func (s *Snapshot) Operators() int { return len(s.operators) }

// OperatorByToken finds who has a token of this hash; nil if nobody has. A hash is
// no secret whose first bytes help: the comparison need not take the same time.
func (s *Snapshot) OperatorByToken(hash []byte) *Operator {
	for _, o := range s.operators {
		if len(o.TokenHash) > 0 && string(o.TokenHash) == string(hash) {
			return o
		}
	}
	return nil
}

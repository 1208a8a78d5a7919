package rules

import (
	"context"
	"errors"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// DeleteUser removes a user of a tenant that is at this revision (-1: at any). Without force the last one who has a
// password and may change the tenant's rules stays, also when the last two go at the same moment, by requests here or
// at another gateway, or while the rules change: what was looked at must hold when the user goes.
//
// It fails with [catalog.ErrConflict] when the user is at another revision.
func (s *Store) DeleteUser(ctx context.Context, tenant, name string, revision int64, o Options) error {
	for {
		if o.Force {
			return s.Catalog.DeleteUser(ctx, tenant, name, revision)
		}
		now, err := s.current(ctx, tenant)
		if err != nil {
			return err
		}
		admin, err := s.lastAdmin(ctx, tenant, name, now)
		if err != nil || o.DryRun {
			return err
		}
		err = s.Catalog.DeleteUserAt(ctx, tenant, name, revision, now.at, admin)
		if errors.Is(err, catalog.ErrRulesChanged) && ctx.Err() == nil {
			continue
		}
		return err
	}
}

// lastAdmin refuses that the last user goes who may change the rules, and tells whether this one may.
func (s *Store) lastAdmin(ctx context.Context, tenant, name string, now holding) (admin bool, err error) {
	const kind = "User:"
	x := acl.Compile(now.rules, now.options)
	if !x.AdministeredBy(func(p string) bool { return p == kind+name }) {
		return false, nil
	}
	users, err := s.Catalog.Users(ctx, tenant)
	if err != nil {
		return false, err
	}
	has := map[string]bool{}
	for i := range users {
		has[users[i].Name] = len(users[i].Credentials) > 0
	}
	if err := x.LastAdmin(name, func(user string) bool { return has[user] }); err != nil {
		return false, refuse(wire.PolicyViolation, "%v", err)
	}
	return true, nil
}

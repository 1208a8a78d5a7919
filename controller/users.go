package controller

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/internal/nearest"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/rules"
	"github.com/braidstream/braid/tenant/sasl"
)

// passwordLength of generated passwords: 160 random bits of a-z and 2-7.
const passwordLength = 32

// Credentials ask for a user's credentials.
type Credentials struct {
	Mechanism  string // "": SCRAM-SHA-256
	Password   string // "": one is generated
	Iterations int    // 0: the default
}

// make gives the salted credential and the password that was generated, "" if none was.
func (c Credentials) make() (mechanism string, cred catalog.Scram, generated string, err error) {
	if c.Mechanism == "" {
		c.Mechanism = sasl.ScramSHA256
	}
	if c.Password == "" {
		generated = catalog.RandomName(passwordLength)
		c.Password = generated
	}
	cred, err = sasl.NewCredential(c.Mechanism, c.Password, c.Iterations)
	if err != nil {
		hint := ""
		if errors.Is(err, sasl.ErrMechanism) {
			hint = sasl.ScramSHA256 + " or " + sasl.ScramSHA512
		}
		return "", cred, "", &RequestError{Problem: Invalid, Message: err.Error(), Hint: hint, Err: err}
	}
	return c.Mechanism, cred, generated, nil
}

// AddUser makes a user of a tenant, with its bare name if that is free (catalog.Bare). password is the generated one, "" if the
// caller gave one: it is not kept, nor shown again.
func (a *Admin) AddUser(ctx context.Context, tenant, name string, c Credentials) (u catalog.User, password string, err error) {
	if err := catalog.CheckUserName(name); err != nil {
		return u, "", refuse(Invalid, "choose another", "%.70q is no name for a user: %v", name, err)
	}
	if err := a.activeTenant(tenant); err != nil {
		return u, "", err
	}
	if len(a.Watcher.Snapshot().Users(tenant)) >= catalog.MaxUsers {
		return u, "", refuse(Refused, "braid user delete makes room", "tenant %s has %d users: there may be no more", tenant, catalog.MaxUsers)
	}
	mechanism, cred, password, err := c.make()
	if err != nil {
		return u, "", err
	}
	bare := catalog.BareNone
	if a.Watcher.Snapshot().MayClaim(tenant, name) {
		bare = catalog.BareClaimed
	}
	u, err = a.Catalog.PutUser(ctx, catalog.User{Tenant: tenant, Name: name, CreatedAt: time.Now().UTC().Truncate(time.Second),
		Credentials: map[string]catalog.Scram{mechanism: cred}, Bare: bare})
	switch {
	case errors.Is(err, catalog.ErrNoTenant):
		return u, "", a.unknownTenant(tenant)
	case errors.Is(err, catalog.ErrExists):
		return u, "", refuse(Exists, "braid user rotate gives it a new password", "user %.70q of tenant %s exists", name, tenant)
	case err != nil:
		return u, "", requestError(err, "user")
	}
	a.sawTenants(ctx, u.Revision)
	return u, password, nil
}

// RotateUser gives a user a new password for a mechanism ("": all that it has).
// The one before is void at once.
func (a *Admin) RotateUser(ctx context.Context, tenant, name string, c Credentials) (u catalog.User, password string, err error) {
	if err := a.activeTenant(tenant); err != nil {
		return u, "", err
	}
	for {
		if u, err = a.user(ctx, tenant, name); err != nil {
			return u, "", err
		}
		mechanisms := []string{c.Mechanism}
		if c.Mechanism == "" {
			mechanisms = mechanisms[:0]
			for m := range u.Credentials {
				mechanisms = append(mechanisms, m)
			}
		}
		next, given := map[string]catalog.Scram{}, c
		for m, cred := range u.Credentials {
			next[m] = cred
		}
		if len(mechanisms) == 0 {
			mechanisms = []string{sasl.ScramSHA256}
		}
		password = ""
		for _, m := range mechanisms {
			given.Mechanism = m
			_, cred, made, err := given.make()
			if err != nil {
				return u, "", err
			}
			if made != "" { // one password for all
				password, given.Password = made, made
			}
			next[m] = cred
		}
		u.Credentials = next
		put, err := a.Catalog.PutUser(ctx, u)
		if err == nil {
			a.sawTenants(ctx, put.Revision)
			return put, password, nil
		}
		if !errors.Is(err, catalog.ErrConflict) && !errors.Is(err, catalog.ErrNotFound) {
			return u, "", requestError(err, "user")
		}
	}
}

// DeleteUser takes a user away; its sessions end. The last one with a password who may change the tenant's rules goes
// with force only.
func (a *Admin) DeleteUser(ctx context.Context, tenant, name string, force bool) error {
	if a.Watcher.Snapshot().Tenant(tenant) == nil {
		return a.unknownTenant(tenant)
	}
	if _, err := a.user(ctx, tenant, name); err != nil {
		return err
	}
	store := rules.Store{Catalog: a.Catalog, Watcher: a.Watcher, Logger: a.Logger}
	err := store.DeleteUser(ctx, tenant, name, -1, rules.Options{Operator: true, Force: force})
	var refused *span.RejectedError
	switch {
	case errors.As(err, &refused):
		return refuse(Refused, "--force does it all the same", "user %.70q of tenant %s: %s", name, tenant, refused.Detail)
	case err != nil:
		return requestError(err, "user")
	}
	if _, err := a.Watcher.Refresh(ctx); err != nil {
		a.Logger.Debug("refresh after a user was deleted", "err", err)
	}
	return nil
}

// bindings are the rules that records tell.
func bindings(records []catalog.ACL) (rules []acl.Binding) {
	for i := range records {
		if b, err := acl.FromRecord(&records[i]); err == nil {
			rules = append(rules, b)
		}
	}
	return rules
}

// user reads a user, and knows which one may have been meant.
func (a *Admin) user(ctx context.Context, tenant, name string) (catalog.User, error) {
	u, err := a.Catalog.User(ctx, tenant, name)
	if errors.Is(err, catalog.ErrNotFound) {
		var known []string
		for _, x := range a.Watcher.Snapshot().Users(tenant) {
			known = append(known, x.Name)
		}
		hint := "braid user list --tenant " + tenant
		if n := nearest.Name(name, known); n != "" {
			hint = "did you mean " + n + "?"
		}
		return u, refuse(Unknown, hint, "no user %.70q in tenant %s", name, tenant)
	}
	return u, requestError(err, "user")
}

// activeTenant refuses a tenant that is not there or is being deleted.
func (a *Admin) activeTenant(name string) error {
	t := a.Watcher.Snapshot().Tenant(name)
	switch {
	case t == nil:
		return a.unknownTenant(name)
	case t.State != catalog.TenantActive:
		return refuse(Refused, "braid tenant undelete "+name, "tenant %s is being deleted", name)
	}
	return nil
}

package controller

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/audit"
)

// tenantsEvery is how often the leader looks for tenants whose grace is over.
const tenantsEvery = time.Second

// removeTenants takes away the tenants whose grace is over: first the way back,
// then their topics, and once those are gone the tenant with all that is kept of it.
func (t *term) removeTenants(ctx context.Context) error {
	changed, stop := t.changes(ctx, tenantsEvery, func(c catalog.Change) bool { return len(c.Tenants) > 0 })
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		for _, x := range t.o.Watcher.Snapshot().Tenants() {
			if x.State == catalog.TenantActive || x.State == catalog.TenantDeleting && time.Now().Before(x.DeleteAt) {
				continue
			}
			err := t.removeTenant(ctx, x.Name)
			if errors.Is(err, catalog.ErrFenced) || errors.Is(err, errCrashed) || ctx.Err() != nil {
				return err
			}
			if err != nil {
				t.o.Logger.Warn("tenant is not removed yet", "tenant", x.Name, "err", err)
			}
		}
	}
}

func (t *term) removeTenant(ctx context.Context, name string) error {
	x, err := t.o.Catalog.Tenant(ctx, name)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case x.State == catalog.TenantRemoving:
	case x.State != catalog.TenantDeleting || time.Now().Before(x.DeleteAt):
		return nil // it was brought back, or given more time
	default:
		// From here on it cannot be brought back: nobody gets a tenant with half of its topics.
		x.State = catalog.TenantRemoving
		if x, err = t.o.Catalog.UpdateTenant(ctx, x); err != nil {
			return err
		}
		t.o.Logger.Info("the grace of a deleted tenant is over", "tenant", name)
	}
	s, err := t.o.Watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	for topic := range s.Topics(name) {
		if _, err := t.o.Catalog.MarkDeleting(ctx, *topic); err != nil && !errors.Is(err, catalog.ErrConflict) && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
	}
	// It is refused while a topic is there, one that a late request made too.
	if err := t.o.Catalog.DeleteTenant(ctx, x, t.driver.fence); err == nil {
		t.o.Audit.Record(audit.Event{Kind: audit.Change, Who: "controller", Tenant: name, Action: "remove tenant", Resource: "TENANT " + name, Result: audit.Done})
		t.o.Logger.Info("a tenant is removed", "tenant", name)
	} else if errors.Is(err, catalog.ErrFenced) || !errors.Is(err, catalog.ErrConflict) {
		return err
	}
	return nil
}

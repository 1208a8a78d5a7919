package controller

import (
	"context"
	"errors"
	"maps"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/wire"
)

// AlterGroupConfig changes the configs of a group, which need not exist.
func (a *Admin) AlterGroupConfig(ctx context.Context, alter gateway.ConfigAlter) error {
	for {
		s, err := a.Watcher.Refresh(ctx)
		if err != nil {
			return err
		}
		g := catalog.GroupConfig{Tenant: alter.Tenant, Group: alter.Name}
		if old := s.GroupConfig(alter.Tenant, alter.Name); old != nil {
			g = *old
		}
		next, err := gateway.ApplyGroupConfig(g.Config, &alter)
		if err != nil || maps.Equal(next, g.Config) {
			return err
		}
		release := func() {}
		if g.Revision == 0 {
			if release, err = a.admitGroupConfig(alter.Tenant, alter.Name); err != nil {
				return err
			}
		}
		if alter.ValidateOnly {
			release()
			return nil
		}
		g.Config = next
		err = a.Catalog.PutGroupConfig(ctx, g)
		if err == nil && g.Revision == 0 {
			// Counted as being made until snapshots show it. That it could not be refreshed is the
			// next caller's error, who refreshes before it is admitted.
			_, _ = a.Watcher.Refresh(ctx)
		}
		release()
		// Who was first changed something else, or the same: look again.
		if err == nil || !errors.Is(err, catalog.ErrConflict) {
			return err
		}
	}
}

// admitGroupConfig takes room for the configs of a group that has none, until release: a
// tenant sets them for as many groups as it may have, and never for more than
// [catalog.MaxGroupConfigs].
func (a *Admin) admitGroupConfig(tenant, group string) (release func(), err error) {
	a.making.mu.Lock()
	defer a.making.mu.Unlock()
	s := a.Watcher.Snapshot()
	most := int64(catalog.MaxGroupConfigs)
	if t := s.Tenant(tenant); t != nil && t.Limits.Groups > 0 {
		most = min(most, t.Limits.Groups)
	}
	key := groupOf{tenant, group}
	have := int64(s.GroupConfigCount(tenant))
	for other := range a.making.groups {
		if other.tenant == tenant && other != key && s.GroupConfig(tenant, other.group) == nil {
			have++
		}
	}
	if have >= most {
		return nil, rejected(wire.PolicyViolation, "configs are set for %d groups, and may be for at most %d: remove those of groups that are gone", have, most)
	}
	if a.making.groups == nil {
		a.making.groups = map[groupOf]int{}
	}
	a.making.groups[key]++
	return func() {
		a.making.mu.Lock()
		defer a.making.mu.Unlock()
		if a.making.groups[key]--; a.making.groups[key] == 0 {
			delete(a.making.groups, key)
		}
	}, nil
}

package controller

import (
	"context"
	"errors"
	"maps"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/gateway"
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
		if err != nil || alter.ValidateOnly || maps.Equal(next, g.Config) {
			return err
		}
		g.Config = next
		// Who was first changed something else, or the same: look again.
		if err = a.Catalog.PutGroupConfig(ctx, g); err == nil || !errors.Is(err, catalog.ErrConflict) {
			return err
		}
	}
}

package catalog

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// GroupConfig holds what was set for one group of a tenant, by Kafka's names of
// group configs. The group itself need not exist.
type GroupConfig struct {
	Tenant   string            `json:"tenant"`
	Group    string            `json:"group"`
	Config   map[string]string `json:"config"`
	Revision int64             `json:"-"`
}

// MaxGroupConfigs bounds the groups of one tenant for which something is set: their records
// outlive the groups, so that nothing else would.
const MaxGroupConfigs = 10_000

// PutGroupConfig writes a group's configs if Revision (0: there are none) still
// stands, and removes them if none are left.
func (c *Catalog) PutGroupConfig(ctx context.Context, g GroupConfig) error {
	what, key := fmt.Sprintf("configs of group %.100s", g.Group), groupKey(g.Tenant, g.Group)
	if len(g.Config) > 0 {
		_, err := c.put(ctx, what, key, g.Revision, Fence{}, &g)
		return err
	}
	if g.Revision == 0 {
		return nil
	}
	return c.remove(ctx, what, key, g.Revision, Fence{})
}

// GroupConfig returns what was set for a group, nil if nothing was.
func (s *Snapshot) GroupConfig(tenant, group string) *GroupConfig { return s.groups[tenant][group] }

// GroupConfigCount is for how many groups of a tenant something was set.
func (s *Snapshot) GroupConfigCount(tenant string) int { return len(s.groups[tenant]) }

// GroupConfigs yields a tenant's groups for which something was set, by name.
func (s *Snapshot) GroupConfigs(tenant string) iter.Seq[*GroupConfig] {
	return func(yield func(*GroupConfig) bool) {
		of := s.groups[tenant]
		for _, name := range slices.Sorted(maps.Keys(of)) {
			if !yield(of[name]) {
				return
			}
		}
	}
}

func (e *edit) putGroup(a address, g *GroupConfig) {
	own(&e.ownGroups, &e.s.groups)
	of := maps.Clone(e.s.groups[a.tenant])
	if of == nil {
		of = map[string]*GroupConfig{}
	}
	of[a.name] = g
	e.s.groups[a.tenant] = of
}

func (e *edit) removeGroup(a address) {
	own(&e.ownGroups, &e.s.groups)
	of := maps.Clone(e.s.groups[a.tenant])
	delete(of, a.name)
	if e.s.groups[a.tenant] = of; len(of) == 0 {
		delete(e.s.groups, a.tenant)
	}
}

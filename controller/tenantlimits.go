package controller

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/wire"
)

// admissions are what this process is making for each tenant, whether its
// snapshot shows it yet or not: many topics of one request must not all pass below one limit, nor
// count twice in the moment between the two. Of several processes each may pass it by what the others are making.
type admissions struct {
	mu sync.Mutex
	of map[string]map[string]*admission // by tenant and topic
	// groups are those whose first configs are being written, and by how many.
	groups map[groupOf]int
}

type groupOf struct{ tenant, group string }

// admission is a topic that is made or grows.
type admission struct {
	partitions int64 // that it is to have
	by         int   // requests
}

// admit takes room below a tenant's limits for a topic that is to have so many partitions, until release.
func (a *Admin) admit(ctx context.Context, tenant, topic string, partitions int64) (release func(), err error) {
	none := func() {}
	if tenant == catalog.SystemTenant || gateway.InternalTopic(topic) {
		return none, nil
	}
	if t := a.Watcher.Snapshot().Tenant(tenant); t != nil && (t.Limits.Topics != 0 || t.Limits.Partitions != 0) {
		// Who made a topic before may have gone without seeing it in the snapshot: a busy catalog answers late.
		if _, err := a.Watcher.Refresh(ctx); err != nil {
			return nil, err
		}
	}
	a.making.mu.Lock()
	defer a.making.mu.Unlock()
	s := a.Watcher.Snapshot()
	t := s.Tenant(tenant)
	if t == nil || t.State != catalog.TenantActive {
		return nil, rejected(wire.PolicyViolation, "this cluster is being deleted")
	}
	mostTopics, mostPartitions := cmp.Or(t.Limits.Topics, a.MaxTopics), cmp.Or(t.Limits.Partitions, a.MaxPartitions)
	making := a.making.of[tenant]
	haveTopics, havePartitions := tenantCounts(s, tenant)
	topics, all, more, known := haveTopics, havePartitions, partitions, false
	for name, m := range making {
		var shown int64
		if x := s.TopicByName(tenant, name); x != nil {
			shown = int64(x.Partitions)
		} else {
			topics++
		}
		all += max(0, m.partitions-shown)
		if name == topic {
			known, more = true, partitions-max(m.partitions, shown)
		}
	}
	if x := s.TopicByName(tenant, topic); x != nil && !known {
		known, more = true, partitions-int64(x.Partitions)
	}
	if !known && topics >= mostTopics {
		return nil, rejected(wire.PolicyViolation, "the limit of %d topics is reached: %d exist", mostTopics, haveTopics)
	}
	if more > 0 && all+more > mostPartitions {
		return nil, rejected(wire.PolicyViolation, "%d more partitions would pass the limit of %d: %d exist", more, mostPartitions, havePartitions)
	}
	if making == nil {
		if a.making.of == nil {
			a.making.of = map[string]map[string]*admission{}
		}
		making = map[string]*admission{}
		a.making.of[tenant] = making
	}
	m := making[topic]
	if m == nil {
		m = &admission{}
		making[topic] = m
	}
	m.partitions, m.by = max(m.partitions, partitions), m.by+1
	return func() {
		a.making.mu.Lock()
		defer a.making.mu.Unlock()
		if m.by--; m.by > 0 {
			return
		}
		if delete(making, topic); len(making) == 0 {
			delete(a.making.of, tenant)
		}
	}, nil
}

// tenantCounts is what a tenant has made, internal topics left out.
func tenantCounts(s *catalog.Snapshot, tenant string) (topics, partitions int64) {
	for t := range s.Topics(tenant) {
		if !gateway.InternalTopic(t.Name) {
			topics, partitions = topics+1, partitions+int64(t.Partitions)
		}
	}
	return topics, partitions
}

// tenantConfig lays what a creator set over the tenant's defaults.
func tenantConfig(s *catalog.Snapshot, tenant string, set map[string]string) map[string]string {
	t := s.Tenant(tenant)
	if t == nil || len(t.Defaults) == 0 {
		return set
	}
	out := maps.Clone(t.Defaults)
	maps.Copy(out, set)
	return out
}

// placementOf lists the clusters that a tenant's topics may be on; empty: any.
func placementOf(s *catalog.Snapshot, tenant string) []string {
	if t := s.Tenant(tenant); t != nil {
		return t.Clusters
	}
	return nil
}

// mayUse tells whether a tenant's topics may be on a cluster.
func mayUse(s *catalog.Snapshot, tenant, cluster string) bool {
	of := placementOf(s, tenant)
	return len(of) == 0 || slices.Contains(of, cluster)
}

package gateway

import "github.com/braidstream/braid/catalog"

// clusterID is what the clients of a tenant are told: its own, or for the default
// tenant, unless it was given one, that of the fleet.
func (g *Gateway) clusterID(tenant string) string {
	if t := g.watcher.Snapshot().Tenant(tenant); t != nil && t.ClusterID != "" {
		return t.ClusterID
	}
	if tenant == catalog.DefaultTenant {
		return g.cfg.ClusterID
	}
	return "" // it was removed a moment ago: its connections are ending
}

package chain

import "github.com/prometheus/client_golang/prometheus"

var (
	heldDesc  = prometheus.NewDesc("braid_tenant_held_bytes", "Bytes of appends of a tenant that wait for a chain to change.", []string{"tenant"}, nil)
	cacheDesc = prometheus.NewDesc("braid_tenant_cache_bytes", "What a tenant has of the tail cache.", []string{"tenant"}, nil)
)

// Describe implements [prometheus.Collector]: what tenants have of the room that they share.
func (l *Logs) Describe(ch chan<- *prometheus.Desc) {
	ch <- heldDesc
	ch <- cacheDesc
}

// Collect implements [prometheus.Collector].
func (l *Logs) Collect(ch chan<- prometheus.Metric) {
	for d, of := range map[*prometheus.Desc]map[string]int64{heldDesc: l.room.Of(), cacheDesc: l.cache.of()} {
		for tenant, n := range of {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), tenant)
		}
	}
}

package console

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
)

// usage tells what tenants used from a time on, by tenant; those that used nothing are
// left out, unless asked for by name.
func (s *Server) usage(r *http.Request) (any, error) {
	q := r.URL.Query()
	since := time.Now().UTC().Add(-24 * time.Hour)
	if v := q.Get("since"); v != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, v); err != nil {
			return nil, invalid("since wants a time as 2006-01-02T15:04:05Z")
		}
	}
	sums := map[string]catalog.Usage{}
	for x, err := range s.opts.Catalog.Readings(r.Context(), since) {
		if err != nil {
			return nil, err
		}
		for tenant, u := range x.Tenants {
			sums[tenant] = sums[tenant].Add(u)
		}
	}
	out := api.Usage{Since: since.UTC().Truncate(time.Hour), Tenants: []api.TenantUsage{}}
	names := slices.Sorted(maps.Keys(sums))
	if only := q.Get("tenant"); only != "" {
		snap := s.opts.Watcher.Snapshot()
		if _, used := sums[only]; !used && snap.Tenant(only) == nil {
			return nil, controller.UnknownTenant(snap, only)
		}
		names = []string{only}
	}
	for _, name := range names {
		u := sums[name]
		out.Tenants = append(out.Tenants, api.TenantUsage{Tenant: name, ReceivedBytes: u.Received, SentBytes: u.Sent, Requests: u.Requests,
			Connections: u.Connections, ConnectionHours: u.ConnectionSeconds / 3600, PartitionHours: u.PartitionSeconds / 3600,
			StoredByteHours: u.ByteSeconds / 3600})
	}
	return out, nil
}

package console

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/wire"
)

func (s *Server) status(r *http.Request) (any, error) {
	snap := s.opts.Watcher.Snapshot()
	use := clusterUses(snap)
	v := api.Status{Version: s.opts.Version, Fleet: s.opts.Fleet, Gateways: []api.Gateway{}, Clusters: []api.Cluster{},
		Running: []api.Op{}, Warnings: append([]string{}, s.opts.Warnings...)}
	if why := s.CertificatesRefused(); why != "" {
		v.Warnings = append(v.Warnings, refusedCertificates("admin API", why))
	}
	for _, g := range snap.Gateways() {
		gv := api.Gateway{Node: g.Node, Zone: g.Zone, Version: g.Version, Started: g.Started, Draining: g.Draining, Listeners: []api.Listener{}}
		for _, l := range g.Listeners {
			gv.Listeners = append(gv.Listeners, api.Listener{Name: l.Name, Advertise: l.Advertise, Zone: l.Zone,
				Security: l.Security, Mechanisms: l.Mechanisms, Tenant: l.Tenant, ServerNames: l.ServerNames})
			if l.Refused != "" {
				v.Warnings = append(v.Warnings, refusedCertificates(fmt.Sprintf("gateway %d, listener %s", g.Node, l.Name), l.Refused))
			}
		}
		v.Gateways = append(v.Gateways, gv)
	}
	for _, c := range snap.Clusters() {
		cv := clusterView(c, snap, use)
		v.Clusters = append(v.Clusters, cv)
		if cv.Health == "down" {
			v.Warnings = append(v.Warnings, "cluster "+c.Name+" is down: "+cv.Detail)
		}
		if cv.Health == "full" {
			v.Warnings = append(v.Warnings, "cluster "+c.Name+" is full: "+cv.Detail)
		}
		if cv.Hint != "" {
			v.Warnings = append(v.Warnings, cv.Hint)
		}
		if shards := controller.ShardsText(snap, c.Name); shards != "" {
			v.Warnings = append(v.Warnings, shards)
		}
		if cv.Seal == "fence" {
			v.Warnings = append(v.Warnings, "cluster "+c.Name+" grants no ALTER_CONFIGS: moves off it trust gateways' leases")
		}
	}
	waiting := controller.Waiting(snap)
	for _, cluster := range slices.Sorted(maps.Keys(waiting)) {
		v.Warnings = append(v.Warnings, controller.WaitText(snap, cluster, waiting[cluster]))
	}
	lost := controller.Lost(snap)
	for _, cluster := range slices.Sorted(maps.Keys(lost)) {
		v.Warnings = append(v.Warnings, controller.LostText(cluster, lost[cluster]))
	}
	if s.opts.Audit != nil {
		if n := s.opts.Audit.Counts(); n.Lost+n.TopicLost > 0 {
			v.Warnings = append(v.Warnings, fmt.Sprintf("audit log: %d events were lost since the start, %d of them to its topic alone", n.Lost+n.TopicLost, n.TopicLost))
		}
	}
	for _, x := range snap.Tenants() {
		for t := range snap.Topics(x.Name) {
			v.Topics++
			v.Partitions += int(t.Partitions)
		}
	}
	// What follows needs the catalog itself; the rest of the status is shown without it.
	leader, err := s.opts.Catalog.Leader(r.Context(), controller.Election)
	if warn := leadWarning(err); warn != "" {
		v.Warnings = append(v.Warnings, warn)
	}
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		v.Warnings = append(v.Warnings, controller.StuckTexts(snap, nil)...)
		return v, nil
	}
	v.Controller = leader
	torn, err := s.opts.Catalog.Torn(r.Context())
	if err != nil {
		return nil, err
	}
	for i := range torn {
		v.Warnings = append(v.Warnings, tornWarning(&torn[i]))
	}
	ops, err := s.opts.Catalog.Ops(r.Context())
	if err != nil {
		return nil, err
	}
	v.Warnings = append(v.Warnings, controller.StuckTexts(snap, ops)...)
	for _, o := range ops {
		if !o.IsFinished() {
			v.Running = append(v.Running, opView(o))
		}
	}
	return v, nil
}

// refusedCertificates is the warning that stays until certificates are taken that replace those which were not.
func refusedCertificates(where, why string) string {
	return where + ": its certificate files are not taken as they are, the former certificates serve on: " + why
}

// leadWarning says why changes wait, of what came of the question who leads; "" if somebody does.
func leadWarning(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, catalog.ErrNotFound):
		return "no controller leads: changes wait; a further one takes over when the lease of the one before has run out (braid controller runs one)"
	}
	return "the catalog does not answer: reads and writes go on, changes wait"
}

// tornWarning says what became of a part of a transaction that its cluster had aborted.
func tornWarning(t *catalog.Torn) string {
	if t.State == catalog.TornHanging {
		return fmt.Sprintf("cluster %s has lost markers of the transaction of %q (tenant %s) on %s, and they cannot be written: committed readers and moves of its partitions there wait. "+
			"Grant ALTER on the cluster (braid cluster check %s), and see the gateways' logs", t.Cluster, t.TransactionalID, t.Tenant, t.Found.Format(time.RFC3339), t.Cluster)
	}
	what := "are being appended anew"
	switch t.State {
	case catalog.TornMended:
		what = "were appended anew"
	case catalog.TornLost:
		what = "were appended anew"
		if t.Missing {
			what += ", others could not be found any more"
		}
		if t.Refused > 0 {
			what += fmt.Sprintf(", %d are left out since their topics refuse them by now (%s)", t.Refused, wire.Code(t.RefusedCode))
		}
	}
	if t.Stamped > 0 {
		what += fmt.Sprintf(", %d of them with new timestamps, since their topics refuse the old ones by now (message.timestamp.before.max.ms)", t.Stamped)
	}
	return fmt.Sprintf("cluster %s had aborted its part of the committed transaction of %q (tenant %s) on %s: %d records %s",
		t.Cluster, t.TransactionalID, t.Tenant, t.Found.Format(time.RFC3339), t.Records-t.Refused, what)
}

func (s *Server) clusters(*http.Request) (any, error) {
	snap := s.opts.Watcher.Snapshot()
	use := clusterUses(snap)
	out := []api.Cluster{}
	for _, c := range snap.Clusters() {
		out = append(out, clusterView(c, snap, use))
	}
	return out, nil
}

func (s *Server) cluster(r *http.Request) (any, error) {
	name := r.PathValue("name")
	snap, err := s.opts.Watcher.Refresh(r.Context())
	if err != nil {
		return nil, err
	}
	c := snap.Cluster(name)
	if c == nil {
		return nil, unknownCluster(snap, name)
	}
	v := clusterView(c, snap, clusterUses(snap))
	ctx, cancel := context.WithTimeout(r.Context(), healthLimit)
	defer cancel()
	h, err := s.opts.Admin.ClusterHealth(ctx, name)
	v.Health, v.Detail = askedHealth(votesOf(snap, name), h, err)
	kept, err := s.opts.Admin.Kept(r.Context(), name)
	if err != nil {
		return nil, err
	}
	v.Kept = keptView(kept)
	return v, nil
}

func (s *Server) clusterRights(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), rightsLimit)
	defer cancel()
	list, err := s.opts.Admin.ClusterRights(ctx, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	out := []api.Right{}
	for _, x := range list {
		out = append(out, api.Right{Resource: x.Resource, Operation: x.Operation, For: x.For, Granted: x.Granted})
	}
	return out, nil
}

func (s *Server) addCluster(r *http.Request) (any, error) {
	req, err := body[api.ClusterAdd](r)
	if err != nil {
		return nil, err
	}
	c, err := s.opts.Admin.AddCluster(r.Context(), controller.ClusterSpec{
		Name: req.Name, Bootstrap: req.Bootstrap, Region: req.Region, Zone: req.Zone, Config: req.Config})
	if err != nil {
		return nil, err
	}
	v := clusterView(&c, s.opts.Watcher.Snapshot(), nil)
	ctx, cancel := context.WithTimeout(r.Context(), healthLimit)
	defer cancel()
	if h, err := s.opts.Admin.ClusterHealth(ctx, c.Name); err == nil {
		v.Health, v.Detail = "up", h.Detail
	}
	return v, nil
}

func (s *Server) removeCluster(r *http.Request) (any, error) {
	return struct{}{}, s.opts.Admin.RemoveCluster(r.Context(), r.PathValue("name"))
}

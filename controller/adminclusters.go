package controller

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// ClusterNames says what the name of a cluster may be.
const ClusterNames = "lower-case letters, digits, '.', '_' and '-', at most 63"

// IsClusterName tells whether a cluster may have the name.
func IsClusterName(name string) bool { return clusterName.MatchString(name) }

var clusterName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// dialTimeout bounds connecting to a cluster that is to be added.
const dialTimeout = 15 * time.Second

// AddCluster connects to a cluster, pins who it is, looks at what it grants and
// adds it. A cluster that is in the catalog under another name is refused.
func (a *Admin) AddCluster(ctx context.Context, spec ClusterSpec) (catalog.Cluster, error) {
	if spec.Kind == "" {
		spec.Kind = catalog.KindKafka
	}
	c := catalog.Cluster{Name: spec.Name, Kind: spec.Kind, State: catalog.ClusterActive, Region: spec.Region, Zone: spec.Zone,
		Bootstrap: spec.Bootstrap, Config: spec.Config, Dir: spec.Dir, Owner: spec.Owner, Internal: spec.Internal, Added: time.Now().UTC()}
	switch {
	case !IsClusterName(c.Name):
		return c, refuse(Invalid, ClusterNames, "%q is no name for a cluster", c.Name)
	case c.Kind == catalog.KindKafka && len(c.Bootstrap) == 0:
		return c, refuse(Invalid, "--bootstrap HOST:PORT,…", "cluster %s: no bootstrap servers given", c.Name)
	case c.Kind != catalog.KindKafka && c.Kind != catalog.KindLocal:
		return c, refuse(Invalid, "kafka or local", "cluster %s: unknown kind %q", c.Name, c.Kind)
	}
	s, err := a.Watcher.Refresh(ctx)
	if err != nil {
		return c, requestError(err, "catalog")
	}
	if s.Cluster(c.Name) != nil {
		return c, refuse(Exists, "braid cluster describe "+c.Name, "cluster %s exists", c.Name)
	}
	if at := gatewayAmong(s, c.Bootstrap); at != "" {
		return c, refuse(Refused, ownHint, "%s is a gateway of this fleet", at)
	}
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	st, err := a.Dial(dctx, c)
	if err != nil {
		return c, dialError(c.Name, err)
	}
	h, herr := firstHealth(dctx, st)
	if err := st.Close(); err != nil {
		a.Logger.Debug("close of a cluster that was looked at", "err", err)
	}
	if herr != nil {
		return c, dialError(c.Name, herr)
	}
	if !h.Writable {
		return c, refuse(Refused, h.Detail, "cluster %s takes no appends from us", c.Name)
	}
	if a.isOurs(s, h.ClusterID) {
		return c, refuse(Refused, ownHint, "what answers there is this fleet itself: its cluster id is %s", h.ClusterID)
	}
	for _, other := range s.Clusters() {
		if h.ClusterID != "" && other.ClusterID == h.ClusterID {
			return c, refuse(Exists, "braid cluster describe "+other.Name, "this cluster is in the fleet already, as %s", other.Name)
		}
	}
	c.ClusterID, c.CanSeal = h.ClusterID, h.CanSeal
	c, err = a.Catalog.PutCluster(ctx, c, catalog.Fence{})
	if err != nil {
		return c, requestError(err, "cluster "+c.Name)
	}
	if _, err := a.Watcher.RevisionAtLeast(ctx, c.Revision); err != nil {
		a.Logger.Debug("refresh after a cluster was added", "err", err)
	}
	return c, nil
}

// ownHint: a fleet that stands behind itself makes topics of topics without end.
const ownHint = "--bootstrap takes the brokers of a Kafka cluster"

// gatewayAmong finds an address at which clients reach a gateway of the fleet; "" if there is none.
func gatewayAmong(s *catalog.Snapshot, addresses []string) string {
	for _, g := range s.Gateways() {
		for i := range g.Listeners {
			if a := g.Listeners[i].Advertise; slices.Contains(addresses, a) {
				return a
			}
		}
	}
	return ""
}

// isOurs tells whether a cluster id is what the fleet tells its clients, of whichever tenant.
func (a *Admin) isOurs(s *catalog.Snapshot, id string) bool {
	return id == a.Catalog.ClusterID() || id != "" && slices.ContainsFunc(s.Tenants(), func(t *catalog.Tenant) bool { return t.ClusterID == id })
}

// firstHealth asks a cluster until it has told whether it grants a seal: what is
// recorded of that decides for good how topics move away from it.
func firstHealth(ctx context.Context, st span.Store) (span.Health, error) {
	for {
		h, err := st.Health(ctx)
		if err != nil || !h.SealUnknown {
			return h, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return h, fmt.Errorf("%w: it did not say whether it lets its topics be sealed (ALTER_CONFIGS): %w", span.ErrUnavailable, err)
		}
	}
}

func dialError(name string, err error) error {
	var req *RequestError
	if errors.As(err, &req) {
		return err
	}
	problem := Invalid // the client's options, as a rule
	switch {
	case errors.Is(err, span.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		problem = Unavailable
	case errors.Is(err, span.ErrDenied):
		problem = Refused
	}
	// Stores say which cluster they speak of, what is below them does not.
	text, head := err.Error(), "cluster "+name+": "
	if !strings.HasPrefix(text, head) {
		text = head + text
	}
	hint := ""
	if problem == Unavailable {
		hint = "is it up, and reachable from the process that serves the admin API? braid cluster add takes its address by --bootstrap, security.protocol and the like by --config"
	}
	return &RequestError{Problem: problem, Message: text, Hint: hint, Err: err}
}

// ClusterHealth asks a cluster how it is.
func (a *Admin) ClusterHealth(ctx context.Context, name string) (span.Health, error) {
	s := a.Watcher.Snapshot()
	if s.Cluster(name) == nil {
		return span.Health{}, unknownCluster(s, name)
	}
	st, err := a.Stores.Store(name)
	if err != nil {
		return span.Health{}, requestError(err, "cluster "+name)
	}
	h, err := st.Health(ctx)
	return h, requestError(err, "cluster "+name)
}

// ClusterRights tells which of the rights that Braid needs a cluster grants; none
// are needed on one that is no Kafka cluster.
func (a *Admin) ClusterRights(ctx context.Context, name string) ([]span.Right, error) {
	s := a.Watcher.Snapshot()
	if s.Cluster(name) == nil {
		return nil, unknownCluster(s, name)
	}
	st, err := a.Stores.Store(name)
	if err != nil {
		return nil, requestError(err, "cluster "+name)
	}
	asks, ok := st.(span.Rights)
	if !ok {
		return nil, nil
	}
	list, err := asks.Rights(ctx)
	return list, requestError(err, "cluster "+name)
}

// RemoveCluster forgets a cluster that no chain and no extend needs.
func (a *Admin) RemoveCluster(ctx context.Context, name string) error {
	s, err := a.Watcher.Refresh(ctx)
	if err != nil {
		return requestError(err, "catalog")
	}
	c := s.Cluster(name)
	if c == nil {
		return unknownCluster(s, name)
	}
	needed := func(s *catalog.Snapshot) error {
		if t, p := firstOn(s, name); t != nil {
			return stillNeeded(s, name, t, p)
		}
		for e := range s.Extends() {
			if e.Target == name {
				return refuse(Busy, "braid op watch "+e.Op, "topic %s is being moved to cluster %s", e.Topic.Name, name)
			}
		}
		return nil
	}
	if err := needed(s); err != nil {
		return err
	}
	// Nothing new is placed there from here on; what was placed meanwhile is seen
	// by the second look.
	marked := *c
	marked.State, marked.Before = catalog.ClusterDraining, ""
	if marked, err = a.Catalog.PutCluster(ctx, marked, catalog.Fence{}); err != nil {
		return requestError(err, "cluster "+name)
	}
	if s, err = a.Watcher.Refresh(ctx); err != nil {
		return requestError(err, "catalog")
	}
	if err := needed(s); err != nil {
		return err
	}
	return requestError(a.Catalog.DeleteCluster(ctx, name, marked.Revision), "cluster "+name)
}

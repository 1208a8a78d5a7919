package controller

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/internal/nearest"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// AdminOptions configure an [Admin].
type AdminOptions struct {
	Catalog *catalog.Catalog
	Watcher *catalog.Watcher
	Stores  chain.Stores
	// Dial connects to a cluster that is not in the catalog yet; the caller closes
	// the store.
	Dial   func(ctx context.Context, c catalog.Cluster) (span.Store, error)
	Logger *slog.Logger
	// MaxTopics and MaxPartitions bound what a tenant makes that has no limit of its own of either: all are in one
	// catalog. 0 is 20,000 and 200,000.
	MaxTopics, MaxPartitions int64
}

// Admin checks what operators and clients ask for and writes it to the catalog.
// Every process has one; all methods may be called concurrently.
type Admin struct {
	AdminOptions
	loads  *loads
	keys   []gateway.ConfigKey
	making admissions
}

// NewAdmin makes an Admin; Close it.
func NewAdmin(o AdminOptions) *Admin {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.MaxTopics, o.MaxPartitions = cmp.Or(o.MaxTopics, 20_000), cmp.Or(o.MaxPartitions, 200_000)
	a := &Admin{AdminOptions: o, loads: watchLoads(o.Watcher)}
	for i := range topicConfigs {
		a.keys = append(a.keys, topicConfigs[i].ConfigKey)
	}
	return a
}

// Close ends the Admin's watching. It has no goroutines.
func (a *Admin) Close() { a.loads.close() }

// ConfigKeys lists the topic configs that exist, sorted by name; not to be changed.
func (a *Admin) ConfigKeys() []gateway.ConfigKey { return a.keys }

// undoTimeout bounds the cleaning up after a failure.
const undoTimeout = 5 * time.Second

// CreateTopic makes a topic on the cluster that placement chooses.
func (a *Admin) CreateTopic(ctx context.Context, spec gateway.TopicSpec) (catalog.Topic, error) {
	return a.CreateTopicOn(ctx, spec, "")
}

// CreateTopicOn makes a topic on a named cluster; "" lets placement choose. The
// physical topic comes first: a failure in between leaves one that nothing refers
// to, for the sweep.
func (a *Admin) CreateTopicOn(ctx context.Context, spec gateway.TopicSpec, cluster string) (catalog.Topic, error) {
	s := a.Watcher.Snapshot()
	fromClient := spec.Config[ConfigCluster] != "" && cluster == ""
	spec.Config = tenantConfig(s, spec.Tenant, spec.Config)
	t := catalog.Topic{Tenant: spec.Tenant, Name: spec.Name, Partitions: spec.Partitions, Config: maps.Clone(spec.Config)}
	if err := checkConfigs(spec.Config); err != nil {
		return t, err
	}
	if spec.Partitions < 1 || spec.Partitions > maxPartitions {
		return t, rejected(wire.InvalidPartitions, "%d partitions: want 1 to %d", spec.Partitions, maxPartitions)
	}
	if cluster == "" {
		cluster = spec.Config[ConfigCluster]
	}
	if s.TopicByName(spec.Tenant, spec.Name) != nil {
		return t, rejected(wire.TopicAlreadyExists, "topic %s already exists", spec.Name)
	}
	if fromClient && (!mayUse(s, spec.Tenant, cluster) || spec.Tenant != catalog.DefaultTenant && s.Cluster(cluster) == nil) {
		// The same for one that is not there as for one that is not theirs.
		return t, rejected(wire.PolicyViolation, "%s %q is not open to this cluster's topics", ConfigCluster, cluster)
	}
	c, err := a.target(s, spec.Tenant, cluster)
	switch {
	case err != nil && fromClient && spec.Tenant == catalog.DefaultTenant:
		return t, rejected(wire.PolicyViolation, "%s: %v", ConfigCluster, err)
	case err != nil && fromClient:
		return t, rejected(wire.PolicyViolation, "%s %q takes no new topics now", ConfigCluster, cluster)
	case err != nil:
		return t, err
	}
	release, err := a.admit(ctx, spec.Tenant, spec.Name, int64(spec.Partitions))
	if err != nil {
		return t, err
	}
	defer release()
	if spec.ValidateOnly {
		return t, nil
	}
	st, err := a.Stores.Store(c.Name)
	if err != nil {
		return t, err
	}
	name := physicalName(a.Catalog.Fleet(), spec.Tenant, spec.Name)
	made, err := createPhysical(ctx, st, span.Spec{Name: name, Partitions: spec.Partitions,
		Config: physicalConfig(spec.Config, c.Kind, false)})
	if err != nil {
		return t, requestError(err, "cluster "+c.Name)
	}
	now := time.Now().UTC()
	created, err := a.Catalog.CreateTopic(ctx, t, freshChains(c.Name, made, 0, spec.Partitions, now))
	if err == nil {
		// The caller's own next request must see it.
		if _, rerr := a.Watcher.RefreshTopic(ctx, t.Tenant, created.ID); rerr != nil {
			a.Logger.Debug("refresh after a topic was created", "err", rerr)
		}
		return created, nil
	}
	if !errors.Is(err, catalog.ErrUnavailable) { // else it may be there
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if derr := st.Delete(undo, made); derr != nil {
			a.Logger.Warn("physical topic is left for the sweep", "cluster", c.Name, "topic", name, "err", derr)
		}
	}
	if errors.Is(err, catalog.ErrExists) {
		return t, rejected(wire.TopicAlreadyExists, "topic %s already exists", spec.Name)
	}
	return t, err
}

// maxPartitions bounds a topic.
const maxPartitions = 100_000

func freshChains(cluster string, t span.Topic, from, to int32, at time.Time) []catalog.Chain {
	out := make([]catalog.Chain, 0, to-from)
	for p := from; p < to; p++ {
		out = append(out, chain.New(catalog.Copy{Cluster: cluster, Topic: t.Name, TopicID: t.ID, Partition: p}, 0, at))
	}
	return out
}

// target finds the cluster for new spans of a tenant.
func (a *Admin) target(s *catalog.Snapshot, tenant, cluster string) (*catalog.Cluster, error) {
	if cluster == "" {
		cluster = place(candidates(s, a.loads), "", placementOf(s, tenant)...)
		if cluster == "" {
			return nil, noCluster(s, placementOf(s, tenant))
		}
	}
	c := s.Cluster(cluster)
	switch {
	case c == nil:
		return nil, unknownCluster(s, cluster)
	case !mayUse(s, tenant, cluster):
		return nil, refuse(Refused, "braid tenant set "+tenant+" --clusters widens it", "cluster %s is not in the placement of tenant %s", cluster, tenant)
	case c.State != catalog.ClusterActive:
		hint := "braid cluster list"
		if c.State == catalog.ClusterFailed {
			hint = backText(c)
		}
		return nil, refuse(Refused, hint, "cluster %s is %s and takes no new spans", c.Name, c.State)
	}
	return c, nil
}

// noCluster says of each cluster that a topic might be on why it takes none, to
// operators. Clients get no name of one, and a code with which they ask again.
func noCluster(s *catalog.Snapshot, only []string) error {
	var why []string
	hint := "braid cluster list"
	for _, c := range s.Clusters() {
		if len(only) > 0 && !slices.Contains(only, c.Name) {
			continue
		}
		if w := takesNothing(s, c); w != "" {
			why = append(why, w)
		}
		if c.State == catalog.ClusterFailed && !votedDown(s, c.Name) {
			hint = backText(c)
		}
	}
	message := "no cluster takes new topics"
	if len(why) > 0 {
		message += ": " + firstNames(why)
	}
	return &RequestError{Problem: Refused, Message: message, Hint: hint,
		Err: rejected(wire.RequestTimedOut, "No cluster takes new topics at the moment: ask again later")}
}

// backText says how a failed cluster comes into use again.
func backText(c *catalog.Cluster) string {
	command := "braid failback " + c.Name
	if c.Before != "" {
		return "it is " + string(c.Before) + " again by itself when it has answered for a while and its records are taken in; " + command + " does so at once"
	}
	return command + " brings it back into use"
}

// FailedText is the warning for a failed cluster that is not down; "" for others.
func FailedText(s *catalog.Snapshot, c *catalog.Cluster) string {
	if c.State != catalog.ClusterFailed || votedDown(s, c.Name) || len(opinions(s, c.Name)) == 0 {
		return ""
	}
	return "cluster " + c.Name + " answers and is failed, so it takes no new topics: " + backText(c)
}

func unknownCluster(s *catalog.Snapshot, name string) error {
	hint := "braid cluster list"
	if n := nearest.Name(name, clusterNames(s)); n != "" {
		hint = "did you mean " + n + "?"
	}
	return refuse(Unknown, hint, "no cluster %q", name)
}

func unknownTopic(s *catalog.Snapshot, tenant, name string) error {
	var names []string
	for t := range s.Topics(tenant) {
		if names = append(names, t.Name); len(names) >= 10_000 {
			break
		}
	}
	hint := "braid topic list"
	if n := nearest.Name(name, names); n != "" {
		hint = "did you mean " + n + "?"
	}
	return refuse(Unknown, hint, "no topic %q", name)
}

// DeleteTopic takes the topic's name away; the leading controller seals and
// deletes what is behind it.
func (a *Admin) DeleteTopic(ctx context.Context, tenant string, id catalog.ID) error {
	for {
		t, err := a.Catalog.Topic(ctx, tenant, id)
		if err != nil {
			if errors.Is(err, catalog.ErrNotFound) {
				return rejected(wire.UnknownTopicOrPartition, "no such topic")
			}
			return err
		}
		if t.Deleting {
			return nil
		}
		if _, err = a.Catalog.MarkDeleting(ctx, t); err == nil {
			if _, rerr := a.Watcher.RefreshTopic(ctx, tenant, id); rerr != nil {
				a.Logger.Debug("refresh after a topic was deleted", "err", rerr)
			}
			return nil
		}
		if !errors.Is(err, catalog.ErrConflict) {
			return err
		}
	}
}

// growRetry is how long growing waits for an extend that is under way.
const growRetry = 50 * time.Millisecond

// GrowTopic raises the number of partitions. While the topic is being extended it
// waits, as long as ctx allows.
func (a *Admin) GrowTopic(ctx context.Context, spec gateway.GrowSpec) error {
	var last error
	for {
		err := a.growTopic(ctx, spec)
		if ctx.Err() != nil && last != nil {
			err = last // what it waited for tells more than that the time is up
		}
		if !errors.Is(err, catalog.ErrConflict) && !errors.Is(err, catalog.ErrExists) {
			return err
		}
		last = err
		select {
		case <-ctx.Done():
			return requestError(err, "topic "+spec.Name)
		case <-time.After(growRetry):
		}
	}
}

func (a *Admin) growTopic(ctx context.Context, spec gateway.GrowSpec) error {
	t, err := a.Catalog.TopicNamed(ctx, spec.Tenant, spec.Name)
	if err != nil {
		if errors.Is(err, catalog.ErrNotFound) {
			return rejected(wire.UnknownTopicOrPartition, "no such topic")
		}
		return err
	}
	switch {
	case spec.Total <= t.Partitions:
		return rejected(wire.InvalidPartitions, "topic has %d partitions, which would not be an increase to %d", t.Partitions, spec.Total)
	case spec.Total > maxPartitions:
		return rejected(wire.InvalidPartitions, "%d partitions: want at most %d", spec.Total, maxPartitions)
	}
	t, pages, err := a.Catalog.Chains(ctx, t.Tenant, t.ID)
	if err != nil {
		return err
	}
	open := openTopics(chainsOf(pages))
	if len(open) != 1 {
		return refuse(Refused, "move the topic to one cluster first", "the partitions of topic %s are on %d physical topics", t.Name, len(open))
	}
	release, err := a.admit(ctx, t.Tenant, t.Name, int64(spec.Total))
	if err != nil {
		return err
	}
	defer release()
	if spec.ValidateOnly {
		return nil
	}
	// Refused before anything is made; the catalog's own guard decides in the end.
	if e, err := a.Catalog.Extend(ctx, t.Tenant, t.ID); err == nil {
		return &catalog.BusyError{Op: e.Op, Topic: t.Name}
	} else if !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	st, err := a.Stores.Store(open[0].Cluster)
	if err != nil {
		return err
	}
	pt := storeTopic(open[0])
	if err := st.AddPartitions(ctx, pt, spec.Total); err != nil {
		return requestError(err, "cluster "+open[0].Cluster)
	}
	if _, err = a.Catalog.GrowTopic(ctx, t, freshChains(open[0].Cluster, pt, t.Partitions, spec.Total, time.Now().UTC())); err != nil {
		return err
	}
	if _, rerr := a.Watcher.RefreshTopic(ctx, t.Tenant, t.ID); rerr != nil {
		a.Logger.Debug("refresh after a topic grew", "err", rerr)
	}
	return nil
}

func chainsOf(pages []catalog.Page) []*catalog.Chain {
	var out []*catalog.Chain
	for i := range pages {
		for j := range pages[i].Chains {
			out = append(out, &pages[i].Chains[j])
		}
	}
	return out
}

// AlterConfig changes the configs of a topic, and of its open physical topic as
// far as it has them. The physical one comes first: it must take what the
// gateways will then accept.
func (a *Admin) AlterConfig(ctx context.Context, alter gateway.ConfigAlter) error {
	for {
		t, err := a.Catalog.TopicNamed(ctx, alter.Tenant, alter.Name)
		if errors.Is(err, catalog.ErrNotFound) {
			if _, err := applyConfigChanges(nil, alter.Replace, alter.Changes); err != nil {
				return err
			}
			return rejected(wire.UnknownTopicOrPartition, "no such topic")
		} else if err != nil {
			return err
		}
		next, err := applyConfigChanges(t.Config, alter.Replace, alter.Changes)
		if err != nil || alter.ValidateOnly {
			return err
		}
		if maps.Equal(next, t.Config) {
			return nil
		}
		if err := a.configurePhysical(ctx, t, next); err != nil {
			return err
		}
		t.Config = next
		if _, err = a.Catalog.UpdateTopic(ctx, t); err == nil {
			if _, rerr := a.Watcher.RefreshTopic(ctx, t.Tenant, t.ID); rerr != nil {
				a.Logger.Debug("refresh after configs were altered", "err", rerr)
			}
			return nil
		}
		if !errors.Is(err, catalog.ErrConflict) {
			return err
		}
	}
}

// SetConfig sets configs of a topic and leaves the others.
func (a *Admin) SetConfig(ctx context.Context, tenant, topic string, config map[string]string) error {
	alter := gateway.ConfigAlter{Tenant: tenant, Name: topic}
	for k, v := range config {
		alter.Changes = append(alter.Changes, gateway.ConfigChange{Key: k, Op: gateway.ConfigSet, Value: v})
	}
	return a.AlterConfig(ctx, alter)
}

func (a *Admin) configurePhysical(ctx context.Context, t catalog.Topic, next map[string]string) error {
	s := a.Watcher.Snapshot()
	for _, p := range openTopics(s.Chains(t.ID)) {
		c := s.Cluster(p.Cluster)
		if c == nil {
			continue
		}
		was, is := physicalConfig(t.Config, c.Kind, false), physicalConfig(next, c.Kind, false)
		changed := map[string]string{}
		for k, v := range is {
			if was[k] != v {
				changed[k] = v
			}
		}
		if holdsTombstones(s.Chains(t.ID), next) {
			delete(changed, "delete.retention.ms")
		}
		if len(changed) == 0 {
			continue
		}
		st, err := a.Stores.Store(p.Cluster)
		if err != nil {
			return err
		}
		if err := st.Configure(ctx, storeTopic(p), changed); err != nil {
			return requestError(err, "cluster "+p.Cluster)
		}
	}
	return nil
}

// holdsTombstones is the tombstone rule: while a compacted topic has a span
// before its open one, which may hold a key that was deleted since, the open
// one keeps its tombstones.
func holdsTombstones(chains []*catalog.Chain, config map[string]string) bool {
	if !isCompacted(config) {
		return false
	}
	for _, ch := range chains {
		// What is gone has no keys any more.
		if n := len(ch.Spans); slices.ContainsFunc(ch.Spans[:max(n-1, 0)], func(sp catalog.Span) bool { return !chain.LostForGood(&sp) }) {
			return true
		}
	}
	return false
}

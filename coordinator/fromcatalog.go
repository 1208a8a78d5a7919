package coordinator

import (
	"cmp"
	"context"
	"slices"

	"github.com/braidstream/braid/catalog"
)

// CatalogLeases claims under a gateway's session.
func CatalogLeases(c *catalog.Catalog, s *catalog.Session) Leases { return catalogLeases{c, s} }

type catalogLeases struct {
	c *catalog.Catalog
	s *catalog.Session
}

func (l catalogLeases) Lease() int64 { return l.s.Lease() }

// Alive asks for the lease last: it never becomes an earlier one again, so what was
// alive before was this one.
func (l catalogLeases) Alive(lease int64) bool { return l.s.Alive() && l.s.Lease() == lease }

func (l catalogLeases) ClaimShard(ctx context.Context, number int32) (catalog.Shard, error) {
	return l.c.ClaimShard(ctx, l.s, number)
}

func (l catalogLeases) SetShardReady(ctx context.Context, s catalog.Shard) (catalog.Shard, error) {
	return l.c.SetShardReady(ctx, s, true)
}

func (l catalogLeases) SetShardHolds(ctx context.Context, s catalog.Shard) error {
	return l.c.SetShardHolds(ctx, s)
}

func (l catalogLeases) ReleaseShard(ctx context.Context, s catalog.Shard) error {
	return l.c.ReleaseShard(ctx, s)
}

func (l catalogLeases) ProducerIDs(ctx context.Context, n int64) ([]int64, error) {
	return l.c.ProducerIDs(ctx, n)
}

// CatalogDirectory follows a watcher.
func CatalogDirectory(w *catalog.Watcher) Directory { return catalogDirectory{w} }

type catalogDirectory struct{ w *catalog.Watcher }

func (d catalogDirectory) Revision() int64 { return d.w.Snapshot().Revision() }

func (d catalogDirectory) Gateways() []int32 {
	all := d.w.Snapshot().Gateways()
	nodes := make([]int32, 0, len(all))
	for _, g := range all {
		if !g.Draining {
			nodes = append(nodes, g.Node)
		}
	}
	return nodes
}

func (d catalogDirectory) Shard(number int32) (catalog.Shard, bool) {
	s := d.w.Snapshot().Shard(number)
	if s == nil {
		return catalog.Shard{}, false
	}
	return *s, true
}

func (d catalogDirectory) TopicByName(tenant, name string) (catalog.Topic, bool) {
	return topicOf(d.w.Snapshot().TopicByName(tenant, name))
}

func (d catalogDirectory) TopicByID(id catalog.ID) (catalog.Topic, bool) {
	return topicOf(d.w.Snapshot().TopicByID(id))
}

func (d catalogDirectory) TopicNames(tenant string, yield func(name string) bool) {
	for t := range d.w.Snapshot().Topics(tenant) {
		if !t.Deleting && !yield(t.Name) {
			return
		}
	}
}

func (d catalogDirectory) GroupConfig(tenant, group string) map[string]string {
	if g := d.w.Snapshot().GroupConfig(tenant, group); g != nil {
		return g.Config
	}
	return nil
}

func topicOf(t *catalog.Topic) (catalog.Topic, bool) {
	if t == nil {
		return catalog.Topic{}, false
	}
	return *t, true
}

func (d catalogDirectory) Refresh(ctx context.Context) error {
	_, err := d.w.Refresh(ctx)
	return err
}

func (d catalogDirectory) OnChange(fn func(Change)) func() {
	return d.w.OnChange(func(c catalog.Change) {
		ch := Change{Owners: c.Gateways || c.Shards}
		for _, id := range c.Topics {
			was, is := c.Old.TopicByID(id), c.New.TopicByID(id)
			// Only a topic that is marked is being deleted for sure: one that is not
			// there may be behind in the watch. Expiry finds the others.
			if is != nil && is.Deleting && (was == nil || !was.Deleting) {
				ch.Removed = append(ch.Removed, *is)
			}
			// What changes with a move is not in the topic.
			if was == nil || is == nil || was.Deleting != is.Deleting || was.Partitions != is.Partitions {
				if t := cmp.Or(is, was); t != nil && !slices.Contains(ch.Topics, t.Tenant) {
					ch.Topics = append(ch.Topics, t.Tenant)
				}
			}
		}
		if ch.Owners || len(ch.Removed) > 0 || len(ch.Topics) > 0 {
			fn(ch)
		}
	})
}

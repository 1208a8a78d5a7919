package controller

import (
	"context"
	"fmt"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/coordinator"
)

// What coordinator shards wait for. One whose log cannot be read as a whole does not answer, since it would take for new
// what it has commits and transactions of. That happens if no gateway lived on that had the shard in memory when
// the log's cluster was lost.

// ofShards tells the topic that holds the logs of the coordinators' shards.
func ofShards(t *catalog.Topic) bool {
	return t.Tenant == catalog.SystemTenant && t.Name == coordinator.TopicName
}

// ShardsWaiting counts the coordinator shards that do not answer until a cluster that is away is back, or what
// it has of their logs is given up; of is how many shards there are.
func ShardsWaiting(s *catalog.Snapshot, cluster string) (waiting, of int) {
	t := s.TopicByName(catalog.SystemTenant, coordinator.TopicName)
	if t == nil {
		return 0, 0
	}
	for p, ch := range s.Chains(t.ID) {
		if waitsFor(s, int32(p), ch, cluster) > 0 {
			waiting++
		}
	}
	return waiting, int(t.Partitions)
}

// waitsFor is up to where a shard's log is missing with a cluster while the shard waits for that; 0 if it does not.
func waitsFor(s *catalog.Snapshot, number int32, ch *catalog.Chain, cluster string) int64 {
	if sh := s.Shard(number); sh == nil || sh.Ready || sh.Empty {
		return 0
	}
	return chain.Missing(ch, cluster)
}

// ShardsText says of a cluster that coordinator shards wait for it, and what an operator can do about it; "" if none do.
func ShardsText(s *catalog.Snapshot, cluster string) string {
	waiting, of := ShardsWaiting(s, cluster)
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf("groups and transactional ids in %d of %d coordinator shards wait for cluster %s, which has a part of these shards' logs: "+
		"they go on by themselves when the cluster is back; braid failover %s --force gives that part up, with the commits in it, and with --dry-run says first what that costs",
		waiting, of, cluster, cluster)
}

// giveUp has the shards that wait for a cluster go on without what it has of their logs, and without what lies before that.
func (t *term) giveUp(ctx context.Context, cluster string) error {
	s, err := t.o.Watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	topic := s.TopicByName(catalog.SystemTenant, coordinator.TopicName)
	if topic == nil {
		return nil
	}
	ref := catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}
	return t.changeChains(ctx, ref, func(p int32, ch *catalog.Chain) bool {
		before := waitsFor(s, p, ch, cluster)
		if before == 0 {
			return false
		}
		*ch, _ = chain.Trim(ch, before)
		t.o.Logger.Warn("a part of a coordinator shard's log is given up by force", "shard", p, "cluster", cluster, "before", before)
		return true
	})
}

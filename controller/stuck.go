package controller

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
)

// failoverDue is how long a cluster may be called down before it is told that no failover has begun.
const failoverDue = 15 * time.Second

// Stuck tells on which clusters that are away a topic still appends although it is to go on without them, and why; none as a
// rule. ops are all operations, oldest first; nil: they are not known.
func Stuck(s *catalog.Snapshot, ops []catalog.Op, t *catalog.Topic) (out []Wait) {
	if !goesOn(t) || t.Deleting {
		return nil
	}
	chains := s.Chains(t.ID)
	for _, cluster := range openOn(chains) {
		c := s.Cluster(cluster)
		if c == nil || !votedDown(s, cluster) {
			continue
		}
		since := downSince(s, cluster)
		if c.State != catalog.ClusterFailed && time.Since(since) < failoverDue {
			continue
		}
		out = append(out, Wait{Cluster: cluster, Since: since, Partitions: openAt(chains, cluster), Reason: stuckReason(s, ops, t, c)})
	}
	return out
}

// stuckReason says why a topic is on a cluster yet without which it is to go on.
func stuckReason(s *catalog.Snapshot, ops []catalog.Op, t *catalog.Topic, c *catalog.Cluster) string {
	if e := s.Extend(t.ID); e != nil {
		return fmt.Sprintf("operation %s (%s) has it", e.Op, e.Kind)
	}
	if c.State != catalog.ClusterFailed {
		return "no failover of the cluster has begun (braid failover " + c.Name + " begins one)"
	}
	last := (*catalog.Op)(nil)
	for i := range ops { // oldest first
		if ops[i].Kind == catalog.OpFailover && ops[i].Cluster == c.Name && slices.ContainsFunc(ops[i].Topics, func(ref catalog.TopicRef) bool { return ref.ID == t.ID }) {
			last = &ops[i]
		}
	}
	if last != nil && !last.IsFinished() {
		return "operation " + last.ID + " is under way (braid op watch " + last.ID + " follows it)"
	}
	if id := cancelledFailovers(ops, c.Name)[t.ID]; id != "" {
		return "operation " + id + " was cancelled (braid failover " + c.Name + " begins another)"
	}
	if why := nothingTakesIt(s, t, c.Name); why != "" {
		return why + "; it goes on as soon as one does (braid cluster add adds one)"
	}
	if last != nil && last.State == catalog.OpFailed {
		return "operation " + last.ID + " failed, and is tried again: " + last.Message
	}
	return "it goes on within seconds"
}

// nothingTakesIt says why no cluster takes a topic's next span, cluster by cluster; "" if one does.
func nothingTakesIt(s *catalog.Snapshot, t *catalog.Topic, beside string) string {
	only := placementOf(s, t.Tenant)
	var why []string
	for _, c := range s.Clusters() {
		if c.Name == beside || len(only) > 0 && !slices.Contains(only, c.Name) {
			continue
		}
		w := takesNothing(s, c)
		if w == "" {
			return ""
		}
		why = append(why, w)
	}
	if len(why) == 0 {
		return "no other cluster is there for it"
	}
	return "no other cluster takes it: " + firstNames(why)
}

// takesNothing says why a cluster takes no new spans; "" if it does.
func takesNothing(s *catalog.Snapshot, c *catalog.Cluster) string {
	switch {
	case votedDown(s, c.Name):
		return c.Name + " is down"
	case c.State == catalog.ClusterFailed:
		return c.Name + " answers and is failed"
	case c.State != catalog.ClusterActive:
		return c.Name + " is " + string(c.State)
	case votedFull(s, c.Name):
		return c.Name + " is full"
	}
	return ""
}

// openAt counts the partitions that append to a cluster.
func openAt(chains []*catalog.Chain, cluster string) (n int) {
	for _, ch := range chains {
		if slices.Contains(openOn([]*catalog.Chain{ch}), cluster) {
			n++
		}
	}
	return n
}

// StuckTexts says in a line for each cluster that is away, and each reason, which topics are on it yet that are to go on without it.
func StuckTexts(s *catalog.Snapshot, ops []catalog.Op) (out []string) {
	if !anyDown(s) {
		return nil
	}
	type why struct{ cluster, reason string }
	names := map[why][]string{}
	for t := range s.AllTopics() {
		for _, w := range Stuck(s, ops, t) {
			k := why{w.Cluster, w.Reason}
			names[k] = append(names[k], t.Name)
		}
	}
	keys := make([]why, 0, len(names))
	for k := range names {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b why) int {
		return cmp.Or(cmp.Compare(a.cluster, b.cluster), cmp.Compare(a.reason, b.reason))
	})
	for _, k := range keys {
		list := names[k]
		slices.Sort(list)
		out = append(out, topicCount(len(list), " that goes on without its cluster is still on ", " that go on without their cluster are still on ")+k.cluster+
			", away since "+downSince(s, k.cluster).Format(time.RFC3339)+" ("+firstNames(list)+"): "+k.reason)
	}
	return out
}

// anyDown tells whether a cluster is called down at all.
func anyDown(s *catalog.Snapshot) bool {
	return slices.ContainsFunc(s.Clusters(), func(c *catalog.Cluster) bool { return votedDown(s, c.Name) })
}

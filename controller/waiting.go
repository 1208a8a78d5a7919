package controller

import (
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
)

// Wait is a cluster that is away and that a topic waits for: its guarantee is `ordered`, so its appends go on
// when the cluster is back, or when an operator forces a failover.
type Wait struct {
	Cluster    string
	Since      time.Time // when the first of the gateways that call it down came to that
	Partitions int       // that take appends there
	Reason     string    // of a topic that is to go on, why it does not; see [Stuck]
}

// Waits tells which clusters a topic waits for; none as a rule.
func Waits(s *catalog.Snapshot, t *catalog.Topic) (out []Wait) {
	if goesOn(t) || t.Deleting {
		return nil
	}
	chains := s.Chains(t.ID)
	for _, cluster := range openOn(chains) {
		if !votedDown(s, cluster) {
			continue
		}
		out = append(out, Wait{Cluster: cluster, Since: downSince(s, cluster), Partitions: openAt(chains, cluster)})
	}
	return out
}

// Waiting lists for each cluster that is away the topics that wait for it, by name.
func Waiting(s *catalog.Snapshot) map[string][]string {
	if !anyDown(s) {
		return nil
	}
	out := map[string][]string{}
	for t := range s.AllTopics() {
		for _, w := range Waits(s, t) {
			out[w.Cluster] = append(out[w.Cluster], t.Name)
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// downSince is when the first of the gateways that call a cluster down came to that.
func downSince(s *catalog.Snapshot, cluster string) (since time.Time) {
	for _, v := range opinions(s, cluster) {
		if !v.up && (since.IsZero() || v.since.Before(since)) {
			since = v.since
		}
	}
	return since.UTC().Truncate(time.Second)
}

// WaitText says of topics that wait for a cluster that they do, and what an operator can do about it.
func WaitText(s *catalog.Snapshot, cluster string, topics []string) string {
	return topicCount(len(topics), " with braid.guarantee=ordered waits for cluster ", " with braid.guarantee=ordered wait for cluster ") + cluster +
		", away since " + downSince(s, cluster).Format(time.RFC3339) + " (" + firstNames(topics) + "): " + WaitHint(cluster)
}

// WaitHint says what ends the waiting for a cluster.
func WaitHint(cluster string) string {
	return "it goes on by itself when the cluster is back; braid failover " + cluster +
		" --force goes on elsewhere without it, and with --dry-run says first what that costs"
}

package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
)

// What of the chains still needs a cluster: for who drains it, describes it, or wants to remove it.

// stillNeeded says why a cluster that holds records of a topic cannot be removed, and what is to be
// done or waited for. To move off what takes appends there is not the end of it: sealed records stay until
// retention lets them go.
func stillNeeded(s *catalog.Snapshot, cluster string, t *catalog.Topic, partition int32) error {
	if slices.ContainsFunc(slices.Collect(s.AllTopics()), func(t *catalog.Topic) bool {
		return !t.Deleting && slices.Contains(openOn(s.Chains(t.ID)), cluster)
	}) {
		return refuse(Refused, "braid cluster drain "+cluster+" moves off it what takes appends there, then says what must be kept until when",
			"cluster %s holds records of topic %s, partition %d", cluster, t.Name, partition)
	}
	kept, last, forever, deleting := 0, time.Time{}, 0, 0
	for t := range s.AllTopics() {
		k, ok := keptOn(t, s.Chains(t.ID), cluster)
		switch {
		case !ok:
		case t.Deleting:
			deleting++
		case t.Tenant != catalog.SystemTenant && k.Until.IsZero():
			kept, forever = kept+1, forever+1
		default:
			if kept++; k.Until.After(last) {
				last = k.Until
			}
		}
	}
	if kept == 0 {
		return refuse(Busy, "try again in a moment", "cluster %s holds records of topic %s, which is being deleted", cluster, t.Name)
	}
	text := fmt.Sprintf("cluster %s takes no appends, and holds records of topic %s, partition %d, in sealed spans", cluster, t.Name, partition)
	if kept > 1 {
		text += fmt.Sprintf(" (%d topics in all)", kept)
	}
	switch {
	case forever > 0:
		text += fmt.Sprintf(": %s kept until deleted, for nothing in the retention lets go of what is there", topicCount(forever, " is", " are"))
	case last.IsZero():
		text += ": they are kept until the coordinators have written what they need of it elsewhere"
	default:
		text += ": retention lets the last of them go at " + last.Format("2006-01-02 15:04:05 MST")
	}
	return refuse(Refused, "braid cluster describe "+cluster+" lists each topic and until when; what is not wanted any more goes with braid topic delete", "%s", text)
}

// firstOn finds a topic that has a copy on the cluster which is not gone there, and its first such
// partition: the first by name, internal ones last. nil if there is none.
func firstOn(s *catalog.Snapshot, cluster string) (first *catalog.Topic, partition int32) {
	for t := range s.AllTopics() {
		if first != nil && !comesBefore(t, first) {
			continue
		}
		on := slices.IndexFunc(s.Chains(t.ID), func(ch *catalog.Chain) bool {
			return slices.ContainsFunc(ch.Spans, func(sp catalog.Span) bool {
				return slices.ContainsFunc(sp.Copies, func(c catalog.Copy) bool { return c.Cluster == cluster && !c.Gone })
			})
		})
		if on >= 0 {
			first, partition = t, int32(on)
		}
	}
	return first, partition
}

func comesBefore(a, b *catalog.Topic) bool {
	if system := a.Tenant == catalog.SystemTenant; system != (b.Tenant == catalog.SystemTenant) {
		return !system
	}
	return a.Name < b.Name
}

// Kept lists what must stay on a cluster, and until when, for cluster describe
// and drain.
func (a *Admin) Kept(_ context.Context, name string) ([]Kept, error) {
	s := a.Watcher.Snapshot()
	if s.Cluster(name) == nil {
		return nil, unknownCluster(s, name)
	}
	var out []Kept
	for t := range s.AllTopics() {
		if k, ok := keptOn(t, s.Chains(t.ID), name); ok {
			out = append(out, k)
		}
	}
	sortKept(out)
	return out, nil
}

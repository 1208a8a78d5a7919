package controller

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// What is told of physical topics that are gone while their clusters are there: of those that the chains know of, and, for
// who plans something, of those that were not given up yet.

// Lost lists by cluster the topics with records that are lost, since their physical topics there are gone.
func Lost(s *catalog.Snapshot) map[string][]string {
	var out map[string][]string
	for t := range s.AllTopics() {
		if t.Deleting {
			continue
		}
		for cluster := range lostOf(s.Chains(t.ID)) {
			if out == nil {
				out = map[string][]string{}
			}
			out[cluster] = append(out[cluster], t.Name)
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// lostOf are the clusters that a topic has lost records with.
func lostOf(chains []*catalog.Chain) map[string]bool {
	var out map[string]bool
	for _, ch := range chains {
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			if sp.IsOpen() || !chain.LostForGood(sp) || max(sp.Start, ch.Start) >= sp.End {
				continue
			}
			for j := range sp.Copies {
				if out == nil {
					out = map[string]bool{}
				}
				out[sp.Copies[j].Cluster] = true
			}
		}
	}
	return out
}

// LostText says of topics that records of theirs are lost with a cluster, and where it is said which.
func LostText(cluster string, topics []string) string {
	own, others := []string{}, []string{}
	for _, name := range topics {
		if strings.HasPrefix(name, ownTopics) {
			own = append(own, name)
		} else {
			others = append(others, name)
		}
	}
	text := ""
	if len(others) > 0 {
		text = topicCount(len(others), " has", " have") + " lost records, for cluster " + cluster + " has their physical topics no more (" + firstNames(others) +
			"): readers go on behind them; braid topic describe NAME names the ranges, and the groups that had not read them. This is said until these spans leave the chains, by retention, kafka-delete-records or braid topic delete"
	}
	if len(own) > 0 {
		if text != "" {
			text += ". "
		}
		text += "Cluster " + cluster + " has physical topics of Braid's own no more (" + firstNames(own) + "): what gateways had in memory was written again; commits of groups, and transactions, that none had are lost with them"
	}
	return text
}

// ownTopics is what names of topics begin with that tenants cannot have.
const ownTopics = "__braid_"

// planConfirms bounds how many topics a plan asks a cluster about one by one.
const planConfirms = 64

// missed is what a cluster has no more of the topics that a plan is about.
type missed struct {
	names []string
	open  map[catalog.ID]bool // topics whose appends go there
}

// missing finds what the clusters have no more of a plan's topics, or, of a plan for a cluster, of all on it.
func (q *pricing) missing(s *catalog.Snapshot, p *Plan, req OpRequest) {
	ofCluster := req.Kind == catalog.OpDrain || req.Kind == catalog.OpFailover
	moves := map[catalog.ID]bool{}
	for i := range p.Moves {
		moves[p.Moves[i].Topic.ID] = true
	}
	on := map[string][]*catalog.Topic{}
	for t := range s.AllTopics() {
		if t.Deleting || !ofCluster && !moves[t.ID] {
			continue
		}
		clusters := map[string]bool{}
		for _, x := range append(openTopics(s.Chains(t.ID)), sealedTopics(s.Chains(t.ID))...) {
			if (!ofCluster || x.Cluster == req.Cluster) && !clusters[x.Cluster] {
				clusters[x.Cluster] = true
				on[x.Cluster] = append(on[x.Cluster], t)
			}
		}
	}
	for cluster, topics := range on {
		q.wg.Go(func() { q.missingOn(s, cluster, topics) })
	}
}

func (q *pricing) missingOn(s *catalog.Snapshot, cluster string, topics []*catalog.Topic) {
	there, err := listed(q.ctx, q.a.Stores, q.a.Catalog.Fleet(), cluster, planPatience)
	if err != nil {
		return // not known
	}
	type absent struct {
		topic *catalog.Topic
		on    catalog.PhysicalTopic
		open  bool
		gone  bool
	}
	var all []*absent
	for _, t := range topics {
		// The first that is not listed, and of those the one that takes appends.
		open := openTopics(s.Chains(t.ID))
		for i, x := range append(slices.Clone(open), sealedTopics(s.Chains(t.ID))...) {
			if x.Cluster == cluster && !there[x.TopicID] {
				all = append(all, &absent{topic: t, on: x, open: i < len(open)})
				break
			}
		}
	}
	st, err := q.a.Stores.Store(cluster)
	if err != nil || len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b *absent) int { return strings.Compare(a.topic.Name, b.topic.Name) })
	var wg sync.WaitGroup
	for _, x := range all[:min(len(all), planConfirms)] {
		wg.Go(func() {
			gone, err := span.IsGone(q.ctx, st, storeTopic(x.on))
			x.gone = err == nil && gone
		})
	}
	wg.Wait()
	m := missed{open: map[catalog.ID]bool{}}
	every := true
	for i, x := range all {
		if i < planConfirms {
			every = every && x.gone
		} else {
			x.gone = every // a cluster that has lost all of them
		}
		if !x.gone {
			continue
		}
		m.names = append(m.names, x.topic.Name)
		if x.open {
			m.open[x.topic.ID] = true
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(m.names) > 0 {
		q.missed[cluster] = m
	}
}

// tellMissing has the plan say what the clusters have no more. Needs nothing else to run.
func (q *pricing) tellMissing(p *Plan) {
	var costs []string
	for cluster, m := range q.missed {
		costs = append(costs, topicCount(len(m.names), " has", " have")+" lost records whatever is done: cluster "+cluster+" answers, and has physical topics no more that they were on ("+firstNames(m.names)+")")
		for i := range p.Moves {
			x := &p.Moves[i]
			if !m.open[x.Topic.ID] {
				continue
			}
			x.Note = "what its physical topic on cluster " + cluster + " held is lost: it is gone"
			if p.Kind == catalog.OpMove && p.Refused == "" {
				p.Refused = fmt.Sprintf("topic %s: its physical topic on cluster %s is gone; the topic goes on in a fresh one by itself, as soon as that is certain (a repair in braid op list, within a minute), and can be moved then", x.Topic.Name, cluster)
			}
		}
	}
	slices.Sort(costs)
	p.Costs = append(costs, p.Costs...)
}

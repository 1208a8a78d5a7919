package controller

import (
	"cmp"
	"slices"

	"github.com/braidstream/braid/catalog"
)

// candidate is a cluster as placement sees it.
type candidate struct {
	name   string
	active bool
	down   bool // most gateways say so
	full   bool // most gateways say so
	load   int  // open partitions
}

// usable tells whether it takes new spans.
func (c *candidate) usable() bool { return c.active && !c.down && !c.full }

// place chooses the cluster for new spans: active, not voted down or full, not excluded,
// among only (if any are named), with the fewest open partitions, by name among
// equals. "" if there is none.
func place(from []candidate, exclude string, only ...string) string {
	best := -1
	for i, c := range from {
		if !c.usable() || c.name == exclude || len(only) > 0 && !slices.Contains(only, c.name) {
			continue
		}
		if best < 0 || cmp.Or(cmp.Compare(c.load, from[best].load), cmp.Compare(c.name, from[best].name)) < 0 {
			best = i
		}
	}
	if best < 0 {
		return ""
	}
	return from[best].name
}

func candidates(s *catalog.Snapshot, l *loads) []candidate {
	var out []candidate
	for _, c := range s.Clusters() {
		out = append(out, candidate{name: c.Name, active: c.State == catalog.ClusterActive,
			down: votedDown(s, c.Name), full: votedFull(s, c.Name), load: l.of(c.Name)})
	}
	return out
}

// anotherFor chooses a topic's cluster beside some.
func (t *term) anotherFor(topic *catalog.Topic, beside []string) string {
	s := t.o.Watcher.Snapshot()
	from := slices.DeleteFunc(candidates(s, t.loads), func(c candidate) bool { return slices.Contains(beside, c.name) })
	return place(from, "", placementOf(s, topic.Tenant)...)
}

func clusterNames(s *catalog.Snapshot) []string {
	var out []string
	for _, c := range s.Clusters() {
		out = append(out, c.Name)
	}
	return out
}

// openOn tells on which clusters a topic's open spans are, sorted.
func openOn(chains []*catalog.Chain) []string {
	var out []string
	for _, p := range openTopics(chains) {
		if !slices.Contains(out, p.Cluster) {
			out = append(out, p.Cluster)
		}
	}
	slices.Sort(out)
	return out
}

package catalog

import (
	"iter"
	"slices"
)

// Snapshot is the watched part of the catalog at one moment. It never changes,
// nor does anything that it returns: callers must not write to it. A snapshot may
// be behind; see [Watcher.Refresh].
type Snapshot struct {
	revision  int64
	topics    table[*topicState]
	extends   table[*Extend]
	names     map[string]*nameList // by tenant
	clusters  map[string]*Cluster
	gateways  map[int32]*Gateway
	processes map[string]*Process
	shards    map[int32]*Shard
	votes     map[string]map[int32]*ClusterVote
	groups    map[string]map[string]*GroupConfig // by tenant and group
	tenants   map[string]*Tenant
	operators map[string]*Operator
	users     bags[*User]
	acls      bags[*ACL]
	quotas    bags[*ClientQuota]
	shares    bags[*Share]
	// usersNamed are the users of one name, of all tenants, by nameID.
	usersNamed table[[]*User]

	clusterList []*Cluster
	gatewayList []*Gateway
	tenantList  []*Tenant // nil: no tenant has a record
}

// topicState is a topic with its pages. Pages may come before their topic; it is
// seen only once the topic is there. Immutable.
type topicState struct {
	tenant string
	topic  *Topic
	pages  []*Page // by First/PageSize; nil where missing
}

// Revision is the catalog's revision up to which the snapshot is complete.
func (s *Snapshot) Revision() int64 { return s.revision }

// SameTopics tells at no cost that no topic and no chain differs between two
// snapshots; false says nothing.
func (s *Snapshot) SameTopics(o *Snapshot) bool { return s.topics.branches == o.topics.branches }

// SameGateways tells whether both hold the same gateways.
func (s *Snapshot) SameGateways(o *Snapshot) bool { return slices.Equal(s.gatewayList, o.gatewayList) }

// Clusters returns all clusters by name.
func (s *Snapshot) Clusters() []*Cluster { return s.clusterList }

// Cluster returns a cluster, nil if there is none of that name.
func (s *Snapshot) Cluster(name string) *Cluster { return s.clusters[name] }

// Gateways returns the live gateways by node.
func (s *Snapshot) Gateways() []*Gateway { return s.gatewayList }

// Gateway returns a live gateway or nil.
func (s *Snapshot) Gateway(node int32) *Gateway { return s.gateways[node] }

// Process returns a live process or nil.
func (s *Snapshot) Process(id string) *Process { return s.processes[id] }

// Processes yields all live processes, in no order.
func (s *Snapshot) Processes() iter.Seq[*Process] {
	return func(yield func(*Process) bool) {
		for _, p := range s.processes {
			if !yield(p) {
				return
			}
		}
	}
}

// Shard returns who owns a shard, nil if nobody does.
func (s *Snapshot) Shard(number int32) *Shard { return s.shards[number] }

// Shards yields all owned shards, in no order.
func (s *Snapshot) Shards() iter.Seq[*Shard] {
	return func(yield func(*Shard) bool) {
		for _, v := range s.shards {
			if !yield(v) {
				return
			}
		}
	}
}

// ClusterVotes yields the live gateways' opinions of a cluster, in no order.
func (s *Snapshot) ClusterVotes(cluster string) iter.Seq[*ClusterVote] {
	return func(yield func(*ClusterVote) bool) {
		for _, v := range s.votes[cluster] {
			if !yield(v) {
				return
			}
		}
	}
}

// Topics yields a tenant's topics by name; those being deleted are left out.
func (s *Snapshot) Topics(tenant string) iter.Seq[*Topic] { return s.TopicsFrom(tenant, "") }

// TopicsFrom is Topics from a name on, for answers in pages.
func (s *Snapshot) TopicsFrom(tenant, name string) iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		l := s.names[tenant]
		if l == nil {
			return
		}
		for e := range l.from(name) {
			if t := s.TopicByID(e.id); t != nil && !yield(t) {
				return
			}
		}
	}
}

// TopicCount is how many topics a tenant has.
func (s *Snapshot) TopicCount(tenant string) int {
	if l := s.names[tenant]; l != nil {
		return l.n
	}
	return 0
}

// AllTopics yields the topics of all watched tenants, those being deleted too, in no order.
func (s *Snapshot) AllTopics() iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		for _, st := range s.topics.all() {
			if st.visible() && !yield(st.topic) {
				return
			}
		}
	}
}

// TopicByName returns the topic that has the name, nil if none.
func (s *Snapshot) TopicByName(tenant, name string) *Topic {
	l := s.names[tenant]
	if l == nil {
		return nil
	}
	// Two of one name are seen only where the watch skipped the end of the first.
	var found *Topic
	for e := range l.from(name) {
		if e.name != name {
			break
		}
		if t := s.TopicByID(e.id); t != nil && (found == nil || t.Revision > found.Revision) {
			found = t
		}
	}
	return found
}

// TopicByID returns a topic, one being deleted too; nil if there is none.
func (s *Snapshot) TopicByID(id ID) *Topic {
	if st, ok := s.topics.get(id); ok && st.visible() {
		return st.topic
	}
	return nil
}

// Chain returns one partition's chain and the revision of its page; nil if
// there is no such topic or partition.
func (s *Snapshot) Chain(id ID, partition int32) (*Chain, int64) {
	st, ok := s.topics.get(id)
	if !ok || !st.visible() || partition < 0 || partition >= st.topic.Partitions {
		return nil, 0
	}
	p := st.pages[partition/PageSize]
	return &p.Chains[partition%PageSize], p.Revision
}

// Chains returns a topic's chains by partition, nil if there is no such topic.
func (s *Snapshot) Chains(id ID) []*Chain {
	st, ok := s.topics.get(id)
	if !ok || !st.visible() {
		return nil
	}
	out := make([]*Chain, st.topic.Partitions)
	for i := range out {
		out[i] = &st.pages[i/PageSize].Chains[i%PageSize]
	}
	return out
}

// Pages yields a topic's pages in order.
func (s *Snapshot) Pages(id ID) iter.Seq[*Page] {
	return func(yield func(*Page) bool) {
		st, ok := s.topics.get(id)
		if !ok || !st.visible() {
			return
		}
		need := (int(st.topic.Partitions) + PageSize - 1) / PageSize
		for _, p := range st.pages[:need] {
			if !yield(p) {
				return
			}
		}
	}
}

// Extend returns the extend that works on a topic, nil if none does.
func (s *Snapshot) Extend(topic ID) *Extend {
	e, _ := s.extends.get(topic)
	return e
}

// Extends yields all extends under way, in no order.
func (s *Snapshot) Extends() iter.Seq[*Extend] {
	return func(yield func(*Extend) bool) {
		for _, e := range s.extends.all() {
			if !yield(e) {
				return
			}
		}
	}
}

// visible tells whether topic and all its pages are there: with a watch that
// skips, a topic may be seen before a page of it.
func (st *topicState) visible() bool {
	if st.topic == nil {
		return false
	}
	need := (int(st.topic.Partitions) + PageSize - 1) / PageSize
	if len(st.pages) < need {
		return false
	}
	for i, p := range st.pages[:need] {
		if p == nil || len(p.Chains) < min(PageSize, int(st.topic.Partitions)-i*PageSize) {
			return false
		}
	}
	return true
}

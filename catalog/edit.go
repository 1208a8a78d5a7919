package catalog

import (
	"maps"
	"slices"
	"strings"
)

// Change says what differs between two snapshots.
type Change struct {
	Old, New *Snapshot
	Topics   []ID // config, chains, creation or deletion
	Clusters []string
	Gateways bool
	Shards   bool
	Votes    bool
	Process  bool
	Extends  []ID
	Groups   bool // configs of groups
	// Tenants whose record, users, ACLs or client quotas changed.
	Tenants, Users, ACLs, Quotas []string
	Operators                    bool
	// Shares: tenants whose division of the budget did.
	Shares []string
}

// edit makes the next snapshot from one. Values are decoded before they come
// here; what is not newer than what is there is ignored.
type edit struct {
	old *Snapshot
	s   *Snapshot
	gen uint64

	topics, extends map[ID]struct{}
	clusters        map[string]struct{}
	states          map[ID]*topicState // made by this edit: changed in place
	// Maps that this edit has cloned.
	ownClusters, ownGateways, ownProcesses, ownShards, ownVotes, ownNames, ownGroups, ownTenants, ownOperators bool
	tenants                                                                                                    map[string]struct{}
	users, acls, quotas, shares                                                                                bagEdit
}

func newEdit(old *Snapshot) *edit {
	s := *old
	return &edit{old: old, s: &s, gen: generations.Add(1), topics: map[ID]struct{}{}, extends: map[ID]struct{}{},
		clusters: map[string]struct{}{}, tenants: map[string]struct{}{}, states: map[ID]*topicState{}}
}

// own clones a map once per edit.
func own[K comparable, V any](done *bool, m *map[K]V) {
	if *done {
		return
	}
	*done = true
	if *m = maps.Clone(*m); *m == nil {
		*m = map[K]V{}
	}
}

// record decodes a value, and has filled in what is not in it but known of its key.
func record[T any](it item, fill func(*T)) (any, error) {
	v := new(T)
	err := decode(it.value, v)
	fill(v)
	return v, err
}

// decoded gives the value of a key as the type that the key says.
func decoded(a address, it item) (any, error) {
	switch a.kind {
	case kindCluster:
		return record(it, func(v *Cluster) { v.Revision = it.revision })
	case kindGateway:
		return record(it, func(v *Gateway) { v.Revision, v.Lease = it.revision, it.lease })
	case kindProcess:
		return record(it, func(v *Process) { v.Revision = it.revision })
	case kindShard:
		return record(it, func(v *Shard) { v.Revision = it.revision })
	case kindVote:
		return record(it, func(v *ClusterVote) { v.Revision = it.revision })
	case kindTopic:
		return record(it, func(v *Topic) { v.Revision = it.revision })
	case kindExtend:
		return record(it, func(v *Extend) { v.Revision = it.revision })
	case kindGroup:
		return record(it, func(v *GroupConfig) { v.Revision = it.revision })
	case kindTenant:
		return record(it, func(v *Tenant) { v.Revision = it.revision })
	case kindOperator:
		return record(it, func(v *Operator) { v.Name, v.Revision = a.name, it.revision })
	case kindUser:
		return record(it, func(v *User) { v.Tenant, v.Name, v.Revision = a.tenant, a.name, it.revision })
	case kindACL:
		return record(it, func(v *ACL) { v.Revision = it.revision })
	case kindQuota:
		return record(it, func(v *ClientQuota) { v.Revision = it.revision })
	case kindShare:
		return record(it, func(v *Share) { v.Tenant, v.Revision = a.tenant, it.revision })
	case kindPage:
		p, err := decodePage(it)
		return &p, err
	}
	return nil, nil
}

// revision is that of the value which the snapshot under edit has for the key, 0 if none.
func (e *edit) revision(a address) int64 {
	switch a.kind {
	case kindCluster:
		if v := e.s.clusters[a.name]; v != nil {
			return v.Revision
		}
	case kindGateway:
		if v := e.s.gateways[a.number]; v != nil {
			return v.Revision
		}
	case kindProcess:
		if v := e.s.processes[a.name]; v != nil {
			return v.Revision
		}
	case kindShard:
		if v := e.s.shards[a.number]; v != nil {
			return v.Revision
		}
	case kindVote:
		if v := e.s.votes[a.name][a.number]; v != nil {
			return v.Revision
		}
	case kindExtend:
		if v, _ := e.s.extends.get(a.id); v != nil {
			return v.Revision
		}
	case kindGroup:
		if v := e.s.groups[a.tenant][a.name]; v != nil {
			return v.Revision
		}
	case kindTenant:
		if v := e.s.tenants[a.name]; v != nil {
			return v.Revision
		}
	case kindOperator:
		if v := e.s.operators[a.name]; v != nil {
			return v.Revision
		}
	case kindUser:
		if v, ok := e.s.users.get(a); ok {
			return v.Revision
		}
	case kindACL:
		if v, ok := e.s.acls.get(a); ok {
			return v.Revision
		}
	case kindQuota:
		if v, ok := e.s.quotas.get(a); ok {
			return v.Revision
		}
	case kindShare:
		if v, ok := e.s.shares.get(a); ok {
			return v.Revision
		}
	case kindTopic:
		if st, _ := e.s.topics.get(a.id); st != nil && st.topic != nil {
			return st.topic.Revision
		}
	case kindPage:
		if st, _ := e.s.topics.get(a.id); st != nil && int(a.number/PageSize) < len(st.pages) && st.pages[a.number/PageSize] != nil {
			return st.pages[a.number/PageSize].Revision
		}
	}
	return 0
}

// put applies a value that decoded gave for the key.
func (e *edit) put(a address, v any) {
	switch v := v.(type) {
	case *Cluster:
		own(&e.ownClusters, &e.s.clusters)
		e.s.clusters[a.name] = v
		e.clusters[a.name] = struct{}{}
	case *Gateway:
		own(&e.ownGateways, &e.s.gateways)
		e.s.gateways[a.number] = v
	case *Process:
		own(&e.ownProcesses, &e.s.processes)
		e.s.processes[a.name] = v
	case *Shard:
		own(&e.ownShards, &e.s.shards)
		e.s.shards[a.number] = v
	case *ClusterVote:
		own(&e.ownVotes, &e.s.votes)
		of := maps.Clone(e.s.votes[a.name])
		if of == nil {
			of = map[int32]*ClusterVote{}
		}
		of[a.number] = v
		e.s.votes[a.name] = of
	case *GroupConfig:
		e.putGroup(a, v)
	case *Tenant:
		own(&e.ownTenants, &e.s.tenants)
		e.s.tenants[a.name] = v
		e.tenants[a.name] = struct{}{}
	case *Operator:
		own(&e.ownOperators, &e.s.operators)
		e.s.operators[a.name] = v
	case *User:
		writable(&e.users, e.gen, &e.s.users, a.tenant).m[a.name] = v
		e.nameUser(a, v)
	case *ACL:
		writable(&e.acls, e.gen, &e.s.acls, a.tenant).m[a.name] = v
	case *ClientQuota:
		writable(&e.quotas, e.gen, &e.s.quotas, a.tenant).m[a.name] = v
	case *Share:
		writable(&e.shares, e.gen, &e.s.shares, a.tenant).m[a.name] = v
	case *Extend:
		e.s.extends.set(a.id, v, e.gen)
		e.extends[a.id] = struct{}{}
	case *Topic:
		st := e.state(a)
		e.rename(st, v, a)
		st.topic = v
	case *Page:
		st := e.state(a)
		for len(st.pages) <= int(a.number/PageSize) {
			st.pages = append(st.pages, nil)
		}
		st.pages[a.number/PageSize] = v
	}
}

// remove drops what the key had.
func (e *edit) remove(a address) {
	if e.revision(a) == 0 {
		return
	}
	switch a.kind {
	case kindCluster:
		own(&e.ownClusters, &e.s.clusters)
		delete(e.s.clusters, a.name)
		e.clusters[a.name] = struct{}{}
	case kindGateway:
		own(&e.ownGateways, &e.s.gateways)
		delete(e.s.gateways, a.number)
	case kindProcess:
		own(&e.ownProcesses, &e.s.processes)
		delete(e.s.processes, a.name)
	case kindShard:
		own(&e.ownShards, &e.s.shards)
		delete(e.s.shards, a.number)
	case kindVote:
		own(&e.ownVotes, &e.s.votes)
		of := maps.Clone(e.s.votes[a.name])
		delete(of, a.number)
		if e.s.votes[a.name] = of; len(of) == 0 {
			delete(e.s.votes, a.name)
		}
	case kindGroup:
		e.removeGroup(a)
	case kindTenant:
		own(&e.ownTenants, &e.s.tenants)
		delete(e.s.tenants, a.name)
		e.tenants[a.name] = struct{}{}
	case kindOperator:
		own(&e.ownOperators, &e.s.operators)
		delete(e.s.operators, a.name)
	case kindUser:
		delete(writable(&e.users, e.gen, &e.s.users, a.tenant).m, a.name)
		e.nameUser(a, nil)
	case kindACL:
		delete(writable(&e.acls, e.gen, &e.s.acls, a.tenant).m, a.name)
	case kindQuota:
		delete(writable(&e.quotas, e.gen, &e.s.quotas, a.tenant).m, a.name)
	case kindShare:
		delete(writable(&e.shares, e.gen, &e.s.shares, a.tenant).m, a.name)
	case kindExtend:
		e.s.extends.remove(a.id, e.gen)
		e.extends[a.id] = struct{}{}
	case kindTopic:
		st := e.state(a)
		e.rename(st, nil, a)
		st.topic = nil
		e.dropEmpty(a.id, st)
	case kindPage:
		st := e.state(a)
		st.pages[a.number/PageSize] = nil
		for len(st.pages) > 0 && st.pages[len(st.pages)-1] == nil {
			st.pages = st.pages[:len(st.pages)-1]
		}
		e.dropEmpty(a.id, st)
	}
}

// state gives a topic's state for writing.
func (e *edit) state(a address) *topicState {
	e.topics[a.id] = struct{}{}
	if st := e.states[a.id]; st != nil {
		return st
	}
	st := &topicState{tenant: a.tenant}
	if old, ok := e.s.topics.get(a.id); ok {
		*st = *old
		st.pages = slices.Clone(old.pages)
	}
	e.states[a.id] = st
	e.s.topics.set(a.id, st, e.gen)
	return st
}

func (e *edit) dropEmpty(id ID, st *topicState) {
	if st.topic == nil && len(st.pages) == 0 {
		e.s.topics.remove(id, e.gen)
		delete(e.states, id)
	}
}

// rename keeps the tenant's list of names.
func (e *edit) rename(st *topicState, next *Topic, a address) {
	listed := func(t *Topic) bool { return t != nil && !t.Deleting }
	if listed(st.topic) && listed(next) && st.topic.Name == next.Name {
		return
	}
	own(&e.ownNames, &e.s.names)
	l := e.s.names[a.tenant]
	if l == nil {
		l = &nameList{}
	}
	if listed(st.topic) {
		l = l.remove(named{st.topic.Name, a.id})
	}
	if listed(next) {
		l = l.insert(named{next.Name, a.id})
	}
	if e.s.names[a.tenant] = l; l.n == 0 {
		delete(e.s.names, a.tenant)
	}
}

// addresses yields the key of everything in the snapshot.
func (s *Snapshot) addresses(yield func(address)) {
	for n := range s.clusters {
		yield(address{kind: kindCluster, name: n})
	}
	for n := range s.gateways {
		yield(address{kind: kindGateway, number: n})
	}
	for n := range s.processes {
		yield(address{kind: kindProcess, name: n})
	}
	for n := range s.shards {
		yield(address{kind: kindShard, number: n})
	}
	for c, of := range s.votes {
		for n := range of {
			yield(address{kind: kindVote, name: c, number: n})
		}
	}
	for tenant, of := range s.groups {
		for name := range of {
			yield(address{kind: kindGroup, tenant: tenant, name: name})
		}
	}
	for n := range s.tenants {
		yield(address{kind: kindTenant, name: n})
	}
	for n := range s.operators {
		yield(address{kind: kindOperator, name: n})
	}
	s.users.each(kindUser, yield)
	s.acls.each(kindACL, yield)
	s.quotas.each(kindQuota, yield)
	s.shares.each(kindShare, yield)
	for id := range s.extends.all() {
		yield(address{kind: kindExtend, id: id})
	}
	for id, st := range s.topics.all() {
		if st.topic != nil {
			yield(address{kind: kindTopic, tenant: st.tenant, id: id})
		}
		for i, p := range st.pages {
			if p != nil {
				yield(address{kind: kindPage, tenant: st.tenant, id: id, number: int32(i * PageSize)})
			}
		}
	}
}

// finish gives the new snapshot and what changed; changed is false if nothing did.
func (e *edit) finish(revision int64) (c Change, changed bool) {
	e.s.revision = max(e.s.revision, revision)
	if e.ownClusters {
		e.s.clusterList = slices.SortedFunc(maps.Values(e.s.clusters), func(a, b *Cluster) int { return strings.Compare(a.Name, b.Name) })
	}
	if e.ownGateways {
		e.s.gatewayList = slices.SortedFunc(maps.Values(e.s.gateways), func(a, b *Gateway) int { return int(a.Node) - int(b.Node) })
	}
	if e.ownTenants {
		e.s.listTenants()
	}
	c = Change{Old: e.old, New: e.s, Gateways: e.ownGateways, Shards: e.ownShards, Votes: e.ownVotes, Process: e.ownProcesses, Groups: e.ownGroups, Operators: e.ownOperators}
	for id := range e.topics {
		c.Topics = append(c.Topics, id)
	}
	for id := range e.extends {
		c.Extends = append(c.Extends, id)
	}
	for n := range e.clusters {
		c.Clusters = append(c.Clusters, n)
	}
	c.Tenants = slices.Sorted(maps.Keys(e.tenants))
	c.Users, c.ACLs, c.Quotas = finishBags(&e.users, e.s.users), finishBags(&e.acls, e.s.acls), finishBags(&e.quotas, e.s.quotas)
	c.Shares = finishBags(&e.shares, e.s.shares)
	changed = len(c.Topics)+len(c.Extends)+len(c.Clusters) > 0 || c.Gateways || c.Shards || c.Votes || c.Process || c.Groups || c.Operators ||
		len(c.Tenants)+len(c.Users)+len(c.ACLs)+len(c.Quotas)+len(c.Shares) > 0
	return c, changed
}

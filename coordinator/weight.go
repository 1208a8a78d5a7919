package coordinator

import (
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// What groups and transactional ids hold, in bytes of memory, about: texts and assignments count with their length, and what is
// kept of each with a constant. It is counted where it changes, by tenant, so that the sum is at hand when a request wants
// more; TestWeightsAreExact counts it anew. A limit refuses requests that make a tenant hold more, before they have changed
// anything. It never refuses what is in the log (replay, a decision's consequences), what makes no more of anything (a commit
// in the place of another), nor anything that goes.

// load is what one group, or one transactional id, holds. The zero value counts for nobody.
type load struct {
	n      int64
	of     *tally // nil: it is counted no more, or is a copy
	tenant string
}

func (l *load) add(n int64) {
	if l.of == nil || n == 0 {
		return
	}
	l.n += n
	l.of.grew(l.tenant, n)
}

// end takes all of it out of the count.
func (l *load) end() {
	l.add(-l.n)
	l.of = nil
}

// What one of each takes besides its texts.
const (
	weightGroup      = 512
	weightTopic      = 128 // of committed or pending offsets, or of an assignment
	weightOffset     = 96
	weightMember     = 512
	weightTxn        = 384
	weightPart       = 96
	weightPlace      = 80
	weightFormer     = 128
	weightPartition  = 8 // of an assignment
	weightText       = 16
	weightPendingIDs = 96
)

func weightOf(key groupKey, base int64) int64 {
	return base + int64(len(key.tenant)+len(key.group))
}

// mayHold tells whether a tenant may hold so many bytes more. It is asked on behalf of a request only.
func (m *machine) mayHold(tenant string, more int64) bool {
	if more <= 0 || m.held.total == nil || tenant == catalog.SystemTenant {
		return true
	}
	most := m.config.MaxTenantBytes
	if m.most != nil {
		most = m.most(tenant, most)
	}
	if m.held.total.of(tenant)+more <= most {
		return true
	}
	m.held.refused(wire.None)
	return false
}

// Offsets.

func (p *partitionOffset) weight() int64 { return weightOffset + int64(len(p.metadata)) }

func (o *committed) weight() int64 { return weightOffset + int64(len(o.metadata)) }

func weightOfTopic(name string) int64 { return weightTopic + int64(len(name)) }

// offsetsGrowth is what a commit makes a group hold more, g is nil if it makes the group.
func (g *group) offsetsGrowth(r *commitRequest) (n int64) {
	if g == nil {
		n = weightOf(r.key, weightGroup)
	}
	for i := range r.topics {
		t := &r.topics[i]
		var store *topicStore
		if g != nil {
			store = g.offsets[t.name]
		}
		if store == nil || store.replacedBy(t) {
			if store != nil {
				n -= store.weight
			} else {
				n += weightOfTopic(t.name)
			}
			store = nil
		}
		for j := range t.partitions {
			n += t.partitions[j].weight()
			if store != nil {
				if o := store.partitions[t.partitions[j].partition]; o != nil {
					n -= o.weight()
				}
			}
		}
	}
	return n
}

// pendingGrowth is what a commit within a transaction makes a group hold more.
func (g *group) pendingGrowth(r *commitRequest) (n int64) {
	if g == nil {
		n = weightOf(r.key, weightGroup)
	}
	for i := range r.topics {
		n += weightOfTopic(r.topics[i].name)
		for j := range r.topics[i].partitions {
			n += r.topics[i].partitions[j].weight()
		}
	}
	return n
}

// Members of classic groups.

func weightOfProtocols(all []protocol) (n int64) {
	for _, p := range all {
		n += 2*weightText + int64(len(p.name)+len(p.metadata))
	}
	return n
}

// weight is what the member holds, with its assignment.
func (mb *member) weight() int64 {
	n := weightMember + int64(2*len(mb.id)+len(mb.clientID)+len(mb.clientHost)+len(mb.assignment)) + weightOfProtocols(mb.protocols)
	if mb.instance != nil {
		n += int64(2 * len(*mb.instance))
	}
	return n
}

// weigh counts a member as it is now.
func (g *group) weigh(mb *member) {
	n := mb.weight()
	g.load.add(n - mb.counted)
	mb.counted = n
}

func (g *group) unweigh(mb *member) {
	g.load.add(-mb.counted)
	mb.counted = 0
}

// write sets the record that the log has of the group.
func (g *group) write(r record) {
	g.load.add(int64(len(r) - len(g.written)))
	g.written = r
}

// joinGrowth is what a JoinGroup makes the group hold more: the member, and what its next record says of it.
func (g *group) joinGrowth(j *joinRequest) int64 {
	as := &member{id: j.memberID, instance: j.instance, clientID: j.clientID, clientHost: j.clientHost, protocols: j.protocols}
	old := g.members[j.memberID]
	if old == nil && j.instance != nil {
		old = g.members[g.statics[*j.instance]]
	}
	n := 2 * as.weight()
	if old != nil {
		n -= 2 * (old.weight() - int64(len(old.assignment)))
	}
	return n
}

// syncGrowth is what the leader's assignments make the group hold more.
func (g *group) syncGrowth(assignments map[string][]byte) (n int64) {
	for _, mb := range g.order {
		n += 2 * int64(len(assignments[mb.id])-len(mb.assignment))
	}
	return n
}

// Members of consumer groups.

func (mb *consumerMember) weight() int64 {
	n := weightMember + int64(2*len(mb.id)+len(mb.clientID)+len(mb.clientHost))
	for _, s := range []*string{mb.instance, mb.rack, mb.regex, mb.assignor} {
		if s != nil {
			n += weightText + int64(len(*s))
		}
	}
	for _, t := range mb.topics {
		n += weightText + int64(len(t))
	}
	if mb.classic != nil {
		n += weightOfProtocols(mb.classic.protocols)
	}
	n += mb.target.weight()
	for _, h := range []held{mb.assigned, mb.revoking} {
		for _, all := range h {
			// Its owner is kept for each partition too.
			n += weightTopic + 4*weightPartition*int64(len(all))
		}
	}
	return n
}

func (a assignment) weight() (n int64) {
	for _, all := range a {
		n += weightTopic + weightPartition*int64(len(all))
	}
	return n
}

// weigh counts a member as it is now, if it is in the group.
func (c *consumerGroup) weigh(mb *consumerMember) {
	if c.members[mb.id] != mb {
		return
	}
	n := mb.weight()
	c.load.add(n - mb.counted)
	mb.counted = n
}

func (c *consumerGroup) unweigh(mb *consumerMember) {
	c.load.add(-mb.counted)
	mb.counted = 0
}

func (r *resolvedRegex) weight(expr string) int64 {
	n := weightTopic + int64(len(expr))
	for _, t := range r.topics {
		n += weightText + int64(len(t))
	}
	return n
}

// stands sets what an expression stands for; nil: nobody subscribes to it.
func (c *consumerGroup) stands(expr string, r *resolvedRegex) {
	if was := c.regexes[expr]; was != nil {
		c.load.add(-was.weight(expr))
	}
	if r == nil {
		delete(c.regexes, expr)
		return
	}
	c.regexes[expr] = r
	c.load.add(r.weight(expr))
}

// beatGrowth is what a heartbeat makes the group hold more by what it says: mb is who is known by its id or instance, nil if nobody is.
// What is assigned to it is not known yet.
func (m *machine) beatGrowth(g *group, mb *consumerMember, r *consumerBeat) (n int64) {
	if g == nil {
		n = weightOf(r.key, weightGroup)
	}
	as := consumerMember{id: r.memberID, instance: r.instance, rack: r.rack, clientID: r.clientID, clientHost: r.clientHost, assignor: r.assignor}
	if mb != nil {
		as = *mb
		as.id, as.clientID, as.clientHost = r.memberID, r.clientID, r.clientHost
		n -= mb.weight()
	}
	if r.hasTopics {
		as.topics = r.topics
	}
	if r.regex != nil {
		as.regex = r.regex
	}
	n += as.weight()
	for expr, to := range r.resolved {
		if g == nil || g.consumer == nil || g.consumer.regexes[expr] == nil {
			n += to.weight(expr)
		}
	}
	return n
}

// mixedGrowth is beatGrowth for a JoinGroup.
func (c *consumerGroup) mixedGrowth(id string, holder *consumerMember, sub consumerSubscription, j *joinRequest) int64 {
	as, n := consumerMember{}, int64(0)
	if holder == nil {
		holder = c.members[id]
	}
	if holder != nil {
		as, n = *holder, -holder.weight()
	}
	as.id, as.topics, as.regex, as.clientID, as.clientHost, as.classic = id, sub.topics, nil, j.clientID, j.clientHost, &classicSide{protocols: j.protocols}
	return n + as.weight()
}

// Transactional ids.

func (p *txnPart) weight() int64 {
	n := int64(weightPart)
	for i := range p.places {
		n += p.places[i].weight()
	}
	return n
}

func (at *place) weight() int64 { return weightPlace + int64(len(at.cluster)+len(at.topic)) }

func (p *participant) weight() int64 { return weightPlace + int64(len(p.cluster)+len(p.id)) }

func weightOfName(group string) int64 { return 2*weightText + int64(len(group)) }

// weigh is what the present transaction of the id holds.
func (t *transaction) weigh() (n int64) {
	for _, p := range t.parts {
		n += p.weight()
	}
	for g := range t.groups {
		n += weightOfName(g)
	}
	for i := range t.participants {
		n += t.participants[i].weight()
	}
	return n
}

func (f *former) weight() int64 {
	n := int64(weightFormer)
	for _, p := range f.parts {
		n += p.weight()
	}
	for i := range f.participants {
		n += f.participants[i].weight()
	}
	return n
}

// grew counts what was added to the present transaction.
func (t *transaction) grew(n int64) {
	t.open += n
	t.load.add(n)
}

// part adds a partition, or has it as it is told.
func (t *transaction) part(k partKey, p *txnPart) {
	n := p.weight()
	if was := t.parts[k]; was != nil {
		n -= was.weight()
	}
	t.parts[k] = p
	t.grew(n)
}

func (t *transaction) addPlace(p *txnPart, at place) {
	p.places = append(p.places, at)
	t.grew(at.weight())
}

func (t *transaction) addGroup(g string) {
	if !t.groups[g] {
		t.groups[g] = true
		t.grew(weightOfName(g))
	}
}

func (t *transaction) addParticipant(p participant) {
	t.participants = append(t.participants, p)
	t.grew(p.weight())
}

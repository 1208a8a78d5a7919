package coordinator

import (
	"slices"

	"github.com/braidstream/braid/wire"
)

// state of a classic group.
type state int8

const (
	stateEmpty      state = iota // no members, perhaps offsets
	statePreparing               // members are asked to join anew
	stateCompleting              // all joined, the leader's assignments are awaited
	stateStable                  // assignments were handed out
)

// String is the name that clients are shown.
func (s state) String() string {
	switch s {
	case stateEmpty:
		return "Empty"
	case statePreparing:
		return "PreparingRebalance"
	case stateCompleting:
		return "CompletingRebalance"
	case stateStable:
		return "Stable"
	}
	return "Dead"
}

// consumerType is the protocol type of consumers, whose subscriptions the
// coordinator can read.
const consumerType = "consumer"

// group is a classic group: a state machine that clients drive by joining. Or it
// speaks the consumer protocol: see consumer.
//
// Of a classic group only what written holds survives a change of owner; members that
// joined since then join again.
type group struct {
	key          groupKey
	state        state
	previous     state
	since        int64 // ms, of the state
	protocolType *string
	protocol     *string
	generation   int32
	leader       string // member id, "" if none

	members map[string]*member
	order   []*member         // as they joined; keeps everything deterministic
	statics map[string]string // instance id to member id
	pending map[string]*timer // member ids given out, not joined yet (KIP-394)
	support map[string]int    // how many members offer a protocol
	joining int               // members with a parked JoinGroup
	syncing map[string]bool   // members whose SyncGroup is awaited

	// subscribed is nil when the topics of the members cannot be told.
	subscribed map[string]bool
	// newMembers: one joined since the initial delay began, which is then prolonged.
	newMembers bool

	joinTimer *timer
	syncTimer *timer

	// consumer is set when the group speaks the consumer protocol (KIP-848); then
	// all of the above is empty.
	consumer *consumerGroup

	offsets map[string]*topicStore
	txns    map[int64]*pendingOffsets // of open transactions, by producer id
	written record                    // the last group record, nil if none is in the log
	load    load
}

// member of a classic group.
type member struct {
	id               string
	instance         *string
	clientID         string
	clientHost       string
	rebalanceTimeout int32 // ms
	sessionTimeout   int32 // ms
	protocolType     string
	protocols        []protocol
	assignment       []byte

	session *timer
	counted int64 // what it weighs in its group
	isNew   bool
	join    func(joinAnswer) // parked JoinGroup
	sync    func(syncAnswer) // parked SyncGroup
}

func (m *machine) newGroup(key groupKey) *group {
	g := &group{
		key:     key,
		since:   m.now,
		members: map[string]*member{},
		statics: map[string]string{},
		pending: map[string]*timer{},
		support: map[string]int{},
		syncing: map[string]bool{},
		offsets: map[string]*topicStore{},
		load:    load{of: &m.held, tenant: key.tenant},
	}
	g.load.add(weightOf(key, weightGroup))
	g.syncTimer = newTimer(func() { m.expireSync(g) })
	g.joinTimer = newTimer(func() { m.completeJoin(g) })
	m.groups[key] = g
	m.counts.grew(key.tenant, 1)
	return g
}

// drop forgets a group and everything that may still call it.
func (m *machine) drop(g *group) {
	m.timers.stop(g.joinTimer)
	m.timers.stop(g.syncTimer)
	for _, mb := range g.order {
		m.timers.stop(mb.session)
	}
	for _, t := range g.pending {
		m.timers.stop(t)
	}
	m.dropConsumer(g)
	if m.groups[g.key] == g {
		delete(m.groups, g.key)
		m.counts.grew(g.key.tenant, -1)
		g.load.end()
	}
}

func (g *group) move(m *machine, to state) {
	g.previous, g.state, g.since = g.state, to, m.now
}

func (g *group) isConsumer() bool { return g.protocolType != nil && *g.protocolType == consumerType }

// canRebalance tells whether the group may go to PreparingRebalance from here.
func (g *group) canRebalance() bool { return g.state != statePreparing }

// supports tells whether a member with these protocols can be in the group.
func (g *group) supports(protocolType string, protocols []protocol) bool {
	if g.state == stateEmpty {
		return protocolType != "" && len(protocols) > 0
	}
	if g.protocolType == nil || *g.protocolType != protocolType {
		return false
	}
	return slices.ContainsFunc(protocols, func(p protocol) bool { return g.support[p.name] == len(g.members) })
}

func (g *group) count(mb *member, by int) {
	for _, p := range mb.protocols {
		if g.support[p.name] += by; g.support[p.name] == 0 {
			delete(g.support, p.name)
		}
	}
}

// add takes a member in; its protocols were checked.
func (g *group) add(mb *member) {
	if len(g.members) == 0 {
		g.protocolType = &mb.protocolType
	}
	if g.leader == "" {
		g.leader = mb.id
	}
	if mb.instance != nil {
		g.statics[*mb.instance] = mb.id
	}
	g.members[mb.id] = mb
	g.order = append(g.order, mb)
	g.count(mb, 1)
	g.weigh(mb)
	if mb.join != nil {
		g.joining++
	}
}

// remove takes a member out. Parked requests of it were answered before.
func (g *group) remove(m *machine, mb *member) {
	if g.members[mb.id] != mb {
		return
	}
	delete(g.members, mb.id)
	g.order = slices.DeleteFunc(g.order, func(o *member) bool { return o == mb })
	g.count(mb, -1)
	g.unweigh(mb)
	if mb.join != nil {
		g.joining--
	}
	if mb.instance != nil && g.statics[*mb.instance] == mb.id {
		delete(g.statics, *mb.instance)
	}
	delete(g.syncing, mb.id)
	m.timers.stop(mb.session)
	if g.leader == mb.id {
		g.leader = ""
		if len(g.order) > 0 {
			g.leader = g.order[0].id
		}
	}
}

// keepPending notes an id that was given out.
func (g *group) keepPending(id string, t *timer) {
	g.pending[id] = t
	g.load.add(weightPendingIDs + int64(len(id)))
}

func (g *group) forgetPending(id string) {
	if g.pending[id] != nil {
		delete(g.pending, id)
		g.load.add(-weightPendingIDs - int64(len(id)))
	}
}

func (g *group) removePending(m *machine, id string) {
	if t, ok := g.pending[id]; ok {
		m.timers.stop(t)
		g.forgetPending(id)
	}
}

// update gives a member what its JoinGroup says and parks that.
func (g *group) update(mb *member, protocols []protocol, rebalance, session int32, join func(joinAnswer)) {
	g.count(mb, -1)
	mb.protocols = protocols
	g.count(mb, 1)
	g.weigh(mb)
	mb.rebalanceTimeout, mb.sessionTimeout = rebalance, session
	if (join != nil) != (mb.join != nil) {
		if join != nil {
			g.joining++
		} else {
			g.joining--
		}
	}
	mb.join = join
}

// check tells whether a member with that id and instance is in the group.
func (g *group) check(memberID string, instance *string) wire.Code {
	if instance != nil {
		switch id, ok := g.statics[*instance]; {
		case !ok:
			return wire.UnknownMemberID
		case id != memberID:
			return wire.FencedInstanceID
		}
	}
	if g.members[memberID] == nil {
		return wire.UnknownMemberID
	}
	return wire.None
}

func (g *group) allJoined() bool { return g.joining == len(g.members) && len(g.pending) == 0 }

// rebalanceTimeout is the longest of the members', ms.
func (g *group) rebalanceTimeout() int64 {
	var longest int64
	for _, mb := range g.order {
		longest = max(longest, int64(mb.rebalanceTimeout))
	}
	return longest
}

// vote chooses the protocol that all members offer and most like best. Of
// equals the one that the earliest member likes best wins.
func (g *group) vote() string {
	votes := map[string]int{}
	best := ""
	for _, mb := range g.order {
		for _, p := range mb.protocols {
			if g.support[p.name] == len(g.members) {
				votes[p.name]++
				break
			}
		}
	}
	for _, mb := range g.order {
		for _, p := range mb.protocols {
			if votes[p.name] > votes[best] {
				best = p.name
			}
		}
	}
	return best
}

// metadata is what the member says for the chosen protocol.
func (g *group) metadata(mb *member) []byte {
	if g.protocol == nil {
		return nil
	}
	for _, p := range mb.protocols {
		if p.name == *g.protocol {
			return p.metadata
		}
	}
	return nil
}

// electJoined makes sure that the leader is one of those that joined.
func (g *group) electJoined() bool {
	if mb := g.members[g.leader]; mb == nil {
		return false
	} else if mb.join != nil {
		return true
	}
	for _, mb := range g.order {
		if mb.join != nil {
			g.leader = mb.id
			return true
		}
	}
	return false
}

func (mb *member) offers(protocols []protocol) bool {
	return slices.EqualFunc(mb.protocols, protocols, func(a, b protocol) bool {
		return a.name == b.name && string(a.metadata) == string(b.metadata)
	})
}

func (g *group) answerJoin(m *machine, mb *member, a joinAnswer) bool {
	if mb.join == nil {
		return false
	}
	join := mb.join
	mb.join = nil
	g.joining--
	m.reply(func() { join(a) })
	return true
}

func (g *group) answerSync(m *machine, mb *member, a syncAnswer) bool {
	if mb.sync == nil {
		return false
	}
	sync := mb.sync
	mb.sync = nil
	m.reply(func() { sync(a) })
	return true
}

// alive puts the end of a member's session off by d ms.
func (m *machine) alive(mb *member, d int64) { m.timers.set(mb.session, m.now+d) }

// persist writes the group as it is, with the given assignments instead of the
// members' own if not nil.
func (m *machine) persist(g *group, assignments map[string][]byte) {
	r := groupRecord{key: g.key, protocolType: g.protocolType, generation: g.generation, protocol: g.protocol, since: g.since}
	if g.leader != "" {
		r.leader = &g.leader
	}
	r.members = make([]memberRecord, len(g.order))
	for i, mb := range g.order {
		r.members[i] = memberRecord{
			id: mb.id, instance: mb.instance, clientID: mb.clientID, clientHost: mb.clientHost,
			rebalanceTimeout: mb.rebalanceTimeout, sessionTimeout: mb.sessionTimeout,
			protocols: mb.protocols, assignment: mb.assignment,
		}
		if assignments != nil {
			r.members[i].assignment = assignments[mb.id]
		}
	}
	g.write(r.encode())
	m.emit(g.written)
}

package coordinator

import (
	"cmp"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/braidstream/braid/catalog"
)

// consumerGroup is what a group has instead of classic members when it speaks
// the protocol of KIP-848: the coordinator assigns, and members reconcile what
// they have with their targets by heartbeats.
//
// Unlike a classic group's, all of this is in the log: each event writes what it
// changed before its answer goes out.
type consumerGroup struct {
	epoch      int32 // grows with each change of members, subscriptions or topics
	assigned   int32 // epoch that the targets were computed for
	assignedAt int64 // ms; 0: not by an assignor
	refusedAt  int64 // ms, when there was no room for targets, 0; not in the log
	size       int   // members and partitions of the last targets; 0 at a new owner
	hash       uint64
	// checked is the version of the tenant's topics that hash was computed with; 0
	// has it computed at the next heartbeat.
	checked uint64

	members map[string]*consumerMember
	statics map[string]string // instance id to member id
	// owners tells who has a partition, or has not given it up yet: nobody else
	// gets it until then.
	owners  map[catalog.ID]map[int32]*consumerMember
	regexes map[string]*resolvedRegex // those that members subscribe to
	load    *load                     // of the group
}

// consumerMember is a member of a consumer group. Slices and maps in it are
// replaced and never changed, so that a copy shows how it was.
type consumerMember struct {
	id               string
	instance         *string
	rack             *string
	clientID         string
	clientHost       string
	rebalanceTimeout int32    // ms
	topics           []string // sorted
	regex            *string
	assignor         *string
	classic          *classicSide // nil unless it speaks the classic protocol

	target   assignment
	epoch    int32 // -2: a static member that went for a moment
	previous int32
	state    memberState
	assigned held
	revoking held
	counted  int64 // what it weighs in its group

	session   *timer
	rebalance *timer // until it must have given up what was revoked
	rejoin    *timer // until a classic member must have joined anew
	sync      *timer // until a classic member must have asked for its assignment
}

// classicSide is what a member of the classic protocol in a consumer group has
// besides.
type classicSide struct {
	session   int32 // ms
	protocols []protocol
}

// memberState is how far a member is with its target. The values are in the log.
type memberState int8

const (
	memberStable     memberState = 0 // has all that can be had at its epoch
	memberUnrevoked  memberState = 1 // has been told to give partitions up
	memberUnreleased memberState = 2 // waits for partitions that others have
)

// assignment is a set of partitions, each slice sorted.
type assignment map[catalog.ID][]int32

// held is a set of partitions with the member epoch at which each was assigned
// (KIP-1251), each slice sorted by partition.
type held map[catalog.ID][]heldPartition

type heldPartition struct{ partition, epoch int32 }

// find returns the epoch of a partition.
func (h held) find(topic catalog.ID, partition int32) (epoch int32, ok bool) {
	all := h[topic]
	i, ok := slices.BinarySearchFunc(all, partition, func(p heldPartition, want int32) int { return cmp.Compare(p.partition, want) })
	if !ok {
		return 0, false
	}
	return all[i].epoch, true
}

func (h held) equal(o held) bool {
	return maps.EqualFunc(h, o, func(a, b []heldPartition) bool { return slices.Equal(a, b) })
}

func (a assignment) equal(o assignment) bool {
	return maps.EqualFunc(a, o, func(a, b []int32) bool { return slices.Equal(a, b) })
}

func newConsumerGroup() *consumerGroup {
	// As in Kafka, so that the first target has an epoch that no group without one has.
	return &consumerGroup{
		epoch: 1, assigned: 1,
		members: map[string]*consumerMember{},
		statics: map[string]string{},
		owners:  map[catalog.ID]map[int32]*consumerMember{},
		regexes: map[string]*resolvedRegex{},
	}
}

// becomeConsumer makes a group without classic members one of the consumer protocol.
// Committed offsets stay.
func (m *machine) becomeConsumer(g *group) {
	m.dropClassic(g)
	g.consumer = newConsumerGroup()
	g.consumer.load = &g.load
}

// becomeClassic makes a group an empty classic one. Committed offsets stay.
func (m *machine) becomeClassic(g *group) {
	m.dropConsumer(g)
	g.consumer = nil
	g.state, g.previous, g.since = stateEmpty, stateEmpty, m.now
}

// dropClassic forgets the classic members; what they had parked was answered.
func (m *machine) dropClassic(g *group) {
	m.timers.stop(g.joinTimer)
	m.timers.stop(g.syncTimer)
	for _, mb := range g.order {
		m.timers.stop(mb.session)
		g.unweigh(mb)
	}
	for id, t := range g.pending {
		m.timers.stop(t)
		g.forgetPending(id)
	}
	g.write(nil)
	g.members, g.order, g.joining = map[string]*member{}, nil, 0
	clear(g.statics)
	clear(g.support)
	clear(g.syncing)
	g.protocolType, g.protocol, g.leader, g.generation = nil, nil, "", 0
	g.subscribed, g.newMembers = nil, false
	g.state, g.previous = stateEmpty, stateEmpty
}

// dropConsumer stops everything that may still call the members.
func (m *machine) dropConsumer(g *group) {
	if g.consumer == nil {
		return
	}
	for _, mb := range g.consumer.members {
		m.stopTimers(mb)
		g.consumer.unweigh(mb)
	}
	for expr := range g.consumer.regexes {
		g.consumer.stands(expr, nil)
	}
}

func (m *machine) stopTimers(mb *consumerMember) {
	m.timers.stop(mb.session)
	m.timers.stop(mb.rebalance)
	m.timers.stop(mb.rejoin)
	m.timers.stop(mb.sync)
}

// newConsumerMember makes a member that is not in the group yet.
func (m *machine) newConsumerMember(g *group, id string) *consumerMember {
	mb := &consumerMember{id: id}
	fence := func(reason string) func() { return func() { m.fence(g, reason, mb) } }
	mb.session = newTimer(fence("session timed out"))
	mb.rejoin = newTimer(fence("classic member did not join anew in time"))
	mb.sync = newTimer(fence("classic member did not ask for its assignment in time"))
	mb.rebalance = newTimer(nil)
	return mb
}

// name is the state as clients are shown it.
func (c *consumerGroup) name() string {
	switch {
	case len(c.members) == 0:
		return "Empty"
	case c.epoch > c.assigned:
		return "Assigning"
	}
	for _, mb := range c.members {
		if !mb.reconciled(c.assigned) {
			return "Reconciling"
		}
	}
	return "Stable"
}

func (mb *consumerMember) reconciled(epoch int32) bool {
	return mb.state == memberStable && mb.epoch == epoch
}

// sorted lists the members by id: whatever depends on an order depends on this
// one, which is the same at the next owner.
func (c *consumerGroup) sorted() []*consumerMember {
	all := make([]*consumerMember, 0, len(c.members))
	for _, mb := range c.members {
		all = append(all, mb)
	}
	slices.SortFunc(all, func(a, b *consumerMember) int { return cmp.Compare(a.id, b.id) })
	return all
}

// add takes a member in.
func (c *consumerGroup) add(mb *consumerMember) {
	c.members[mb.id] = mb
	if mb.instance != nil {
		c.statics[*mb.instance] = mb.id
	}
	c.own(mb, mb.assigned)
	c.own(mb, mb.revoking)
	c.weigh(mb)
}

// remove takes a member out and frees its partitions.
func (c *consumerGroup) remove(m *machine, mb *consumerMember) {
	m.stopTimers(mb)
	c.disown(mb)
	c.unweigh(mb)
	delete(c.members, mb.id)
	if mb.instance != nil && c.statics[*mb.instance] == mb.id {
		delete(c.statics, *mb.instance)
	}
}

// settle gives a member another current assignment.
func (c *consumerGroup) settle(mb *consumerMember, epoch int32, state memberState, assigned, revoking held) {
	c.disown(mb)
	mb.previous, mb.epoch = mb.epoch, epoch
	mb.state, mb.assigned, mb.revoking = state, assigned, revoking
	c.own(mb, assigned)
	c.own(mb, revoking)
	c.weigh(mb)
}

func (c *consumerGroup) own(mb *consumerMember, h held) {
	for topic, all := range h {
		owners := c.owners[topic]
		if owners == nil {
			owners = make(map[int32]*consumerMember, len(all))
			c.owners[topic] = owners
		}
		for _, p := range all {
			owners[p.partition] = mb
		}
	}
}

func (c *consumerGroup) disown(mb *consumerMember) {
	for _, h := range []held{mb.assigned, mb.revoking} {
		for topic, all := range h {
			owners := c.owners[topic]
			for _, p := range all {
				if owners[p.partition] == mb {
					delete(owners, p.partition)
				}
			}
			if len(owners) == 0 {
				delete(c.owners, topic)
			}
		}
	}
}

// prune forgets expressions that nobody subscribes to any more.
func (ch *change) prune() {
	c := ch.g.consumer
	for _, expr := range slices.Sorted(maps.Keys(c.regexes)) {
		if c.subscribers(expr) == 0 {
			c.stands(expr, nil)
			ch.regex(expr, nil)
		}
	}
}

func (c *consumerGroup) subscribers(expr string) int {
	n := 0
	for _, mb := range c.members {
		if mb.regex != nil && *mb.regex == expr {
			n++
		}
	}
	return n
}

// subscription calls yield with each topic name that the member subscribes to; a
// name may come twice.
func (c *consumerGroup) subscription(mb *consumerMember, yield func(name string)) {
	for _, name := range mb.topics {
		yield(name)
	}
	if mb.regex == nil {
		return
	}
	if r := c.regexes[*mb.regex]; r != nil {
		for _, name := range r.topics {
			yield(name)
		}
	}
}

// subscribedTo tells whether a member consumes the topic.
func (c *consumerGroup) subscribedTo(topic string) bool {
	found := false
	for _, mb := range c.members {
		c.subscription(mb, func(name string) { found = found || name == topic })
	}
	return found
}

// topicHash sums up what the group's targets depend on: which of the topics that it
// subscribes to exist, their ids and how many partitions they have. Where
// they are is not in it: a move is no reason to rebalance.
func (m *machine) topicHash(g *group) uint64 {
	names := map[string]bool{}
	for _, mb := range g.consumer.members {
		g.consumer.subscription(mb, func(name string) { names[name] = true })
	}
	h := fnv.New64a()
	some := false
	for _, name := range slices.Sorted(maps.Keys(names)) {
		id, partitions, ok := m.topics.named(g.key.tenant, name)
		if !ok {
			continue
		}
		some = true
		// A hash takes everything.
		_, _ = io.WriteString(h, name)
		_, _ = h.Write(append(id[:], 0))
		_, _ = io.WriteString(h, strconv.Itoa(int(partitions)))
		_, _ = h.Write([]byte{0})
	}
	if !some {
		return 0
	}
	return h.Sum64()
}

package coordinator

import (
	"time"

	"github.com/braidstream/braid/wire"
)

// consumerLeave is a heartbeat that says goodbye, for good (-1) or, for a static
// member, for a moment (-2): it keeps its partitions until its session ends.
func (m *machine) consumerLeave(g *group, r *consumerBeat, refuse func(wire.Code, string, ...any)) {
	switch {
	case g == nil:
		refuse(wire.GroupIDNotFound, "Group %s not found.", r.key.group)
		return
	case g.consumer == nil:
		refuse(wire.GroupIDNotFound, "Group %s is not a consumer group.", r.key.group)
		return
	}
	c := g.consumer
	mb := c.members[r.memberID]
	if r.instance != nil {
		mb = c.members[c.statics[*r.instance]]
	}
	switch {
	case mb == nil && r.instance == nil:
		refuse(wire.UnknownMemberID, "Member %s is not a member of group %s.", r.memberID, r.key.group)
		return
	case mb == nil:
		refuse(wire.UnknownMemberID, "Instance id %s is unknown.", *r.instance)
		return
	case r.instance != nil && mb.id != r.memberID:
		refuse(wire.FencedInstanceID, "Instance id %s is owned by member %s.", *r.instance, mb.id)
		return
	}
	if r.epoch == -2 {
		ch := m.change(g)
		ch.pause(mb)
		ch.commit()
	} else {
		m.fence(g, "member left", mb)
	}
	a := consumerAnswer{memberID: mb.id, epoch: r.epoch}
	m.durably(func() { r.done(a) }, func(code wire.Code) { r.done(consumerAnswer{code: code}) })
}

// pause notes that a static member went for a moment. What it was told to give up is
// given up, and nothing that it committed before counts for the next holder.
func (ch *change) pause(mb *consumerMember) {
	keep := make(held, len(mb.assigned))
	for topic, all := range mb.assigned {
		for _, p := range all {
			keep[topic] = append(keep[topic], heldPartition{p.partition, 0})
		}
	}
	previous := mb.previous
	ch.g.consumer.settle(mb, -2, mb.state, keep, held{})
	mb.previous = previous
	ch.m.timers.stop(mb.rebalance)
	ch.current(mb)
}

// fence removes members whose time is over, or who left. If none but classic members
// are left, the group becomes classic again.
func (m *machine) fence(g *group, reason string, members ...*consumerMember) {
	c := g.consumer
	if c == nil || m.groups[g.key] != g {
		return
	}
	leaving := map[*consumerMember]bool{}
	for _, mb := range members {
		if c.members[mb.id] == mb {
			leaving[mb] = true
			m.logger.Info("member leaves consumer group", "tenant", g.key.tenant, "group", g.key.group, "member", mb.id, "reason", reason)
		}
	}
	if len(leaving) == 0 {
		return
	}
	if m.downgradeable(c, leaving, len(c.members)-len(leaving)) {
		m.toClassic(g, leaving, nil)
		m.prepare(g, "last member of the consumer protocol left")
		return
	}
	ch := m.change(g)
	for _, mb := range c.sorted() {
		if leaving[mb] {
			c.remove(m, mb)
			ch.gone(mb.id)
		}
	}
	ch.prune()
	c.hash, c.checked = m.topicHash(g), m.topics.version(g.key.tenant)
	ch.bump()
	ch.commit()
}

// beginConsumer starts the members' sessions anew at a new owner.
func (m *machine) beginConsumer(g *group) {
	session, _ := m.consumerTimes(g.key)
	for _, mb := range g.consumer.sorted() {
		if mb.classic != nil {
			m.timers.set(mb.session, m.now+int64(mb.classic.session))
			continue
		}
		m.timers.set(mb.session, m.now+session)
		if mb.state == memberUnrevoked {
			m.giveUpInTime(g, mb)
		}
	}
}

// consumerTimes are the session timeout and the heartbeat interval of a group, ms.
func (m *machine) consumerTimes(key groupKey) (session, interval int64) {
	session = m.configOf(key, GroupSessionTimeout, m.config.ConsumerSessionTimeout)
	interval = m.configOf(key, GroupHeartbeatInterval, m.config.ConsumerHeartbeatInterval)
	return session, interval
}

// largeGroup is from how many members and partitions on a target is not computed
// for each that comes or goes.
const largeGroup = 2000

// assignmentInterval is how long after one target the next may be computed, ms.
func (m *machine) assignmentInterval(key groupKey, size int) int64 {
	is := max(m.config.ConsumerAssignmentInterval, 0)
	if m.config.ConsumerAssignmentInterval == 0 && size > largeGroup {
		is = time.Second
	}
	return m.configOf(key, GroupAssignmentInterval, is)
}

package coordinator

import (
	"slices"

	"github.com/braidstream/braid/catalog"
)

// retarget computes the targets anew if the group's epoch asks for it.
func (ch *change) retarget() {
	m, g, c := ch.m, ch.g, ch.g.consumer
	if c.assigned >= c.epoch || len(c.members) == 0 {
		return
	}
	if at := max(c.assignedAt, c.refusedAt); at != 0 && m.now < at+m.assignmentInterval(g.key, max(c.size, len(c.members))) {
		// Before anything that takes time in proportion to the group: each of its
		// heartbeats comes by here.
		return
	}
	members := c.sorted()
	s := &assignSpec{members: make([]assignMember, len(members)), partitions: map[catalog.ID]int32{}}
	size := len(members)
	for i, mb := range members {
		topics := m.subscribedIDs(g, mb, s.partitions)
		was := make(assignment, len(mb.target))
		for topic, all := range mb.target {
			if n, _ := slices.BinarySearch(all, s.partitions[topic]); topics[topic] && n > 0 {
				was[topic] = all[:n:n]
			}
		}
		s.members[i] = assignMember{id: mb.id, instance: mb.instance, topics: sortedTopics(topics), was: was}
	}
	for _, n := range s.partitions {
		size += int(n)
	}
	c.size = size
	targets := assign(m.assignorOf(c), s)
	more := int64(0)
	for i, target := range targets {
		more += target.weight() - members[i].target.weight()
	}
	// What is told to members later, from the targets, weighs up to four times as much.
	if !m.mayHold(g.key.tenant, 5*more) {
		// Members go on with what they have. It is looked at again with the next change, and by heartbeats.
		c.refusedAt = m.now
		return
	}
	for i, target := range targets {
		if mb := members[i]; !mb.target.equal(target) {
			mb.target = target
			c.weigh(mb)
			ch.target(mb)
		}
	}
	c.assigned, c.assignedAt, c.refusedAt = c.epoch, m.now, 0
	ch.group = true
	m.logger.Debug("group has a new target assignment", "tenant", g.key.tenant, "group", g.key.group, "epoch", c.epoch)
}

// subscribedIDs are the topics of a member that exist; their partitions are noted in
// counts if that is not nil.
func (m *machine) subscribedIDs(g *group, mb *consumerMember, counts map[catalog.ID]int32) map[catalog.ID]bool {
	ids := map[catalog.ID]bool{}
	g.consumer.subscription(mb, func(name string) {
		if id, partitions, ok := m.topics.named(g.key.tenant, name); ok {
			ids[id] = true
			if counts != nil {
				counts[id] = partitions
			}
		}
	})
	return ids
}

// assignorOf is the assignor that most members ask for, of equals the one that comes
// first in the configuration.
func (m *machine) assignorOf(c *consumerGroup) string {
	votes := map[string]int{}
	for _, mb := range c.members {
		if mb.assignor != nil {
			votes[*mb.assignor]++
		}
	}
	best := m.config.ConsumerAssignors[0]
	for _, name := range m.config.ConsumerAssignors {
		if votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// reconcile takes a member a step towards its target: first it gives up what it
// shall not have, then it is told so by the absence of it in owned, then it gets
// what is free. owned is nil if the member did not say what it has.
func (ch *change) reconcile(mb *consumerMember, subscribed bool, owned *assignment) {
	m, c := ch.m, ch.g.consumer
	if !subscribed && mb.reconciled(c.assigned) {
		return
	}
	topics := m.subscribedIDs(ch.g, mb, nil)
	changed := false
	switch {
	case mb.state == memberStable && mb.epoch == c.assigned:
		changed = subscribed && c.unsubscribe(mb, topics, owned)
	case mb.state == memberUnrevoked && owns(owned, mb.revoking):
		changed = subscribed && c.unsubscribe(mb, topics, owned)
	default:
		changed = c.advance(mb, topics, owned)
	}
	if !changed {
		return
	}
	ch.current(mb)
	if mb.classic != nil {
		return
	}
	if mb.state != memberUnrevoked {
		m.timers.stop(mb.rebalance)
		return
	}
	m.giveUpInTime(ch.g, mb)
}

// giveUpInTime removes a member that does not leave its epoch within its rebalance
// timeout: it holds partitions that others wait for.
func (m *machine) giveUpInTime(g *group, mb *consumerMember) {
	epoch := mb.epoch
	mb.rebalance.fire = func() {
		if mb.epoch == epoch {
			m.fence(g, "member did not give up its partitions in time", mb)
		}
	}
	m.timers.stop(mb.rebalance)
	m.timers.set(mb.rebalance, m.now+int64(mb.rebalanceTimeout))
}

// owns tells whether the member still has any of h, as far as it says.
func owns(owned *assignment, h held) bool {
	if owned == nil {
		return true
	}
	for topic, all := range *owned {
		for _, p := range all {
			if _, ok := h.find(topic, p); ok {
				return true
			}
		}
	}
	return false
}

// advance computes what the member may have next.
func (c *consumerGroup) advance(mb *consumerMember, topics map[catalog.ID]bool, owned *assignment) bool {
	keep, revoke := held{}, held{}
	for topic, all := range mb.assigned {
		for _, p := range all {
			to := revoke
			if topics[topic] {
				if _, ok := slices.BinarySearch(mb.target[topic], p.partition); ok {
					to = keep
				}
			}
			to[topic] = append(to[topic], p)
		}
	}
	if len(revoke) > 0 && owns(owned, revoke) {
		// It stays at its epoch until it has given them up.
		return c.settleIf(mb, mb.epoch, memberUnrevoked, keep, revoke)
	}
	state := memberStable
	for topic, all := range mb.target {
		if !topics[topic] {
			continue
		}
		var gets []heldPartition
		for _, p := range all {
			if _, ok := keep.find(topic, p); ok {
				continue
			}
			if owner := c.owners[topic][p]; owner != nil && owner != mb {
				state = memberUnreleased
				continue
			}
			gets = append(gets, heldPartition{p, c.assigned})
		}
		if len(gets) > 0 {
			gets = append(gets, keep[topic]...)
			slices.SortFunc(gets, func(a, b heldPartition) int { return int(a.partition - b.partition) })
			keep[topic] = gets
		}
	}
	return c.settleIf(mb, c.assigned, state, keep, held{})
}

// unsubscribe takes partitions of topics away that the member no longer subscribes to,
// before the next target is there.
func (c *consumerGroup) unsubscribe(mb *consumerMember, topics map[catalog.ID]bool, owned *assignment) bool {
	keep, revoke := held{}, held{}
	for topic, all := range mb.revoking {
		revoke[topic] = all
	}
	gone := false
	for topic, all := range mb.assigned {
		if topics[topic] {
			keep[topic] = all
			continue
		}
		gone = true
		both := append(slices.Clone(revoke[topic]), all...)
		slices.SortFunc(both, func(a, b heldPartition) int { return int(a.partition - b.partition) })
		revoke[topic] = both
	}
	if !gone {
		return false
	}
	if owns(owned, revoke) {
		return c.settleIf(mb, mb.epoch, memberUnrevoked, keep, revoke)
	}
	return c.settleIf(mb, mb.epoch, mb.state, keep, mb.revoking)
}

// settleIf tells whether anything of it is new.
func (c *consumerGroup) settleIf(mb *consumerMember, epoch int32, state memberState, assigned, revoking held) bool {
	if mb.epoch == epoch && mb.state == state && mb.assigned.equal(assigned) && mb.revoking.equal(revoking) {
		return false
	}
	c.settle(mb, epoch, state, assigned, revoking)
	return true
}

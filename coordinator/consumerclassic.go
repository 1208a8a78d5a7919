package coordinator

import (
	"slices"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// Members that speak the classic protocol in a consumer group, as happens while a
// group is migrated: JoinGroup takes them a step towards their target, SyncGroup tells
// what they have, Heartbeat tells them to join anew when there is more to do.

func equalProtocol(a, b protocol) bool {
	return a.name == b.name && string(a.metadata) == string(b.metadata)
}

// joinMixed is a JoinGroup to a consumer group with members.
func (m *machine) joinMixed(g *group, j *joinRequest) {
	c := g.consumer
	refuse := func(code wire.Code) {
		a := joinAnswer{code: code, memberID: j.memberID, generation: -1}
		m.reply(func() { j.done(a) })
	}
	id := j.memberID
	if id == "" {
		id = m.newID()
	}
	holder := (*consumerMember)(nil)
	if j.instance != nil {
		holder = c.members[c.statics[*j.instance]]
	}
	var sub consumerSubscription
	ok := false
	if len(j.protocols) > 0 {
		sub, ok = parseConsumerSubscription(j.protocols[0].metadata)
	}
	switch {
	case m.config.ConsumerMigration == MigrateDisabled:
		refuse(wire.InconsistentGroupProtocol)
		return
	case len(c.members) >= m.config.ConsumerMaxSize && c.members[id] == nil:
		refuse(wire.GroupMaxSizeReached)
		return
	case !c.supportsClassic(j.protocolType, j.protocols), !ok:
		refuse(wire.InconsistentGroupProtocol)
		return
	case j.version >= 4 && j.instance == nil && j.memberID == "":
		a := joinAnswer{code: wire.MemberIDRequired, memberID: id, generation: -1}
		m.reply(func() { j.done(a) })
		return
	case j.instance != nil && j.memberID != "" && holder == nil:
		refuse(wire.UnknownMemberID)
		return
	case j.instance != nil && j.memberID != "" && holder.id != id:
		refuse(wire.FencedInstanceID)
		return
	}
	if !m.mayHold(g.key.tenant, c.mixedGrowth(id, holder, sub, j)) {
		refuse(wire.GroupMaxSizeReached)
		return
	}
	downgrade := holder != nil && holder.classic == nil && m.downgradeable(c, map[*consumerMember]bool{holder: true}, len(c.members))
	ch := m.change(g)
	mb := c.members[id]
	added := false
	switch {
	case j.instance != nil && j.memberID == "" && holder != nil:
		mb = ch.replace(holder, id)
	case mb == nil:
		mb, added = m.newConsumerMember(g, id), true
	}
	before := *mb
	mb.topics, mb.regex = slices.Compact(slices.Sorted(slices.Values(sub.topics))), nil
	if sub.rack != nil {
		mb.rack = sub.rack
	}
	mb.rebalanceTimeout = j.rebalanceTimeout
	mb.clientID, mb.clientHost = j.clientID, j.clientHost
	mb.classic = &classicSide{session: j.sessionTimeout, protocols: j.protocols}
	ch.update(mb, &before, j.instance, added, nil)
	owned := m.ownedIDs(g.key.tenant, sub.owned)
	rebalance := false
	if downgrade {
		rebalance = c.assigned < c.epoch
	} else {
		ch.retarget()
	}
	if !rebalance {
		ch.reconcile(mb, !mb.sameSubscription(&before), &owned)
	}
	ch.commit()
	m.timers.stop(mb.rejoin)
	a := joinAnswer{memberID: mb.id, generation: mb.epoch, typ: textOf(consumerType), protocol: &j.protocols[0].name}
	if downgrade {
		m.toClassic(g, nil, mb)
		a.generation = g.generation
		if rebalance {
			m.prepare(g, "group becomes classic with an assignment that is out of date")
		}
	} else {
		m.timers.set(mb.session, m.now+int64(j.sessionTimeout))
		m.timers.stop(mb.sync)
		m.timers.set(mb.sync, m.now+int64(j.rebalanceTimeout))
	}
	m.durably(func() { j.done(a) }, func(code wire.Code) { j.done(joinAnswer{code: code, memberID: j.memberID, generation: -1}) })
}

func textOf(s string) *string { return &s }

// supportsClassic tells whether a classic member with these protocols can be in the
// group: it has to have one in common with the other classic ones.
func (c *consumerGroup) supportsClassic(protocolType string, protocols []protocol) bool {
	if protocolType != consumerType {
		return false
	}
	support, classics := map[string]int{}, 0
	for _, mb := range c.members {
		if mb.classic == nil {
			continue
		}
		classics++
		for _, p := range mb.classic.protocols {
			support[p.name]++
		}
	}
	return slices.ContainsFunc(protocols, func(p protocol) bool { return support[p.name] == classics })
}

func (m *machine) ownedIDs(tenant string, owned map[string][]int32) assignment {
	out := make(assignment, len(owned))
	for name, all := range owned {
		if id, _, ok := m.topics.named(tenant, name); ok {
			out[id] = all
		}
	}
	return out
}

// mixedMember finds a classic member in a consumer group.
func (c *consumerGroup) mixedMember(id string, instance *string, generation int32) (*consumerMember, wire.Code) {
	mb := c.members[id]
	if instance != nil {
		holder := c.members[c.statics[*instance]]
		switch {
		case holder == nil:
			return nil, wire.UnknownMemberID
		case holder.id != id:
			return nil, wire.FencedInstanceID
		}
		mb = holder
	}
	switch {
	case mb == nil, mb.classic == nil:
		return nil, wire.UnknownMemberID
	case mb.epoch != generation:
		return nil, wire.IllegalGeneration
	}
	return mb, wire.None
}

// syncMixed is a SyncGroup to a consumer group with members.
func (m *machine) syncMixed(g *group, r *syncRequest) {
	c := g.consumer
	mb, code := c.mixedMember(r.memberID, r.instance, r.generation)
	switch {
	case code != wire.None:
	case r.protocolType != nil && *r.protocolType != consumerType, r.protocol != nil && *r.protocol != mb.classic.protocols[0].name:
		code = wire.InconsistentGroupProtocol
	case c.assigned > mb.epoch && mb.state != memberUnrevoked:
		m.rejoinInTime(mb)
		code = wire.RebalanceInProgress
	}
	if code != wire.None {
		m.reply(func() { r.done(syncAnswer{code: code}) })
		return
	}
	m.timers.stop(mb.sync)
	m.timers.set(mb.session, m.now+int64(mb.classic.session))
	has := make(map[catalog.ID][]int32, len(mb.assigned))
	for topic, all := range mb.assigned {
		for _, p := range all {
			has[topic] = append(has[topic], p.partition)
		}
	}
	a := syncAnswer{typ: r.protocolType, protocol: r.protocol, assignment: m.classicAssignment(mb.classic.protocols[0].metadata, has)}
	m.durably(func() { r.done(a) }, func(code wire.Code) { r.done(syncAnswer{code: code}) })
}

// heartbeatMixed is a Heartbeat to a consumer group.
func (m *machine) heartbeatMixed(g *group, id string, instance *string, generation int32) wire.Code {
	c := g.consumer
	mb, code := c.mixedMember(id, instance, generation)
	if code != wire.None {
		return code
	}
	m.timers.set(mb.session, m.now+int64(mb.classic.session))
	if mb.epoch < c.assigned || mb.state == memberUnrevoked || mb.state == memberUnreleased && !c.waits(mb) {
		m.rejoinInTime(mb)
		return wire.RebalanceInProgress
	}
	return wire.None
}

// rejoinInTime removes a classic member that was told to join anew and does not.
func (m *machine) rejoinInTime(mb *consumerMember) {
	if mb.rejoin.index < 0 {
		m.timers.set(mb.rejoin, m.now+int64(mb.rebalanceTimeout))
	}
}

// waits tells whether somebody else still has a partition that the member shall get.
func (c *consumerGroup) waits(mb *consumerMember) bool {
	for topic, all := range mb.target {
		for _, p := range all {
			if _, ok := mb.assigned.find(topic, p); !ok && c.owners[topic][p] != nil {
				return true
			}
		}
	}
	return false
}

// leaveMixed takes members of a consumer group out on a LeaveGroup, one code for each.
func (m *machine) leaveMixed(g *group, leavers []leaver) []wire.Code {
	c := g.consumer
	codes := make([]wire.Code, len(leavers))
	var members []*consumerMember
	for i, l := range leavers {
		mb := c.members[l.memberID]
		if l.instance != nil {
			mb = c.members[c.statics[*l.instance]]
		}
		switch {
		case mb == nil:
			codes[i] = wire.UnknownMemberID
		case l.instance != nil && l.memberID != "" && mb.id != l.memberID:
			codes[i] = wire.FencedInstanceID
		default:
			members = append(members, mb)
		}
	}
	m.fence(g, "member left", members...)
	return codes
}

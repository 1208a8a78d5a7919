package coordinator

import "github.com/braidstream/braid/wire"

// rebalance starts one, or sees whether the one under way is complete.
func (m *machine) rebalance(g *group, reason string) {
	if g.canRebalance() {
		m.prepare(g, reason)
		return
	}
	m.maybeCompleteJoin(g)
}

// prepare asks all members to join anew.
func (m *machine) prepare(g *group, reason string) {
	if g.state == stateCompleting {
		for _, mb := range g.order {
			mb.assignment = []byte{}
			g.weigh(mb)
			if g.answerSync(m, mb, syncAnswer{code: wire.RebalanceInProgress}) {
				m.alive(mb, int64(mb.sessionTimeout))
			}
		}
	}
	clear(g.syncing)
	m.timers.stop(g.syncTimer)
	initial := g.state == stateEmpty
	g.move(m, statePreparing)
	m.logger.Debug("group rebalances", "tenant", g.key.tenant, "group", g.key.group, "generation", g.generation, "reason", reason)
	if initial {
		// Members of a new group come one after another: give them time.
		delay := m.config.InitialRebalanceDelay.Milliseconds()
		g.newMembers = false
		m.initialDelay(g, delay, max(g.rebalanceTimeout()-delay, 0))
		return
	}
	if g.allJoined() {
		m.completeJoin(g)
		return
	}
	g.joinTimer.fire = func() { m.completeJoin(g) }
	m.timers.set(g.joinTimer, m.now+g.rebalanceTimeout())
}

// initialDelay waits for delay ms, and again as long as members came meanwhile
// and remaining ms are left.
func (m *machine) initialDelay(g *group, delay, remaining int64) {
	g.joinTimer.fire = func() {
		if g.newMembers && remaining != 0 {
			g.newMembers = false
			m.initialDelay(g, min(m.config.InitialRebalanceDelay.Milliseconds(), remaining), max(remaining-delay, 0))
			return
		}
		m.completeJoin(g)
	}
	m.timers.stop(g.joinTimer)
	m.timers.set(g.joinTimer, m.now+delay)
}

func (m *machine) maybeCompleteJoin(g *group) {
	// The initial rebalance ends by its delay only.
	if g.state == statePreparing && g.previous != stateEmpty && g.allJoined() {
		m.completeJoin(g)
	}
}

// completeJoin ends the join phase: who did not come is out, and the others get
// the next generation.
func (m *machine) completeJoin(g *group) {
	m.timers.stop(g.joinTimer)
	if m.groups[g.key] != g || g.state != statePreparing {
		return
	}
	for _, mb := range append([]*member(nil), g.order...) {
		// Static members stay until their session ends.
		if mb.join == nil && mb.instance == nil {
			g.remove(m, mb)
		}
	}
	if !g.electJoined() && len(g.members) > 0 {
		// Nobody joined: wait until sessions have removed them. Clients may say that
		// their rebalance timeout is 0; looking all the time is no use.
		g.joinTimer.fire = func() { m.completeJoin(g) }
		m.timers.set(g.joinTimer, m.now+max(g.rebalanceTimeout(), 1000))
		return
	}
	g.generation++
	clear(g.syncing)
	if len(g.members) == 0 {
		g.protocol, g.leader = nil, ""
		g.subscribed = g.readSubscriptions()
		g.move(m, stateEmpty)
		m.persist(g, nil)
		return
	}
	chosen := g.vote()
	g.protocol = &chosen
	g.subscribed = g.readSubscriptions()
	g.move(m, stateCompleting)
	for _, mb := range g.order {
		a := joinAnswer{memberID: mb.id, generation: g.generation, typ: g.protocolType, protocol: g.protocol, leader: g.leader}
		if mb.id == g.leader {
			a.members = g.listMembers()
		}
		g.answerJoin(m, mb, a)
		mb.isNew = false
		m.alive(mb, int64(mb.sessionTimeout))
		g.syncing[mb.id] = true
	}
	m.timers.stop(g.syncTimer)
	m.timers.set(g.syncTimer, m.now+g.rebalanceTimeout())
}

// expireSync removes the members that never asked for their assignment (KIP-792
// and KAFKA-9752): they would be assigned partitions and not work on them.
func (m *machine) expireSync(g *group) {
	if m.groups[g.key] != g || (g.state != stateCompleting && g.state != stateStable) || len(g.syncing) == 0 {
		return
	}
	for _, mb := range append([]*member(nil), g.order...) {
		if g.syncing[mb.id] {
			g.remove(m, mb)
		}
	}
	m.prepare(g, "members sent no SyncGroup in time")
}

// expireSession removes a member that sent no heartbeat.
func (m *machine) expireSession(g *group, mb *member) {
	if g.members[mb.id] != mb {
		return
	}
	// Who waits for an answer of ours cannot send heartbeats. New members can be
	// left behind by their client, so that does not hold for them.
	if !mb.isNew && (mb.join != nil || mb.sync != nil) {
		return
	}
	m.logger.Info("member of group has failed", "tenant", g.key.tenant, "group", g.key.group, "member", mb.id)
	m.removeMember(g, mb)
	switch {
	case g.state == stateStable || g.state == stateCompleting:
		m.rebalance(g, "member failed")
	case g.state == statePreparing && g.allJoined():
		m.completeJoin(g)
	}
}

// removeMember takes a member out and answers what it has parked: if it is alive
// after all, it joins anew.
func (m *machine) removeMember(g *group, mb *member) {
	g.answerJoin(m, mb, joinAnswer{code: wire.UnknownMemberID, generation: -1})
	g.answerSync(m, mb, syncAnswer{code: wire.UnknownMemberID})
	g.remove(m, mb)
}

// expirePending forgets a member id whose owner never came back with it.
func (m *machine) expirePending(g *group, id string) {
	g.forgetPending(id)
	if g.state == statePreparing && g.allJoined() {
		m.completeJoin(g)
	}
}

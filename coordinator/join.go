package coordinator

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// JoinGroup, versions 0 to 9, as Apache Kafka 4.3. All offered protocols of a
// member outlive a change of owner (Kafka keeps the chosen one only), so members
// that rejoin unchanged after it cause no rebalance.

// joinAnswer is what a JoinGroup comes to.
type joinAnswer struct {
	code       wire.Code
	memberID   string
	generation int32
	typ        *string
	protocol   *string
	leader     string
	skip       bool // the leader need not assign (KIP-814)
	members    []kmsg.JoinGroupResponseMember
}

type joinRequest struct {
	key              groupKey
	version          int16
	memberID         string
	instance         *string
	clientID         string
	clientHost       string
	protocolType     string
	protocols        []protocol
	rebalanceTimeout int32
	sessionTimeout   int32
	reason           string
	done             func(joinAnswer)
}

func joinError(req *kmsg.JoinGroupRequest, memberID string, code wire.Code) *kmsg.JoinGroupResponse {
	return joinResponse(req, joinAnswer{code: code, memberID: memberID, generation: -1})
}

func joinResponse(req *kmsg.JoinGroupRequest, a joinAnswer) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Version = req.Version
	resp.ErrorCode = int16(a.code)
	resp.Generation = a.generation
	resp.ProtocolType = a.typ
	resp.Protocol = a.protocol
	resp.LeaderID = a.leader
	resp.SkipAssignment = a.skip
	resp.MemberID = a.memberID
	resp.Members = a.members
	return resp
}

// JoinGroupAsync answers by done, exactly once, from any goroutine; done must
// not block. Until then req is the coordinator's; it keeps nothing that aliases
// the request's bytes.
func (c *Coordinator) JoinGroupAsync(caller Caller, req *kmsg.JoinGroupRequest, done func(*kmsg.JoinGroupResponse)) {
	if code := c.checkJoin(caller, req); code != wire.None {
		done(joinError(req, req.MemberID, code))
		return
	}
	j := &joinRequest{
		key:              groupKey{caller.Tenant, req.Group},
		version:          req.Version,
		memberID:         req.MemberID,
		instance:         req.InstanceID,
		clientID:         caller.ClientID,
		clientHost:       caller.ClientHost,
		protocolType:     req.ProtocolType,
		rebalanceTimeout: req.RebalanceTimeoutMillis,
		sessionTimeout:   req.SessionTimeoutMillis,
		protocols:        make([]protocol, 0, len(req.Protocols)),
		done:             func(a joinAnswer) { done(joinResponse(req, a)) },
	}
	if req.Version == 0 {
		j.rebalanceTimeout = req.SessionTimeoutMillis
	}
	if req.Reason != nil {
		j.reason = *req.Reason
	}
	for i := range req.Protocols {
		// kmsg aliases the request's buffer; members outlive it.
		j.protocols = append(j.protocols, protocol{req.Protocols[i].Name, append([]byte{}, req.Protocols[i].Metadata...)})
	}
	if code := c.within(caller.Tenant, req.Group, func(m *machine) { m.join(j) }); code != wire.None {
		done(joinError(req, req.MemberID, code))
	}
}

func (c *Coordinator) checkJoin(caller Caller, req *kmsg.JoinGroupRequest) wire.Code {
	session := int64(req.SessionTimeoutMillis)
	size, name := 0, max(len(req.MemberID), len(req.ProtocolType), len(caller.ClientID), len(caller.ClientHost))
	if req.InstanceID != nil {
		name = max(name, len(*req.InstanceID))
	}
	for i := range req.Protocols {
		size += len(req.Protocols[i].Name) + len(req.Protocols[i].Metadata)
		name = max(name, len(req.Protocols[i].Name))
	}
	switch {
	case req.Group == "", len(req.Group) > maxName:
		return wire.InvalidGroupID
	case name > maxName:
		return wire.InvalidRequest
	case session < c.config.MinSessionTimeout.Milliseconds() || session > c.config.MaxSessionTimeout.Milliseconds():
		return wire.InvalidSessionTimeout
	case len(req.Protocols) > maxProtocols, size > c.config.MaxRecordBytes/2:
		return wire.InvalidRequest
	}
	return wire.None
}

func (m *machine) join(j *joinRequest) {
	answer := func(a joinAnswer) { m.reply(func() { j.done(a) }) }
	unknown := j.memberID == ""
	g := m.groups[j.key]
	isNew := g == nil
	if g != nil && g.consumer != nil {
		if len(g.consumer.members) > 0 {
			m.joinMixed(g, j)
			return
		}
		if !unknown {
			answer(joinAnswer{code: wire.UnknownMemberID, memberID: j.memberID, generation: -1})
			return
		}
		m.becomeClassic(g)
		m.persist(g, nil)
	}
	switch {
	case isNew && !unknown:
		answer(joinAnswer{code: wire.UnknownMemberID, memberID: j.memberID, generation: -1})
		return
	case isNew:
		if code := m.mayGrow(j.key); code != wire.None {
			answer(joinAnswer{code: code, generation: -1})
			return
		}
		g = m.newGroup(j.key)
	case !m.accepts(g, j.memberID):
		if mb := g.members[j.memberID]; mb != nil {
			g.remove(m, mb)
		}
		g.removePending(m, j.memberID)
		answer(joinAnswer{code: wire.GroupMaxSizeReached, generation: -1})
		return
	}
	if !g.supports(j.protocolType, j.protocols) {
		answer(joinAnswer{code: wire.InconsistentGroupProtocol, memberID: j.memberID, generation: -1})
		if isNew {
			m.drop(g)
		}
		return
	}
	if m.tooLarge(g, j) {
		answer(joinAnswer{code: wire.GroupMaxSizeReached, memberID: j.memberID, generation: -1})
		if isNew {
			m.drop(g)
		}
		return
	}
	if isNew {
		// An empty group is on record from its first request on, as in Kafka, so
		// that ListGroups shows the same on the next owner.
		m.persist(g, nil)
	}
	if unknown {
		m.joinNew(g, j)
	} else {
		m.joinKnown(g, j)
	}
}

// accepts holds group.max.size. While members join, those that wait count, so
// that the last to come are left out when the limit was lowered.
func (m *machine) accepts(g *group, memberID string) bool {
	mb := g.members[memberID]
	switch g.state {
	case statePreparing:
		return mb != nil && mb.join != nil || g.joining < m.config.MaxGroupSize
	case stateCompleting, stateStable:
		return mb != nil || len(g.members) < m.config.MaxGroupSize
	}
	return true
}

// tooLarge bounds the group's record, and what the tenant holds.
func (m *machine) tooLarge(g *group, j *joinRequest) bool {
	if len(g.members) >= maxMembers || !m.mayHold(g.key.tenant, g.joinGrowth(j)) {
		return true
	}
	size := 0
	for _, mb := range g.order {
		if mb.id != j.memberID {
			size += mb.size()
		}
	}
	size += (&member{id: j.memberID, clientID: j.clientID, clientHost: j.clientHost, protocols: j.protocols}).size()
	return size > m.config.MaxRecordBytes/2
}

// size is what the member takes in the group's record, without its assignment.
func (mb *member) size() int {
	n := len(mb.id) + len(mb.clientID) + len(mb.clientHost) + 96
	for _, p := range mb.protocols {
		n += len(p.name) + len(p.metadata) + 8
	}
	return n
}

func (m *machine) joinNew(g *group, j *joinRequest) {
	prefix := j.clientID
	if j.instance != nil {
		prefix = *j.instance
	}
	id := prefix + "-" + m.newID()
	switch {
	case j.instance != nil:
		if old, ok := g.statics[*j.instance]; ok {
			m.replaceStatic(g, j, g.members[old], id)
			return
		}
		m.addMember(g, j, id)
	case j.version >= 4 && len(g.pending) >= maxPending:
		m.reply(func() { j.done(joinAnswer{code: wire.GroupMaxSizeReached, generation: -1}) })
	case j.version >= 4:
		// KIP-394: the member is not in the group before it is known to have got its id.
		t := newTimer(func() { m.expirePending(g, id) })
		g.keepPending(id, t)
		m.timers.set(t, m.now+int64(j.sessionTimeout))
		m.reply(func() { j.done(joinAnswer{code: wire.MemberIDRequired, memberID: id, generation: -1}) })
	default:
		m.addMember(g, j, id)
	}
}

func (m *machine) joinKnown(g *group, j *joinRequest) {
	answer := func(a joinAnswer) { m.reply(func() { j.done(a) }) }
	if _, ok := g.pending[j.memberID]; ok {
		if j.instance != nil {
			// Pending ids are given to dynamic members only.
			answer(joinAnswer{code: wire.UnknownMemberID, memberID: j.memberID, generation: -1})
			return
		}
		m.addMember(g, j, j.memberID)
		return
	}
	if code := g.check(j.memberID, j.instance); code != wire.None {
		answer(joinAnswer{code: code, memberID: j.memberID, generation: -1})
		return
	}
	mb := g.members[j.memberID]
	same := mb.offers(j.protocols)
	switch {
	case g.state == statePreparing,
		g.state == stateCompleting && !same,
		// The leader joins to have partitions assigned anew, whatever it says.
		g.state == stateStable && (!same || g.leader == mb.id):
		// A request that is still parked was given up by its client.
		g.answerJoin(m, mb, joinAnswer{code: wire.RebalanceInProgress, memberID: mb.id, generation: -1})
		g.update(mb, j.protocols, j.rebalanceTimeout, j.sessionTimeout, j.done)
		m.rebalance(g, "member joins anew: "+j.reason)
	case g.state == stateCompleting || g.state == stateStable:
		// It did not get the answer: it gets the current generation again.
		a := joinAnswer{memberID: mb.id, generation: g.generation, typ: g.protocolType, protocol: g.protocol, leader: g.leader}
		if g.state == stateCompleting && g.leader == mb.id {
			a.members = g.listMembers()
		}
		answer(a)
	default:
		answer(joinAnswer{code: wire.UnknownMemberID, memberID: j.memberID, generation: -1})
	}
}

func (g *group) listMembers() []kmsg.JoinGroupResponseMember {
	all := make([]kmsg.JoinGroupResponseMember, len(g.order))
	for i, mb := range g.order {
		all[i] = kmsg.NewJoinGroupResponseMember()
		all[i].MemberID = mb.id
		all[i].InstanceID = mb.instance
		all[i].ProtocolMetadata = g.metadata(mb)
	}
	return all
}

func (m *machine) newMember(g *group, j *joinRequest, id string) *member {
	mb := &member{
		id: id, instance: j.instance, clientID: j.clientID, clientHost: j.clientHost,
		rebalanceTimeout: j.rebalanceTimeout, sessionTimeout: j.sessionTimeout,
		protocolType: j.protocolType, protocols: j.protocols, assignment: []byte{},
		join: j.done,
	}
	mb.session = newTimer(func() { m.expireSession(g, mb) })
	return mb
}

func (m *machine) addMember(g *group, j *joinRequest, id string) {
	g.removePending(m, id)
	mb := m.newMember(g, j, id)
	mb.isNew = true
	if g.state == statePreparing && g.previous == stateEmpty {
		g.newMembers = true
	}
	g.add(mb)
	// A new member cannot send heartbeats while its JoinGroup is parked; a client
	// that gave up and came again would leave it behind for ever.
	m.alive(mb, m.config.NewMemberJoinTimeout.Milliseconds())
	m.rebalance(g, "new member: "+j.reason)
}

// replaceStatic gives an instance's membership to the process that joins now; the
// former holder is fenced (KIP-345).
func (m *machine) replaceStatic(g *group, j *joinRequest, old *member, id string) {
	leader := g.leader
	g.answerJoin(m, old, joinAnswer{code: wire.FencedInstanceID, memberID: old.id, generation: -1})
	g.answerSync(m, old, syncAnswer{code: wire.FencedInstanceID})
	m.timers.stop(old.session)
	mb := m.newMember(g, j, id)
	mb.clientID, mb.clientHost = j.clientID, j.clientHost
	mb.assignment = old.assignment
	mb.isNew = false
	g.unweigh(old)
	for i, o := range g.order {
		if o == old {
			g.order[i] = mb
		}
	}
	delete(g.members, old.id)
	g.members[id] = mb
	g.weigh(mb)
	g.count(old, -1)
	g.count(mb, 1)
	g.joining++
	delete(g.syncing, old.id)
	g.statics[*j.instance] = id
	if g.leader == old.id {
		g.leader = id
	}
	m.alive(mb, int64(mb.sessionTimeout))
	switch g.state {
	case stateStable:
		if g.protocol == nil || g.vote() != *g.protocol {
			m.rebalance(g, "static member changed the protocol: "+j.reason)
			return
		}
		m.persist(g, nil)
		generation := g.generation
		m.afterwards(func() {
			// The group may have moved on while the record was on its way; then the
			// member is one of those that are joining.
			if g.members[id] != mb || g.state != stateStable || g.generation != generation {
				return
			}
			a := joinAnswer{memberID: id, generation: generation, typ: g.protocolType, protocol: g.protocol, leader: leader}
			if j.version >= 9 {
				a.leader = g.leader
				if a.skip = g.leader == id; a.skip {
					a.members = g.listMembers()
				}
			}
			// Its session may have ended unheeded while the request was parked.
			if g.answerJoin(m, mb, a) {
				m.alive(mb, int64(mb.sessionTimeout))
			}
		})
	case stateCompleting:
		// The leader may have the old id already, so its assignment would not fit.
		m.prepare(g, "static member replaced: "+j.reason)
	default:
		m.maybeCompleteJoin(g)
	}
}

package coordinator

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// SyncGroup, versions 0 to 5, as Apache Kafka 4.3.

// syncAnswer is what a SyncGroup comes to.
type syncAnswer struct {
	code       wire.Code
	typ        *string
	protocol   *string
	assignment []byte
}

type syncRequest struct {
	key          groupKey
	generation   int32
	memberID     string
	instance     *string
	protocolType *string
	protocol     *string
	assignments  map[string][]byte
	done         func(syncAnswer)
}

func syncError(req *kmsg.SyncGroupRequest, code wire.Code) *kmsg.SyncGroupResponse {
	return syncResponse(req, syncAnswer{code: code})
}

func syncResponse(req *kmsg.SyncGroupRequest, a syncAnswer) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version = req.Version
	resp.ErrorCode = int16(a.code)
	resp.ProtocolType = a.typ
	resp.Protocol = a.protocol
	resp.MemberAssignment = a.assignment
	if resp.MemberAssignment == nil {
		resp.MemberAssignment = []byte{}
	}
	return resp
}

// SyncGroupAsync answers by done, exactly once, from any goroutine; done must
// not block. Until then req is the coordinator's; it keeps nothing that aliases
// the request's bytes.
func (c *Coordinator) SyncGroupAsync(caller Caller, req *kmsg.SyncGroupRequest, done func(*kmsg.SyncGroupResponse)) {
	size := 0
	for i := range req.GroupAssignment {
		size += len(req.GroupAssignment[i].MemberID) + len(req.GroupAssignment[i].MemberAssignment)
	}
	switch {
	case req.Group == "":
		done(syncError(req, wire.InvalidGroupID))
		return
	case req.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil):
		// KIP-559: mandatory since version 5.
		done(syncError(req, wire.InconsistentGroupProtocol))
		return
	case size > c.config.MaxRecordBytes/2:
		// What Kafka makes of a group that does not fit into a record.
		done(syncError(req, wire.UnknownServerError))
		return
	}
	r := &syncRequest{
		key:          groupKey{caller.Tenant, req.Group},
		generation:   req.Generation,
		memberID:     req.MemberID,
		instance:     req.InstanceID,
		protocolType: req.ProtocolType,
		protocol:     req.Protocol,
		assignments:  make(map[string][]byte, len(req.GroupAssignment)),
		done:         func(a syncAnswer) { done(syncResponse(req, a)) },
	}
	for i := range req.GroupAssignment {
		a := &req.GroupAssignment[i]
		r.assignments[a.MemberID] = append([]byte{}, a.MemberAssignment...)
	}
	if code := c.within(caller.Tenant, req.Group, func(m *machine) { m.sync(r) }); code != wire.None {
		done(syncError(req, code))
	}
}

func (m *machine) sync(r *syncRequest) {
	answer := func(a syncAnswer) { m.reply(func() { r.done(a) }) }
	g := m.groups[r.key]
	if g != nil && g.consumer != nil && len(g.consumer.members) > 0 {
		m.syncMixed(g, r)
		return
	}
	if g == nil || g.state == stateEmpty {
		answer(syncAnswer{code: wire.UnknownMemberID})
		return
	}
	code := g.check(r.memberID, r.instance)
	switch {
	case code != wire.None:
	case r.generation != g.generation:
		code = wire.IllegalGeneration
	case differ(r.protocolType, g.protocolType), differ(r.protocol, g.protocol):
		code = wire.InconsistentGroupProtocol
	case g.state == statePreparing:
		code = wire.RebalanceInProgress
	case g.state == stateCompleting && g.leader == r.memberID && !m.mayHold(r.key.tenant, g.syncGrowth(r.assignments)):
		// Its SyncGroup is awaited still: without another one the leader is out in the end, and the others join anew.
		code = wire.PolicyViolation
	}
	if code != wire.None {
		answer(syncAnswer{code: code})
		return
	}
	mb := g.members[r.memberID]
	delete(g.syncing, mb.id)
	if len(g.syncing) == 0 {
		m.timers.stop(g.syncTimer)
	}
	if g.state == stateStable {
		answer(syncAnswer{typ: g.protocolType, protocol: g.protocol, assignment: mb.assignment})
		return
	}
	g.answerSync(m, mb, syncAnswer{code: wire.RebalanceInProgress})
	mb.sync = r.done
	if g.leader != mb.id {
		return
	}
	assignments := make(map[string][]byte, len(g.order))
	for _, o := range g.order {
		assignments[o.id] = r.assignments[o.id]
		if assignments[o.id] == nil {
			assignments[o.id] = []byte{}
		}
	}
	m.persist(g, assignments)
	generation := g.generation
	m.afterwards(func() {
		// Another member may have come while the record was on its way.
		if m.groups[g.key] != g || g.state != stateCompleting || g.generation != generation {
			return
		}
		for _, o := range g.order {
			o.assignment = assignments[o.id]
			g.weigh(o)
			if g.answerSync(m, o, syncAnswer{typ: g.protocolType, protocol: g.protocol, assignment: o.assignment}) {
				// A session that ended while we were at work was not minded.
				m.alive(o, int64(o.sessionTimeout))
			}
		}
		g.move(m, stateStable)
	})
}

// differ tells whether a value that the request may leave out is another.
func differ(asked, is *string) bool { return asked != nil && is != nil && *asked != *is }

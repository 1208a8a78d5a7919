package coordinator

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// leaver names a member that leaves; an instance without a member id is removed
// by an administrator.
type leaver struct {
	memberID string
	instance *string
	reason   string
}

func leaveError(req *kmsg.LeaveGroupRequest, code wire.Code) *kmsg.LeaveGroupResponse {
	resp := kmsg.NewPtrLeaveGroupResponse()
	resp.Version = req.Version
	resp.ErrorCode = int16(code)
	return resp
}

// LeaveGroup answers LeaveGroup, versions 0 to 5, as Apache Kafka 4.3, once the
// group is in the log if nobody is left in it.
func (c *Coordinator) LeaveGroup(ctx context.Context, caller Caller, req *kmsg.LeaveGroupRequest) *kmsg.LeaveGroupResponse {
	if req.Group == "" {
		return leaveError(req, wire.InvalidGroupID)
	}
	var leavers []leaver
	if req.Version < 3 {
		leavers = []leaver{{memberID: req.MemberID}}
	} else {
		leavers = make([]leaver, len(req.Members))
		for i := range req.Members {
			leavers[i] = leaver{memberID: req.Members[i].MemberID, instance: req.Members[i].InstanceID}
			if req.Members[i].Reason != nil {
				leavers[i].reason = *req.Members[i].Reason
			}
		}
	}
	var codes []wire.Code
	code := await(ctx, func(done func(wire.Code)) {
		code := c.within(caller.Tenant, req.Group, func(m *machine) {
			codes = m.leave(groupKey{caller.Tenant, req.Group}, leavers)
			m.durably(func() { done(wire.None) }, done)
		})
		if code != wire.None {
			done(code)
		}
	}, func() wire.Code { return wire.RequestTimedOut })
	if code != wire.None {
		return leaveError(req, code)
	}
	if req.Version < 3 {
		return leaveError(req, codes[0])
	}
	resp := leaveError(req, wire.None)
	resp.Members = make([]kmsg.LeaveGroupResponseMember, len(leavers))
	for i := range leavers {
		mb := kmsg.NewLeaveGroupResponseMember()
		mb.MemberID = leavers[i].memberID
		mb.InstanceID = leavers[i].instance
		mb.ErrorCode = int16(codes[i])
		resp.Members[i] = mb
	}
	return resp
}

// leave takes members out, one code for each.
func (m *machine) leave(key groupKey, leavers []leaver) []wire.Code {
	codes := make([]wire.Code, len(leavers))
	g := m.groups[key]
	if g != nil && g.consumer != nil {
		return m.leaveMixed(g, leavers)
	}
	left := false
	for i, l := range leavers {
		if g == nil {
			codes[i] = wire.UnknownMemberID
			continue
		}
		codes[i] = m.leaveOne(g, l)
		left = left || codes[i] == wire.None
	}
	if left {
		switch g.state {
		case stateStable, stateCompleting:
			m.rebalance(g, "members left")
		case statePreparing:
			m.maybeCompleteJoin(g)
		}
	}
	return codes
}

func (m *machine) leaveOne(g *group, l leaver) wire.Code {
	id := l.memberID
	if id == "" {
		if l.instance == nil || g.statics[*l.instance] == "" {
			return wire.UnknownMemberID
		}
		id = g.statics[*l.instance]
	} else if _, ok := g.pending[id]; ok {
		g.removePending(m, id)
		return wire.None
	} else if code := g.check(id, l.instance); code != wire.None {
		return code
	}
	m.logger.Info("member left group", "tenant", g.key.tenant, "group", g.key.group, "member", id, "reason", l.reason)
	m.removeMember(g, g.members[id])
	return wire.None
}

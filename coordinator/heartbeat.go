package coordinator

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

func heartbeatResponse(req *kmsg.HeartbeatRequest, code wire.Code) *kmsg.HeartbeatResponse {
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.Version = req.Version
	resp.ErrorCode = int16(code)
	return resp
}

// Heartbeat answers Heartbeat, versions 0 to 4, as Apache Kafka 4.3. It never blocks.
func (c *Coordinator) Heartbeat(_ context.Context, caller Caller, req *kmsg.HeartbeatRequest) *kmsg.HeartbeatResponse {
	if req.Group == "" {
		return heartbeatResponse(req, wire.InvalidGroupID)
	}
	var answer wire.Code
	code := c.within(caller.Tenant, req.Group, func(m *machine) {
		answer = m.heartbeat(groupKey{caller.Tenant, req.Group}, req.MemberID, req.InstanceID, req.Generation)
	})
	switch code {
	case wire.None:
		code = answer
	case wire.CoordinatorLoadInProgress:
		// The member is alive and there is nothing to tell it yet.
		code = wire.None
	}
	return heartbeatResponse(req, code)
}

func (m *machine) heartbeat(key groupKey, memberID string, instance *string, generation int32) wire.Code {
	g := m.groups[key]
	if g == nil {
		return wire.UnknownMemberID
	}
	if g.consumer != nil {
		return m.heartbeatMixed(g, memberID, instance, generation)
	}
	if code := g.check(memberID, instance); code != wire.None {
		return code
	}
	if generation != g.generation {
		return wire.IllegalGeneration
	}
	if g.state == stateEmpty {
		return wire.UnknownMemberID
	}
	mb := g.members[memberID]
	m.alive(mb, int64(mb.sessionTimeout))
	if g.state == statePreparing {
		return wire.RebalanceInProgress
	}
	return wire.None
}

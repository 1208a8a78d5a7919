package gateway

// JoinGroup, key 11, versions 0 to 9.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.
// The connection takes nothing else until the group has rebalanced, as a
// broker's does. A gateway that drains answers NOT_COORDINATOR at once.

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func joinGroup(call *call, req *kmsg.JoinGroupRequest) kmsg.Response {
	if code := call.onGroup(acl.Read, req.Group); code != wire.None {
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.Generation, resp.ErrorCode = -1, call.failed(code)
		return resp
	}
	ctx, done := call.patient()
	defer done()
	resp := call.g.coordinator.JoinGroup(ctx, call.caller(), req)
	if gaveUp(ctx, call) {
		resp.ErrorCode = int16(wire.NotCoordinator)
	}
	call.coded(resp.ErrorCode)
	return resp
}

// patient is the context of a call that may wait for minutes: it also ends when
// the gateway drains.
func (call *call) patient() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(call.ctx)
	stop := context.AfterFunc(call.g.undrained, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// gaveUp tells whether a patient call was cut short by the drain: its client
// has to look for the coordinator anew.
func gaveUp(ctx context.Context, call *call) bool { return ctx.Err() != nil && call.ctx.Err() == nil }

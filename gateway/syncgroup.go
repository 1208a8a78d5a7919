package gateway

// SyncGroup, key 14, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.
// A gateway that drains answers NOT_COORDINATOR at once.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func syncGroup(call *call, req *kmsg.SyncGroupRequest) kmsg.Response {
	if code := call.onGroup(acl.Read, req.Group); code != wire.None {
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.ErrorCode = call.failed(code)
		return resp
	}
	ctx, done := call.patient()
	defer done()
	resp := call.g.coordinator.SyncGroup(ctx, call.caller(), req)
	if gaveUp(ctx, call) {
		resp.ErrorCode = int16(wire.NotCoordinator)
	}
	call.coded(resp.ErrorCode)
	return resp
}

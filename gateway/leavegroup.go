package gateway

// LeaveGroup, key 13, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func leaveGroup(call *call, req *kmsg.LeaveGroupRequest) kmsg.Response {
	if code := call.onGroup(acl.Read, req.Group); code != wire.None {
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.ErrorCode = call.failed(code)
		return resp
	}
	resp := call.g.coordinator.LeaveGroup(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

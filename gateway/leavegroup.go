package gateway

// LeaveGroup, key 13, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func leaveGroup(call *call, req *kmsg.LeaveGroupRequest) kmsg.Response {
	resp := call.g.coordinator.LeaveGroup(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

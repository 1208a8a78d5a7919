package gateway

// JoinGroup, key 11, versions 0 to 9.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.
// The connection takes nothing else until the group has rebalanced, as a
// broker's does.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func joinGroup(call *call, req *kmsg.JoinGroupRequest) kmsg.Response {
	resp := call.g.coordinator.JoinGroup(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

package gateway

// SyncGroup, key 14, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func syncGroup(call *call, req *kmsg.SyncGroupRequest) kmsg.Response {
	resp := call.g.coordinator.SyncGroup(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

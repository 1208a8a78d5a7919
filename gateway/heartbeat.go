package gateway

// Heartbeat, key 12, versions 0 to 4.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func heartbeat(call *call, req *kmsg.HeartbeatRequest) kmsg.Response {
	resp := call.g.coordinator.Heartbeat(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

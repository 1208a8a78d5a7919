package gateway

// Heartbeat, key 12, versions 0 to 4.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func heartbeat(call *call, req *kmsg.HeartbeatRequest) kmsg.Response {
	if code := call.onGroup(acl.Read, req.Group); code != wire.None {
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.ErrorCode = call.failed(code)
		return resp
	}
	resp := call.g.coordinator.Heartbeat(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

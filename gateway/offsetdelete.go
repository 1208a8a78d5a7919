package gateway

// OffsetDelete, key 47, version 0.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func offsetDelete(call *call, req *kmsg.OffsetDeleteRequest) kmsg.Response {
	resp := call.g.coordinator.OffsetDelete(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

package gateway

// OffsetFetch, key 9, versions 1 to 10.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func offsetFetch(call *call, req *kmsg.OffsetFetchRequest) kmsg.Response {
	resp := call.g.coordinator.OffsetFetch(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	for i := range resp.Groups {
		call.coded(resp.Groups[i].ErrorCode)
	}
	return resp
}

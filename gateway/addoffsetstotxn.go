package gateway

// AddOffsetsToTxn, key 25, versions 0 to 4.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func addOffsetsToTxn(call *call, req *kmsg.AddOffsetsToTxnRequest) kmsg.Response {
	resp := call.g.coordinator.AddOffsetsToTxn(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

package gateway

// EndTxn, key 26, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func endTxn(call *call, req *kmsg.EndTxnRequest) kmsg.Response {
	resp := call.g.coordinator.EndTxn(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

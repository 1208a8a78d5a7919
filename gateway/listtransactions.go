package gateway

// ListTransactions, key 66, versions 0 to 2.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func listTransactions(call *call, req *kmsg.ListTransactionsRequest) kmsg.Response {
	resp := call.g.coordinator.ListTransactions(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

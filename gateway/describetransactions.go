package gateway

// DescribeTransactions, key 65, version 0.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func describeTransactions(call *call, req *kmsg.DescribeTransactionsRequest) kmsg.Response {
	resp := call.g.coordinator.DescribeTransactions(call.ctx, call.caller(), req)
	for i := range resp.TransactionStates {
		call.coded(resp.TransactionStates[i].ErrorCode)
	}
	return resp
}

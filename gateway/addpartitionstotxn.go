package gateway

// AddPartitionsToTxn, key 24, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func addPartitionsToTxn(call *call, req *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	resp := call.g.coordinator.AddPartitionsToTxn(call.ctx, call.caller(), req)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			call.coded(resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	for i := range resp.Transactions {
		for j := range resp.Transactions[i].Topics {
			for _, p := range resp.Transactions[i].Topics[j].Partitions {
				call.coded(p.ErrorCode)
			}
		}
	}
	return resp
}

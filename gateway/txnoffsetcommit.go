package gateway

// TxnOffsetCommit, key 28, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func txnOffsetCommit(call *call, req *kmsg.TxnOffsetCommitRequest) kmsg.Response {
	resp := call.g.coordinator.TxnOffsetCommit(call.ctx, call.caller(), req)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			call.coded(resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	return resp
}

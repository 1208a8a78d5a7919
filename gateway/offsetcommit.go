package gateway

// OffsetCommit, key 8, versions 2 to 10.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func offsetCommit(call *call, req *kmsg.OffsetCommitRequest) kmsg.Response {
	resp := call.g.coordinator.OffsetCommit(call.ctx, call.caller(), req)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			call.coded(resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	return resp
}

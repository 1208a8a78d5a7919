package gateway

// ConsumerGroupDescribe, key 69, versions 0 to 1 (KIP-848).
//
// Members are listed by id.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func consumerGroupDescribe(call *call, req *kmsg.ConsumerGroupDescribeRequest) kmsg.Response {
	resp := call.g.coordinator.ConsumerGroupDescribe(call.ctx, call.caller(), req)
	for i := range resp.Groups {
		call.coded(resp.Groups[i].ErrorCode)
		if resp.Groups[i].ErrorCode == 0 && req.IncludeAuthorizedOperations {
			resp.Groups[i].AuthorizedOperations = allGroupOperations
		}
	}
	return resp
}

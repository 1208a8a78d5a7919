package gateway

// DescribeGroups, key 15, versions 0 to 6.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// allGroupOperations is a bit set of Kafka's operations: everything, until there
// are ACLs.
const allGroupOperations = int32(1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11)

func describeGroups(call *call, req *kmsg.DescribeGroupsRequest) kmsg.Response {
	resp := call.g.coordinator.DescribeGroups(call.ctx, call.caller(), req)
	for i := range resp.Groups {
		call.coded(resp.Groups[i].ErrorCode)
		if resp.Groups[i].ErrorCode == 0 && req.IncludeAuthorizedOperations {
			resp.Groups[i].AuthorizedOperations = allGroupOperations
		}
	}
	return resp
}

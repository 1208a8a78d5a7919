package gateway

// DescribeGroups, key 15, versions 0 to 6.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func describeGroups(call *call, req *kmsg.DescribeGroupsRequest) kmsg.Response {
	resp := call.g.coordinator.DescribeGroups(call.ctx, call.caller(), req)
	for i := range resp.Groups {
		call.coded(resp.Groups[i].ErrorCode)
	}
	return resp
}

package gateway

// DeleteGroups, key 42, versions 0 to 2.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func deleteGroups(call *call, req *kmsg.DeleteGroupsRequest) kmsg.Response {
	resp := call.g.coordinator.DeleteGroups(call.ctx, call.caller(), req)
	for i := range resp.Groups {
		call.coded(resp.Groups[i].ErrorCode)
	}
	return resp
}

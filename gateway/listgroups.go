package gateway

// ListGroups, key 16, versions 0 to 5.
//
// Like a broker, a gateway lists the groups that it coordinates itself: clients
// ask every broker.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func listGroups(call *call, req *kmsg.ListGroupsRequest) kmsg.Response {
	resp := call.g.coordinator.ListGroups(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

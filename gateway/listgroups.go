package gateway

// ListGroups, key 16, versions 0 to 5.
//
// Like a broker, a gateway lists the groups that it coordinates itself: clients
// ask every broker.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
)

func listGroups(call *call, req *kmsg.ListGroupsRequest) kmsg.Response {
	resp := call.g.coordinator.ListGroups(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	if !call.may(acl.Describe, acl.Cluster, acl.ClusterName) {
		resp.Groups = slices.DeleteFunc(resp.Groups, func(g kmsg.ListGroupsResponseGroup) bool {
			return !call.may(acl.Describe, acl.Group, g.Group)
		})
	}
	return resp
}

package gateway

// DescribeGroups, key 15, versions 0 to 6.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func describeGroups(call *call, req *kmsg.DescribeGroupsRequest) kmsg.Response {
	denied := call.deniedGroups(acl.Describe, &req.Groups)
	resp := call.g.coordinator.DescribeGroups(call.ctx, call.caller(), req)
	for i := range resp.Groups {
		call.coded(resp.Groups[i].ErrorCode)
		if resp.Groups[i].ErrorCode == 0 && req.IncludeAuthorizedOperations {
			resp.Groups[i].AuthorizedOperations = call.operations(acl.Group, resp.Groups[i].Group)
		}
	}
	for _, name := range denied {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.ErrorCode = name, call.failed(wire.GroupAuthorizationFailed)
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// deniedGroups takes those groups out of a list with which who asks may not do
// something, and returns them.
func (call *call) deniedGroups(o acl.Operation, names *[]string) (denied []string) {
	if call.index == nil {
		return nil
	}
	*names = slices.DeleteFunc(*names, func(name string) bool {
		no := !call.allowed(o, acl.Group, name)
		if no {
			denied = append(denied, name)
		}
		return no
	})
	return denied
}

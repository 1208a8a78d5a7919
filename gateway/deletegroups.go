package gateway

// DeleteGroups, key 42, versions 0 to 2.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func deleteGroups(call *call, req *kmsg.DeleteGroupsRequest) kmsg.Response {
	denied := call.deniedGroups(acl.Delete, &req.Groups)
	resp := call.g.coordinator.DeleteGroups(call.ctx, call.caller(), req)
	for i := range resp.Groups {
		call.coded(resp.Groups[i].ErrorCode)
	}
	for _, name := range denied {
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode = name, call.failed(wire.GroupAuthorizationFailed)
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

package gateway

// DescribeAcls, key 29, versions 1 to 3.
//
// Like Apache Kafka: a filter selects rules, which are grouped by resource.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func describeACLs(call *call, req *kmsg.DescribeACLsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeACLsResponse()
	if code := call.onCluster(acl.Describe); code != wire.None {
		resp.ErrorCode, resp.ErrorMessage = call.refusal(code)
		return resp
	}
	filter := acl.Filter{Type: acl.ResourceType(req.ResourceType), Name: req.ResourceName, Pattern: acl.PatternType(req.ResourcePatternType),
		Principal: req.Principal, Host: req.Host, Operation: acl.Operation(req.Operation), Permission: acl.Permission(req.PermissionType)}
	if err := filter.Validate(); err != nil {
		resp.ErrorCode, resp.ErrorMessage = call.refusal(invalidRequest("%v", err))
		return resp
	}
	// Who has just made a rule by another gateway finds it.
	call.g.fresh.refresh(call.ctx)
	index := acl.Compile(acl.FromRecords(call.g.watcher.Snapshot().ACLs(call.tenant)), acl.Options{})
	var last *kmsg.DescribeACLsResponseResource
	for _, b := range index.Rules() {
		if !filter.Matches(b) {
			continue
		}
		if last == nil || last.ResourceType != kmsg.ACLResourceType(b.Type) || last.ResourceName != b.Name || last.ResourcePatternType != kmsg.ACLResourcePatternType(b.Pattern) {
			r := kmsg.NewDescribeACLsResponseResource()
			r.ResourceType, r.ResourceName, r.ResourcePatternType = kmsg.ACLResourceType(b.Type), b.Name, kmsg.ACLResourcePatternType(b.Pattern)
			resp.Resources = append(resp.Resources, r)
			last = &resp.Resources[len(resp.Resources)-1]
		}
		a := kmsg.NewDescribeACLsResponseResourceACL()
		a.Principal, a.Host, a.Operation, a.PermissionType = b.Principal, b.Host, kmsg.ACLOperation(b.Operation), kmsg.ACLPermissionType(b.Permission)
		last.ACLs = append(last.ACLs, a)
	}
	return resp
}

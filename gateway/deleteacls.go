package gateway

// DeleteAcls, key 31, versions 1 to 3.
//
// Like Apache Kafka: each filter tells what it selected.
//
// Differences: the removal of the last rule that lets somebody change the rules is
// refused with POLICY_VIOLATION, and so is that of the very last rule of a tenant
// without super users that does not allow everybody what no rule is about; the
// operator can do it all the same.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/rules"
	"github.com/braidstream/braid/wire"
)

func deleteACLs(call *call, req *kmsg.DeleteACLsRequest) kmsg.Response {
	resp := kmsg.NewPtrDeleteACLsResponse()
	filters := make([]acl.Filter, len(req.Filters))
	for i := range req.Filters {
		f := &req.Filters[i]
		filters[i] = acl.Filter{Type: acl.ResourceType(f.ResourceType), Name: f.ResourceName, Pattern: acl.PatternType(f.ResourcePatternType),
			Principal: f.Principal, Host: f.Host, Operation: acl.Operation(f.Operation), Permission: acl.Permission(f.PermissionType)}
	}
	deleted, errs := make([][]acl.Binding, len(filters)), make([]error, len(filters))
	if code := call.onCluster(acl.Alter); code != wire.None {
		for i := range errs {
			errs[i] = code
		}
	} else {
		ctx, cancel := call.limited(0)
		deleted, errs = call.g.rules.DeleteACLs(ctx, call.tenant, filters, rules.Options{Asker: call.signedOn()})
		cancel()
	}
	for i := range filters {
		r := kmsg.NewDeleteACLsResponseResult()
		if errs[i] != nil {
			r.ErrorCode, r.ErrorMessage = call.refusal(errs[i])
		}
		for _, b := range deleted[i] {
			m := kmsg.NewDeleteACLsResponseResultMatchingACL()
			m.ResourceType, m.ResourceName, m.ResourcePatternType = kmsg.ACLResourceType(b.Type), b.Name, kmsg.ACLResourcePatternType(b.Pattern)
			m.Principal, m.Host, m.Operation, m.PermissionType = b.Principal, b.Host, kmsg.ACLOperation(b.Operation), kmsg.ACLPermissionType(b.Permission)
			r.MatchingACLs = append(r.MatchingACLs, m)
		}
		resp.Results = append(resp.Results, r)
	}
	return resp
}

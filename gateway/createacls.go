package gateway

// CreateAcls, key 30, versions 1 to 3.
//
// Like Apache Kafka: a rule that is there already is made once, a bad one does not
// keep the others from being made.
//
// Differences: a change after which nobody could change the rules any more, or that
// denies everybody everything, is refused with POLICY_VIOLATION; the operator can
// make it all the same. Where a tenant allows everybody what no rule is about,
// everybody may change the rules as long as none is about the cluster. There are no delegation tokens, so no rules about them.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/rules"
	"github.com/braidstream/braid/wire"
)

// askedACL is a rule as a request asks for it.
func askedACL(c *kmsg.CreateACLsRequestCreation) acl.Binding {
	return acl.Binding{Type: acl.ResourceType(c.ResourceType), Name: c.ResourceName, Pattern: acl.PatternType(c.ResourcePatternType),
		Principal: c.Principal, Host: c.Host, Operation: acl.Operation(c.Operation), Permission: acl.Permission(c.PermissionType)}
}

func createACLs(call *call, req *kmsg.CreateACLsRequest) kmsg.Response {
	resp := kmsg.NewPtrCreateACLsResponse()
	asked := make([]acl.Binding, len(req.Creations))
	for i := range req.Creations {
		asked[i] = askedACL(&req.Creations[i])
	}
	errs := make([]error, len(asked))
	if code := call.onCluster(acl.Alter); code != wire.None {
		for i := range errs {
			errs[i] = code
		}
	} else {
		ctx, cancel := call.limited(0)
		errs = call.g.rules.CreateACLs(ctx, call.tenant, asked, rules.Options{Asker: call.signedOn()})
		cancel()
	}
	for _, err := range errs {
		r := kmsg.NewCreateACLsResponseResult()
		if err != nil {
			r.ErrorCode, r.ErrorMessage = call.refusal(err)
		}
		resp.Results = append(resp.Results, r)
	}
	return resp
}

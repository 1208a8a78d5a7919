package gateway

// DescribeUserScramCredentials, key 50, version 0.
//
// Difference: none.

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// scramNumbers are the wire's numbers of the mechanisms.
var scramNumbers = map[string]int8{sasl.ScramSHA256: 1, sasl.ScramSHA512: 2}

func describeUserScramCredentials(call *call, req *kmsg.DescribeUserSCRAMCredentialsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	if code := call.onCluster(acl.Describe); code != wire.None {
		resp.ErrorCode, resp.ErrorMessage = call.refusal(code)
		return resp
	}
	call.g.fresh.refresh(call.ctx)
	s := call.g.watcher.Snapshot()
	var names []string
	times := map[string]int{}
	for i := range req.Users {
		if name := req.Users[i].Name; times[name] == 0 {
			names = append(names, name)
		}
		times[req.Users[i].Name]++
	}
	if len(names) == 0 {
		for _, u := range s.Users(call.tenant) {
			if len(u.Credentials) > 0 {
				names = append(names, u.Name)
			}
		}
	}
	for _, name := range names {
		r := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		r.User = name
		user := s.User(call.tenant, name)
		if code, text := describable(user, name, times[name]); code != wire.None {
			r.ErrorCode, r.ErrorMessage = call.failed(code), &text
		} else {
			for _, m := range slices.Sorted(maps.Keys(user.Credentials)) {
				if number, ok := scramNumbers[m]; ok {
					info := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
					info.Mechanism, info.Iterations = number, int32(user.Credentials[m].Iterations)
					r.CredentialInfos = append(r.CredentialInfos, info)
				}
			}
		}
		resp.Results = append(resp.Results, r)
	}
	return resp
}

func describable(u *catalog.User, name string, times int) (wire.Code, string) {
	switch {
	case times > 1:
		return wire.DuplicateResource, fmt.Sprintf("Cannot describe SCRAM credentials for the same user twice in a single request: %.200s", name)
	case u == nil || len(u.Credentials) == 0:
		return wire.ResourceNotFound, fmt.Sprintf("Attempt to describe a user credential that does not exist: %.200s", name)
	}
	return wire.None, ""
}

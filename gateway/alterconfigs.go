package gateway

// AlterConfigs, key 33, versions 0 to 2: replaces all configs of a resource.
//
// Differences: topics and groups have configs that can be altered; brokers,
// loggers and client metrics are refused with INVALID_REQUEST. How, is in alter.go.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

func alterConfigs(call *call, req *kmsg.AlterConfigsRequest) kmsg.Response {
	asked := make([]alteration, len(req.Resources))
	for i := range req.Resources {
		r := &req.Resources[i]
		a := alteration{resource: resource{r.ResourceType, r.ResourceName}, replace: true}
		for j := range r.Configs {
			a.add(ConfigSet, r.Configs[j].Name, r.Configs[j].Value)
		}
		asked[i] = a
	}
	resp := kmsg.NewPtrAlterConfigsResponse()
	call.alterAll(asked, req.ValidateOnly, func(r resource, code wire.Code, message *string) {
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName, out.ErrorCode, out.ErrorMessage = r.kind, r.name, int16(code), message
		resp.Resources = append(resp.Resources, out)
	})
	return resp
}

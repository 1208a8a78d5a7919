package gateway

// IncrementalAlterConfigs, key 44, versions 0 to 1 (KIP-339): set, delete,
// append and subtract.
//
// Differences: topics and groups have configs that can be altered; brokers,
// loggers and client metrics are refused with INVALID_REQUEST. How, is in alter.go.
// An operation that is not known is INVALID_REQUEST too.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

func incrementalAlterConfigs(call *call, req *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	asked := make([]alteration, len(req.Resources))
	for i := range req.Resources {
		r := &req.Resources[i]
		a := alteration{resource: resource{r.ResourceType, r.ResourceName}}
		for j := range r.Configs {
			a.add(ConfigOp(r.Configs[j].Op), r.Configs[j].Name, r.Configs[j].Value)
		}
		asked[i] = a
	}
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	call.alterAll(asked, req.ValidateOnly, func(r resource, code wire.Code, message *string) {
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName, out.ErrorCode, out.ErrorMessage = r.kind, r.name, int16(code), message
		resp.Resources = append(resp.Resources, out)
	})
	return resp
}

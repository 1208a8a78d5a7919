package gateway

// IncrementalAlterConfigs, key 44, versions 0 to 1 (KIP-339).
//
// Like Apache Kafka: set, delete, append and subtract; a resource or a key that
// is given twice is refused.
//
// Differences: only topics have configs that can be changed; loggers, client
// metrics, groups and brokers are refused with INVALID_REQUEST.

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func incrementalAlterConfigs(call *call, req *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	times := map[resource]int{}
	for i := range req.Resources {
		times[resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	resp.Resources = make([]kmsg.IncrementalAlterConfigsResponseResource, len(req.Resources))
	each(len(req.Resources), func(i int) {
		r := &req.Resources[i]
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		key := resource{r.ResourceType, r.ResourceName}
		alter := ConfigAlter{ValidateOnly: req.ValidateOnly}
		var err error
		for j := range r.Configs {
			c := &r.Configs[j]
			change := ConfigChange{Key: c.Name, Op: ConfigOp(c.Op)}
			switch {
			case change.Op < ConfigSet || change.Op > ConfigSubtract:
				err = &span.RejectedError{Code: wire.InvalidRequest, Detail: fmt.Sprintf("Unknown operation %d", c.Op)}
			case change.Op != ConfigDelete && c.Value == nil:
				err = nullValue(c.Name)
			case c.Value != nil:
				change.Value = *c.Value
			}
			if err != nil {
				break
			}
			alter.Changes = append(alter.Changes, change)
		}
		if err == nil {
			err = call.alter(key, times[key], alter)
		}
		if err != nil {
			out.ErrorCode, out.ErrorMessage = call.refusal(err)
		}
		resp.Resources[i] = out
	})
	call.altered(req.ValidateOnly)
	return resp
}

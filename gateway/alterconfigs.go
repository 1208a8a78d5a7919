package gateway

// AlterConfigs, key 33, versions 0 to 2: replaces all configs of a topic.
//
// Difference: only topics; see incrementalalterconfigs.go.

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func alterConfigs(call *call, req *kmsg.AlterConfigsRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterConfigsResponse()
	times := map[resource]int{}
	for i := range req.Resources {
		times[resource{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
	}
	resp.Resources = make([]kmsg.AlterConfigsResponseResource, len(req.Resources))
	each(len(req.Resources), func(i int) {
		r := &req.Resources[i]
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		key := resource{r.ResourceType, r.ResourceName}
		alter := ConfigAlter{Replace: true, ValidateOnly: req.ValidateOnly}
		var err error
		for j := range r.Configs {
			c := &r.Configs[j]
			if c.Value == nil {
				err = nullValue(c.Name)
				break
			}
			alter.Changes = append(alter.Changes, ConfigChange{Key: c.Name, Op: ConfigSet, Value: *c.Value})
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

// alter checks what both alter keys have in common, and has it done.
func (call *call) alter(r resource, times int, alter ConfigAlter) error {
	refuse := func(format string, args ...any) error {
		return &span.RejectedError{Code: wire.InvalidRequest, Detail: fmt.Sprintf(format, args...)}
	}
	if times > 1 {
		return refuse("Each resource must appear at most once.")
	}
	switch r.kind {
	case kmsg.ConfigResourceTypeTopic:
	case kmsg.ConfigResourceTypeBroker:
		return refuse("Broker configs are set where the gateway is started")
	default:
		return refuse("Unsupported resource type: %v", r.kind)
	}
	if err := checkTopicName(r.name); err != nil {
		return err
	}
	keys := map[string]bool{}
	for i := range alter.Changes {
		if keys[alter.Changes[i].Key] {
			return refuse("Error due to duplicate config keys: %.100s", alter.Changes[i].Key)
		}
		keys[alter.Changes[i].Key] = true
	}
	ctx, cancel := call.limited(0)
	defer cancel()
	if call.topic(ctx, r.name) == nil {
		return wire.UnknownTopicOrPartition
	}
	alter.Tenant, alter.Name = call.tenant, r.name
	return call.g.admin.AlterConfig(ctx, alter)
}

// altered makes the next request on this connection see the change.
func (call *call) altered(validateOnly bool) {
	if !validateOnly {
		call.g.fresh.refresh(call.ctx)
	}
}

func nullValue(key string) error {
	return &span.RejectedError{Code: wire.InvalidRequest, Detail: fmt.Sprintf("Null value not supported for : %.100s", key)}
}

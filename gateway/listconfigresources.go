package gateway

// ListConfigResources, key 74, versions 0 to 1 (KIP-1142).
//
// Like Apache Kafka: version 0 lists client metrics, version 1 the types that
// are asked for, or all; a type that is not known is UNSUPPORTED_VERSION.
//
// Differences: there are no resources of client metrics and loggers.

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func listConfigResources(call *call, req *kmsg.ListConfigResourcesRequest) kmsg.Response {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	if code := call.onCluster(acl.DescribeConfigs); code != wire.None {
		resp.ErrorCode = call.failed(code)
		return resp
	}
	if req.Version == 0 {
		return resp
	}
	wanted := map[kmsg.ConfigResourceType]bool{}
	for _, t := range req.ResourceTypes {
		switch t := kmsg.ConfigResourceType(t); t {
		case kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger,
			kmsg.ConfigResourceTypeClientMetrics, kmsg.ConfigResourceTypeGroupConfig:
			wanted[t] = true
		default:
			resp.ErrorCode = call.failed(wire.UnsupportedVersion)
			return resp
		}
	}
	asked := func(t kmsg.ConfigResourceType) bool { return len(wanted) == 0 || wanted[t] }
	add := func(t kmsg.ConfigResourceType, name string) {
		r := kmsg.NewListConfigResourcesResponseConfigResource()
		r.Type, r.Name = int8(t), name
		resp.ConfigResources = append(resp.ConfigResources, r)
	}
	call.g.fresh.refresh(call.ctx)
	v := call.c.view()
	if asked(kmsg.ConfigResourceTypeGroupConfig) {
		for g := range v.snapshot.GroupConfigs(call.tenant) {
			add(kmsg.ConfigResourceTypeGroupConfig, g.Group)
		}
	}
	if asked(kmsg.ConfigResourceTypeBroker) {
		for i := range v.brokers.list {
			add(kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(v.brokers.list[i].node)))
		}
	}
	if asked(kmsg.ConfigResourceTypeTopic) {
		for t := range v.snapshot.Topics(call.tenant) {
			add(kmsg.ConfigResourceTypeTopic, t.Name)
		}
	}
	return resp
}

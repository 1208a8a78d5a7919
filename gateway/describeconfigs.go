package gateway

// DescribeConfigs, key 32, versions 1 to 4.
//
// Like Apache Kafka: topics and groups with sources, synonyms, types and
// documentation; brokers by node id.
//
// Differences: a broker shows its id, its address and the few configs that a gateway has a say in, all
// of them read-only; the cluster-wide default broker ("") has none. Groups have
// the configs of consumer groups only. Loggers and client metrics are not
// resources here.

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func describeConfigs(call *call, req *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	seen := map[resource]bool{}
	for i := range req.Resources {
		r := &req.Resources[i]
		key := resource{r.ResourceType, r.ResourceName}
		if seen[key] {
			continue
		}
		seen[key] = true
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = r.ResourceType, r.ResourceName
		var err error
		if err = call.onConfigs(acl.DescribeConfigs, key); err == nil {
			out.Configs, err = call.describe(r, shown{r.ConfigNames, req.IncludeSynonyms, req.IncludeDocumentation})
		}
		if err != nil {
			out.ErrorCode, out.ErrorMessage = call.refusal(err)
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

func (call *call) describe(r *kmsg.DescribeConfigsRequestResource, show shown) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	switch r.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if err := checkTopicName(r.ResourceName); err != nil {
			return nil, err
		}
		t := call.topic(call.ctx, r.ResourceName)
		if t == nil {
			return nil, wire.UnknownTopicOrPartition
		}
		return call.g.topicConfigs(t, show), nil
	case kmsg.ConfigResourceTypeBroker:
		if r.ResourceName == "" {
			return nil, nil
		}
		node, err := strconv.ParseInt(r.ResourceName, 10, 32)
		if err != nil {
			return nil, invalidRequest("Broker id must be an integer, but it is: %.40s", r.ResourceName)
		}
		b := call.c.view().brokers.find(int32(node))
		if b == nil {
			return nil, invalidRequest("Unknown broker %d", node)
		}
		return describeBroker(call.g.brokerConfigs(), b, call.c.l.cfg.Name, show), nil
	case kmsg.ConfigResourceTypeGroupConfig:
		if err := checkGroupName(r.ResourceName); err != nil {
			return nil, err
		}
		return call.groupConfigs(r.ResourceName, show), nil
	case kmsg.ConfigResourceTypeBrokerLogger:
		return nil, invalidRequest("Log levels are not shown here")
	case kmsg.ConfigResourceTypeClientMetrics:
		return nil, invalidRequest("Client metrics are not collected")
	}
	return nil, invalidRequest("Unknown resource type %d", r.ResourceType)
}

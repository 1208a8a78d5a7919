package gateway

// DescribeConfigs, key 32, versions 1 to 4.
//
// Like Apache Kafka: topics with sources, synonyms, types and documentation;
// brokers by node id.
//
// Differences: a broker shows the few configs that a gateway has a say in, all
// of them read-only; the cluster-wide default broker ("") has none. Loggers,
// client metrics and groups are not resources here.

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
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
		out.Configs, err = call.describe(r, req.IncludeSynonyms, req.IncludeDocumentation)
		if err != nil {
			out.ErrorCode, out.ErrorMessage = call.refusal(err)
		}
		resp.Resources = append(resp.Resources, out)
	}
	return resp
}

func (call *call) describe(r *kmsg.DescribeConfigsRequestResource, synonyms, docs bool) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	switch r.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if err := checkTopicName(r.ResourceName); err != nil {
			return nil, err
		}
		t := call.topic(call.ctx, r.ResourceName)
		if t == nil {
			return nil, wire.UnknownTopicOrPartition
		}
		return call.g.topicConfigs(t, r.ConfigNames, synonyms, docs), nil
	case kmsg.ConfigResourceTypeBroker:
		if r.ResourceName == "" {
			return nil, nil
		}
		node, err := strconv.ParseInt(r.ResourceName, 10, 32)
		if err != nil || call.g.view(call.c.l).brokers.find(int32(node)) == nil {
			return nil, &span.RejectedError{Code: wire.InvalidRequest, Detail: fmt.Sprintf("Unknown broker %.40q", r.ResourceName)}
		}
		return call.g.describeBroker(r.ConfigNames, synonyms, docs), nil
	}
	return nil, &span.RejectedError{Code: wire.InvalidRequest, Detail: fmt.Sprintf("Unsupported resource type: %v", r.ResourceType)}
}

func (g *Gateway) describeBroker(names []string, synonyms, docs bool) []kmsg.DescribeConfigsResponseResourceConfig {
	var out []kmsg.DescribeConfigsResponseResourceConfig
	configs := g.brokerConfigs()
	for i := range configs {
		b := &configs[i]
		if len(names) > 0 && !slices.Contains(names, b.name) {
			continue
		}
		c := kmsg.NewDescribeConfigsResponseResourceConfig()
		c.Name, c.Value, c.ConfigType, c.ReadOnly = b.name, &b.value, kmsg.ConfigType(b.typ), true
		c.Source = kmsg.ConfigSourceDefaultConfig
		if b.value != b.def {
			c.Source = kmsg.ConfigSourceStaticBrokerConfig
		}
		c.IsDefault = b.value == b.def
		if docs {
			c.Documentation = &b.doc
		}
		if synonyms {
			if b.value != b.def {
				c.ConfigSynonyms = append(c.ConfigSynonyms, brokerSynonym(b.name, b.value, kmsg.ConfigSourceStaticBrokerConfig))
			}
			c.ConfigSynonyms = append(c.ConfigSynonyms, brokerSynonym(b.name, b.def, kmsg.ConfigSourceDefaultConfig))
		}
		out = append(out, c)
	}
	return out
}

func brokerSynonym(name, value string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
	s.Name, s.Value, s.Source = name, &value, source
	return s
}

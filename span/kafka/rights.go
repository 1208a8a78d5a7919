package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Rights finds out which of the rights that Braid needs the cluster grants. An
// authorizer is asked before a resource is looked for, so each right is tried on
// a name that nothing has: what would change something is only validated, or
// fails for want of the thing. An error means that the cluster could not be asked.
func (s *Store) Rights(ctx context.Context) ([]span.Right, error) {
	name := s.opts.ProbeTopic + "-" + catalog.RandomName(12)
	list := s.candidates()
	if len(list) == 0 {
		return nil, unavailable(errNoBroker)
	}
	var out []span.Right
	for _, t := range rightsNeeded(name) {
		codes, err := t.ask(ctx, list[0])
		for err != nil && len(list) > 1 && ctx.Err() == nil {
			// The broker may be away: what the cluster grants, each of them knows.
			list = list[1:]
			codes, err = t.ask(ctx, list[0])
		}
		if err != nil {
			return nil, s.wrap(fmt.Sprintf("ask for %s %s on", t.Resource, t.Operation), span.Topic{Name: "cluster"}, unavailable(err))
		}
		t.Granted = true
		for _, c := range codes {
			switch wire.Code(c) {
			case wire.TopicAuthorizationFailed, wire.ClusterAuthorizationFailed, wire.TransactionalIDAuthorizationFailed:
				t.Granted = false
			}
		}
		out = append(out, t.Right)
	}
	return out, nil
}

type neededRight struct {
	span.Right
	ask func(context.Context, *broker) ([]int16, error)
}

func rightsNeeded(name string) []neededRight {
	const topics, ids, cluster = "topics braid.*", "transactional ids " + transactionPrefix + "*", "the cluster"
	right := func(resource, operation, why string, req kmsg.Request, version int16, codes func(kmsg.Response) []int16) neededRight {
		return neededRight{Right: span.Right{Resource: resource, Operation: operation, For: why},
			ask: func(ctx context.Context, b *broker) ([]int16, error) {
				resp, err := b.request(ctx, req, version, version)
				if err != nil {
					return nil, err
				}
				return codes(resp), nil
			}}
	}
	describe := kmsg.NewPtrMetadataRequest()
	describe.AllowAutoTopicCreation = false
	describe.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	create := kmsg.NewPtrCreateTopicsRequest()
	create.ValidateOnly, create.TimeoutMillis = true, 10_000
	create.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: name, NumPartitions: 1, ReplicationFactor: -1}}
	// A topic that does not exist cannot be deleted, which a broker says before it asks
	// for DELETE; what it would grant is in the topic's authorized operations.
	remove := kmsg.NewPtrMetadataRequest()
	remove.AllowAutoTopicCreation, remove.IncludeTopicAuthorizedOperations = false, true
	remove.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	alter := kmsg.NewPtrCreatePartitionsRequest()
	alter.ValidateOnly, alter.TimeoutMillis = true, 10_000
	alter.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: name, Count: 2}}
	produce := kmsg.NewPtrProduceRequest()
	produce.Acks, produce.TimeoutMillis = -1, 10_000
	produce.Topics = []kmsg.ProduceRequestTopic{{Topic: name, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: []byte{}}}}}
	fetch := kmsg.NewPtrFetchRequest()
	fetch.SessionEpoch = -1
	part := kmsg.NewFetchRequestTopicPartition()
	fetch.Topics = []kmsg.FetchRequestTopic{{Topic: name, Partitions: []kmsg.FetchRequestTopicPartition{part}}}
	configs := kmsg.NewPtrDescribeConfigsRequest()
	configs.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: name}}
	seal := kmsg.NewPtrIncrementalAlterConfigsRequest()
	seal.ValidateOnly = true
	zero := sealedValue
	seal.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: name,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: configMaxMessage, Value: &zero}}}}
	end := kmsg.NewPtrEndTxnRequest()
	// No producer has this id, so there is nothing to end.
	end.TransactionalID, end.ProducerID = transactionPrefix+name, 0
	state := kmsg.NewPtrDescribeClusterRequest()
	state.IncludeClusterAuthorizedOperations = true

	return []neededRight{
		right(topics, "DESCRIBE", "everything", describe, 8, func(r kmsg.Response) (out []int16) {
			for _, t := range r.(*kmsg.MetadataResponse).Topics {
				out = append(out, t.ErrorCode)
			}
			return out
		}),
		right(topics, "CREATE", "topics and moves to the cluster", create, 5, func(r kmsg.Response) (out []int16) {
			for _, t := range r.(*kmsg.CreateTopicsResponse).Topics {
				out = append(out, t.ErrorCode)
			}
			return out
		}),
		right(topics, "WRITE", "appends", produce, 8, func(r kmsg.Response) (out []int16) {
			for _, t := range r.(*kmsg.ProduceResponse).Topics {
				for _, p := range t.Partitions {
					out = append(out, p.ErrorCode)
				}
			}
			return out
		}),
		right(topics, "READ", "reads", fetch, 12, func(r kmsg.Response) (out []int16) {
			f := r.(*kmsg.FetchResponse)
			out = append(out, f.ErrorCode)
			for _, t := range f.Topics {
				for _, p := range t.Partitions {
					out = append(out, p.ErrorCode)
				}
			}
			return out
		}),
		right(topics, "DELETE", "the end of topics, and of spans past retention", remove, 8, func(r kmsg.Response) (out []int16) {
			for _, t := range r.(*kmsg.MetadataResponse).Topics {
				const remove = 1 << 6
				if t.AuthorizedOperations&remove == 0 {
					out = append(out, int16(wire.TopicAuthorizationFailed))
				}
				out = append(out, t.ErrorCode)
			}
			return out
		}),
		right(topics, "ALTER", "more partitions", alter, 1, func(r kmsg.Response) (out []int16) {
			for _, t := range r.(*kmsg.CreatePartitionsResponse).Topics {
				out = append(out, t.ErrorCode)
			}
			return out
		}),
		right(topics, "DESCRIBE_CONFIGS", "checks of seals", configs, 1, func(r kmsg.Response) (out []int16) {
			for _, t := range r.(*kmsg.DescribeConfigsResponse).Resources {
				out = append(out, t.ErrorCode)
			}
			return out
		}),
		right(topics, "ALTER_CONFIGS", "seals; without it moves off the cluster use the weaker fence", seal, 0, func(r kmsg.Response) (out []int16) {
			for _, t := range r.(*kmsg.IncrementalAlterConfigsResponse).Resources {
				out = append(out, t.ErrorCode)
			}
			return out
		}),
		right(ids, "WRITE", "transactions", end, 1, func(r kmsg.Response) []int16 {
			return []int16{r.(*kmsg.EndTxnResponse).ErrorCode}
		}),
		right(cluster, "DESCRIBE", "the list of open transactions", state, 0, func(r kmsg.Response) []int16 {
			c := r.(*kmsg.DescribeClusterResponse)
			const describe = 1 << 8
			if c.ErrorCode == 0 && c.ClusterAuthorizedOperations&describe == 0 {
				return []int16{int16(wire.ClusterAuthorizationFailed)}
			}
			return []int16{c.ErrorCode}
		}),
		right(cluster, "ALTER", "markers of transactions that the cluster itself has lost; CLUSTER_ACTION does as well", state, 0, func(r kmsg.Response) []int16 {
			c := r.(*kmsg.DescribeClusterResponse)
			const alter, action = 1 << 7, 1 << 9
			if c.ErrorCode == 0 && c.ClusterAuthorizedOperations&(alter|action) == 0 {
				return []int16{int16(wire.ClusterAuthorizationFailed)}
			}
			return []int16{c.ErrorCode}
		}),
	}
}

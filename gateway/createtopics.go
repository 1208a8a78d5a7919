package gateway

// CreateTopics, key 19, versions 2 to 7.
//
// Like Apache Kafka: -1 takes the default number of partitions, names are
// checked in the same way (collisions of '.' and '_' too), a name that is given
// twice is refused for each.
//
// Differences: the replication factor is checked and then left to the clusters
// behind; the answer says 1, as Metadata does. So are replica assignments: what
// they name has to be brokers, and their number is that of the partitions. The
// names of internal topics, Kafka's and ours, are refused, and what differs from them in '.' and '_' only. A topic can be used when the
// answer is out.

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func createTopics(call *call, req *kmsg.CreateTopicsRequest) kmsg.Response {
	resp := kmsg.NewPtrCreateTopicsResponse()
	names := map[string]int{}
	for i := range req.Topics {
		names[req.Topics[i].Topic]++
	}
	// A name that is given twice is answered once.
	var asked []*kmsg.CreateTopicsRequestTopic
	for i := range req.Topics {
		if t := &req.Topics[i]; names[t.Topic] > 0 {
			asked = append(asked, t)
			if names[t.Topic] > 1 {
				names[t.Topic] = -1
			} else {
				names[t.Topic] = 0
			}
		}
	}
	all := call.may(acl.Create, acl.Cluster, acl.ClusterName)
	ctx, cancel := call.limited(req.TimeoutMillis)
	defer cancel()
	resp.Topics = make([]kmsg.CreateTopicsResponseTopic, len(asked))
	each(len(asked), func(i int) {
		t := asked[i]
		out := kmsg.NewCreateTopicsResponseTopic()
		out.Topic, out.NumPartitions, out.ReplicationFactor = t.Topic, -1, -1
		var topic catalog.Topic
		err := error(&span.RejectedError{Code: wire.InvalidRequest, Detail: "Duplicate topic name."})
		switch {
		case names[t.Topic] != 0:
		case !all && !call.allowed(acl.Create, acl.Topic, t.Topic):
			err = &span.RejectedError{Code: wire.TopicAuthorizationFailed, Detail: "Authorization failed."}
		default:
			topic, err = call.createTopic(ctx, t, req.ValidateOnly)
		}
		switch {
		case err != nil:
			out.ErrorCode, out.ErrorMessage = call.refusal(err)
		case !call.may(acl.DescribeConfigs, acl.Topic, t.Topic):
			if !req.ValidateOnly {
				out.TopicID = topic.ID
			}
			out.ConfigErrorCode = call.failed(wire.TopicAuthorizationFailed)
		default:
			if !req.ValidateOnly {
				out.TopicID = topic.ID
			}
			out.NumPartitions, out.ReplicationFactor = topic.Partitions, 1
			out.Configs = call.g.createdConfigs(&topic)
		}
		resp.Topics[i] = out
	})
	if !req.ValidateOnly {
		// So that the next request on this connection finds them.
		call.g.fresh.refresh(ctx)
	}
	return resp
}

func (call *call) createTopic(ctx context.Context, t *kmsg.CreateTopicsRequestTopic, validateOnly bool) (catalog.Topic, error) {
	if err := checkTopicName(t.Topic); err != nil {
		return catalog.Topic{}, err
	}
	spec := TopicSpec{
		Tenant: call.tenant, Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor,
		ValidateOnly: validateOnly,
	}
	refuse := func(code wire.Code, format string, args ...any) (catalog.Topic, error) {
		return catalog.Topic{}, &span.RejectedError{Code: code, Detail: fmt.Sprintf(format, args...)}
	}
	if reservedTopic(t.Topic) {
		return refuse(wire.InvalidTopicException, "Topic '%s' is reserved", t.Topic)
	}
	s := call.g.watcher.Snapshot()
	if s.TopicByName(call.tenant, t.Topic) != nil {
		return refuse(wire.TopicAlreadyExists, "Topic '%s' already exists.", t.Topic)
	}
	if other := collision(s, call.tenant, t.Topic); other != "" {
		return refuse(wire.InvalidTopicException, "Topic '%s' collides with existing topic: %s", t.Topic, other)
	}
	if len(t.Configs) > 0 {
		spec.Config = make(map[string]string, len(t.Configs))
	}
	for i := range t.Configs {
		c := &t.Configs[i]
		if c.Value == nil {
			return refuse(wire.InvalidConfig, "Null value not supported for topic configs: %s", c.Name)
		}
		spec.Config[c.Name] = *c.Value
	}
	// Kafka looks at the configs before it looks at these.
	var counts error
	switch {
	case len(t.ReplicaAssignment) > 0:
		spec.Partitions, counts = call.c.view().brokers.created(t)
	case t.ReplicationFactor == 0 || t.ReplicationFactor < -1:
		_, counts = refuse(wire.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	case t.NumPartitions == 0 || t.NumPartitions < -1:
		_, counts = refuse(wire.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	case t.NumPartitions == -1:
		spec.Partitions = call.g.cfg.NumPartitions
	}
	if counts != nil {
		spec.Partitions, spec.ReplicationFactor, spec.ValidateOnly = 1, -1, true
		if topic, err := call.g.admin.CreateTopic(ctx, spec); err != nil {
			return topic, err
		}
		return catalog.Topic{}, counts
	}
	if err := call.mutate(spec.Partitions, 6); err != nil {
		return catalog.Topic{}, err
	}
	return call.g.admin.CreateTopic(ctx, spec)
}

// collision finds a topic whose name differs from name in '.' and '_' only.
func collision(s *catalog.Snapshot, tenant, name string) string {
	if !mayCollide(name) {
		return ""
	}
	for t := range s.Topics(tenant) {
		if t.Name != name && collides(t.Name, name) {
			return t.Name
		}
	}
	return ""
}

// clusterAway is what an admin request is told that waited for a cluster behind; which one is nobody's business.
const clusterAway = "Timed out waiting for the cluster behind the topic, which does not answer."

// refusal is an error as the admin keys tell it.
func (call *call) refusal(err error) (int16, *string) {
	code := call.g.codeOf(call.header.Key, call.c.peer, err)
	detail := detailOf(err, code)
	if code == wire.NotLeaderOrFollower && errors.Is(err, span.ErrUnavailable) {
		// No partition's leader was asked for: that code would be a riddle to who reads it.
		code, detail = wire.RequestTimedOut, clusterAway
	}
	return call.failed(code), &detail
}

package coordinator

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// ConsumerGroupDescribe, versions 0 to 1, as Apache Kafka 4.3. Which operations the
// caller is authorised for is for the gateway to fill in.

// ConsumerGroupDescribe answers for each group; each may belong to another gateway.
func (c *Coordinator) ConsumerGroupDescribe(ctx context.Context, caller Caller, req *kmsg.ConsumerGroupDescribeRequest) *kmsg.ConsumerGroupDescribeResponse {
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	resp.Version = req.Version
	resp.Groups = each(ctx, c, caller.Tenant, req.Groups,
		func(m *machine, name string) kmsg.ConsumerGroupDescribeResponseGroup {
			return m.describeConsumer(groupKey{caller.Tenant, name})
		},
		func(name string, code wire.Code) kmsg.ConsumerGroupDescribeResponseGroup {
			return consumerNotDescribed(name, code, code.Message())
		})
	return resp
}

func consumerNotDescribed(name string, code wire.Code, why string) kmsg.ConsumerGroupDescribeResponseGroup {
	d := kmsg.NewConsumerGroupDescribeResponseGroup()
	d.Group, d.ErrorCode, d.ErrorMessage = name, int16(code), &why
	d.AuthorizedOperations = math.MinInt32
	return d
}

func (m *machine) describeConsumer(key groupKey) kmsg.ConsumerGroupDescribeResponseGroup {
	if key.group == "" {
		return consumerNotDescribed(key.group, wire.InvalidGroupID, wire.InvalidGroupID.Message())
	}
	g := m.groups[key]
	switch {
	case g == nil:
		return consumerNotDescribed(key.group, wire.GroupIDNotFound, fmt.Sprintf("Group %s not found.", key.group))
	case g.consumer == nil:
		return consumerNotDescribed(key.group, wire.GroupIDNotFound, fmt.Sprintf("Group %s is not a consumer group.", key.group))
	}
	c := g.consumer
	d := kmsg.NewConsumerGroupDescribeResponseGroup()
	d.Group, d.State, d.Epoch, d.AssignmentEpoch, d.AssignorName = key.group, c.name(), c.epoch, c.assigned, m.assignorOf(c)
	d.AuthorizedOperations = math.MinInt32
	for _, mb := range c.sorted() {
		dm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		dm.MemberID, dm.InstanceID, dm.RackID, dm.MemberEpoch = mb.id, mb.instance, mb.rack, mb.epoch
		dm.ClientID, dm.ClientHost = mb.clientID, mb.clientHost
		dm.SubscribedTopics = slices.Clone(mb.topics)
		// Kafka's members have an empty expression, not none.
		if dm.SubscribedTopicRegex = mb.regex; mb.regex == nil {
			dm.SubscribedTopicRegex = kmsg.StringPtr("")
		}
		dm.MemberType = 1
		if mb.classic != nil {
			dm.MemberType = 0
		}
		has := make(assignment, len(mb.assigned))
		for _, h := range []held{mb.assigned, mb.revoking} {
			for topic, all := range h {
				for _, p := range all {
					has[topic] = append(has[topic], p.partition)
				}
			}
		}
		dm.Assignment.TopicPartitions = m.describeAssignment(has)
		dm.TargetAssignment.TopicPartitions = m.describeAssignment(mb.target)
		d.Members = append(d.Members, dm)
	}
	return d
}

// describeAssignment leaves out topics that are no more.
func (m *machine) describeAssignment(of map[catalog.ID][]int32) []kmsg.AssignmentTopicPartition {
	var out []kmsg.AssignmentTopicPartition
	for _, topic := range sortedTopics(of) {
		name, ok := m.topics.name(topic)
		if !ok {
			continue
		}
		t := kmsg.NewAssignmentTopicPartition()
		t.TopicID, t.Topic, t.Partitions = topic, name, slices.Clone(of[topic])
		out = append(out, t)
	}
	return out
}

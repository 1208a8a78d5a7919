package gateway

// ConsumerGroupDescribe, key 69, versions 0 to 1 (KIP-848).
//
// Members are listed by id.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func consumerGroupDescribe(call *call, req *kmsg.ConsumerGroupDescribeRequest) kmsg.Response {
	denied := call.deniedGroups(acl.Describe, &req.Groups)
	resp := call.g.coordinator.ConsumerGroupDescribe(call.ctx, call.caller(), req)
	for i := range resp.Groups {
		g := &resp.Groups[i]
		if g.ErrorCode == 0 && call.hiddenTopic(g) {
			name := g.Group
			*g = kmsg.NewConsumerGroupDescribeResponseGroup()
			g.Group, g.ErrorCode = name, int16(wire.TopicAuthorizationFailed)
			g.ErrorMessage = kmsg.StringPtr("The group has described topic(s) that the client is not authorized to describe.")
		}
		call.coded(g.ErrorCode)
		if g.ErrorCode == 0 && req.IncludeAuthorizedOperations {
			g.AuthorizedOperations = call.operations(acl.Group, g.Group)
		}
	}
	for _, name := range denied {
		g := kmsg.NewConsumerGroupDescribeResponseGroup()
		g.Group, g.ErrorCode = name, call.failed(wire.GroupAuthorizationFailed)
		resp.Groups = append(resp.Groups, g)
	}
	return resp
}

// hiddenTopic tells whether a group's assignments name a topic that who asks may
// not describe. Then nothing of the group is shown.
func (call *call) hiddenTopic(g *kmsg.ConsumerGroupDescribeResponseGroup) bool {
	if call.index == nil {
		return false
	}
	for i := range g.Members {
		m := &g.Members[i]
		for _, a := range [][]kmsg.AssignmentTopicPartition{m.Assignment.TopicPartitions, m.TargetAssignment.TopicPartitions} {
			for j := range a {
				if !call.allowed(acl.Describe, acl.Topic, a[j].Topic) {
					return true
				}
			}
		}
	}
	return false
}

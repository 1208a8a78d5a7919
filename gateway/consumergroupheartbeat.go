package gateway

// ConsumerGroupHeartbeat, key 68, versions 0 to 1 (KIP-848).
//
// Differences: a regular expression is resolved before the answer rather than
// after it, and one that compiles to more than 4,096 instructions is refused with
// INVALID_REGULAR_EXPRESSION; a group subscribes to at most 256 different ones. A new
// target assignment is computed at once, and only in groups of more than 2,000
// members and partitions at most once a second. A topic that moves is no change.
// Racks are shown and do not matter: every gateway serves every partition, so
// clients read in their own zone whatever they are assigned.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func consumerGroupHeartbeat(call *call, req *kmsg.ConsumerGroupHeartbeatRequest) kmsg.Response {
	if code, message := call.deniedHeartbeat(req); code != wire.None {
		resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.ErrorCode, resp.ErrorMessage = call.failed(code), &message
		return resp
	}
	resp := call.g.coordinator.ConsumerGroupHeartbeat(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

// deniedHeartbeat tells why a member is refused. Each topic that it subscribes to by
// name needs DESCRIBE; of those that an expression matches, the others are left out.
func (call *call) deniedHeartbeat(req *kmsg.ConsumerGroupHeartbeatRequest) (wire.Code, string) {
	code := call.onGroup(acl.Read, req.Group)
	for i := 0; code == wire.None && call.index != nil && i < len(req.SubscribedTopicNames); i++ {
		code = call.onTopic(acl.Describe, req.SubscribedTopicNames[i])
	}
	return code, code.Message()
}

package gateway

// FindCoordinator, key 10, versions 0 to 6; several keys per request from
// version 4 on (KIP-699).
//
// Differences: share groups (type 2) are not served; their keys get
// INVALID_REQUEST with a message, which clients report at once instead of trying
// for minutes. The first look-up of a group makes the tenant's
// __consumer_offsets, as in Apache Kafka; it stays empty.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func findCoordinator(call *call, req *kmsg.FindCoordinatorRequest) kmsg.Response {
	resp := kmsg.NewPtrFindCoordinatorResponse()
	brokers := call.c.view().brokers
	if req.CoordinatorType == coordinator.KeyGroup {
		call.g.ensureOffsetsTopic(call.tenant)
	}
	find := func(key string) kmsg.FindCoordinatorResponseCoordinator {
		out := kmsg.NewFindCoordinatorResponseCoordinator()
		out.Key, out.NodeID, out.Port = key, -1, -1
		refuse := func(code wire.Code, message string) {
			out.ErrorCode = call.failed(code)
			out.ErrorMessage = &message
		}
		if req.CoordinatorType != coordinator.KeyGroup && req.CoordinatorType != coordinator.KeyTransaction {
			refuse(wire.InvalidRequest, "This cluster coordinates consumer groups and transactions only")
			return out
		}
		code := wire.None
		if req.CoordinatorType == coordinator.KeyGroup {
			code = call.onGroup(acl.Describe, key)
		} else {
			code = call.onTxn(acl.Describe, key)
		}
		if code != wire.None {
			refuse(code, code.Message())
			return out
		}
		node, ok := call.g.coordinator.Owner(call.tenant, req.CoordinatorType, key)
		if !ok {
			refuse(wire.CoordinatorNotAvailable, wire.CoordinatorNotAvailable.Message())
			return out
		}
		// A gateway that has no listener of this name cannot be reached by this
		// client; its shards have to wait for another owner.
		b := brokers.find(node)
		if b == nil {
			refuse(wire.CoordinatorNotAvailable, wire.CoordinatorNotAvailable.Message())
			return out
		}
		out.NodeID, out.Host, out.Port = b.node, b.host, b.port
		return out
	}
	if req.Version < 4 {
		c := find(req.CoordinatorKey)
		resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
		return resp
	}
	for _, key := range req.CoordinatorKeys {
		resp.Coordinators = append(resp.Coordinators, find(key))
	}
	return resp
}

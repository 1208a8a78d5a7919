package gateway

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// Coordinator answers the keys of groups and producer ids; *coordinator.Coordinator
// is one. All methods may be called concurrently; those with a context may block
// until it ends and then return an answer all the same. Requests are handed over
// for good: their fields may be kept.
type Coordinator interface {
	// Owner tells which gateway serves a key (0: group, 1: transactional id).
	Owner(tenant string, keyType int8, key string) (node int32, ok bool)

	JoinGroup(context.Context, coordinator.Caller, *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse
	SyncGroup(context.Context, coordinator.Caller, *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse
	Heartbeat(context.Context, coordinator.Caller, *kmsg.HeartbeatRequest) *kmsg.HeartbeatResponse
	LeaveGroup(context.Context, coordinator.Caller, *kmsg.LeaveGroupRequest) *kmsg.LeaveGroupResponse
	OffsetCommit(context.Context, coordinator.Caller, *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitResponse
	OffsetFetch(context.Context, coordinator.Caller, *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse
	OffsetDelete(context.Context, coordinator.Caller, *kmsg.OffsetDeleteRequest) *kmsg.OffsetDeleteResponse
	ConsumerGroupHeartbeat(context.Context, coordinator.Caller, *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse
	ConsumerGroupDescribe(context.Context, coordinator.Caller, *kmsg.ConsumerGroupDescribeRequest) *kmsg.ConsumerGroupDescribeResponse
	DescribeGroups(context.Context, coordinator.Caller, *kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse
	ListGroups(context.Context, coordinator.Caller, *kmsg.ListGroupsRequest) *kmsg.ListGroupsResponse
	DeleteGroups(context.Context, coordinator.Caller, *kmsg.DeleteGroupsRequest) *kmsg.DeleteGroupsResponse
	InitProducerID(context.Context, coordinator.Caller, *kmsg.InitProducerIDRequest) *kmsg.InitProducerIDResponse
	AddPartitionsToTxn(context.Context, coordinator.Caller, *kmsg.AddPartitionsToTxnRequest) *kmsg.AddPartitionsToTxnResponse
	AddOffsetsToTxn(context.Context, coordinator.Caller, *kmsg.AddOffsetsToTxnRequest) *kmsg.AddOffsetsToTxnResponse
	TxnOffsetCommit(context.Context, coordinator.Caller, *kmsg.TxnOffsetCommitRequest) *kmsg.TxnOffsetCommitResponse
	EndTxn(context.Context, coordinator.Caller, *kmsg.EndTxnRequest) *kmsg.EndTxnResponse
	DescribeTransactions(context.Context, coordinator.Caller, *kmsg.DescribeTransactionsRequest) *kmsg.DescribeTransactionsResponse
	ListTransactions(context.Context, coordinator.Caller, *kmsg.ListTransactionsRequest) *kmsg.ListTransactionsResponse
	// Enlist is asked before records of a transaction are appended to a copy.
	Enlist(context.Context, *coordinator.Enlist) (chain.Enlisted, wire.Code)
}

// caller is on whose behalf the coordinator works.
func (call *call) caller() coordinator.Caller {
	c := coordinator.Caller{Tenant: call.tenant, ClientID: call.c.clientID, ClientHost: "/" + call.c.host}
	if call.index != nil {
		// The coordinator may ask after this request's memory serves another one.
		asker := call.asker
		c.Visible = func(topic string) bool { return asker.may(acl.Describe, acl.Topic, topic) }
	}
	return c
}

// coded counts the error code of an answer that the coordinator made.
func (call *call) coded(code int16) { call.failed(codeFromWire(code)) }

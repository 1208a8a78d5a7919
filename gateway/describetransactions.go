package gateway

// DescribeTransactions, key 65, version 0.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func describeTransactions(call *call, req *kmsg.DescribeTransactionsRequest) kmsg.Response {
	var denied []string
	if call.index != nil {
		req.TransactionalIDs = slices.DeleteFunc(req.TransactionalIDs, func(id string) bool {
			no := !call.allowed(acl.Describe, acl.TransactionalID, id)
			if no {
				denied = append(denied, id)
			}
			return no
		})
	}
	resp := call.g.coordinator.DescribeTransactions(call.ctx, call.caller(), req)
	for i := range resp.TransactionStates {
		t := &resp.TransactionStates[i]
		call.coded(t.ErrorCode)
		// Of a transaction that may be described, the topics are left out that may not.
		if call.index != nil {
			t.Topics = slices.DeleteFunc(t.Topics, func(t kmsg.DescribeTransactionsResponseTransactionStateTopic) bool {
				return !call.may(acl.Describe, acl.Topic, t.Topic)
			})
		}
	}
	for _, id := range denied {
		t := kmsg.NewDescribeTransactionsResponseTransactionState()
		t.TransactionalID, t.ErrorCode = id, call.failed(wire.TransactionalIDAuthorizationFailed)
		resp.TransactionStates = append(resp.TransactionStates, t)
	}
	return resp
}

package gateway

// ListTransactions, key 66, versions 0 to 2.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
)

func listTransactions(call *call, req *kmsg.ListTransactionsRequest) kmsg.Response {
	resp := call.g.coordinator.ListTransactions(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	if call.index != nil {
		resp.TransactionStates = slices.DeleteFunc(resp.TransactionStates, func(t kmsg.ListTransactionsResponseTransactionState) bool {
			return !call.may(acl.Describe, acl.TransactionalID, t.TransactionalID)
		})
	}
	return resp
}

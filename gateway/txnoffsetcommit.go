package gateway

// TxnOffsetCommit, key 28, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func txnOffsetCommit(call *call, req *kmsg.TxnOffsetCommitRequest) kmsg.Response {
	refused, done := call.deniedTxnCommit(req)
	if done {
		return refused
	}
	resp := call.g.coordinator.TxnOffsetCommit(call.ctx, call.caller(), req)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			call.coded(resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	if refused != nil {
		resp.Topics = append(resp.Topics, refused.Topics...)
	}
	return resp
}

// deniedTxnCommit is deniedCommit for offsets in a transaction.
func (call *call) deniedTxnCommit(req *kmsg.TxnOffsetCommitRequest) (resp *kmsg.TxnOffsetCommitResponse, done bool) {
	if call.index == nil {
		return nil, false
	}
	resp = kmsg.NewPtrTxnOffsetCommitResponse()
	all := call.onTxn(acl.Write, req.TransactionalID)
	if all == wire.None {
		all = call.onGroup(acl.Read, req.Group)
	}
	asked := len(req.Topics)
	req.Topics = slices.DeleteFunc(req.Topics, func(in kmsg.TxnOffsetCommitRequestTopic) bool {
		code := all
		if code == wire.None {
			code = call.onTopic(acl.Read, in.Topic)
		}
		if code == wire.None {
			return false
		}
		t := kmsg.NewTxnOffsetCommitResponseTopic()
		t.Topic = in.Topic
		for i := range in.Partitions {
			p := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = in.Partitions[i].Partition, call.failed(code)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
		return true
	})
	return resp, asked > 0 && len(req.Topics) == 0 || all != wire.None
}

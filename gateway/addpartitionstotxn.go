package gateway

// AddPartitionsToTxn, key 24, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func addPartitionsToTxn(call *call, req *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	if resp := call.deniedPartitions(req); resp != nil {
		return resp
	}
	resp := call.g.coordinator.AddPartitionsToTxn(call.ctx, call.caller(), req)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			call.coded(resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	for i := range resp.Transactions {
		for j := range resp.Transactions[i].Topics {
			for _, p := range resp.Transactions[i].Topics[j].Partitions {
				call.coded(p.ErrorCode)
			}
		}
	}
	return resp
}

// deniedPartitions answers a request that is not allowed; nil if it is. Nothing is
// added if one of the topics may not be written to. Versions from 4 on are for
// brokers, and for those who may act as one.
func (call *call) deniedPartitions(req *kmsg.AddPartitionsToTxnRequest) kmsg.Response {
	if call.index == nil {
		return nil
	}
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	if req.Version >= 4 {
		code := call.onCluster(acl.ClusterAction)
		resp.ErrorCode = call.failed(code)
		if code == wire.None {
			return nil
		}
		return resp
	}
	all := call.onTxn(acl.Write, req.TransactionalID)
	denied := all != wire.None
	for i := range req.Topics {
		t := kmsg.NewAddPartitionsToTxnResponseTopic()
		t.Topic = req.Topics[i].Topic
		code := all
		if code == wire.None {
			code = call.onTopic(acl.Write, t.Topic)
		}
		denied = denied || code != wire.None
		if code == wire.None {
			code = wire.OperationNotAttempted
		}
		for _, p := range req.Topics[i].Partitions {
			part := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			part.Partition, part.ErrorCode = p, int16(code)
			t.Partitions = append(t.Partitions, part)
		}
		resp.Topics = append(resp.Topics, t)
	}
	if !denied {
		return nil
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			call.coded(resp.Topics[i].Partitions[j].ErrorCode)
		}
	}
	return resp
}

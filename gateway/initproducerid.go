package gateway

// InitProducerId, key 22, versions 0 to 5.
//
// Ids are handed out by the coordinator, unique in the whole fleet and in no order, so that none
// tells of others'; all are above 2^40. Version 6 (two-phase commit, KIP-939) is not stable in Apache
// Kafka 4.3 and not served. A request with a transactional id is answered by the
// coordinator too; its files say what is served.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func initProducerID(call *call, req *kmsg.InitProducerIDRequest) kmsg.Response {
	if code := call.mayInit(req.TransactionalID); code != wire.None {
		resp := kmsg.NewPtrInitProducerIDResponse()
		resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = -1, -1, call.failed(code)
		return resp
	}
	resp := call.g.coordinator.InitProducerID(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

// mayInit tells why a producer id is not given out. Whoever may write to any topic
// may do so idempotently (KIP-679).
func (call *call) mayInit(id *string) wire.Code {
	if id != nil {
		return call.onTxn(acl.Write, *id)
	}
	if call.may(acl.IdempotentWrite, acl.Cluster, acl.ClusterName) || call.somewhere(acl.Write, acl.Topic) {
		return wire.None
	}
	return call.onCluster(acl.IdempotentWrite)
}

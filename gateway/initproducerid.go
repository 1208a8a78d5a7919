package gateway

// InitProducerId, key 22, versions 0 to 5.
//
// Ids are handed out by the coordinator from one range of the whole fleet that
// starts at 2^40. Version 6 (two-phase commit, KIP-939) is not stable in Apache
// Kafka 4.3 and not served. A request with a transactional id is answered by the
// coordinator too; its files say what is served.

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func initProducerID(call *call, req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := call.g.coordinator.InitProducerID(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

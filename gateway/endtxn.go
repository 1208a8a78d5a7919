package gateway

// EndTxn, key 26, versions 0 to 5.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func endTxn(call *call, req *kmsg.EndTxnRequest) kmsg.Response {
	if code := call.onTxn(acl.Write, req.TransactionalID); code != wire.None {
		resp := kmsg.NewPtrEndTxnResponse()
		resp.ErrorCode = call.failed(code)
		return resp
	}
	resp := call.g.coordinator.EndTxn(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

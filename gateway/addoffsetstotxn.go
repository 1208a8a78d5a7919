package gateway

// AddOffsetsToTxn, key 25, versions 0 to 4.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func addOffsetsToTxn(call *call, req *kmsg.AddOffsetsToTxnRequest) kmsg.Response {
	code := call.onTxn(acl.Write, req.TransactionalID)
	if code == wire.None {
		code = call.onGroup(acl.Read, req.Group)
	}
	if code != wire.None {
		resp := kmsg.NewPtrAddOffsetsToTxnResponse()
		resp.ErrorCode = call.failed(code)
		return resp
	}
	resp := call.g.coordinator.AddOffsetsToTxn(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	return resp
}

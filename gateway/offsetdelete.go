package gateway

// OffsetDelete, key 47, version 0.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func offsetDelete(call *call, req *kmsg.OffsetDeleteRequest) kmsg.Response {
	if code := call.onGroup(acl.Delete, req.Group); code != wire.None {
		resp := kmsg.NewPtrOffsetDeleteResponse()
		resp.ErrorCode = call.failed(code)
		return resp
	}
	var refused []kmsg.OffsetDeleteResponseTopic
	if call.index != nil {
		req.Topics = slices.DeleteFunc(req.Topics, func(in kmsg.OffsetDeleteRequestTopic) bool {
			code := call.onTopic(acl.Read, in.Topic)
			if code == wire.None {
				return false
			}
			t := kmsg.NewOffsetDeleteResponseTopic()
			t.Topic = in.Topic
			for i := range in.Partitions {
				p := kmsg.NewOffsetDeleteResponseTopicPartition()
				p.Partition, p.ErrorCode = in.Partitions[i].Partition, call.failed(code)
				t.Partitions = append(t.Partitions, p)
			}
			refused = append(refused, t)
			return true
		})
		if len(req.Topics) == 0 {
			resp := kmsg.NewPtrOffsetDeleteResponse()
			resp.Topics = refused
			return resp
		}
	}
	resp := call.g.coordinator.OffsetDelete(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	resp.Topics = append(resp.Topics, refused...)
	return resp
}

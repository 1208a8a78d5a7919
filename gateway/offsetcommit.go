package gateway

// OffsetCommit, key 8, versions 2 to 10.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func offsetCommit(call *call, req *kmsg.OffsetCommitRequest) kmsg.Response {
	refused, done := call.deniedCommit(req)
	if done {
		return refused
	}
	resp := call.g.coordinator.OffsetCommit(call.ctx, call.caller(), req)
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

// deniedCommit takes the topics out of a request that may not be committed to, and
// answers for them; done: nothing is left to ask the coordinator.
func (call *call) deniedCommit(req *kmsg.OffsetCommitRequest) (resp *kmsg.OffsetCommitResponse, done bool) {
	if call.index == nil {
		return nil, false
	}
	resp = kmsg.NewPtrOffsetCommitResponse()
	group := call.onGroup(acl.Read, req.Group)
	asked := len(req.Topics)
	req.Topics = slices.DeleteFunc(req.Topics, func(in kmsg.OffsetCommitRequestTopic) bool {
		code := group
		if code == wire.None {
			code = call.onTopicOr(acl.Read, in.Topic, in.TopicID, req.Version >= 10)
		}
		if code == wire.None {
			return false
		}
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic, t.TopicID = in.Topic, in.TopicID
		for i := range in.Partitions {
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = in.Partitions[i].Partition, call.failed(code)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
		return true
	})
	return resp, asked > 0 && len(req.Topics) == 0
}

// onTopicOr is onTopic for requests that name topics or, from some version on, their ids.
func (call *call) onTopicOr(o acl.Operation, name string, id catalog.ID, byID bool) wire.Code {
	if call.index == nil {
		return wire.None
	}
	if byID {
		find := func() *catalog.Topic {
			if t := call.g.watcher.Snapshot().TopicByID(id); t != nil && t.Tenant == call.tenant {
				return t
			}
			return nil
		}
		t := find()
		if t == nil {
			call.g.fresh.refresh(call.ctx)
			if t = find(); t == nil {
				return wire.UnknownTopicID
			}
		}
		name = t.Name
	}
	return call.onTopic(o, name)
}

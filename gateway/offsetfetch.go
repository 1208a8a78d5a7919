package gateway

// OffsetFetch, key 9, versions 1 to 10.
//
// The coordinator answers; where it differs from Apache Kafka, its files say so.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func offsetFetch(call *call, req *kmsg.OffsetFetchRequest) kmsg.Response {
	if call.index != nil {
		return call.offsetFetchAllowed(req)
	}
	resp := call.g.coordinator.OffsetFetch(call.ctx, call.caller(), req)
	call.coded(resp.ErrorCode)
	for i := range resp.Groups {
		call.coded(resp.Groups[i].ErrorCode)
	}
	return resp
}

// offsetFetchAllowed answers where there are rules: a group needs DESCRIBE, and so
// does each of its topics. Of all topics, those are left out that may not be described.
func (call *call) offsetFetchAllowed(req *kmsg.OffsetFetchRequest) kmsg.Response {
	if req.Version < 8 {
		return call.offsetFetchOne(req)
	}
	var denied []kmsg.OffsetFetchResponseGroup
	refused := map[string][]kmsg.OffsetFetchResponseGroupTopic{}
	req.Groups = slices.DeleteFunc(req.Groups, func(g kmsg.OffsetFetchRequestGroup) bool {
		if code := call.onGroup(acl.Describe, g.Group); code != wire.None {
			out := kmsg.NewOffsetFetchResponseGroup()
			out.Group, out.ErrorCode = g.Group, call.failed(code)
			denied = append(denied, out)
			return true
		}
		return false
	})
	for i := range req.Groups {
		g := &req.Groups[i]
		if g.Topics == nil {
			continue
		}
		g.Topics = slices.DeleteFunc(g.Topics, func(in kmsg.OffsetFetchRequestGroupTopic) bool {
			code := call.onTopicOr(acl.Describe, in.Topic, in.TopicID, req.Version >= 10)
			if code == wire.None {
				return false
			}
			t := kmsg.NewOffsetFetchResponseGroupTopic()
			t.Topic, t.TopicID = in.Topic, in.TopicID
			for _, p := range in.Partitions {
				part := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				part.Partition, part.Offset, part.LeaderEpoch, part.ErrorCode = p, -1, -1, call.failed(code)
				part.Metadata = kmsg.StringPtr("")
				t.Partitions = append(t.Partitions, part)
			}
			refused[g.Group] = append(refused[g.Group], t)
			return true
		})
	}
	resp := kmsg.NewPtrOffsetFetchResponse()
	if len(req.Groups) > 0 {
		resp = call.g.coordinator.OffsetFetch(call.ctx, call.caller(), req)
	}
	for i := range resp.Groups {
		g := &resp.Groups[i]
		call.coded(g.ErrorCode)
		g.Topics = slices.DeleteFunc(g.Topics, func(t kmsg.OffsetFetchResponseGroupTopic) bool {
			return !call.sees(t.Topic, t.TopicID, req.Version >= 10)
		})
		if g.ErrorCode == 0 {
			g.Topics = append(g.Topics, refused[g.Group]...)
		}
	}
	resp.Groups = append(resp.Groups, denied...)
	return resp
}

// sees tells whether a topic may be named in an answer to who asks.
func (call *call) sees(name string, id catalog.ID, byID bool) bool {
	if byID {
		t := call.g.watcher.Snapshot().TopicByID(id)
		if t == nil || t.Tenant != call.tenant {
			// The coordinator says of ids only what it was asked of them: an error.
			return true
		}
		name = t.Name
	}
	return call.may(acl.Describe, acl.Topic, name)
}

// offsetFetchOne is offsetFetchAllowed before version 8.
func (call *call) offsetFetchOne(req *kmsg.OffsetFetchRequest) kmsg.Response {
	group := call.onGroup(acl.Describe, req.Group)
	var refused []kmsg.OffsetFetchResponseTopic
	all := req.Topics == nil
	req.Topics = slices.DeleteFunc(req.Topics, func(in kmsg.OffsetFetchRequestTopic) bool {
		code := group
		if code == wire.None {
			code = call.onTopic(acl.Describe, in.Topic)
		}
		if code == wire.None {
			return false
		}
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = in.Topic
		for _, p := range in.Partitions {
			part := kmsg.NewOffsetFetchResponseTopicPartition()
			part.Partition, part.Offset, part.LeaderEpoch, part.ErrorCode = p, -1, -1, call.failed(code)
			part.Metadata = kmsg.StringPtr("")
			t.Partitions = append(t.Partitions, part)
		}
		refused = append(refused, t)
		return true
	})
	resp := kmsg.NewPtrOffsetFetchResponse()
	switch {
	case group != wire.None:
		// Version 1 has no code but those of the partitions.
		resp.ErrorCode = call.failed(group)
		if req.Version >= 2 {
			return resp
		}
	case all || len(req.Topics) > 0:
		resp = call.g.coordinator.OffsetFetch(call.ctx, call.caller(), req)
		call.coded(resp.ErrorCode)
		resp.Topics = slices.DeleteFunc(resp.Topics, func(t kmsg.OffsetFetchResponseTopic) bool {
			return !call.may(acl.Describe, acl.Topic, t.Topic)
		})
	}
	resp.Topics = append(resp.Topics, refused...)
	return resp
}

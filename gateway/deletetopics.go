package gateway

// DeleteTopics, key 20, versions 1 to 6; by name or, from version 6 on, by id.

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func deleteTopics(call *call, req *kmsg.DeleteTopicsRequest) kmsg.Response {
	resp := kmsg.NewPtrDeleteTopicsResponse()
	type ask struct {
		name string
		id   catalog.ID
	}
	var asked []ask
	if req.Version < 6 {
		for _, name := range req.TopicNames {
			asked = append(asked, ask{name: name})
		}
	} else {
		for i := range req.Topics {
			a := ask{id: req.Topics[i].TopicID}
			if req.Topics[i].Topic != nil {
				a.name = *req.Topics[i].Topic
			}
			asked = append(asked, a)
		}
	}
	// What is named twice is answered once.
	times := map[ask]int{}
	for _, a := range asked {
		times[a]++
	}
	first := map[ask]bool{}
	asked = slices.DeleteFunc(asked, func(a ask) bool {
		again := first[a]
		first[a] = true
		return again
	})
	ctx, cancel := call.limited(req.TimeoutMillis)
	defer cancel()
	resp.Topics = make([]kmsg.DeleteTopicsResponseTopic, len(asked))
	each(len(asked), func(i int) {
		a := asked[i]
		out := kmsg.NewDeleteTopicsResponseTopic()
		out.TopicID = a.id
		if a.name != "" || a.id.IsZero() {
			out.Topic = &a.name
		}
		var err error
		switch {
		case times[a] > 1:
			err = &span.RejectedError{Code: wire.InvalidRequest, Detail: "The provided topic name maps to an ID that was already supplied."}
		case a.name != "" && !a.id.IsZero():
			err = &span.RejectedError{Code: wire.InvalidRequest, Detail: "You may not specify both topic name and topic id."}
		default:
			var topic *catalog.Topic
			if topic, err = call.deleteTopic(ctx, a.name, a.id); topic != nil {
				out.Topic, out.TopicID = &topic.Name, topic.ID
			}
		}
		if err != nil {
			out.ErrorCode, out.ErrorMessage = call.refusal(err)
		}
		resp.Topics[i] = out
	})
	call.g.fresh.refresh(ctx)
	return resp
}

func (call *call) deleteTopic(ctx context.Context, name string, id catalog.ID) (*catalog.Topic, error) {
	unknown := wire.UnknownTopicOrPartition
	find := func() *catalog.Topic {
		s := call.g.watcher.Snapshot()
		var t *catalog.Topic
		if id.IsZero() {
			t = s.TopicByName(call.tenant, name)
		} else {
			t = s.TopicByID(id)
		}
		if t == nil || t.Tenant != call.tenant || t.Deleting {
			return nil
		}
		return t
	}
	if !id.IsZero() {
		unknown = wire.UnknownTopicID
	}
	denied := &span.RejectedError{Code: wire.TopicAuthorizationFailed, Detail: wire.TopicAuthorizationFailed.Message()}
	all := call.may(acl.Delete, acl.Cluster, acl.ClusterName)
	// A name says nothing of whether there is such a topic; an id is unknown, or of
	// a topic whose name is told to those who may describe it.
	if id.IsZero() && !all && !call.allowed(acl.Delete, acl.Topic, name) {
		return nil, denied
	}
	t := find()
	if t == nil {
		call.g.fresh.refresh(ctx)
		if t = find(); t == nil {
			return nil, unknown
		}
	}
	if !id.IsZero() && !all {
		if !call.may(acl.Describe, acl.Topic, t.Name) {
			return nil, denied
		}
		if !call.allowed(acl.Delete, acl.Topic, t.Name) {
			return t, denied
		}
	}
	if err := call.mutate(t.Partitions, 5); err != nil {
		return t, err
	}
	err := call.g.admin.DeleteTopic(ctx, call.tenant, t.ID)
	if errors.Is(err, catalog.ErrNotFound) || errors.Is(err, chain.ErrUnknownTopic) {
		return t, unknown
	}
	return t, err
}

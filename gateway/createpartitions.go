package gateway

// CreatePartitions, key 37, versions 0 to 3.
//
// Difference: assignments are checked and then left to the clusters behind, as in
// CreateTopics; they may have any number of replicas.

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func createPartitions(call *call, req *kmsg.CreatePartitionsRequest) kmsg.Response {
	resp := kmsg.NewPtrCreatePartitionsResponse()
	times := map[string]int{}
	for i := range req.Topics {
		times[req.Topics[i].Topic]++
	}
	ctx, cancel := call.limited(req.TimeoutMillis)
	defer cancel()
	resp.Topics = make([]kmsg.CreatePartitionsResponseTopic, len(req.Topics))
	each(len(req.Topics), func(i int) {
		t := &req.Topics[i]
		out := kmsg.NewCreatePartitionsResponseTopic()
		out.Topic = t.Topic
		err := error(&span.RejectedError{Code: wire.InvalidRequest, Detail: "Duplicate topic name."})
		if times[t.Topic] == 1 {
			err = call.growTopic(ctx, t, req.ValidateOnly)
		}
		if err != nil {
			out.ErrorCode, out.ErrorMessage = call.refusal(err)
		}
		resp.Topics[i] = out
	})
	if !req.ValidateOnly {
		call.g.fresh.refresh(ctx)
	}
	return resp
}

func (call *call) growTopic(ctx context.Context, t *kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	refuse := func(code wire.Code, format string, args ...any) error {
		return &span.RejectedError{Code: code, Detail: fmt.Sprintf(format, args...)}
	}
	if code := call.onTopic(acl.Alter, t.Topic); code != wire.None {
		return refuse(code, "The topic authorization is failed.")
	}
	topic := call.topic(ctx, t.Topic)
	if topic == nil {
		return wire.UnknownTopicOrPartition
	}
	switch {
	case t.Count == topic.Partitions:
		return refuse(wire.InvalidPartitions, "Topic already has %d partition(s).", topic.Partitions)
	case t.Count < topic.Partitions:
		return refuse(wire.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.",
			t.Topic, topic.Partitions, t.Count)
	}
	if len(t.Assignment) > 0 {
		if err := call.c.view().brokers.added(t.Count-topic.Partitions, t.Assignment); err != nil {
			return err
		}
	}
	if err := call.mutate(t.Count-topic.Partitions, 3); err != nil {
		return err
	}
	return call.g.admin.GrowTopic(ctx, GrowSpec{Tenant: call.tenant, Name: t.Topic, Total: t.Count, ValidateOnly: validateOnly})
}

package gateway

// ElectLeaders, key 43, versions 0 to 2.
//
// Like a healthy Apache Kafka: each partition that is named is led by its only
// replica, so that ELECTION_NOT_NEEDED is the answer; null, for all, elects none.
//
// Differences: a request for all is answered without topics, where Kafka lists
// them with no partitions.

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func electLeaders(call *call, req *kmsg.ElectLeadersRequest) kmsg.Response {
	resp := kmsg.NewPtrElectLeadersResponse()
	var refused error
	if code := call.onCluster(acl.Alter); code != wire.None {
		refused, resp.ErrorCode = code, call.failed(code)
	}
	if refused == nil && req.Version >= 1 && req.ElectionType != 0 && req.ElectionType != 1 {
		refused = invalidRequest("Unknown election type %d", req.ElectionType)
		resp.ErrorCode = call.failed(wire.InvalidRequest)
	}
	v := call.caughtUp(namesOf(req.Topics, func(t *kmsg.ElectLeadersRequestTopic) string { return t.Topic }))
	for i := range req.Topics {
		in := &req.Topics[i]
		out := kmsg.NewElectLeadersResponseTopic()
		out.Topic = in.Topic
		t := known(v.snapshot, call.tenant, in.Topic)
		for _, p := range in.Partitions {
			part := kmsg.NewElectLeadersResponseTopicPartition()
			part.Partition = p
			err := refused
			if err == nil {
				err = existing(t, in.Topic, p)
			}
			if err == nil {
				err = &span.RejectedError{Code: wire.ElectionNotNeeded,
					Detail: fmt.Sprintf("Partition %s-%d is led by its only replica.", in.Topic, p)}
			}
			part.ErrorCode, part.ErrorMessage = call.refusal(err)
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

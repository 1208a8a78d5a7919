package gateway

// WriteTxnMarkers, key 27, versions 1 to 2.
//
// Differences: for administrators who abort a hanging transaction, as kafka-transactions does: a marker
// that commits is refused with INVALID_REQUEST. Producer and coordinator epoch must be those that
// DescribeProducers tells, so that no marker fences those to come. Where the producer has nothing
// open, also since its records lie on a Kafka cluster that ends its transactions itself, nothing is written and the answer is NONE.

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func writeTxnMarkers(call *call, req *kmsg.WriteTxnMarkersRequest) kmsg.Response {
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	type ask struct {
		marker *kmsg.WriteTxnMarkersRequestMarker
		topic  string
		out    *kmsg.WriteTxnMarkersResponseMarkerTopicPartition
	}
	var asks []ask
	resp.Markers = make([]kmsg.WriteTxnMarkersResponseMarker, len(req.Markers))
	for i := range req.Markers {
		in, out := &req.Markers[i], &resp.Markers[i]
		out.ProducerID = in.ProducerID
		out.Topics = make([]kmsg.WriteTxnMarkersResponseMarkerTopic, len(in.Topics))
		for j := range in.Topics {
			out.Topics[j].Topic = in.Topics[j].Topic
			out.Topics[j].Partitions = make([]kmsg.WriteTxnMarkersResponseMarkerTopicPartition, len(in.Topics[j].Partitions))
			for k, p := range in.Topics[j].Partitions {
				r := &out.Topics[j].Partitions[k]
				r.Partition = p
				asks = append(asks, ask{in, in.Topics[j].Topic, r})
			}
		}
	}
	ctx, cancel := call.limited(0)
	defer cancel()
	denied := wire.None
	if !call.may(acl.Alter, acl.Cluster, acl.ClusterName) {
		denied = call.onCluster(acl.ClusterAction)
	}
	each(len(asks), func(i int) {
		a := &asks[i]
		code := denied
		if code == wire.None {
			code = call.abortMarker(ctx, a.marker, a.topic, a.out.Partition)
		}
		a.out.ErrorCode = call.failed(code)
	})
	return resp
}

// abortMarker ends the open transaction of a producer in a partition.
func (call *call) abortMarker(ctx context.Context, m *kmsg.WriteTxnMarkersRequestMarker, topic string, partition int32) wire.Code {
	if m.Committed {
		return wire.InvalidRequest
	}
	_, p, code := call.partition(topic, partition)
	if code != wire.None {
		return code
	}
	fail := func(err error) wire.Code { return call.g.codeOf(keyWriteTxnMarkers, call.c.peer, err) }
	list, err := p.Producers(ctx)
	if err != nil {
		return fail(err)
	}
	for i := range list {
		s := &list[i]
		switch {
		case s.ID != m.ProducerID || s.ID < catalog.ProducerIDBase:
			continue
		case m.ProducerEpoch != s.Epoch:
			return wire.InvalidProducerEpoch
		case m.CoordinatorEpoch < s.CoordinatorEpoch:
			return wire.TransactionCoordinatorFenced
		case s.TxnStart < 0:
			return wire.None
		}
		if err := p.Mark(ctx, batch.Marker{ProducerID: s.ID, ProducerEpoch: s.Epoch, CoordinatorEpoch: max(s.CoordinatorEpoch, 0),
			Timestamp: call.start.UnixMilli()}); err != nil {
			return fail(err)
		}
	}
	return wire.None
}

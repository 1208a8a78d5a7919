package gateway

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// Who looks for a group finds Kafka's internal topic from then on, once.
func TestOffsetsTopic(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2))
	cl := f.client()
	ctx := context.Background()
	metadata := func() kmsg.MetadataResponseTopic {
		t.Helper()
		req := kmsg.NewPtrMetadataRequest()
		rt := kmsg.NewMetadataRequestTopic()
		name := offsetsTopic
		rt.Topic = &name
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(ctx, cl)
		if err != nil || len(resp.Topics) != 1 {
			t.Fatal(resp, err)
		}
		return resp.Topics[0]
	}
	if m := metadata(); wire.Code(m.ErrorCode) != wire.UnknownTopicOrPartition {
		t.Fatalf("before anybody asked: %+v", m)
	}
	for i := range f.gateways {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g"}
		if _, err := cl.Broker(i+1).Request(ctx, req); err != nil {
			t.Fatal(err)
		}
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return s.TopicByName(catalog.DefaultTenant, offsetsTopic) != nil })
	if m := metadata(); m.ErrorCode != 0 || !m.IsInternal || len(m.Partitions) != 1 {
		t.Fatalf("%+v", m)
	}
}

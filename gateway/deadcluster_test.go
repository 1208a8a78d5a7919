package gateway

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// Tools that ask something of a topic whose cluster is away are told so in words or codes that they show, and not by a
// code that they try again until their time is up.
func TestRequestsToADeadCluster(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	if _, err := f.cat.CreateTopic(context.Background(), catalog.Topic{Tenant: catalog.DefaultTenant, Name: "dead", Partitions: 1}, []catalog.Chain{{NextSeq: 1, Spans: []catalog.Span{
		{Start: 0, End: catalog.Open, Epoch: 3, MaxTimestamp: -1, Opened: time.Now(),
			Copies: []catalog.Copy{{Cluster: "away", Topic: "physical.dead", TopicID: catalog.RandomID(), Map: []catalog.Piece{{}}}}},
	}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.watcher.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := f.raw()
	grow := kmsg.NewPtrCreatePartitionsRequest()
	grow.TimeoutMillis = 60_000
	grow.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "dead", Count: 2}}
	got := do[*kmsg.CreatePartitionsResponse](r, 2, grow).Topics[0]
	if wire.Code(got.ErrorCode) != wire.RequestTimedOut || got.ErrorMessage == nil || *got.ErrorMessage != clusterAway {
		t.Errorf("CreatePartitions: %+v", got)
	}
	for _, before := range []int64{0, 5, -1} {
		del := kmsg.NewPtrDeleteRecordsRequest()
		del.TimeoutMillis = 1 // else the cluster would be tried a while longer
		del.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "dead", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: before}}}}
		p := do[*kmsg.DeleteRecordsResponse](r, 2, del).Topics[0].Partitions[0]
		if wire.Code(p.ErrorCode) != wire.BrokerNotAvailable {
			t.Errorf("DeleteRecords before %d: %s", before, wire.Code(p.ErrorCode).Name())
		}
	}
}

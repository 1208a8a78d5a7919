package gateway

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// After the marker of an aborted transaction a reader of uncommitted records is told that all is
// stable, also when its answer comes from what the gateway keeps of the log.
func TestLastStableOffsetAfterAnAbort(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	topic := f.topic("orders", 1)
	r := f.raw()
	fetch := func() *kmsg.FetchResponseTopicPartition {
		req := kmsg.NewPtrFetchRequest()
		req.MaxBytes, req.MaxWaitMillis, req.SessionEpoch = 1<<20, 1, -1
		x := kmsg.NewFetchRequestTopic()
		x.TopicID = topic.ID
		p := kmsg.NewFetchRequestTopicPartition()
		p.PartitionMaxBytes, p.CurrentLeaderEpoch = 1<<20, -1
		x.Partitions = append(x.Partitions, p)
		req.Topics = append(req.Topics, x)
		got := &do[*kmsg.FetchResponse](r, 13, req).Topics[0].Partitions[0]
		if got.ErrorCode != 0 {
			t.Fatalf("%+v", got)
		}
		return got
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl := f.client(kgo.TransactionalID("t"), kgo.DefaultProduceTopic("orders"))
	fetch() // from now on what is written is kept for readers
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	const n = 3
	for range n {
		if err := cl.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if got := fetch(); got.HighWatermark != n || got.LastStableOffset != 0 || len(got.RecordBatches) == 0 {
		t.Fatalf("in the transaction: high watermark %d, last stable %d, %d bytes", got.HighWatermark, got.LastStableOffset, len(got.RecordBatches))
	}
	if err := cl.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	// The marker may be written after the answer.
	got := fetch()
	for ; got.HighWatermark == n && ctx.Err() == nil; got = fetch() {
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	if got.HighWatermark != n+1 || got.LastStableOffset != n+1 || len(got.RecordBatches) == 0 {
		t.Errorf("high watermark %d, last stable %d, %d bytes", got.HighWatermark, got.LastStableOffset, len(got.RecordBatches))
	}
}

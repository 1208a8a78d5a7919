package gateway

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// A failover leaves a gap and an empty span behind it. Consumers that read up to the latest offset
// come there, before and after somebody goes on to produce.
func TestLatestBeforeAnEmptySpan(t *testing.T) {
	f := newFleet(t)
	ctx := context.Background()
	physical := func() []catalog.Copy {
		p, err := f.store.Create(ctx, span.Spec{Name: "physical." + catalog.RandomName(10), Partitions: 1})
		if err != nil {
			t.Fatal(err)
		}
		return []catalog.Copy{{Cluster: f.store.Name(), Topic: p.Name, TopicID: p.ID}}
	}
	const next = 2 + chain.UnknownRoom
	old, fresh := physical(), physical()
	old[0].Map, fresh[0].Map = []catalog.Piece{{}}, []catalog.Piece{{Delta: next}}
	old[0].Unreadable = true
	topic, err := f.cat.CreateTopic(ctx, catalog.Topic{Tenant: catalog.DefaultTenant, Name: "lost", Partitions: 1}, []catalog.Chain{{NextSeq: 2, Spans: []catalog.Span{
		{Seq: 0, Start: 0, End: 2, Epoch: 3, MaxTimestamp: -1, Opened: time.Now(), SealedAt: time.Now(), Hole: true, Copies: old},
		{Seq: 1, Start: next, End: catalog.Open, Epoch: 5, MaxTimestamp: -1, Opened: time.Now(), Copies: fresh},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.watcher.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	r := f.raw()
	latest := func(want int64) {
		t.Helper()
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = "lost"
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.CurrentLeaderEpoch, p.Timestamp = -1, -1
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		if got := do[*kmsg.ListOffsetsResponse](r, 8, req).Topics[0].Partitions[0]; got.ErrorCode != 0 || got.Offset != want || got.LeaderEpoch != 5 {
			t.Errorf("latest: %+v, want %d", got, want)
		}
	}
	fetch := func(at, end int64, records bool) {
		t.Helper()
		req := fetchRequest("lost", topic.ID, map[int32]int64{0: at})
		if !records {
			req.MaxWaitMillis = 0
		}
		got := do[*kmsg.FetchResponse](r, 12, req).Topics[0].Partitions[0]
		if got.ErrorCode != 0 || got.HighWatermark != end || len(got.RecordBatches) > 0 != records {
			t.Errorf("fetch at %d: code %d, high watermark %d, %d bytes; want %d, records %v", at, got.ErrorCode, got.HighWatermark, len(got.RecordBatches), end, records)
		}
	}
	latest(2)
	fetch(2, 2, false)
	fetch(next, next, false)
	produce := produceRequest("lost", topic.ID, -1, map[int32][]byte{0: records(t, nil, "a")})
	if p := do[*kmsg.ProduceResponse](r, 9, produce).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != next {
		t.Fatalf("%+v", p)
	}
	latest(next + 1)
	fetch(2, next+1, true)
	fetch(next, next+1, true)
}

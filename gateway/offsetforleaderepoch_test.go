package gateway

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// A consumer that went over an aborted transaction may stand past the end of the epoch of the last
// record that it kept. An epoch that has ended reaches to the end of the log, since nothing in it is
// ever given up; one that is to come is not known.
func TestEndOfAnEndedEpoch(t *testing.T) {
	f := newFleet(t)
	ctx := context.Background()
	physical := func() span.Topic {
		p, err := f.store.Create(ctx, span.Spec{Name: "physical." + catalog.RandomName(10), Partitions: 1})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	old, fresh := physical(), physical()
	one := func(p span.Topic, pieces ...catalog.Piece) []catalog.Copy {
		return []catalog.Copy{{Cluster: f.store.Name(), Topic: p.Name, TopicID: p.ID, Map: pieces}}
	}
	topic, err := f.cat.CreateTopic(ctx, catalog.Topic{Tenant: catalog.DefaultTenant, Name: "moved", Partitions: 1}, []catalog.Chain{{NextSeq: 2, Spans: []catalog.Span{
		{Seq: 0, Start: 0, End: 100, Epoch: 3, MaxTimestamp: -1, Opened: time.Now(), SealedAt: time.Now(), Copies: one(old, catalog.Piece{})},
		{Seq: 1, Start: 100, End: catalog.Open, Epoch: 5, MaxTimestamp: -1, Opened: time.Now(), Copies: one(fresh, catalog.Piece{Delta: 100})},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.watcher.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	r := f.raw()
	produce := produceRequest("moved", topic.ID, -1, map[int32][]byte{0: records(t, nil, "a", "b", "c")})
	produce.SetVersion(9)
	if p := r.receive(produce, r.send(produce)).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != 100 {
		t.Fatalf("%+v", p)
	}
	// The cluster of the open span is away: consumers of what lies on others are not held up.
	away := one(fresh, catalog.Piece{Delta: 100})
	away[0].Cluster = "away"
	if _, err := f.cat.CreateTopic(ctx, catalog.Topic{Tenant: catalog.DefaultTenant, Name: "away", Partitions: 1}, []catalog.Chain{{NextSeq: 2, Spans: []catalog.Span{
		{Seq: 0, Start: 0, End: 100, Epoch: 3, MaxTimestamp: -1, Opened: time.Now(), SealedAt: time.Now(), Copies: one(old, catalog.Piece{})},
		{Seq: 1, Start: 100, End: catalog.Open, Epoch: 5, MaxTimestamp: -1, Opened: time.Now(), Copies: away},
	}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.watcher.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		topic      string
		ask, epoch int32
		end        int64
	}{{"moved", 3, 3, 103}, {"moved", 4, 3, 103}, {"moved", 5, 5, 103}, {"moved", 6, -1, -1}, {"away", 3, 3, math.MaxInt64}} {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.SetVersion(4)
		req.ReplicaID = -1
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = c.topic
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.CurrentLeaderEpoch, p.LeaderEpoch = 5, c.ask
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		got := r.receive(req, r.send(req)).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
		if got.ErrorCode != 0 || got.LeaderEpoch != c.epoch || got.EndOffset != c.end {
			t.Errorf("%s, epoch %d: %+v, want epoch %d, end %d", c.topic, c.ask, got, c.epoch, c.end)
		}
	}
}

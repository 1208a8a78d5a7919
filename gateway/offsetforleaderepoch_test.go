package gateway

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// An epoch that has ended reaches to where the next span begins. A consumer that went over an aborted
// transaction there may stand past that: then it reaches to the end of the log, since nothing in it is
// ever given up. One that is to come is not known.
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
	two := func(name string, open []catalog.Copy) {
		t.Helper()
		if _, err := f.cat.CreateTopic(ctx, catalog.Topic{Tenant: catalog.DefaultTenant, Name: name, Partitions: 1}, []catalog.Chain{{NextSeq: 2, Spans: []catalog.Span{
			{Seq: 0, Start: 0, End: 100, Epoch: 3, MaxTimestamp: -1, Opened: time.Now(), SealedAt: time.Now(), Copies: one(old, catalog.Piece{})},
			{Seq: 1, Start: 100, End: catalog.Open, Epoch: 5, MaxTimestamp: -1, Opened: time.Now(), Copies: open},
		}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.watcher.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
	}
	two("empty", one(physical(), catalog.Piece{Delta: 100}))
	two("txn", one(physical(), catalog.Piece{Delta: 100}))
	// The cluster of the open span is away: consumers of what lies on others are not held up.
	away := one(fresh, catalog.Piece{Delta: 100})
	away[0].Cluster = "away"
	two("away", away)
	ask := func(topic string, epoch int32) kmsg.OffsetForLeaderEpochResponseTopicPartition {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		req.SetVersion(4)
		req.ReplicaID = -1
		rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
		rt.Topic = topic
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.CurrentLeaderEpoch, p.LeaderEpoch = 5, epoch
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		return r.receive(req, r.send(req)).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
	}
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cl := f.client(kgo.TransactionalID("t"), kgo.DefaultProduceTopic("txn"))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := cl.ProduceSync(within, kgo.StringRecord("x")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cl.EndTransaction(within, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	for ask("txn", 5).EndOffset != 104 { // the marker may come after the answer
		select {
		case <-within.Done():
			t.Fatalf("no marker: %+v", ask("txn", 5))
		case <-time.After(10 * time.Millisecond):
		}
	}
	for _, c := range []struct {
		topic      string
		ask, epoch int32
		end        int64
	}{{"moved", 3, 3, 100}, {"moved", 4, 3, 100}, {"txn", 3, 3, 104}, {"empty", 3, 3, 100}, {"moved", 5, 5, 103}, {"moved", 6, -1, -1}, {"away", 3, 3, math.MaxInt64}} {
		got := ask(c.topic, c.ask)
		if got.ErrorCode != 0 || got.LeaderEpoch != c.epoch || got.EndOffset != c.end {
			t.Errorf("%s, epoch %d: %+v, want epoch %d, end %d", c.topic, c.ask, got, c.epoch, c.end)
		}
	}
}

// Only what no consumer goes past without its epoch ends the epoch before.
func TestFirstRecordThatIsKept(t *testing.T) {
	t.Parallel()
	at := func(b *batch.Builder) { b.BaseOffset(7) }
	emptied := records(t, at, "x")
	clear(emptied[57:61]) // its count of records
	marker, err := batch.Marker{ProducerID: 1, Commit: true}.Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		run  []byte
		want int64
	}{
		{"nothing", nil, -1},
		{"records", records(t, at, "x"), 7},
		{"idempotent ones", records(t, func(b *batch.Builder) { b.BaseOffset(7).Producer(1, 0, 0) }, "x"), 7},
		{"of a transaction", records(t, func(b *batch.Builder) { b.BaseOffset(7).Producer(1, 0, 0).Transactional() }, "x"), -1},
		{"a marker", marker, -1},
		{"emptied by compaction", emptied, -1},
	} {
		if got := keptFrom(tc.run); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

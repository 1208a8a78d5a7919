package gateway

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/wire"
)

func TestListOffsets(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("l", 2)
	r := f.raw()
	base := time.Now().Add(-time.Minute).UnixMilli()
	for _, ts := range []int64{0, 500, 200} {
		b := records(t, func(b *batch.Builder) { b.Add(batch.Record{Timestamp: base + ts, Value: []byte("v")}) })
		if p := do[*kmsg.ProduceResponse](r, 9, produceRequest("l", [16]byte{}, -1, map[int32][]byte{0: b})).Topics[0].Partitions[0]; p.ErrorCode != 0 {
			t.Fatal(wire.Code(p.ErrorCode))
		}
	}
	ask := func(version int16, part int32, ts int64, epoch int32) kmsg.ListOffsetsResponseTopicPartition {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = "l"
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = part, ts, epoch
		rt.Partitions = append(rt.Partitions, p)
		req.Topics = append(req.Topics, rt)
		return do[*kmsg.ListOffsetsResponse](r, version, req).Topics[0].Partitions[0]
	}
	for _, c := range []struct {
		name       string
		version    int16
		part       int32
		ts         int64
		epoch      int32
		code       wire.Code
		offset, at int64
		atEpoch    int32
	}{
		{"latest", 11, 0, -1, -1, 0, 3, -1, 7},
		{"earliest", 11, 0, -2, -1, 0, 0, -1, 7},
		{"max timestamp", 11, 0, -3, -1, 0, 1, base + 500, 7},
		{"max timestamp of none", 11, 1, -3, -1, 0, -1, -1, -1},
		{"earliest local", 11, 0, -4, -1, 0, 0, -1, 7},
		{"latest tiered", 11, 0, -5, -1, 0, -1, -1, -1},
		{"earliest pending upload", 11, 0, -6, -1, 0, -1, -1, -1},
		{"by time", 11, 0, base + 100, -1, 0, 1, base + 500, 7},
		{"by time, exactly", 11, 0, base, -1, 0, 0, base, 7},
		{"by time, past all", 11, 0, base + 501, -1, 0, -1, -1, -1},
		{"max timestamp before its version", 6, 0, -3, -1, wire.UnsupportedVersion, -1, -1, -1},
		{"nobody knows it", 11, 0, -9, -1, wire.UnsupportedVersion, -1, -1, -1},
		{"current epoch", 11, 0, -1, 7, 0, 3, -1, 7},
		{"old epoch", 11, 0, -1, 3, wire.FencedLeaderEpoch, -1, -1, -1},
		{"newer epoch", 11, 0, -1, 9, wire.UnknownLeaderEpoch, -1, -1, -1},
		{"unknown partition", 11, 5, -1, -1, wire.UnknownTopicOrPartition, -1, -1, -1},
	} {
		got := ask(c.version, c.part, c.ts, c.epoch)
		if wire.Code(got.ErrorCode) != c.code || got.Offset != c.offset || got.Timestamp != c.at || got.LeaderEpoch != c.atEpoch && c.version >= 4 {
			t.Errorf("%s: %v, offset %d, timestamp %d, epoch %d, want %v, %d, %d, %d", c.name, wire.Code(got.ErrorCode), got.Offset, got.Timestamp, got.LeaderEpoch,
				c.code, c.offset, c.at, c.atEpoch)
		}
	}
}

func TestDeleteRecords(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("d", 1)
	f.topic("keep", 1, "cleanup.policy", "compact")
	f.topic("nothing", 1, "cleanup.policy", "") // by itself
	f.topic("both", 1, "cleanup.policy", "compact, delete")
	r := f.raw()
	for range 5 {
		put(r, "d", 0, "v")
		put(r, "nothing", 0, "v")
	}
	ask := func(topic string, before int64) (wire.Code, int64) {
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.TimeoutMillis = 5000
		req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: before}}}}
		p := do[*kmsg.DeleteRecordsResponse](r, 2, req).Topics[0].Partitions[0]
		return wire.Code(p.ErrorCode), p.LowWatermark
	}
	for _, c := range []struct {
		topic  string
		before int64
		code   wire.Code
		low    int64
	}{
		{"d", 2, 0, 2}, {"d", 1, 0, 2}, {"d", 6, wire.OffsetOutOfRange, -1}, {"d", -7, wire.OffsetOutOfRange, -1},
		{"keep", 0, wire.PolicyViolation, -1}, {"nothing", 3, 0, 3}, {"both", 0, 0, 0}, {"none", 0, wire.UnknownTopicOrPartition, -1}, {"d", -1, 0, 5},
	} {
		if code, low := ask(c.topic, c.before); code != c.code || low != c.low {
			t.Errorf("%s before %d: %v, low %d, want %v, %d", c.topic, c.before, code, low, c.code, c.low)
		}
	}
	p := do[*kmsg.FetchResponse](r, 11, fetchRequest("d", [16]byte{}, map[int32]int64{0: 1})).Topics[0].Partitions[0]
	if wire.Code(p.ErrorCode) != wire.OffsetOutOfRange {
		t.Errorf("read below the start: %v", wire.Code(p.ErrorCode))
	}
}

// Who asks for what is not served is told so at once.
func TestOtherCoordinatorsAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := f.raw()
	for _, kind := range []int8{2, 9} {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorType, req.CoordinatorKeys, req.CoordinatorKey = kind, []string{"a", "b"}, "a"
		for _, c := range do[*kmsg.FindCoordinatorResponse](r, 6, req).Coordinators {
			if wire.Code(c.ErrorCode) != wire.InvalidRequest || c.ErrorMessage == nil || c.NodeID != -1 {
				t.Errorf("type %d: %+v", kind, c)
			}
		}
		if got := do[*kmsg.FindCoordinatorResponse](r, 2, req); wire.Code(got.ErrorCode) != wire.InvalidRequest {
			t.Errorf("type %d: %+v", kind, got)
		}
	}
}

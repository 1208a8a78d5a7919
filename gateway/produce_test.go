package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func TestProduceValidation(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	plain := f.topic("plain", 1)
	f.topic("small", 1, "max.message.bytes", "200")
	f.topic("compacted", 1, "cleanup.policy", "compact")
	f.topic("__consumer_offsets", 1, "cleanup.policy", "compact")
	f.topic("strict", 1, "message.timestamp.before.max.ms", "1000")
	f.topic("strict-compacted", 1, "cleanup.policy", "compact", "message.timestamp.before.max.ms", "3600000")
	r := f.raw()
	old := func(b *batch.Builder) {
		b.Add(batch.Record{Timestamp: time.Now().Add(-time.Hour).UnixMilli(), Key: []byte("k")})
	}
	future := func(b *batch.Builder) { b.Add(batch.Record{Timestamp: time.Now().Add(2 * time.Hour).UnixMilli()}) }
	good := records(t, nil, "v")
	two := append(append([]byte(nil), good...), good...)
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-1] ^= 1
	magic := append([]byte(nil), good...)
	magic[16] = 1
	cases := []struct {
		name    string
		topic   string
		part    int32
		version int16
		acks    int16
		records []byte
		want    wire.Code
		message string
	}{
		{name: "good", topic: "plain", records: good},
		{name: "good, acks 1", topic: "plain", acks: 1, records: good},
		{name: "wrong acks", topic: "plain", acks: 7, records: good, want: wire.InvalidRequiredAcks},
		{name: "internal", topic: "__consumer_offsets", records: good, want: wire.InvalidTopicException},
		{name: "no such topic", topic: "none", records: good, want: wire.UnknownTopicOrPartition},
		{name: "no such partition", topic: "plain", part: 5, records: good, want: wire.UnknownTopicOrPartition},
		{name: "negative partition", topic: "plain", part: -1, records: good, want: wire.UnknownTopicOrPartition},
		{name: "no batch", topic: "plain", records: []byte{}, want: wire.InvalidRecord, message: "one record batch"},
		{name: "two batches", topic: "plain", records: two, want: wire.InvalidRecord},
		{name: "wrong CRC", topic: "plain", records: flipped, want: wire.CorruptMessage},
		{name: "truncated", topic: "plain", records: good[:len(good)-3], want: wire.CorruptMessage},
		{name: "old magic", topic: "plain", records: magic, want: wire.InvalidRecord},
		{name: "too large", topic: "small", records: records(t, nil, strings.Repeat("x", 300)), want: wire.MessageTooLarge},
		{name: "too large by default", topic: "plain", records: records(t, nil, strings.Repeat("x", 1<<20+100)), want: wire.MessageTooLarge},
		{name: "null key in a compacted topic", topic: "compacted", records: records(t, func(b *batch.Builder) { b.Add(batch.Record{Value: []byte("v")}) }), want: wire.InvalidRecord, message: "without key"},
		{name: "null key, compressed", topic: "compacted", records: records(t, func(b *batch.Builder) { b.Codec(batch.Gzip).Add(batch.Record{Value: []byte("v")}) }), want: wire.InvalidRecord},
		{name: "keyed in a compacted topic", topic: "compacted", records: good},
		{name: "from the future", topic: "plain", records: records(t, future), want: wire.InvalidTimestamp, message: "out of range"},
		{name: "too old", topic: "strict", records: records(t, old), want: wire.InvalidTimestamp},
		{name: "too old, not the first", topic: "strict", records: records(t, func(b *batch.Builder) {
			b.Add(batch.Record{Timestamp: time.Now().UnixMilli()})
			old(b)
		}), want: wire.InvalidTimestamp},
		{name: "a null key, and too old, in two records", topic: "strict-compacted", records: records(t, func(b *batch.Builder) {
			b.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")})
			b.Add(batch.Record{Timestamp: time.Now().Add(-2 * time.Hour).UnixMilli(), Key: []byte("k")})
		}), want: wire.InvalidTimestamp},
		{name: "a null key, and too old, in one record", topic: "strict-compacted", records: records(t, func(b *batch.Builder) {
			b.Add(batch.Record{Timestamp: time.Now().Add(-2 * time.Hour).UnixMilli(), Value: []byte("v")})
		}), want: wire.InvalidRecord},
		{name: "old where it may be", topic: "plain", records: records(t, old)},
		{name: "log append time", topic: "plain", records: records(t, func(b *batch.Builder) { b.LogAppendTime(time.Now().UnixMilli()) }, "v"), want: wire.InvalidTimestamp},
		{name: "transactional", topic: "plain", records: records(t, func(b *batch.Builder) { b.Producer(1, 0, 0).Transactional() }, "v"), want: wire.InvalidRecord, message: "transactional id"},
		{name: "zstd of old", topic: "plain", version: 6, records: records(t, func(b *batch.Builder) { b.Codec(batch.Zstd) }, "v"), want: wire.UnsupportedCompressionType},
		{name: "zstd", topic: "plain", records: records(t, func(b *batch.Builder) { b.Codec(batch.Zstd) }, "v")},
		{name: "sequence gap", topic: "plain", records: records(t, func(b *batch.Builder) { b.Producer(catalog.ProducerIDBase+1<<20, 0, 0) }, "v")},
		{name: "sequence gap, 2", topic: "plain", records: records(t, func(b *batch.Builder) { b.Producer(catalog.ProducerIDBase+1<<20, 0, 5) }, "v"), want: wire.OutOfOrderSequenceNumber},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r.tb = t
			if c.version == 0 {
				c.version = 12
			}
			if c.acks == 0 {
				c.acks = -1
			}
			req := produceRequest(c.topic, [16]byte{}, c.acks, map[int32][]byte{c.part: c.records})
			p := do[*kmsg.ProduceResponse](r, c.version, req).Topics[0].Partitions[0]
			if wire.Code(p.ErrorCode) != c.want || c.want == 0 != (p.BaseOffset >= 0) {
				t.Errorf("code %v, offset %d, want code %v", wire.Code(p.ErrorCode), p.BaseOffset, c.want)
			}
			if c.message != "" && (p.ErrorMessage == nil || !strings.Contains(*p.ErrorMessage, c.message)) {
				t.Errorf("message %v, want %q", p.ErrorMessage, c.message)
			}
		})
	}
	// By id.
	p := do[*kmsg.ProduceResponse](r, 13, produceRequest("", plain.ID, -1, map[int32][]byte{0: good})).Topics[0]
	if p.TopicID != plain.ID || p.Partitions[0].ErrorCode != 0 {
		t.Errorf("by id: %+v", p)
	}
	p = do[*kmsg.ProduceResponse](r, 13, produceRequest("", [16]byte{1}, -1, map[int32][]byte{0: good})).Topics[0]
	if wire.Code(p.Partitions[0].ErrorCode) != wire.UnknownTopicID {
		t.Errorf("by unknown id: %+v", p)
	}
}

// A batch of a compacted topic is refused for its records without a key, and the answer names those: clients fail
// the others with an error of another kind (KIP-467). An answer has room for so many.
func TestProduceNamesRefusedRecords(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("compacted", 3, "cleanup.policy", "compact")
	r := f.raw()
	mixed := records(t, func(b *batch.Builder) {
		for i := range 4 {
			b.Add(batch.Record{Key: [][]byte{nil, []byte("k")}[i%2], Value: []byte("v")})
		}
	})
	answer := func(version int16, parts map[int32][]byte) []kmsg.ProduceResponseTopicPartition {
		got := do[*kmsg.ProduceResponse](r, version, produceRequest("compacted", [16]byte{}, -1, parts)).Topics[0].Partitions
		for _, p := range got {
			if wire.Code(p.ErrorCode) != wire.InvalidRecord {
				t.Fatalf("version %d: %+v", version, p)
			}
		}
		return got
	}
	for _, version := range []int16{8, 12} {
		p := answer(version, map[int32][]byte{0: mixed})[0]
		if len(p.ErrorRecords) != 2 || p.ErrorRecords[0].RelativeOffset != 0 || p.ErrorRecords[1].RelativeOffset != 2 {
			t.Fatalf("version %d: %+v", version, p.ErrorRecords)
		}
		if m := p.ErrorRecords[1].ErrorMessage; m == nil || !strings.Contains(*m, "without key") {
			t.Errorf("version %d: %v", version, m)
		}
	}
	answer(7, map[int32][]byte{0: mixed}) // has no place for them
	keyless := records(t, func(b *batch.Builder) {
		for range batch.MaxFaults - 100 {
			b.Add(batch.Record{})
		}
	})
	named := 0
	for _, p := range answer(12, map[int32][]byte{0: keyless, 1: keyless, 2: keyless}) {
		named += len(p.ErrorRecords)
	}
	if named != batch.MaxFaults {
		t.Errorf("%d records are named, want %d", named, batch.MaxFaults)
	}
}

// Answers leave in the order of the requests, whatever kind they are, and
// appends land in it.
func TestPipelinedRequestsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("pipe", 4)
	r := f.raw()
	type sent struct {
		req  kmsg.Request
		corr int32
	}
	var all []sent
	perPartition := map[int32]int64{}
	var out []byte
	for i := range 400 {
		var req kmsg.Request
		switch {
		case i%10 == 7:
			req = kmsg.NewPtrMetadataRequest()
			req.SetVersion(9)
		case i%25 == 3:
			req = fetchRequest("pipe", [16]byte{}, map[int32]int64{0: 0})
			req.SetVersion(11)
		default:
			req = produceRequest("pipe", [16]byte{}, -1, map[int32][]byte{int32(i % 4): records(t, nil, fmt.Sprint(i))})
			req.SetVersion(9)
		}
		r.corr++
		all = append(all, sent{req, r.corr})
		out = wire.AppendRequest(out, r.corr, []byte("raw"), req)
	}
	go func() { _, _ = r.nc.Write(out) }() // the answers tell
	for i, s := range all {
		resp := r.receive(s.req, s.corr)
		p, ok := resp.(*kmsg.ProduceResponse)
		if !ok {
			continue
		}
		part := p.Topics[0].Partitions[0]
		if part.ErrorCode != 0 || part.BaseOffset != perPartition[part.Partition] {
			t.Fatalf("request %d: code %d, offset %d, want %d", i, part.ErrorCode, part.BaseOffset, perPartition[part.Partition])
		}
		perPartition[part.Partition]++
	}
}

func TestProduceWithoutAcknowledgement(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("quiet", 1)
	r := f.raw()
	for range 10 {
		req := produceRequest("quiet", [16]byte{}, 0, map[int32][]byte{0: records(t, nil, "v")})
		req.SetVersion(7)
		r.send(req)
	}
	// No answer comes in between, and what was sent before is there.
	got := do[*kmsg.FetchResponse](r, 11, fetchRequest("quiet", [16]byte{}, map[int32]int64{0: 0}))
	if hw := got.Topics[0].Partitions[0].HighWatermark; hw != 10 {
		t.Errorf("high watermark %d, want 10", hw)
	}
	req := produceRequest("none", [16]byte{}, 0, map[int32][]byte{0: records(t, nil, "v")})
	req.SetVersion(7)
	r.send(req)
	r.closed()
}

// A duplicate is answered with the offset of the first, also by another gateway.
func TestDuplicateGetsItsOffset(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2))
	f.topic("dup", 1)
	id := do[*kmsg.InitProducerIDResponse](f.raw(), 4, kmsg.NewPtrInitProducerIDRequest())
	batchOf := func(seq int32) []byte {
		return records(t, func(b *batch.Builder) { b.Producer(id.ProducerID, id.ProducerEpoch, seq) }, "v")
	}
	offset := func(r *raw, seq int32) int64 {
		p := do[*kmsg.ProduceResponse](r, 9, produceRequest("dup", [16]byte{}, -1, map[int32][]byte{0: batchOf(seq)})).Topics[0].Partitions[0]
		if p.ErrorCode != 0 {
			t.Fatalf("sequence %d: %v", seq, wire.Code(p.ErrorCode))
		}
		return p.BaseOffset
	}
	one, two := f.rawTo(0), f.rawTo(1)
	a, b := offset(one, 0), offset(one, 1)
	if got := offset(two, 1); got != b {
		t.Errorf("retry at another gateway is at %d, want %d", got, b)
	}
	if got := offset(one, 0); got != a {
		t.Errorf("older retry is at %d, want %d", got, a)
	}
}

func TestErrorTable(t *testing.T) {
	t.Parallel()
	cases := []struct {
		err  error
		want wire.Code
	}{
		{nil, wire.None},
		{chain.ErrHeldTooLong, wire.NotLeaderOrFollower},
		{fmt.Errorf("append: %w", chain.ErrUnavailable), wire.NotLeaderOrFollower},
		{chain.ErrTimedOut, wire.RequestTimedOut},
		{chain.ErrDuplicate, wire.DuplicateSequenceNumber},
		{chain.ErrOutOfOrder, wire.OutOfOrderSequenceNumber},
		{chain.ErrOldProducerEpoch, wire.InvalidProducerEpoch},
		{chain.ErrTooLarge, wire.MessageTooLarge},
		{chain.ErrUnknownTopic, wire.UnknownTopicOrPartition},
		{chain.ErrUnknownPartition, wire.UnknownTopicOrPartition},
		{chain.ErrStorage, wire.KafkaStorageError},
		{chain.ErrClosed, wire.NotLeaderOrFollower},
		{chain.ErrFencedLeaderEpoch, wire.FencedLeaderEpoch},
		{chain.ErrUnknownLeaderEpoch, wire.UnknownLeaderEpoch},
		{chain.ErrOffsetOutOfRange, wire.OffsetOutOfRange},
		{&span.RejectedError{Code: wire.InvalidTimestamp}, wire.InvalidTimestamp},
		{fmt.Errorf("x: %w", &span.RejectedError{Code: wire.PolicyViolation}), wire.PolicyViolation},
		{span.ErrUnknownOutcome, wire.RequestTimedOut},
		{errors.Join(chain.ErrUnavailable, chain.ErrTimedOut), wire.RequestTimedOut},
		{errors.Join(&span.RejectedError{Code: wire.OutOfOrderSequenceNumber}, chain.ErrTimedOut), wire.RequestTimedOut},
		{errors.Join(&span.RejectedError{Code: wire.OutOfOrderSequenceNumber}, chain.ErrDuplicate), wire.DuplicateSequenceNumber},
		{errors.Join(span.ErrUnavailable, &span.RejectedError{Code: wire.InvalidTimestamp}), wire.InvalidTimestamp},
		{wire.PolicyViolation, wire.PolicyViolation},
		{span.ErrSealed, wire.NotLeaderOrFollower},
		{catalog.ErrUnavailable, wire.RequestTimedOut},
		{catalog.ErrFenced, wire.NotController},
		{context.DeadlineExceeded, wire.RequestTimedOut},
		{batch.ErrCorrupt, wire.CorruptMessage},
		{errors.New("anything else"), wire.UnknownServerError},
	}
	for _, c := range cases {
		if got, _ := lookupCode(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
	if d := detailOf(errors.New("dial physical-a:9092"), wire.RequestTimedOut); strings.Contains(d, "physical") {
		t.Errorf("detail %q leaks", d)
	}
}

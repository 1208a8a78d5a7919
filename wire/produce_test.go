package wire

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

func drawUUID(t *rapid.T) (id [16]byte) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
	return id
}

func drawString(t *rapid.T, label string) string {
	return rapid.StringN(0, 20, 200).Draw(t, label)
}

func drawNullable(t *rapid.T, label string) *string {
	if rapid.Bool().Draw(t, label+" is null") {
		return nil
	}
	s := drawString(t, label)
	return &s
}

// drawRun draws records: some short enough to be copied, some not.
func drawRun(t *rapid.T) []byte {
	n := rapid.SampledFrom([]int{0, 1, 126, 127, 128, inlineRun, inlineRun + 1, 20_000}).Draw(t, "run size")
	return bytes.Repeat([]byte{rapid.Byte().Draw(t, "run byte")}, n)
}

func drawProduceRequest(t *rapid.T, version int16) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version = version
	req.TransactionID = drawNullable(t, "transactional id")
	req.Acks = rapid.Int16().Draw(t, "acks")
	req.TimeoutMillis = rapid.Int32().Draw(t, "timeout")
	for range rapid.IntRange(0, 4).Draw(t, "topics") {
		topic := kmsg.NewProduceRequestTopic()
		if version >= 13 {
			topic.TopicID = drawUUID(t)
		} else {
			topic.Topic = drawString(t, "topic")
		}
		for range rapid.IntRange(0, 4).Draw(t, "partitions") {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition = rapid.Int32().Draw(t, "partition")
			p.Records = drawRun(t)
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
	}
	return req
}

func drawVersion(t *rapid.T, lo, hi int16) int16 {
	return rapid.Int16Range(lo, hi).Draw(t, "version")
}

func TestProduceRequestAgainstKmsg(t *testing.T) {
	var ours ProduceRequest // reused, as a connection does
	var s Scatter
	rapid.Check(t, func(t *rapid.T) {
		version := drawVersion(t, ProduceMinVersion, ProduceMaxVersion)
		req := drawProduceRequest(t, version)
		body := req.AppendTo(nil)
		if err := Check(ProduceKey, version, body, DefaultBudget); err != nil {
			t.Fatal(err)
		}
		if err := ours.Decode(version, body); err != nil {
			t.Fatal(err)
		}
		sameNullable(t, "transactional id", ours.TransactionalID, req.TransactionID)
		same(t, "acks", ours.Acks, req.Acks)
		same(t, "timeout", ours.TimeoutMillis, req.TimeoutMillis)
		same(t, "topics", len(ours.Topics), len(req.Topics))
		n := 0
		for i, topic := range req.Topics {
			same(t, "name", string(ours.Topics[i].Name), topic.Topic)
			same(t, "id", ours.Topics[i].ID, topic.TopicID)
			same(t, "first", ours.Topics[i].First, n)
			same(t, "count", ours.Topics[i].Count, len(topic.Partitions))
			for _, p := range topic.Partitions {
				same(t, "index", ours.Partitions[n].Index, p.Partition)
				same(t, "topic", ours.Partitions[n].Topic, i)
				same(t, "records", string(ours.Partitions[n].Records), string(p.Records))
				n++
			}
		}
		same(t, "partitions", len(ours.Partitions), n)

		s.Reset()
		s.Append([]byte("before"))
		if err := ours.AppendFrame(&s, version, 77, []byte("me")); err != nil {
			t.Fatal(err)
		}
		frame := AppendRequest([]byte("before"), 77, []byte("me"), req)
		if !bytes.Equal(s.Bytes(), frame) {
			t.Fatalf("v%d: encoded\n%x\nwant\n%x", version, s.Bytes(), frame)
		}
		same(t, "scatter length", s.Len(), len(frame))
	})
}

func drawProduceResponse(t *rapid.T, version int16) *kmsg.ProduceResponse {
	resp := kmsg.NewPtrProduceResponse()
	resp.Version = version
	resp.ThrottleMillis = rapid.Int32().Draw(t, "throttle")
	for range rapid.IntRange(0, 4).Draw(t, "topics") {
		topic := kmsg.NewProduceResponseTopic()
		if version >= 13 {
			topic.TopicID = drawUUID(t)
		} else {
			topic.Topic = drawString(t, "topic")
		}
		for range rapid.IntRange(0, 4).Draw(t, "partitions") {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition = rapid.Int32().Draw(t, "partition")
			p.ErrorCode = rapid.Int16().Draw(t, "code")
			p.BaseOffset = rapid.Int64().Draw(t, "base offset")
			p.LogAppendTime = rapid.Int64().Draw(t, "append time")
			if version >= 5 {
				p.LogStartOffset = rapid.Int64().Draw(t, "log start")
			}
			if version >= 8 {
				p.ErrorMessage = drawNullable(t, "message")
				for range rapid.IntRange(0, 2).Draw(t, "record errors") {
					e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
					e.RelativeOffset = rapid.Int32().Draw(t, "record")
					e.ErrorMessage = drawNullable(t, "record message")
					p.ErrorRecords = append(p.ErrorRecords, e)
				}
			}
			if version >= 10 && rapid.Bool().Draw(t, "leader set") {
				p.CurrentLeader.LeaderID = rapid.Int32().Draw(t, "leader")
				p.CurrentLeader.LeaderEpoch = rapid.Int32().Draw(t, "leader epoch")
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	if version >= 10 {
		for range rapid.IntRange(0, 3).Draw(t, "endpoints") {
			b := kmsg.NewProduceResponseBroker()
			b.NodeID, b.Host = rapid.Int32().Draw(t, "node"), drawString(t, "host")
			b.Port, b.Rack = rapid.Int32().Draw(t, "port"), drawNullable(t, "rack")
			resp.Brokers = append(resp.Brokers, b)
		}
	}
	return resp
}

func TestProduceResponseAgainstKmsg(t *testing.T) {
	var ours ProduceResponse
	rapid.Check(t, func(t *rapid.T) {
		version := drawVersion(t, ProduceMinVersion, ProduceMaxVersion)
		resp := drawProduceResponse(t, version)
		body := resp.AppendTo(nil)
		if err := CheckResponse(ProduceKey, version, body, DefaultBudget); err != nil {
			t.Fatal(err)
		}
		if err := ours.Decode(version, body); err != nil {
			t.Fatal(err)
		}
		same(t, "throttle", ours.ThrottleMillis, resp.ThrottleMillis)
		same(t, "topics", len(ours.Topics), len(resp.Topics))
		n := 0
		for i, topic := range resp.Topics {
			same(t, "name", string(ours.Topics[i].Name), topic.Topic)
			same(t, "id", ours.Topics[i].ID, topic.TopicID)
			for _, p := range topic.Partitions {
				got := ours.Partitions[n]
				same(t, "index", got.Index, p.Partition)
				same(t, "topic", got.Topic, i)
				same(t, "code", int16(got.Code), p.ErrorCode)
				same(t, "base offset", got.BaseOffset, p.BaseOffset)
				same(t, "append time", got.LogAppendTime, p.LogAppendTime)
				same(t, "log start", got.LogStart, p.LogStartOffset)
				same(t, "leader", got.CurrentLeader.ID, p.CurrentLeader.LeaderID)
				same(t, "leader epoch", got.CurrentLeader.Epoch, p.CurrentLeader.LeaderEpoch)
				sameNullable(t, "message", got.Message, p.ErrorMessage)
				same(t, "record errors", len(got.RecordErrors), len(p.ErrorRecords))
				for k, e := range p.ErrorRecords {
					same(t, "record error", got.RecordErrors[k].Index, e.RelativeOffset)
					sameNullable(t, "record message", got.RecordErrors[k].Message, e.ErrorMessage)
				}
				n++
			}
		}
		same(t, "endpoints", len(ours.NodeEndpoints), len(resp.Brokers))
		for i, b := range resp.Brokers {
			ep := ours.NodeEndpoints[i]
			same(t, "node", ep.NodeID, b.NodeID)
			same(t, "host", ep.Host, b.Host)
			same(t, "port", ep.Port, b.Port)
		}
		frame, err := ours.AppendFrame([]byte("before"), version, 5)
		if err != nil {
			t.Fatal(err)
		}
		if want := AppendResponse([]byte("before"), 5, resp); !bytes.Equal(frame, want) {
			t.Fatalf("v%d: encoded\n%x\nwant\n%x", version, frame, want)
		}
	})
}

func same[T comparable](t *rapid.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func sameNullable(t *rapid.T, what string, got []byte, want *string) {
	t.Helper()
	if (got == nil) != (want == nil) || want != nil && string(got) != *want {
		t.Fatalf("%s: got %q, want %v", what, got, want)
	}
}

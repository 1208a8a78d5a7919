package wire

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

func drawFetchRequest(t *rapid.T, version int16) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version = version
	req.MaxWaitMillis = rapid.Int32().Draw(t, "max wait")
	req.MinBytes = rapid.Int32().Draw(t, "min bytes")
	req.MaxBytes = rapid.Int32().Draw(t, "max bytes")
	req.IsolationLevel = rapid.Int8().Draw(t, "isolation")
	if version < 15 {
		req.ReplicaID = rapid.Int32().Draw(t, "replica")
	} else if rapid.Bool().Draw(t, "replica set") {
		req.ReplicaState.ID = rapid.Int32().Draw(t, "replica")
		req.ReplicaState.Epoch = rapid.Int64().Draw(t, "replica epoch")
	}
	if version >= 7 {
		req.SessionID = rapid.Int32().Draw(t, "session")
		req.SessionEpoch = rapid.Int32().Draw(t, "session epoch")
	}
	if version >= 11 {
		req.Rack = drawString(t, "rack")
	}
	if version >= 12 {
		req.ClusterID = drawNullable(t, "cluster")
	}
	for range rapid.IntRange(0, 4).Draw(t, "topics") {
		topic := kmsg.NewFetchRequestTopic()
		if version >= 13 {
			topic.TopicID = drawUUID(t)
		} else {
			topic.Topic = drawString(t, "topic")
		}
		for range rapid.IntRange(0, 4).Draw(t, "partitions") {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition = rapid.Int32().Draw(t, "partition")
			p.FetchOffset = rapid.Int64().Draw(t, "offset")
			p.PartitionMaxBytes = rapid.Int32().Draw(t, "partition max bytes")
			if version >= 5 {
				p.LogStartOffset = rapid.Int64().Draw(t, "log start")
			}
			if version >= 9 {
				p.CurrentLeaderEpoch = rapid.Int32().Draw(t, "leader epoch")
			}
			if version >= 12 {
				p.LastFetchedEpoch = rapid.Int32().Draw(t, "last fetched epoch")
			}
			if version >= 17 && rapid.Bool().Draw(t, "directory set") {
				p.ReplicaDirectoryID = drawUUID(t)
			}
			if version >= 18 && rapid.Bool().Draw(t, "watermark set") {
				p.HighWatermark = rapid.Int64().Draw(t, "watermark")
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
	}
	if version >= 7 {
		for range rapid.IntRange(0, 3).Draw(t, "forgotten") {
			topic := kmsg.NewFetchRequestForgottenTopic()
			if version >= 13 {
				topic.TopicID = drawUUID(t)
			} else {
				topic.Topic = drawString(t, "topic")
			}
			topic.Partitions = rapid.SliceOfN(rapid.Int32(), 0, 4).Draw(t, "partitions")
			req.ForgottenTopics = append(req.ForgottenTopics, topic)
		}
	}
	return req
}

func TestFetchRequestAgainstKmsg(t *testing.T) {
	var ours FetchRequest
	rapid.Check(t, func(t *rapid.T) {
		version := drawVersion(t, FetchMinVersion, FetchMaxVersion)
		req := drawFetchRequest(t, version)
		body := req.AppendTo(nil)
		if err := Check(FetchKey, version, body, DefaultBudget); err != nil {
			t.Fatal(err)
		}
		if err := ours.Decode(version, body); err != nil {
			t.Fatal(err)
		}
		if version < 15 {
			same(t, "replica", ours.ReplicaID, req.ReplicaID)
		} else {
			same(t, "replica", ours.ReplicaID, req.ReplicaState.ID)
			same(t, "replica epoch", ours.ReplicaEpoch, req.ReplicaState.Epoch)
		}
		same(t, "max wait", ours.MaxWaitMillis, req.MaxWaitMillis)
		same(t, "min bytes", ours.MinBytes, req.MinBytes)
		same(t, "max bytes", ours.MaxBytes, req.MaxBytes)
		same(t, "isolation", ours.Isolation, req.IsolationLevel)
		same(t, "session", ours.SessionID, req.SessionID)
		same(t, "session epoch", ours.SessionEpoch, req.SessionEpoch)
		same(t, "rack", string(ours.Rack), req.Rack)
		sameNullable(t, "cluster", ours.ClusterID, req.ClusterID)
		n := 0
		same(t, "topics", len(ours.Topics), len(req.Topics))
		for i, topic := range req.Topics {
			same(t, "name", string(ours.Topics[i].Name), topic.Topic)
			same(t, "id", ours.Topics[i].ID, topic.TopicID)
			for _, p := range topic.Partitions {
				got := ours.Partitions[n]
				same(t, "topic", got.Topic, i)
				same(t, "index", got.Index, p.Partition)
				same(t, "offset", got.Offset, p.FetchOffset)
				same(t, "max bytes", got.MaxBytes, p.PartitionMaxBytes)
				same(t, "leader epoch", got.LeaderEpoch, p.CurrentLeaderEpoch)
				same(t, "last fetched epoch", got.LastFetchedEpoch, p.LastFetchedEpoch)
				same(t, "log start", got.LogStart, p.LogStartOffset)
				same(t, "directory", got.DirectoryID, p.ReplicaDirectoryID)
				same(t, "watermark", got.HighWatermark, p.HighWatermark)
				n++
			}
		}
		same(t, "forgotten", len(ours.Forgotten), len(req.ForgottenTopics))
		n = 0
		for i, topic := range req.ForgottenTopics {
			same(t, "forgotten name", string(ours.Forgotten[i].Name), topic.Topic)
			same(t, "forgotten id", ours.Forgotten[i].ID, topic.TopicID)
			for _, p := range topic.Partitions {
				same(t, "forgotten partition", ours.ForgottenPartitions[n], p)
				n++
			}
		}
		frame, err := ours.AppendFrame([]byte("before"), version, 9, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := AppendRequest([]byte("before"), 9, nil, req); !bytes.Equal(frame, want) {
			t.Fatalf("v%d: encoded\n%x\nwant\n%x", version, frame, want)
		}
	})
}

func drawFetchResponse(t *rapid.T, version int16) *kmsg.FetchResponse {
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = version
	resp.ThrottleMillis = rapid.Int32().Draw(t, "throttle")
	if version >= 7 {
		resp.ErrorCode = rapid.Int16().Draw(t, "code")
		resp.SessionID = rapid.Int32().Draw(t, "session")
	}
	for range rapid.IntRange(0, 4).Draw(t, "topics") {
		topic := kmsg.NewFetchResponseTopic()
		if version >= 13 {
			topic.TopicID = drawUUID(t)
		} else {
			topic.Topic = drawString(t, "topic")
		}
		for range rapid.IntRange(0, 4).Draw(t, "partitions") {
			topic.Partitions = append(topic.Partitions, drawFetchResult(t, version))
		}
		resp.Topics = append(resp.Topics, topic)
	}
	if version >= 16 {
		for range rapid.IntRange(0, 3).Draw(t, "endpoints") {
			b := kmsg.NewFetchResponseBroker()
			b.NodeID, b.Host = rapid.Int32().Draw(t, "node"), drawString(t, "host")
			b.Port, b.Rack = rapid.Int32().Draw(t, "port"), drawNullable(t, "rack")
			resp.Brokers = append(resp.Brokers, b)
		}
	}
	return resp
}

func drawFetchResult(t *rapid.T, version int16) kmsg.FetchResponseTopicPartition {
	p := kmsg.NewFetchResponseTopicPartition()
	p.Partition = rapid.Int32().Draw(t, "partition")
	p.ErrorCode = rapid.Int16().Draw(t, "code")
	p.HighWatermark = rapid.Int64().Draw(t, "watermark")
	p.LastStableOffset = rapid.Int64().Draw(t, "last stable")
	if version >= 5 {
		p.LogStartOffset = rapid.Int64().Draw(t, "log start")
	}
	if rapid.Bool().Draw(t, "aborted set") {
		p.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
		for range rapid.IntRange(0, 3).Draw(t, "aborted") {
			a := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
			a.ProducerID, a.FirstOffset = rapid.Int64().Draw(t, "producer"), rapid.Int64().Draw(t, "first")
			p.AbortedTransactions = append(p.AbortedTransactions, a)
		}
	}
	if version >= 11 {
		p.PreferredReadReplica = rapid.Int32().Draw(t, "preferred")
	}
	if version >= 12 {
		if rapid.Bool().Draw(t, "diverging set") {
			p.DivergingEpoch.Epoch = rapid.Int32().Draw(t, "epoch")
			p.DivergingEpoch.EndOffset = rapid.Int64().Draw(t, "end")
		}
		if rapid.Bool().Draw(t, "leader set") {
			p.CurrentLeader.LeaderID = rapid.Int32().Draw(t, "leader")
			p.CurrentLeader.LeaderEpoch = rapid.Int32().Draw(t, "leader epoch")
		}
		if rapid.Bool().Draw(t, "snapshot set") {
			p.SnapshotID.Epoch = rapid.Int32().Draw(t, "snapshot epoch")
			p.SnapshotID.EndOffset = rapid.Int64().Draw(t, "snapshot end")
		}
	}
	p.RecordBatches = drawRun(t)
	return p
}

func TestFetchResponseAgainstKmsg(t *testing.T) {
	var ours FetchResponse
	var s Scatter
	rapid.Check(t, func(t *rapid.T) {
		version := drawVersion(t, FetchMinVersion, FetchMaxVersion)
		resp := drawFetchResponse(t, version)
		body := resp.AppendTo(nil)
		if err := CheckResponse(FetchKey, version, body, DefaultBudget); err != nil {
			t.Fatal(err)
		}
		if err := ours.Decode(version, body); err != nil {
			t.Fatal(err)
		}
		same(t, "throttle", ours.ThrottleMillis, resp.ThrottleMillis)
		same(t, "code", int16(ours.Code), resp.ErrorCode)
		same(t, "session", ours.SessionID, resp.SessionID)
		same(t, "topics", len(ours.Topics), len(resp.Topics))
		n := 0
		for i, topic := range resp.Topics {
			same(t, "name", string(ours.Topics[i].Name), topic.Topic)
			same(t, "id", ours.Topics[i].ID, topic.TopicID)
			for _, p := range topic.Partitions {
				sameFetchResult(t, &ours.Partitions[n], &p)
				same(t, "topic", ours.Partitions[n].Topic, i)
				// Several runs must read like one.
				if r := &ours.Partitions[n]; len(r.Records) > 2 {
					at := rapid.IntRange(0, len(r.Records)).Draw(t, "cut")
					r.Records, r.More = r.Records[:at], [][]byte{r.Records[at:], nil}
				}
				n++
			}
		}
		same(t, "endpoints", len(ours.NodeEndpoints), len(resp.Brokers))
		s.Reset()
		s.Append([]byte("before"))
		if err := ours.AppendFrame(&s, version, 9); err != nil {
			t.Fatal(err)
		}
		if want := AppendResponse([]byte("before"), 9, resp); !bytes.Equal(s.Bytes(), want) {
			t.Fatalf("v%d: encoded\n%x\nwant\n%x", version, s.Bytes(), want)
		}
	})
}

func sameFetchResult(t *rapid.T, got *FetchResult, p *kmsg.FetchResponseTopicPartition) {
	t.Helper()
	same(t, "index", got.Index, p.Partition)
	same(t, "code", int16(got.Code), p.ErrorCode)
	same(t, "watermark", got.HighWatermark, p.HighWatermark)
	same(t, "last stable", got.LastStable, p.LastStableOffset)
	same(t, "log start", got.LogStart, p.LogStartOffset)
	same(t, "preferred", got.PreferredReadReplica, p.PreferredReadReplica)
	same(t, "leader", got.CurrentLeader, Leader{p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch})
	same(t, "diverging", got.Diverging, EpochEnd{p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset})
	same(t, "snapshot", got.Snapshot, EpochEnd{p.SnapshotID.Epoch, p.SnapshotID.EndOffset})
	same(t, "records", string(got.Records), string(p.RecordBatches))
	same(t, "aborted is null", got.Aborted == nil, p.AbortedTransactions == nil)
	same(t, "aborted", len(got.Aborted), len(p.AbortedTransactions))
	for i, a := range p.AbortedTransactions {
		same(t, "aborted", got.Aborted[i], AbortedTransaction{a.ProducerID, a.FirstOffset})
	}
}

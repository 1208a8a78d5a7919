package local_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// apache is the broker's side of [TestDifferential]: bare requests of versions that name
// topics and leave transactions to their clients.
type apache struct {
	t      testing.TB
	cl     *kgo.Client
	broker *kgo.Broker
	topic  string
	probe  []byte // of middleSize, with a wrong checksum
}

func newApache(t testing.TB, c *testkit.Cluster, topic string, config map[string]string) *apache {
	a := &apache{t: t, topic: topic, cl: c.Client(t, kgo.MaxVersions(kversion.V3_0_0()))}
	var pairs []string
	for k, v := range config {
		pairs = append(pairs, k, v)
	}
	c.CreateTopic(t, topic, 1, pairs...)
	if err := a.cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.broker = a.cl.DiscoveredBrokers()[0]
	var err error
	if a.probe, err = batch.NewBuilder().Add(batch.Record{Timestamp: 1, Key: []byte("probe"), Value: make([]byte, middleSize)}).Build(); err != nil {
		t.Fatal(err)
	}
	a.probe[len(a.probe)-1] ^= 1
	a.await("the topic takes appends", func() bool { return a.append(a.probe, "").ErrorCode == int16(wire.CorruptMessage) })
	return a
}

func (a *apache) await(what string, done func() bool) {
	a.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); {
		if time.Now().After(deadline) {
			a.t.Fatalf("Kafka: %s: not within a minute", what)
		}
	}
}

func ask[R kmsg.Response](a *apache, req kmsg.Request) R {
	a.t.Helper()
	resp, err := a.broker.Request(a.t.Context(), req)
	if err != nil {
		a.t.Fatalf("Kafka: %T: %v", req, err)
	}
	return resp.(R)
}

func (a *apache) append(raw []byte, txn string) kmsg.ProduceResponseTopicPartition {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 30000
	if txn != "" {
		req.TransactionID = &txn
	}
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = raw
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.Partitions = a.topic, append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	return ask[*kmsg.ProduceResponse](a, req).Topics[0].Partitions[0]
}

func (a *apache) produce(raw []byte, txn string) string {
	var r kmsg.ProduceResponseTopicPartition
	h, _, err := batch.Parse(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	before := a.end()
	a.await("the append is answered for good", func() bool {
		r = a.append(raw, txn)
		switch wire.Code(r.ErrorCode) {
		case wire.NotEnoughReplicas, wire.CoordinatorLoadInProgress, wire.ConcurrentTransactions, wire.CoordinatorNotAvailable:
			return false
		}
		return true
	})
	if r.ErrorCode != 0 {
		return fmt.Sprint(r.ErrorCode)
	}
	duplicate := h.HasProducer() && r.BaseOffset < before
	stamp := "-1"
	if r.LogAppendTime >= 0 {
		stamp = "now"
	}
	return produced(r.BaseOffset, stamp, r.LogStartOffset, duplicate)
}

func (a *apache) fetch(offset int64, committed bool, maxBytes int32) kmsg.FetchResponseTopicPartition {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 0, 0, 50<<20
	if committed {
		req.IsolationLevel = 1
	}
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = offset, maxBytes
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.Partitions = a.topic, append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	return ask[*kmsg.FetchResponse](a, req).Topics[0].Partitions[0]
}

func (a *apache) read(offset int64, committed bool) string {
	if offset < 0 {
		offset = a.listed(-2, 0).Offset
	}
	var out strings.Builder
	aborted := map[span.Aborted]bool{}
	for first := true; ; first = false {
		r := a.fetch(offset, committed, 1500)
		if first {
			fmt.Fprintf(&out, "%d ", r.ErrorCode)
			if r.ErrorCode == 0 {
				fmt.Fprintf(&out, "[%d, %d, %d)", r.LogStartOffset, max(r.LastStableOffset, r.LogStartOffset), r.HighWatermark)
			}
		}
		if r.ErrorCode != 0 {
			if !first {
				a.t.Fatalf("Kafka: fetch at %d: %v", offset, wire.Code(r.ErrorCode))
			}
			return out.String()
		}
		for _, x := range r.AbortedTransactions {
			aborted[span.Aborted{ProducerID: x.ProducerID, FirstOffset: x.FirstOffset}] = true
		}
		if len(r.RecordBatches) == 0 {
			break
		}
		offset = describe(a.t, &out, a.whole(r.RecordBatches))
	}
	out.WriteString(abortedBelow(aborted, offset))
	return out.String()
}

// whole cuts off a last batch that the broker cut off.
func (a *apache) whole(run []byte) []byte {
	n := 0
	for _, raw := range batch.Walk(run) {
		n += len(raw)
	}
	if n == 0 {
		a.t.Fatal("Kafka: a fetch without one whole batch")
	}
	return run[:n]
}

func (a *apache) records(committed bool) []string {
	v := newVisible(a.t, committed)
	offset := a.listed(-2, 0).Offset
	for {
		r := a.fetch(offset, committed, 1<<20)
		if r.ErrorCode != 0 {
			a.t.Fatalf("Kafka: fetch at %d: %v", offset, wire.Code(r.ErrorCode))
		}
		if len(r.RecordBatches) == 0 {
			return v.records
		}
		var skip []span.Aborted
		for _, x := range r.AbortedTransactions {
			skip = append(skip, span.Aborted{ProducerID: x.ProducerID, FirstOffset: x.FirstOffset})
		}
		offset = v.add(a.whole(r.RecordBatches), skip)
	}
}

func (a *apache) listed(ms int64, isolation int8) kmsg.ListOffsetsResponseTopicPartition {
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = isolation
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp = ms
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic, topic.Partitions = a.topic, append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	var r kmsg.ListOffsetsResponseTopicPartition
	// A busy broker may lose its place in the cluster for a moment.
	a.await("offsets are told", func() bool {
		r = ask[*kmsg.ListOffsetsResponse](a, req).Topics[0].Partitions[0]
		return !kerr.IsRetriable(kerr.ErrorForCode(r.ErrorCode))
	})
	return r
}

func (a *apache) list(ms int64) string {
	r := a.listed(ms, 0)
	return fmt.Sprintf("%d %d at %s", r.ErrorCode, r.Offset, recent(r.Timestamp))
}

func (a *apache) end() int64 { return a.listed(-1, 0).Offset }

func (a *apache) offsets() string {
	start := a.listed(-2, 0).Offset
	return fmt.Sprintf("start %d, stable %d, high watermark %d", start, max(a.listed(-1, 1).Offset, start), a.end())
}

func (a *apache) deleteBefore(offset int64) string {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 30000
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = offset
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic, topic.Partitions = a.topic, append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	r := ask[*kmsg.DeleteRecordsResponse](a, req).Topics[0].Partitions[0]
	if r.ErrorCode != 0 {
		return fmt.Sprint(r.ErrorCode)
	}
	return fmt.Sprintf("0 %d", r.LowWatermark)
}

func (a *apache) producers() string {
	req := kmsg.NewPtrDescribeProducersRequest()
	topic := kmsg.NewDescribeProducersRequestTopic()
	topic.Topic, topic.Partitions = a.topic, []int32{0}
	req.Topics = append(req.Topics, topic)
	r := ask[*kmsg.DescribeProducersResponse](a, req).Topics[0].Partitions[0]
	if r.ErrorCode != 0 {
		a.t.Fatalf("Kafka: describe producers: %v", wire.Code(r.ErrorCode))
	}
	var out []string
	for _, p := range r.ActiveProducers {
		out = append(out, producerText(p.ProducerID, p.ProducerEpoch, p.LastSequence, p.LastTimestamp, p.CurrentTxnStartOffset))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// configure waits until the change is in force: every one changes max.message.bytes too.
func (a *apache) configure(config map[string]string) {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, a.topic
	for k, v := range config {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = k, &v
		res.Configs = append(res.Configs, c)
	}
	req.Resources = append(req.Resources, res)
	r := ask[*kmsg.IncrementalAlterConfigsResponse](a, req)
	if r.Resources[0].ErrorCode != 0 {
		a.t.Fatalf("Kafka: configure %v: %v", config, wire.Code(r.Resources[0].ErrorCode))
	}
	want := wire.CorruptMessage
	if config["max.message.bytes"] == smallLimit {
		want = wire.MessageTooLarge
	}
	a.await("the config is in force", func() bool { return a.append(a.probe, "").ErrorCode == int16(want) })
}

func (a *apache) initProducer(txn string) (id int64, epoch int16) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &txn, 600_000
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys, find.CoordinatorType = []string{txn}, 1
	// It is this that makes the coordinators' topic.
	a.await("a coordinator for "+txn, func() bool { return ask[*kmsg.FindCoordinatorResponse](a, find).Coordinators[0].ErrorCode == 0 })
	a.await("a producer id for "+txn, func() bool {
		r := ask[*kmsg.InitProducerIDResponse](a, req)
		id, epoch = r.ProducerID, r.ProducerEpoch
		return r.ErrorCode == 0
	})
	return id, epoch
}

func (a *apache) addPartition(txn string, id int64, epoch int16) {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = txn, id, epoch
	topic := kmsg.NewAddPartitionsToTxnRequestTopic()
	topic.Topic, topic.Partitions = a.topic, []int32{0}
	req.Topics = append(req.Topics, topic)
	a.await("the partition is in the transaction", func() bool {
		return ask[*kmsg.AddPartitionsToTxnResponse](a, req).Topics[0].Partitions[0].ErrorCode == 0
	})
}

func (a *apache) endTxn(txn string, id int64, epoch int16, commit bool) bool {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = txn, id, epoch, commit
	a.await("the transaction ends", func() bool { return ask[*kmsg.EndTxnResponse](a, req).ErrorCode == 0 })
	return true
}

// markersFrom waits for a marker at the offset and returns all that are there.
func (a *apache) markersFrom(offset int64) (out []batch.Marker) {
	a.await("the marker is written", func() bool { return a.end() > offset })
	r := a.fetch(offset, false, 1<<20)
	for _, raw := range batch.Walk(r.RecordBatches) {
		m, err := batch.ParseMarker(raw)
		if err != nil {
			a.t.Fatalf("Kafka: behind a transaction: %v", err)
		}
		out = append(out, m)
	}
	return out
}

package kafka_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// fakeCluster is two brokers that share one log per partition and misbehave by the throw of a
// die: they refuse, forget to answer, answer wrongly after they have appended, and
// move leaders. Producer sequences are judged as a broker judges them.
type fakeCluster struct {
	t       testing.TB
	name    string
	id      [16]byte
	brokers [2]net.Listener
	spares  []net.Listener
	wg      sync.WaitGroup

	mu     sync.Mutex
	rng    *rand.Rand
	faults float64 // how likely one is, per answer
	conns  map[net.Conn]bool
	parts  []fakePartition
	closed bool
	// appended, if set before the first append, is called between an append and its answer.
	appended func()
	measured [2]int // DescribeLogDirs requests to each broker
	// produced, if set before the first append, says how a batch is answered: with None as it is, or cut, without an answer.
	produced func(raw []byte) (code wire.Code, cut bool)
	// also, if set before the first request, fills in the answers of what nothing else here knows.
	also   func(node int32, req kmsg.Request, resp kmsg.Response) bool
	others map[[16]byte]string // further topics, which are as this one and are only measured
}

type fakePartition struct {
	leader int32
	epoch  int32
	log    []fakeRecord
	raws   [][]byte
	next   map[int64]int32 // producer to next sequence
	bases  map[int64][]fakeBatch
	sealed bool
}

type fakeRecord struct {
	value string
	epoch int32
}

type fakeBatch struct {
	seq    int32
	offset int64
}

func newFake(t testing.TB, partitions int, seed uint64, faults float64) *fakeCluster {
	f := &fakeCluster{t: t, name: "fake", id: [16]byte{1, 2, 3}, rng: rand.New(rand.NewPCG(seed, 7)), faults: faults,
		conns: map[net.Conn]bool{}, parts: make([]fakePartition, partitions)}
	for i := range f.parts {
		f.parts[i] = fakePartition{leader: int32(i % 2), next: map[int64]int32{}, bases: map[int64][]fakeBatch{}}
	}
	for i := range f.brokers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f.brokers[i] = l
		f.wg.Go(func() { f.accept(int32(i), l) })
	}
	t.Cleanup(f.close)
	return f
}

func (f *fakeCluster) close() {
	f.mu.Lock()
	f.closed = true
	for c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	for _, l := range f.brokers {
		_ = l.Close()
	}
	for _, l := range f.spares {
		_ = l.Close()
	}
	f.wg.Wait()
}

func (f *fakeCluster) bootstrap() []string {
	return []string{f.brokers[0].Addr().String(), f.brokers[1].Addr().String()}
}

func (f *fakeCluster) accept(node int32, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns[c] = true
		closed := f.closed
		f.mu.Unlock()
		if closed {
			_ = c.Close()
		}
		f.wg.Go(func() {
			f.serve(node, c)
			_ = c.Close()
			f.mu.Lock()
			delete(f.conns, c)
			f.mu.Unlock()
		})
	}
}

func (f *fakeCluster) serve(node int32, c net.Conn) {
	frames := wire.NewFrameReader(c, 16<<20)
	for {
		frame, err := frames.Next()
		if err != nil {
			return
		}
		h, body, err := wire.ParseHeader(frame.B)
		if err != nil {
			f.t.Errorf("header: %v", err)
			return
		}
		var out []byte
		switch h.Key {
		case wire.ProduceKey:
			out = f.produce(node, h, body)
		case wire.FetchKey:
			out = f.fetch(node, h, body)
		default:
			out = f.control(node, h, body)
		}
		frame.Release()
		if out == nil { // the connection is cut without an answer
			return
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (f *fakeCluster) chance(p float64) bool { return f.rng.Float64() < p }

func (f *fakeCluster) produce(node int32, h wire.Header, body []byte) []byte {
	var req wire.ProduceRequest
	if err := req.Decode(h.Version, body); err != nil {
		f.t.Errorf("produce: %v", err)
		return nil
	}
	var resp wire.ProduceResponse
	resp.Answer(&req)
	f.mu.Lock()
	appended := f.appended
	f.mu.Unlock()
	if appended != nil {
		defer appended()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.chance(f.faults / 4) {
		return nil // lost before anything was done
	}
	seen := map[int32]bool{}
	for i := range req.Partitions {
		p := &req.Partitions[i]
		if topic := &req.Topics[p.Topic]; h.Version >= 13 && topic.ID != f.id || h.Version < 13 && string(topic.Name) != f.name || seen[p.Index] {
			f.t.Errorf("produce to another topic, or twice to partition %d", p.Index)
			return nil
		}
		seen[p.Index] = true
		if f.produced != nil {
			code, cut := f.produced(p.Records)
			if cut {
				return nil
			}
			if resp.Partitions[i].Code = code; code != wire.None {
				continue
			}
		}
		f.append(node, &f.parts[p.Index], p.Records, &resp.Partitions[i])
		if f.chance(f.faults / 4) {
			f.parts[p.Index].leader ^= 1
			f.parts[p.Index].epoch++
		}
	}
	if f.chance(f.faults / 4) {
		return nil // done, and never told
	}
	out, err := resp.AppendFrame(nil, h.Version, h.CorrelationID)
	if err != nil {
		f.t.Error(err)
	}
	return out
}

func (f *fakeCluster) append(node int32, p *fakePartition, raw []byte, r *wire.ProduceResult) {
	h, _, err := batch.Parse(raw)
	switch {
	case err != nil:
		r.Code = wire.CorruptMessage
		return
	case p.leader != node:
		r.Code = wire.NotLeaderOrFollower
		return
	case p.sealed:
		r.Code = wire.MessageTooLarge
		return
	case batch.Verify(raw) != nil:
		r.Code = wire.CorruptMessage
		return
	case f.chance(f.faults):
		r.Code = wire.NotEnoughReplicas
		return
	}
	if h.HasProducer() {
		for _, b := range p.bases[h.ProducerID] {
			if b.seq == h.BaseSequence {
				r.BaseOffset = b.offset
				return
			}
		}
		if h.BaseSequence != p.next[h.ProducerID] {
			r.Code = wire.OutOfOrderSequenceNumber
			if h.BaseSequence < p.next[h.ProducerID] {
				r.Code = wire.DuplicateSequenceNumber
			}
			return
		}
		p.next[h.ProducerID] = h.BaseSequence + h.NumRecords
	}
	r.BaseOffset = int64(len(p.log))
	if h.HasProducer() {
		last := append(p.bases[h.ProducerID], fakeBatch{h.BaseSequence, r.BaseOffset})
		p.bases[h.ProducerID] = last[max(0, len(last)-5):]
	}
	kept := bytes.Clone(raw)
	batch.SetBaseOffset(kept, r.BaseOffset)
	p.raws = append(p.raws, kept)
	for rec, err := range batch.Records(raw, 1<<20) {
		if err != nil {
			f.t.Error(err)
		}
		p.log = append(p.log, fakeRecord{string(rec.Value), p.epoch})
	}
	// Appended, and something else is said: the offset stays in the answer.
	if f.chance(f.faults) {
		r.Code = [...]wire.Code{wire.NotEnoughReplicasAfterAppend, wire.RequestTimedOut, wire.NotLeaderOrFollower}[f.rng.IntN(3)]
	}
}

func (f *fakeCluster) control(node int32, h wire.Header, body []byte) []byte {
	req := kmsg.RequestForKey(h.Key)
	req.SetVersion(h.Version)
	if err := req.ReadFrom(body); err != nil {
		f.t.Errorf("key %d: %v", h.Key, err)
		return nil
	}
	resp := req.ResponseKind()
	resp.SetVersion(h.Version)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch q := req.(type) {
	case *kmsg.ApiVersionsRequest:
		for key, most := range map[int16]int16{0: 13, 1: 17, 2: 8, 3: 13, 18: 3, 23: 4, 35: 4, 60: 1, 10: 4, 22: 4, 24: 3, 26: 3, 27: 1, 61: 0, 65: 0, 66: 1} {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = key, most
			resp.(*kmsg.ApiVersionsResponse).ApiKeys = append(resp.(*kmsg.ApiVersionsResponse).ApiKeys, k)
		}
	case *kmsg.DescribeClusterRequest:
		r := resp.(*kmsg.DescribeClusterResponse)
		r.ClusterID, r.ControllerID = "fake", 0
		for i, l := range f.brokers {
			b := kmsg.NewDescribeClusterResponseBroker()
			addr := l.Addr().(*net.TCPAddr)
			b.NodeID, b.Host, b.Port = int32(i), addr.IP.String(), int32(addr.Port)
			r.Brokers = append(r.Brokers, b)
		}
	case *kmsg.MetadataRequest:
		if len(q.Topics) == 1 && q.Topics[0].Topic != nil && f.also != nil && f.also(node, req, resp) {
			break
		}
		f.metadata(q, resp.(*kmsg.MetadataResponse))
	case *kmsg.DescribeLogDirsRequest:
		f.measured[node]++
		dir := kmsg.NewDescribeLogDirsResponseDir()
		for _, t := range q.Topics {
			rt := kmsg.NewDescribeLogDirsResponseDirTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
				rp.Partition, rp.Size = p, int64(100+p)
				rt.Partitions = append(rt.Partitions, rp)
			}
			dir.Topics = append(dir.Topics, rt)
		}
		resp.(*kmsg.DescribeLogDirsResponse).Dirs = append(resp.(*kmsg.DescribeLogDirsResponse).Dirs, dir)
	case *kmsg.OffsetForLeaderEpochRequest:
		p := &f.parts[q.Topics[0].Partitions[0].Partition]
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = q.Topics[0].Topic
		rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		asked := q.Topics[0].Partitions[0]
		rp.Partition = asked.Partition
		switch {
		case p.leader != node:
			rp.ErrorCode = int16(wire.NotLeaderOrFollower)
		case asked.CurrentLeaderEpoch < p.epoch:
			rp.ErrorCode = int16(wire.FencedLeaderEpoch)
		case asked.CurrentLeaderEpoch > p.epoch:
			rp.ErrorCode = int16(wire.UnknownLeaderEpoch)
		default:
			rp.LeaderEpoch, rp.EndOffset = asked.LeaderEpoch, int64(len(p.log))
			for i, r := range p.log {
				if r.epoch > asked.LeaderEpoch {
					rp.EndOffset = int64(i)
					break
				}
			}
		}
		rt.Partitions = append(rt.Partitions, rp)
		resp.(*kmsg.OffsetForLeaderEpochResponse).Topics = append(resp.(*kmsg.OffsetForLeaderEpochResponse).Topics, rt)
	default:
		if f.also == nil || !f.also(node, req, resp) {
			f.t.Errorf("nobody expected key %d", h.Key)
			return nil
		}
	}
	if f.chance(f.faults / 8) {
		return nil
	}
	return wire.AppendResponse(nil, h.CorrelationID, resp)
}

func (f *fakeCluster) metadata(q *kmsg.MetadataRequest, resp *kmsg.MetadataResponse) {
	for i, l := range f.brokers {
		b := kmsg.NewMetadataResponseBroker()
		addr := l.Addr().(*net.TCPAddr)
		b.NodeID, b.Host, b.Port = int32(i), addr.IP.String(), int32(addr.Port)
		resp.Brokers = append(resp.Brokers, b)
	}
	for _, t := range q.Topics {
		rt := kmsg.NewMetadataResponseTopic()
		rt.TopicID = t.TopicID
		name, known := f.others[t.TopicID]
		if t.TopicID == f.id {
			name, known = f.name, true
		}
		if !known {
			rt.ErrorCode = int16(wire.UnknownTopicID)
			resp.Topics = append(resp.Topics, rt)
			continue
		}
		rt.Topic = kmsg.StringPtr(name)
		for i, p := range f.parts {
			rp := kmsg.NewMetadataResponseTopicPartition()
			rp.Partition, rp.Leader, rp.LeaderEpoch = int32(i), p.leader, p.epoch
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

// values is what a partition's log holds.
func (f *fakeCluster) values(partition int) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]string, len(f.parts[partition].log))
	for i, r := range f.parts[partition].log {
		out[i] = r.value
	}
	return out
}

// fetch answers with the one batch that holds the offset.
func (f *fakeCluster) fetch(node int32, h wire.Header, body []byte) []byte {
	var req wire.FetchRequest
	if err := req.Decode(h.Version, body); err != nil {
		f.t.Errorf("fetch: %v", err)
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var resp wire.FetchResponse
	resp.AddTopic(nil, f.id)
	for _, q := range req.Partitions {
		p := &f.parts[q.Index]
		r := wire.NewFetchResult(q.Index, wire.None)
		switch {
		case p.leader != node:
			r.Code = wire.NotLeaderOrFollower
		case q.LeaderEpoch < p.epoch:
			r.Code = wire.FencedLeaderEpoch
		default:
			r.LogStart, r.HighWatermark, r.LastStable = 0, int64(len(p.log)), int64(len(p.log))
			for _, raw := range p.raws {
				if h, _, err := batch.Parse(raw); err == nil && h.NextOffset() > q.Offset {
					r.Records = raw
					break
				}
			}
		}
		resp.AddPartition(r)
	}
	var s wire.Scatter
	if err := resp.AppendFrame(&s, h.Version, h.CorrelationID); err != nil {
		f.t.Error(err)
	}
	return s.Bytes()
}

// TestFaults: whatever brokers answer or do not, an idempotent producer's appends land once each
// and in order, and an append without a producer is told the truth.
func TestFaults(t *testing.T) {
	const partitions, batches = 3, 400
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := newFake(t, partitions, seed, 0.02+0.02*float64(seed%3))
			s := openAt(t, f.bootstrap())
			var streams []*numbered
			for p := range partitions {
				l := s.Log(span.Topic{Name: f.name, ID: f.id}, int32(p))
				defer l.Release()
				// Two idempotent producers and one without share each partition.
				for n, id := range []int64{1 << 40, 1<<40 + 1, 0} {
					streams = append(streams, startNumbered(t, l, p, fmt.Sprintf("%c", 'a'+n), id, batches))
				}
			}
			for _, st := range streams {
				st.wg.Wait()
			}
			for p := range partitions {
				values := f.values(p)
				for _, st := range streams {
					if st.partition == p {
						st.check(values)
					}
				}
			}
			if st := s.Stats(); st.QueuedBatches != 0 || st.QueuedBytes != 0 || st.Truncations != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// spare makes addresses for move, before the store's goroutines are counted.
func (f *fakeCluster) spare(n int) {
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			f.t.Fatal(err)
		}
		f.spares = append(f.spares, l)
		f.wg.Go(func() { f.accept(int32(i%2), l) })
	}
}

// move gives a broker, each in its turn, another address; connections to the old one end.
func (f *fakeCluster) move(i int) {
	f.mu.Lock()
	old := f.brokers[i%2]
	f.brokers[i%2], f.spares = f.spares[0], f.spares[1:]
	for c := range f.conns {
		if c.LocalAddr().String() == old.Addr().String() {
			_ = c.Close()
		}
	}
	f.mu.Unlock()
	_ = old.Close()
}

// TestBrokerMoves: a broker comes back under another address, again and again. Appends follow it
// and nothing of the old connections stays behind.
func TestBrokerMoves(t *testing.T) {
	f := newFake(t, 2, 1, 0)
	f.spare(6)
	s := openAt(t, f.bootstrap())
	var streams []*numbered
	for p := range 2 {
		l := s.Log(span.Topic{Name: f.name, ID: f.id}, int32(p))
		defer l.Release()
		streams = append(streams, startNumbered(t, l, p, "a", 1<<40, math.MaxInt32))
	}
	for i := range 6 {
		// Of both partitions: whoever misses that one broker moved before the other
		// does knows no address any more.
		for _, st := range streams {
			from := st.answered()
			waitFor(t, "some appends", func() bool { return st.answered() > from+100 })
		}
		f.move(i)
	}
	for _, st := range streams {
		st.stop.Store(true)
		st.wg.Wait()
		st.check(f.values(st.partition))
	}
	// Two lanes and two control connections, and those by the bootstrap addresses.
	waitFor(t, "old connections to be gone", func() bool { return s.Stats().Connections <= 6 })
}

// TestReaderIsAheadOfTheAnswer: whoever reads may know of a batch before its own answer is
// here. That makes it no duplicate: who acknowledged it is counted by the answer.
func TestReaderIsAheadOfTheAnswer(t *testing.T) {
	f := newFake(t, 1, 1, 0)
	landed, told := make(chan struct{}), make(chan struct{})
	f.appended = func() { landed <- struct{}{}; <-told }
	s := openAt(t, f.bootstrap())
	l := s.Log(span.Topic{Name: f.name, ID: f.id}, 0)
	defer l.Release()
	done := make(chan *span.Append, 1)
	l.Append(&span.Append{Batch: producerBatch(t, 1<<40, 0, 0, 1, "v"), Deadline: time.Now().Add(patience), Done: func(a *span.Append) { done <- a }})
	<-landed
	r, err := l.Read(t.Context(), span.ReadRequest{MaxBytes: 1 << 20})
	if err != nil || r.HighWatermark != 1 {
		t.Errorf("read up to %d: %v", r.HighWatermark, err)
	}
	r.Release()
	close(told)
	if a := <-done; a.Err != nil || a.BaseOffset != 0 || a.Duplicate {
		t.Errorf("offset %d, duplicate %v, %v", a.BaseOffset, a.Duplicate, a.Err)
	}
}

// TestSealFindsARepeatedAppend: a retry of what has landed is under way when the seal takes
// hold. It is not to be sent elsewhere as if the cluster had refused it.
func TestSealFindsARepeatedAppend(t *testing.T) {
	f := newFake(t, 1, 1, 0)
	s := openAt(t, f.bootstrap())
	l := s.Log(span.Topic{Name: f.name, ID: f.id}, 0)
	defer l.Release()
	type number struct{ n int }
	done := make(chan *span.Append, 3)
	send := func(n int, seq int32, v string) {
		l.Append(&span.Append{Batch: producerBatch(t, 1<<40, 0, seq, 1, v), Deadline: time.Now().Add(patience), Tag: number{n},
			Done: func(a *span.Append) { done <- a }})
	}
	send(0, 0, "a")
	if a := <-done; a.Err != nil {
		t.Fatal(a.Err)
	}
	r, err := l.Read(t.Context(), span.ReadRequest{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	r.Release()
	f.mu.Lock()
	f.appended = func() { // the retry is answered, then the seal holds
		f.mu.Lock()
		f.parts[0].sealed = true
		f.mu.Unlock()
	}
	f.mu.Unlock()
	send(1, 0, "a")
	send(2, 1, "b")
	for range 2 {
		a := <-done
		switch n := a.Tag.(number).n; {
		case n == 1 && a.Err != nil && !errors.Is(a.Err, span.ErrUnknownOutcome):
			t.Errorf("the retry: %v", a.Err)
		case n == 2 && !errors.Is(a.Err, span.ErrSealed):
			t.Errorf("the append behind the seal: %v", a.Err)
		}
	}
}

// numbered appends a fixed number of one-record batches named by prefix and number.
type numbered struct {
	t         *testing.T
	partition int
	prefix    string
	id        int64
	wg        sync.WaitGroup
	stop      atomic.Bool // no further appends

	mu      sync.Mutex
	acked   map[int]int64
	dup     map[int]bool
	unknown map[int]bool
	failed  map[int]error
	last    int // the latest Done's number
}

func startNumbered(t *testing.T, l span.Log, partition int, prefix string, id int64, count int) *numbered {
	n := &numbered{t: t, partition: partition, prefix: prefix, id: id, acked: map[int]int64{}, dup: map[int]bool{},
		unknown: map[int]bool{}, failed: map[int]error{}, last: -1}
	n.wg.Go(func() {
		window := make(chan struct{}, 5)
		for i := range count {
			if n.stop.Load() {
				return
			}
			window <- struct{}{}
			raw := oneBatch(t, 1, fmt.Sprint(prefix, i))
			if id != 0 {
				raw = producerBatch(t, id, 0, int32(i), 1, fmt.Sprint(prefix, i))
			}
			n.wg.Add(1)
			once := false
			l.Append(&span.Append{Batch: raw, Deadline: time.Now().Add(patience), Done: func(a *span.Append) {
				n.mu.Lock()
				if once {
					t.Errorf("%s%d: Done was called twice", prefix, i)
				}
				once = true
				switch {
				case a.Err == nil && a.Duplicate && a.BaseOffset < 0:
					n.dup[i] = true
				case a.Err == nil:
					n.acked[i] = a.BaseOffset
				case errors.Is(a.Err, span.ErrUnknownOutcome):
					n.unknown[i] = true
				default:
					n.failed[i] = a.Err
				}
				n.mu.Unlock()
				<-window
				n.wg.Done()
			}})
		}
	})
	return n
}

func (n *numbered) answered() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.acked) + len(n.dup)
}

func (n *numbered) check(values []string) {
	n.t.Helper()
	at := map[int]int64{}
	prev := -1
	for o, v := range values {
		if v[:1] != n.prefix {
			continue
		}
		var i int
		if _, err := fmt.Sscan(v[1:], &i); err != nil {
			n.t.Fatal(err)
		}
		if first, ok := at[i]; ok {
			n.t.Errorf("partition %d: %s is at %d and %d", n.partition, v, first, o)
		}
		at[i] = int64(o)
		if i < prev {
			n.t.Errorf("partition %d: %s lies behind %s%d", n.partition, v, n.prefix, prev)
		}
		prev = i
	}
	for i, o := range n.acked {
		if got, ok := at[i]; !ok || got != o {
			n.t.Errorf("partition %d: %s%d was acknowledged at %d, is at %d (%v)", n.partition, n.prefix, i, o, got, ok)
		}
	}
	for i := range n.dup {
		if _, ok := at[i]; !ok {
			n.t.Errorf("partition %d: %s%d was called a duplicate and is not there", n.partition, n.prefix, i)
		}
	}
	for i, err := range n.failed {
		if o, ok := at[i]; ok {
			n.t.Errorf("partition %d: %s%d did not land (%v), yet is at %d", n.partition, n.prefix, i, err, o)
		}
	}
	if n.id != 0 && len(n.failed)+len(n.unknown) > 0 {
		n.t.Errorf("partition %d: idempotent appends failed %v or are unknown %v", n.partition, n.failed, n.unknown)
	}
}

package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
)

// stream appends numbered one-record batches of one producer, several at a time,
// until it is stopped, and keeps what became of each.
type stream struct {
	t      *testing.T
	l      span.Log
	id     int64 // producer id, 0: none
	window chan struct{}
	stop   atomic.Bool
	wg     sync.WaitGroup

	mu      sync.Mutex
	acked   map[int]int64 // number to offset
	unknown map[int]bool
	failed  map[int]error
	done    atomic.Int64
	last    atomic.Int64 // Unix ns of the last acknowledgement
}

func startStream(t *testing.T, l span.Log, id int64, window int, deadline time.Duration) *stream {
	s := &stream{t: t, l: l, id: id, window: make(chan struct{}, window), acked: map[int]int64{}, unknown: map[int]bool{}, failed: map[int]error{}}
	s.wg.Go(func() {
		for n := 0; !s.stop.Load(); n++ {
			s.window <- struct{}{}
			raw := oneBatch(t, 1, fmt.Sprint(n))
			if id != 0 {
				raw = producerBatch(t, id, 0, int32(n), 1, fmt.Sprint(n))
			}
			s.wg.Add(1)
			l.Append(&span.Append{Batch: raw, Deadline: time.Now().Add(deadline), Done: func(a *span.Append) {
				s.mu.Lock()
				switch {
				case a.Err == nil:
					s.acked[n] = a.BaseOffset
					s.last.Store(time.Now().UnixNano())
				case errors.Is(a.Err, span.ErrUnknownOutcome):
					s.unknown[n] = true
				default:
					s.failed[n] = a.Err
				}
				s.mu.Unlock()
				s.done.Add(1)
				<-s.window
				s.wg.Done()
			}})
		}
	})
	return s
}

// waitAcks waits for n more acknowledgements.
func (s *stream) waitAcks(n int) {
	s.t.Helper()
	s.mu.Lock()
	until := len(s.acked) + n
	s.mu.Unlock()
	waitFor(s.t, fmt.Sprintf("%d acknowledgements", n), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.acked) >= until
	})
}

// silent tells that the window is full and nothing was answered for a while.
func (s *stream) silent() bool {
	return len(s.window) == cap(s.window) && time.Since(time.Unix(0, s.last.Load())) > 100*time.Millisecond
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func (s *stream) finish() {
	s.stop.Store(true)
	s.wg.Wait()
}

// check compares the log with what was answered: everything acknowledged is at
// its offset, nothing twice (unless allowed), in order, and nothing that was said not to have landed.
func (s *stream) check() {
	s.t.Helper()
	values, offsets := readAll(s.t, s.l, 0)
	at := map[string]int64{}
	prev := -1
	for i, v := range values {
		if first, ok := at[v]; ok {
			s.t.Errorf("record %s is at %d and %d", v, first, offsets[i])
			continue
		}
		at[v] = offsets[i]
		var n int
		if _, err := fmt.Sscan(v, &n); err != nil {
			s.t.Fatal(err)
		}
		if n < prev {
			s.t.Errorf("record %d lies behind %d", n, prev)
		}
		prev = n
	}
	for n, o := range s.acked {
		if got, ok := at[fmt.Sprint(n)]; !ok || got != o {
			s.t.Errorf("record %d was acknowledged at %d, is at %d (%v)", n, o, got, ok)
		}
	}
	for n, err := range s.failed {
		if o, ok := at[fmt.Sprint(n)]; ok {
			s.t.Errorf("record %d did not land (%v), yet is at %d", n, err, o)
		}
	}
	s.t.Logf("%d in the log, %d acknowledged, %d unknown, %d failed", len(values), len(s.acked), len(s.unknown), len(s.failed))
}

// moveLeader makes another replica of the partition the leader and returns its id.
func moveLeader(t *testing.T, c *testkit.Cluster, topic string, partition int32) int32 {
	t.Helper()
	cl := c.Client(t)
	adm := kadm.NewClient(cl)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d, err := adm.ListTopics(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	p := d[topic].Partitions[partition]
	replicas := slices.Clone(p.Replicas)
	i := slices.Index(replicas, p.Leader)
	next := replicas[(i+1)%len(replicas)]
	order := append([]int32{next}, slices.DeleteFunc(replicas, func(r int32) bool { return r == next })...)
	var req kadm.AlterPartitionAssignmentsReq
	req.Assign(topic, partition, order)
	if _, err := adm.AlterPartitionAssignments(ctx, req); err != nil {
		t.Fatal(err)
	}
	set := kadm.TopicsSet{}
	set.Add(topic, partition)
	waitFor(t, "another leader", func() bool {
		if _, err := adm.ElectLeaders(ctx, kadm.ElectPreferredReplica, set); err != nil {
			return false
		}
		d, err := adm.ListTopics(ctx, topic)
		return err == nil && d[topic].Partitions[partition].Leader == next
	})
	return next
}

// TestLeaderMoves: while producers pipeline, the leader moves again and again.
func TestLeaderMoves(t *testing.T) {
	c := testkit.Shared(t, testkit.Nodes(3))
	s := open(t, c)
	topic := create(t, s, 2, nil)
	with, without := s.Log(topic, 0), s.Log(topic, 1)
	defer with.Release()
	defer without.Release()
	a := startStream(t, with, 1<<41, 20, patience)
	b := startStream(t, without, 0, 20, patience)
	for range 4 {
		for p, s := range []*stream{a, b} {
			s.waitAcks(50)
			moveLeader(t, c, topic.Name, int32(p))
		}
	}
	a.waitAcks(50)
	b.waitAcks(50)
	a.finish()
	b.finish()
	a.check()
	b.check()
	if len(a.failed)+len(a.unknown) > 0 {
		t.Errorf("idempotent appends failed: %v, unknown: %v", a.failed, a.unknown)
	}
	if len(b.failed) > 0 {
		// What a deposed leader had taken and not yet committed is unknown; the rest is sent again.
		t.Errorf("appends without a producer failed: %v", b.failed)
	}
	if s.Stats().Retries == 0 {
		t.Error("nothing was sent again: the test moved no leader under fire")
	}
}

// proxied starts a cluster of one node that is reached through a proxy.
func proxied(t *testing.T, opts ...testkit.Option) (*testkit.Cluster, *testkit.Proxy) {
	t.Helper()
	p := testkit.NewProxy(t, "127.0.0.1:1") // its target is known only once the cluster runs
	c := testkit.Kafka(t, append(opts, testkit.Advertise(1, p.Addr()))...)
	p.SetTarget(c.Node(1).Addr())
	return c, p
}

// TestConnectionCut: connections are cut and answers lost under way. With a producer id
// nothing is lost or repeated; without one, outcomes are unknown, and never repeated.
func TestConnectionCut(t *testing.T) {
	c, proxy := proxied(t)
	s := open(t, c, func(o *kafka.Options) { o.Bootstrap = []string{proxy.Addr()} })
	topic := create(t, s, 2, nil)
	with, without := s.Log(topic, 0), s.Log(topic, 1)
	defer with.Release()
	defer without.Release()
	a := startStream(t, with, 1<<41, 5, patience)
	b := startStream(t, without, 0, 5, patience)
	for i := range 5 {
		a.waitAcks(30)
		b.waitAcks(30)
		if i%2 == 0 {
			proxy.LoseResponses()
		} else {
			proxy.Reset()
		}
		if i%2 == 0 {
			waitFor(t, "all appends to be without an answer", func() bool { return a.silent() && b.silent() })
		}
		if err := proxy.Heal(); err != nil {
			t.Fatal(err)
		}
	}
	a.waitAcks(30)
	b.waitAcks(30)
	a.finish()
	b.finish()
	a.check()
	b.check()
	if len(a.failed)+len(a.unknown) > 0 {
		t.Errorf("idempotent appends failed: %v, unknown: %v", a.failed, a.unknown)
	}
	if len(b.failed) > 0 {
		t.Errorf("failed: %v", b.failed)
	}
}

// TestDeadline: a broker that is silent. What was sent has an unknown outcome, what was not is
// unavailable; both end in time.
func TestDeadline(t *testing.T) {
	c, proxy := proxied(t)
	s := open(t, c, func(o *kafka.Options) { o.Bootstrap = []string{proxy.Addr()}; o.Window = 1 })
	topic := create(t, s, 1, nil)
	l := s.Log(topic, 0)
	defer l.Release()
	if a := appendSync(t, l, oneBatch(t, 1, "before")); a.Err != nil {
		t.Fatal(a.Err)
	}
	proxy.Stall(testkit.Down)
	begin := time.Now()
	const limit = 4 * time.Second
	results := make(chan *span.Append, 3)
	for range 3 {
		l.Append(&span.Append{Batch: oneBatch(t, 1, "v"), Deadline: begin.Add(limit), Done: func(a *span.Append) { results <- a }})
	}
	unknown, away := 0, 0
	for range 3 {
		a := <-results
		switch {
		case errors.Is(a.Err, span.ErrUnknownOutcome):
			unknown++
		case errors.Is(a.Err, span.ErrUnavailable):
			away++
		default:
			t.Errorf("%v", a.Err)
		}
	}
	if took := time.Since(begin); unknown != 1 || away != 2 || took < limit {
		t.Errorf("%d unknown, %d unavailable after %v", unknown, away, took)
	}
	if _, err := s.Health(t.Context()); !errors.Is(err, span.ErrUnavailable) {
		t.Errorf("health of a silent cluster: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Seal(ctx, topic); !errors.Is(err, span.ErrUnavailable) {
		t.Errorf("seal of a silent cluster: %v", err)
	}
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	if a := appendSync(t, l, oneBatch(t, 1, "after")); a.Err != nil && !errors.Is(a.Err, span.ErrUnknownOutcome) {
		t.Fatal(a.Err)
	}
	if a := appendSync(t, l, oneBatch(t, 1, "after")); a.Err != nil {
		t.Fatal(a.Err)
	}
}

// TestHangingBroker: one of three brokers stops (SIGSTOP). Partitions that lie on others only
// do not notice; those of the victim that have replicas are served by another, and health tells
// two of three.
func TestHangingBroker(t *testing.T) {
	c := testkit.Kafka(t, testkit.Nodes(3))
	s := open(t, c)
	topic := create(t, s, 3, nil)
	adm := kadm.NewClient(c.Client(t))
	leaders := func(name string) (map[int32]int32, [16]byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		d, err := adm.ListTopics(ctx, name)
		if err != nil {
			return nil, [16]byte{}
		}
		m := map[int32]int32{}
		for _, p := range d[name].Partitions {
			m[p.Partition] = p.Leader
		}
		return m, d[name].ID
	}
	victim := int32(0)
	waitFor(t, "the leader", func() bool { m, _ := leaders(topic.Name); victim = m[0]; return victim > 0 })

	// One replica each, so that nobody waits for the victim as a follower.
	single := span.Topic{Name: topicName()}
	if _, err := adm.CreateTopic(t.Context(), 3, 1, nil, single.Name); err != nil {
		t.Fatal(err)
	}
	at := map[int32]int32{}
	waitFor(t, "the topic", func() bool {
		at, single.ID = leaders(single.Name)
		return len(at) == 3 && at[0] > 0 && at[1] > 0 && at[2] > 0
	})

	var lone, replicated []*stream
	for p := range int32(3) {
		if at[p] != victim {
			l := s.Log(single, p)
			defer l.Release()
			lone = append(lone, startStream(t, l, 1<<42+int64(p), 2, patience))
		}
		l := s.Log(topic, p)
		defer l.Release()
		replicated = append(replicated, startStream(t, l, 1<<41+int64(p), 2, patience))
	}
	for _, st := range append(slices.Clone(lone), replicated...) {
		st.waitAcks(20)
	}
	if err := c.Node(int(victim)).Pause(); err != nil {
		t.Fatal(err)
	}
	acked := func(st *stream) int {
		st.mu.Lock()
		defer st.mu.Unlock()
		return len(st.acked)
	}
	saw := false
	before := acked(replicated[0])
	var others []int
	for _, st := range lone {
		others = append(others, acked(st))
	}
	waitFor(t, "the victim's partition to be served by another", func() bool {
		h, err := s.Health(t.Context())
		saw = saw || err == nil && h.Brokers == 3 && h.Answering == 2 && h.Writable
		// Its answers of before may still be read.
		return acked(replicated[0]) > before+cap(replicated[0].window)
	})
	// Whoever waited for the victim would have stood still as long as its own partitions.
	for i, st := range lone {
		if n := acked(st) - others[i]; n < 20 {
			t.Errorf("partitions that lie elsewhere took %d appends meanwhile", n)
		}
	}
	waitFor(t, "health to tell two of three", func() bool {
		h, err := s.Health(t.Context())
		saw = saw || err == nil && h.Brokers == 3 && h.Answering == 2 && h.Writable
		return saw
	})
	if err := c.Node(int(victim)).Resume(); err != nil {
		t.Fatal(err)
	}
	for _, st := range append(lone, replicated...) {
		st.waitAcks(20)
		st.finish()
		st.check()
		if len(st.failed)+len(st.unknown) > 0 {
			t.Errorf("failed: %v, unknown: %v", st.failed, st.unknown)
		}
	}
}

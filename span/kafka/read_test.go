package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
)

// TestWaitingReads: many partitions wait at once over few connections; each is woken by its own
// records and by no others', newcomers too, and all of them in time.
func TestWaitingReads(t *testing.T) {
	c := testkit.Shared(t)
	s := open(t, c, func(o *kafka.Options) { o.FetchConns = 2 })
	const partitions = 40
	topic := create(t, s, partitions, nil)
	type woken struct {
		partition int
		values    int
		err       error
	}
	results := make(chan woken, partitions)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	logs := make([]span.Log, partitions)
	for p := range partitions {
		logs[p] = s.Log(topic, int32(p))
		defer logs[p].Release()
		wg.Go(func() {
			r, err := logs[p].Read(ctx, span.ReadRequest{MaxWait: 2 * patience})
			results <- woken{p, len(r.Batches), err}
			r.Release()
		})
	}
	waitFor(t, "all reads to wait", func() bool { return s.Stats().Reads == partitions })
	var worst time.Duration
	for p := range partitions - 5 {
		begin := time.Now()
		if a := appendSync(t, logs[p], oneBatch(t, 1, "v")); a.Err != nil {
			t.Fatal(a.Err)
		}
		got := <-results
		worst = max(worst, time.Since(begin))
		if got.partition != p || got.values == 0 || got.err != nil {
			t.Fatalf("partition %d has a record, woken is %+v", p, got)
		}
	}
	t.Logf("longest from append to waking: %v", worst)
	if n := s.Stats().Connections; n > 4+2+2*2 {
		t.Errorf("%d connections", n)
	}
	// A newcomer with something to read does not wait for those who have nothing.
	begin := time.Now()
	r, err := logs[0].Read(ctx, span.ReadRequest{MaxWait: 2 * patience})
	if err != nil || len(r.Batches) == 0 {
		t.Fatalf("%v", err)
	}
	r.Release()
	if took := time.Since(begin); took > patience {
		t.Errorf("a newcomer waited %v for what was there", took)
	}
	// Time limits hold in company.
	begin = time.Now()
	r, err = logs[0].Read(ctx, span.ReadRequest{Offset: 1, MaxWait: 300 * time.Millisecond})
	if took := time.Since(begin); err != nil || len(r.Batches) > 0 || took < 290*time.Millisecond || took > patience {
		t.Errorf("an empty wait of 300 ms took %v: %v", took, err)
	}
	r.Release()
	cancel()
	for range 5 {
		if got := <-results; !errors.Is(got.err, span.ErrUnavailable) && !errors.Is(got.err, context.Canceled) {
			t.Errorf("a cancelled read: %+v", got)
		}
	}
	wg.Wait()
	waitFor(t, "all buffers to be given back", func() bool { return s.Stats().ReadBytes == 0 })
}

// TestReadsShareFairly: more is asked for than one answer holds. Everybody gets something.
func TestReadsShareFairly(t *testing.T) {
	c := testkit.Shared(t)
	s := open(t, c, func(o *kafka.Options) { o.FetchConns = 1; o.ReadBytes = 32 << 20 })
	const partitions = 24
	topic := create(t, s, partitions, nil)
	value := strings.Repeat("x", 900_000)
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			l := s.Log(topic, int32(p))
			defer l.Release()
			for i := range 2 {
				if a := appendSync(t, l, oneBatch(t, 1, fmt.Sprint(p, " ", i, value))); a.Err != nil {
					t.Error(a.Err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, maxBytes := range []int{1, 1 << 20} {
		for p := range partitions {
			wg.Go(func() {
				l := s.Log(topic, int32(p))
				defer l.Release()
				for i := range 2 {
					r, err := l.Read(t.Context(), span.ReadRequest{Offset: int64(i), MaxBytes: maxBytes})
					if err != nil || len(r.Batches) < 900_000 || !strings.Contains(string(r.Batches[:120]), fmt.Sprint(p, " ", i, "x")) {
						t.Errorf("partition %d at %d: %d bytes, %v", p, i, len(r.Batches), err)
					}
					// The buffer is the reader's own until it gives it back.
					clear(r.Batches)
					r.Release()
				}
			})
		}
		wg.Wait()
	}
	st := s.Stats()
	t.Logf("%d fetches for %d reads", st.Fetches, 2*2*partitions)
	if st.ReadBytes != 0 {
		t.Errorf("%d bytes of buffers are out", st.ReadBytes)
	}
}

// TestTooFewReplicas: a partition whose replicas are too few goes on trying until its deadline,
// and holds up nobody who shared its connection.
func TestTooFewReplicas(t *testing.T) {
	c := testkit.Kafka(t, testkit.Nodes(3))
	s := open(t, c, func(o *kafka.Options) { o.ProduceConns = 1 })
	adm := kadm.NewClient(c.Client(t))
	two, one := "2", "1"
	create := func(replicas int16, inSync *string) (span.Topic, kadm.PartitionDetail) {
		topic := span.Topic{Name: topicName()}
		if _, err := adm.CreateTopic(t.Context(), 1, replicas, map[string]*string{"min.insync.replicas": inSync}, topic.Name); err != nil {
			t.Fatal(err)
		}
		var p kadm.PartitionDetail
		waitFor(t, "the topic", func() bool {
			d, err := adm.ListTopics(t.Context(), topic.Name)
			if err == nil {
				topic.ID, p = d[topic.Name].ID, d[topic.Name].Partitions[0]
			}
			return err == nil && p.Leader > 0 && len(p.ISR) == int(replicas)
		})
		return topic, p
	}
	pair, p := create(2, &two)
	var single span.Topic
	for { // until one lies on the pair's leader
		var q kadm.PartitionDetail
		if single, q = create(1, &one); q.Leader == p.Leader {
			break
		}
	}
	follower := p.Replicas[0]
	if follower == p.Leader {
		follower = p.Replicas[1]
	}
	lp, ls := s.Log(pair, 0), s.Log(single, 0)
	defer lp.Release()
	defer ls.Release()
	if a := appendSync(t, lp, oneBatch(t, 1, "before")); a.Err != nil {
		t.Fatal(a.Err)
	}
	if err := c.Node(int(follower)).Kill(); err != nil {
		t.Fatal(err)
	}
	// As the leader tells it, who refuses.
	leader := c.Client(t, kgo.SeedBrokers(c.Node(int(p.Leader)).Addr()))
	waitFor(t, "one replica in sync", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: &pair.Name})
		resp, err := leader.SeedBrokers()[0].Request(ctx, req)
		if err != nil {
			return false
		}
		topics := resp.(*kmsg.MetadataResponse).Topics
		return len(topics) == 1 && len(topics[0].Partitions) == 1 && len(topics[0].Partitions[0].ISR) == 1
	})
	// What the leader tells and what it goes by are two caches of its own: one that has not heard yet takes a batch
	// and lets everybody on the connection wait for the second replica.
	taken := int64(0)
	waitFor(t, "a refusal", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, 1000
		part := kmsg.NewProduceRequestTopicPartition()
		part.Records = oneBatch(t, 1, "probe")
		req.Topics = append(req.Topics, kmsg.ProduceRequestTopic{Topic: pair.Name, TopicID: pair.ID, Partitions: []kmsg.ProduceRequestTopicPartition{part}})
		resp, err := leader.SeedBrokers()[0].Request(ctx, req)
		if err != nil {
			taken++ // perhaps
			return false
		}
		err = kerr.ErrorForCode(resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
		if !errors.Is(err, kerr.NotEnoughReplicas) {
			t.Logf("a probe: %v", err)
			taken++
			return false
		}
		return true
	})
	done := make(chan *span.Append, 1)
	const limit = 5 * time.Second
	begin := time.Now()
	lp.Append(&span.Append{Batch: oneBatch(t, 1, "refused"), Deadline: begin.Add(limit), Done: func(a *span.Append) { done <- a }})
	n := 0
	for {
		if a := appendSync(t, ls, oneBatch(t, 1, "v")); a.Err != nil {
			t.Fatal(a.Err)
		}
		n++
		select {
		case a := <-done:
			if !errors.Is(a.Err, span.ErrUnavailable) || time.Since(begin) < limit-100*time.Millisecond {
				t.Errorf("too few replicas: %v after %v", a.Err, time.Since(begin))
			}
		default:
			continue
		}
		break
	}
	// One that waited for the other would be done with its first when that gives up.
	if n < 5 {
		t.Errorf("a healthy partition took %d appends meanwhile", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Node(int(follower)).Start(ctx); err != nil {
		t.Fatal(err)
	}
	if a := appendSync(t, lp, oneBatch(t, 1, "after")); a.Err != nil || a.BaseOffset < 1 || a.BaseOffset > 1+taken {
		t.Errorf("with both replicas: %+v", a)
	}
}

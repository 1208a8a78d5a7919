package kafka_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
)

// foreign hammers a topic through another client until it is refused by every
// partition, and reports what was accepted: the offset past the last accepted
// record of each partition, and how many came after a refusal.
type foreign struct {
	mu      sync.Mutex
	next    []int64
	refused []bool
	late    int
	caught  int       // appends that only the limits of timestamps refused
	first   time.Time // of the refusals
	other   error
	over    bool
	done    chan struct{} // closed when every partition has refused
}

func (f *foreign) run(t *testing.T, c *testkit.Cluster, topic string, partitions int, stop *atomic.Bool) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.RecordRetries(0), kgo.MaxProduceRequestsInflightPerBroker(1))
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			for !stop.Load() {
				r := &kgo.Record{Partition: int32(p), Value: []byte("foreign")}
				err := cl.ProduceSync(context.Background(), r).FirstErr()
				f.mu.Lock()
				switch {
				case err == nil:
					f.next[p] = max(f.next[p], r.Offset+1)
					if f.refused[p] {
						f.late++
					}
				case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.InvalidTimestamp):
					// The second is what an append meets that was past the first check
					// when the seal came into force.
					if errors.Is(err, kerr.InvalidTimestamp) {
						f.caught++
					}
					if f.first.IsZero() {
						f.first = time.Now()
					}
					f.refused[p] = true
				default:
					f.other = err
				}
				if !f.over && (f.other != nil || !slices.Contains(f.refused, false)) {
					f.over = true
					close(f.done)
				}
				f.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestSealUnderFire seals topics that two other clients and this store's own
// appends hammer. Nothing is accepted after the first refusal of a partition, and no
// accepted record lies at or past the end that Seal returned.
func TestSealUnderFire(t *testing.T) {
	for _, cluster := range []struct {
		name   string
		opts   []testkit.Option
		rounds int
	}{
		{"4.3 one node", nil, 10},
		{"3.9 one node", []testkit.Option{testkit.Version(testkit.Kafka39)}, 4},
		{"4.3 three nodes", []testkit.Option{testkit.Nodes(3)}, 6},
	} {
		t.Run(cluster.name, func(t *testing.T) {
			c := testkit.Shared(t, cluster.opts...)
			s := open(t, c)
			var pauses, totals []time.Duration
			caught := 0
			for range cluster.rounds {
				total, pause, n := sealOnce(t, c, s)
				caught += n
				totals, pauses = append(totals, total), append(pauses, pause)
			}
			slices.Sort(totals)
			slices.Sort(pauses)
			t.Logf("%d seals of 6 partitions, %d late appends caught: whole p50 %v max %v; from another client's first refusal to the ends p50 %v max %v",
				cluster.rounds, caught, totals[len(totals)/2], totals[len(totals)-1], pauses[len(pauses)/2], pauses[len(pauses)-1])
		})
	}
}

func sealOnce(t *testing.T, c *testkit.Cluster, s span.Store) (total, pause time.Duration, caught int) {
	const partitions = 6
	topic := create(t, s, partitions, nil)
	clients := []*foreign{
		{next: make([]int64, partitions), refused: make([]bool, partitions), done: make(chan struct{})},
		{next: make([]int64, partitions), refused: make([]bool, partitions), done: make(chan struct{})},
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, f := range clients {
		wg.Go(func() { f.run(t, c, topic.Name, partitions, &stop) })
	}
	type own struct {
		next atomic.Int64
		late atomic.Int64
		seal atomic.Bool
	}
	owns := make([]own, partitions)
	raw := oneBatch(t, 1, "own")
	for p := range partitions {
		l := s.Log(topic, int32(p))
		wg.Go(func() {
			defer l.Release()
			for !stop.Load() {
				a := appendSync(t, l, raw)
				switch {
				case a.Err == nil:
					owns[p].next.Store(a.BaseOffset + 1)
					if owns[p].seal.Load() {
						owns[p].late.Add(1)
					}
				case errors.Is(a.Err, span.ErrSealed):
					owns[p].seal.Store(true)
				default:
					t.Error(a.Err)
					return
				}
			}
		})
	}
	// All are at work once each partition has some.
	l := s.Log(topic, partitions-1)
	defer l.Release()
	for {
		o, err := l.Offsets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if o.HighWatermark >= 50 {
			break
		}
	}
	begin := time.Now()
	ends, err := s.Seal(t.Context(), topic)
	done := time.Now()
	if err != nil {
		stop.Store(true)
		wg.Wait()
		t.Fatal(err)
	}
	// Fire goes on until everybody was refused everywhere.
	for _, f := range clients {
		<-f.done
	}
	again, err := s.Seal(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	stop.Store(true)
	wg.Wait()
	if !reflect.DeepEqual(again, ends) {
		t.Errorf("ends moved from %+v to %+v", ends, again)
	}
	for _, f := range clients {
		if f.other != nil {
			t.Errorf("another client met %v", f.other)
		}
		caught += f.caught
		if f.late > 0 {
			t.Errorf("%d accepted after a refusal", f.late)
		}
		for p := range partitions {
			if f.next[p] > ends[p].End {
				t.Errorf("partition %d: another client's record at %d, sealed at %d", p, f.next[p]-1, ends[p].End)
			}
		}
		if pause == 0 || done.Sub(f.first) > pause {
			pause = done.Sub(f.first)
		}
	}
	for p := range owns {
		if owns[p].late.Load() > 0 || owns[p].next.Load() > ends[p].End {
			t.Errorf("partition %d: own record at %d, %d late, sealed at %d", p, owns[p].next.Load()-1, owns[p].late.Load(), ends[p].End)
		}
		lp := s.Log(topic, int32(p))
		o, err := lp.Offsets(t.Context())
		lp.Release()
		if err != nil || o.End != ends[p].End || o.HighWatermark != o.End {
			t.Errorf("partition %d: %+v %v, sealed at %d", p, o, err, ends[p].End)
		}
	}
	return done.Sub(begin), pause, caught
}

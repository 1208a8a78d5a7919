package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// reader is a consumer of a group that notes what it reads.
type reader struct {
	cl   *kgo.Client
	done chan struct{}

	mu   sync.Mutex
	read map[string]int
}

func (f *fleet) reader(group string, opts ...kgo.Opt) *reader {
	r := &reader{read: map[string]int{}, done: make(chan struct{})}
	r.cl = f.client(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.AutoCommitInterval(100 * time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, opts...)...)
	go func() {
		defer close(r.done)
		for {
			fetches := r.cl.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			r.mu.Lock()
			fetches.EachRecord(func(rec *kgo.Record) { r.read[string(rec.Value)]++ })
			r.mu.Unlock()
		}
	}()
	return r
}

// stop leaves the group.
func (r *reader) stop() {
	r.cl.Close()
	<-r.done
}

func (r *reader) has(value string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read[value] > 0
}

// write appends values to all partitions of a topic in turn.
func (f *fleet) write(cl *kgo.Client, topic string, from, to int) {
	f.tb.Helper()
	for i := from; i < to; i++ {
		if err := cl.ProduceSync(context.Background(), &kgo.Record{Topic: topic, Value: []byte(strconv.Itoa(i))}).FirstErr(); err != nil {
			f.tb.Fatal(err)
		}
	}
}

// A group of the consumer protocol over three gateways: members come and go, its topic
// grows, the gateway that coordinates it leaves; everything is read, and tools on any
// gateway are shown all groups.
func TestConsumerProtocolGroup(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(3), func(c *fleetConfig) { c.beat = 100 * time.Millisecond })
	f.awaitGroups()
	f.topic("next", 4)
	producer := f.client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	adm := kadm.NewClient(f.client())
	f.write(producer, "next", 0, 40)

	a := f.reader("next-group", kgo.ConsumeTopics("next"), kgo.ServerSideBalancer())
	t.Cleanup(a.stop)
	everything := func(n int, readers ...*reader) {
		t.Helper()
		eventually(t, func() error {
			for i := range n {
				if !slices.ContainsFunc(readers, func(r *reader) bool { return r.has(strconv.Itoa(i)) }) {
					return fmt.Errorf("%d is not read", i)
				}
			}
			return nil
		})
	}
	everything(40, a)
	describe := func(want func(g kadm.DescribedConsumerGroup) error) {
		t.Helper()
		eventually(t, func() error {
			all, err := adm.DescribeConsumerGroups(t.Context(), "next-group")
			if err = errors.Join(err, all["next-group"].Err); err != nil {
				return err
			}
			return want(all["next-group"])
		})
	}
	parts := func(n, partitions int) func(g kadm.DescribedConsumerGroup) error {
		return func(g kadm.DescribedConsumerGroup) error {
			total := 0
			for _, m := range g.Members {
				for _, ps := range m.Assignment {
					total += len(ps)
				}
			}
			if g.State != "Stable" || len(g.Members) != n || total != partitions {
				return fmt.Errorf("%+v", g)
			}
			return nil
		}
	}
	b := f.reader("next-group", kgo.ConsumeTopics("next"), kgo.ServerSideBalancer())
	describe(parts(2, 4))

	// Any broker is asked by tools for the groups that are its own.
	for i := range 20 {
		commit := kadm.Offsets{}
		commit.AddOffset("next", 0, int64(i), -1)
		if err := adm.CommitAllOffsets(t.Context(), fmt.Sprint("simple-", i), commit); err != nil {
			t.Fatal(err)
		}
	}
	listed, err := adm.ListGroups(t.Context())
	if err != nil || len(listed) != 21 {
		t.Fatalf("%d groups are listed: %v", len(listed), err)
	}
	owners := map[int32]bool{}
	for _, g := range listed {
		owners[g.Coordinator] = true
	}
	// What all groups have committed can be asked for at once, wherever they are.
	fetched := adm.FetchManyOffsets(t.Context(), listed.Groups()...)
	for i := range 20 {
		got := fetched[fmt.Sprint("simple-", i)]
		if o, ok := got.Fetched.Lookup("next", 0); got.Err != nil || !ok || o.At != int64(i) {
			t.Errorf("group simple-%d has committed %+v: %v", i, o, got.Err)
		}
	}
	if len(owners) < 2 {
		t.Errorf("all groups are at one of three gateways: %v", owners)
	}

	if _, err := adm.CreatePartitions(t.Context(), 2, "next"); err != nil {
		t.Fatal(err)
	}
	describe(parts(2, 6))
	f.write(producer, "next", 40, 80)
	everything(80, a, b)
	b.stop()
	describe(parts(1, 6))
	f.write(producer, "next", 80, 120)
	everything(120, a, b)
}

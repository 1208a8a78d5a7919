package gateway

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
)

// manyTopics puts topics of ten partitions into the catalog, without anything
// behind them: Metadata does not look there.
func (f *fleet) manyTopics(topics int) {
	f.tb.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	for range 32 {
		wg.Go(func() {
			for i := range next {
				chains := make([]catalog.Chain, 10)
				for p := range chains {
					chains[p] = catalog.Chain{NextSeq: 1, Spans: []catalog.Span{{End: catalog.Open, Epoch: 1, MaxTimestamp: -1, Opened: time.Now(),
						Copies: []catalog.Copy{{Cluster: "physical-a", Topic: fmt.Sprint("p", i), Partition: int32(p), Map: []catalog.Piece{{}}}}}}}
				}
				if _, err := f.cat.CreateTopic(context.Background(), catalog.Topic{Tenant: catalog.DefaultTenant, Name: fmt.Sprintf("topic-%05d", i)}, chains); err != nil {
					f.tb.Error(err)
				}
			}
		})
	}
	for i := range topics {
		next <- i
	}
	close(next)
	wg.Wait()
	if _, err := f.watcher.Refresh(context.Background()); err != nil {
		f.tb.Fatal(err)
	}
}

// BenchmarkMetadata is the answer to "all topics" of 10,000 topics of 10
// partitions: asked again and again, and after a topic has changed each time.
func BenchmarkMetadata(b *testing.B) {
	f := newFleet(b)
	f.manyTopics(10_000)
	r := f.raw()
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(12)
	ask := func(b *testing.B) []byte {
		r.send(req)
		out, err := r.frame()
		if err != nil {
			b.Fatal(err)
		}
		return out
	}
	b.Run("same", func(b *testing.B) {
		took := make([]time.Duration, 0, b.N)
		b.ReportAllocs()
		for b.Loop() {
			begun := time.Now()
			b.SetBytes(int64(len(ask(b))))
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	})
	b.Run("changed", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			b.StopTimer()
			f.topic(fmt.Sprintf("more-%d-%d", b.N, i), 1)
			i++
			b.StartTimer()
			ask(b)
		}
	})
}

// What is asked for again is not encoded again, whatever else happens in the
// catalog; a topic that comes shows.
func TestWholeMetadataIsShared(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.awaitGroups() // the coordinators' internal topic is a topic that comes, too
	f.topic("one", 1)
	g := f.gateways[0]
	r := f.raw()
	ask := func() int {
		req := kmsg.NewPtrMetadataRequest()
		return len(do[*kmsg.MetadataResponse](r, 12, req).Topics)
	}
	if n := ask(); n != 1 {
		t.Fatal(n)
	}
	first := g.view(g.listeners[0])
	ctx := context.Background()
	if err := f.cat.PutGroupConfig(ctx, catalog.GroupConfig{Tenant: catalog.DefaultTenant, Group: "g", Config: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.watcher.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if n := ask(); n != 1 {
		t.Fatal(n)
	}
	second := g.view(g.listeners[0])
	if first == second || first.whole != second.whole {
		t.Error("a change of a group's configs has cost the encoded answer")
	}
	f.topic("two", 1)
	if n := ask(); n != 2 {
		t.Error(n)
	}
}

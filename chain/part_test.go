package chain_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// What a cluster has aborted is appended as a client would send it, also where the cluster
// had stamped it: brokers refuse batches that say that a log has stamped them.
func TestPartOfTopicThatStampsRecordsIsAppendedAnew(t *testing.T) {
	for _, stamped := range []bool{false, true} {
		t.Run(fmt.Sprint(stamped), func(t *testing.T) {
			w := newWorld(t, "a")
			g := w.gateway()
			from, err := g.clients.Of("a").Create(w.ctx, span.Spec{Name: "torn", Partitions: 1})
			w.must(err)
			for i := range int32(3) {
				b, err := batch.NewBuilder().Producer(9, 4, i).Transactional().Add(batch.Record{Timestamp: 1, Value: fmt.Append(nil, "r", i)}).Build()
				w.must(err)
				if stamped {
					w.must(batch.SetMaxTimestampLogAppend(b, 77))
				}
				w.fleet.Cluster("a").AppendRaw("torn", 0, b)
			}
			end, err := batch.Marker{ProducerID: 9, ProducerEpoch: 5}.Build()
			w.must(err)
			w.fleet.Cluster("a").AppendRaw("torn", 0, end)
			if stamped {
				w.fleet.Cluster("a").SetLogAppendTime(88)
			}
			part, err := g.logs.FindPart(w.ctx, chain.PartCopy{Cluster: "a", Physical: from}, 9, 4)
			w.must(err)
			if part.Batches != 3 || part.Records != 3 || !part.Whole || !part.Ended || part.Committed {
				t.Fatalf("%+v", part)
			}
			next, err := g.logs.AppendPart(w.ctx, part, w.topic, 0, 1<<40, 0, 0, nil)
			w.must(err)
			if got := values(g.readAll(0)); next != 3 || !slices.Equal(got, []string{"r0", "r1", "r2"}) {
				t.Fatalf("%d %v", next, got)
			}
		})
	}
}

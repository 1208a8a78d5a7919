package main

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/clients"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/summary"
)

// TestClientFamiliesLiveThroughMoves: each family of clients, unmodified, produces and
// consumes in a group while its topic moves from a local cluster to a real Kafka and back.
func TestClientFamiliesLiveThroughMoves(t *testing.T) {
	east := testkit.Shared(t)
	// kafka-python may lose an assignment that comes within its first poll; Kafka's own
	// delay of 3 s hides that, and this is enough.
	up := startUp(t, "--set", "group.initial.rebalance.delay.ms=1000")
	up.addCluster("east", east)
	cl, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for i, family := range clients.Families() {
		t.Run(string(family), func(t *testing.T) {
			topic := "moved-" + string(family)
			moves := movesWanted(t, 4, 20)
			count := max(1500, int64(moves)*375) // at a rate that lasts longer than the moves
			up.must("topic", "create", topic, "--partitions", "4", "--cluster", "a")
			session := clients.Start(t, family, clients.Options{
				Bootstrap: up.ready.Kafka[0], Topic: topic, Partitions: 4, Producer: int32(i), Count: int(count), Rate: 500,
				Timeout: 8 * time.Minute,
			})
			eventually(t, patience, "the first records are there", func() bool {
				ends, err := adm.ListEndOffsets(t.Context(), topic)
				var n int64
				ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
				return err == nil && n > 20
			})
			for n := range moves {
				to := []string{"east", "a"}[n%2]
				op, err := up.move(t.Context(), to, topic)
				if err != nil || op.State != "done" {
					t.Fatalf("move %d to %s: %v: %s %s", n, to, err, op.State, op.Message)
				}
			}
			r, err := session.Wait()
			if err != nil {
				t.Fatalf("%v\n%s", err, &r)
			}
			if !r.OK() || !r.Complete() || r.Acknowledged != count || r.Found != count {
				t.Fatalf("\n%s", &r)
			}
			summary.Line(t, "client family %s: %d moves in %.1f s, %d records acknowledged, 0 lost, duplicated, reordered", family, moves, r.Seconds, r.Acknowledged)
		})
	}
}

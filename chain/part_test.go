package chain_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/chain/chaintest"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
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
			// The transaction before was committed with the next epoch, as with KIP-890.
			before, err := batch.Marker{ProducerID: 9, ProducerEpoch: 4, Commit: true}.Build()
			w.must(err)
			w.fleet.Cluster("a").AppendRaw("torn", 0, before)
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
			next, left, err := g.logs.AppendPart(w.ctx, part, w.topic, 0, 1<<40, 0, 0, nil)
			w.must(err)
			if got := values(g.readAll(0)); next != 3 || left.Records != 0 || !slices.Equal(got, []string{"r0", "r1", "r2"}) {
				t.Fatalf("%d %v", next, got)
			}
		})
	}
}

// The topic has been configured anew since the records were accepted: smaller batches, a key on each record.
// All records that it takes are appended, in their order, and those that it refuses one by one are counted.
func TestPartIsAppendedAnewInWhatIsAccepted(t *testing.T) {
	const most = 400
	for _, codec := range []batch.Codec{batch.None, batch.Gzip} {
		t.Run(codec.String(), func(t *testing.T) {
			w := newWorld(t, "a")
			g := w.gateway()
			from, err := g.clients.Of("a").Create(w.ctx, span.Spec{Name: "torn", Partitions: 1})
			w.must(err)
			first := int32(0)
			put := func(records ...batch.Record) {
				t.Helper()
				to := batch.NewBuilder().Producer(9, 4, first).Transactional().Codec(codec)
				for _, r := range records {
					r.Timestamp = 1
					to.Add(r)
				}
				b, err := to.Build()
				w.must(err)
				w.fleet.Cluster("a").AppendRaw("torn", 0, b)
				first += int32(len(records))
			}
			keyed := func(value string) batch.Record { return batch.Record{Key: []byte("k"), Value: []byte(value)} }
			// Nothing compresses random bytes to less than the limit.
			random := make([]byte, 2*most)
			_, _ = rand.NewChaCha8([32]byte{1}).Read(random) // never fails
			put(keyed("r0"), keyed("r1"))
			var want []string
			var many []batch.Record
			for i := range 100 {
				v := fmt.Sprintf("m%d-%x", i, random[i:i+4])
				many, want = append(many, keyed(v)), append(want, v)
			}
			put(many...)
			put(keyed("s0"), keyed(string(random)), keyed("s2"), batch.Record{Value: []byte("no key")}, keyed("s4"))
			put(keyed("t0"))
			want = append([]string{"r0", "r1"}, append(want, "s0", "s2", "s4", "t0")...)
			end, err := batch.Marker{ProducerID: 9, ProducerEpoch: 5}.Build()
			w.must(err)
			w.fleet.Cluster("a").AppendRaw("torn", 0, end)
			part, err := g.logs.FindPart(w.ctx, chain.PartCopy{Cluster: "a", Physical: from}, 9, 4)
			w.must(err)

			w.fleet.Cluster("a").SetRefuses(func(b []byte) wire.Code {
				for r, err := range batch.Records(b, 1<<20) {
					if err != nil || r.Key == nil {
						return wire.InvalidRecord
					}
				}
				if len(b) > most {
					return wire.MessageTooLarge
				}
				return wire.None
			})
			next, left, err := g.logs.AppendPart(w.ctx, part, w.topic, 0, 1<<40, 0, 0, nil)
			w.must(err)
			if got := values(g.readAll(0)); int(next) != len(want) || !slices.Equal(got, want) {
				t.Fatalf("%d %v, want %v", next, got, want)
			}
			if left.Records != 2 || left.Code != wire.InvalidRecord {
				t.Errorf("left out: %+v", left)
			}
		})
	}
}

// A transaction that waited for a move must not be let into the copy that was sealed, whose cluster would refuse its
// marker: whoever asks may not have heard yet that the chain goes on elsewhere.
func TestTransactionsComeToTheOpenCopyOnly(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	at := func() *chain.Enlist {
		c, _, err := g.view.Chain(w.topic, 0)
		w.must(err)
		s := chain.OpenSpan(c)
		return &chain.Enlist{Topic: w.topic, Physical: span.Topic{Name: s.Copies[0].Topic, ID: s.Copies[0].TopicID}}
	}
	before := at()
	if held, sealing := g.logs.HoldsNew(before); held || sealing {
		t.Errorf("held before: %v, %v", held, sealing)
	}
	w.move("b")
	w.must(g.view.Refresh(w.ctx, w.topic))
	if held, sealing := g.logs.HoldsNew(before); !held || !sealing {
		t.Errorf("the former copy: %v, %v", held, sealing)
	}
	if held, sealing := g.logs.HoldsNew(at()); held || sealing {
		t.Errorf("the open copy: %v, %v", held, sealing)
	}
}

// turning is a view whose extend ends, and whose chain goes on elsewhere, between two questions.
type turning struct {
	*chaintest.View
	turn atomic.Pointer[func()] // after the first question
}

func (v *turning) once() {
	if turn := v.turn.Swap(nil); turn != nil {
		(*turn)()
	}
}

func (v *turning) Chain(topic catalog.ID, partition int32) (*catalog.Chain, int64, error) {
	c, revision, err := v.View.Chain(topic, partition)
	v.once()
	return c, revision, err
}

func (v *turning) Extend(topic catalog.ID) *catalog.Extend {
	e := v.View.Extend(topic)
	v.once()
	return e
}

// A move is through between the two questions whether a topic is held: it is not taken for none.
func TestMoveThatEndsWhileItIsAskedFor(t *testing.T) {
	w := newWorld(t, "a", "b")
	view := &turning{View: w.fleet.Catalog.View()}
	// No partition is opened: nobody else asks.
	clients := w.fleet.Clients()
	defer clients.Close()
	logs := chain.NewLogs(chain.Options{Source: view, Stores: clients, Node: 1, Logger: slog.New(slog.DiscardHandler)})
	defer logs.Close()
	c, _, err := view.View.Chain(w.topic, 0)
	w.must(err)
	old := chain.OpenSpan(c).Copies[0]
	at := &chain.Enlist{Topic: w.topic, Physical: span.Topic{Name: old.Topic, ID: old.TopicID}}
	w.fleet.Catalog.SetExtend(w.topic, &catalog.Extend{Op: "move", Topic: catalog.TopicRef{ID: w.topic}, Step: catalog.StepSeal, Mode: catalog.ModeSeal})
	w.must(view.Refresh(w.ctx, w.topic))
	turn := func() {
		w.fleet.Catalog.SetExtend(w.topic, nil)
		w.move("b")
		w.must(view.Refresh(w.ctx, w.topic))
	}
	view.turn.Store(&turn)
	if held, sealing := logs.HoldsNew(at); !held || !sealing {
		t.Errorf("held %v, sealing %v", held, sealing)
	}
}

// tornPart is one batch of an aborted part, with a record for each timestamp.
func (w *world) tornPart(g *gateway, timestamps ...int64) chain.Part {
	from, err := g.clients.Of("a").Create(w.ctx, span.Spec{Name: "torn", Partitions: 1})
	w.must(err)
	to := batch.NewBuilder().Producer(9, 4, 0).Transactional()
	for i, ts := range timestamps {
		to.Add(batch.Record{Timestamp: ts, Value: fmt.Append(nil, "r", i)})
	}
	b, err := to.Build()
	w.must(err)
	w.fleet.Cluster("a").AppendRaw("torn", 0, b)
	end, err := batch.Marker{ProducerID: 9, ProducerEpoch: 5}.Build()
	w.must(err)
	w.fleet.Cluster("a").AppendRaw("torn", 0, end)
	part, err := g.logs.FindPart(w.ctx, chain.PartCopy{Cluster: "a", Physical: from}, 9, 4)
	w.must(err)
	return part
}

// A seal refuses as a limit does. What is refused once, or while an extend is under way, is not left out.
func TestRefusalOfASealLeavesNothingOut(t *testing.T) {
	for _, extending := range []bool{false, true} {
		for _, code := range []wire.Code{wire.MessageTooLarge, wire.InvalidTimestamp} {
			t.Run(fmt.Sprint(extending, code), func(t *testing.T) {
				w := newWorld(t, "a")
				g := w.gateway()
				part := w.tornPart(g, 1)
				if extending {
					w.fleet.Catalog.SetExtend(w.topic, &catalog.Extend{Op: "move", Topic: catalog.TopicRef{ID: w.topic}, Step: catalog.StepHold, Mode: catalog.ModeSeal})
				}
				first := make(chan struct{})
				var times atomic.Int32
				w.fleet.Cluster("a").SetRefuses(func([]byte) wire.Code {
					switch n := times.Add(1); {
					case n == 1:
						close(first)
						return code
					case extending:
						return code // until the extend is over
					}
					return wire.None
				})
				over := make(chan struct{})
				go func() {
					defer close(over)
					<-first
					if extending {
						w.fleet.Cluster("a").SetRefuses(nil)
						w.fleet.Catalog.SetExtend(w.topic, nil)
					}
				}()
				next, left, err := g.logs.AppendPart(w.ctx, part, w.topic, 0, 1<<40, 0, 0, nil)
				w.must(err)
				<-over
				if got := values(g.readAll(0)); next != 1 || left != (chain.LeftOut{}) || !slices.Equal(got, []string{"r0"}) {
					t.Errorf("%d %+v %v", next, left, got)
				}
			})
		}
	}
}

// A cluster was away for longer than a topic's timestamps may be old: its records are appended with new ones, and counted.
func TestPartThatIsTooOldIsStampedAnew(t *testing.T) {
	w := newWorld(t, "a")
	g := w.gateway()
	began := time.Now().UnixMilli()
	part := w.tornPart(g, 1000, 2000, 3000)
	w.fleet.Cluster("a").SetRefuses(func(b []byte) wire.Code {
		for r, err := range batch.Records(b, 1<<20) {
			switch {
			case err != nil || r.Timestamp < began:
				return wire.InvalidTimestamp
			case string(r.Value) == "r1":
				return wire.InvalidRecord // for another reason, too
			}
		}
		return wire.None
	})
	next, left, err := g.logs.AppendPart(w.ctx, part, w.topic, 0, 1<<40, 0, 0, nil)
	w.must(err)
	if got := values(g.readAll(0)); next != 2 || !slices.Equal(got, []string{"r0", "r2"}) {
		t.Errorf("%d %v", next, got)
	}
	if want := (chain.LeftOut{Records: 1, Code: wire.InvalidRecord, Stamped: 2}); left != want {
		t.Errorf("%+v, want %+v", left, want)
	}
}

package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func recordsKey(cluster string, producer int64, epoch int16) string {
	return fmt.Sprint(cluster, "/", producer, "/", epoch)
}

// put appends a record of an open transaction of a cluster.
func (c *killParticipants) put(cluster string, x span.Transaction, record string) error {
	return c.step(func() error {
		t, err := c.find(cluster, x)
		if err != nil {
			return err
		}
		if t.state != "open" {
			return ErrParticipantEnded
		}
		key := recordsKey(cluster, x.Producer, x.Epoch)
		c.held[key] = append(c.held[key], record)
		return nil
	})
}

func (c *killParticipants) Find(_ context.Context, at chain.PartCopy, x span.Transaction) (part chain.Part, err error) {
	err = c.step(func() error {
		key := recordsKey(at.Cluster, x.Producer, x.Epoch)
		n := len(c.held[key])
		part = chain.Part{Copy: at, Producer: x.Producer, Epoch: x.Epoch, Batches: n, Records: int64(n), Whole: true}
		part.Committed, part.Ended = c.ended[key], false
		if _, ok := c.ended[key]; ok {
			part.Ended = true
		}
		return nil
	})
	return part, err
}

func (c *killParticipants) Repeat(ctx context.Context, part chain.Part, topic catalog.ID, partition int32, producer int64, epoch int16,
	first int32, txn *chain.Transaction) (int32, chain.LeftOut, error) {
	var left chain.LeftOut
	next := first
	for i := range int32(part.Batches) {
		c.mu.Lock()
		record := c.held[recordsKey(part.Copy.Cluster, part.Producer, part.Epoch)][first+i]
		refused := c.refuse[part.Copy.Cluster] == record
		c.mu.Unlock()
		if refused {
			left.Add(chain.LeftOut{Records: 1, Code: wire.MessageTooLarge, Stamped: 1})
			continue
		}
		as, err := txn.Enlist(ctx, chain.Enlist{Topic: topic, Partition: partition, Producer: producer, Epoch: epoch, First: next,
			Cluster: part.Copy.Cluster, Physical: part.Copy.Physical, Index: part.Copy.Index, Foreign: true})
		if err != nil {
			return next, left, err
		}
		if err := c.put(part.Copy.Cluster, span.Transaction{ID: as.ID, Producer: as.Producer, Epoch: as.Epoch}, record); err != nil {
			return next, left, err
		}
		next++
	}
	return next, left, nil
}

// committed are the records of a cluster that a committed reader sees.
func (c *memClusters) committed(cluster string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for key, records := range c.held {
		if c.ended[key] && key[:len(cluster)+1] == cluster+"/" {
			all = append(all, records...)
		}
	}
	slices.Sort(all)
	return all
}

// Clusters abort their parts of a committed transaction, one of them the part that was
// appended anew as well. The gateway is killed at each of its operations in turn,
// before it and after it; whoever comes next ends what was begun, and all records are
// there once, or none.
func TestTornTransactionKilledAtEachStep(t *testing.T) {
	cases := 0
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			if !tornKilledAt(t, at, after) {
				break
			}
			cases++
		}
	}
	t.Logf("killed in %d ways", cases)
	if cases < 60 {
		t.Errorf("%d cases are fewer than there are operations", cases)
	}
}

func tornKilledAt(t *testing.T, at int, after bool) bool {
	t.Helper()
	f := newFleet(t, 1, Config{SnapshotBytes: 700})
	clusters := newClusters()
	clusters.tear["x"], clusters.tear["y"] = 1, 2
	k := &killer{at: at, after: after}
	g := f.joinTxn(1, clusters, k)
	eventually(t, "served or killed", func() bool { return f.ready(1) || k.killed() })
	told := runTxn(t, g, k, true)
	killed := k.killed()
	g.freeze()
	g.expire()

	next := f.joinTxn(2, clusters, nil)
	defer next.stop()
	eventually(t, "taken over", func() bool { return f.ready(2) })
	eventually(t, "the id is free", func() bool { return wire.Code(initTxn(next).ErrorCode) == wire.None })
	want := []string{"record 0", "record 1"}
	x, y := clusters.committed("x"), clusters.committed("y")
	if !slices.Equal(x, y) || len(x) > 0 && !slices.Equal(x, want) || told == wire.None && len(x) == 0 {
		t.Errorf("killed at %d (after: %v), the client was told %v: x holds %q, y holds %q", at, after, told, x, y)
	}
	clusters.mu.Lock()
	defer clusters.mu.Unlock()
	for key, x := range clusters.txns {
		if x.state == "open" {
			t.Errorf("killed at %d (after: %v): the transaction on %s is open", at, after, key)
		}
	}
	// Nothing is left of the redos.
	for _, s := range next.c.owned() {
		s.mu.Lock()
		for key := range s.m.txns {
			if key.tenant == catalog.SystemTenant {
				t.Errorf("killed at %d (after: %v): %s is left", at, after, key.group)
			}
		}
		s.mu.Unlock()
	}
	return killed
}

// What was mended is told to operators, with what was found and where.
func TestTornTransactionIsReported(t *testing.T) {
	f := newFleet(t, 1, Config{})
	clusters := newClusters()
	clusters.tear["y"] = 1
	g := f.joinTxn(1, clusters, nil)
	var reports []catalog.Torn
	g.c.report = func(_ context.Context, r catalog.Torn) error {
		reports = append(reports, r)
		return errors.New("the catalog is away") // which stops nothing
	}
	eventually(t, "served", func() bool { return f.ready(1) })
	if code := runTxn(t, g, &killer{}, true); code != wire.None {
		t.Fatal(code)
	}
	eventually(t, "the id is free", func() bool { return wire.Code(initTxn(g).ErrorCode) == wire.None })
	if len(reports) != 2 || reports[0].State != catalog.TornFound || reports[1].State != catalog.TornMended {
		t.Fatalf("%+v", reports)
	}
	r := reports[1]
	if r.Cluster != "y" || r.TransactionalID != "pay" || r.Tenant != "default" || r.Records != 2 || r.Missing || len(r.Ranges) != 1 || time.Since(r.Found) > time.Hour {
		t.Errorf("%+v", r)
	}
}

// A record is refused for good by its topic as it is configured by now: it is left out, the others are appended anew,
// and the id goes on. Whoever is killed meanwhile, the last report says what is left out.
func TestRefusedRecordIsLeftOut(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			if !refusedKilledAt(t, at, after) && at > 0 {
				break
			}
		}
	}
}

func refusedKilledAt(t *testing.T, at int, after bool) bool {
	t.Helper()
	f := newFleet(t, 1, Config{SnapshotBytes: 700})
	clusters := newClusters()
	clusters.tear["y"] = 1
	clusters.refuse["y"] = "record 1"
	var mu sync.Mutex
	var last catalog.Torn
	f.report = func(_ context.Context, r catalog.Torn) error {
		mu.Lock()
		defer mu.Unlock()
		last = r
		return nil
	}
	k := &killer{at: at, after: after}
	g := f.joinTxn(1, clusters, k)
	eventually(t, "served or killed", func() bool { return f.ready(1) || k.killed() })
	told := runTxn(t, g, k, true)
	killed := k.killed()
	g.freeze()
	g.expire()

	next := f.joinTxn(2, clusters, nil)
	defer next.stop()
	eventually(t, "taken over", func() bool { return f.ready(2) })
	eventually(t, "the id is free", func() bool { return wire.Code(initTxn(next).ErrorCode) == wire.None })
	x, y := clusters.committed("x"), clusters.committed("y")
	if len(x) == 0 && len(y) == 0 && told != wire.None {
		return killed // aborted
	}
	if !slices.Equal(x, []string{"record 0", "record 1"}) || !slices.Equal(y, []string{"record 0"}) {
		t.Errorf("killed at %d (after: %v), the client was told %v: x holds %q, y holds %q", at, after, told, x, y)
	}
	mu.Lock()
	defer mu.Unlock()
	if last.State != catalog.TornLost || last.Records != 2 || last.Refused != 1 || last.Stamped != 1 || wire.Code(last.RefusedCode) != wire.MessageTooLarge || last.Missing {
		t.Errorf("killed at %d (after: %v): reported %+v", at, after, last)
	}
	return killed
}

func sampleTransaction() *transaction {
	return &transaction{key: groupKey{"default", "pay"}, producer: catalog.ProducerIDBase, epoch: 3, lastEpoch: 2, before: noID, next: noID,
		timeout: 60_000, state: txnOngoing, started: 10, updated: 11, groups: map[string]bool{"readers": true},
		parts:        map[partKey]*txnPart{{idOf("topic"), 1}: {places: []place{{cluster: "east", topic: "physical", id: idOf("physical"), index: 1, foreign: true, base: 5, floor: 77}}}},
		participants: []participant{{cluster: "east", id: "__braid-f-1-2-3", term: 2, slot: 3, producer: 4, epoch: 5}}}
}

// What a redo left out is read as it was written, also by builds that stamped nothing anew.
func TestWhatARedoLeftOutIsRead(t *testing.T) {
	left := chain.LeftOut{Records: 3, Code: wire.MessageTooLarge, Stamped: 5}
	now := txnLeftOut{txnKey, left}.encode()
	for n, want := range map[int]chain.LeftOut{len(now): left, len(now) - 1: {Records: 3, Code: wire.MessageTooLarge}} {
		_, d, err := open(now[:n])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeTxnLeftOut(d); err != nil || got.left != want || got.key != txnKey {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// What earlier releases have written, without the floors of places, is read as well.
func TestTransactionsOfEarlierReleases(t *testing.T) {
	want := sampleTransaction()
	now := []byte(want.encode())
	// The floor is the last field of the only place: a varint of two bytes.
	floor := newEncoder(kindTxn, 2)
	floor.int(77)
	at := bytes.Index(now, floor.b[2:])
	old := slices.Delete(slices.Clone(now), at, at+len(floor.b)-2)
	old[1] = byte(kindTxnUnfloored)
	for _, c := range []struct {
		record []byte
		floor  int64
	}{{now, 77}, {old, 0}} {
		k, d, err := open(c.record)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeTxn(k, d)
		if err != nil {
			t.Fatal(err)
		}
		if p := got.parts[partKey{idOf("topic"), 1}].places[0]; p.floor != c.floor || p.base != 5 || p.index != 1 {
			t.Errorf("kind %d: %+v", k, p)
		}
		if got.participant("east") == nil || !got.groups["readers"] || got.producer != want.producer {
			t.Errorf("kind %d: %+v", k, got)
		}
	}
}

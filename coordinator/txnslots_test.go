package coordinator

import (
	"context"
	"math"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// gatedParticipants are clusters whose operations a test watches, and holds back by not returning.
type gatedParticipants struct {
	*killParticipants
	begin   func(cluster string) error
	add     func(cluster string)
	end     func(cluster string)
	written func(cluster string) error
}

func (c *gatedParticipants) Written(_ context.Context, cluster string, _ span.Transaction) error {
	if c.written == nil {
		return nil
	}
	return c.written(cluster)
}

func (c *gatedParticipants) Begin(ctx context.Context, cluster, id string) (int64, int16, error) {
	if c.begin != nil {
		if err := c.begin(cluster); err != nil {
			return noID, noEpoch, err
		}
	}
	return c.killParticipants.Begin(ctx, cluster, id)
}

func (c *gatedParticipants) Add(ctx context.Context, cluster string, x span.Transaction, topic string, partitions []int32, until time.Time) error {
	if c.add != nil {
		c.add(cluster)
	}
	return c.killParticipants.Add(ctx, cluster, x, topic, partitions, until)
}

func (c *gatedParticipants) End(ctx context.Context, cluster string, x span.Transaction, commit bool) (span.Transaction, error) {
	if c.end != nil {
		c.end(cluster)
	}
	return c.killParticipants.End(ctx, cluster, x, commit)
}

// gatedTxn is a transactional id on a gateway that reaches such clusters.
type gatedTxn struct {
	*memFleet
	g        *fleetMember
	clusters *gatedParticipants
	producer int64
	epoch    int16
}

func newGatedTxn(t *testing.T, clusters *gatedParticipants) *gatedTxn {
	f := &gatedTxn{memFleet: newFleet(t, 1, Config{}), clusters: clusters}
	clusters.killParticipants = &killParticipants{newClusters(), nil}
	f.participants = clusters
	f.g = f.join(1)
	t.Cleanup(f.g.stop)
	eventually(t, "served", func() bool { return f.ready(1) })
	id := initTxn(f.g)
	f.producer, f.epoch = id.ProducerID, id.ProducerEpoch
	return f
}

func (f *gatedTxn) enlist(ctx context.Context, cluster string, partition int32) wire.Code {
	_, code := f.g.c.EnlistLocal(ctx, &Enlist{Tenant: txnKey.tenant, ID: txnKey.group, Producer: f.producer, Epoch: f.epoch, Implicit: true,
		At: chain.Enlist{Topic: idOf(cluster), Partition: partition, Cluster: cluster, Physical: span.Topic{Name: cluster, ID: idOf(cluster)}, Index: partition, Foreign: true}})
	return code
}

func (f *gatedTxn) commit(ctx context.Context) (code wire.Code) {
	var producer int64
	var epoch int16
	producer, epoch, code = f.g.c.endTxn(ctx, &endRequest{key: txnKey, producer: f.producer, epoch: f.epoch, commit: true, bump: true, fresh: noID})
	if code == wire.None {
		f.producer, f.epoch = producer, epoch
	}
	return code
}

// onShard runs fn with the one shard's lock held.
func (f *gatedTxn) onShard(fn func(s *shard)) {
	f.g.c.mu.RLock()
	s := f.g.c.shards[0]
	f.g.c.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

// A slot that was used is made ready beside the client's requests: the next transaction begins without asking the cluster for it.
func TestSlotsAreMadeReadyForTheNextTransaction(t *testing.T) {
	var mu sync.Mutex
	var refuse error
	f := newGatedTxn(t, &gatedParticipants{begin: func(string) error {
		mu.Lock()
		defer mu.Unlock()
		return refuse
	}})
	ready := func() (n int) {
		f.onShard(func(s *shard) {
			if on := s.m.slots["x"]; on != nil {
				n = len(on.ready)
			}
		})
		return n
	}
	refused := func(err error) {
		mu.Lock()
		refuse = err
		mu.Unlock()
	}
	for _, cluster := range []error{nil, errFault} {
		refused(cluster)
		if code := f.enlist(t.Context(), "x", 0); code != wire.None {
			t.Fatal(code)
		}
		refused(nil)
		if code := f.commit(t.Context()); code != wire.None {
			t.Fatal(code)
		}
		eventually(t, "a slot is ready", func() bool { return ready() == 1 })
	}
	refused(errFault)
	// It could not be made ready: whoever takes it tries again.
	f.onShard(func(s *shard) { s.m.slots["x"].ready[0].at = 0 })
	if code := f.enlist(t.Context(), "x", 0); code != wire.CoordinatorNotAvailable {
		t.Errorf("with a slot that has been ready for too long: %v", code)
	}
	f.onShard(func(s *shard) {
		if on := s.m.slots["x"]; on.used != 0 || len(on.ready) != 0 {
			t.Errorf("%+v", on)
		}
	})
}

// What a client does in one transaction on two clusters goes on side by side: each waits for the other here.
func TestClustersOfOneTransactionDoNotWaitForEachOther(t *testing.T) {
	both := func() func(string) {
		var wg sync.WaitGroup
		wg.Add(2)
		return func(string) {
			wg.Done()
			wg.Wait()
		}
	}
	begin, add, end := both(), both(), both()
	look := add
	f := newGatedTxn(t, &gatedParticipants{
		begin: func(c string) error {
			if begin != nil {
				begin(c)
			}
			return nil
		},
		add: func(c string) { look(c) },
		end: func(c string) { end(c) },
	})
	var wg sync.WaitGroup
	for _, cluster := range []string{"x", "y"} {
		wg.Go(func() {
			if code := f.enlist(t.Context(), cluster, 0); code != wire.None {
				t.Error(code)
			}
		})
	}
	wg.Wait()
	begin, look = nil, both()
	f.g.forgetAnswers()
	if code := f.commit(t.Context()); code != wire.None {
		t.Error(code)
	}
}

// Partitions on one cluster are added side by side, in one transaction there.
func TestPartitionsOfOneTransactionAreAddedSideBySide(t *testing.T) {
	var begun sync.WaitGroup
	begun.Add(4)
	commits := false
	f := newGatedTxn(t, &gatedParticipants{add: func(string) {
		if !commits {
			begun.Done()
			begun.Wait()
		}
	}})
	var wg sync.WaitGroup
	for i := range int32(4) {
		wg.Go(func() {
			if code := f.enlist(t.Context(), "x", i); code != wire.None {
				t.Error(code)
			}
		})
	}
	wg.Wait()
	f.onShard(func(s *shard) {
		if x := s.m.txns[txnKey]; len(x.participants) != 1 || len(x.parts) != 4 {
			t.Errorf("%d participants, %d partitions", len(x.participants), len(x.parts))
		}
		if on := s.m.slots["x"]; on.used != 1 {
			t.Errorf("%d slots are in use", on.used)
		}
	})
	commits = true
	if code := f.commit(t.Context()); code != wire.None {
		t.Error(code)
	}
}

// A commit is answered when all parts are told, while the log does not have it yet that it is complete. What is
// decided next is carried out too.
func TestCommitIsAnsweredBeforeItIsCompleteInTheLog(t *testing.T) {
	var f *gatedTxn
	var log *memLog
	stuck := make(chan struct{})
	f = newGatedTxn(t, &gatedParticipants{end: func(string) {
		log.mu.Lock()
		defer log.mu.Unlock()
		log.gate = stuck
	}})
	log = f.logs[0]
	if code := f.enlist(t.Context(), "x", 0); code != wire.None {
		t.Fatal(code)
	}
	if code := f.commit(t.Context()); code != wire.None {
		t.Fatal(code)
	}
	f.g.c.settlers.mu.Lock()
	if n := len(f.g.c.settlers.busy); n != 0 {
		t.Errorf("%d transactions were being settled still", n)
	}
	f.g.c.settlers.mu.Unlock()
	log.mu.Lock()
	log.gate = nil
	log.mu.Unlock()
	close(stuck)
	f.clusters.end = nil
	for range 3 {
		if code := f.enlist(t.Context(), "x", 0); code != wire.None {
			t.Fatal(code)
		}
		if code := f.commit(t.Context()); code != wire.None {
			t.Fatal(code)
		}
	}
}

// The record that a transaction is complete goes with the next one's first, in one batch.
func TestCompletionWaitsForCompany(t *testing.T) {
	f := newGatedTxn(t, &gatedParticipants{})
	f.onShard(func(s *shard) { s.lingers = time.Hour })
	if code := f.enlist(t.Context(), "x", 0); code != wire.None {
		t.Fatal(code)
	}
	if code := f.commit(t.Context()); code != wire.None {
		t.Fatal(code)
	}
	queued := func() (n int) {
		f.onShard(func(s *shard) { n = len(s.queue) })
		return n
	}
	// Beside it may be that its markers are written, which the answer does not wait for.
	if n := queued(); n != 1 && n != 2 {
		t.Fatalf("%d records are queued, want the completion", n)
	}
	if code := f.enlist(t.Context(), "x", 0); code != wire.None {
		t.Fatal(code)
	}
	if n := queued(); n != 0 {
		t.Errorf("%d records are queued", n)
	}
	f.onShard(func(s *shard) {
		if s.durable != s.emitted {
			t.Errorf("%d of %d records are in the log", s.durable, s.emitted)
		}
	})
	// A question needs what was said before to be in the log.
	if code := f.commit(t.Context()); code != wire.None {
		t.Fatal(code)
	}
	if id := initTxn(f.g); id.ErrorCode != 0 {
		t.Error(wire.Code(id.ErrorCode))
	}
	if n := queued(); n != 0 {
		t.Errorf("%d records are queued", n)
	}
}

// A new incarnation that is told to wait for markers hears of those that came before it began to.
func TestMarkersThatComeBeforeTheWait(t *testing.T) {
	there := make(chan struct{})
	f := newGatedTxn(t, &gatedParticipants{written: func(string) error {
		<-there
		return nil
	}})
	if code := f.enlist(t.Context(), "x", 0); code != wire.None {
		t.Fatal(code)
	}
	if code := f.commit(t.Context()); code != wire.None {
		t.Fatal(code)
	}
	res, code := f.g.c.askInit(t.Context(), &initRequest{key: txnKey, timeout: 60_000, producer: noID, epoch: noEpoch, fresh: noID})
	if code != wire.None || !res.writing {
		t.Fatalf("%v, %+v", code, res)
	}
	close(there)
	eventually(t, "the markers are there", func() (written bool) {
		f.onShard(func(s *shard) { written = len(s.m.txns[txnKey].formers) == 0 })
		return written
	})
	select {
	case <-res.written:
	case <-time.After(patience):
		t.Error("nothing was heard of markers that came between the answer and the wait")
	}
}

// Whoever wants an id for itself waits for the parts whose turn it is, and lets no other begin but what those need.
func TestTurnsOfATransactionalID(t *testing.T) {
	var l txnLocks
	part := func(i int32) lockPart { return lockPart{partition: partKey{idOf("t"), i}} }
	first, code := l.takePart(t.Context(), txnKey, part(1), false)
	if code != wire.None {
		t.Fatal(code)
	}
	second, code := l.takePart(t.Context(), txnKey, part(2), false)
	if code != wire.None {
		t.Fatal(code)
	}
	whole := make(chan func(), 1)
	go func() {
		unlock, code := l.take(t.Context(), txnKey)
		if code != wire.None {
			t.Error(code)
		}
		whole <- unlock
	}()
	eventually(t, "it is wanted", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.held[txnKey].wanted == 1
	})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, code := l.takePart(over, txnKey, part(3), false); code != wire.ConcurrentTransactions {
		t.Errorf("a new part: %v", code)
	}
	more, code := l.takePart(t.Context(), txnKey, lockPart{cluster: "x"}, true)
	if code != wire.None {
		t.Errorf("what a part needs: %v", code)
	}
	for _, unlock := range []func(){second, more, first} {
		select {
		case <-whole:
			t.Fatal("the id was given away while parts had their turn")
		default:
		}
		unlock()
	}
	unlock := <-whole
	if _, code := l.takePart(over, txnKey, part(1), false); code != wire.ConcurrentTransactions {
		t.Errorf("a part while the id is held: %v", code)
	}
	unlock()
	if len(l.held) != 0 {
		t.Errorf("%d ids are kept", len(l.held))
	}
}

// A slot that its transaction does not get goes back to the pool also while the shard's log is behind, and nothing else is done then.
func TestSlotsComeBackWhileTheLogIsBehind(t *testing.T) {
	var f *gatedTxn
	var refuse error
	behind := func(by int) { f.onShard(func(s *shard) { s.bytes += by }) }
	f = newGatedTxn(t, &gatedParticipants{begin: func(string) error {
		behind(1 << 30)
		return refuse
	}})
	for i, tc := range []struct {
		cluster string
		refuse  error
		ready   int
	}{{"x", nil, 1}, {"y", errFault, 0}} {
		refuse = tc.refuse
		if code := f.enlist(t.Context(), tc.cluster, int32(i)); code != wire.CoordinatorNotAvailable {
			t.Errorf("begun while the log is behind: %v", code)
		}
		behind(-1 << 30)
		f.onShard(func(s *shard) {
			if on := s.m.slots[tc.cluster]; on.used != 0 || len(on.ready) != tc.ready || len(on.free) != 0 {
				t.Errorf("%s: %+v", tc.cluster, on)
			}
		})
	}
	// One is made ready behind a transaction that is over.
	number, term := int32(0), int64(0)
	f.onShard(func(s *shard) {
		number, term = s.number, s.m.term
		s.m.slots["z"] = &slots{next: 2, used: 2}
	})
	refuse = nil
	free := func(term int64, slot int32) {
		f.g.c.readySlot(t.Context(), number, &participant{cluster: "z", id: slotID("", number, term, slot), term: term, slot: slot}, span.Transaction{})
	}
	free(term, 0)
	refuse = errFault
	free(term, 1)
	free(term-1, 0)
	behind(-3 << 30)
	f.onShard(func(s *shard) {
		if on := s.m.slots["z"]; len(on.ready) != 1 || len(on.free) != 1 || on.free[0] != 1 || on.used != 0 {
			t.Errorf("made ready: %+v", on)
		}
	})
}

// A commit is answered while its cluster writes the markers, and the id goes on with another slot; but the next one is complete
// when they are written. The slot is used again then: where the cluster bumps epochs with the one that the commit gave it, and without a word to the cluster.
func TestSlotsWaitForTheirMarkers(t *testing.T) {
	for _, cluster := range []string{"x", "y"} {
		var begun, asked atomic.Int32
		write := make(chan struct{})
		f := newGatedTxn(t, &gatedParticipants{
			begin: func(string) error { begun.Add(1); return nil },
			written: func(string) error {
				if asked.Add(1) == 1 {
					return span.ErrTransactionPending
				}
				<-write
				return nil
			},
		})
		if code := f.enlist(t.Context(), cluster, 0); code != wire.None {
			t.Fatal(code)
		}
		if code := f.commit(t.Context()); code != wire.None {
			t.Fatal(code)
		}
		if code := f.enlist(t.Context(), cluster, 0); code != wire.None {
			t.Fatal(code)
		}
		state := func() (s txnState) {
			f.onShard(func(sh *shard) { s = sh.m.txns[txnKey].state })
			return s
		}
		answered := make(chan wire.Code, 1)
		go func() { answered <- f.commit(t.Context()) }()
		ended := func() (n int) {
			f.clusters.mu.Lock()
			defer f.clusters.mu.Unlock()
			for _, x := range f.clusters.txns {
				n += x.commits
			}
			return n
		}
		eventually(t, "the second one is decided", func() bool { return ended() == 2 })
		if n := begun.Load(); n != 2 {
			t.Errorf("%s: %d slots were begun while none was written", cluster, n)
		}
		f.onShard(func(s *shard) {
			if on := s.m.slots[cluster]; on.used != 2 || len(on.ready)+len(on.free) != 0 {
				t.Errorf("%s: %+v before the markers", cluster, on)
			}
		})
		if s := state(); s != txnPrepareCommit {
			t.Errorf("%s: the second one is %v while markers of the first are to come", cluster, s)
		}
		close(write)
		if code := <-answered; code != wire.None || state() != txnCompleteCommit {
			t.Fatal(code, state())
		}
		eventually(t, "both are ready", func() (ready bool) {
			f.onShard(func(s *shard) { ready = s.m.slots[cluster].used == 0 && len(s.m.slots[cluster].ready) == 2 })
			return ready
		})
		eventually(t, "nothing is left of them", func() (over bool) {
			f.onShard(func(s *shard) { over = len(s.m.txns[txnKey].formers) == 0 })
			return over
		})
		want := int32(4)
		if bumpsEpochs(cluster) {
			want = 2
		}
		if n := begun.Load(); n != want {
			t.Errorf("%s: begun %d times, want %d", cluster, n, want)
		}
		if code := f.enlist(t.Context(), cluster, 0); code != wire.None {
			t.Fatal(code)
		}
		if code := f.commit(t.Context()); code != wire.None {
			t.Fatal(code)
		}
		f.clusters.mu.Lock()
		for key, x := range f.clusters.txns {
			if x.aborts != 0 || x.commits < 1 {
				t.Errorf("%s: %+v", key, x)
			}
		}
		f.clusters.mu.Unlock()
	}
}

// What an id leaves to clusters is in its record, so that a snapshot and a new owner have it; and no more than its bound.
func TestFormersAreKeptInTheLog(t *testing.T) {
	m := newMachine(Config{}, newUUID, nil, quiet())
	m.watch = func(groupKey, *former, map[string]ending) {}
	tx := m.newTransaction(txnKey)
	for i := range int64(maxFormers + 2) {
		tx.state, tx.started, tx.producer = txnPrepareCommit, i+1, 9
		tx.participants = []participant{{cluster: "x", id: "there", term: 3, slot: int32(i), producer: 4, epoch: int16(i)}}
		tx.parts = map[partKey]*txnPart{
			{idOf("a"), 1}: {places: []place{{cluster: "x", topic: "pa", id: idOf("pa"), index: 1, foreign: true, base: 5, floor: 6}, {cluster: "local"}}},
			{idOf("b"), 1}: {places: []place{{cluster: "local"}}},
		}
		m.keepFormer(tx, nil)
		tx.empty()
		tx.formers[len(tx.formers)-1].late = true
	}
	if len(tx.formers) != maxFormers || tx.formers[0].started != 3 || tx.awaitsMarkers() {
		t.Fatalf("%d formers, the first of %d", len(tx.formers), tx.formers[0].started)
	}
	again := newMachine(Config{}, newUUID, nil, quiet())
	if _, err := again.apply(tx.encode()); err != nil {
		t.Fatal(err)
	}
	got := again.txns[txnKey]
	if !got.awaitsMarkers() || len(got.formers) != maxFormers {
		t.Fatalf("%+v", got)
	}
	for i, f := range got.formers {
		want := *tx.formers[i]
		want.late = false
		if !reflect.DeepEqual(*f, want) {
			t.Errorf("%+v, want %+v", *f, want)
		}
		if len(f.parts) != 1 || len(f.parts[partKey{idOf("a"), 1}].places) != 1 {
			t.Errorf("parts %+v", f.parts)
		}
	}
}

// A cluster that has just said that its part is open is not asked again before the commit.
func TestACommitAsksWhoHasNotJustAnswered(t *testing.T) {
	var adds atomic.Int32
	f := newGatedTxn(t, &gatedParticipants{add: func(string) { adds.Add(1) }})
	for _, asked := range []bool{false, true} {
		adds.Store(0)
		if code := f.enlist(t.Context(), "x", 0); code != wire.None {
			t.Fatal(code)
		}
		want := int32(1)
		if asked {
			f.g.forgetAnswers()
			want = 2
		} else {
			f.onShard(func(s *shard) { // as on a machine that is fast enough
				for k, as := range s.m.there {
					as.asked = math.MaxInt64
					s.m.there[k] = as
				}
			})
		}
		if code := f.commit(t.Context()); code != wire.None {
			t.Fatal(code)
		}
		if n := adds.Load(); n != want {
			t.Errorf("asked %d times, want %d", n, want)
		}
	}
}

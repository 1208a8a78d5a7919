package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// serving is the gateway that serves the group.
func (f *memFleet) serving(group string, all ...*fleetMember) *fleetMember {
	for _, g := range all {
		if node, ok := g.c.Owner("default", KeyGroup, group); ok && node == g.node {
			return g
		}
	}
	return nil
}

func TestShardsAreSharedOut(t *testing.T) {
	f := newFleet(t, 50, Config{})
	a := f.join(1)
	eventually(t, "one gateway has all", func() bool { return f.ready(1) })
	for i := range 100 {
		if code := commitOffset(a.c, fmt.Sprint("g", i), "topic", 0, int64(i)); code != wire.None {
			t.Fatal(code)
		}
	}
	b, c := f.join(2), f.join(3)
	eventually(t, "three share", func() bool { return f.ready(1, 2, 3) })
	counts := map[*fleetMember]int{}
	for i := range 100 {
		group := fmt.Sprint("g", i)
		g := f.serving(group, a, b, c)
		counts[g]++
		if o, code := fetchOffset(g.c, group, "topic", 0); code != wire.None || o != int64(i) {
			t.Errorf("%s at gateway %d: %d, %v", group, g.node, o, code)
		}
		for _, other := range []*fleetMember{a, b, c} {
			if other != g {
				if _, code := fetchOffset(other.c, group, "topic", 0); code != wire.NotCoordinator {
					t.Errorf("gateway %d answers for %s: %v", other.node, group, code)
				}
			}
		}
	}
	for g, n := range counts {
		if n < 10 {
			t.Errorf("gateway %d has %d of 100 groups", g.node, n)
		}
	}
	b.stop()
	eventually(t, "two share", func() bool { return f.ready(1, 3) })
	for i := range 100 {
		group := fmt.Sprint("g", i)
		if o, code := fetchOffset(f.serving(group, a, c).c, group, "topic", 0); code != wire.None || o != int64(i) {
			t.Errorf("%s: %d, %v", group, o, code)
		}
	}
}

// A gateway stops while appends are on their way; its shard is taken over; then
// what it had sent arrives. None of it may land behind the barrier, and nothing
// that was acknowledged by either may be lost (CORRECTNESS 17).
func TestFormerOwnersRecordsAreRefused(t *testing.T) {
	f := newFleet(t, 1, Config{})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	if code := commitOffset(a.c, "g", "topic", 0, 1); code != wire.None {
		t.Fatal(code)
	}
	log := f.logs[0]
	gate := make(chan struct{})
	log.mu.Lock()
	log.gate = gate
	log.mu.Unlock()
	late := make(chan wire.Code, 1)
	go func() { late <- commitOffset(a.c, "g", "topic", 0, 2) }()
	eventually(t, "the append is on its way", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.appends >= 3
	})
	a.freeze()
	log.mu.Lock()
	log.gate = nil
	log.mu.Unlock()
	a.expire()
	b := f.join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	if o, code := fetchOffset(b.c, "g", "topic", 0); code != wire.None || o != 1 {
		t.Fatal(o, code)
	}
	if code := commitOffset(b.c, "g", "topic", 0, 3); code != wire.None {
		t.Fatal(code)
	}
	if _, code := fetchOffset(a.c, "g", "topic", 0); code != wire.NotCoordinator {
		t.Errorf("the former owner answers: %v", code)
	}
	close(gate)
	if code := <-late; code != wire.NotCoordinator {
		t.Errorf("the late commit: %v", code)
	}
	b.stop()
	c := f.join(3)
	eventually(t, "taken over again", func() bool { return f.ready(3) })
	if o, code := fetchOffset(c.c, "g", "topic", 0); code != wire.None || o != 3 {
		t.Errorf("offset %d, %v", o, code)
	}
}

// The log loses answers and refuses batches; commits are acknowledged once and
// none is lost.
func TestLogFaults(t *testing.T) {
	f := newFleet(t, 2, Config{})
	for _, l := range f.logs {
		l.fault = func(n int) fault { return fault(n % 3) }
	}
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				if code := commitOffset(a.c, fmt.Sprint("g", w), "topic", int32(i%8), int64(i)); code != wire.None {
					t.Error(code)
				}
			}
		})
	}
	wg.Wait()
	a.stop()
	b := f.join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	for w := range 8 {
		for p := range int32(8) {
			want := int64(p + 8)
			if p < 4 {
				want = int64(p + 16)
			}
			if o, code := fetchOffset(b.c, fmt.Sprint("g", w), "topic", p); code != wire.None || o != want {
				t.Errorf("g%d-%d: %d, %v", w, p, o, code)
			}
		}
	}
}

// A gateway that lost its lease and got a new one must not answer for what it had
// under the old one, even if it has not heard yet that it is gone.
func TestNewLeaseDoesNotReviveShards(t *testing.T) {
	f := newFleet(t, 1, Config{})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	if code := commitOffset(a.c, "g", "topic", 0, 1); code != wire.None {
		t.Fatal(code)
	}
	a.lease.Lock()
	a.id++
	a.lease.Unlock()
	if _, code := fetchOffset(a.c, "g", "topic", 0); code != wire.NotCoordinator {
		t.Errorf("answered under another lease: %v", code)
	}
	a.freeze()
	a.expire()
	a.renew()
	eventually(t, "served again", func() bool { return f.ready(1) })
	if o, code := fetchOffset(a.c, "g", "topic", 0); code != wire.None || o != 1 {
		t.Error(o, code)
	}
}

// The cluster of the log is lost and the chain goes on elsewhere, with a hole: the
// owner writes what it knows again.
func TestStateOutlivesAHoleInTheLog(t *testing.T) {
	f := newFleet(t, 1, Config{})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	for i := range int64(20) {
		if code := commitOffset(a.c, fmt.Sprint("g", i), "topic", 0, i); code != wire.None {
			t.Fatal(code)
		}
	}
	log := f.logs[0]
	log.lose()
	if code := commitOffset(a.c, "g0", "topic", 1, 7); code != wire.None {
		t.Fatal(code)
	}
	eventually(t, "the log begins behind the hole", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.start >= 1<<32
	})
	a.freeze()
	a.expire()
	b := f.join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	for i := range int64(20) {
		if o, code := fetchOffset(b.c, fmt.Sprint("g", i), "topic", 0); code != wire.None || o != i {
			t.Errorf("g%d: %d, %v", i, o, code)
		}
	}
	if o, code := fetchOffset(b.c, "g0", "topic", 1); code != wire.None || o != 7 {
		t.Error(o, code)
	}
}

// A log that takes nothing for long: who waits is told to try again, and what was
// sent lands once in the end.
func TestSlowLogIsNotWaitedForForEver(t *testing.T) {
	f := newFleet(t, 1, Config{CommitTimeout: 200 * time.Millisecond})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	log := f.logs[0]
	gate := make(chan struct{})
	log.mu.Lock()
	log.gate = gate
	log.mu.Unlock()
	if code := commitOffset(a.c, "g", "topic", 0, 5); code != wire.CoordinatorNotAvailable {
		t.Errorf("%v", code)
	}
	// The log does not matter to heartbeats.
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group = "g"
	if code := wire.Code(a.c.Heartbeat(context.Background(), caller, beat).ErrorCode); code != wire.UnknownMemberID {
		t.Error(code)
	}
	log.mu.Lock()
	log.gate = nil
	log.mu.Unlock()
	close(gate)
	var o int64
	var code wire.Code
	eventually(t, "the offset can be asked for again", func() bool {
		o, code = fetchOffset(a.c, "g", "topic", 0)
		return code != wire.CoordinatorNotAvailable // the log may be slow again
	})
	if code != wire.None || o != 5 {
		t.Error(o, code)
	}
}

func TestCleanStopWritesWhatIsQueued(t *testing.T) {
	f := newFleet(t, 1, Config{})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	gate := make(chan struct{})
	f.logs[0].mu.Lock()
	f.logs[0].gate = gate
	f.logs[0].mu.Unlock()
	codes := make(chan wire.Code, 20)
	for i := range 20 {
		go func() { codes <- commitOffset(a.c, fmt.Sprint("g", i), "topic", 0, int64(i)) }()
	}
	var s *shard
	for _, s = range a.c.owned() {
	}
	eventually(t, "all are queued", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.emitted == 20
	})
	stopped := make(chan struct{})
	go func() { a.stop(); close(stopped) }()
	eventually(t, "nothing is taken any more", func() bool {
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group = "g"
		return wire.Code(a.c.Heartbeat(context.Background(), caller, beat).ErrorCode) == wire.NotCoordinator
	})
	close(gate)
	<-stopped
	for range 20 {
		if code := <-codes; code != wire.None {
			t.Error(code)
		}
	}
	b := f.join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	for i := range 20 {
		if o, _ := fetchOffset(b.c, fmt.Sprint("g", i), "topic", 0); o != int64(i) {
			t.Errorf("g%d: %d", i, o)
		}
	}
}

func TestSnapshotsBoundTheLog(t *testing.T) {
	f := newFleet(t, 1, Config{SnapshotBytes: 8 << 10})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	for i := range 3000 {
		if code := commitOffset(a.c, fmt.Sprint("g", i%50), "topic", int32(i%8), int64(i)); code != wire.None {
			t.Fatal(code)
		}
	}
	log := f.logs[0]
	eventually(t, "the log is trimmed", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.trims > 3
	})
	if n := log.size(); n > 200<<10 {
		t.Errorf("the log holds %d bytes", n)
	}
	a.stop()
	b := f.join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	for i := 2800; i < 3000; i++ {
		// Each (group, partition) of these was committed last here.
		if o, code := fetchOffset(b.c, fmt.Sprint("g", i%50), "topic", int32(i%8)); code != wire.None || o != int64(i) {
			t.Fatalf("g%d-%d: %d, %v", i%50, i%8, o, code)
		}
	}
}

// Terms outgrow an epoch: the next id begins, and owners with the old one are
// refused all the same.
func TestTermsBeyondAnEpoch(t *testing.T) {
	f := newFleet(t, 1, Config{})
	f.terms[0] = epochsPerID - 2
	var last *fleetMember
	for i := range 4 {
		g := f.join(int32(i + 1))
		if last != nil {
			last.freeze()
			last.expire()
		}
		eventually(t, "taken over", func() bool { return f.ready(g.node) })
		if code := commitOffset(g.c, "g", "topic", 0, int64(i)); code != wire.None {
			t.Fatal(code)
		}
		if last != nil {
			// What the former owner would still send.
			s := newShard(last.c, 0)
			s.id, s.epoch = producer(0, f.terms[0]-1)
			b, err := s.batch([]record{groupGone{groupKey{"default", "g"}}.encode()}, s.id, s.epoch, 2)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.logs[0].append(b, 0); !errors.Is(err, ErrFenced) {
				t.Errorf("term %d: record of the former owner: %v", f.terms[0], err)
			}
		}
		last = g
	}
	if o, code := fetchOffset(last.c, "g", "topic", 0); code != wire.None || o != 3 {
		t.Error(o, code)
	}
}

func TestProducerOfATerm(t *testing.T) {
	seen := map[int64]bool{}
	for number := range int32(50) {
		for _, term := range []int64{1, 32_766, 32_767, 32_768, 2 * 32_767, 1_000_000} {
			id, epoch := producer(number, term)
			if id < catalog.ProducerIDBase || epoch < 0 || epoch == math.MaxInt16 {
				t.Errorf("%d, %d: %d, %d", number, term, id, epoch)
			}
			if key := id<<15 + int64(epoch); seen[key] {
				t.Errorf("%d, %d: used twice", number, term)
			} else {
				seen[key] = true
			}
		}
	}
}

func TestRendezvousMovesOnlyItsShare(t *testing.T) {
	before, after := []int32{1, 2, 3, 4}, []int32{1, 2, 3, 4, 5}
	moved := 0
	for n := range int32(1000) {
		a, b := preferred(n, before), preferred(n, after)
		if a != b {
			moved++
			if b != 5 {
				t.Errorf("shard %d moved from %d to %d", n, a, b)
			}
		}
	}
	if moved < 120 || moved > 280 {
		t.Errorf("%d of 1000 moved, a fifth is fair", moved)
	}
	if preferred(1, nil) != -1 {
		t.Error("an owner without gateways")
	}
}

// Commits of many groups while gateways come, stop and freeze: what was
// acknowledged last is what the last owner knows.
func TestTakeOversUnderLoad(t *testing.T) {
	f := newFleet(t, 8, Config{SnapshotBytes: 16 << 10})
	var mu sync.Mutex
	members := map[int32]*fleetMember{}
	add := func(node int32) {
		g := f.join(node)
		mu.Lock()
		members[node] = g
		mu.Unlock()
	}
	at := func(group string) *fleetMember {
		mu.Lock()
		defer mu.Unlock()
		for _, g := range members {
			if node, ok := g.c.Owner("default", KeyGroup, group); ok {
				return members[node]
			}
		}
		return nil
	}
	add(1)
	add(2)
	stop := make(chan struct{})
	var acknowledged atomic.Int64
	last := make([]int64, 16)
	var wg sync.WaitGroup
	for w := range last {
		wg.Go(func() {
			group := fmt.Sprint("g", w)
			for next := int64(1); ; {
				select {
				case <-stop:
					return
				default:
				}
				g := at(group)
				if g == nil {
					continue
				}
				switch code := commitOffset(g.c, group, "topic", 0, next); code {
				case wire.None:
					last[w] = next
					next++
					acknowledged.Add(1)
				case wire.NotCoordinator, wire.CoordinatorLoadInProgress, wire.CoordinatorNotAvailable:
					// Its outcome is not known: the same again, as a client would.
				default:
					t.Errorf("commit: %v", code)
				}
			}
		})
	}
	for round := range int32(6) {
		before := acknowledged.Load()
		eventually(t, "commits go on", func() bool { return acknowledged.Load() > before+200 })
		add(round + 3)
		mu.Lock()
		old := members[round+1]
		mu.Unlock()
		if round%2 == 0 {
			old.stop()
		} else {
			old.freeze()
			old.expire()
		}
		mu.Lock()
		delete(members, round+1)
		mu.Unlock()
	}
	close(stop)
	wg.Wait()
	eventually(t, "settled", func() bool { return f.ready(7, 8) })
	for w, want := range last {
		group := fmt.Sprint("g", w)
		if o, code := fetchOffset(at(group).c, group, "topic", 0); code != wire.None || o != want && o != want+1 {
			t.Errorf("%s: %d, %v; acknowledged %d", group, o, code, want)
		}
	}
	t.Logf("%d commits", acknowledged.Load())
}

package gateway

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// gated is a cluster that can be made to hang: its appends and reads wait until
// it goes on. It can be away, too: then it refuses appends.
type gated struct {
	span.Store
	mu   sync.Mutex
	hung chan struct{} // closed when it goes on; nil while it does
	logs map[string]*gatedLog
	away bool
}

func (s *gated) Name() string { return "physical-b" }

func (s *gated) hang() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung = make(chan struct{})
}

func (s *gated) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hung != nil {
		close(s.hung)
		s.hung = nil
	}
}

func (s *gated) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *gated) isAway() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

func (s *gated) gate() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hung
}

func (s *gated) Log(t span.Topic, partition int32) span.Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := fmt.Sprintf("%s/%d", t.Name, partition)
	l := s.logs[key]
	if l == nil {
		l = &gatedLog{Log: s.Store.Log(t, partition), s: s}
		s.logs[key] = l
	}
	return l
}

type gatedLog struct {
	span.Log
	s *gated
	// queue keeps the order of appends that wait.
	mu    sync.Mutex
	queue []*span.Append
}

func (l *gatedLog) Append(a *span.Append) {
	if l.s.isAway() {
		a.Err = span.ErrUnavailable
		go a.Done(a)
		return
	}
	gate := l.s.gate()
	l.mu.Lock()
	defer l.mu.Unlock()
	if gate == nil && len(l.queue) == 0 {
		l.Log.Append(a)
		return
	}
	l.queue = append(l.queue, a)
	if len(l.queue) > 1 || gate == nil {
		return
	}
	go func() {
		<-gate
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, a := range l.queue {
			l.Log.Append(a)
		}
		l.queue = nil
	}()
}

func (l *gatedLog) Read(ctx context.Context, r span.ReadRequest) (span.ReadResult, error) {
	if gate := l.s.gate(); gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return span.ReadResult{}, ctx.Err()
		}
	}
	return l.Log.Read(ctx, r)
}

func (l *gatedLog) Release() {} // the underlying handle lives as long as the fleet

// newGatedFleet has topic "good" on one cluster and "bad" on one that may hang.
func newGatedFleet(t *testing.T, opts ...fleetOption) (*fleet, *gated) {
	f := newFleet(t, opts...)
	g := &gated{Store: f.store, logs: map[string]*gatedLog{}}
	f.other = g
	t.Cleanup(g.goOn)
	f.topic("good", 2)
	f.admin.onOther = true
	f.topic("bad", 2)
	f.admin.onOther = false
	return f, g
}

func fetchBoth(good, bad int64) *kmsg.FetchRequest {
	req := fetchRequest("good", [16]byte{}, map[int32]int64{0: good})
	req.Topics = append(req.Topics, fetchRequest("bad", [16]byte{}, map[int32]int64{0: bad}).Topics...)
	req.MaxWaitMillis = 300
	return req
}

func valuesByTopic(t *testing.T, resp *kmsg.FetchResponse) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, topic := range resp.Topics {
		for _, p := range topic.Partitions {
			if p.ErrorCode != 0 {
				t.Fatalf("%s: %d", topic.Topic, p.ErrorCode)
			}
			for range recordsOf(p.RecordBatches) {
				n[topic.Topic]++
			}
		}
	}
	return n
}

// A cluster that hangs keeps no other partition of the same Fetch waiting.
func TestHangingClusterHurtsOnlyItsOwnReads(t *testing.T) {
	t.Parallel()
	f, g := newGatedFleet(t, gateways(2))
	writer, r := f.rawTo(0), f.rawTo(1) // two gateways, so that the reader's tail cache is cold
	put(writer, "bad", 0, "b")
	g.hang()
	first := true
	for i := range int64(10) {
		put(writer, "good", 0, "g")
		req := fetchBoth(i, 0)
		if !first {
			req.MaxWaitMillis = int32(2 * patience / time.Millisecond) // longer than the connection waits
		}
		n := valuesByTopic(t, do[*kmsg.FetchResponse](r, 11, req))
		if n["good"] != 1 || n["bad"] != 0 {
			t.Fatalf("fetch %d: %v", i, n)
		}
		first = false // it waits for what it began to read, the others know better
	}
	g.goOn()
	eventually(t, func() error {
		if n := valuesByTopic(t, do[*kmsg.FetchResponse](r, 11, fetchBoth(10, 0))); n["bad"] != 1 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
}

// Appends behind one that waits are done; only the answers keep their order.
func TestHangingClusterHurtsOnlyItsOwnAppends(t *testing.T) {
	t.Parallel()
	f, g := newGatedFleet(t)
	r, reader := f.raw(), f.raw()
	g.hang()
	slow := produceRequest("bad", [16]byte{}, -1, map[int32][]byte{0: records(t, nil, "slow")})
	quick := produceRequest("good", [16]byte{}, -1, map[int32][]byte{0: records(t, nil, "quick")})
	slow.SetVersion(9)
	quick.SetVersion(9)
	one, two := r.send(slow), r.send(quick)
	eventually(t, func() error {
		if n := valuesByTopic(t, do[*kmsg.FetchResponse](reader, 11, fetchRequest("good", [16]byte{}, map[int32]int64{0: 0}))); n["good"] != 1 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	// Other connections are not concerned.
	put(f.raw(), "good", 1, "x")
	g.goOn()
	for _, c := range []struct {
		req  *kmsg.ProduceRequest
		corr int32
	}{{slow, one}, {quick, two}} {
		if p := r.receive(c.req, c.corr).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
			t.Errorf("%d", p.ErrorCode)
		}
	}
}

// A cluster that is away is refused to those who want answers, in one request with what lies
// elsewhere too; those who want none keep their connection, and what they send elsewhere arrives.
func TestAwayClusterHurtsOnlyItsOwnAppends(t *testing.T) {
	t.Parallel()
	f, g := newGatedFleet(t)
	r := f.raw()
	g.setAway(true)
	for range 5 {
		both := produceRequest("bad", [16]byte{}, -1, map[int32][]byte{0: records(t, nil, "v")})
		both.Topics = append(both.Topics, produceRequest("good", [16]byte{}, -1, map[int32][]byte{0: records(t, nil, "v")}).Topics...)
		for _, topic := range do[*kmsg.ProduceResponse](r, 9, both).Topics {
			want := map[string]wire.Code{"bad": wire.NotLeaderOrFollower}[topic.Topic]
			if code := wire.Code(topic.Partitions[0].ErrorCode); code != want {
				t.Errorf("topic %s: %v, want %v", topic.Topic, code, want)
			}
		}
		for _, topic := range []string{"bad", "good"} {
			silent := produceRequest(topic, [16]byte{}, 0, map[int32][]byte{0: records(t, nil, "v")})
			silent.SetVersion(9)
			r.send(silent)
		}
	}
	fetch := fetchRequest("good", [16]byte{}, map[int32]int64{0: 0})
	if n := valuesByTopic(t, do[*kmsg.FetchResponse](r, 11, fetch)); n["good"] != 10 {
		t.Errorf("%d records arrived where the cluster is well, want 10", n["good"])
	}
	g.setAway(false)
	put(r, "bad", 0, "v")
}

// Draining waits for appends under way, and their answers go out.
func TestDrainWaitsForAppends(t *testing.T) {
	t.Parallel()
	f, g := newGatedFleet(t)
	r := f.raw()
	g.hang()
	req := produceRequest("bad", [16]byte{}, -1, map[int32][]byte{0: records(t, nil, "slow")})
	req.SetVersion(9)
	corr := r.send(req)
	eventually(t, func() error {
		if f.gateways[0].budget.used.Load() == 0 {
			return fmt.Errorf("the append is not under way")
		}
		return nil
	})
	drained := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		drained <- f.gateways[0].Drain(ctx)
	}()
	<-f.gateways[0].drained
	select {
	case err := <-drained:
		t.Fatalf("drained with an append under way: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	g.goOn()
	if p := r.receive(req, corr).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Errorf("%d", p.ErrorCode)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	r.closed()
}

// A member that waits for its group is sent away when the gateway drains.
func TestDrainEndsJoins(t *testing.T) {
	t.Parallel()
	f := newFleet(t, func(c *fleetConfig) { c.rebalance = time.Minute })
	f.awaitGroups()
	r := f.raw()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = "wait", 300_000, 300_000, "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte{1}
	req.Protocols = append(req.Protocols, p)
	id := do[*kmsg.JoinGroupResponse](r, 5, req).MemberID
	req.MemberID = id
	corr := r.send(req)
	groups := f.raw()
	eventually(t, func() error {
		describe := kmsg.NewPtrDescribeGroupsRequest()
		describe.Groups = []string{"wait"}
		if g := do[*kmsg.DescribeGroupsResponse](groups, 5, describe).Groups[0]; g.State != "PreparingRebalance" {
			return fmt.Errorf("state %s", g.State)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.gateways[0].Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if got := r.receive(req, corr).(*kmsg.JoinGroupResponse); got.ErrorCode != 16 {
		t.Errorf("%+v", got)
	}
}

package coordinator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// memClusters are partitions that take markers, and clusters that run their own
// transactions as Apache Kafka does. They outlive gateways.
type memClusters struct {
	mu    sync.Mutex
	marks map[string][]batch.Marker // by partition
	txns  map[string]*memTxn        // by cluster and transactional id
	next  int64
	tear  map[string]int      // by cluster: how many commits find their part aborted
	held  map[string][]string // by cluster, producer and epoch: records that were appended
	ended map[string]bool     // whether those were committed

	refuse map[string]string // by cluster: a record that it does not take anew
}

type memTxn struct {
	producer int64
	epoch    int16
	state    string // "", open, commit, abort
	commits  int
	aborts   int
	parts    map[string]bool
	before   int16 // epoch that the last commit bumped, -1: none was
}

func newClusters() *memClusters {
	return &memClusters{marks: map[string][]batch.Marker{}, txns: map[string]*memTxn{}, tear: map[string]int{}, held: map[string][]string{}, ended: map[string]bool{},
		refuse: map[string]string{}}
}

// killParticipants are the clusters as one gateway reaches them.
type killParticipants struct {
	*memClusters
	k *killer
}

func (c *killParticipants) step(fn func() error) error {
	var err error
	if !c.k.step(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		err = fn()
	}) {
		return errFault
	}
	return err
}

func (c *killParticipants) Begin(_ context.Context, cluster, id string) (producer int64, epoch int16, err error) {
	err = c.step(func() error {
		t := c.txns[cluster+"/"+id]
		if t == nil {
			t = &memTxn{producer: c.next, epoch: -1, before: -1, parts: map[string]bool{}} // the first one of a cluster is 0
			c.next++
			c.txns[cluster+"/"+id] = t
		}
		if t.state == "open" {
			t.aborts++
			c.ended[recordsKey(cluster, t.producer, t.epoch)] = false
		}
		t.state, t.parts, t.before = "", map[string]bool{}, -1
		t.epoch++
		producer, epoch = t.producer, t.epoch
		return nil
	})
	return producer, epoch, err
}

func (c *killParticipants) find(cluster string, x span.Transaction) (*memTxn, error) {
	t := c.txns[cluster+"/"+x.ID]
	if t == nil || t.producer != x.Producer || t.epoch != x.Epoch {
		return nil, ErrParticipantEnded
	}
	return t, nil
}

func (c *killParticipants) Add(_ context.Context, cluster string, x span.Transaction, topic string, partitions []int32, _ time.Time) error {
	return c.step(func() error {
		t, err := c.find(cluster, x)
		if err != nil {
			return err
		}
		if t.before >= 0 {
			t.before, t.parts = -1, map[string]bool{}
		}
		t.state = "open"
		t.parts[fmt.Sprint(topic, partitions)] = true
		return nil
	})
}

func (c *killParticipants) Open(_ context.Context, cluster string, x span.Transaction) error {
	return c.step(func() error {
		t, err := c.find(cluster, x)
		if err == nil && t.state != "" && t.state != "open" && t.before < 0 {
			err = ErrParticipantEnded
		}
		return err
	})
}

// bumpsEpochs tells whether a cluster bumps the epoch with each commit, as with KIP-890.
func bumpsEpochs(cluster string) bool { return cluster == "x" }

func (c *killParticipants) Written(context.Context, string, span.Transaction) error {
	return c.step(func() error { return nil })
}

func (c *killParticipants) End(_ context.Context, cluster string, x span.Transaction, commit bool) (next span.Transaction, err error) {
	err = c.step(func() error {
		if t := c.txns[cluster+"/"+x.ID]; t != nil && t.producer == x.Producer && t.before == x.Epoch {
			// It was committed.
			if !commit {
				return ErrParticipantEnded
			}
			next = span.Transaction{ID: x.ID, Producer: t.producer, Epoch: t.epoch}
			return nil
		}
		t, err := c.find(cluster, x)
		if err != nil {
			return err
		}
		to := "abort"
		if commit {
			to = "commit"
		}
		switch t.state {
		case "", to:
			return nil
		case "open":
			if commit && c.tear[cluster] > 0 {
				// Its timeout has passed.
				c.tear[cluster]--
				t.state = "abort"
				t.aborts++
				c.ended[recordsKey(cluster, t.producer, t.epoch)] = false
				return ErrParticipantEnded
			}
			t.state = to
			c.ended[recordsKey(cluster, t.producer, t.epoch)] = commit
			if commit {
				t.commits++
			} else {
				t.aborts++
			}
			if commit && bumpsEpochs(cluster) {
				t.before = t.epoch
				t.epoch++
				next = span.Transaction{ID: x.ID, Producer: t.producer, Epoch: t.epoch}
			}
			return nil
		}
		return ErrParticipantEnded
	})
	return next, err
}

// forgetAnswers has the clusters asked again before a commit, as if they had said long ago that their parts are open.
func (g *fleetMember) forgetAnswers() {
	for _, s := range g.c.owned() {
		s.mu.Lock()
		for k, as := range s.m.there {
			as.asked = 0
			s.m.there[k] = as
		}
		s.mu.Unlock()
	}
}

func (c *killParticipants) Mark(_ context.Context, topic catalog.ID, partition int32, m batch.Marker) error {
	return c.step(func() error {
		key := fmt.Sprint(topic, partition)
		all := c.marks[key]
		if n := len(all); n > 0 && all[n-1].CoordinatorEpoch > m.CoordinatorEpoch {
			return errFault // a former owner's
		}
		c.marks[key] = append(all, m)
		return nil
	})
}

func (c *killParticipants) Held(*chain.Enlist) (int64, bool) { return 0, false }

// joinTxn joins a gateway that reaches the clusters, maybe to be killed.
func (f *memFleet) joinTxn(node int32, clusters *memClusters, k *killer) *fleetMember {
	f.kill = k
	f.participants = &killParticipants{clusters, k}
	g := f.join(node)
	f.participants = nil
	return g
}

// A transaction over a partition that takes markers, two clusters that run their
// own transactions, and a group's offsets. The gateway is killed at each of its
// operations in turn, before it and after it; the next owner ends the transaction,
// in all its parts alike, and as the client was told.
func TestTransactionKilledAtEachStep(t *testing.T) {
	for _, commit := range []bool{true, false} {
		cases := 0
		for _, after := range []bool{false, true} {
			for at := 1; ; at++ {
				if !txnKilledAt(t, at, after, commit) {
					break
				}
				cases++
			}
		}
		t.Logf("commit=%v: killed in %d ways", commit, cases)
		if cases < 30 {
			t.Errorf("%d cases are fewer than there are operations", cases)
		}
	}
}

func txnKilledAt(t *testing.T, at int, after, commit bool) bool {
	t.Helper()
	f := newFleet(t, 1, Config{SnapshotBytes: 700})
	clusters := newClusters()
	k := &killer{at: at, after: after}
	g := f.joinTxn(1, clusters, k)
	eventually(t, "served or killed", func() bool { return f.ready(1) || k.killed() })
	told := runTxn(t, g, k, commit)
	killed := k.killed()
	g.freeze()
	g.expire()

	next := f.joinTxn(2, clusters, nil)
	defer next.stop()
	eventually(t, "taken over", func() bool { return f.ready(2) })
	// Either it was decided, and is carried out; or a new incarnation ends it.
	var fenced *kmsg.InitProducerIDResponse
	eventually(t, "the id is free", func() bool {
		fenced = initTxn(next)
		return wire.Code(fenced.ErrorCode) == wire.None
	})
	clusters.mu.Lock()
	defer clusters.mu.Unlock()
	outcome := map[string]string{}
	for key, all := range clusters.marks {
		commits, aborts := 0, 0
		for _, m := range all {
			if m.Commit {
				commits++
			} else {
				aborts++
			}
		}
		if commits > 0 && aborts > 0 {
			t.Errorf("killed at %d (after: %v): %s has markers of both kinds", at, after, key)
		}
		outcome["partition"] = map[bool]string{true: "commit", false: "abort"}[commits > 0]
	}
	for key, x := range clusters.txns {
		if x.state == "open" {
			t.Errorf("killed at %d (after: %v): the transaction on %s is open", at, after, key)
		}
		if x.commits+x.aborts == 0 {
			continue
		}
		if x.commits > 0 && x.aborts > 0 || x.commits > 1 {
			t.Errorf("killed at %d (after: %v): %s has %d commits and %d aborts", at, after, key, x.commits, x.aborts)
		}
		outcome[key] = map[bool]string{true: "commit", false: "abort"}[x.commits > 0]
	}
	if o, code := fetchOffset(next.c, "readers", "topic", 0); code != wire.None {
		t.Error(code)
	} else if o == 7 {
		outcome["group"] = "commit"
	} else if len(outcome) == 3 {
		outcome["group"] = "abort"
	}
	first := ""
	for part, is := range outcome {
		if first == "" {
			first = is
		}
		if is != first {
			t.Errorf("killed at %d (after: %v): torn: %v (%s)", at, after, outcome, part)
		}
	}
	if told == wire.None {
		want := map[bool]string{true: "commit", false: "abort"}[commit]
		for part, is := range outcome {
			if is != want {
				t.Errorf("killed at %d (after: %v): the client was told of a %s, %s has %s", at, after, want, part, is)
			}
		}
		if commit && len(outcome) != 4 {
			t.Errorf("killed at %d (after: %v): only %v", at, after, outcome)
		}
	}
	return killed
}

func initTxn(g *fleetMember) *kmsg.InitProducerIDResponse {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version = 5
	id := "pay"
	req.TransactionalID, req.TransactionTimeoutMillis = &id, 60_000
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return g.c.InitProducerID(ctx, Caller{Tenant: "default"}, req)
}

// runTxn makes one transaction until it ends or the gateway is dead, and returns
// what its EndTxn was told; -1 if it did not come that far.
func runTxn(t *testing.T, g *fleetMember, k *killer, commit bool) wire.Code {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// Nobody answers for a gateway that is dead.
	go func() {
		eventually(t, "killed or over", func() bool { return k.killed() || ctx.Err() != nil })
		if k.killed() {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
	}()
	return requestTxn(ctx, t, g, k, commit)
}

// runTxnUntil is runTxn with a gateway that is dead when the channel is closed.
func runTxnUntil(t *testing.T, g *fleetMember, commit bool, dead <-chan struct{}) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		select {
		case <-dead:
			cancel()
		case <-ctx.Done():
		}
	}()
	requestTxn(ctx, t, g, nil, commit)
}

func requestTxn(ctx context.Context, t *testing.T, g *fleetMember, k *killer, commit bool) wire.Code {
	caller := Caller{Tenant: "default"}
	id := initTxn(g)
	if id.ErrorCode != 0 {
		return -1
	}
	put := g.c.participants.(interface {
		put(cluster string, x span.Transaction, record string) error
	}).put
	for i, cluster := range []string{"local", "x", "y"} {
		e := &Enlist{Tenant: "default", ID: "pay", Producer: id.ProducerID, Epoch: id.ProducerEpoch, Implicit: true,
			At: chain.Enlist{Topic: idOf("topic"), Partition: int32(i), Cluster: cluster, Physical: span.Topic{Name: "p" + cluster, ID: idOf("p" + cluster)},
				Foreign: cluster != "local"}}
		for n := range 2 { // a second batch asks again
			as, code := g.c.EnlistLocal(ctx, e)
			if code != wire.None {
				return -1
			}
			if cluster != "local" && put(cluster, span.Transaction{ID: as.ID, Producer: as.Producer, Epoch: as.Epoch}, fmt.Sprint("record ", n)) != nil {
				return -1
			}
		}
	}
	offsets := kmsg.NewPtrTxnOffsetCommitRequest()
	offsets.Version = 5
	offsets.TransactionalID, offsets.Group, offsets.ProducerID, offsets.ProducerEpoch, offsets.Generation = "pay", "readers", id.ProducerID, id.ProducerEpoch, -1
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic = "topic"
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = 0, 7
	rt.Partitions = append(rt.Partitions, rp)
	offsets.Topics = append(offsets.Topics, rt)
	if resp := g.c.TxnOffsetCommit(ctx, caller, offsets); resp.Topics[0].Partitions[0].ErrorCode != 0 {
		return -1
	}
	if o, code := fetchStable(g.c, "readers"); !k.killed() && code != wire.UnstableOffsetCommit {
		t.Errorf("offset %d of an open transaction: %v", o, code)
	}
	g.forgetAnswers()
	end := kmsg.NewPtrEndTxnRequest()
	end.Version = 5
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "pay", id.ProducerID, id.ProducerEpoch, commit
	return wire.Code(g.c.EndTxn(ctx, caller, end).ErrorCode)
}

func fetchStable(c *Coordinator, group string) (int64, wire.Code) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 8
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = "topic", []int32{0}
	g.Topics = append(g.Topics, gt)
	req.Groups = append(req.Groups, g)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp := c.OffsetFetch(ctx, Caller{Tenant: "default"}, req)
	if len(resp.Groups[0].Topics) == 0 {
		return -1, wire.Code(resp.Groups[0].ErrorCode)
	}
	p := resp.Groups[0].Topics[0].Partitions[0]
	return p.Offset, wire.Code(p.ErrorCode)
}

// A cluster that ended its part makes the commit an abort; one that is away keeps
// it undecided.
func TestCommitNeedsAllParticipants(t *testing.T) {
	f := newFleet(t, 1, Config{})
	clusters := newClusters()
	g := f.joinTxn(1, clusters, nil)
	eventually(t, "served", func() bool { return f.ready(1) })
	id := initTxn(g)
	enlist := func(cluster string) wire.Code {
		_, code := g.c.EnlistLocal(t.Context(), &Enlist{Tenant: "default", ID: "pay", Producer: id.ProducerID, Epoch: id.ProducerEpoch, Implicit: true,
			At: chain.Enlist{Topic: idOf("topic"), Cluster: cluster, Physical: span.Topic{Name: "p", ID: idOf(cluster)}, Foreign: true}})
		return code
	}
	for _, cluster := range []string{"x", "y"} {
		if code := enlist(cluster); code != wire.None {
			t.Fatal(code)
		}
	}
	g.forgetAnswers()
	clusters.mu.Lock()
	for key, x := range clusters.txns {
		if key[0] == 'y' {
			x.epoch++ // its timeout has passed
			x.aborts++
			x.state = "abort"
		}
	}
	clusters.mu.Unlock()
	end := kmsg.NewPtrEndTxnRequest()
	end.Version = 5
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "pay", id.ProducerID, id.ProducerEpoch, true
	if resp := g.c.EndTxn(t.Context(), Caller{Tenant: "default"}, end); wire.Code(resp.ErrorCode) != wire.TransactionAbortable {
		t.Errorf("commit: %v", wire.Code(resp.ErrorCode))
	}
	clusters.mu.Lock()
	defer clusters.mu.Unlock()
	for key, x := range clusters.txns {
		if x.commits > 0 || x.state == "open" {
			t.Errorf("%s: %+v", key, x)
		}
	}
}

// Participants answer while later ones are still being told: what was told is kept by
// all of them. The race detector is what sees it.
func TestParticipantsAnswerWhileOthersAreTold(t *testing.T) {
	f := newFleet(t, 1, Config{})
	c, err := New(Options{Node: 1, Leases: &fleetMember{memFleet: f}, Directory: &fleetMember{memFleet: f}, Logger: quiet(),
		Participants: &killParticipants{newClusters(), nil}})
	if err != nil {
		t.Fatal(err)
	}
	s := &settling{transaction: &transaction{state: txnPrepareCommit, key: groupKey{"default", "pay"}}}
	for i := range tellAtOnce {
		s.participants = append(s.participants, participant{cluster: fmt.Sprint("c", i), id: fmt.Sprint("t", i)})
	}
	for range 100 {
		told := map[string]bool{}
		c.tell(t.Context(), s, told, map[string]ending{})
		if len(told) != tellAtOnce { // none of these clusters knows of it
			t.Fatalf("told %v", told)
		}
	}
}

// flakyParticipants fail some times before they do what they are told.
type flakyParticipants struct {
	*killParticipants
	ends, marks atomic.Int32 // failures that are left
}

func (c *flakyParticipants) End(ctx context.Context, cluster string, x span.Transaction, commit bool) (span.Transaction, error) {
	if c.ends.Add(-1) >= 0 {
		return span.Transaction{}, errFault
	}
	return c.killParticipants.End(ctx, cluster, x, commit)
}

func (c *flakyParticipants) Mark(ctx context.Context, topic catalog.ID, partition int32, m batch.Marker) error {
	if c.marks.Add(-1) >= 0 {
		return errFault
	}
	return c.killParticipants.Mark(ctx, topic, partition, m)
}

// A transaction is complete, and its EndTxn answered, when the last participant has
// taken its part, however often it has to be told.
func TestSettlingGoesOnUntilAllAreTold(t *testing.T) {
	f := newFleet(t, 1, Config{})
	clusters := newClusters()
	flaky := &flakyParticipants{killParticipants: &killParticipants{clusters, nil}}
	flaky.ends.Store(3)
	flaky.marks.Store(2)
	f.participants = flaky
	g := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	if code := runTxn(t, g, &killer{}, true); code != wire.None {
		t.Fatal(code)
	}
	clusters.mu.Lock()
	defer clusters.mu.Unlock()
	for key, x := range clusters.txns {
		if x.commits != 1 || x.aborts != 0 {
			t.Errorf("%s: %+v", key, x)
		}
	}
	if len(clusters.txns) != 2 || len(clusters.marks) != 1 {
		t.Errorf("%d clusters, %d partitions", len(clusters.txns), len(clusters.marks))
	}
}

package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit"
)

// room is the least that a failover leaves in offsets for a tail that nobody knows.
const room = int64(1) << 32

// TestFailoverOfRealKafka takes a Kafka cluster away under load, killed first and then
// hanging. Topics that prefer to go on do so elsewhere by themselves; ordered ones wait
// and go on by themselves when it is back; those of other clusters notice nothing,
// though one client writes them all. Records that only the lost cluster had come back
// with it, replayed or in place.
func TestFailoverOfRealKafka(t *testing.T) {
	proxy, err := testkit.StartProxy("127.0.0.1:1") // the target follows: each must know the other's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	east := testkit.Kafka(t, testkit.Advertise(1, proxy.Addr()))
	proxy.SetTarget(east.Addrs()[0])
	up := startUp(t)
	up.must("cluster", "add", "east", "--bootstrap", proxy.Addr())
	create := func(name, cluster string, config ...string) {
		args := []string{"topic", "create", name, "--partitions", "2", "--cluster", cluster}
		for _, c := range config {
			args = append(args, "--config", c)
		}
		up.must(args...)
	}
	create("replayed", "east", "braid.guarantee=available")
	create("in-place", "east", "braid.guarantee=available", "braid.stranded=in-place")
	create("ordered", "east")
	create("elsewhere", "a")

	// One client has the topics that go on, one those that wait and those that are not concerned.
	available := startLoad(t, up.ready.Kafka, 10*time.Millisecond, 2, "replayed", "in-place")
	mixed := startLoad(t, up.ready.Kafka, 10*time.Millisecond, 2, "ordered", "elsewhere")
	for _, l := range []*load{available, mixed} {
		for _, x := range l.topics {
			x.goesOn(t, "at first", patience)
		}
	}
	plan := up.must("failover", "east", "--dry-run")
	for _, want := range []string{"replayed", "in-place", "lossy", "braid.guarantee=ordered waits for east (ordered): --force moves them too, and breaks that guarantee"} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan does not say %q:\n%s", want, plan)
		}
	}
	forced := up.must("failover", "east", "--dry-run", "--force")
	if want := "1 topic with braid.guarantee=ordered is moved by force: that guarantee is broken for it"; !strings.Contains(forced, want) {
		t.Errorf("the forced plan does not say %q:\n%s", want, forced)
	}

	// These are for whoever writes to a cluster that is away and to another in one request.
	create("waits", "east")
	create("beside", "a")
	create("grouped", "east", "braid.guarantee=available")
	groups := up.groupsOf("grouped")

	// Around the proxy, whatever address the broker tells.
	direct := kadm.NewClient(east.Client(t, kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, east.Addrs()[0])
	})))
	start := func() error { return east.Start(t.Context()) }
	type round struct {
		name       string
		quiet      bool // strand records of producers that are gone, while nobody else appends
		deaf       bool // the last answers before the loss do not arrive
		take, give func() error
	}
	rounds := []round{
		{name: "killed with answers lost", deaf: true, take: east.Kill, give: start},
		{name: "killed with records stranded", quiet: true, take: east.Kill, give: start},
		{name: "hanging", take: east.Pause, give: east.Resume},
	}
	for range movesWanted(t, 0, 5) {
		rounds = append(rounds, round{name: "killed", take: east.Kill, give: start}, rounds[0], rounds[2])
	}
	for _, round := range rounds {
		stranded := map[string]string{}
		if round.quiet {
			// These land on the cluster, their acknowledgements do not come back, and who sent them is gone.
			available.pause()
			mixed.pause()
			for ok := false; !ok; {
				stranded, ok = up.strand(proxy, direct, "replayed", "in-place")
			}
		}
		if round.deaf {
			sent := mixed.topic("ordered").sent()
			proxy.Stall(testkit.Down)
			eventually(t, patience, "more is sent", func() bool { return mixed.topic("ordered").sent() >= sent+40 })
		}
		drops := available.drops.Load() + mixed.drops.Load()
		taken := time.Now()
		if err := round.take(); err != nil {
			t.Fatal(err)
		}
		if round.quiet || round.deaf {
			proxy.Reset()
			if err := proxy.Heal(); err != nil {
				t.Fatal(err)
			}
		}
		available.resume()
		mixed.resume()
		orderedBefore, _ := mixed.topic("ordered").counts()
		mixed.topic("elsewhere").goesOn(t, round.name, patience)
		available.topic("replayed").goesOn(t, round.name, patience)
		available.topic("in-place").goesOn(t, round.name, patience)
		t.Logf("%s: from the last acknowledgement before to the first after: %s and %s; elsewhere the longest gap so far is %s", round.name,
			available.topic("replayed").gap(taken), available.topic("in-place").gap(taken), mixed.topic("elsewhere").gap(taken))
		for _, name := range []string{"replayed", "in-place"} {
			up.leavesRoom(name, "east")
		}
		if after, _ := mixed.topic("ordered").counts(); after > orderedBefore+100 {
			t.Errorf("%s: the ordered topic had %d acknowledgements, and has %d without its cluster", round.name, orderedBefore, after)
		}
		if c := up.cluster("east"); c.State != "failed" {
			t.Errorf("%s: cluster east is %s", round.name, c.State)
		}
		up.goesOnBeside(round.name, "waits", "beside")
		if round.name == rounds[0].name && !groups.over {
			groups.away()
		}
		given := time.Now()
		if err := round.give(); err != nil {
			t.Fatal(err)
		}
		mixed.topic("ordered").goesOn(t, "after it was "+round.name, patience)
		t.Logf("%s: elsewhere the longest gap was %s, and %s since the cluster is back", round.name, mixed.topic("elsewhere").gap(taken), mixed.topic("elsewhere").gap(given))
		for _, name := range []string{"replayed", "in-place"} {
			up.returned(name, "east", round.quiet)
			if round.quiet {
				up.holdsOnce(name, stranded[name])
			}
		}
		if round.name == rounds[0].name && !groups.over {
			groups.back()
		}
		if n := available.drops.Load() + mixed.drops.Load() - drops; n > 0 {
			t.Errorf("%s: the client lost %d connections to the gateway", round.name, n)
		}
		out := up.must("failback", "east")
		if !strings.Contains(out, "done") {
			t.Errorf("failback: %s", out)
		}
		for _, name := range []string{"replayed", "in-place"} {
			if at := up.openOn(name); !slices.Equal(at, []string{"east"}) {
				t.Errorf("%s: after the failback topic %s is on %v", round.name, name, at)
			}
		}
	}
	reports := available.end(2 * time.Minute)
	maps.Copy(reports, mixed.end(patience))
	for name, r := range reports {
		t.Logf("\n%s", r)
		if !r.Complete() || r.Lost.Count+r.Misplaced.Count+r.Conflicting.Count+r.NonMonotonic.Count+r.Phantom.Count > 0 {
			t.Errorf("topic %s: the history is not what the guarantee allows", name)
		}
		switch name {
		case "ordered", "elsewhere":
			if !r.OK() {
				t.Errorf("topic %s: the history is not clean", name)
			}
		default:
			if r.Duplicated.Count > 0 {
				t.Errorf("topic %s: %d records are there twice", name, r.Duplicated.Count)
			}
		}
	}
	toldClean(t, fmt.Sprintf("%d losses and returns of a real Kafka, killed and hanging", len(rounds)), reports)
}

// goesOnBeside appends to two topics by one connection, of which the first lies on a cluster that
// is known to be away: in one request, and in two that are sent together, the first before the second.
// What lies elsewhere is acknowledged, and does not wait for the refusals: each would take
// as long as an append waits for a cluster of which nobody knows yet that it is away.
func (r *running) goesOnBeside(when, away, well string) {
	r.t.Helper()
	const rounds, firstWait = 100, 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka[0]))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
	if err != nil || len(meta.Brokers) == 0 {
		r.t.Fatalf("%s: metadata: %v", when, err)
	}
	gateway := cl.Broker(int(meta.Brokers[0].NodeID))
	raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")}).Build()
	if err != nil {
		r.t.Fatal(err)
	}
	produce := func(topics ...string) (*kmsg.ProduceResponse, error) {
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, 30_000
		req.SetVersion(12)
		for _, name := range topics {
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic = name
			rp := kmsg.NewProduceRequestTopicPartition()
			rp.Records = raw
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
		}
		resp, err := gateway.Request(ctx, req)
		if err != nil {
			return nil, err
		}
		return resp.(*kmsg.ProduceResponse), nil
	}
	check := func(resp *kmsg.ProduceResponse, err error) {
		if err != nil {
			r.t.Errorf("%s: %v", when, err)
			return
		}
		for _, rt := range resp.Topics {
			p := &rt.Partitions[0]
			if rt.Topic == well && (p.ErrorCode != 0 || p.BaseOffset < 0) {
				r.t.Errorf("%s: topic %s: %v", when, rt.Topic, kerr.ErrorForCode(p.ErrorCode))
			}
			if rt.Topic == away && !kerr.IsRetriable(kerr.ErrorForCode(p.ErrorCode)) {
				r.t.Errorf("%s: topic %s: %v", when, rt.Topic, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	}
	check(produce(away)) // this gateway may be the last to know
	began, quick := time.Now(), 0
	for range rounds {
		round := time.Now()
		check(produce(away, well))
		var first sync.WaitGroup
		first.Go(func() { check(produce(away)) })
		check(produce(well))
		first.Wait()
		if time.Since(round) < firstWait {
			quick++
		}
	}
	r.t.Logf("%s: %d times to %s and %s in one request and in two: %v", when, rounds, away, well, time.Since(began))
	// A busy machine makes many of them late. If refusals were waited for, all would be.
	if 4*quick < rounds {
		r.t.Errorf("%s: of %d times to %s and %s in one request and in two %d took less than %v: as if refusals were waited for", when, rounds, away, well, quick, firstWait)
	}
}

// strand appends one record to each topic whose acknowledgement does not come, by a producer that is gone
// then: answers of the cluster do not come any more. It is not ok, and all as before, where the gateway was sooner to
// find that the cluster gives no answers, which takes less than half a second.
func (r *running) strand(proxy *testkit.Proxy, direct *kadm.Client, topics ...string) (out map[string]string, ok bool) {
	r.t.Helper()
	// Without a producer id nobody may send it again.
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableIdempotentWrite(), kgo.RecordRetries(0))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(cl.Close)
	before := map[string]int64{}
	for _, topic := range topics {
		// No time to ask for metadata then.
		eventually(r.t, patience, "topic "+topic+" takes appends", func() bool {
			return cl.ProduceSync(r.t.Context(), &kgo.Record{Topic: topic, Partition: 1, Value: []byte("not stranded")}).FirstErr() == nil
		})
		before[topic] = r.physicalEnd(direct, topic)
	}
	refused := make(chan error, len(topics))
	out = map[string]string{}
	proxy.Stall(testkit.Down)
	for _, topic := range topics {
		out[topic] = fmt.Sprintf("stranded %s %d", topic, time.Now().UnixNano())
		cl.Produce(r.t.Context(), &kgo.Record{Topic: topic, Partition: 1, Value: []byte(out[topic])}, func(_ *kgo.Record, err error) {
			if err == nil {
				r.t.Errorf("topic %s: a record was acknowledged though no answer comes from its cluster", topic)
			}
			refused <- err
		})
	}
	over := 0
	eventually(r.t, patience, "the cluster has what is to be stranded, or it is refused", func() bool {
		landed := 0
		for topic, end := range before {
			if r.physicalEnd(direct, topic) > end {
				landed++
			}
		}
		ok = landed == len(topics)
		for range len(refused) {
			r.t.Logf("to be stranded: %v", <-refused)
			over++
		}
		return ok || over > 0 && over+landed >= len(topics)
	})
	cl.Close() // before answers come again
	if !ok {
		if err := proxy.Heal(); err != nil {
			r.t.Fatal(err)
		}
	}
	return out, ok
}

// physicalEnd asks the cluster itself for the end of the open span of a topic's partition 1.
func (r *running) physicalEnd(adm *kadm.Client, name string) int64 {
	r.t.Helper()
	spans := r.topic(name).Partitions[1].Spans
	at := spans[len(spans)-1].Copies[0]
	ends, err := adm.ListEndOffsets(r.t.Context(), at.Topic)
	if err != nil {
		r.t.Fatal(err)
	}
	end, ok := ends.Lookup(at.Topic, at.Partition)
	if !ok || end.Err != nil {
		r.t.Fatalf("the end of %s/%d: %v", at.Topic, at.Partition, end.Err)
	}
	return end.Offset
}

// leavesRoom checks the offsets that a failover from a cluster chose.
func (r *running) leavesRoom(name, from string) {
	r.t.Helper()
	for _, p := range r.topic(name).Partitions {
		n := len(p.Spans)
		if n < 2 {
			r.t.Errorf("topic %s, partition %d: spans %+v", name, p.ID, p.Spans)
			continue
		}
		lost, next := p.Spans[n-2], p.Spans[n-1]
		if lost.Copies[0].Cluster != from || lost.End == nil || next.Start-*lost.End < room {
			r.t.Errorf("topic %s, partition %d: no room: %+v then %+v", name, p.ID, lost, next)
		}
	}
}

// returned waits until what a topic left on a cluster is readable again. Where records
// were stranded there is a certificate that lists them.
func (r *running) returned(name, cluster string, stranded bool) {
	r.t.Helper()
	r.tookIn(cluster, name)
	want := map[string]string{"replayed": "replayed", "in-place": "stranded"}[name]
	for _, c := range r.topic(name).Certificates {
		for _, p := range c.Partitions {
			if counted(p.Lost) > 0 {
				r.t.Errorf("topic %s: certificate %+v", name, c)
			}
			for _, x := range p.Ranges {
				if c.Kind == "return" && x.What == want && x.To > x.From {
					return
				}
			}
		}
	}
	if !stranded {
		return
	}
	r.t.Errorf("topic %s: no certificate lists a range that is %q: %+v", name, want, r.topic(name).Certificates)
}

// holdsOnce reads a topic's partition 1 from its start and looks for a record.
func (r *running) holdsOnce(name, value string) {
	r.t.Helper()
	r.holdsOnceIn(name, 1, value)
}

func (r *running) holdsOnceIn(name string, partition int32, value string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: {partition: kgo.NewOffset().AtStart()}}))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	last := &kgo.Record{Topic: name, Partition: partition, Value: []byte("end of a look")}
	if err := cl.ProduceSync(ctx, last).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
	found := 0
	for end := false; !end; {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			r.t.Fatalf("topic %s: not read to offset %d: %v", name, last.Offset, ctx.Err())
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if string(rec.Value) == value {
				found++
			}
			end = end || rec.Offset >= last.Offset
		})
	}
	if found != 1 {
		r.t.Errorf("topic %s holds %q %d times", name, value, found)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/testkit"
)

// loss is one way in which a cluster goes, and how it comes back.
type loss struct {
	name       string
	goal       float64 // seconds from the last acknowledgement before to the first after
	cluster    string
	take, give func() error
}

// failoverScenario takes a Kafka cluster away under load, over and over. A topic that prefers to go on
// does so on a local cluster; what counts is, per partition, the time from the last acknowledgement before
// to the first after. Another client writes, on one connection, to a topic that waits for the lost cluster
// and to one that lies elsewhere: what it feels there while the cluster is away is the second figure.
//
// Clusters are reached through proxies, so that they can vanish: then no byte passes either way, and
// connections stay as they are. That a broker starts again takes all of the machine, so those that are
// killed go first; the other two kinds are mostly waited for, and share the time.
func failoverScenario(ctx context.Context, e *env) ([]figure, error) {
	f, err := e.up(ctx, local)
	if err != nil {
		return nil, err
	}
	killed, _, err := e.losable(ctx, f, "killed")
	if err != nil {
		return nil, err
	}
	figures, err := e.loseOften(ctx, f, loss{"brokers killed", 5, "killed", killed.Kill, func() error { return killed.Start(ctx) }})
	if err != nil {
		return figures, err
	}
	stopped, _, err := e.losable(ctx, f, "stopped")
	if err != nil {
		return figures, err
	}
	_, proxy, err := e.losable(ctx, f, "vanished")
	if err != nil {
		return figures, err
	}
	losses := []loss{
		{"brokers stopped", 15, "stopped", stopped.Pause, stopped.Resume},
		{"cluster vanished", 15, "vanished", func() error { proxy.Stall(testkit.Both); return nil }, proxy.Heal},
	}
	var both sync.WaitGroup
	parts, errs := make([][]figure, len(losses)), make([]error, len(losses))
	for i, l := range losses {
		both.Go(func() { parts[i], errs[i] = e.loseOften(ctx, f, l) })
	}
	both.Wait()
	for _, part := range parts {
		figures = append(figures, part...)
	}
	return figures, errors.Join(errs...)
}

// losable starts a Kafka cluster behind a proxy and adds it to the fleet, with a topic that waits for it.
func (e *env) losable(ctx context.Context, f *fleet, name string) (*testkit.Cluster, *testkit.Proxy, error) {
	proxy, err := testkit.StartProxy("127.0.0.1:1") // the target follows: each must know the other's address
	if err != nil {
		return nil, nil, err
	}
	e.onEnd(proxy.Close)
	k, err := testkit.StartKafka(ctx, filepath.Join(e.dir, "kafka-"+name), testkit.Advertise(1, proxy.Addr()))
	if err != nil {
		return nil, nil, err
	}
	e.onEnd(k.Close)
	proxy.SetTarget(k.Addrs()[0])
	if err := f.attach(ctx, name, proxy.Addr()); err != nil {
		return nil, nil, err
	}
	for _, t := range []api.TopicCreate{
		// A failover goes to where the fewest partitions are: not to a cluster that may be the next.
		{Name: "waits-for-" + name, Partitions: 20, Cluster: name},
		{Name: "beside-" + name, Partitions: 1, Cluster: "local"},
	} {
		if _, err := f.admin.CreateTopic(ctx, t); err != nil {
			return nil, nil, fmt.Errorf("create topic %s: %w", t.Name, err)
		}
	}
	return k, proxy, nil
}

// loseOften takes one cluster away as often as is asked for.
func (e *env) loseOften(ctx context.Context, f *fleet, l loss) ([]figure, error) {
	var gaps, first, later []float64
	for i := range e.opts.pick(10, 1) {
		r, err := e.lose(ctx, f, l)
		if err != nil {
			return nil, fmt.Errorf("%s, round %d: %w", l.name, i+1, err)
		}
		gaps, first, later = append(gaps, r.gaps...), append(first, r.first), append(later, r.later...)
	}
	return []figure{
		{Name: l.name + ": to the first acknowledgement p50", Unit: "s", Value: quantile(gaps, 0.5)},
		figure{Name: l.name + ": to the first acknowledgement p99", Unit: "s", Value: quantile(gaps, 0.99)}.valueAtMost(l.goal).
			note("%d losses, 2 partitions, from %s s to %s s", len(first), number(quantile(gaps, 0)), number(quantile(gaps, 1))),
		figure{Name: l.name + ": elsewhere, longest wait for an acknowledgement p50", Unit: "ms", Value: median(first)}.
			note("at most %s ms; by the one connection that the lost cluster is written by", number(quantile(first, 1))),
		{Name: l.name + ": elsewhere, once it is known p50", Unit: "ms", Value: quantile(later, 0.5)},
		figure{Name: l.name + ": elsewhere, once it is known p99", Unit: "ms", Value: quantile(later, 0.99)}.note("%d records", len(later)),
	}, nil
}

// lossTurn is what one loss cost.
type lossTurn struct {
	gaps  []float64 // s, per partition of the topic that goes on
	first float64   // ms, the longest that a record waited elsewhere
	later []float64 // ms, the same of those that were sent after the topic went on
}

// lose takes the cluster away once and gives it back.
func (e *env) lose(ctx context.Context, f *fleet, l loss) (r lossTurn, err error) {
	name := fmt.Sprintf("goes-on-%d", e.topics.Add(1))
	if _, err := f.admin.CreateTopic(ctx, api.TopicCreate{Name: name, Partitions: 2, Cluster: l.cluster,
		Config: map[string]string{"braid.guarantee": "available"}}); err != nil {
		return r, fmt.Errorf("create topic %s: %w", name, err)
	}
	going, err := startPaced(ctx, f.addr, []paced{{name, 0}, {name, 1}})
	if err != nil {
		return r, err
	}
	defer going.end()
	mixed, err := startPaced(ctx, f.addr, []paced{{"waits-for-" + l.cluster, 0}, {"beside-" + l.cluster, 0}})
	if err != nil {
		return r, err
	}
	defer mixed.end()
	for _, s := range []*pacedLoad{going, mixed} {
		for i := range s.to {
			if err := s.acknowledged(ctx, i, time.Now(), 50); err != nil {
				return r, err
			}
		}
	}
	taken := time.Now()
	if err := l.take(); err != nil {
		return r, err
	}
	for i := range going.to {
		if err := going.acknowledged(ctx, i, taken, 1); err != nil {
			return r, errors.Join(fmt.Errorf("the topic does not go on: %w", err), l.give())
		}
	}
	on := time.Now()
	if err := mixed.acknowledged(ctx, 1, on, 200); err != nil {
		return r, errors.Join(fmt.Errorf("elsewhere nothing goes on: %w", err), l.give())
	}
	until := time.Now()
	if err := l.give(); err != nil {
		return r, err
	}
	// What a topic has acknowledged by answers that were on their way is no sign of going on.
	for i := range going.to {
		r.gaps = append(r.gaps, going.longestGap(i, taken).Seconds())
	}
	for _, a := range mixed.of(1) {
		wait := float64(a.at.Sub(a.sent).Microseconds()) / 1000
		if a.at.After(taken) && a.sent.Before(until) {
			r.first = max(r.first, wait)
		}
		if a.sent.After(on) && a.sent.Before(until) {
			r.later = append(r.later, wait)
		}
	}
	// Its own topic waited, and goes on by itself.
	if err := mixed.acknowledged(ctx, 0, time.Now(), 3); err != nil {
		return r, fmt.Errorf("the topic that waits does not go on: %w", err)
	}
	going.end()
	mixed.end()
	if err := f.admin.DeleteTopic(ctx, name); err != nil {
		return r, fmt.Errorf("delete topic %s: %w", name, err)
	}
	return r, f.failback(ctx, l.cluster)
}

// failback makes a cluster that is back take topics again.
func (f *fleet) failback(ctx context.Context, cluster string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var refused error // this process may hear from the cluster before the controller does
	for {
		c, err := f.admin.Cluster(ctx, cluster)
		if err != nil {
			return errors.Join(err, refused)
		}
		switch {
		case c.State == "active" && c.Health == "up":
			return nil
		case c.State == "failed" && c.Health == "up":
			op, err := f.admin.Submit(ctx, api.OpRequest{Kind: "failback", Cluster: cluster})
			for err == nil && !op.Ended() {
				op, err = f.admin.Op(ctx, op.ID, op.Revision)
			}
			refused = err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("cluster %s is %s and %s: %w", cluster, c.State, c.Health, errors.Join(err, refused))
		}
	}
}

// paced is a partition to which a record goes every 10 ms.
type paced struct {
	topic     string
	partition int32
}

// pacedLoad is one idempotent client, with one connection for what it appends.
type pacedLoad struct {
	to   []paced
	cl   *kgo.Client
	stop context.CancelFunc
	wg   sync.WaitGroup
	once sync.Once

	mu   sync.Mutex
	acks [][]pacedAck
	err  error
	news chan struct{}
}

type pacedAck struct{ sent, at time.Time }

func startPaced(ctx context.Context, addr string, to []paced) (*pacedLoad, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(1_000_000), kgo.MetadataMinAge(100*time.Millisecond),
		// As Kafka's own producer: retry.backoff.ms.
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	l := &pacedLoad{to: to, cl: cl, stop: stop, acks: make([][]pacedAck, len(to)), news: make(chan struct{}, 1)}
	for i := range to {
		l.wg.Go(func() { l.send(ctx, i) })
	}
	return l, nil
}

func (l *pacedLoad) send(ctx context.Context, i int) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		sent := time.Now()
		l.cl.Produce(ctx, &kgo.Record{Topic: l.to[i].topic, Partition: l.to[i].partition, Value: make([]byte, 100)}, func(_ *kgo.Record, err error) {
			l.mu.Lock()
			if err == nil {
				l.acks[i] = append(l.acks[i], pacedAck{sent, time.Now()})
			} else if ctx.Err() == nil {
				l.err = err
			}
			l.mu.Unlock()
			select {
			case l.news <- struct{}{}:
			default:
			}
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// acknowledged waits until so many records are acknowledged that were sent after a time.
func (l *pacedLoad) acknowledged(ctx context.Context, i int, after time.Time, n int) error {
	for {
		l.mu.Lock()
		err, have := l.err, 0
		for j := len(l.acks[i]) - 1; j >= 0 && l.acks[i][j].sent.After(after); j-- {
			have++
		}
		l.mu.Unlock()
		if err != nil || have >= n {
			return err
		}
		select {
		case <-l.news:
		case <-ctx.Done():
			return fmt.Errorf("%s-%d: %w", l.to[i].topic, l.to[i].partition, ctx.Err())
		}
	}
}

// of is what was acknowledged, in the order of the answers.
func (l *pacedLoad) of(i int) []pacedAck {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]pacedAck(nil), l.acks[i]...)
}

// longestGap is the longest time between two acknowledgements of which the second came after a time.
func (l *pacedLoad) longestGap(i int, after time.Time) (longest time.Duration) {
	acks := l.of(i)
	for j := 1; j < len(acks); j++ {
		if acks[j].at.After(after) {
			longest = max(longest, acks[j].at.Sub(acks[j-1].at))
		}
	}
	return longest
}

// end drops what was not acknowledged.
func (l *pacedLoad) end() {
	l.once.Do(func() {
		l.stop()
		l.wg.Wait()
		l.cl.Close()
	})
}

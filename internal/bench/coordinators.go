package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// coordinatorsRun is a gateway's coordinators, whose log is on a Kafka cluster, beside that cluster's own.
type coordinatorsRun struct {
	*env
	peers []*peer // direct, gateway
}

// coordinatorParts are the scenario's parts, in their order.
var coordinatorParts = []string{"commits", "transactions", "steady", "takeover", "metadata"}

func coordinatorsScenario(ctx context.Context, e *env) ([]figure, error) {
	e.opts.brisk = true
	all, err := e.peers(ctx)
	if err != nil {
		return nil, err
	}
	c := &coordinatorsRun{env: e, peers: []*peer{all[0], all[2]}}
	var out []figure
	for i, part := range []func(context.Context) ([]figure, error){c.latencies, c.transactions, c.steady, c.takeover, c.metadata} {
		if len(e.opts.parts) > 0 && !slices.Contains(e.opts.parts, coordinatorParts[i]) {
			continue
		}
		figures, err := part(ctx)
		out = append(out, figures...)
		if err != nil {
			return out, fmt.Errorf("%s: %w", coordinatorParts[i], err)
		}
	}
	return out, nil
}

// turns lets both take turns with a load on a topic of their own.
func (c *coordinatorsRun) turns(ctx context.Context, profile string, plan loadPlan) (map[string][]turn, error) {
	return rounds(ctx, c.env, c.peers, func(p *peer, r int) (turn, error) {
		topic, drop, err := c.topic(ctx, p, partitions)
		if err != nil {
			return turn{}, err
		}
		defer drop()
		plan.ClientID, plan.Topic, plan.Partitions = "bench", topic, partitions
		plan.Prefix = fmt.Sprintf("%s-%d-", profile, r)
		if len(plan.Topics) == 0 && plan.Kind == "transact" {
			plan.Topics = []string{topic}
			defer func() { plan.Topics = nil }()
		}
		return c.measure(ctx, p, profile, plan)
	})
}

// latencies of what a group asks of its coordinator, at rates that load nobody.
func (c *coordinatorsRun) latencies(ctx context.Context) ([]figure, error) {
	var out []figure
	for _, what := range []struct {
		kind, name, note string
		rate             float64
		connections      int
	}{
		{"commit", "OffsetCommit", "500/s of six partitions each, by 20 consumers", 500, 20},
		{"join", "group join", "100/s, from the first request to the assignment, by 20 members of a group each", 100, 20},
	} {
		seen, err := c.turns(ctx, "coordinators-"+what.kind, loadPlan{Kind: what.kind, Connections: what.connections, Rate: what.rate})
		if err != nil {
			return out, err
		}
		of := func(name string, at float64) []float64 {
			return each(seen[name], func(t *turn) float64 { return t.load[0].quantile(at) })
		}
		out = append(out,
			against(what.name+" p99", "ms", of(gateway, 0.99), direct, of(direct, 0.99)).ratioAtMost(1.2).note("%s", what.note),
			against(what.name+" p50", "ms", of(gateway, 0.5), direct, of(direct, 0.5)),
			against(what.name+", rate", "/s", each(seen[gateway], (*turn).recordRate), direct, each(seen[direct], (*turn).recordRate)))
	}
	return out, nil
}

// transactions of 10 records by 20 producers, on one cluster and over two. The peer of both is
// one cluster.
func (c *coordinatorsRun) transactions(ctx context.Context) ([]figure, error) {
	plan := loadPlan{Kind: "transact", Connections: 20, Records: 10, RecordBytes: 100}
	if err := c.warmTransactions(ctx, "a", plan); err != nil {
		return nil, err
	}
	one, err := c.turns(ctx, "coordinators-one", plan)
	if err != nil {
		return nil, err
	}
	cpu := func(t *turn) float64 { return t.cpu["proxy"] / t.load[0].Seconds }
	out := []figure{
		against("transactions on one cluster", "/s", each(one[gateway], (*turn).recordRate), direct, each(one[direct], (*turn).recordRate)).
			ratioAtLeast(0.9).note("10 records each, 20 producers; gateway's CPU %s", number(median(each(one[gateway], cpu)))),
	}
	out = append(out, transactionCosts("one cluster", one)...)
	k, err := c.kafka(ctx, "b")
	if err != nil {
		return out, err
	}
	if err := c.fleet.attach(ctx, "b", k.Bootstrap()); err != nil {
		return out, err
	}
	if err := c.warmTransactions(ctx, "b", plan); err != nil {
		return out, err
	}
	two, err := rounds(ctx, c.env, c.peers, func(p *peer, r int) (turn, error) {
		plan.Topics = nil
		for _, place := range []string{"a", "b"} {
			at := *p
			at.place = place
			topic, drop, err := c.topic(ctx, &at, partitions)
			if err != nil {
				return turn{}, err
			}
			defer drop()
			plan.Topics = append(plan.Topics, topic)
		}
		plan.ClientID, plan.Prefix = "bench", fmt.Sprintf("two-%d-", r)
		return c.measure(ctx, p, "coordinators-two", plan)
	})
	if err != nil {
		return out, err
	}
	out = append(out, transactionCosts("two clusters", two)...)
	return append(out, against("transactions over two clusters", "/s", each(two[gateway], (*turn).recordRate), direct, each(two[direct], (*turn).recordRate)).
		ratioAtLeast(0.6).note("against two topics of one cluster; gateway's CPU %s", number(median(each(two[gateway], cpu))))), nil
}

// transactionCosts lists what a transaction takes of each process's time, and of its producer's.
func transactionCosts(what string, seen map[string][]turn) []figure {
	var out []figure
	for _, name := range []string{direct, gateway} {
		get := func(process string) string {
			return number(median(each(seen[name], func(t *turn) float64 { return 1e3 * t.cpu[process] / float64(t.load[0].Records) })))
		}
		p50 := median(each(seen[name], func(t *turn) float64 { return t.load[0].quantile(0.5) }))
		out = append(out, figure{Name: "a transaction, " + what + ", via " + name + ", p50", Unit: "ms", Value: p50}.
			note("CPU ms of each: client %s, broker %s, gateway %s", get("client"), get("broker"), get("proxy")))
	}
	return out
}

// warmTransactions has a broker's code for transactions compiled before anything counts: the second cluster is
// fresh when its turns begin, and is met by the gateway only.
func (c *coordinatorsRun) warmTransactions(ctx context.Context, cluster string, plan loadPlan) error {
	adm, done, err := c.kadm(cluster)
	if err != nil {
		return err
	}
	defer done()
	const topic = "bench-warm"
	if _, err := adm.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	plan.ClientID, plan.Topics, plan.Prefix = "bench", []string{topic}, "warm-"
	for range c.opts.pick(2, 1) {
		p := &peer{name: direct, addr: c.clusters[cluster].Bootstrap()}
		if _, err := c.measure(ctx, p, "", plan); err != nil {
			return err
		}
	}
	_, err = adm.DeleteTopic(ctx, topic)
	return err
}

// steady is what groups cost that have nothing to do.
func (c *coordinatorsRun) steady(ctx context.Context) ([]figure, error) {
	n := c.opts.pick(1000, 100)
	seen, err := c.turns(ctx, "coordinators-steady", loadPlan{Kind: "steady", Connections: 20, Groups: n})
	if err != nil {
		return nil, err
	}
	cpu := func(name, process string) []float64 {
		return each(seen[name], func(t *turn) float64 { return 100 * t.cpu[process] / t.load[0].Seconds })
	}
	now, peak, err := memory(c.fleet.pids["gateway"])
	if err != nil {
		return nil, err
	}
	load := against(fmt.Sprintf("%d groups of 3 members, CPU", n), "% of a core", cpu(gateway, "proxy"), direct, cpu(direct, "broker")).
		note("a heartbeat each 3 s; the broker behind %s %%", number(median(cpu(gateway, "broker"))))
	if n == 1000 {
		load = load.valueAtMost(10)
	}
	return []figure{load,
		figure{Name: "gateway memory with them", Unit: "MB", Value: float64(now) / 1e6}.valueAtMost(200).note("peak %s", number(float64(peak)/1e6)),
	}, nil
}

// takeover is how long committed offsets are away when the gateway that coordinates their groups stops and
// another one takes them over.
func (c *coordinatorsRun) takeover(ctx context.Context) ([]figure, error) {
	groups, many := c.opts.pick(1000, 100), int32(100)
	topic, drop, err := c.topic(ctx, c.peers[1], many)
	if err != nil {
		return nil, err
	}
	defer drop()
	addr := c.peers[1].addr
	conn, err := dialRaw(ctx, addr, "bench")
	if err != nil {
		return nil, err
	}
	defer func() { conn.close() }()
	name := func(g int) string { return fmt.Sprint("taken-", g) }
	for g := range groups {
		if err := conn.until("commit", commitRequest(name(g), topic, many), committed); err != nil {
			return nil, err
		}
	}
	var took []float64
	for r := range min(c.opts.rounds, 3) {
		other, at, err := c.braid(ctx, fmt.Sprint("gateway-", r+2), "gateway", "--catalog-endpoints", c.fleet.catalog, "--listen", "127.0.0.1:0",
			"--http", "127.0.0.1:0", "--set", "group.initial.rebalance.delay.ms=0")
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if err := c.fleet.gateway.proc.Signal(syscall.SIGTERM); err != nil {
			return nil, err
		}
		conn.close()
		if conn, err = dialRaw(ctx, at.Kafka[0], "bench"); err != nil {
			return nil, err
		}
		for g := range groups {
			if err := conn.fetched(name(g), topic, many); err != nil {
				return nil, err
			}
		}
		took = append(took, time.Since(began).Seconds())
		c.fleet.gateway.end()
		c.fleet.gateway, c.fleet.addr, c.peers[1].addr = other, at.Kafka[0], at.Kafka[0]
		c.fleet.pids["gateway"], c.peers[1].pids["proxy"] = other.proc.Pid(), other.proc.Pid()
	}
	return []figure{figure{Name: fmt.Sprintf("%d offsets taken over", groups*int(many)), Unit: "s", Value: median(took)}.valueAtMost(1).
		note("from the order to stop until the next gateway, which has some of the shards already, has told all of them to one client; worst %s", number(slices.Max(took)))}, nil
}

// fetched asks for a group's offsets until they are told.
func (c *rawConn) fetched(group, topic string, many int32) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 8
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic = topic
	for p := range many {
		t.Partitions = append(t.Partitions, p)
	}
	g.Topics = append(g.Topics, t)
	req.Groups = append(req.Groups, g)
	told := 0
	err := c.until("offsets of "+group, req, func(resp kmsg.Response) int16 {
		told = 0
		for _, g := range resp.(*kmsg.OffsetFetchResponse).Groups {
			if g.ErrorCode != 0 {
				return g.ErrorCode
			}
			for _, t := range g.Topics {
				for _, p := range t.Partitions {
					if p.ErrorCode != 0 {
						return p.ErrorCode
					}
					if p.Offset == 1 {
						told++
					}
				}
			}
		}
		return 0
	})
	if err == nil && told != int(many) {
		err = fmt.Errorf("offsets of %s: %d of %d", group, told, many)
	}
	return err
}

// metadata asks for all topics. A broker of this size does not hold 100,000 partitions, so that the peer's figure
// is that of a tenth, beside Braid's of the same; the whole is Braid's alone, with the embedded engine.
func (c *coordinatorsRun) metadata(ctx context.Context) ([]figure, error) {
	const each10 = 10
	ask := func(p *peer) (turn, error) {
		return c.measure(ctx, p, "coordinators-metadata", loadPlan{Kind: "metadata", ClientID: "bench", Connections: 2, Rate: metadataRate})
	}
	small := c.opts.pick(1000, 50)
	for _, p := range c.peers {
		if err := makeTopics(ctx, p.addr, small, each10); err != nil {
			return nil, err
		}
	}
	seen, err := rounds(ctx, c.env, c.peers, func(p *peer, _ int) (turn, error) { return ask(p) })
	if err != nil {
		return nil, err
	}
	of := func(turns []turn, at float64) []float64 {
		return each(turns, func(t *turn) float64 { return t.load[0].quantile(at) })
	}
	out := []figure{
		against(fmt.Sprintf("metadata of %d topics p99", small), "ms", of(seen[gateway], 0.99), direct, of(seen[direct], 0.99)).ratioAtMost(1).
			note("%d partitions each, %d requests/s", each10, metadataRate),
		against(fmt.Sprintf("metadata of %d topics p50", small), "ms", of(seen[gateway], 0.5), direct, of(seen[direct], 0.5)),
		against("an answer's size", "MB", each(seen[gateway], answerSize), direct, each(seen[direct], answerSize)).
			note("direct's holds the gateway's physical topics too"),
	}
	f, err := c.up(ctx, local)
	if err != nil {
		return out, err
	}
	if _, err := f.admin.Topics(ctx); err != nil {
		return out, err
	}
	up := &peer{name: local, addr: f.addr, pids: map[string]int{"proxy": f.pids["up"]}, fleet: f, place: "local"}
	whole := c.opts.pick(10_000, 500)
	if err := makeTopics(ctx, up.addr, whole, each10); err != nil {
		return out, err
	}
	var turns []turn
	for range c.opts.rounds {
		t, err := ask(up)
		if err != nil {
			return out, err
		}
		turns = append(turns, t)
	}
	return append(out, figure{Name: fmt.Sprintf("metadata of %d topics p99, braid up", whole), Unit: "ms", Value: median(of(turns, 0.99))}.
		note("p50 %s ms, %s MB each", number(median(of(turns, 0.5))), number(median(each(turns, answerSize))))), nil
}

// metadataRate is how many requests for all topics come in a second.
const metadataRate = 40

// answerSize is that of one answer, in MB.
func answerSize(t *turn) float64 { return float64(t.load[0].Bytes) / float64(t.load[0].Records) / 1e6 }

// makeTopics makes topics by Kafka's API, many in a request.
func makeTopics(ctx context.Context, addr string, n int, partitions int32) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RetryTimeout(5*time.Minute), kgo.RequestTimeoutOverhead(2*time.Minute))
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(120_000)
	for from := 0; from < n; from += 100 {
		var names []string
		for i := from; i < min(from+100, n); i++ {
			names = append(names, fmt.Sprintf("%s-%05d", "of-many", i))
		}
		answers, err := adm.CreateTopics(ctx, partitions, 1, nil, names...)
		if err != nil {
			return fmt.Errorf("create topics: %w", err)
		}
		for _, a := range answers.Sorted() {
			if a.Err != nil && a.Err != kerr.TopicAlreadyExists {
				return fmt.Errorf("create topic %s: %w", a.Topic, a.Err)
			}
		}
	}
	return nil
}

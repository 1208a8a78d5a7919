package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// localRun is the embedded engine, which syncs before it acknowledges, beside Kafka as it is by default,
// which does not. The engine's process is also its gateway and catalog.
type localRun struct {
	*env
	peers []*peer // direct, local
	dirs  map[string]string
}

// localParts are the scenario's parts, in their order.
var localParts = []string{"produce", "small", "consume", "cold"}

// localScenario has many parts; each takes turns of its own, shorter than those of other scenarios.
func localScenario(ctx context.Context, e *env) ([]figure, error) {
	e.opts.brisk = true
	e.opts.rounds, e.opts.window = min(e.opts.rounds, 3), min(e.opts.window, 3*time.Second)
	k, err := e.kafka(ctx, "a")
	if err != nil {
		return nil, err
	}
	if err := e.warmBroker(ctx, k.Bootstrap()); err != nil {
		return nil, err
	}
	f, err := e.up(ctx, local)
	if err != nil {
		return nil, err
	}
	idle, _, err := memory(f.pids["up"])
	if err != nil {
		return nil, err
	}
	l := &localRun{env: e, dirs: map[string]string{direct: filepath.Join(e.dir, "kafka-a"), local: filepath.Join(e.dir, "up")}, peers: []*peer{
		{name: direct, addr: k.Bootstrap(), pids: map[string]int{"broker": k.Node(1).Pid()}},
		{name: local, addr: f.addr, pids: map[string]int{"proxy": f.pids["up"]}, fleet: f, place: "local"},
	}}
	out := []figure{figure{Name: "braid up, memory when idle", Unit: "MB", Value: float64(idle) / 1e6}.valueAtMost(60).note("with gateway and catalog")}
	for i, part := range []func(context.Context) ([]figure, error){l.produced, l.small, l.consumed, l.cold} {
		if len(e.opts.parts) > 0 && !slices.Contains(e.opts.parts, localParts[i]) {
			continue
		}
		figures, err := part(ctx)
		out = append(out, figures...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// turns lets both take turns with a load on a fresh topic.
func (l *localRun) turns(ctx context.Context, profile string, plan loadPlan) (map[string][]turn, error) {
	return rounds(ctx, l.env, l.peers, func(p *peer, r int) (turn, error) {
		topic, drop, err := l.topic(ctx, p, partitions)
		if err != nil {
			return turn{}, err
		}
		defer drop()
		plan.Topic = topic
		return l.measure(ctx, p, fmt.Sprintf("%s-%d", profile, r), plan)
	})
}

func (l *localRun) produced(ctx context.Context) ([]figure, error) {
	seen, err := l.turns(ctx, "local-produce", producePlan("", 0))
	if err != nil {
		return nil, err
	}
	_, peak, err := memory(l.single.pids["up"])
	if err != nil {
		return nil, err
	}
	out := []figure{
		against("local engine, produce", "MiB/s", each(seen[local], (*turn).rate), direct, each(seen[direct], (*turn).rate)).ratioAtLeast(1).
			note("synced, against Kafka's unsynced default"),
		against("local engine, produce, server's CPU", "s/GiB", each(seen[local], func(t *turn) float64 { return t.perGiB("proxy") }),
			direct, each(seen[direct], func(t *turn) float64 { return t.perGiB("broker") })).ratioAtMost(0.5),
		figure{Name: "braid up, memory when produced to", Unit: "MB", Value: float64(peak) / 1e6}.valueAtMost(200).note("peak"),
	}
	return append(out, costs("local engine, produce:", seen, direct, local)...), nil
}

func (l *localRun) small(ctx context.Context) ([]figure, error) {
	plan := loadPlan{Kind: "produce", ClientID: "bench", Partitions: partitions, Rate: smallRate, RecordBytes: recordBytes, InFlight: 5,
		Connections: 1000, Records: 1, Spread: 1}
	seen, err := l.turns(ctx, "local-small", plan)
	if err != nil {
		return nil, err
	}
	of := func(name string, at float64) []float64 {
		return each(seen[name], func(t *turn) float64 { return t.load[0].quantile(at) })
	}
	_, peak, err := memory(l.single.pids["up"])
	if err != nil {
		return nil, err
	}
	return []figure{
		against("local engine, 1,000 producers p99", "ms", of(local, 0.99), direct, of(direct, 0.99)).ratioAtMost(1).note("5,000 records/s in all, one in a request"),
		against("local engine, 1,000 producers p50", "ms", of(local, 0.5), direct, of(direct, 0.5)),
		against("local engine, 1,000 producers", "records/s", each(seen[local], (*turn).recordRate), direct, each(seen[direct], (*turn).recordRate)),
		{Name: "braid up, memory after 1,000 producers", Unit: "MB", Value: float64(peak) / 1e6, Note: "peak"},
	}, nil
}

// consumed reads what the page cache holds, by two consumers that share it and by ten that read all.
func (l *localRun) consumed(ctx context.Context) ([]figure, error) {
	topics, err := l.filled(ctx, int64(l.opts.pick(1024, 256))*mib)
	if err != nil {
		return nil, err
	}
	// Kafka writes through the page cache, the engine past it: what was written is read until
	// both have it there. The engine believes that somebody wants it again the second time.
	for _, p := range l.peers {
		for range 2 {
			plan := consumePlan(topics[p.name], 0)
			plan.Once = true
			if _, err := l.whole(ctx, p, plan); err != nil {
				return nil, err
			}
		}
	}
	watch := watchMemory(l.single.pids["up"])
	defer watch.end() // of an error here the other one tells
	var out []figure
	for _, part := range []struct {
		name string
		many int
		goal float64
	}{{"local engine, consume", 2, 1}, {"local engine, ten consumers", 10, 1.5}} {
		seen, err := rounds(ctx, l.env, l.peers, func(p *peer, r int) (turn, error) {
			plan := consumePlan(topics[p.name], 0)
			plan.Connections, plan.Share = part.many, part.many == 2
			return l.measure(ctx, p, fmt.Sprintf("local-consume-%d-%d", part.many, r), plan)
		})
		if err != nil {
			return out, err
		}
		out = append(out, against(part.name, "MiB/s", each(seen[local], (*turn).rate), direct, each(seen[direct], (*turn).rate)).ratioAtLeast(part.goal))
		out = append(out, costs(part.name+":", seen, direct, local)...)
	}
	if err := watch.end(); err != nil {
		return out, err
	}
	return append(out, figure{Name: "braid up, memory when consumed from", Unit: "MB", Value: float64(watch.sum) / 1e6}.valueAtMost(200).
		note("peak; %s MB of the process, %s MB mapped page cache, each at its own peak", number(float64(watch.peak.anon)/1e6), number(float64(watch.peak.file)/1e6))), nil
}

// filled makes a topic of so many bytes at each.
func (l *localRun) filled(ctx context.Context, bytes int64) (map[string]string, error) {
	topics := map[string]string{}
	for _, p := range l.peers {
		topic, drop, err := l.topic(ctx, p, partitions)
		if err != nil {
			return nil, err
		}
		l.onEnd(drop)
		topics[p.name] = topic
		if err := l.fill(ctx, p, topic, bytes); err != nil {
			return nil, err
		}
	}
	return topics, nil
}

// cold reads what is in nobody's memory, once, while another topic is written to at a rate that loads
// nobody; and compares the latency of that with and without the reader.
func (l *localRun) cold(ctx context.Context) ([]figure, error) {
	topics, err := l.filled(ctx, int64(l.opts.pick(4096, 256))*mib)
	if err != nil {
		return nil, err
	}
	rate, alone, beside := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for r := range min(2, l.opts.rounds) {
		for i := range l.peers {
			p := l.peers[(i+r)%len(l.peers)]
			topic, drop, err := l.topic(ctx, p, partitions)
			if err != nil {
				return nil, err
			}
			defer drop()
			write := loadPlan{Kind: "produce", ClientID: "bench", Topic: topic, Partitions: partitions, Rate: smallRate, RecordBytes: recordBytes,
				InFlight: 5, Connections: 10, Records: 4, Spread: 1}
			t, err := l.measure(ctx, p, "", write)
			if err != nil {
				return nil, err
			}
			alone[p.name] = append(alone[p.name], t.load[0].quantile(0.99))
			if err := forgetPages(l.dirs[p.name]); err != nil {
				return nil, err
			}
			write.Addr = p.addr
			w, err := l.startLoad(ctx, write)
			if err != nil {
				return nil, err
			}
			defer w.end()
			if err := w.say("mark"); err != nil {
				return nil, err
			}
			done := l.profile(ctx, p.fleet, fmt.Sprintf("local-cold-%d", r), time.Second)
			read := consumePlan(topics[p.name], 0)
			read.Once = true
			got, err := l.whole(ctx, p, read)
			if err != nil {
				return nil, err
			}
			rate[p.name] = append(rate[p.name], float64(got.Bytes)/mib/got.Seconds)
			during, err := w.stop(ctx)
			if err != nil {
				return nil, err
			}
			done()
			beside[p.name] = append(beside[p.name], during.quantile(0.99))
		}
	}
	rise := func(name string) float64 { return median(beside[name]) / median(alone[name]) }
	return []figure{
		against("local engine, cold read", "MiB/s", rate[local], direct, rate[direct]).ratioAtLeast(1).note("nothing in the page cache; 5,000 records/s are written beside it"),
		figure{Name: "local engine, p99 of appends beside it, of that without", Unit: "x", Value: rise(local), Peer: direct, PeerValue: rise(direct), Ratio: rise(local) / rise(direct)}.
			valueAtMost(1.2).note("%s ms, was %s ms; direct %s ms, was %s ms", number(median(beside[local])), number(median(alone[local])), number(median(beside[direct])), number(median(alone[direct]))),
	}, nil
}

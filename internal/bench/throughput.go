package main

import (
	"context"
	"fmt"
	"time"
)

const (
	partitions  = 6
	recordBytes = 1024
)

// producePlan is two idempotent producers with batches of 64 KiB, five requests in flight each.
func producePlan(topic string, rate float64) loadPlan {
	return loadPlan{Kind: "produce", Topic: topic, ClientID: "bench", Partitions: partitions, Connections: 2, Rate: rate,
		Records: 64, RecordBytes: recordBytes, Spread: partitions, InFlight: 5}
}

// consumePlan is two consumers that share the partitions, with a Kafka client's defaults.
func consumePlan(topic string, rate float64) loadPlan {
	return loadPlan{Kind: "consume", Topic: topic, ClientID: "bench", Partitions: partitions, Connections: 2, Rate: rate,
		Share: true, PartitionBytes: 1 << 20, MaxBytes: 50 << 20}
}

func produceScenario(ctx context.Context, e *env) ([]figure, error) {
	peers, err := e.peers(ctx)
	if err != nil {
		return nil, err
	}
	run := func(rate float64, what string) (map[string][]turn, error) {
		return rounds(ctx, e, peers, func(p *peer, r int) (turn, error) {
			topic, drop, err := e.topic(ctx, p, partitions)
			if err != nil {
				return turn{}, err
			}
			defer drop()
			return e.measure(ctx, p, fmt.Sprintf("produce-%s-%d", what, r), producePlan(topic, rate))
		})
	}
	return both(e, "produce", 0.97, 0.5, run)
}

func consumeScenario(ctx context.Context, e *env) ([]figure, error) {
	peers, err := e.peers(ctx)
	if err != nil {
		return nil, err
	}
	// Direct and the forwarder read one topic, the gateway its own; all are far larger than its cache.
	topics := map[string]string{}
	for _, p := range peers {
		if p.name == forwarder {
			topics[p.name] = topics[direct]
			continue
		}
		topic, drop, err := e.topic(ctx, p, partitions)
		if err != nil {
			return nil, err
		}
		defer drop()
		topics[p.name] = topic
		if err := e.fill(ctx, p, topic, int64(e.opts.pick(1024, 256))*mib); err != nil {
			return nil, err
		}
	}
	run := func(rate float64, what string) (map[string][]turn, error) {
		return rounds(ctx, e, peers, func(p *peer, r int) (turn, error) {
			return e.measure(ctx, p, fmt.Sprintf("consume-%s-%d", what, r), consumePlan(topics[p.name], rate))
		})
	}
	return both(e, "consume", 0.95, 0.6, run)
}

// fill writes so many bytes to a topic.
func (e *env) fill(ctx context.Context, p *peer, topic string, bytes int64) error {
	plan := producePlan(topic, 0)
	plan.Limit = bytes / recordBytes
	if _, err := e.whole(ctx, p, plan); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// whole runs a load that ends by itself.
func (e *env) whole(ctx context.Context, p *peer, plan loadPlan) (loadResult, error) {
	plan.Addr = p.addr
	l, err := e.startLoad(ctx, plan)
	if err != nil {
		return loadResult{}, fmt.Errorf("%s: %w", p.name, err)
	}
	if err := l.say("mark"); err != nil {
		l.end()
		return loadResult{}, err
	}
	wait, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if _, err := l.line(wait); err != nil { // "done"
		l.end()
		return loadResult{}, fmt.Errorf("%s: %w", p.name, err)
	}
	return l.stop(ctx)
}

// both runs a load saturated and at 60 % of direct's maximum, and says what came of it.
func both(e *env, what string, rateGoal, cpuGoal float64, run func(rate float64, what string) (map[string][]turn, error)) ([]figure, error) {
	full, err := run(0, "full")
	if err != nil {
		return nil, err
	}
	rate := func(t *turn) float64 { return t.rate() }
	proxy := func(t *turn) float64 { return t.perGiB("proxy") }
	g, d, f := each(full[gateway], rate), each(full[direct], rate), each(full[forwarder], rate)
	out := []figure{
		against(what+" saturated", "MiB/s", g, forwarder, f).ratioAtLeast(1),
		against(what+" saturated", "MiB/s", g, direct, d).note("two CPUs are shared with client and broker"),
		against("gateway CPU, "+what+" saturated", "s/GiB", each(full[gateway], proxy), forwarder, each(full[forwarder], proxy)).valueAtMost(cpuGoal),
	}
	out = append(out, costs(what+" saturated:", full, direct, forwarder, gateway)...)

	records := 0.6 * median(each(full[direct], func(t *turn) float64 { return t.recordRate() }))
	paced, err := run(records, "paced")
	if err != nil {
		return out, err
	}
	g, d = each(paced[gateway], rate), each(paced[direct], rate)
	out = append(out, against(what+" at 60 %", "MiB/s", g, direct, d).ratioAtLeast(rateGoal))
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		of := func(name string) []float64 {
			return each(paced[name], func(t *turn) float64 { return t.load[0].quantile(q.at) })
		}
		line := against(what+" at 60 % "+q.name, "ms", of(gateway), direct, of(direct)).note("forwarder %s ms", number(median(of(forwarder))))
		if q.name == "p99" {
			line = line.ratioAtMost(1.3)
		}
		out = append(out, line)
	}
	out = append(out, against("gateway CPU, "+what+" at 60 %", "s/GiB", each(paced[gateway], proxy), forwarder, each(paced[forwarder], proxy)).valueAtMost(cpuGoal))
	out = append(out, costs(what+" at 60 %:", paced, direct, forwarder, gateway)...)
	now, peak, err := memory(e.fleet.pids["gateway"])
	if err != nil {
		return out, err
	}
	return append(out, figure{Name: "gateway memory after " + what, Unit: "MB", Value: float64(peak) / 1e6}.valueAtMost(150).
		note("peak resident set; %s MB at the end", number(float64(now)/1e6))), nil
}

package main

import "context"

// smallRate is the rate of the scenarios that look at latency, records per second.
const smallRate = 5000

// latencyScenario compares the time of an append at a rate that loads nobody.
func latencyScenario(ctx context.Context, e *env) ([]figure, error) {
	peers, err := e.peers(ctx)
	if err != nil {
		return nil, err
	}
	var out []figure
	for _, shape := range []struct {
		name, note string
		plan       loadPlan
	}{
		{"batches of a 5 ms linger", "one producer, 24 records over 6 partitions in a request",
			loadPlan{Connections: 1, Records: 4, Spread: partitions}},
		{"single records", "ten producers, one record in a request",
			loadPlan{Connections: 10, Records: 1, Spread: 1}},
	} {
		seen, err := e.small(ctx, peers, "latency", shape.plan)
		if err != nil {
			return out, err
		}
		for _, q := range []struct {
			name string
			at   float64
		}{{"p50", 0.5}, {"p99", 0.99}} {
			of := func(name string) []float64 {
				return each(seen[name], func(t *turn) float64 { return t.load[0].quantile(q.at) })
			}
			out = append(out, against(shape.name+" "+q.name, "ms", of(gateway), direct, of(direct)).
				note("forwarder %s ms; %s", number(median(of(forwarder))), shape.note))
			if q.name != "p50" {
				continue
			}
			added := func(name string) (d []float64) {
				theirs := of(direct)
				for i, v := range of(name) {
					d = append(d, v-theirs[i])
				}
				return d
			}
			out = append(out, against("added latency, "+shape.name+" p50", "ms", added(gateway), forwarder, added(forwarder)).valueAtMost(0.2))
		}
	}
	return out, nil
}

// manyScenario has 500 connections with little to say each.
func manyScenario(ctx context.Context, e *env) ([]figure, error) {
	peers, err := e.peers(ctx)
	if err != nil {
		return nil, err
	}
	seen, err := e.small(ctx, peers, "many", loadPlan{Connections: 500, Records: 1, Spread: 1})
	if err != nil {
		return nil, err
	}
	of := func(name string, at float64) []float64 {
		return each(seen[name], func(t *turn) float64 { return t.load[0].quantile(at) })
	}
	broker := func(t *turn) float64 { return t.cpu["broker"] / t.load[0].Seconds }
	_, peak, err := memory(e.fleet.pids["gateway"])
	if err != nil {
		return nil, err
	}
	return []figure{
		against("500 producers p99", "ms", of(gateway, 0.99), direct, of(direct, 0.99)).ratioAtMost(1).note("forwarder %s ms", number(median(of(forwarder, 0.99)))),
		against("500 producers p50", "ms", of(gateway, 0.5), direct, of(direct, 0.5)).note("forwarder %s ms", number(median(of(forwarder, 0.5)))),
		against("500 producers, rate", "records/s", each(seen[gateway], (*turn).recordRate), direct, each(seen[direct], (*turn).recordRate)),
		against("500 producers, broker's CPU", "CPUs", each(seen[gateway], broker), direct, each(seen[direct], broker)),
		figure{Name: "gateway memory, 500 producers", Unit: "MB", Value: float64(peak) / 1e6}.valueAtMost(150),
	}, nil
}

// small runs a load of 1 KiB records at the small rate.
func (e *env) small(ctx context.Context, peers []*peer, profile string, plan loadPlan) (map[string][]turn, error) {
	plan.Kind, plan.ClientID, plan.Partitions = "produce", "bench", partitions
	plan.Rate, plan.RecordBytes, plan.InFlight = smallRate, recordBytes, 5
	return rounds(ctx, e, peers, func(p *peer, _ int) (turn, error) {
		topic, drop, err := e.topic(ctx, p, partitions)
		if err != nil {
			return turn{}, err
		}
		defer drop()
		plan.Topic = topic
		return e.measure(ctx, p, profile, plan)
	})
}

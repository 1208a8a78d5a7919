package main

import (
	"context"
	"fmt"
)

// localScenario compares the embedded engine, which syncs before it acknowledges, with Kafka as it is
// by default, which does not. The engine's process is also its gateway and catalog.
func localScenario(ctx context.Context, e *env) ([]figure, error) {
	k, err := e.kafka(ctx, "a")
	if err != nil {
		return nil, err
	}
	if err := e.warmBroker(ctx, k.Bootstrap()); err != nil {
		return nil, err
	}
	f, err := e.up(ctx)
	if err != nil {
		return nil, err
	}
	peers := []*peer{
		{name: direct, addr: k.Bootstrap(), pids: map[string]int{"broker": k.Node(1).Pid()}},
		{name: local, addr: f.addr, pids: map[string]int{"proxy": f.pids["up"]}, fleet: f, place: "local"},
	}
	var out []figure
	wrote, err := rounds(ctx, e, peers, func(p *peer, r int) (turn, error) {
		topic, drop, err := e.topic(ctx, p, partitions)
		if err != nil {
			return turn{}, err
		}
		defer drop()
		return e.measure(ctx, p, fmt.Sprintf("local-produce-%d", r), producePlan(topic, 0))
	})
	if err != nil {
		return out, err
	}
	out = append(out, against("local engine, produce", "MiB/s", each(wrote[local], (*turn).rate), direct, each(wrote[direct], (*turn).rate)).
		note("synced, against Kafka's unsynced default"))
	out = append(out, costs("local engine, produce:", wrote, direct, local)...)
	topics := map[string]string{}
	for _, p := range peers {
		topic, drop, err := e.topic(ctx, p, partitions)
		if err != nil {
			return out, err
		}
		defer drop()
		topics[p.name] = topic
		if err := e.fill(ctx, p, topic, int64(e.opts.pick(1024, 256))*mib); err != nil {
			return out, err
		}
	}
	read, err := rounds(ctx, e, peers, func(p *peer, r int) (turn, error) {
		return e.measure(ctx, p, fmt.Sprintf("local-consume-%d", r), consumePlan(topics[p.name], 0))
	})
	if err != nil {
		return out, err
	}
	out = append(out, against("local engine, consume", "MiB/s", each(read[local], (*turn).rate), direct, each(read[direct], (*turn).rate)))
	out = append(out, costs("local engine, consume:", read, direct, local)...)
	_, peak, err := memory(f.pids["up"])
	if err != nil {
		return out, err
	}
	return append(out, figure{Name: "braid up memory after it", Unit: "MB", Value: float64(peak) / 1e6}), nil
}

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	gib = 1 << 30
	mib = 1 << 20
)

// turn is what one peer did in one round.
type turn struct {
	load []loadResult // by plan
	cpu  usage        // of the peer's processes and, as "client", of the load generators
}

func (t *turn) bytes() (n int64) {
	for i := range t.load {
		n += t.load[i].Bytes
	}
	return n
}

// rate is MiB per second of batches, over all generators.
func (t *turn) rate() (r float64) {
	for i := range t.load {
		r += float64(t.load[i].Bytes) / mib / t.load[i].Seconds
	}
	return r
}

// recordRate is records per second.
func (t *turn) recordRate() (r float64) {
	for i := range t.load {
		r += float64(t.load[i].Records) / t.load[i].Seconds
	}
	return r
}

// perGiB is a process's CPU seconds for each GiB.
func (t *turn) perGiB(process string) float64 {
	return t.cpu[process] / (float64(t.bytes()) / gib)
}

// measure lets a peer run loads for the window and reads everybody's CPU time at its two ends.
func (e *env) measure(ctx context.Context, p *peer, profile string, plans ...loadPlan) (turn, error) {
	var t turn
	var loads []*load
	defer func() {
		for _, l := range loads {
			l.end()
		}
	}()
	for _, plan := range plans {
		if plan.Addr == "" {
			plan.Addr = p.addr
		}
		l, err := e.startLoad(ctx, plan)
		if err != nil {
			return t, fmt.Errorf("%s: %w", p.name, err)
		}
		loads = append(loads, l)
	}
	if err := pause(ctx, e.opts.warmUp()); err != nil {
		return t, err
	}
	profiled := func() {}
	if profile != "" {
		profiled = e.profile(ctx, p.fleet, profile, e.opts.window)
	}
	for _, l := range loads {
		if err := l.say("mark"); err != nil {
			return t, err
		}
	}
	before, err := sampleCPU(p.pids)
	if err != nil {
		return t, err
	}
	if err := pause(ctx, e.opts.window); err != nil {
		return t, err
	}
	after, err := sampleCPU(p.pids)
	if err != nil {
		return t, err
	}
	t.cpu = after.since(before)
	t.load = make([]loadResult, len(loads))
	for i, l := range slices.Backward(loads) { // readers go last: they shall see everything
		r, err := l.stop(ctx)
		if err != nil {
			return t, fmt.Errorf("%s: %w", p.name, err)
		}
		t.load[i] = r
		t.cpu["client"] += r.CPU
		if i > 0 {
			if err := pause(ctx, 300*time.Millisecond); err != nil {
				return t, err
			}
		}
	}
	loads = nil
	profiled()
	return t, nil
}

// pause lets a load run.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rounds lets peers take turns, each round beginning with another one.
func rounds(ctx context.Context, e *env, peers []*peer, one func(*peer, int) (turn, error)) (map[string][]turn, error) {
	seen := map[string][]turn{}
	for r := range e.opts.rounds {
		for i := range peers {
			p := peers[(i+r)%len(peers)]
			t, err := one(p, r)
			if err != nil {
				return seen, err
			}
			seen[p.name] = append(seen[p.name], t)
			if ctx.Err() != nil {
				return seen, ctx.Err()
			}
		}
	}
	return seen, nil
}

// each takes one number of every turn.
func each(turns []turn, f func(*turn) float64) []float64 {
	var out []float64
	for i := range turns {
		out = append(out, f(&turns[i]))
	}
	return out
}

// costs lists the CPU seconds per GiB of each peer's processes, for the reader who wants to know where
// the time went.
func costs(what string, seen map[string][]turn, order ...string) []figure {
	var out []figure
	for _, name := range order {
		turns := seen[name]
		get := func(process string) float64 {
			return median(each(turns, func(t *turn) float64 { return t.perGiB(process) }))
		}
		f := figure{Name: what + " CPU via " + name, Unit: "s/GiB",
			Value: get("client") + get("broker") + get("proxy")}
		out = append(out, f.note("client %s, broker %s, proxy %s", number(get("client")), number(get("broker")), number(get("proxy"))))
	}
	return out
}

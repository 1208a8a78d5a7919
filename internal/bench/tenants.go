package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/braidstream/braid/console/api"
)

// noisyBudget is what the noisy tenant pays for, bytes of producers by the second.
const noisyBudget = 2 * mib

// tenantParts are the scenario's parts, in their order.
var tenantParts = []string{"price", "noise", "storm"}

// tenantsScenario has tenants share one `braid up`: what quotas, a budget, 1,000 rules, TLS and signing on cost, and
// whether a tenant that wants ten times its budget on 2,000 connections slows a quiet one down. Each
// tenant has a listener of its own, so that nobody has to sign on.
func tenantsScenario(ctx context.Context, e *env) ([]figure, error) {
	names := []string{"plain", "limited", "ruled", "encrypted", "signed", "noisy", "quiet", "secured"}
	cert, key, err := certificate(e.dir)
	if err != nil {
		return nil, err
	}
	args := []string{"up", "--data-dir", filepath.Join(e.dir, "tenants"), "--local-clusters", "local", "--http", "127.0.0.1:0", "--catalog-listen", "127.0.0.1:0"}
	addrs := map[string]string{}
	for _, name := range names {
		addrs[name] = e.freeAddr()
		listener := fmt.Sprintf("%s=%s,tenant=%s", name, addrs[name], name)
		switch name {
		case "encrypted":
			listener += ",security=SSL,cert=" + cert + ",key=" + key
		case "signed":
			listener += ",security=SASL_PLAINTEXT"
		case "secured":
			listener += ",security=SASL_SSL,cert=" + cert + ",key=" + key
		}
		args = append(args, "--listener", listener)
	}
	c, r, err := e.braid(ctx, "tenants", args...)
	if err != nil {
		return nil, err
	}
	f, err := newFleet(r.HTTP)
	if err != nil {
		return nil, err
	}
	pids := map[string]int{"proxy": c.proc.Pid()}
	rate, plenty := float64(noisyBudget), 1e15
	peers := map[string]*peer{}
	for _, name := range names {
		set := api.TenantSet{Name: name}
		switch name {
		case "noisy":
			set.Budget = map[string]*float64{"producer_byte_rate": &rate}
		case "limited":
			set.Budget = map[string]*float64{"producer_byte_rate": &plenty, "request_percentage": &plenty}
		}
		if _, err := f.admin.CreateTenant(ctx, set); err != nil {
			return nil, fmt.Errorf("tenant %s: %w", name, err)
		}
		own := *f
		own.admin = f.admin.Of(name)
		peers[name] = &peer{name: name, addr: addrs[name], pids: pids, fleet: &own, place: "local"}
	}
	if _, err := f.admin.SetQuota(ctx, "limited", api.QuotaSet{Entity: []api.QuotaEntity{{Type: "user"}},
		Values: map[string]*float64{"producer_byte_rate": &plenty, "consumer_byte_rate": &plenty, "request_percentage": &plenty}}); err != nil {
		return nil, fmt.Errorf("quota: %w", err)
	}
	if err := thousandRules(ctx, f.admin); err != nil {
		return nil, err
	}
	for _, name := range []string{"signed", "secured"} {
		if _, err := f.admin.AddUser(ctx, name, api.UserAdd{Name: stormUser, Mechanism: "SCRAM-SHA-256", Password: stormPassword, Iterations: 4096}); err != nil {
			return nil, fmt.Errorf("user: %w", err)
		}
	}
	var out []figure
	for i, part := range []func() ([]figure, error){
		func() ([]figure, error) { return e.priceOfRules(ctx, peers) },
		func() ([]figure, error) { return e.besideNoise(ctx, peers["quiet"], peers["noisy"]) },
		func() ([]figure, error) { return e.besideStorm(ctx, peers["quiet"], peers["secured"]) },
	} {
		if len(e.opts.parts) > 0 && !slices.Contains(e.opts.parts, tenantParts[i]) {
			continue
		}
		more, err := part()
		if out = append(out, more...); err != nil {
			return out, err
		}
	}
	return out, nil
}

// quietPlan is a tenant that sends 500 records by the second and waits for each.
func quietPlan(addr, topic string) loadPlan {
	return loadPlan{Kind: "produce", ClientID: "quiet", Addr: addr, Topic: topic, Partitions: partitions, Connections: 5, Rate: 500,
		Records: 1, RecordBytes: recordBytes, Spread: 1, InFlight: 5}
}

// besideNoise compares a quiet tenant's latency alone with that beside a tenant whose clients want ten
// times their budget on 2,000 connections, and wait for nothing but the gateway.
func (e *env) besideNoise(ctx context.Context, quiet, noisy *peer) ([]figure, error) {
	const alone, beside = "alone", "beside"
	turns := []*peer{{name: alone}, {name: beside}}
	served := []float64{}
	seen, err := rounds(ctx, e, turns, func(p *peer, _ int) (turn, error) {
		topic, drop, err := e.topic(ctx, quiet, partitions)
		if err != nil {
			return turn{}, err
		}
		defer drop()
		plans := []loadPlan{quietPlan(quiet.addr, topic)}
		if p.name == beside {
			loud, end, err := e.topic(ctx, noisy, partitions)
			if err != nil {
				return turn{}, err
			}
			defer end()
			plans = append(plans, loadPlan{Kind: "produce", ClientID: "noisy", Addr: noisy.addr, Topic: loud, Partitions: partitions,
				Connections: e.opts.pick(2000, 200), Rate: 10 * noisyBudget / recordBytes, Records: 1, RecordBytes: recordBytes, Spread: 1, InFlight: 1, MayStarve: true})
		}
		t, err := e.measure(ctx, quiet, "", plans...)
		if err == nil && len(t.load) > 1 {
			served = append(served, float64(t.load[1].Bytes)/t.load[1].Seconds/noisyBudget)
		}
		return t, err
	})
	if err != nil {
		return nil, err
	}
	of := func(name string, at float64) []float64 {
		return each(seen[name], func(t *turn) float64 { return t.load[0].quantile(at) })
	}
	return []figure{
		against("quiet tenant p99 beside a noisy one", "ms", of(beside, 0.99), alone, of(alone, 0.99)).ratioAtMost(1.2).
			note("the noisy one is served %s of its budget", number(median(served))),
		against("quiet tenant p50 beside a noisy one", "ms", of(beside, 0.5), alone, of(alone, 0.5)),
	}, nil
}

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
//
// Clients that make noise take the machine's processors as well, which no gateway can
// help. So they make the same noise at another process in turns of their own: what that
// does to the quiet tenant is the machine's doing.
func tenantsScenario(ctx context.Context, e *env) ([]figure, error) {
	cert, key, err := certificate(e.dir)
	if err != nil {
		return nil, err
	}
	peers, err := e.tenants(ctx, "tenants", cert, key, "plain", "limited", "ruled", "encrypted", "signed", "noisy", "quiet", "secured")
	if err != nil {
		return nil, err
	}
	elsewhere, err := e.tenants(ctx, "elsewhere", cert, key, "noisy", "secured")
	if err != nil {
		return nil, err
	}
	var out []figure
	for i, part := range []func() ([]figure, error){
		func() ([]figure, error) {
			return e.priceOfRules(ctx, peers)
		},
		func() ([]figure, error) {
			return e.besideNoise(ctx, peers["quiet"], peers["noisy"], elsewhere["noisy"])
		},
		func() ([]figure, error) {
			return e.besideStorm(ctx, peers["quiet"], peers["secured"], elsewhere["secured"])
		},
	} {
		if len(e.opts.parts) > 0 && !slices.Contains(e.opts.parts, tenantParts[i]) {
			continue
		}
		figures, err := part()
		out = append(out, figures...)
		if err != nil {
			return out, fmt.Errorf("%s: %w", tenantParts[i], err)
		}
	}
	return out, nil
}

// tenants starts a process with some tenants.
func (e *env) tenants(ctx context.Context, process, cert, key string, names ...string) (map[string]*peer, error) {
	args := []string{"up", "--data-dir", filepath.Join(e.dir, process), "--local-clusters", "local", "--http", "127.0.0.1:0", "--catalog-listen", "127.0.0.1:0"}
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
	c, r, err := e.braid(ctx, process, args...)
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
		switch name {
		case "limited":
			_, err = f.admin.SetQuota(ctx, name, api.QuotaSet{Entity: []api.QuotaEntity{{Type: "user"}},
				Values: map[string]*float64{"producer_byte_rate": &plenty, "consumer_byte_rate": &plenty, "request_percentage": &plenty}})
		case "ruled":
			err = thousandRules(ctx, f.admin)
		case "signed", "secured":
			_, err = f.admin.AddUser(ctx, name, api.UserAdd{Name: stormUser, Mechanism: "SCRAM-SHA-256", Password: stormPassword, Iterations: 4096})
		}
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", name, err)
		}
	}
	return peers, nil
}

// quietPlan is a tenant that sends 500 records by the second and waits for each.
func quietPlan(addr, topic string) loadPlan {
	return loadPlan{Kind: "produce", ClientID: "quiet", Addr: addr, Topic: topic, Partitions: partitions, Connections: 5, Rate: 500,
		Records: 1, RecordBytes: recordBytes, Spread: 1, InFlight: 5}
}

// besideNoise compares a quiet tenant's latency alone with that beside a tenant whose clients want ten
// times their budget on 2,000 connections, and wait for nothing but the gateway; and with that while those
// clients are at another process.
func (e *env) besideNoise(ctx context.Context, quiet, noisy, elsewhere *peer) ([]figure, error) {
	const alone, beside, apart = "alone", "beside", "the noise elsewhere"
	turns := []*peer{{name: alone}, {name: beside}, {name: apart}}
	served := []float64{}
	seen, err := rounds(ctx, e, turns, func(p *peer, _ int) (turn, error) {
		topic, drop, err := e.topic(ctx, quiet, partitions)
		if err != nil {
			return turn{}, err
		}
		defer drop()
		plans := []loadPlan{quietPlan(quiet.addr, topic)}
		if p.name != alone {
			to := noisy
			if p.name == apart {
				to = elsewhere
			}
			loud, end, err := e.topic(ctx, to, partitions)
			if err != nil {
				return turn{}, err
			}
			defer end()
			plans = append(plans, loadPlan{Kind: "produce", ClientID: "noisy", Addr: to.addr, Topic: loud, Partitions: partitions,
				Connections: e.opts.pick(2000, 200), Rate: 10 * noisyBudget / recordBytes, Records: 1, RecordBytes: recordBytes, Spread: 1, InFlight: 1, MayStarve: true})
		}
		t, err := e.measure(ctx, quiet, "", plans...)
		if err == nil && p.name == beside && len(t.load) > 1 {
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
		against("… what the machine does: the same noise elsewhere", "ms", of(apart, 0.99), alone, of(alone, 0.99)),
		against("… what the gateway does", "ms", of(beside, 0.99), apart, of(apart, 0.99)).ratioAtMost(1.2),
		against("quiet tenant p50 beside a noisy one", "ms", of(beside, 0.5), alone, of(alone, 0.5)),
		against("… what the gateway does, p50", "ms", of(beside, 0.5), apart, of(apart, 0.5)),
	}, nil
}

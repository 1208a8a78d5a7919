package main

import (
	"context"
	"fmt"

	"github.com/braidstream/braid/console/api"
)

// thousandRules guards the tenant "ruled": the last of its rules lets everybody do what the load does.
func thousandRules(ctx context.Context, admin *api.Client) error {
	rule := func(kind, name, pattern, principal, operation string) api.ACL {
		return api.ACL{ResourceType: kind, ResourceName: name, PatternType: pattern, Principal: principal, Host: "*", Operation: operation, Permission: "ALLOW"}
	}
	var rules []api.ACL
	for i := range 996 {
		pattern := "LITERAL"
		if i%2 == 0 {
			pattern = "PREFIXED"
		}
		rules = append(rules, rule("TOPIC", fmt.Sprintf("other-%d", i), pattern, fmt.Sprintf("User:user-%d", i%50), "WRITE"))
	}
	rules = append(rules, rule("TOPIC", "bench", "PREFIXED", "User:*", "ALL"), rule("CLUSTER", "kafka-cluster", "LITERAL", "User:*", "ALL"),
		rule("GROUP", "*", "LITERAL", "User:*", "ALL"), rule("TRANSACTIONAL_ID", "*", "LITERAL", "User:*", "ALL"))
	if _, err := admin.AddACLs(ctx, "ruled", api.ACLAdd{ACLs: rules, Force: true}); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	return nil
}

// priceOfRules compares saturated producers of a tenant that has nothing set with those of one that has
// quotas and a budget that nobody reaches, one with 1,000 rules, one whose producers come over TLS, one whose
// producers sign on by SCRAM, and one with both. They connect before the time that is measured.
func (e *env) priceOfRules(ctx context.Context, peers map[string]*peer) ([]figure, error) {
	plain := peers["plain"]
	turns := []*peer{plain, peers["limited"], peers["ruled"], peers["encrypted"], peers["signed"], peers["secured"]}
	seen, err := rounds(ctx, e, turns, func(p *peer, _ int) (turn, error) {
		topic, drop, err := e.topic(ctx, p, partitions)
		if err != nil {
			return turn{}, err
		}
		defer drop()
		plan := producePlan(topic, 0)
		plan.TLS = p.name == "encrypted" || p.name == "secured"
		if p.name == "signed" || p.name == "secured" {
			plan.User, plan.Password = stormUser, stormPassword
		}
		return e.measure(ctx, p, "", plan)
	})
	if err != nil {
		return nil, err
	}
	rate := func(name string) []float64 { return each(seen[name], (*turn).rate) }
	cpu := func(name string) []float64 {
		return each(seen[name], func(t *turn) float64 { return t.perGiB("proxy") })
	}
	var out []figure
	for _, x := range []struct {
		name, with string
		least      float64 // of the rate; 0: no goal
	}{
		{"limited", "with quotas and a budget", 0.99}, {"ruled", "with 1,000 ACLs", 0.97}, {"encrypted", "over TLS", 0},
		{"signed", "signed on by SCRAM", 0}, {"secured", "over TLS, signed on", 0},
	} {
		f := against("produce "+x.with, "MiB/s", rate(x.name), plain.name, rate(plain.name))
		if x.least > 0 {
			f = f.ratioAtLeast(x.least)
		}
		out = append(out, f, against("CPU "+x.with, "s/GiB", cpu(x.name), plain.name, cpu(plain.name)))
	}
	return out, nil
}

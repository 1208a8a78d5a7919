package usage

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func sum(shares map[int32]float64) (total float64) {
	for _, s := range shares {
		total += s
	}
	return total
}

// Whatever the gateways tell, shares sum to the budget and none is starved.
func TestSharesSumToTheBudget(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		budget := rapid.Float64Range(1e-3, 1e12).Draw(t, "budget")
		var demands []Demand
		for i := range rapid.IntRange(1, 40).Draw(t, "gateways") {
			demands = append(demands, Demand{Node: int32(i), Rate: rapid.Float64Range(0, 3*budget).Draw(t, "rate"), Limited: rapid.Bool().Draw(t, "limited")})
		}
		shares := Divide(budget, demands)
		if len(shares) != len(demands) {
			t.Fatalf("%d shares for %d gateways", len(shares), len(demands))
		}
		if total := sum(shares); total > budget*(1+1e-9) || total < budget*(1-1e-9) {
			t.Fatalf("shares sum to %v of %v", total, budget)
		}
		for node, s := range shares {
			if s < budget*least/float64(len(demands))*(1-1e-9) {
				t.Fatalf("gateway %d has %v of %v", node, s, budget)
			}
		}
		// Who is content keeps what it uses, as long as an even part is enough for it.
		for _, d := range demands {
			if even := budget * (1 - least) / float64(len(demands)); !d.Limited && d.Rate*headroom < even && shares[d.Node] < d.Rate {
				t.Fatalf("gateway %d uses %v and has %v", d.Node, d.Rate, shares[d.Node])
			}
		}
	})
}

// Under a load that stays, divisions come to rest within a few rounds, where each gateway
// has what its clients want or, if all want more than there is, none has less than
// another that is given more than it wants.
func TestDivisionsConverge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const budget = 1000.0
		n := rapid.IntRange(1, 12).Draw(t, "gateways")
		loads := make([]float64, n)
		total := 0.0
		for i := range loads {
			if rapid.Bool().Draw(t, "idle") {
				continue
			}
			loads[i] = rapid.Float64Range(0, 2*budget).Draw(t, "load")
			total += loads[i]
		}
		shares := map[int32]float64{}
		for i := range loads {
			shares[int32(i)] = budget / float64(n)
		}
		settled := -1
		for round := range n + 12 {
			var demands []Demand
			for i, load := range loads {
				share := shares[int32(i)]
				demands = append(demands, Demand{Node: int32(i), Rate: min(load, share), Limited: load > share})
			}
			next := Divide(budget, demands)
			if Moved(budget, shares, next) {
				settled = round
			}
			shares = next
		}
		if settled > n+2 {
			t.Fatalf("still moving in round %d: loads %v, shares %v", settled, loads, shares)
		}
		served := 0.0
		for i, load := range loads {
			served += min(load, shares[int32(i)])
		}
		// All that is wanted is served, or all that there is, less floors and headroom.
		if want := min(total, budget); served < want*0.78 {
			t.Fatalf("%v of %v is served: loads %v, shares %v", served, want, loads, shares)
		}
	})
}

// The whole load on one gateway: it has nearly all from the first division on.
func TestAllLoadOnOneGateway(t *testing.T) {
	t.Parallel()
	shares := Divide(300, []Demand{{Node: 1, Rate: 100, Limited: true}, {Node: 2}, {Node: 3}})
	if shares[1] < 300*0.98 || math.Abs(sum(shares)-300) > 1e-9 {
		t.Errorf("%v", shares)
	}
	again := Divide(300, []Demand{{Node: 1, Rate: 280}, {Node: 2}, {Node: 3}})
	if again[1] < 280 || Moved(300, shares, again) {
		t.Errorf("%v after %v", again, shares)
	}
	if even := Divide(300, []Demand{{Node: 1}, {Node: 2}, {Node: 3}}); math.Abs(even[2]-100) > 1e-9 {
		t.Errorf("without load: %v", even)
	}
}

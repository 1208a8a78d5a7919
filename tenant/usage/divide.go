// Package usage is what tenants use of the gateways: how a tenant's budget is divided
// over them, and the counters that bills are made from.
package usage

import (
	"cmp"
	"slices"
)

// Demand is what one gateway told of a budget: how much was used there by the second,
// and whether its share was too small for what clients wanted.
type Demand struct {
	Node    int32
	Rate    float64
	Limited bool
}

const (
	// least is the part of a budget that is kept for gateways without load, in all: a
	// client that comes to one of them is served, slowly, until the next division.
	least = 0.02
	// headroom is how much more than it used a gateway is given that wanted no more.
	headroom = 1.25
)

// Divide gives each gateway its share of a budget. Shares sum to the budget, less
// rounding; none is below least of the budget divided by the number of gateways.
//
// Beyond that it is max-min fair: gateways that were not limited get what they used and
// some headroom, the others share evenly what remains, and what nobody wants is
// divided evenly over all. So a tenant whose whole load is on one gateway has nearly all of
// its budget there from the division after the first that sees the load on.
func Divide(budget float64, demands []Demand) map[int32]float64 {
	n := float64(len(demands))
	if n == 0 || budget <= 0 {
		return nil
	}
	floor := budget * least / n
	out := make(map[int32]float64, len(demands))
	type want struct {
		node int32
		more float64 // than the floor
	}
	wants := make([]want, len(demands))
	for i, d := range demands {
		out[d.Node] = floor
		more := budget
		if !d.Limited {
			more = min(budget, max(0, d.Rate*headroom-floor))
		}
		wants[i] = want{d.Node, more}
	}
	// The smallest wants are met first; who wants more than an even part of what is left
	// gets that part.
	slices.SortFunc(wants, func(a, b want) int { return cmp.Or(cmp.Compare(a.more, b.more), cmp.Compare(a.node, b.node)) })
	left := budget - floor*n
	for i, w := range wants {
		got := min(w.more, left/float64(len(wants)-i))
		out[w.node] += got
		left -= got
	}
	for _, w := range wants {
		out[w.node] += max(left, 0) / n
	}
	return out
}

// Moved tells whether a division differs enough from the one before to be told: by a
// twentieth of the budget somewhere, or in which gateways there are.
func Moved(budget float64, old, next map[int32]float64) bool {
	if len(old) != len(next) {
		return true
	}
	for node, share := range next {
		was, ok := old[node]
		if d := share - was; !ok || d > budget/20 || d < -budget/20 {
			return true
		}
	}
	return false
}

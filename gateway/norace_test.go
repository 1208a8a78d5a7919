//go:build !race

package gateway

// slowed is by how much the race detector slows computing down.
const slowed = 1

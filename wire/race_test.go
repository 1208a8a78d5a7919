//go:build race

package wire

// slack widens what tests measure of memory: under the race detector the
// allocator gives small strings a block each.
const slack = 3

package catalog

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
)

// Producer ids come from one counter of the whole fleet, which is what keeps them unique for good; but what a client gets
// is the counter under a keyed permutation. With the bare counter a tenant that asked twice would see how many producers
// all the others had started in between.
//
// Ids of earlier builds are the counter itself. They stay valid: they lie below 2^51, the permuted ones from there up to
// 2^52, so that they also are whole numbers in JSON, and far below the ids of coordinators' logs.

const (
	permutedProducers = int64(1) << 51
	producerBits      = 50
)

// ProducerIDs allocates n producer ids. No id is given out twice, and none tells how many others there are.
func (c *Catalog) ProducerIDs(ctx context.Context, n int64) ([]int64, error) {
	if n < 1 || n > 1_000_000 {
		return nil, fmt.Errorf("producer ids: a block of %d", n)
	}
	order, err := c.producerOrder(ctx)
	if err != nil {
		return nil, err
	}
	first, err := c.take(ctx, "producer-id", ProducerIDBase, n, nil)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, n)
	for i := range ids {
		at := first - ProducerIDBase + int64(i)
		if at >= 1<<producerBits {
			return nil, errors.New("producer ids: all are given out")
		}
		ids[i] = permutedProducers + order.of(at)
	}
	return ids, nil
}

// producerOrder is the permutation of the fleet; its key is made on first use and never changes.
func (c *Catalog) producerOrder(ctx context.Context) (permutation, error) {
	const what, key = "order of producer ids", dataRoot + "producer-order"
	made := make([]byte, 32)
	rand.Read(made) //nolint:errcheck // see RandomName
	// Reading comes first: the key is there but for the first time in a fleet's life.
	var secret []byte
	_, err := c.get(ctx, what, key, &secret)
	if errors.Is(err, ErrNotFound) {
		if _, err = c.put(ctx, what, key, 0, Fence{}, made); err == nil || errors.Is(err, ErrExists) {
			_, err = c.get(ctx, what, key, &secret)
		}
	}
	if err != nil {
		return permutation{}, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return permutation{}, fmt.Errorf("%s: %w", what, err)
	}
	return permutation{block}, nil
}

// permutation is one of the numbers below 2^producerBits: a balanced Feistel network (Luby and Rackoff, 1988) whose
// round function is AES.
type permutation struct{ block cipher.Block }

const (
	rounds   = 10
	halfBits = producerBits / 2
	halfMask = 1<<halfBits - 1
)

func (p permutation) of(n int64) int64 {
	left, right := uint32(n>>halfBits)&halfMask, uint32(n)&halfMask
	for round := range uint32(rounds) {
		left, right = right, left^p.round(round, right)
	}
	return int64(left)<<halfBits | int64(right)
}

func (p permutation) round(number, half uint32) uint32 {
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint32(b[:], number)
	binary.BigEndian.PutUint32(b[4:], half)
	p.block.Encrypt(b[:], b[:])
	return binary.BigEndian.Uint32(b[:]) & halfMask
}

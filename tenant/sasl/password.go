package sasl

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/braidstream/braid/catalog"
)

// FromSalted makes a credential of a password that was salted already (RFC 5802,
// section 3): salted is PBKDF2 of it.
func FromSalted(mechanism string, salt, salted []byte, iterations int) (catalog.Scram, error) {
	h := scramHash(mechanism)
	if h == nil {
		return catalog.Scram{}, fmt.Errorf("%w %.50q", ErrMechanism, mechanism)
	}
	stored := h()
	stored.Write(keyed(h, salted, "Client Key")) //nolint:errcheck // a hash takes everything
	return catalog.Scram{Salt: salt, Iterations: iterations, StoredKey: stored.Sum(nil), ServerKey: keyed(h, salted, "Server Key")}, nil
}

// saltSize is that of NewCredential, which users who do not exist have too.
const saltSize = 16

// passwordIs compares a password with a credential. Passwords that were right
// are remembered by a keyed hash, for as long as the credential is the same:
// the salted hash costs milliseconds on purpose.
func (s *Server) passwordIs(ctx context.Context, mechanism string, c *catalog.Scram, password string, remember bool) (bool, error) {
	if remember && s.known.has(c, password) {
		return true, nil
	}
	select {
	case s.turns <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-s.turns }()
	if c.Iterations < 1 || c.Iterations > MaxIterations {
		return false, errors.New("the credential's iterations are out of bounds")
	}
	h := scramHash(mechanism)
	salted, err := pbkdf2.Key(h, password, c.Salt, c.Iterations, h().Size())
	if err != nil {
		return false, err
	}
	made, err := FromSalted(mechanism, c.Salt, salted, c.Iterations)
	if err != nil {
		return false, err
	}
	right := subtle.ConstantTimeCompare(made.StoredKey, c.StoredKey) == 1
	if right && remember {
		s.known.add(c, password)
	}
	return right, nil
}

// passwords remembers which were right. The key is random and dies with the
// process, so what is kept cannot be tried against offline.
type passwords struct {
	key [32]byte

	mu    sync.Mutex
	right map[[32]byte]struct{}
}

const maxKnown = 10_000

func newPasswords() *passwords {
	p := &passwords{right: map[[32]byte]struct{}{}}
	rand.Read(p.key[:]) //nolint:errcheck // never fails: it ends the process rather than return weak bytes
	return p
}

func (p *passwords) of(c *catalog.Scram, password string) (sum [32]byte) {
	m := hmac.New(sha256.New, p.key[:])
	m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c.StoredKey))))
	m.Write(c.StoredKey)
	m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c.Salt))))
	m.Write(c.Salt)
	m.Write([]byte(password))
	m.Sum(sum[:0])
	return sum
}

func (p *passwords) has(c *catalog.Scram, password string) bool {
	sum := p.of(c, password)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.right[sum]
	return ok
}

func (p *passwords) add(c *catalog.Scram, password string) {
	sum := p.of(c, password)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.right) >= maxKnown {
		for old := range p.right { // any: who is forgotten computes once more
			delete(p.right, old)
			break
		}
	}
	p.right[sum] = struct{}{}
}

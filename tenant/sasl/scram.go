package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"unicode/utf8"

	"github.com/braidstream/braid/catalog"
)

// Mechanisms with salted credentials, as Kafka names them.
const (
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// Bounds of a credential: iterations are Kafka's, which the client has to do as often.
const (
	MinIterations     = 4096
	MaxIterations     = 16384
	DefaultIterations = 8192
	MaxPassword       = 1024 // bytes
)

// ErrMechanism: not a mechanism with salted credentials.
var ErrMechanism = errors.New("unknown SCRAM mechanism")

// ErrPassword: the password cannot be one.
var ErrPassword = errors.New("unusable password")

// ErrIterations: too few to be safe, or too many to be served.
var ErrIterations = fmt.Errorf("iterations must be %d to %d", MinIterations, MaxIterations)

// scramHash gives the hash of a mechanism, nil if it has none.
func scramHash(mechanism string) func() hash.Hash {
	switch mechanism {
	case ScramSHA256:
		return sha256.New
	case ScramSHA512:
		return sha512.New
	}
	return nil
}

// NewCredential salts a password for a mechanism (RFC 5802, section 3). The
// password is taken as its UTF-8 bytes, as Kafka's clients send them; 0 iterations
// are [DefaultIterations].
func NewCredential(mechanism, password string, iterations int) (catalog.Scram, error) {
	h := scramHash(mechanism)
	if h == nil {
		return catalog.Scram{}, fmt.Errorf("%w %.50q: want %s or %s", ErrMechanism, mechanism, ScramSHA256, ScramSHA512)
	}
	if password == "" || len(password) > MaxPassword || !utf8.ValidString(password) {
		return catalog.Scram{}, fmt.Errorf("%w: want 1 to %d bytes of UTF-8", ErrPassword, MaxPassword)
	}
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if iterations < MinIterations || iterations > MaxIterations {
		return catalog.Scram{}, fmt.Errorf("%d: %w", iterations, ErrIterations)
	}
	salt := make([]byte, 16)
	rand.Read(salt) //nolint:errcheck // never fails: it ends the process rather than return weak bytes
	salted, err := pbkdf2.Key(h, password, salt, iterations, h().Size())
	if err != nil {
		return catalog.Scram{}, fmt.Errorf("salt a password: %w", err)
	}
	clientKey := keyed(h, salted, "Client Key")
	stored := h()
	stored.Write(clientKey) //nolint:errcheck // a hash takes everything
	return catalog.Scram{Salt: salt, StoredKey: stored.Sum(nil), ServerKey: keyed(h, salted, "Server Key"), Iterations: iterations}, nil
}

func keyed(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text)) //nolint:errcheck // a hash takes everything
	return m.Sum(nil)
}

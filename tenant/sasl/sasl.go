// Package sasl is the server's side of SASL as Kafka speaks it: PLAIN,
// SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER. An exchange is a state machine
// that is fed the client's messages; who carries them is not its business.
//
// Nothing here tells a client whether a user exists: one who does not gets a
// whole exchange with a salt of its own that is always the same, and the same
// words at its end.
package sasl

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/catalog"
)

// The mechanisms by their registered names, beside those of SCRAM.
const (
	Plain       = "PLAIN"
	OAuthBearer = "OAUTHBEARER"
)

// Mechanisms lists what can be spoken, strongest first.
func Mechanisms() []string { return []string{ScramSHA512, ScramSHA256, Plain, OAuthBearer} }

// Bounds of what is taken of a client.
const (
	maxMessage = 32 << 10 // a token is the longest
	maxScram   = 4 << 10
	maxName    = 1 << 10
)

// ErrFailed is of every error with which an exchange ends.
var ErrFailed = errors.New("authentication failed")

// FailedError says why an exchange failed: to the client in words that do not
// depend on what is known of the user, to the log in others. Neither holds a
// secret.
type FailedError struct {
	Client string
	Reason string
	// User is the name that was tried, as far as it was read; whoever counts failures wants it.
	User string
}

func (e *FailedError) Error() string { return ErrFailed.Error() + ": " + e.Reason }

// Is makes every FailedError an ErrFailed.
func (e *FailedError) Is(target error) bool { return target == ErrFailed }

// Identity is who has signed on.
type Identity struct {
	Mechanism string
	Tenant    string
	Name      string    // of the principal, without the tenant
	Expires   time.Time // of the token; zero where credentials do not expire
	// User is what the credentials were compared with; nil for tokens.
	User *catalog.User
	// Credential is the name of the credential in User.
	Credential string
}

// Directory finds users by the name that a client gave, within what the
// connection may reach, and tells which tenants it may. It does no I/O and is
// called concurrently.
type Directory interface {
	// User returns nil for a name that belongs to nobody.
	User(name string) *catalog.User
	// Tenant settles the tenant of a principal whose token names one, "" if it
	// names none. false refuses it.
	Tenant(named string) (string, bool)
	// Like tells among which users a name would be that nobody has.
	Like(name string) Place
}

// Exchange is one client's authentication. It is used by one goroutine.
type Exchange interface {
	// Step takes the client's next message, which it does not keep, and returns
	// the answer to it. An error ends the exchange and is of kind ErrFailed.
	// ctx bounds the waiting for a turn to compute, or for an issuer's keys.
	Step(ctx context.Context, message []byte) (answer []byte, err error)
	// Identity is nil until the exchange has come to a good end.
	Identity() *Identity
}

// Refuser is an exchange that tells a refusal by an answer, before it fails: the client that hears of it may go
// without another message.
type Refuser interface {
	// Refused is why; nil if nothing is refused.
	Refused() *FailedError
}

// Server makes exchanges. It is used concurrently.
type Server struct {
	secret []byte // of the salts of nobody
	turns  chan struct{}
	known  *passwords
	oidc   *OIDC // nil: OAUTHBEARER fails
}

// Options of [NewServer].
type Options struct {
	// Secret is the same for all gateways and all time: salts of users who do not
	// exist are made from it.
	Secret []byte
	// Derivations bounds how many password hashes are computed at the same time.
	Derivations int
	OIDC        *OIDC
}

// NewServer returns a server of all mechanisms.
func NewServer(o Options) *Server {
	return &Server{secret: append([]byte("braid sasl\x00"), o.Secret...), turns: make(chan struct{}, max(1, o.Derivations)),
		known: newPasswords(), oidc: o.OIDC}
}

// Known tells whether name is a mechanism.
func Known(name string) bool {
	switch name {
	case Plain, ScramSHA256, ScramSHA512, OAuthBearer:
		return true
	}
	return false
}

// Begin starts an exchange; nil for a mechanism that is not known.
func (s *Server) Begin(mechanism string, d Directory) Exchange {
	switch mechanism {
	case Plain:
		return &plainExchange{s: s, d: d}
	case ScramSHA256, ScramSHA512:
		return &scramExchange{s: s, d: d, mechanism: mechanism}
	case OAuthBearer:
		return &oauthExchange{s: s, d: d}
	}
	return nil
}

// invalid is what clients are told by SCRAM and for what is no message at all, as by Kafka.
func invalid(mechanism, reason string) *FailedError {
	return &FailedError{Client: "Authentication failed during authentication due to invalid credentials with SASL mechanism " + mechanism, Reason: reason}
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// Why a connection that has to authenticate is ended.
var (
	errYielded         = errors.New("its place before authentication went to one of an address that has fewer")
	errUnauthenticated = errors.New("a request before authentication that is none of ApiVersions, SaslHandshake and SaslAuthenticate")
	errAuthentication  = errors.New("authentication failed")
	errAuthTimeout     = errors.New("authentication took too long")
	errAuthEffort      = errors.New("too many requests or bytes before authentication")
	errSessionExpired  = errors.New("the session has expired and was not renewed (connections.max.reauth.ms, or a token's expiry)")
	errRevoked         = errors.New("the user, its credential or its tenant is gone, or its certificate revoked")
)

// Bounds of what a connection may send before it is authenticated.
const (
	// preAuthFrame is sasl.server.max.receive.size of Kafka, rounded down to a buffer's class.
	preAuthFrame    = 64 << 10
	preAuthBytes    = 256 << 10
	preAuthRequests = 32
)

// authPhase says what a connection may ask for. As in Apache Kafka, first one
// ApiVersions and then SaslHandshake, or that at once; then SaslAuthenticate, or,
// after version 0 of the handshake, tokens without a header of Kafka's; then all.
type authPhase int8

const (
	phaseGreeting authPhase = iota // ApiVersions or SaslHandshake
	phaseHandshake
	phaseTokens
	phaseDone
)

// auth is the authentication of one connection. Only its reader uses it. A
// connection that nobody asks who it is has none until it begins by itself.
type auth struct {
	phase     authPhase
	raw       bool // tokens come without a header
	mechanism string
	exchange  sasl.Exchange
	refused   bool // the exchange has told so, and it is counted
	requests  int
	bytes     int

	// Once done:
	id      *sasl.Identity
	expires time.Time // zero: never
	// Of a re-authentication under way (KIP-368):
	again     bool
	againAt   time.Time // when the latest began
	other     bool      // by another mechanism, which fails at its first token
	finalized bool      // counted as authenticated
}

// standing is what a connection's rights rest on, for those who watch the
// catalog. It is immutable.
type standing struct {
	tenant     string
	user       *catalog.User // nil: a token, a certificate, or nobody
	credential string
}

// reach is what the connection may sign on to.
func (c *conn) reach() tenant.Reach {
	return tenant.Reach{Snapshot: c.g.watcher.Snapshot(), Only: c.only, Asked: c.l.cfg.Tenant == "" && c.label != ""}
}

// lookup is the connection's directory of users; each question is asked of the
// latest snapshot.
type lookup struct {
	c   *conn
	any bool // as if nothing but the name told the tenant
}

func (l lookup) reach() tenant.Reach {
	if l.any {
		return tenant.Reach{Snapshot: l.c.g.watcher.Snapshot()}
	}
	return l.c.reach()
}

func (l lookup) User(name string) *catalog.User       { return l.reach().User(name) }
func (l lookup) Tenant(named string) (string, bool)   { return l.reach().Tenant(named) }
func (a *auth) expired(now time.Time) bool            { return !a.expires.IsZero() && now.After(a.expires) }
func (c *conn) awaits() bool                          { return c.auth != nil && c.auth.phase != phaseDone }
func (l *listener) speaks(mechanism string) (ok bool) { return contains(l.cfg.Mechanisms, mechanism) }

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// allow tells whether a request may be worked on, before anything of its body is
// looked at. An error ends the connection, as a broker does.
func (c *conn) allow(key int16, size int, now time.Time) error {
	a := c.auth
	if a.phase == phaseDone {
		if key != keySaslHandshake && a.expired(now) {
			return errSessionExpired
		}
		return nil
	}
	if a.requests++; a.requests > preAuthRequests && !a.finalized {
		return errAuthEffort
	}
	if a.bytes += size; a.bytes > preAuthBytes && !a.finalized {
		return errAuthEffort
	}
	switch {
	case a.phase == phaseGreeting && key == keyApiVersions, key == keySaslHandshake && a.phase <= phaseHandshake,
		a.phase == phaseTokens && key == keySaslAuthenticate && !a.raw:
		return nil
	}
	return fmt.Errorf("%w: %s", errUnauthenticated, apiName(key))
}

// step feeds the exchange one message of the client's, and binds the connection
// when it has come to its end. A failure waits out its penalty; the caller
// answers it and ends the connection.
func (c *conn) step(message []byte, start time.Time) ([]byte, error) {
	a, g := c.auth, c.g
	from := origin(c.host)
	ctx, cancel := context.WithTimeout(c.ctx, g.cfg.AuthTimeout)
	defer cancel()
	done, err := g.penalties.turn(ctx, from, c.watchPeer)
	if err != nil {
		return nil, c.unlooked()
	}
	var answer []byte
	switch {
	case a.other:
		done()
		err = &sasl.FailedError{Client: fmt.Sprintf("SASL mechanism '%s' requested by client is not supported for re-authentication of mechanism '%s'", a.mechanism, a.id.Mechanism),
			Reason: "another mechanism than before"}
	default:
		answer, err = func() ([]byte, error) {
			defer done()
			if a.mechanism == sasl.OAuthBearer {
				return a.exchange.Step(ctx, message) // it may ask the issuer for its keys
			}
			pass, err := g.signing.Enter(ctx, from.String())
			if err != nil {
				return nil, errAuthTimeout
			}
			defer pass.Leave(0)
			return a.exchange.Step(ctx, message)
		}()
	}
	if errors.Is(err, errAuthTimeout) {
		return nil, c.unlooked()
	}
	if err == nil {
		id := a.exchange.Identity()
		if id == nil {
			if r, ok := a.exchange.(sasl.Refuser); ok {
				if failed := r.Refused(); failed != nil {
					a.refused = true
					c.unknownUser(failed, start)
				}
			}
			return answer, nil
		}
		if err = c.unchanged(id); err == nil {
			c.bind(id, time.Now())
			g.metrics.authentications.WithLabelValues(c.l.cfg.Name, a.mechanism, "succeeded").Inc()
			return answer, nil
		}
	}
	failed := &sasl.FailedError{Client: "Authentication failed", Reason: err.Error()}
	errors.As(err, &failed)
	if !a.refused { // else it has been told, and waited for
		c.unknownUser(failed, start)
	}
	return nil, failed
}

// unlooked ends a connection whose message was not looked at, since its turn did not come in time. That says nothing
// of the client: it counts for no failure, and gets no answer, which it would take for one.
func (c *conn) unlooked() error {
	c.end(errAuthTimeout)
	return errAuthTimeout
}

// unknownUser counts and tells a failure, and waits out its penalty.
func (c *conn) unknownUser(failed *sasl.FailedError, start time.Time) {
	a, g, from := c.auth, c.g, origin(c.host)
	g.metrics.authentications.WithLabelValues(c.l.cfg.Name, a.mechanism, "failed").Inc()
	c.wasUnknown(a.mechanism, failed.User, failed.Reason)
	// The time is counted from the message's arrival: how long it took to find out
	// says nothing then of what was found.
	until := start.Add(g.penalties.failed(from, failed.User, start))
	if g.limiter.allow() {
		g.log.Warn("authentication failed", "peer", c.peer, "listener", c.l.cfg.Name, "mechanism", a.mechanism, "reason", failed.Reason,
			"withheld", g.limiter.missed())
	}
	stop := c.watchPeer()
	defer stop()
	g.penalties.delay(c.ctx, from, until)
}

// unchanged demands that a session is renewed by who began it.
func (c *conn) unchanged(id *sasl.Identity) error {
	was := c.auth.id
	if !c.auth.again || was.Name == id.Name && was.Tenant == id.Tenant {
		return nil
	}
	return &sasl.FailedError{Client: fmt.Sprintf("Cannot change principals during re-authentication from User.%s: User.%s", was.Name, id.Name),
		Reason: "another principal than before"}
}

// bind makes the connection its owner's.
func (c *conn) bind(id *sasl.Identity, now time.Time) {
	a := c.auth
	a.id, a.exchange, a.phase, a.again = id, nil, phaseDone, false
	a.expires = id.Expires
	if most := c.g.cfg.MaxReauth; most > 0 && (a.expires.IsZero() || now.Add(most).Before(a.expires)) {
		a.expires = now.Add(most)
	}
	c.rulesAt = nil // those of another tenant
	c.tenant, c.principal = id.Tenant, tenant.Principal{Type: "User", Name: id.Name}
	c.standing.Store(&standing{tenant: id.Tenant, user: id.User, credential: id.Credential})
	c.authenticated()
	// Between the directory's answer and the store above the user may have gone, and
	// whoever watched for that has not seen this session.
	if !c.stands() {
		a.expires = now.Add(-time.Nanosecond)
	}
}

// lifetime is what the client is told of its session, in milliseconds; 0 is
// without an end.
func (a *auth) lifetime(now time.Time) int64 {
	if a.expires.IsZero() {
		return 0
	}
	return max(1, a.expires.Sub(now).Milliseconds())
}

// stands tells whether what the connection's rights rest on is still there.
func (c *conn) stands() bool {
	s := c.standing.Load()
	if s == nil {
		return true // not authenticated yet
	}
	if c.chains != nil && c.l.certs.revokes(c.chains) {
		return false
	}
	r := tenant.Reach{Snapshot: c.g.watcher.Snapshot()}
	if s.user == nil {
		return r.Active(s.tenant)
	}
	return r.Stands(s.user, s.credential)
}

// authenticated lifts the bounds of before, unless the tenant has as many connections as it
// may: one that is refused stays within them until it is ended.
func (c *conn) authenticated() {
	// One that may sign on yet is counted when it is known that it does not (taken).
	if c.auth != nil || len(c.l.cfg.Mechanisms) == 0 {
		if c.owned(); c.refused != nil {
			return
		}
	}
	if c.auth != nil {
		if c.auth.finalized {
			return
		}
		c.auth.finalized = true
	}
	c.frames.SetMax(int(c.g.cfg.MaxRequestBytes))
	if c.patience != nil {
		c.patience.Stop()
	}
	c.g.mu.Lock()
	c.g.letIn(c)
	c.g.mu.Unlock()
}

// letIn takes a connection out of those that are not authenticated. Needs g.mu.
func (g *Gateway) letIn(c *conn) {
	if !c.unknown {
		return
	}
	c.unknown = false
	g.unknown--
	from := origin(c.host)
	delete(g.unknownFrom[from], c)
	if len(g.unknownFrom[from]) == 0 {
		delete(g.unknownFrom, from)
	}
}

// strange counts a connection as one that is not authenticated. Needs g.mu.
func (g *Gateway) strange(c *conn) {
	from := origin(c.host)
	if g.unknownFrom[from] == nil {
		g.unknownFrom[from] = map[*conn]struct{}{}
	}
	c.unknown = true
	g.unknown++
	g.unknownFrom[from][c] = struct{}{}
}

// yields takes the place of a connection that is not authenticated from the address that has most of them, for one of
// an address that has fewer also afterwards: so few addresses cannot keep all others out, whatever they hold their
// places by, and two of as many do not drive each other out. It is nil where there is none. The caller ends what it
// gets, without the lock. Needs g.mu.
func (g *Gateway) yields(to netip.Prefix) *conn {
	var most map[*conn]struct{}
	for _, of := range g.unknownFrom {
		if len(of) > len(most) {
			most = of
		}
	}
	if len(most) <= len(g.unknownFrom[to])+1 {
		return nil
	}
	for c := range most { // any
		g.letIn(c)
		return c
	}
	return nil
}

// rawToken takes a frame that is a token and nothing else, as version 0 of
// SaslHandshake has it. A failure has no answer.
func (c *conn) rawToken(frame *wire.Buffer, start time.Time) error {
	defer frame.Release()
	a := c.auth
	a.requests++
	a.bytes += len(frame.B)
	if (a.requests > preAuthRequests || a.bytes > preAuthBytes) && !a.finalized {
		return errAuthEffort
	}
	answer, err := c.step(frame.B, start)
	if err != nil {
		return fmt.Errorf("%w: %w", errAuthentication, err)
	}
	if a.phase == phaseDone {
		a.raw = false
	}
	// The last answer of OAUTHBEARER and PLAIN is empty, and sent all the same.
	out := []byte{byte(len(answer) >> 24), byte(len(answer) >> 16), byte(len(answer) >> 8), byte(len(answer))}
	if err := c.write(append(out, answer...)); err != nil {
		return err
	}
	return c.refused
}

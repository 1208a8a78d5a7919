package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	client "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

var mechanisms = []string{sasl.ScramSHA256, sasl.ScramSHA512, sasl.Plain}

// secure gives the fleet a listener of its own kind, a server of SASL and quick delays.
func secure(s Security) fleetOption {
	return func(c *fleetConfig) {
		c.sasl = sasl.NewServer(sasl.Options{Secret: []byte("test"), Derivations: 2})
		c.listeners = []ListenerConfig{{Name: "SECURE", Bind: "127.0.0.1:0", Security: s}}
		if c.config.FailedAuthDelay == 0 {
			c.config.FailedAuthDelay, c.config.MaxFailedAuthDelay = time.Millisecond, 2*time.Millisecond
		}
	}
}

// user makes a user with a password, and waits until the gateways know it.
func (f *fleet) user(tenant, name, password string) catalog.User {
	f.tb.Helper()
	u := catalog.User{Tenant: tenant, Name: name, Credentials: map[string]catalog.Scram{}}
	if old, err := f.cat.User(f.tb.Context(), tenant, name); err == nil {
		u.Revision, u.CreatedAt = old.Revision, old.CreatedAt
	}
	for _, m := range []string{sasl.ScramSHA256, sasl.ScramSHA512} {
		c, err := sasl.NewCredential(m, password, sasl.MinIterations)
		if err != nil {
			f.tb.Fatal(err)
		}
		u.Credentials[m] = c
	}
	u, err := f.cat.PutUser(f.tb.Context(), u)
	if err != nil {
		f.tb.Fatal(err)
	}
	f.watchUntil(func(s *catalog.Snapshot) bool {
		known := s.User(tenant, name)
		return known != nil && known.Revision == u.Revision
	})
	return u
}

// signOn goes through handshake and exchange, and returns the last answer.
func (r *raw) signOn(m client.Mechanism) *kmsg.SASLAuthenticateResponse {
	r.tb.Helper()
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Mechanism = m.Name()
	if resp := do[*kmsg.SASLHandshakeResponse](r, 1, hello); resp.ErrorCode != 0 {
		r.tb.Fatalf("handshake: %v", wire.Code(resp.ErrorCode))
	}
	session, message, err := m.Authenticate(r.tb.Context(), "")
	if err != nil {
		r.tb.Fatal(err)
	}
	for {
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.SASLAuthBytes = message
		resp := do[*kmsg.SASLAuthenticateResponse](r, 2, req)
		if resp.ErrorCode != 0 {
			return resp
		}
		done, next, err := session.Challenge(resp.SASLAuthBytes)
		if err != nil {
			r.tb.Fatal(err)
		}
		if done {
			return resp
		}
		message = next
	}
}

func as(name, password string) client.Mechanism {
	return scram.Auth{User: name, Pass: password}.AsSha256Mechanism()
}

// metadata asks for something that needs rights.
func (r *raw) metadata() *kmsg.MetadataResponse {
	r.tb.Helper()
	return do[*kmsg.MetadataResponse](r, 9, kmsg.NewPtrMetadataRequest())
}

// Before authentication a connection is answered ApiVersions, once, and what
// authentication needs; anything else ends it, as it does a broker's.
func TestNothingBeforeAuthentication(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	f.user(catalog.DefaultTenant, "alice", "secret")
	hello := func(mechanism string) *kmsg.SASLHandshakeRequest {
		h := kmsg.NewPtrSASLHandshakeRequest()
		h.SetVersion(1)
		h.Mechanism = mechanism
		return h
	}
	token := kmsg.NewPtrSASLAuthenticateRequest()
	token.SASLAuthBytes = []byte("\x00alice\x00secret")
	versions, metadata := kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrMetadataRequest()
	metadata.SetVersion(9)
	for name, c := range map[string]struct {
		answered []kmsg.Request
		ends     kmsg.Request // unanswered
	}{
		"metadata at once":                {nil, metadata},
		"metadata after ApiVersions":      {[]kmsg.Request{versions}, metadata},
		"ApiVersions twice":               {[]kmsg.Request{versions}, versions},
		"a token at once":                 {nil, token},
		"metadata after the handshake":    {[]kmsg.Request{versions, hello("PLAIN")}, metadata},
		"ApiVersions after the handshake": {[]kmsg.Request{hello("PLAIN")}, versions},
		"another handshake":               {[]kmsg.Request{hello("PLAIN")}, hello("PLAIN")},
		"a produce":                       {[]kmsg.Request{versions}, withVersion(produceRequest("t", [16]byte{}, 1, nil), 9)},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.raw()
			r.tb = t
			for _, req := range c.answered {
				r.receive(req, r.send(req))
			}
			r.send(c.ends)
			r.closed()
		})
	}
	t.Run("the right order", func(t *testing.T) {
		r := f.raw()
		r.tb = t
		r.receive(versions, r.send(versions))
		if resp := r.signOn(as("alice", "secret")); resp.ErrorCode != 0 || resp.SessionLifetimeMillis != 0 {
			t.Fatalf("%+v", resp)
		}
		r.metadata()
		// A session without an end is not renewed.
		if resp := do[*kmsg.SASLHandshakeResponse](r, 1, hello("PLAIN")); wire.Code(resp.ErrorCode) != wire.IllegalSASLState {
			t.Errorf("%v", wire.Code(resp.ErrorCode))
		}
		if resp := do[*kmsg.SASLAuthenticateResponse](r, 2, token); wire.Code(resp.ErrorCode) != wire.IllegalSASLState {
			t.Errorf("%v", wire.Code(resp.ErrorCode))
		}
		r.metadata()
	})
	t.Run("an unknown mechanism", func(t *testing.T) {
		r := f.raw()
		r.tb = t
		resp := do[*kmsg.SASLHandshakeResponse](r, 1, hello("GSSAPI"))
		if wire.Code(resp.ErrorCode) != wire.UnsupportedSASLMechanism || strings.Join(resp.SupportedMechanisms, " ") != strings.Join(mechanisms, " ") {
			t.Errorf("%+v", resp)
		}
		r.closed()
	})
}

func withVersion[R kmsg.Request](r R, v int16) R {
	r.SetVersion(v)
	return r
}

// Whatever is wrong, a client hears the same of a user who is there and of one
// who is not, by PLAIN and by SCRAM.
func TestFailuresTellNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	f.user(catalog.DefaultTenant, "alice", "secret")
	for _, mechanism := range mechanisms {
		said := map[string]bool{}
		for _, name := range []string{"alice", "nobody", "alice@default", "alice@nowhere", "nobody@default"} {
			var m client.Mechanism
			switch mechanism {
			case sasl.Plain:
				m = plain.Auth{User: name, Pass: "wrong"}.AsMechanism()
			case sasl.ScramSHA256:
				m = scram.Auth{User: name, Pass: "wrong"}.AsSha256Mechanism()
			default:
				m = scram.Auth{User: name, Pass: "wrong"}.AsSha512Mechanism()
			}
			r := f.raw()
			resp := r.signOn(m)
			if wire.Code(resp.ErrorCode) != wire.SASLAuthenticationFailed || resp.ErrorMessage == nil || len(resp.SASLAuthBytes) > 0 {
				t.Fatalf("%s %s: %+v", mechanism, name, resp)
			}
			said[*resp.ErrorMessage] = true
			r.closed()
		}
		if len(said) != 1 {
			t.Errorf("%s: %v", mechanism, said)
		}
	}
}

// Version 0 of the handshake is followed by tokens without a header (KIP-43), as
// Apache Kafka 4 still has it.
func TestRawTokens(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	f.user(catalog.DefaultTenant, "alice", "secret")
	begin := func() *raw {
		r := f.raw()
		hello := kmsg.NewPtrSASLHandshakeRequest()
		hello.Mechanism = sasl.Plain
		if resp := do[*kmsg.SASLHandshakeResponse](r, 0, hello); resp.ErrorCode != 0 {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
		return r
	}
	r := begin()
	r.write(framed([]byte("\x00alice\x00secret")))
	if b, err := r.frame(); err != nil || len(b) != 0 {
		t.Fatalf("%q, %v", b, err)
	}
	r.metadata()
	r = begin()
	r.write(framed([]byte("\x00alice\x00wrong")))
	r.closed()
}

// A listener that lets everybody in takes those who sign on too, before their
// first other request.
func TestSigningOnIsOptional(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms}))
	f.user(catalog.DefaultTenant, "alice", "secret")
	f.topic("t", 1)
	r := f.raw()
	do[*kmsg.ApiVersionsResponse](r, 0, kmsg.NewPtrApiVersionsRequest())
	if resp := r.signOn(as("alice", "secret")); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	r.metadata()
	late := f.raw()
	late.metadata()
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Mechanism = sasl.Plain
	if resp := do[*kmsg.SASLHandshakeResponse](late, 1, hello); wire.Code(resp.ErrorCode) != wire.IllegalSASLState {
		t.Errorf("%v", wire.Code(resp.ErrorCode))
	}
	begun := f.raw()
	do[*kmsg.SASLHandshakeResponse](begun, 1, hello)
	metadata := withVersion(kmsg.NewPtrMetadataRequest(), 9)
	begun.send(metadata)
	begun.closed()
	wrong := f.raw()
	if resp := wrong.signOn(as("alice", "no")); wire.Code(resp.ErrorCode) != wire.SASLAuthenticationFailed {
		t.Errorf("%v", wire.Code(resp.ErrorCode))
	}
	wrong.closed()
}

// Sessions end with the user, with the credential that it signed on with, and with the tenant.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	acme, err := f.cat.CreateTenant(t.Context(), catalog.Tenant{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return s.Tenant("acme") != nil })
	for _, name := range []string{"removed", "rotated", "stays"} {
		f.user(catalog.DefaultTenant, name, "secret")
	}
	f.user("acme", "tenant", "secret")
	on := map[string]*raw{}
	for _, name := range []string{"removed", "rotated", "stays", "tenant"} {
		on[name] = f.raw()
		if resp := on[name].signOn(as(name, "secret")); resp.ErrorCode != 0 {
			t.Fatalf("%s: %v", name, wire.Code(resp.ErrorCode))
		}
		on[name].metadata()
	}
	if err := f.cat.DeleteUser(t.Context(), catalog.DefaultTenant, "removed", -1); err != nil {
		t.Fatal(err)
	}
	on["removed"].closed()
	f.user(catalog.DefaultTenant, "rotated", "other")
	on["rotated"].closed()
	// Another user of the tenant, and another credential of one's own, are no reason.
	u, err := f.cat.User(t.Context(), catalog.DefaultTenant, "stays")
	if err != nil {
		t.Fatal(err)
	}
	delete(u.Credentials, sasl.ScramSHA512)
	if _, err := f.cat.PutUser(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	acme.State = "deleting"
	if _, err := f.cat.UpdateTenant(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	on["tenant"].closed()
	on["stays"].metadata()
	if resp := f.raw().signOn(as("tenant", "secret")); wire.Code(resp.ErrorCode) != wire.SASLAuthenticationFailed {
		t.Errorf("in a tenant that goes: %v", wire.Code(resp.ErrorCode))
	}
}

// KIP-368: a session has an end, which its client can put off.
func TestSessionsAreRenewed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) { c.MaxReauth = time.Hour }))
	f.user(catalog.DefaultTenant, "alice", "secret")
	f.user(catalog.DefaultTenant, "bob", "secret")
	begin := func() *raw {
		r := f.raw()
		resp := r.signOn(as("alice", "secret"))
		if resp.ErrorCode != 0 || resp.SessionLifetimeMillis < 3_500_000 || resp.SessionLifetimeMillis > 3_600_000 {
			t.Fatalf("%+v", resp)
		}
		r.metadata()
		return r
	}
	r := begin()
	if resp := r.signOn(as("alice", "secret")); resp.ErrorCode != 0 {
		t.Fatal(*resp.ErrorMessage)
	}
	r.metadata()

	r = begin()
	if resp := r.signOn(as("bob", "secret")); wire.Code(resp.ErrorCode) != wire.SASLAuthenticationFailed || !strings.Contains(*resp.ErrorMessage, "Cannot change principals") {
		t.Errorf("as another: %+v", resp)
	}
	r.closed()
	r = begin()
	if resp := r.signOn(scram.Auth{User: "alice", Pass: "secret"}.AsSha512Mechanism()); wire.Code(resp.ErrorCode) != wire.SASLAuthenticationFailed || !strings.Contains(*resp.ErrorMessage, "not supported for re-authentication") {
		t.Errorf("by another mechanism: %+v", resp)
	}
	r.closed()
	r = begin()
	if resp := r.signOn(as("alice", "wrong")); wire.Code(resp.ErrorCode) != wire.SASLAuthenticationFailed {
		t.Errorf("with another password: %+v", resp)
	}
	r.closed()
}

func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) { c.MaxReauth = 50 * time.Millisecond }))
	f.user(catalog.DefaultTenant, "alice", "secret")
	r := f.raw()
	r.signOn(as("alice", "secret"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := r.frame(); err != nil {
				return
			}
		}
	}()
	// A request at a time until one meets the end; none is served past it.
	eventually(t, func() error {
		select {
		case <-ended:
			return nil
		default:
		}
		if _, err := r.nc.Write(wire.AppendRequest(nil, 1, nil, withVersion(kmsg.NewPtrMetadataRequest(), 9))); err != nil {
			<-ended
			return nil
		}
		return errors.New("the session goes on")
	})
}

// What a connection may send before it is authenticated is little, and takes
// little: time, bytes, requests, connections.
func TestLimitsBeforeAuthentication(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) {
		c.AuthTimeout, c.MaxUnauthenticatedPerIP = 5*time.Minute, 3
	}))
	f.user(catalog.DefaultTenant, "alice", "secret")
	t.Run("frame", func(t *testing.T) {
		r := f.raw()
		r.tb = t
		r.write(binary.BigEndian.AppendUint32(nil, preAuthFrame+1))
		r.closed()
	})
	t.Run("connections", func(t *testing.T) {
		waitForConnections(t, f.gateways[0], 0)
		var held []*raw
		for range 3 {
			r := f.raw()
			r.tb = t
			do[*kmsg.ApiVersionsResponse](r, 0, kmsg.NewPtrApiVersionsRequest())
			held = append(held, r)
		}
		more := f.raw()
		more.tb = t
		more.closed()
		// One that is authenticated gives its place back.
		if resp := held[0].signOn(as("alice", "secret")); resp.ErrorCode != 0 {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
		more = f.raw()
		more.tb = t
		do[*kmsg.ApiVersionsResponse](more, 0, kmsg.NewPtrApiVersionsRequest())
		for _, r := range append(held, more) {
			if err := r.nc.Close(); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, func() error {
			g := f.gateways[0]
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.unknown != 0 || len(g.unknownFrom) != 0 {
				return fmt.Errorf("%d, %v", g.unknown, g.unknownFrom)
			}
			return nil
		})
	})
	short := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) { c.AuthTimeout = 100 * time.Millisecond }))
	short.raw().closed()
}

// An ApiVersions that the gateway does not know is answered, and counts as much as another.
// Whoever takes all places before authentication, and keeps them, loses one to each address that has fewer; of the
// same address nobody more is let in.
func TestOneAddressDoesNotKeepOthersOut(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) {
		c.AuthTimeout, c.HandshakeTimeout, c.IdleTimeout = 10*time.Minute, 10*time.Minute, 10*time.Minute
		c.MaxUnauthenticated, c.MaxUnauthenticatedPerIP = 4, 4
		c.FailedAuthDelay, c.MaxFailedAuthDelay = 10*time.Minute, 10*time.Minute
	}))
	f.user(catalog.DefaultTenant, "alice", "secret")
	g := f.gateways[0]
	holds := func(want int) {
		t.Helper()
		eventually(t, func() error {
			g.mu.Lock()
			defer g.mu.Unlock()
			if n := len(g.unknownFrom[origin("127.0.0.1")]); n != want || g.unknown != want {
				return fmt.Errorf("%d of the address, %d in all", n, g.unknown)
			}
			return nil
		})
	}
	holds(0)
	for range 4 { // a wrong password, whose answer is waited for
		guesses(f.raw())
	}
	holds(4)
	f.raw().closed()
	for range 3 {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		nc, err := from.DialContext(t.Context(), "tcp", f.addr(0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		r := &raw{tb: t, f: f, nc: nc}
		r.patient()
		if resp := r.signOn(as("alice", "secret")); resp.ErrorCode != 0 {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
		holds(3)
	}
}

func TestUnknownVersionsBeforeAuthenticationAreCounted(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	r := f.raw()
	for range preAuthRequests {
		r.write(unknownVersions())
		if _, err := r.frame(); err != nil {
			t.Fatal(err)
		}
	}
	r.write(unknownVersions())
	r.closed()
}

// unknownVersions is an ApiVersions request of a version to come.
func unknownVersions() []byte {
	b := appendRequest(1, withVersion(kmsg.NewPtrApiVersionsRequest(), 3)) // whose header is that of those to come
	binary.BigEndian.PutUint16(b[6:], 99)
	return b
}

// Many wrong guesses do not keep the user out, from the same address either.
func TestGuessesDoNotLockOut(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) {
		c.FailedAuthDelay, c.MaxFailedAuthDelay, c.AuthTimeout = time.Millisecond, time.Hour, time.Hour
	}))
	f.user(catalog.DefaultTenant, "alice", "secret")
	g := f.gateways[0]
	for range 30 {
		g.penalties.failed(origin("127.0.0.1"), "alice", time.Now())
	}
	// These guesses are answered in an hour. A guesser who fills the delay of the
	// address keeps nobody out either.
	guess := func() {
		c := f.raw()
		hello := kmsg.NewPtrSASLHandshakeRequest()
		hello.Mechanism = sasl.Plain
		do[*kmsg.SASLHandshakeResponse](c, 1, hello)
		token := withVersion(kmsg.NewPtrSASLAuthenticateRequest(), 2)
		token.SASLAuthBytes = []byte("\x00alice\x00wrong")
		c.send(token)
	}
	delayed := func(want int) {
		t.Helper()
		eventually(t, func() error {
			g.penalties.mu.Lock()
			defer g.penalties.mu.Unlock()
			for _, n := range g.penalties.delayed {
				if n >= want {
					return nil
				}
			}
			return errors.New("too few are delayed")
		})
	}
	guess()
	delayed(1)
	if resp := f.raw().signOn(as("alice", "secret")); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	for range maxDelayed + 5 {
		guess()
	}
	delayed(maxDelayed + 6)
	for range 3 {
		if resp := f.raw().signOn(as("alice", "secret")); resp.ErrorCode != 0 {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
	}
}

func TestUserScramCredentials(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms}))
	adm := kadm.NewClient(f.client())
	ctx := t.Context()
	up := func(name string, m kadm.ScramMechanism, password string) kadm.UpsertSCRAM {
		return kadm.UpsertSCRAM{User: name, Mechanism: m, Iterations: 8192, Password: password}
	}
	res, err := adm.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{up("alice", kadm.ScramSha256, "one"), up("alice", kadm.ScramSha512, "two"), up("bob", kadm.ScramSha512, "three")})
	if err != nil || res.Error() != nil {
		t.Fatal(err, res.Error())
	}
	for name, m := range map[string]client.Mechanism{
		"256": as("alice", "one"), "512": scram.Auth{User: "alice", Pass: "two"}.AsSha512Mechanism(), "bob": scram.Auth{User: "bob", Pass: "three"}.AsSha512Mechanism(),
		"plain": plain.Auth{User: "bob", Pass: "three"}.AsMechanism(),
	} {
		if resp := f.raw().signOn(m); resp.ErrorCode != 0 {
			t.Errorf("%s: %v", name, wire.Code(resp.ErrorCode))
		}
	}
	all, err := adm.DescribeUserSCRAMs(ctx)
	if err != nil || len(all) != 2 || len(all["alice"].CredInfos) != 2 || all["alice"].CredInfos[0].Iterations != 8192 || len(all["bob"].CredInfos) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if res, err = adm.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "alice", Mechanism: kadm.ScramSha256}, {User: "bob", Mechanism: kadm.ScramSha512}}, nil); err != nil || res.Error() != nil {
		t.Fatal(err, res.Error())
	}
	if all, err = adm.DescribeUserSCRAMs(ctx); err != nil || len(all) != 1 || len(all["alice"].CredInfos) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if resp := f.raw().signOn(as("alice", "one")); wire.Code(resp.ErrorCode) != wire.SASLAuthenticationFailed {
		t.Error(wire.Code(resp.ErrorCode))
	}
}

// Super users do not take away the last of themselves, nor all of them in one request.
func TestTheLastAdminKeepsItsPassword(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms}))
	ctx := t.Context()
	for _, name := range []string{"gina", "hugo", "app"} {
		f.user(catalog.DefaultTenant, name, "secret")
	}
	rec, err := f.cat.Tenant(ctx, catalog.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	rec.SuperUsers = []string{"User:ANONYMOUS", "User:gina", "User:hugo"}
	if _, err := f.cat.UpdateTenant(ctx, rec); err != nil {
		t.Fatal(err)
	}
	if _, err := f.watcher.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(f.client())
	remove := func(names ...string) map[string]wire.Code {
		t.Helper()
		var all []kadm.DeleteSCRAM
		for _, name := range names {
			for m := range f.watcher.Snapshot().User(catalog.DefaultTenant, name).Credentials {
				of := kadm.ScramSha256
				if m == sasl.ScramSHA512 {
					of = kadm.ScramSha512
				}
				all = append(all, kadm.DeleteSCRAM{User: name, Mechanism: of})
			}
		}
		res, err := adm.AlterUserSCRAMs(ctx, all, nil)
		if err != nil {
			t.Fatal(err)
		}
		codes := map[string]wire.Code{}
		for name, r := range res {
			if r.Err != nil {
				codes[name] = wire.Code(r.Err.(*kerr.Error).Code)
			}
		}
		return codes
	}
	if got := remove("gina", "hugo", "app"); got["gina"] != wire.PolicyViolation || got["hugo"] != wire.PolicyViolation || got["app"] != wire.None {
		t.Error(got)
	}
	if got := remove("gina"); got["gina"] != wire.None {
		t.Error(got)
	}
	if got := remove("hugo"); got["hugo"] != wire.PolicyViolation {
		t.Error(got)
	}
}

// Names that cannot be told from others, and more users than there may be, are
// refused; the others of the same request are made.
func TestUsersOfBadNames(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms}), withConfig(func(c *Config) { c.MaxUsers = 3 }))
	adm := kadm.NewClient(f.client())
	up := func(names ...string) (codes []wire.Code) {
		t.Helper()
		var list []kadm.UpsertSCRAM
		for _, name := range names {
			list = append(list, kadm.UpsertSCRAM{User: name, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "secret"})
		}
		res, err := adm.AlterUserSCRAMs(t.Context(), nil, list)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			code := wire.None
			var ke *kerr.Error
			if errors.As(res[name].Err, &ke) {
				code = wire.Code(ke.Code)
			}
			codes = append(codes, code)
		}
		return codes
	}
	if got := up("alice", "alice\u200b", "\u202eecila", "al\x01ice", strings.Repeat("x", 10<<10), "ANONYMOUS", "*", " alice"); got[0] != wire.None ||
		slices.ContainsFunc(got[1:], func(c wire.Code) bool { return c != wire.UnacceptableCredential }) {
		t.Errorf("%v", got)
	}
	made := 0
	for _, code := range up("b1", "b2", "b3", "b4") {
		switch code {
		case wire.None:
			made++
		case wire.UnacceptableCredential:
		default:
			t.Error(code)
		}
	}
	if made != 2 {
		t.Errorf("%d were made besides alice", made)
	}
	if got := up("alice"); got[0] != wire.None {
		t.Errorf("a user who is there: %v", got)
	}
	if got := up("eve"); got[0] != wire.UnacceptableCredential {
		t.Errorf("one more: %v", got)
	}
}

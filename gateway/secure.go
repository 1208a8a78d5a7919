package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/braidstream/braid/tenant"
)

// Security says who is let in by a listener, and how. The zero value is plain
// TCP that lets everybody in, as nobody, to the default tenant.
type Security struct {
	TLS *TLSFiles // nil: plain TCP
	// Mechanisms of SASL that clients may sign on with; none means no SASL.
	Mechanisms []string
	// Demand keeps those out who sign on neither by SASL nor by a certificate.
	Demand bool
	// Tenant is that of all who come in; "" leaves it to the user's name, and is
	// the default tenant for those who have none.
	Tenant string
	// ServerNames is a domain; the first label before it in the server name that a
	// client asks for by TLS (SNI) is the tenant, as in acme.kafka.example.com and
	// acme.gateway-7.kafka.example.com. Advertised names in the domain are told to
	// such a client with the tenant's before them.
	ServerNames string
	// Mapping makes principals of certificates; nil: the subject.
	Mapping *tenant.Mapping
}

// TLSFiles are PEM files. They are read again when they change.
type TLSFiles struct {
	Cert string // chain, the server's own first
	Key  string // readable by its owner alone
	// ClientCA signs the certificates of clients; "" asks clients for none.
	ClientCA string
	// ClientOptional lets clients in without a certificate too.
	ClientOptional bool
	// ClientCRL holds lists of revoked certificates of clients, signed by authorities of ClientCA; "": none is revoked.
	ClientCRL string
}

// Protocol is what Kafka calls it: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
// Where signing on is the client's choice, it is the one without.
func (s *Security) Protocol() string {
	p := "PLAINTEXT"
	if s.TLS != nil {
		p = "SSL"
	}
	if s.Demand && len(s.Mechanisms) > 0 {
		p = "SASL_" + p
	}
	return p
}

func (s *Security) validate(name string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("listener %s: "+format, append([]any{name}, args...)...)
	}
	if s.TLS == nil && (s.ServerNames != "" || s.Mapping != nil) {
		return bad("server names and mapping rules need TLS")
	}
	if s.TLS != nil && (s.TLS.Cert == "" || s.TLS.Key == "") {
		return bad("TLS needs a certificate and a key")
	}
	if s.Mapping != nil && s.TLS.ClientCA == "" {
		return bad("mapping rules need certificates of clients (client CA)")
	}
	if s.TLS != nil && s.TLS.ClientCRL != "" && s.TLS.ClientCA == "" {
		return bad("revoked certificates are those of a client CA")
	}
	if s.Demand && len(s.Mechanisms) == 0 && (s.TLS == nil || s.TLS.ClientCA == "" || s.TLS.ClientOptional) {
		return bad("authentication is demanded, and there is no way to authenticate")
	}
	return nil
}

// certificates keep a listener's TLS configuration as its files have it.
// Connections that stand keep what they were made with.
type certificates struct {
	files   TLSFiles
	current atomic.Pointer[tls.Config]
	stamp   string // of the files as they were read; only load uses it
	expires atomic.Int64
	refused atomic.Pointer[string] // why the files as they are now were not taken; nil if they were
	revoked atomic.Pointer[revocations]
}

// revokes tells whether a connection that stands was let in by a certificate that is revoked by now.
func (c *certificates) revokes(chains [][]*x509.Certificate) bool {
	if len(chains) == 0 {
		return false
	}
	r := c.revoked.Load()
	return r != nil && errors.Is(r.check(chains, time.Time{}), errRevokedCertificate)
}

// load reads the files if they changed. With an error the former ones stay.
func (c *certificates) load() (changed bool, err error) {
	stamp, err := c.stat()
	if err != nil {
		return false, err
	}
	if stamp == c.stamp {
		return false, nil
	}
	cert, err := os.ReadFile(c.files.Cert)
	if err != nil {
		return false, err
	}
	key, err := os.ReadFile(c.files.Key)
	if err != nil {
		return false, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		// What is wrong, never the key.
		return false, fmt.Errorf("%s and %s: %w", c.files.Cert, c.files.Key, err)
	}
	if err := serves(pair.Leaf, time.Now()); err != nil {
		return false, fmt.Errorf("%s: %w", c.files.Cert, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if c.files.ClientCA != "" {
		pem, err := os.ReadFile(c.files.ClientCA)
		if err != nil {
			return false, err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return false, fmt.Errorf("%s holds no PEM certificate", c.files.ClientCA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if c.files.ClientOptional {
			config.ClientAuth = tls.VerifyClientCertIfGiven
		}
		// A ticket would let a client in again whose CA is no longer ours.
		config.SessionTicketsDisabled = true
		var lists revocations
		if c.files.ClientCRL != "" {
			if lists, err = loadRevocations(c.files.ClientCRL, pem, time.Now()); err != nil {
				return false, err
			}
			config.VerifyPeerCertificate = func(_ [][]byte, chains [][]*x509.Certificate) error { return lists.check(chains, time.Now()) }
		}
		c.revoked.Store(&lists)
	}
	c.stamp = stamp
	c.expires.Store(pair.Leaf.NotAfter.Unix())
	c.current.Store(config)
	return true, nil
}

// serves tells why no client would take a certificate from a server now, whichever
// authorities it trusts.
func serves(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate has expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 &&
		!slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("the certificate is not for servers: its extended key usage has no serverAuth")
	}
	return nil
}

func (c *certificates) stat() (string, error) {
	var b strings.Builder
	for _, path := range []string{c.files.Cert, c.files.Key, c.files.ClientCA, c.files.ClientCRL} {
		if path == "" {
			continue
		}
		st, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		if path == c.files.Key && st.Mode().Perm()&0o077 != 0 {
			return "", fmt.Errorf("%s has mode %#o: only its owner may read a key (chmod 600)", path, st.Mode().Perm())
		}
		most := int64(maxPEM)
		if path == c.files.ClientCRL {
			most = maxRevocations
		}
		if st.Size() > most {
			return "", fmt.Errorf("%s has %d bytes: too large for certificates", path, st.Size())
		}
		inode := uint64(0)
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			inode = sys.Ino
		}
		fmt.Fprintf(&b, "%s %d %d %d\n", path, st.Size(), st.ModTime().UnixNano(), inode)
	}
	return b.String(), nil
}

const maxPEM = 4 << 20

// certificatesEvery is how often the files are looked at.
const certificatesEvery = 2 * time.Second

// keepCertificates reads files again as they change, until the gateway ends, and tells those who ask for the status
// what became of it.
func (g *Gateway) keepCertificates() {
	tick := time.NewTicker(certificatesEvery)
	defer tick.Stop()
	told := map[string]string{}
	for {
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		refused := map[string]string{}
		for _, l := range g.listeners {
			if l.certs == nil {
				continue
			}
			if l.certs.again(l.cfg.Name, g.log) {
				g.revoke() // who was let in by what is revoked now
			}
			if why := l.certs.why(); why != "" {
				refused[l.cfg.Name] = why
			}
		}
		if g.opts.Refused == nil || maps.Equal(refused, told) {
			continue
		}
		ctx, cancel := context.WithTimeout(g.ctx, g.cfg.RequestTimeout)
		err := g.opts.Refused(ctx, refused)
		cancel()
		if err != nil {
			g.log.Debug("refused certificates were not told of, tried again", "err", err)
			continue
		}
		told = refused
	}
}

// secured is a TLS connection whose end does not wait for a client that takes
// nothing: crypto/tls gives its farewell five seconds.
type secured struct {
	*tls.Conn
	under *patient
}

type patient struct {
	net.Conn
	closing atomic.Bool
	signing *signing // during the handshake, of the goroutine that shakes hands
}

func (p *patient) Read(b []byte) (int, error) {
	if p.signing != nil {
		return p.signing.read(p.Conn.Read, b)
	}
	return p.Conn.Read(b)
}

func (p *patient) SetWriteDeadline(t time.Time) error {
	if p.closing.Load() {
		t = time.Now().Add(farewell)
	}
	return p.Conn.SetWriteDeadline(t)
}

const farewell = 100 * time.Millisecond

func (s *secured) Close() error {
	s.under.closing.Store(true)
	err := s.Conn.Close()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil // no farewell for a client that takes nothing
	}
	return err
}

func (l *listener) secure(nc net.Conn) net.Conn {
	if l.certs == nil {
		return nc
	}
	under := &patient{Conn: nc}
	return &secured{Conn: tls.Server(under, l.certs.current.Load()), under: under}
}

var errHandshake = errors.New("TLS handshake failed")

// handshake ends TLS's, and finds out what it says of the client: the tenant by
// the server's name, the principal by a certificate.
func (c *conn) handshake() error {
	s, ok := c.nc.(*secured)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.g.cfg.HandshakeTimeout)
	defer cancel()
	s.under.signing = &signing{g: c.g, ctx: ctx, from: origin(c.host)}
	err := s.HandshakeContext(ctx)
	s.under.signing.pass.Leave(0)
	s.under.signing = nil
	if err != nil {
		c.g.metrics.authentications.WithLabelValues(c.l.cfg.Name, "TLS", "failed").Inc()
		if c.l.cfg.TLS.ClientCA != "" && !quietEnd(err) { // else it is nobody who wants to be known
			c.wasUnknown("TLS", "", err.Error())
		}
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	state := s.ConnectionState()
	cfg := &c.l.cfg.Security
	if label, ok := strings.CutSuffix(strings.ToLower(state.ServerName), "."+strings.ToLower(cfg.ServerNames)); ok && cfg.ServerNames != "" && label != "" {
		label, _, _ = strings.Cut(label, ".") // acme.gateway-7 is acme's too
		c.label = label
		if c.only == "" || c.only == label {
			c.only = label
		} else {
			c.only = noTenant
		}
	}
	if len(state.PeerCertificates) == 0 {
		return c.letInUnasked()
	}
	c.chains = state.VerifiedChains
	subject, err := tenant.Subject(state.PeerCertificates[0].RawSubject)
	if err != nil {
		return fmt.Errorf("%w: %w", errAuthentication, err)
	}
	name, ok := subject, true
	if cfg.Mapping != nil {
		name, ok = cfg.Mapping.Name(subject)
	}
	if !ok {
		c.wasUnknown("TLS", subject, "no mapping rule matches")
		return fmt.Errorf("%w: no mapping rule matches %.200q", errAuthentication, subject)
	}
	if c.auth != nil {
		return nil // SASL says who it is
	}
	of, principal, ok := c.reach().Mapped(name)
	if !ok {
		c.wasUnknown("TLS", subject, "of no tenant")
		return fmt.Errorf("%w: certificate of %.200q is of no tenant", errAuthentication, subject)
	}
	c.rulesAt = nil
	c.tenant, c.principal = of, tenant.Principal{Type: "User", Name: principal}
	c.standing.Store(&standing{tenant: of})
	c.g.metrics.authentications.WithLabelValues(c.l.cfg.Name, "TLS", "succeeded").Inc()
	c.authenticated()
	if !c.stands() {
		return errRevoked
	}
	return nil
}

// noTenant is the name of no tenant.
const noTenant = "\x00"

// letInUnasked serves a client that has not said who it is, where that is
// allowed.
func (c *conn) letInUnasked() error {
	if c.auth != nil {
		return nil
	}
	if c.only != "" {
		c.tenant = c.only
	}
	c.standing.Store(&standing{tenant: c.tenant})
	if !c.stands() {
		return fmt.Errorf("%w: tenant %.100q is not there", errAuthentication, c.tenant)
	}
	c.authenticated()
	return nil
}

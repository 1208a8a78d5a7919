package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/tenant"
)

// dialTLS makes a connection that trusts an authority; edit changes how.
func (f *fleet) dialTLS(ca *testkit.CA, edit func(*tls.Config)) (*raw, error) {
	f.tb.Helper()
	cfg := &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}
	if edit != nil {
		edit(cfg)
	}
	d := tls.Dialer{Config: cfg, NetDialer: &net.Dialer{Timeout: 30 * time.Second}}
	nc, err := d.DialContext(f.tb.Context(), "tcp", f.gateways[0].Addrs()[0].Bound)
	if err != nil {
		return nil, err
	}
	f.tb.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		f.tb.Fatal(err)
	}
	return &raw{tb: f.tb, f: f, nc: nc}, nil
}

// served asks for the fleet's metadata, which fails where a client was let in to nothing.
func (r *raw) served() error {
	req := withVersion(kmsg.NewPtrMetadataRequest(), 9)
	r.corr++
	if _, err := r.nc.Write(appendRequest(r.corr, req)); err != nil {
		return err
	}
	_, err := r.frame()
	return err
}

func keyPair(tb testing.TB, ca *testkit.CA, cn string, edit func(*x509.Certificate)) tls.Certificate {
	tb.Helper()
	pair, err := tls.X509KeyPair(ca.Issue(tb, pkix.Name{CommonName: cn, Organization: []string{"acme"}}, edit))
	if err != nil {
		tb.Fatal(err)
	}
	return pair
}

// who is the principal and tenant of the gateway's only connection.
func (f *fleet) who() (string, error) {
	g := f.gateways[0]
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) != 1 {
		return "", fmt.Errorf("%d connections", len(g.conns))
	}
	for c := range g.conns {
		s := c.standing.Load()
		if s == nil {
			return "", errors.New("nobody yet")
		}
		return s.tenant, nil
	}
	return "", nil
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, clients, foreign := testkit.NewCA(t, "ours"), testkit.NewCA(t, "clients"), testkit.NewCA(t, "foreign")
	cert, key := ours.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	trusted := filepath.Join(dir, "clients.pem")
	testkit.WriteWhole(t, trusted, clients.PEM)
	mapping, err := tenant.ParseMapping(`RULE:^CN=(.*?)-of-(.*?),.*$/$1@$2/L`)
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key, ClientCA: trusted}, Mapping: mapping, Demand: true}))
	if _, err := f.cat.CreateTenant(t.Context(), catalog.Tenant{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return s.Tenant("acme") != nil })
	for _, c := range []struct {
		name  string
		certs []tls.Certificate
		want  string
	}{
		{"good", []tls.Certificate{keyPair(t, clients, "Alice-of-acme", nil)}, "acme"},
		{"default tenant", []tls.Certificate{keyPair(t, clients, "Alice-of-default", nil)}, "default"},
		{"no such tenant", []tls.Certificate{keyPair(t, clients, "Alice-of-none", nil)}, ""},
		{"Braid's own tenant", []tls.Certificate{keyPair(t, clients, "Alice-of-braid", nil)}, ""},
		{"no rule", []tls.Certificate{keyPair(t, clients, "Alice", nil)}, ""},
		{"none", nil, ""},
		{"another authority", []tls.Certificate{keyPair(t, foreign, "Alice-of-acme", nil)}, ""},
		{"expired", []tls.Certificate{keyPair(t, clients, "Alice-of-acme", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, ""},
		{"of a server", []tls.Certificate{keyPair(t, clients, "Alice-of-acme", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			waitForConnections(t, f.gateways[0], 0)
			// With TLS 1.3 a client learns of its refusal by the first read.
			r, err := f.dialTLS(ours, func(cfg *tls.Config) { cfg.Certificates = c.certs })
			if err == nil {
				err = r.served()
			}
			if c.want == "" {
				if err == nil {
					t.Fatal("was served")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if of, err := f.who(); err != nil || of != c.want {
				t.Errorf("%q, %v", of, err)
			}
			if err := r.nc.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A client whose certificate is refused is told by TLS's own alert why, and the log names the reason and from where it came.
func TestRefusedCertificatesSayWhy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, clients, foreign := testkit.NewCA(t, "ours"), testkit.NewCA(t, "clients"), testkit.NewCA(t, "foreign")
	cert, key := ours.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	trusted := filepath.Join(dir, "clients.pem")
	testkit.WriteWhole(t, trusted, clients.PEM)
	for _, c := range []struct {
		name  string
		certs []tls.Certificate
		alert string // RFC 8446, section 6, as the client's library has it
		log   string
	}{
		{"none", nil, "certificate required", "client didn't provide a certificate"},
		{"another authority", []tls.Certificate{keyPair(t, foreign, "alice", nil)}, "unknown certificate authority", "unknown authority"},
		{"expired", []tls.Certificate{keyPair(t, clients, "alice", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, "expired certificate", "expired"},
		{"of a server", []tls.Certificate{keyPair(t, clients, "alice", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, "bad certificate", "incompatible key usage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			book := &logBook{}
			f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key, ClientCA: trusted}, Demand: true}), func(fc *fleetConfig) { fc.logger = book.logger() })
			r, err := f.dialTLS(ours, func(cfg *tls.Config) {
				// Whatever the server says it takes, so that the certificate comes to it.
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(c.certs) == 0 {
						return &tls.Certificate{}, nil
					}
					return &c.certs[0], nil
				}
			})
			if err != nil {
				t.Fatal(err) // with TLS 1.3 it learns of it by the first read
			}
			if _, err := r.frame(); err == nil || !strings.Contains(err.Error(), "remote error: tls: "+c.alert) {
				t.Errorf("the client is told %v", err)
			}
			eventually(t, func() error {
				for line := range strings.Lines(book.String()) {
					if strings.Contains(line, r.nc.LocalAddr().String()) && strings.Contains(line, c.log) && strings.Contains(line, "TLS handshake failed") {
						return nil
					}
				}
				return fmt.Errorf("no line says %q of %s:\n%s", c.log, r.nc.LocalAddr(), book.String())
			})
		})
	}
}

// Connections of every protocol but TLS are closed, and none of TLS's own
// refusals costs another connection.
func TestTLSListenerTakesOnlyTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testkit.NewCA(t, "ours")
	cert, key := ca.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key}}))
	good, err := f.dialTLS(ca, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{
		{0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0, 0}, []byte("GET / HTTP/1.1\r\n\r\n"), {0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff}, make([]byte, 100),
	} {
		r := f.raw()
		r.write(b)
		if n, err := io.Copy(io.Discard, r.nc); n > 100 || errors.Is(err, os.ErrDeadlineExceeded) { // an alert at most
			t.Errorf("% x: %d bytes, %v", b, n, err)
		}
	}
	if _, err := f.dialTLS(testkit.NewCA(t, "another"), nil); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("a certificate of another authority: %v", err)
	}
	if _, err := f.dialTLS(ca, func(c *tls.Config) { c.ServerName = "elsewhere.example" }); !errors.As(err, new(x509.HostnameError)) {
		t.Errorf("a certificate of another host: %v", err)
	}
	later := func() time.Time { return time.Now().AddDate(100, 0, 0) }
	var invalid x509.CertificateInvalidError
	if _, err := f.dialTLS(ca, func(c *tls.Config) { c.Time = later }); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("a certificate that has expired: %v", err)
	}
	if _, err := f.dialTLS(ca, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	old, err := f.dialTLS(ca, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
	if err != nil || old.served() != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	if err := good.served(); err != nil {
		t.Error(err)
	}
}

// Certificates are read again when they change; connections that stand go on,
// and files that are no certificates change nothing.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before, after := testkit.NewCA(t, "before"), testkit.NewCA(t, "after")
	cert, key := before.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	var told atomic.Pointer[map[string]string]
	failed := false
	f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key}}), func(c *fleetConfig) {
		c.refused = func(_ context.Context, why map[string]string) error {
			if !failed { // it is told again
				failed = true
				return errors.New("the catalog is away")
			}
			told.Store(&why)
			return nil
		}
	})
	f.topic("t", 1)
	stands, err := f.dialTLS(before, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := stands.served(); err != nil {
		t.Fatal(err)
	}
	serial := func(r *raw) string {
		return r.nc.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	onDisk := func() string {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.String()
	}
	first := onDisk()
	after.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	second := onDisk()
	var fresh *raw
	until(t, func() (err error) {
		fresh, err = f.dialTLS(after, nil)
		return err
	})
	if serial(stands) != first || serial(fresh) != second || first == second {
		t.Errorf("the one that stands has %s, a new one %s; the files had %s, then %s", serial(stands), serial(fresh), first, second)
	}
	if err := errors.Join(stands.served(), fresh.served()); err != nil {
		t.Error(err)
	}
	// Who knows the former authority only is told so by its own library.
	if _, err := f.dialTLS(before, nil); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("by the former authority: %v", err)
	}
	testkit.WriteWhole(t, key, []byte("no key"))
	certs := f.gateways[0].listeners[0].certs
	until(t, func() error {
		if why := certs.why(); !strings.Contains(why, key) || strings.Contains(why, "no key") {
			return fmt.Errorf("refused: %q", why)
		}
		if why := told.Load(); why == nil || len(*why) != 1 {
			return fmt.Errorf("told: %v", why)
		}
		return nil
	})
	if _, err := (&certificates{files: certs.files}).load(); err == nil || strings.Contains(err.Error(), "no key") {
		t.Errorf("load of no key: %v", err)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (&certificates{files: certs.files}).load(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("load of a key that all may read: %v", err)
	}
	if _, err := f.dialTLS(after, nil); err != nil {
		t.Error(err)
	}
	if err := stands.served(); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
	if _, err := New(Options{Watcher: f.watcher, Logs: f.logs[0], Coordinator: &lazyCoordinator{}, Admin: f.admin, Users: f.cat, Node: 9, Config: Config{ClusterID: "x"},
		Listeners: []ListenerConfig{{Name: "X", Bind: "127.0.0.1:0", Security: Security{TLS: &certs.files}}}}); err == nil {
		t.Error("a gateway starts with a key that all may read")
	}
	// What was refused is told of until something is taken again.
	after.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	until(t, func() error {
		if why := certs.why(); why != "" {
			return errors.New(why)
		}
		if why := told.Load(); len(*why) != 0 {
			return fmt.Errorf("told: %v", *why)
		}
		return nil
	})
}

// A certificate that no client would take does not replace one that serves, and no gateway starts with it.
func TestCertificatesThatDoNotServe(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t, "ours")
	for _, c := range []struct {
		name string
		edit func(*x509.Certificate)
		want string // of the error; "" for none
	}{
		{"for clients", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "serverAuth"},
		{"expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "expired"},
		{"of tomorrow", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(12 * time.Hour) }, "not valid before"},
		{"for servers", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, ""},
		{"for anything", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, ""},
		{"of no stated use", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			cert, key := ca.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
			certs := &certificates{files: TLSFiles{Cert: cert, Key: key}}
			if changed, err := certs.load(); err != nil || !changed {
				t.Fatalf("the first: %t, %v", changed, err)
			}
			former := certs.current.Load()
			ca.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, c.edit)
			changed, err := certs.load()
			_, start := OpenCertificates(certs.files)
			if c.want == "" {
				if err != nil || start != nil || !changed || certs.current.Load() == former {
					t.Errorf("taken: %t, %v; at start: %v", changed, err, start)
				}
				return
			}
			for _, err := range []error{err, start} {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), cert) {
					t.Errorf("%v, want %q", err, c.want)
				}
			}
			if changed || certs.current.Load() != former {
				t.Error("it took the place of the one that serves")
			}
		})
	}
}

// until is eventually for what a loop of seconds has to do first.
func until(tb testing.TB, try func() error) {
	tb.Helper()
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal(err)
		}
		<-tick.C
	}
}

// The server name says the tenant, and a listener of a tenant takes no other.
func TestServerNamesAreTenants(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testkit.NewCA(t, "ours")
	cert, key := ca.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, func(c *x509.Certificate) { c.DNSNames = []string{"*.kafka.example", "*.gw.kafka.example", "localhost"} })
	f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key}, ServerNames: "kafka.example", Mechanisms: mechanisms, Demand: true}), func(c *fleetConfig) {
		c.listeners[0].Advertise = "gw.kafka.example:9094"
	})
	for _, name := range []string{"acme", "beta"} {
		if _, err := f.cat.CreateTenant(t.Context(), catalog.Tenant{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return s.Tenant("beta") != nil && s.Tenant("acme") != nil })
	f.user("acme", "alice", "of acme")
	f.user("beta", "alice", "of beta")
	for _, c := range []struct {
		server, user, password string
		ok                     bool
	}{
		{"acme.kafka.example", "alice", "of acme", true},
		{"beta.kafka.example", "alice", "of beta", true},
		{"acme.kafka.example", "alice", "of beta", false},
		{"acme.kafka.example", "alice@beta", "of beta", false},
		{"beta.gw.kafka.example", "alice", "of beta", true},
		{"none.kafka.example", "alice", "of acme", false},
		{"localhost", "alice", "of acme", true}, // who was first
		{"localhost", "alice@beta", "of beta", true},
		{"localhost", "alice", "of beta", false},
	} {
		r, err := f.dialTLS(ca, func(cfg *tls.Config) { cfg.ServerName = c.server })
		if err != nil {
			t.Fatal(err)
		}
		resp := r.signOn(as(c.user, c.password))
		if (resp.ErrorCode == 0) != c.ok {
			t.Errorf("%+v: code %d", c, resp.ErrorCode)
		}
		if resp.ErrorCode == 0 {
			// Its clients come back under the name that they came by.
			host := "gw.kafka.example"
			if c.server != "localhost" {
				of, _, _ := strings.Cut(c.server, ".")
				host = of + "." + host
			}
			if m := r.metadata(); m.Brokers[0].Host != host {
				t.Errorf("%+v: told %s", c, m.Brokers[0].Host)
			}
		}
	}
}

// A client that does not end its handshake, or takes nothing, ends with a limit.
func TestSlowHandshakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testkit.NewCA(t, "ours")
	cert, key := ca.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key}}), withConfig(func(c *Config) { c.HandshakeTimeout = 200 * time.Millisecond }))
	r := f.raw()
	r.closed()
	r = f.raw()
	r.write([]byte{0x16, 3, 1, 0, 200, 1})
	if _, err := io.Copy(io.Discard, r.nc); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// Records go in and out over TLS as they do without.
func TestProduceAndFetchOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testkit.NewCA(t, "ours")
	cert, key := ca.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key}, Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) { c.AutoCreateTopics = false }))
	f.user(catalog.DefaultTenant, "alice", "secret")
	f.topic("t", 3)
	opts := []kgo.Opt{kgo.DialTLSConfig(&tls.Config{RootCAs: ca.Pool()}), kgo.SASL(as("alice", "secret"))}
	produceN(t, f.client(opts...), "t", 3000)
	seen := consumeN(t, f.client(append(opts, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...), 3000)
	if len(seen) != 3000 {
		t.Errorf("%d records", len(seen))
	}
	wrong := f.client(append(opts[:1:1], kgo.SASL(as("alice", "wrong")), kgo.RequestRetries(0))...)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := wrong.Ping(ctx); err == nil {
		t.Error("signed on by a wrong password")
	}
}

// A certificate is good for the tenant that it names, whatever server name its client asks for.
func TestServerNamesProveNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, clients := testkit.NewCA(t, "ours"), testkit.NewCA(t, "clients")
	cert, key := ours.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, func(c *x509.Certificate) { c.DNSNames = []string{"*.kafka.example"} })
	trusted := filepath.Join(dir, "clients.pem")
	testkit.WriteWhole(t, trusted, clients.PEM)
	mapping, err := tenant.ParseMapping(`RULE:^CN=(.*?)-of-(.*?),.*$/$1@$2/L,RULE:^CN=(.*?),.*$/$1/L`)
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key, ClientCA: trusted}, ServerNames: "kafka.example", Mapping: mapping, Demand: true}))
	for _, name := range []string{"acme", "beta"} {
		if _, err := f.cat.CreateTenant(t.Context(), catalog.Tenant{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return s.Tenant("beta") != nil && s.Tenant("acme") != nil })
	for _, c := range []struct {
		cn, server string
		ok         bool
	}{
		{"alice-of-acme", "acme.kafka.example", true},
		{"alice-of-acme", "beta.kafka.example", false},
		{"alice", "beta.kafka.example", false},
	} {
		r, err := f.dialTLS(ours, func(cfg *tls.Config) {
			cfg.ServerName, cfg.Certificates = c.server, []tls.Certificate{keyPair(t, clients, c.cn, nil)}
		})
		if err == nil {
			err = r.served()
		}
		if (err == nil) != c.ok {
			t.Errorf("%s by %s: %v", c.cn, c.server, err)
		}
	}
}

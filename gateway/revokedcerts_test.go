package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
)

// A client whose certificate is on its issuer's list is not let in, TLS 1.2 or 1.3, and the list is read again: then the
// connections end too that rest on what it names. A file that is no list, or an old one, changes nothing but the status.
func TestRevokedCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, clients, others := testkit.NewCA(t, "ours"), testkit.NewCA(t, "clients"), testkit.NewCA(t, "others")
	cert, key := ours.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	trusted, list := filepath.Join(dir, "clients.pem"), filepath.Join(dir, "clients.crl")
	testkit.WriteWhole(t, trusted, slices.Concat(clients.PEM, others.PEM))
	alice, bob, carl := keyPair(t, clients, "alice", nil), keyPair(t, clients, "bob", nil), keyPair(t, others, "carl", nil)
	far := time.Now().Add(24 * time.Hour)
	testkit.WriteWhole(t, list, clients.Revoke(t, far, bob.Leaf))
	book := &logBook{}
	f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key, ClientCA: trusted, ClientCRL: list}, Tenant: "default", Demand: true}),
		func(c *fleetConfig) { c.logger = book.logger() })
	asks := func(pair tls.Certificate, version uint16) (*raw, error) {
		r, err := f.dialTLS(ours, func(c *tls.Config) { c.Certificates, c.MaxVersion = []tls.Certificate{pair}, version })
		if err == nil {
			err = r.served()
		}
		return r, err
	}
	var stands *raw
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		r, err := asks(alice, version)
		if err != nil {
			t.Fatal(err)
		}
		stands = r
		if _, err := asks(carl, version); err != nil {
			t.Errorf("of an authority without a list: %v", err)
		}
		r, err = f.dialTLS(ours, func(c *tls.Config) { c.Certificates, c.MaxVersion = []tls.Certificate{bob}, version })
		if err == nil {
			_, err = r.frame() // with TLS 1.3 it learns of it by the first read
		}
		if err == nil || !strings.Contains(err.Error(), "remote error: tls: bad certificate") {
			t.Errorf("a revoked certificate: %v", err)
		}
	}
	until(t, func() error {
		if s := book.String(); !strings.Contains(s, "is revoked") {
			return errors.New("the log does not say that a certificate is revoked")
		}
		return nil
	})
	certs := f.gateways[0].listeners[0].certs
	refused := func(why string) {
		t.Helper()
		until(t, func() error {
			if got := certs.why(); !strings.Contains(got, why) || why == "" && got != "" {
				return fmt.Errorf("%q, not %q", got, why)
			}
			return nil
		})
	}
	for why, content := range map[string][]byte{
		"list 1": []byte("no list"), "has expired": clients.Revoke(t, time.Now().Add(-time.Minute)), "its issuer is not among": ours.Revoke(t, far),
	} {
		testkit.WriteWhole(t, list, content)
		refused(why)
		if _, err := asks(bob, 0); err == nil {
			t.Errorf("%s: the list that was read last holds no more", why)
		}
	}
	if err := stands.served(); err != nil {
		t.Errorf("a connection that is not concerned: %v", err)
	}
	block, _ := pem.Decode(clients.Revoke(t, far, alice.Leaf))
	testkit.WriteWhole(t, list, block.Bytes) // DER
	refused("")
	until(t, func() error {
		if stands.served() == nil {
			return errors.New("the connection of a client whose certificate is revoked goes on")
		}
		return nil
	})
	if _, err := asks(alice, 0); err == nil {
		t.Error("a revoked certificate is let in")
	}
	until(t, func() error {
		_, err := asks(bob, 0)
		return err
	})
}

func TestRevocationLists(t *testing.T) {
	dir := t.TempDir()
	root, other := testkit.NewCA(t, "root"), testkit.NewCA(t, "other")
	path := filepath.Join(dir, "list")
	leaf := func(ca *testkit.CA) *x509.Certificate { return keyPair(t, ca, "leaf", nil).Leaf }
	good, bad, elsewhere := leaf(root), leaf(root), leaf(other)
	now := time.Now()
	soon, later := now.Add(time.Hour), now.Add(2*time.Hour)
	if err := os.WriteFile(path, bytes.Join([][]byte{root.Revoke(t, later, bad), root.Revoke(t, soon), other.Revoke(t, later, good)}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := loadRevocations(path, slices.Concat(root.PEM, other.PEM), now)
	if err != nil {
		t.Fatal(err)
	}
	revoked := func(at time.Time, chains ...[]*x509.Certificate) bool {
		err := r.check(chains, at)
		if err != nil && !errors.Is(err, errRevokedCertificate) {
			t.Error(err)
		}
		return err != nil
	}
	of := func(c *x509.Certificate, ca *testkit.CA) []*x509.Certificate { return []*x509.Certificate{c, ca.Cert} }
	for i, c := range []struct{ is, want bool }{
		{revoked(now, of(good, root)), false}, // another issuer's list has its number
		{revoked(now, of(bad, root)), true},
		{revoked(now, of(elsewhere, other)), false},
		{revoked(now, of(bad, root), of(elsewhere, other)), false}, // one good chain is enough
		{revoked(now, []*x509.Certificate{good, bad, root.Cert}), true},
		{revoked(soon.Add(time.Second), of(good, root)), true}, // the next list may name it
		{revoked(soon.Add(time.Second), of(elsewhere, other)), false},
		{revoked(time.Time{}, of(bad, root)), true},
	} {
		if c.is != c.want {
			t.Errorf("case %d: revoked %v", i, c.is)
		}
	}
	if r.expired(now) != "" || !strings.Contains(r.expired(soon.Add(time.Second)), "CN=root") {
		t.Errorf("%q, %q", r.expired(now), r.expired(soon.Add(time.Second)))
	}
}

func FuzzRevocationList(f *testing.F) {
	dir := f.TempDir()
	ca := testkit.NewCA(f, "root")
	list := ca.Revoke(f, time.Now().Add(time.Hour))
	f.Add(list)
	block, _ := pem.Decode(list)
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "list")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := loadRevocations(path, ca.PEM, time.Now()); err == nil {
			_ = r.check([][]*x509.Certificate{{ca.Cert, ca.Cert}}, time.Now())
		}
	})
}

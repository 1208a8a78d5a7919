package kafka

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Passwords, tokens, certificates and keys are those that the files hold when a connection is made; files that do not
// fit to one another, as while they are replaced, leave those of before.
func TestSecretsAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pair := func(name string) (cert, key []byte) {
		t.Helper()
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	}
	cert, key := pair("first")
	config := map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "braid", "sasl.password": "file:" + write("password", []byte("first-password")),
		"ssl.truststore.location": write("ca", cert), "ssl.keystore.certificate.chain": write("cert", cert), "ssl.keystore.key": "file:" + write("key", key)}
	s, err := newSecurity(config)
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		t.Helper()
		leaf, err := x509.ParseCertificate(s.tls().Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	if got := shown(); got != "first" {
		t.Fatal(got)
	}
	before := s.tls().RootCAs
	next, nextKey := pair("second")
	write("cert", next)
	if got := shown(); got != "first" {
		t.Errorf("%s, with the key of another", got)
	}
	write("key", nextKey)
	write("ca", next)
	if got := shown(); got != "second" {
		t.Errorf("%s after the rotation", got)
	}
	if s.tls().RootCAs.Equal(before) {
		t.Error("who signs brokers' certificates is not read again")
	}
	for _, password := range []string{"first-password", "second-password"} {
		write("password", []byte(password))
		m, err := s.sasl()
		if err != nil {
			t.Fatal(err)
		}
		_, message, err := m.Authenticate(context.Background(), "")
		if err != nil || !bytes.Contains(message, []byte(password)) {
			t.Errorf("the password of before, %v", err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "password")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sasl(); err == nil {
		t.Error("a password that is gone is known")
	}
}

package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is a certificate authority of a test.
type CA struct {
	Cert *x509.Certificate
	PEM  []byte
	key  *ecdsa.PrivateKey
}

// NewCA makes an authority.
func NewCA(tb testing.TB, name string) *CA {
	tb.Helper()
	key := newKey(tb)
	template := &x509.Certificate{SerialNumber: serial(tb), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &CA{Cert: cert, PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: key}
}

// Pool holds the authority alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

// Issue makes a certificate for this machine, good for servers and clients
// unless edit says otherwise, and its key, both in PEM.
func (ca *CA) Issue(tb testing.TB, subject pkix.Name, edit func(*x509.Certificate)) (cert, key []byte) {
	tb.Helper()
	k := newKey(tb)
	template := &x509.Certificate{SerialNumber: serial(tb), Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, k.Public(), ca.key)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// Revoke makes a list of revoked certificates, in PEM, that may be relied on until a time.
func (ca *CA) Revoke(tb testing.TB, until time.Time, revoked ...*x509.Certificate) []byte {
	tb.Helper()
	template := &x509.RevocationList{Number: serial(tb), ThisUpdate: until.Add(-24 * time.Hour), NextUpdate: until}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: template.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, ca.Cert, ca.key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// IssueTo is Issue into two files of a directory, NAME.pem and NAME.key, which
// are replaced as a whole.
func (ca *CA) IssueTo(tb testing.TB, dir, name string, subject pkix.Name, edit func(*x509.Certificate)) (cert, key string) {
	tb.Helper()
	c, k := ca.Issue(tb, subject, edit)
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	WriteWhole(tb, cert, c)
	WriteWhole(tb, key, k)
	return cert, key
}

// WriteWhole replaces a file by another, which its owner alone may read.
func WriteWhole(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatal(err)
	}
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func serial(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
)

// authority signs certificates for one test.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	n    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key, a.cert = a.make("ca", nil)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// make writes NAME.crt and NAME.key, and NAME.pem with both for brokers.
func (a *authority) make(name string, ips []net.IP) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name}, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage |= x509.KeyUsageCertSign
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	k := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	for file, b := range map[string][]byte{name + ".crt": crt, name + ".key": k, name + ".pem": append(append([]byte{}, k...), crt...)} {
		if err := os.WriteFile(a.path(file), b, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return key, cert
}

func roundTrip(t *testing.T, c *testkit.Cluster, config map[string]string) {
	t.Helper()
	s := open(t, c, func(o *kafka.Options) { o.Config = config })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	topic, err := s.Create(ctx, span.Spec{Name: topicName(), Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	l := s.Log(topic, 1)
	defer l.Release()
	// More than one TLS record and than one buffer.
	big := strings.Repeat("x", 300_000)
	if a := appendSync(t, l, oneBatch(t, 2, big)); a.Err != nil {
		t.Fatal(a.Err)
	}
	if values, _ := readAll(t, l, 0); len(values) != 2 || values[1] != big {
		t.Fatalf("%d values", len(values))
	}
	if _, err := s.Seal(ctx, topic); err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, c *testkit.Cluster, config map[string]string) {
	t.Helper()
	s := open(t, c, func(o *kafka.Options) { o.Config = config })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := s.Topics(ctx, "x")
	if !errors.Is(err, span.ErrUnavailable) {
		t.Fatalf("without credentials: %v", err)
	}
	if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("the error shows a secret: %v", err)
	}
}

func TestMutualTLS(t *testing.T) {
	ca := newAuthority(t)
	ca.make("broker", []net.IP{net.IPv4(127, 0, 0, 1)})
	ca.make("gateway", nil)
	const l = "listener.name.client."
	c := testkit.Kafka(t, testkit.ClientProtocol("SSL"),
		testkit.Property(l+"ssl.keystore.type", "PEM"), testkit.Property(l+"ssl.keystore.location", ca.path("broker.pem")),
		testkit.Property(l+"ssl.truststore.type", "PEM"), testkit.Property(l+"ssl.truststore.location", ca.path("ca.crt")),
		testkit.Property(l+"ssl.client.auth", "required"))
	config := map[string]string{
		"security.protocol": "SSL", "ssl.truststore.location": ca.path("ca.crt"),
		"ssl.keystore.certificate.chain": ca.path("gateway.crt"), "ssl.keystore.key": "file:" + ca.path("gateway.key"),
	}
	roundTrip(t, c, config)
	refused(t, c, map[string]string{"security.protocol": "SSL", "ssl.truststore.location": ca.path("ca.crt")})
	refused(t, c, map[string]string{"security.protocol": "SSL", "ssl.truststore.location": newAuthority(t).path("ca.crt")})
	refused(t, c, nil)
	if err := os.Chmod(ca.path("gateway.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := kafka.CheckConfig(config); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that all may read: %v", err)
	}
}

func TestSASL(t *testing.T) {
	const l = "listener.name.client."
	const module = "org.apache.kafka.common.security."
	c := testkit.Kafka(t, testkit.ClientProtocol("SASL_PLAINTEXT"),
		testkit.Property("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
		testkit.Property(l+"sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
		testkit.Property(l+"connections.max.reauth.ms", "8000"),
		testkit.Property(l+"plain.sasl.jaas.config", module+`plain.PlainLoginModule required user_braid="s3cret";`),
		testkit.Property(l+"scram-sha-256.sasl.jaas.config", module+"scram.ScramLoginModule required;"),
		testkit.Property(l+"scram-sha-512.sasl.jaas.config", module+"scram.ScramLoginModule required;"),
		testkit.FormatArgs("--add-scram", "SCRAM-SHA-256=[name=braid,password=s3cret]", "--add-scram", "SCRAM-SHA-512=[name=braid,password=s3cret]"))
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BRAID_TEST_JAAS", module+`scram.ScramLoginModule required username="braid" password="s3cret";`)
	t.Setenv("BRAID_TEST_WRONG", "wr0ng")
	base := func(mechanism string) map[string]string {
		return map[string]string{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism,
			"sasl.username": "braid", "sasl.password": "file:" + secret}
	}
	for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(m, func(t *testing.T) { roundTrip(t, c, base(m)) })
	}
	t.Run("jaas", func(t *testing.T) {
		roundTrip(t, c, map[string]string{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256", "sasl.jaas.config": "env:BRAID_TEST_JAAS"})
	})
	t.Run("wrong", func(t *testing.T) {
		config := base("SCRAM-SHA-256")
		config["sasl.password"] = "env:BRAID_TEST_WRONG"
		refused(t, c, config)
	})
	t.Run("sessions end", func(t *testing.T) {
		s := open(t, c, func(o *kafka.Options) { o.Config = base("PLAIN") })
		topic := create(t, s, 1, nil)
		log := s.Log(topic, 0)
		defer log.Release()
		st := startStream(t, log, 0, 3, patience)
		begin := time.Now()
		// We sign on anew after 8/10 of a session; the rest is what a slow machine may lose.
		waitFor(t, "two sessions", func() bool { return time.Since(begin) > 17*time.Second })
		st.waitAcks(10)
		st.finish()
		st.check()
		if len(st.failed)+len(st.unknown) > 0 {
			t.Errorf("a session's end was felt: %v %v", st.failed, st.unknown)
		}
	})
}

func TestConfigChecks(t *testing.T) {
	dir := t.TempDir()
	open644 := filepath.Join(dir, "open")
	if err := os.WriteFile(open644, []byte("s3cret"), 0o644); err != nil {
		t.Fatal(err)
	}
	sasl := func(k, v string) map[string]string {
		m := map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "env:HOME"}
		m[k] = v
		return m
	}
	for _, c := range []struct {
		name   string
		config map[string]string
		want   string // "" is fine
	}{
		{"nothing", nil, ""},
		{"good", sasl("sasl.username", "v"), ""},
		{"typo", map[string]string{"security.protocl": "SSL"}, "security.protocol"},
		{"protocol", map[string]string{"security.protocol": "TLS"}, "PLAINTEXT, SSL"},
		{"mechanism", sasl("sasl.mechanism", "GSSAPI"), "SCRAM"},
		{"secret in the clear", sasl("sasl.password", "s3cret"), "reference"},
		{"secret in the clear, unused", map[string]string{"sasl.password": "s3cret"}, "reference"},
		{"token in the clear, unused", map[string]string{"sasl.oauthbearer.token": "s3cret"}, "reference"},
		{"key in the clear, unused", map[string]string{"ssl.keystore.key": "-----BEGIN PRIVATE KEY-----\ns3cret"}, "path"},
		{"secret that all may read", sasl("sasl.password", "file:"+open644), "chmod 600"},
		{"no such file", sasl("sasl.password", "file:"+filepath.Join(dir, "none")), "no such file"},
		{"no such variable", sasl("sasl.password", "env:BRAID_NO_SUCH"), "not set"},
		{"half a key pair", map[string]string{"security.protocol": "SSL", "ssl.keystore.key": "x"}, "belong together"},
		{"token", map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "sasl.oauthbearer.token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := kafka.CheckConfig(c.config)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want something with %q", err, c.want)
			case err != nil && strings.Contains(err.Error(), "s3cret"):
				t.Errorf("shows the secret: %v", err)
			}
		})
	}
	shown := kafka.Redact(map[string]string{"sasl.password": "s3cret", "sasl.jaas.config": "env:X", "sasl.username": "u"})
	if shown["sasl.password"] == "s3cret" || shown["sasl.jaas.config"] != "env:X" || shown["sasl.username"] != "u" {
		t.Errorf("redacted: %v", shown)
	}
}

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/braidstream/braid/internal/clients"
	"github.com/braidstream/braid/internal/clients/tools"
	"github.com/braidstream/braid/internal/testkit"
)

// tokens is an OIDC provider.
type tokens struct {
	url string
	ca  string // PEM file

	mu   sync.Mutex
	id   string
	key  *ecdsa.PrivateKey
	away bool // the keys are not to be had
}

// rotate has tokens signed by another key from here on, the only one that is told.
func (p *tokens) rotate(t *testing.T, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id, p.key = id, key
}

func (p *tokens) setAway(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

func startTokens(t *testing.T, dir string) *tokens {
	p := &tokens{ca: filepath.Join(dir, "issuer.pem")}
	p.rotate(t, "k")
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.url, "jwks_uri": p.url + "/keys"}) // a test's server
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.away {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: p.id, Use: "sig", Algorithm: "ES256"}}})
	})
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	p.url = s.URL
	testkit.WriteWhole(t, p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return p
}

func (p *tokens) token(t *testing.T, audience string, life time.Duration) string {
	t.Helper()
	p.mu.Lock()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: p.id}}, nil)
	p.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	text, err := json.Marshal(map[string]any{"iss": p.url, "sub": "svc", "aud": audience, "tenant": "default", "iat": now.Add(-time.Hour).Unix(), "exp": now.Add(life).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// secureUp is a Braid with a listener for each kind of security.
type secureUp struct {
	*running
	dir, ca, cert, key string
	authority          *testkit.CA
	tokens             *tokens
	at                 map[string]string // addresses by listener
}

const securePassword = "p,=ässw0rd"

func startSecure(t *testing.T) *secureUp {
	dir := t.TempDir()
	s := &secureUp{dir: dir, authority: testkit.NewCA(t, "braid test"), tokens: startTokens(t, dir)}
	s.ca = filepath.Join(dir, "ca.pem")
	testkit.WriteWhole(t, s.ca, s.authority.PEM)
	s.cert, s.key = s.authority.IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	elsewhere, elsewhereKey := s.authority.IssueTo(t, dir, "elsewhere", pkix.Name{CommonName: "braid"}, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"elsewhere.example"}, nil
	})
	secure := ",security=SASL_SSL,sasl=PLAIN+SCRAM-SHA-256+SCRAM-SHA-512+OAUTHBEARER,cert="
	s.running = startBraid(t, "up", "--data-dir", t.TempDir(), "--http", "127.0.0.1:0", "--catalog-listen", "127.0.0.1:0", "--local-clusters", "a",
		"--listener", "inner=127.0.0.1:0",
		"--listener", "outer=127.0.0.1:0"+secure+s.cert+",key="+s.key,
		"--listener", "host=127.0.0.1:0"+secure+elsewhere+",key="+elsewhereKey,
		"--listener", "certs=127.0.0.1:0,security=SSL,cert="+s.cert+",key="+s.key+",client-ca="+s.ca+`,mapping=RULE:^CN=(.*?),.*$/$1@default/L`,
		"--set", "sasl.oauthbearer.expected.issuer="+s.tokens.url, "--set", "sasl.oauthbearer.expected.audience=braid",
		"--set", "braid.oauthbearer.tenant.claim=tenant", "--set", "braid.oauthbearer.ca="+s.tokens.ca,
		"--set", "group.initial.rebalance.delay.ms=0", "--set", "connections.max.reauth.ms=20000")
	s.at = s.ready.Nodes[0].Listeners
	adm := kadm.NewClient(s.client(t, "inner"))
	var up []kadm.UpsertSCRAM
	for _, name := range []string{"alice", "leaver"} {
		for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
			up = append(up, kadm.UpsertSCRAM{User: name, Mechanism: m, Iterations: 4096, Password: securePassword})
		}
	}
	if res, err := adm.AlterUserSCRAMs(t.Context(), nil, up); err != nil || res.Error() != nil {
		t.Fatal(err, res.Error())
	}
	return s
}

func (s *secureUp) client(t *testing.T, listener string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.at[listener])}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// rounds are those that succeed, by mechanism, and those that must not.
func (s *secureUp) rounds(t *testing.T) (good, bad []clients.Secured) {
	t.Helper()
	cert, key := s.authority.IssueTo(t, s.dir, "client", pkix.Name{CommonName: "Machine", Organization: []string{"acme"}}, nil)
	round := func(name, listener string) clients.Secured {
		return clients.Secured{Name: name, Bootstrap: s.at[listener], Topic: "secured", CA: s.ca, Protocol: "SASL_SSL"}
	}
	for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		r := round(m, "outer")
		r.Mechanism, r.Username, r.Password = m, "alice", securePassword
		good = append(good, r)
	}
	token := round("OAUTHBEARER", "outer")
	token.Mechanism, token.Token = "OAUTHBEARER", s.tokens.token(t, "braid", time.Hour)
	certificate := round("certificate", "certs")
	certificate.Protocol, certificate.Cert, certificate.Key = "SSL", cert, key
	good = append(good, token, certificate)

	wrong := good[1]
	wrong.Name, wrong.Password = "wrong password", "no"
	nobody := good[2]
	nobody.Name, nobody.Username = "unknown user", "nobody"
	authority := good[1]
	other := filepath.Join(s.dir, "other.pem")
	testkit.WriteWhole(t, other, testkit.NewCA(t, "another").PEM)
	authority.Name, authority.CA = "wrong CA", other
	host := good[1]
	host.Name, host.Bootstrap = "wrong host", s.at["host"]
	expired, audience := token, token
	expired.Name, expired.Token = "expired token", s.tokens.token(t, "braid", -time.Minute)
	audience.Name, audience.Token = "wrong audience", s.tokens.token(t, "another", time.Hour)
	bad = []clients.Secured{wrong, nobody, authority, host, expired, audience}
	for i := range bad {
		bad[i].Fails = true
	}
	return good, bad
}

// options are a round's, for franz-go.
func options(t *testing.T, r clients.Secured) []kgo.Opt {
	t.Helper()
	pool := x509.NewCertPool()
	b, err := os.ReadFile(r.CA)
	if err != nil || !pool.AppendCertsFromPEM(b) {
		t.Fatal(err)
	}
	cfg := &tls.Config{RootCAs: pool}
	if r.Cert != "" {
		pair, err := tls.LoadX509KeyPair(r.Cert, r.Key)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	opts := []kgo.Opt{kgo.SeedBrokers(r.Bootstrap), kgo.DialTLSConfig(cfg), kgo.DefaultProduceTopic(r.Topic), kgo.RecordRetries(20)}
	if r.Fails {
		opts = append(opts, kgo.RequestRetries(0))
	}
	switch r.Mechanism {
	case "PLAIN":
		opts = append(opts, kgo.SASL(plain.Auth{User: r.Username, Pass: r.Password}.AsMechanism()))
	case "SCRAM-SHA-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: r.Username, Pass: r.Password}.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: r.Username, Pass: r.Password}.AsSha512Mechanism()))
	case "OAUTHBEARER":
		opts = append(opts, kgo.SASL(oauth.Auth{Token: r.Token}.AsMechanism()))
	}
	return opts
}

// TestSecuredClients: each family of clients signs on by each mechanism, and each
// that must not come in is told so; meanwhile the certificate is replaced, and
// clients that are connected do not notice.
func TestSecuredClients(t *testing.T) {
	t.Parallel()
	s := startSecure(t)
	s.must("topic", "create", "secured", "--partitions", "1")
	s.must("topic", "create", "steady", "--partitions", "1")
	good, bad := s.rounds(t)

	// A producer that goes on through everything.
	ctx, stop := context.WithCancel(t.Context())
	steady, err := kgo.NewClient(append(options(t, good[2]), kgo.DefaultProduceTopic("steady"))...)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	sent := 0
	wg.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if err := steady.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint(sent))).FirstErr(); err != nil {
				t.Errorf("the steady producer: %v", err)
				return
			}
			sent++
			<-tick.C
		}
	})
	defer func() {
		stop()
		wg.Wait()
		steady.Close()
		if sent == 0 {
			t.Error("the steady producer sent nothing")
		}
	}()

	t.Run("franz-go", func(t *testing.T) {
		for _, r := range good {
			cl, err := kgo.NewClient(options(t, r)...)
			if err != nil {
				t.Fatal(err)
			}
			sent, err := cl.ProduceSync(t.Context(), kgo.StringRecord("by "+r.Name)).First()
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
				cl.Close()
				continue
			}
			cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.Topic: {0: kgo.NewOffset().At(sent.Offset)}})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			fetched := cl.PollRecords(ctx, 1)
			cancel()
			if err := fetched.Err0(); err != nil || fetched.NumRecords() != 1 || string(fetched.Records()[0].Value) != "by "+r.Name {
				t.Errorf("%s: read %v, %v", r.Name, fetched.Records(), err)
			}
			cl.Close()
		}
		for _, r := range bad {
			cl, err := kgo.NewClient(options(t, r)...)
			if err != nil {
				t.Fatal(err)
			}
			err = cl.Ping(t.Context())
			want := map[string]string{"wrong password": "SASL_AUTHENTICATION_FAILED", "unknown user": "SASL_AUTHENTICATION_FAILED", "wrong CA": "certificate signed by unknown authority",
				// Kafka answers a token that it refuses with a challenge, which franz-go does not read.
				"wrong host": "cannot validate certificate", "expired token": "oauth response", "wrong audience": "oauth response"}[r.Name]
			if err == nil || want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", r.Name, err)
			}
			cl.Close()
		}
	})

	// From here on new connections meet another certificate of the same authority.
	s.authority.IssueTo(t, s.dir, "server", pkix.Name{CommonName: "braid, again"}, nil)
	eventually(t, patience, "the new certificate is shown", func() bool {
		nc, err := tls.Dial("tcp", s.at["outer"], &tls.Config{RootCAs: s.authority.Pool()})
		if err != nil {
			return false
		}
		defer func() { _ = nc.Close() }() // only looked at
		return nc.ConnectionState().PeerCertificates[0].Subject.CommonName == "braid, again"
	})

	// Interpreters and JVMs take long to start, and tell the race detector nothing new.
	families, long := []clients.Family{clients.Confluent}, os.Getenv("BRAID_SOAK") != ""
	if !testing.Short() {
		families = []clients.Family{clients.Confluent, clients.KafkaPython, clients.KafkaJS}
	}
	for _, f := range families {
		t.Run(string(f), func(t *testing.T) {
			few := bad[:1]
			if f == clients.Confluent && long {
				few = bad
			}
			all := append(append([]clients.Secured(nil), good...), few...)
			if f == clients.KafkaPython && !long {
				all = all[2:5] // each takes it seconds: one of SCRAM, a token, a certificate
			}
			for i, got := range clients.RunSecured(t, f, all) {
				switch {
				case !all[i].Fails && (got.Error != "" || got.Read != 5):
					t.Errorf("%s: read %d, %s", got.Name, got.Read, got.Error)
				case all[i].Fails && got.Error == "":
					t.Errorf("%s came in", got.Name)
				case all[i].Fails && !strings.Contains(got.Error, refusal(f, got.Name)):
					t.Errorf("%s: %s", got.Name, got.Error)
				}
			}
		})
	}
	if !testing.Short() {
		t.Run("java", func(t *testing.T) { javaSignsOn(t, s, good, bad) })
	}

	t.Run("issuer", func(t *testing.T) { s.issuerAwayAndBack(t, good[3]) })

	// Who is removed is out, though connected.
	r := good[1]
	r.Username = "leaver"
	leaver, err := kgo.NewClient(append(options(t, r), kgo.RequestRetries(0))...)
	if err != nil {
		t.Fatal(err)
	}
	defer leaver.Close()
	if err := leaver.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(s.client(t, "inner"))
	if res, err := adm.AlterUserSCRAMs(t.Context(), []kadm.DeleteSCRAM{{User: "leaver", Mechanism: kadm.ScramSha256}, {User: "leaver", Mechanism: kadm.ScramSha512}}, nil); err != nil || res.Error() != nil {
		t.Fatal(err, res.Error())
	}
	eventually(t, patience, "the user who was removed is refused", func() bool {
		err := leaver.Ping(t.Context())
		return err != nil && strings.Contains(err.Error(), "SASL_AUTHENTICATION_FAILED")
	})
	s.noSecrets(t, good)
}

// issuerAwayAndBack: while the issuer's keys are not to be had those that are known serve, and none by another key is let in.
// When it is back with another key alone, tokens by that one are let in, and those by the former one are not.
func (s *secureUp) issuerAwayAndBack(t *testing.T, r clients.Secured) {
	signsOn := func(token string) error {
		r := r
		r.Token, r.Fails = token, true
		cl, err := kgo.NewClient(options(t, r)...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		return cl.Ping(t.Context())
	}
	refused := func(what, token string) {
		t.Helper()
		if err := signsOn(token); err == nil || !strings.Contains(err.Error(), "oauth response") {
			t.Errorf("%s: %v", what, err)
		}
	}
	former := s.tokens.token(t, "braid", time.Hour)
	if err := signsOn(former); err != nil {
		t.Fatal(err)
	}
	s.tokens.setAway(true)
	s.tokens.rotate(t, "another")
	fresh := s.tokens.token(t, "braid", time.Hour)
	refused("by a key that nobody can look for", fresh)
	if err := signsOn(former); err != nil {
		t.Errorf("by a key that is known, the issuer away: %v", err)
	}
	refused("of another audience, the issuer away", s.tokens.token(t, "another", time.Hour))
	s.tokens.setAway(false)
	eventually(t, patience, "a token by the issuer's other key is taken", func() bool { return signsOn(fresh) == nil })
	refused("by the key that was taken back", former)
}

// refusal is what a family of clients says of a round that must not come in.
func refusal(f clients.Family, round string) string {
	switch {
	case f == clients.KafkaJS:
		return "KafkaJSSASLAuthenticationError"
	case f == clients.KafkaPython:
		return "Unable to bootstrap" // it keeps the reason to its log
	case strings.HasPrefix(round, "wrong CA"), strings.HasPrefix(round, "wrong host"):
		return "_SSL"
	case strings.HasPrefix(round, "expired token"), strings.HasPrefix(round, "wrong audience"):
		return "invalid_token" // RFC 7628
	}
	return "_AUTHENTICATION"
}

// javaSignsOn has Kafka's own tools sign on.
func javaSignsOn(t *testing.T, s *secureUp, good, bad []clients.Secured) {
	tokenFile := filepath.Join(s.dir, "token")
	testkit.WriteWhole(t, tokenFile, []byte(good[3].Token))
	java := tools.Start(t, "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://"+tokenFile,
		"-Dorg.apache.kafka.sasl.oauthbearer.allowed.files="+tokenFile)
	config := func(r clients.Secured) string {
		lines := []string{"security.protocol=" + r.Protocol, "ssl.truststore.type=PEM", "ssl.truststore.location=" + r.CA, "request.timeout.ms=60000"}
		const security = "org.apache.kafka.common.security."
		if r.Cert != "" {
			both := filepath.Join(s.dir, "both.pem")
			var b []byte
			for _, path := range []string{r.Key, r.Cert} {
				part, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				b = append(b, part...)
			}
			testkit.WriteWhole(t, both, b)
			lines = append(lines, "ssl.keystore.type=PEM", "ssl.keystore.location="+both)
		}
		if r.Mechanism != "" {
			lines = append(lines, "sasl.mechanism="+r.Mechanism)
		}
		switch {
		case r.Token != "":
			lines = append(lines, "sasl.oauthbearer.token.endpoint.url=file://"+tokenFile,
				"sasl.login.callback.handler.class="+security+"oauthbearer.OAuthBearerLoginCallbackHandler",
				"sasl.jaas.config="+security+"oauthbearer.OAuthBearerLoginModule required;")
		case strings.HasPrefix(r.Mechanism, "SCRAM"):
			lines = append(lines, fmt.Sprintf("sasl.jaas.config=%sscram.ScramLoginModule required username=%q password=\"%s\";", security, r.Username, r.Password))
		case r.Mechanism == "PLAIN":
			lines = append(lines, fmt.Sprintf("sasl.jaas.config=%splain.PlainLoginModule required username=%q password=\"%s\";", security, r.Username, r.Password))
		}
		path := filepath.Join(s.dir, "java.properties")
		testkit.WriteWhole(t, path, []byte(ascii(strings.Join(lines, "\n")+"\n")))
		return path
	}
	for _, r := range good {
		out, code := java.Run("kafka-producer-perf-test", "--bootstrap-server", r.Bootstrap, "--command-config", config(r), "--topic", r.Topic,
			"--num-records", "10", "--record-size", "20", "--throughput", "-1")
		if code != 0 || !strings.Contains(out, "10 records sent") {
			t.Errorf("%s: exit code %d\n%s", r.Name, code, out)
		}
		out, code = java.Run("kafka-consumer-perf-test", "--bootstrap-server", r.Bootstrap, "--command-config", config(r), "--topic", r.Topic,
			"--num-records", "10", "--timeout", "60000", "--hide-header")
		n := 0
		if columns := strings.Split(out, ", "); len(columns) > 4 {
			n, _ = strconv.Atoi(columns[4]) // 0 if it is no number
		}
		if code != 0 || n < 10 {
			t.Errorf("%s: %d records read, exit code %d\n%s", r.Name, n, code, out)
		}
	}
	for _, r := range bad[:2] {
		out, code := java.Run("kafka-topics", "--bootstrap-server", r.Bootstrap, "--command-config", config(r), "--list")
		if code == 0 || !strings.Contains(out, "SaslAuthenticationException") {
			t.Errorf("%s: exit code %d\n%s", r.Name, code, out)
		}
	}
}

// ascii writes what is not ASCII as property files have it.
func ascii(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// noSecrets looks for what was said to Braid in what Braid says.
func (s *secureUp) noSecrets(t *testing.T, rounds []clients.Secured) {
	t.Helper()
	log, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	said := string(log) + s.must("status", "-o", "json")
	for _, path := range []string{"/metrics", "/v1/status", "/v1/topics", "/v1/clusters"} {
		resp, err := http.Get("http://" + s.ready.HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := resp.Write(&b); err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		said += b.String()
	}
	for _, r := range rounds {
		for _, secret := range []string{r.Password, r.Token} {
			if secret != "" && strings.Contains(said, secret) {
				t.Errorf("%s: the secret is in what Braid says", r.Name)
			}
		}
	}
}

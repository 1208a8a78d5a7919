package sasl

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
)

// issuer is an OIDC provider that can rotate its keys, lie and be away.
type issuer struct {
	*httptest.Server
	mu      sync.Mutex
	keys    map[string]*ecdsa.PrivateKey
	away    bool
	named   string // what discovery says that it is
	fetches int
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{keys: map[string]*ecdsa.PrivateKey{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.away {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.named, "jwks_uri": i.URL + "/keys"}) // a test's server
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.fetches++
		var set jose.JSONWebKeySet
		for id, k := range i.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: id, Use: "sig", Algorithm: "ES256"})
		}
		_ = json.NewEncoder(w).Encode(set)
	})
	i.Server = httptest.NewTLSServer(mux)
	i.named = i.URL
	t.Cleanup(i.Close)
	i.rotate(t, "one")
	return i
}

// rotate replaces all keys by a fresh one.
func (i *issuer) rotate(t *testing.T, id string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = map[string]*ecdsa.PrivateKey{id: k}
}

// token signs claims by the key of an id; edit changes them.
func (i *issuer) token(t *testing.T, id string, edit func(map[string]any)) string {
	t.Helper()
	claims := map[string]any{"iss": i.URL, "sub": "alice", "aud": "braid", "exp": time.Now().Add(time.Hour).Unix(), "tenant": "acme"}
	if edit != nil {
		edit(claims)
	}
	i.mu.Lock()
	key := i.keys[id]
	i.mu.Unlock()
	return sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, claims)
}

func sign(t *testing.T, key jose.SigningKey, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(claims)
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

func (i *issuer) verifier(t *testing.T, edit func(*OIDCConfig)) *OIDC {
	t.Helper()
	cfg := OIDCConfig{Issuer: i.URL, Audience: []string{"braid", "other"}, TenantClaim: "tenant", Client: i.Client(), Again: time.Nanosecond}
	if edit != nil {
		edit(&cfg)
	}
	o, err := NewOIDC(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func TestTokens(t *testing.T) {
	i := newIssuer(t)
	o := i.verifier(t, nil)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := i.token(t, "one", nil)
	for _, c := range []struct {
		name, token, want string
	}{
		{"good", good, ""},
		{"two audiences", i.token(t, "one", func(c map[string]any) { c["aud"] = []string{"x", "other"} }), ""},
		{"expired within the skew", i.token(t, "one", func(c map[string]any) { c["exp"] = time.Now().Add(-5 * time.Second).Unix() }), ""},
		{"expired", i.token(t, "one", func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }), "expired"},
		{"no expiry", i.token(t, "one", func(c map[string]any) { delete(c, "exp") }), "expired"},
		{"not yet", i.token(t, "one", func(c map[string]any) { c["nbf"] = time.Now().Add(time.Minute).Unix() }), "not valid yet"},
		{"wrong audience", i.token(t, "one", func(c map[string]any) { c["aud"] = "another" }), "another audience"},
		{"wrong issuer", i.token(t, "one", func(c map[string]any) { c["iss"] = "https://evil.example" }), "different provider"},
		{"no subject", i.token(t, "one", func(c map[string]any) { delete(c, "sub") }), `claim "sub"`},
		{"no tenant", i.token(t, "one", func(c map[string]any) { delete(c, "tenant") }), `claim "tenant"`},
		{"a subject that is no name", i.token(t, "one", func(c map[string]any) { c["sub"] = "a\nb" }), `claim "sub"`},
		{"another's key", sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: stranger, KeyID: "one"}}, map[string]any{"iss": i.URL}), "signature"},
		{"a secret for a key", sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, map[string]any{"iss": i.URL}), "malformed"},
		{"unsigned", "eyJhbGciOiJub25lIn0.e30.", "malformed"},
		{"cut short", good[:len(good)-3], "signature"},
		{"nothing", "", "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := o.Verify(t.Context(), c.token)
			if c.want == "" {
				if err != nil || got.Name != "alice" || got.Tenant != "acme" {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if len(c.token) > 40 && strings.Contains(err.Error(), c.token[:40]) {
				t.Errorf("the token is in %q", err)
			}
		})
	}
}

func TestKeysRotateAndGetStale(t *testing.T) {
	i := newIssuer(t)
	var mu sync.Mutex
	now := time.Now()
	later := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	o := i.verifier(t, func(c *OIDCConfig) {
		c.Again, c.Refresh, c.Stale = 10*time.Second, 5*time.Minute, time.Hour
		c.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	long := func(c map[string]any) { c["exp"] = time.Now().Add(100 * time.Hour).Unix() }
	check := func(what, token string, want error) {
		t.Helper()
		if _, err := o.Verify(t.Context(), token); (err == nil) != (want == nil) || want != nil && want != errAny && !strings.Contains(err.Error(), want.Error()) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	one := i.token(t, "one", long)
	check("the first key", one, nil)
	i.rotate(t, "two")
	two := i.token(t, "two", long)
	// Nobody makes us fetch at will by naming keys.
	check("a new key at once", two, errAny)
	i.mu.Lock()
	if i.fetches != 1 {
		t.Errorf("%d fetches", i.fetches)
	}
	i.mu.Unlock()
	later(11 * time.Second)
	check("a new key a while later", two, nil)
	check("a key that was taken back", one, errAny)

	i.mu.Lock()
	i.away = true
	i.mu.Unlock()
	later(30 * time.Minute)
	check("cached, the issuer away", two, nil)
	later(31 * time.Minute)
	check("stale", two, errNoKeys)
	i.mu.Lock()
	i.away, i.named = false, "https://evil.example"
	i.mu.Unlock()
	later(11 * time.Second)
	check("a document of another issuer", two, errNoKeys)
	i.mu.Lock()
	i.named = i.URL
	i.mu.Unlock()
	later(11 * time.Second)
	check("back", two, nil)
}

var errAny = errors.New("any")

func TestBearerSignsOn(t *testing.T) {
	i := newIssuer(t)
	s := server(i.verifier(t, nil))
	id, err := talk(s, book{}, oauth.Auth{Token: i.token(t, "one", nil), Extensions: map[string]string{"logicalCluster": "x"}}.AsMechanism())
	if err != nil || id.Name != "alice" || id.Tenant != "acme" || id.User != nil || time.Until(id.Expires) < 50*time.Minute {
		t.Fatalf("%+v, %v", id, err)
	}
	for what, message := range map[string]string{
		"another tenant":     bearer("", i.token(t, "one", func(c map[string]any) { c["tenant"] = "evil" })),
		"as another":         bearer("a=bob", i.token(t, "one", nil)),
		"expired":            bearer("", i.token(t, "one", func(c map[string]any) { c["exp"] = 1 })),
		"no token of ours":   bearer("", "x"),
		"a token of no form": bearer("", "...."),
	} {
		e := s.Begin(OAuthBearer, book{})
		answer, err := e.Step(t.Context(), []byte(message))
		if err != nil || string(answer) != invalidToken || e.Identity() != nil {
			t.Errorf("%s: %q, %v", what, answer, err)
		}
		var failed *FailedError
		if _, err := e.Step(t.Context(), []byte("\x01")); !errors.As(err, &failed) || failed.Client != invalidToken {
			t.Errorf("%s: then %v", what, err)
		}
	}
	for _, message := range []string{
		"", "n,,", "n,,\x01", "n,,\x01\x01", "n,,\x01auth=Bearer x\x01", "x,,\x01auth=Bearer x\x01\x01", "n,b=c,\x01auth=Bearer x\x01\x01",
		"n,,\x01auth=Basic x\x01\x01", "n,,\x01auth=Bearer \x01\x01", "n,,\x01k=v\x01\x01", "n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
		"n,,\x01auth=Bearer x\x011=2\x01\x01", "n,,\x01" + strings.Repeat("a", maxMessage),
	} {
		if _, err := s.Begin(OAuthBearer, book{}).Step(t.Context(), []byte(message)); !errors.Is(err, ErrFailed) {
			t.Errorf("%.40q: %v", message, err)
		}
	}
}

func bearer(as, token string) string {
	return fmt.Sprintf("n,%s,\x01auth=Bearer %s\x01\x01", as, token)
}

func TestOIDCConfig(t *testing.T) {
	for _, c := range []OIDCConfig{
		{}, {Issuer: "https://i.example"}, {Issuer: "http://i.example", Audience: []string{"a"}}, {Issuer: "issuer", Audience: []string{"a"}},
		{Issuer: "https://i.example", JWKS: "http://i.example/keys", Audience: []string{"a"}},
	} {
		if _, err := NewOIDC(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

package sasl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// OIDCConfig says whose tokens are taken. Names in comments are Kafka's.
type OIDCConfig struct {
	Issuer   string   // sasl.oauthbearer.expected.issuer, the iss claim; found out about by its discovery document
	JWKS     string   // sasl.oauthbearer.jwks.endpoint.url; "" takes what discovery says
	Audience []string // sasl.oauthbearer.expected.audience; one of them has to be in the aud claim
	// NameClaim holds the principal's name, sasl.oauthbearer.sub.claim.name (sub).
	NameClaim string
	// TenantClaim holds the tenant's name; "" leaves the tenant to the listener.
	TenantClaim string
	Skew        time.Duration // sasl.oauthbearer.clock.skew.seconds (30 s)

	Refresh time.Duration // of the keys, sasl.oauthbearer.jwks.endpoint.refresh.ms (5 min)
	// Stale is how long keys are used that could not be refreshed; then every token fails (1 h).
	Stale time.Duration
	// Again is the least time between two fetches, whatever keys tokens name (10 s).
	Again time.Duration

	Client *http.Client // nil: one that trusts the system's certificates
	Now    func() time.Time
}

// OIDC verifies tokens of one issuer.
type OIDC struct {
	cfg      OIDCConfig
	keys     *keys
	verifier *oidc.IDTokenVerifier
}

// Claims is what a token says.
type Claims struct {
	Name    string
	Tenant  string
	Expires time.Time
}

// algorithms that tokens may be signed with: none that is symmetric, and not "none".
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// NewOIDC returns a verifier; nothing is fetched until the first token comes.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	if cfg.Issuer == "" {
		return nil, errors.New("tokens need an issuer")
	}
	if len(cfg.Audience) == 0 {
		return nil, errors.New("tokens need an audience: without one, any application's token would sign on")
	}
	for _, u := range []string{cfg.Issuer, cfg.JWKS} {
		if u == "" {
			continue
		}
		if err := fetchable(u); err != nil {
			return nil, err
		}
	}
	if cfg.NameClaim == "" {
		cfg.NameClaim = "sub"
	}
	for d, byDefault := range map[*time.Duration]time.Duration{
		&cfg.Skew: 30 * time.Second, &cfg.Refresh: 5 * time.Minute, &cfg.Stale: time.Hour, &cfg.Again: 10 * time.Second,
	} {
		if *d == 0 {
			*d = byDefault
		}
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: fetchTimeout}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	o := &OIDC{cfg: cfg, keys: &keys{cfg: cfg}}
	o.verifier = oidc.NewVerifier(cfg.Issuer, o.keys, &oidc.Config{
		SupportedSigningAlgs: algorithms,
		SkipClientIDCheck:    true, // looked at below: several are allowed
		// A token is good until its expiry and the skew.
		Now: func() time.Time { return cfg.Now().Add(-cfg.Skew) },
	})
	return o, nil
}

// fetchable demands https, but on this machine.
func fetchable(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%q is no URL of an issuer", s)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s: keys are fetched by https only", s)
}

// Verify checks signature, issuer, audience and times of a token.
func (o *OIDC) Verify(ctx context.Context, token string) (Claims, error) {
	t, err := o.verifier.Verify(ctx, token)
	if err != nil {
		return Claims{}, fmt.Errorf("token: %w", err)
	}
	if !slices.ContainsFunc(t.Audience, func(a string) bool { return slices.Contains(o.cfg.Audience, a) }) {
		return Claims{}, errors.New("token: it is for another audience")
	}
	var all map[string]json.RawMessage
	if err := t.Claims(&all); err != nil {
		return Claims{}, errors.New("token: its claims are malformed")
	}
	var before float64
	if raw, ok := all["nbf"]; ok && (json.Unmarshal(raw, &before) != nil || o.cfg.Now().Add(o.cfg.Skew).Before(time.Unix(int64(before), 0))) {
		return Claims{}, errors.New("token: it is not valid yet")
	}
	c := Claims{Expires: t.Expiry}
	if c.Name, err = text(all, o.cfg.NameClaim); err != nil {
		return Claims{}, err
	}
	if o.cfg.TenantClaim != "" {
		if c.Tenant, err = text(all, o.cfg.TenantClaim); err != nil {
			return Claims{}, err
		}
	}
	return c, nil
}

func text(claims map[string]json.RawMessage, name string) (string, error) {
	var s string
	if json.Unmarshal(claims[name], &s) != nil || s == "" || len(s) > maxName || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
		return "", fmt.Errorf("token: claim %q is missing or no name", name)
	}
	return s, nil
}

// Close waits for a fetch under way.
func (o *OIDC) Close() { o.keys.close() }

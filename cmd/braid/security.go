package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/braidstream/braid/tenant/sasl"
)

// tokenSettings are what --set says of OAUTHBEARER.
type tokenSettings struct {
	sasl.OIDCConfig
	CA string // braid.oauthbearer.ca
}

// securitySettings are the keys of --set about who is let in.
var securitySettings = []setting{
	{"braid.authentication.timeout.ms", "from a connection's start until its client is authenticated, where it has to be (30000)",
		millis(func(s *settings) *time.Duration { return &s.Gateway.AuthTimeout })},
	{"braid.max.unauthenticated", "connections of each gateway that are not authenticated yet and have to be (8192)",
		integer(1, 10_000_000, func(s *settings) *int { return &s.Gateway.MaxUnauthenticated })},
	{"braid.max.unauthenticated.per.ip", "those of one IPv4 address or IPv6 network (4096)",
		integer(1, 10_000_000, func(s *settings) *int { return &s.Gateway.MaxUnauthenticatedPerIP })},
	{"braid.oauthbearer.ca", "PEM file of who signs the issuer's certificate (the system's)",
		word(func(s *settings) *string { return &s.Tokens.CA })},
	{"braid.oauthbearer.tenant.claim", "claim of a token that names the tenant (none: the listener's tenant)",
		word(func(s *settings) *string { return &s.Tokens.TenantClaim })},
	{"connection.failed.authentication.delay.ms", "until the first failed authentication of an address or user is answered; each further one takes twice as long, up to 50 times this (100)",
		func(s *settings, v string) error {
			n, err := number(v, 1, 10_000)
			s.Gateway.FailedAuthDelay = time.Duration(n) * time.Millisecond
			s.Gateway.MaxFailedAuthDelay = 50 * s.Gateway.FailedAuthDelay
			return err
		}},
	{"connections.max.reauth.ms", "how long an authentication by SASL lasts; a client that renews it goes on (no limit)",
		millis(func(s *settings) *time.Duration { return &s.Gateway.MaxReauth })},
	{"sasl.oauthbearer.clock.skew.seconds", "how far the issuer's clock may be off (30)",
		func(s *settings, v string) error {
			n, err := number(v, 0, 600)
			s.Tokens.Skew = max(time.Duration(n)*time.Second, time.Nanosecond) // 0 would be the default
			return err
		}},
	{"sasl.oauthbearer.expected.audience", "audiences of tokens, with a comma between them: one of them has to be the token's",
		func(s *settings, v string) error {
			s.Tokens.Audience = splitList(v)
			return nil
		}},
	{"sasl.oauthbearer.expected.issuer", "URL of the issuer of tokens (OIDC); its keys are found by its discovery document",
		word(func(s *settings) *string { return &s.Tokens.Issuer })},
	{"sasl.oauthbearer.jwks.endpoint.refresh.ms", "how often the issuer's keys are read again (300000); they serve for an hour at most if that fails",
		millis(func(s *settings) *time.Duration { return &s.Tokens.Refresh })},
	{"sasl.oauthbearer.jwks.endpoint.url", "where the issuer's keys are, if it has no discovery document",
		word(func(s *settings) *string { return &s.Tokens.JWKS })},
	{"sasl.oauthbearer.sub.claim.name", "claim of a token that names the user (sub)",
		word(func(s *settings) *string { return &s.Tokens.NameClaim })},
}

func word(field func(*settings) *string) func(*settings, string) error {
	return func(s *settings, v string) error {
		*field(s) = v
		return nil
	}
}

// caPool reads the certificates of who may sign; option is what named the file.
func caPool(option, path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no PEM certificate", option, path)
	}
	return pool, nil
}

// oidc is the verifier of tokens; nil if no issuer is configured.
func (t *tokenSettings) oidc() (*sasl.OIDC, error) {
	if t.Issuer == "" {
		return nil, nil
	}
	cfg := t.OIDCConfig
	if t.CA != "" {
		pool, err := caPool("braid.oauthbearer.ca", t.CA)
		if err != nil {
			return nil, err
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment,
			MaxIdleConns: 1, IdleConnTimeout: 10 * time.Second}
		cfg.Client = &http.Client{Transport: transport, Timeout: 10 * time.Second}
	}
	return sasl.NewOIDC(cfg)
}

// check tells what is wrong before anything is started.
func (t *tokenSettings) check() error {
	if t.Issuer == "" {
		if len(t.Audience) > 0 || t.JWKS != "" || t.NameClaim != "" || t.TenantClaim != "" {
			return aboutf("--set", ": sasl.oauthbearer.… needs sasl.oauthbearer.expected.issuer")
		}
		return nil
	}
	o, err := t.oidc()
	if err != nil {
		return aboutf("--set", ": sasl.oauthbearer.…: %v", err)
	}
	o.Close()
	return nil
}

// startSASL makes what clients of all gateways of the process sign on with.
func (p *process) startSASL(ctx context.Context) error {
	// Salts of users who do not exist are the same on all gateways.
	secret, err := p.catalog.InternalToken(ctx)
	if err != nil {
		return err
	}
	oidc, err := p.settings.Tokens.oidc()
	if err != nil {
		return err
	}
	if oidc != nil {
		p.onEnd(func(context.Context) error { oidc.Close(); return nil })
	}
	p.sasl = sasl.NewServer(sasl.Options{Secret: []byte(secret), Derivations: max(1, runtime.GOMAXPROCS(0)/2), OIDC: oidc})
	return nil
}

// refuseOpen refuses listeners that let everybody of a network in, unless that is
// said to be meant.
func (c *upConfig) refuseOpen() error {
	if c.Insecure {
		return nil
	}
	var open []string
	for i := range c.Listeners {
		if w := c.Listeners[i].open(); w != "" {
			open = append(open, w)
		}
	}
	if len(open) == 0 {
		if w := c.admin.open(); w != "" {
			return usagef("%s: give it cert=FILE,key=FILE, or sign-on=required where something else encrypts it (docs/security.md), or start with --insecure if that is meant", w)
		}
		return nil
	}
	return usagef("%s: give it security=SASL_SSL,cert=FILE,key=FILE (docs/security.md), or start with --insecure if that is meant", strings.Join(open, "; "))
}

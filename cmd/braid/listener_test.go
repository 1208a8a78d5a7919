package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestListeners(t *testing.T) {
	t.Parallel()
	const files = ",cert=c.pem,key=k.pem"
	for _, c := range []struct {
		flag       string
		demand     bool
		mechanisms string
		warns      string // part of a warning
		insecure   bool   // needs --insecure
	}{
		{flag: "a=127.0.0.1:1", mechanisms: "SCRAM-SHA-512 SCRAM-SHA-256 PLAIN"},
		{flag: "a=localhost:1,sasl=none"},
		{flag: "a=[::1]:1,sasl=plain", mechanisms: "PLAIN"},
		{flag: "a=0.0.0.0:1", mechanisms: "SCRAM-SHA-512 SCRAM-SHA-256", warns: "asks nobody", insecure: true},
		{flag: "a=:1,tenant=acme", mechanisms: "SCRAM-SHA-512 SCRAM-SHA-256", warns: "asks nobody", insecure: true},
		{flag: "a=kafka.example:1,security=ssl" + files, warns: "asks nobody", insecure: true},
		{flag: "a=10.0.0.1:1,security=SASL_PLAINTEXT", demand: true, mechanisms: "SCRAM-SHA-512 SCRAM-SHA-256", warns: "is not encrypted"},
		{flag: "a=10.0.0.1:1,security=SASL_PLAINTEXT,sasl=PLAIN", demand: true, mechanisms: "PLAIN", warns: "passwords"},
		{flag: "a=10.0.0.1:1,security=SASL_SSL" + files, demand: true, mechanisms: "SCRAM-SHA-512 SCRAM-SHA-256 PLAIN"},
		{flag: "a=10.0.0.1:1,security=SASL_SSL,sasl=OAUTHBEARER+SCRAM-SHA-256" + files, demand: true, mechanisms: "OAUTHBEARER SCRAM-SHA-256"},
		{flag: "a=10.0.0.1:1,security=SSL,client-ca=ca.pem" + files + ",mapping=RULE:^CN=(.*?),O=x$/$1/L,DEFAULT", demand: true},
		{flag: "a=10.0.0.1:1,security=SSL,client-ca=ca.pem,client-auth=requested,tenant=acme" + files, warns: "asks nobody", insecure: true},
		{flag: "a=10.0.0.1:1,security=SASL_SSL,sni-domain=kafka.example,advertise=k.example:9,zone=z" + files, demand: true, mechanisms: "SCRAM-SHA-512 SCRAM-SHA-256 PLAIN"},
	} {
		l, err := parseListener(c.flag)
		if err != nil {
			t.Errorf("%s: %v", c.flag, err)
			continue
		}
		no := false
		s, err := l.gateway(nil)
		if err != nil || s.Demand != c.demand || strings.Join(s.Mechanisms, " ") != c.mechanisms {
			t.Errorf("%s: %+v, %v", c.flag, s, err)
		}
		if slices.Contains(s.Mechanisms, "OAUTHBEARER") {
			if _, err := l.gateway(&no); err == nil {
				t.Errorf("%s is taken without an issuer", c.flag)
			}
		}
		if w := strings.Join(l.warnings(), "; "); (w == "") != (c.warns == "") || !strings.Contains(w, c.warns) {
			t.Errorf("%s: warnings %q", c.flag, w)
		}
		for _, insecure := range []bool{false, true} {
			u := upConfig{Gateways: 1, Insecure: insecure}
			if err := u.fill("", []string{c.flag}, nil, "", "", false); (err != nil) != (c.insecure && !insecure) {
				t.Errorf("%s, insecure %t: %v", c.flag, insecure, err)
			}
		}
	}
	for _, bad := range []string{
		"a", "=x:1", "a=x", "a=x:1,zoom=1", "a=x:1,security=TLS", "a=x:1,security=SSL", "a=x:1,security=SSL,cert=c", "a=x:1,cert=c,key=k", "a=x:1,mapping=DEFAULT",
		"a=x:1,security=SSL,mapping=DEFAULT" + files, "a=x:1,security=SSL,client-ca=c,mapping=RULE:x" + files, "a=x:1,security=SSL,client-ca=c,client-auth=none" + files,
		"a=x:1,security=SSL,client-ca=c" + files, "a=x:1,security=SSL,client-ca=c,client-auth=requested,sni-domain=kafka.example" + files,
		"a=x:1,sasl=GSSAPI", "a=x:1,sasl=PLAIN+PLAIN", "a=x:1,security=SASL_PLAINTEXT,sasl=none", "a=x:1,tenant=braid", "a=x:1,advertise=y", "a=x:1,client-auth=required",
	} {
		if l, err := parseListener(bad); err == nil {
			t.Errorf("%s is taken: %+v", bad, l)
		}
	}
}

// The configuration file takes what the flag takes.
func TestListenersOfAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "braid.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("insecure: true\nlisteners:\n- name: a\n  bind: 10.0.0.1:1\n  security: SSL\n  cert: c\n  key: k\n  client-ca: ca\n  client-auth: required\n  tenant: acme\n  mapping: RULE:^CN=(.*?),O=x$/$1/L,DEFAULT\n")
	c, _, err := readConfig(path)
	if err != nil || !c.Insecure || len(c.Listeners) != 1 || c.Listeners[0].Tenant != "acme" || c.Listeners[0].check() != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	write("listeners:\n- name: a\n  bind: 10.0.0.1:1\n  securty: SSL\n")
	if _, _, err := readConfig(path); err == nil || !strings.Contains(err.Error(), `"security"`) {
		t.Error(err)
	}
}

func TestTokenSettings(t *testing.T) {
	t.Parallel()
	const issuer, audience = "sasl.oauthbearer.expected.issuer", "sasl.oauthbearer.expected.audience"
	for _, good := range []map[string]string{
		{issuer: "https://id.example", audience: "a, b", "sasl.oauthbearer.clock.skew.seconds": "0", "braid.oauthbearer.tenant.claim": "t"},
	} {
		if s, err := readSettings(good); err != nil || len(s.Tokens.Audience) != 2 {
			t.Errorf("%v: %v", good, err)
		}
	}
	for _, bad := range []map[string]string{
		{issuer: "https://id.example"}, {audience: "a"}, {issuer: "http://id.example", audience: "a"}, {issuer: "https://id.example", audience: "a", "braid.oauthbearer.ca": "/nowhere"},
		{"connection.failed.authentication.delay.ms": "0"}, {"connections.max.reauth.ms": "-1"},
	} {
		if _, err := readSettings(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

// Who makes the catalog says whether tenant default allows everybody what no ACL speaks of; where
// nobody says it, it does if a listener lets clients of it in unasked.
func TestWhetherTheDefaultTenantIsLenient(t *testing.T) {
	t.Parallel()
	plain, sasl := "plain=127.0.0.1:0", "sasl=127.0.0.1:0,security=SASL_PLAINTEXT"
	const key = "allow.everyone.if.no.acl.found"
	for _, c := range []struct {
		name      string
		listeners []string
		set       map[string]string
		want      bool
	}{
		{"asks nobody", []string{plain}, nil, true},
		{"one of two asks nobody", []string{sasl, plain}, nil, true},
		{"all ask", []string{sasl}, nil, false},
		{"asks nobody, for another tenant", []string{sasl, plain + ",tenant=acme"}, nil, false},
		{"no listeners here", nil, nil, true},
		{"with an authorizer", []string{plain}, map[string]string{"authorizer": "on"}, false},
		{"with an authorizer that is lenient", []string{plain}, map[string]string{"authorizer": "on", key: "true"}, true},
		{"told not to be", []string{plain}, map[string]string{key: "False"}, false},
		{"told to be", []string{sasl}, map[string]string{key: "true"}, true},
	} {
		s, err := readSettings(c.set)
		if err != nil {
			t.Fatal(err)
		}
		p := &process{settings: s}
		for _, text := range c.listeners {
			l, err := parseListener(text)
			if err != nil {
				t.Fatal(err)
			}
			p.cfg.Listeners = append(p.cfg.Listeners, l)
		}
		if got := p.lenient(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if _, err := readSettings(map[string]string{key: "yes"}); err == nil {
		t.Errorf("--set %s=yes is taken", key)
	}
}

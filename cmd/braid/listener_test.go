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

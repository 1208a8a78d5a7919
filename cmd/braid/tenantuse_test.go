package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braidstream/braid/tenant/sasl"

	"github.com/braidstream/braid/console/api"
)

func TestConnectionOfATenant(t *testing.T) {
	t.Parallel()
	gateway := func(ls ...api.Listener) []api.Gateway {
		var out []api.Gateway
		for _, host := range []string{"one", "two"} {
			g := api.Gateway{}
			for _, l := range ls {
				l.Advertise = host + ":" + l.Advertise
				g.Listeners = append(g.Listeners, l)
			}
			out = append(out, g)
		}
		return out
	}
	alice := api.User{Name: "alice", Mechanisms: []string{"SCRAM-SHA-256"}}
	quoted := api.User{Name: `o'bri"en\`, Mechanisms: []string{"SCRAM-SHA-512"}}
	plain := api.Listener{Name: "plain", Advertise: "1"}
	shared := api.Listener{Name: "shared", Advertise: "2", Security: "SASL_SSL", Mechanisms: []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}}
	own := api.Listener{Name: "own", Advertise: "3", Security: "SASL_PLAINTEXT", Mechanisms: []string{"SCRAM-SHA-256"}, Tenant: "acme"}
	sni := api.Listener{Name: "sni", Advertise: "4", Security: "SSL", ServerNames: "kafka.example.com"}
	open := api.Listener{Name: "open", Advertise: "5", Tenant: "acme"}
	for _, c := range []struct {
		what           string
		tenant         string
		listeners      []api.Listener
		users          []api.User
		listener, user string
		mechanism      string
		password       string
		want           []string // in the properties
		fails          string
	}{
		{what: "default, plain", tenant: "default", listeners: []api.Listener{shared, plain}, want: []string{"bootstrap.servers=one:1,two:1\n", "=PLAINTEXT\n"}},
		{what: "by user", tenant: "acme", listeners: []api.Listener{plain, shared}, users: []api.User{alice},
			want: []string{"one:2,two:2", "=SASL_SSL", "sasl.mechanism=SCRAM-SHA-256", `username="alice@acme" password="PASSWORD";`, "ssl.truststore.type=PEM"}},
		{what: "by its bare name", tenant: "acme", listeners: []api.Listener{shared}, users: []api.User{{Name: "carl", Mechanisms: alice.Mechanisms, SignsOn: "carl"}},
			want: []string{`username="carl" password`}},
		{what: "its own first", tenant: "acme", listeners: []api.Listener{shared, own}, users: []api.User{alice}, password: "p",
			want: []string{"one:3", `username="alice" password="p";`}},
		{what: "chosen", tenant: "acme", listeners: []api.Listener{shared, own}, users: []api.User{alice}, listener: "shared", mechanism: "PLAIN",
			want: []string{"one:2", "plain.PlainLoginModule"}},
		{what: "by server name", tenant: "acme", listeners: []api.Listener{sni}, want: []string{"acme.kafka.example.com:4", "=SSL\n"}},
		{what: "its own, unasked", tenant: "acme", listeners: []api.Listener{plain, open}, want: []string{"one:5", "=PLAINTEXT\n"}},
		{what: "quoted", tenant: "acme", listeners: []api.Listener{shared}, users: []api.User{quoted}, password: `a"\'`,
			want: []string{`username="o'bri\\"en\\\\@acme" password="a\\"\\\\'";`}},
		{what: "not ASCII", tenant: "acme", listeners: []api.Listener{own}, users: []api.User{{Name: "zoë", Mechanisms: alice.Mechanisms}}, password: "pä€𝄞",
			want: []string{`username="zo\u00eb" password="p\u00e4\u20ac\ud834\udd1e";`}},
		{what: "none", tenant: "acme", listeners: []api.Listener{plain}, fails: "no listener serves tenant acme"},
		{what: "unknown listener", tenant: "acme", listeners: []api.Listener{own}, users: []api.User{alice}, listener: "onw", fails: `did you mean "own"?`},
		{what: "unknown user", tenant: "acme", listeners: []api.Listener{own}, users: []api.User{alice}, user: "alise", fails: `did you mean "alice"?`},
		{what: "which user", tenant: "acme", listeners: []api.Listener{own}, users: []api.User{alice, quoted}, fails: "has 2 users"},
		{what: "no mechanism", tenant: "acme", listeners: []api.Listener{own}, users: []api.User{quoted}, fails: "listener own takes SCRAM-SHA-256"},
		{what: "nobody asks", tenant: "acme", listeners: []api.Listener{open}, users: []api.User{alice}, user: "alice", fails: "asks nobody"},
	} {
		x, err := connect(c.tenant, gateway(c.listeners...), c.users, c.listener, c.user, c.mechanism)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v, want %q", c.what, err, c.fails)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		x.password = c.password
		x.fill()
		for _, w := range c.want {
			if !strings.Contains(x.Forms["properties"], w) {
				t.Errorf("%s: no %q in\n%s", c.what, w, x.Forms["properties"])
			}
		}
		for _, f := range useForms[:4] {
			if x.Forms[f] == "" || strings.Contains(x.Forms[f], "%!") {
				t.Errorf("%s: form %s is %q", c.what, f, x.Forms[f])
			}
		}
	}
}

func TestPasswordFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, text, want, fails string
		mode                    os.FileMode
	}{
		{name: "good", text: "s3cret pass\n", want: "s3cret pass", mode: 0o600},
		{name: "crlf", text: "s3cret\r\n", want: "s3cret", mode: 0o400},
		{name: "readable", text: "s3cret", fails: "chmod 600", mode: 0o644},
		{name: "group", text: "s3cret", fails: "others may read it", mode: 0o640},
		{name: "empty", text: "\n", fails: "is empty", mode: 0o600},
		{name: "lines", text: "s3cret\nmore\n", fails: "more than one line", mode: 0o600},
		{name: "large", text: strings.Repeat("s3cret", 1000), fails: "at most 1024 bytes", mode: 0o600},
	} {
		got, err := readSecret("password", write(c.name, c.text, c.mode), sasl.MaxPassword)
		if c.fails == "" && (err != nil || got != c.want) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		if c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%s: %v, want %q", c.name, err, c.fails)
		}
	}
	if _, err := readSecret("password", filepath.Join(dir, "none"), sasl.MaxPassword); err == nil {
		t.Error("a file that is not there was read")
	}
}

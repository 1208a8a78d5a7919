package main

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/testkit"
)

// said is what a process and its commands said, by where.
type said map[string][]byte

func (s said) add(where string, text ...string) {
	s[where] = append(s[where], strings.Join(append(text, "\n"), "\n")...)
}

// guarded runs commands as admin of a process that asks who comes.
type guarded struct {
	*running
	said  said
	token string // file
}

// says runs a command, keeps what it says, and returns its exit code.
func (g *guarded) says(args ...string) (out string, code int) {
	g.t.Helper()
	out, errs, code := g.run(append(args, "--token-file", g.token)...)
	g.said.add("braid "+strings.Join(args, " "), out, errs)
	return out, code
}

func (g *guarded) done(args ...string) string {
	g.t.Helper()
	out, code := g.says(args...)
	if code != 0 {
		g.t.Fatalf("braid %s: exit %d\n%s", strings.Join(args, " "), code, g.said["braid "+strings.Join(args, " ")])
	}
	return out
}

// http asks the admin API and keeps the answer.
func (g *guarded) http(method, path, bearer, body string) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, "http://"+g.ready.HTTP+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := resp.Write(&b); err != nil {
		g.t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		g.t.Fatal(err)
	}
	g.said.add(method+" "+path, b.String())
}

// TestSecretsStayInside plants a secret wherever Braid takes or makes one, has every one of them used, rightly and
// wrongly, while everything is logged, and looks for all of them in whatever Braid says: logs, answers, errors, metrics, the
// dump of a crash, and files. A password that is rotated in its file is taken up by the process that runs.
func TestSecretsStayInside(t *testing.T) {
	dir, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	secrets := map[string]string{} // by what they are
	plant := func(what string) string {
		secrets[what] = "pl4nted-" + strings.ReplaceAll(what, " ", "-") + "-" + catalog.RandomName(6)
		return secrets[what]
	}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		testkit.WriteWhole(t, path, []byte(text))
		return path
	}
	upstream := plant("password of a cluster")
	k := testkit.Kafka(t, testkit.PlainUsers(map[string]string{"admin": upstream}), testkit.Property("listener.name.client.connections.max.reauth.ms", "5000"))
	issuer := startTokens(t, dir)
	cert, key := testkit.NewCA(t, "secrets").IssueTo(t, dir, "server", pkix.Name{CommonName: "braid"}, nil)
	pem, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	secrets["key of a listener"] = strings.Split(string(pem), "\n")[1]

	args := []string{"up", "--data-dir", data, "--log-level", "debug", "--http", "127.0.0.1:0,sign-on=required", "--catalog-listen", "127.0.0.1:0", "--local-clusters", "a",
		"--listener", "outer=127.0.0.1:0,security=SASL_PLAINTEXT,sasl=PLAIN+SCRAM-SHA-256+OAUTHBEARER",
		"--listener", "secure=127.0.0.1:0,security=SASL_SSL,cert=" + cert + ",key=" + key,
		"--set", "sasl.oauthbearer.expected.issuer=" + issuer.url, "--set", "sasl.oauthbearer.expected.audience=braid", "--set", "braid.oauthbearer.ca=" + issuer.ca}
	g := &guarded{said: said{}, token: filepath.Join(data, localTokenName)}
	g.running = startBraidWith(t, []string{"GOTRACEBACK=all", "BRAID_PLANTED=" + plant("password in the environment"),
		"BRAID_PLANTED_JAAS=x.PlainLoginModule required username=\"admin\" password=\"" + plant("password in a login module") + "\";"}, args...)
	local, err := os.ReadFile(g.token)
	if err != nil {
		t.Fatal(err)
	}
	secrets["the process's token"] = strings.TrimSpace(string(local))

	// Clusters: one that takes its password, and others that fail in all ways.
	const plainText, mechanism = "security.protocol=SASL_PLAINTEXT", "sasl.mechanism=PLAIN"
	password := file("upstream.password", upstream)
	cluster := func(name string, config ...string) []string {
		out := []string{"cluster", "add", name, "--bootstrap", k.Bootstrap(), "--config", plainText}
		for _, c := range config {
			out = append(out, "--config", c)
		}
		return out
	}
	g.done(cluster("east", mechanism, "sasl.username=admin", "sasl.password=file:"+password)...)
	open := file("open.password", plant("password that all may read"))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for i, config := range [][]string{
		{mechanism, "sasl.username=admin", "sasl.password=env:BRAID_PLANTED"},
		{mechanism, "sasl.jaas.config=env:BRAID_PLANTED_JAAS"},
		{mechanism, "sasl.username=admin", "sasl.password=file:" + open},
		{"sasl.mechanism=OAUTHBEARER", "sasl.oauthbearer.token=file:" + file("upstream.token", plant("token for a cluster"))},
		{mechanism, "sasl.username=admin", "sasl.password=" + plant("password that is no reference")},
		{mechanism, "sasl.username=admin", "sasl.pasword=" + plant("password under a wrong name")},
	} {
		list := cluster(fmt.Sprint("wrong-", i), config...)
		if out, code := g.says(list...); code == 0 {
			t.Errorf("braid %s: %s", strings.Join(list, " "), out)
		}
	}
	// What was typed is no finding.
	for where := range g.said {
		if strings.HasPrefix(where, "braid cluster add wrong-") {
			g.said["a wrong cluster"] = append(g.said["a wrong cluster"], g.said[where]...)
			delete(g.said, where)
		}
	}

	// Users and operators.
	g.done("tenant", "create", "acme")
	g.done("user", "add", "alice", "--tenant", "acme", "--password-file", file("alice.password", plant("password of a user")))
	var user api.User
	if err := json.Unmarshal([]byte(g.must("user", "add", "bob", "--tenant", "acme", "-o", "json", "--token-file", g.token)), &user); err != nil || user.Password == "" {
		t.Fatal(user.Name, err)
	}
	secrets["generated password"] = user.Password
	if err := json.Unmarshal([]byte(g.must("user", "rotate", "bob", "--tenant", "acme", "-o", "json", "--token-file", g.token)), &user); err != nil {
		t.Fatal(err)
	}
	secrets["rotated password"] = user.Password
	var operator api.OperatorToken
	for what, verb := range map[string][]string{"token of an operator": {"add", "olga", "--role", "admin"}, "token of another": {"add", "otto", "--role", "viewer"}} {
		if err := json.Unmarshal([]byte(g.must(append([]string{"operator", "-o", "json", "--token-file", g.token}, verb...)...)), &operator); err != nil || operator.Secret == "" {
			t.Fatal(operator.Name, err)
		}
		secrets[what] = operator.Secret
	}
	cat, err := catalog.Connect(t.Context(), catalog.Config{Endpoints: g.ready.Catalog})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	}()
	kept := map[string]string{} // secrets that the catalog keeps
	if kept["the fleet's token"], err = cat.InternalToken(t.Context()); err != nil {
		t.Fatal(err)
	}
	alice, err := cat.User(t.Context(), "acme", "alice")
	if err != nil {
		t.Fatal(err)
	}
	for m, c := range alice.Credentials {
		kept["the stored key of "+m] = base64.StdEncoding.EncodeToString(c.StoredKey)
	}

	// Clients that come in, and those that do not.
	outer := g.ready.Nodes[0].Listeners["outer"]
	try := func(want bool, auth kgo.Opt) {
		t.Helper()
		cl, err := kgo.NewClient(kgo.SeedBrokers(outer), auth, kgo.RequestRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		if err := cl.Ping(t.Context()); (err == nil) != want {
			t.Errorf("a client that is let in: %v, want %v: %v", err == nil, want, err)
		}
	}
	try(true, kgo.SASL(plain.Auth{User: "alice", Pass: secrets["password of a user"]}.AsMechanism()))
	try(false, kgo.SASL(plain.Auth{User: "alice", Pass: plant("wrong password")}.AsMechanism()))
	try(false, kgo.SASL(scram.Auth{User: "bob", Pass: secrets["generated password"]}.AsSha256Mechanism()))
	try(true, kgo.SASL(scram.Auth{User: "bob", Pass: secrets["rotated password"]}.AsSha256Mechanism()))
	secrets["expired token"] = issuer.token(t, "braid", -time.Minute)
	try(false, kgo.SASL(oauth.Auth{Token: secrets["expired token"]}.AsMechanism()))
	try(false, kgo.SASL(oauth.Auth{Token: plant("malformed token")}.AsMechanism()))

	// Operators who are wrong.
	g.http(http.MethodGet, "/v1/status", plant("wrong token"), "")
	g.http(http.MethodPost, "/v1/tenants/acme/users", secrets["token of an operator"], `{"name":"x","pasword":"`+plant("misnamed password")+`"}`)
	g.http(http.MethodPost, "/v1/tenants/acme/users", secrets["token of an operator"], `{"name":"x","password":"`+plant("password of a torn request"))
	g.http(http.MethodPost, "/v1/tenants/acme/users", secrets["token of an operator"], `{"name":"","password":"`+plant("password of nobody")+`"}`)
	g.http(http.MethodPost, "/v1/tenants/acme/users", secrets["token of another"], `{"name":"y","password":"`+plant("password by a viewer")+`"}`)

	// The cluster's password is rotated: a wrong one is met with the next connection, and so is the right one.
	g.done("topic", "create", "orders", "--partitions", "1", "--tenant", "acme", "--cluster", "east")
	health := func() string {
		var c api.Cluster
		if err := json.Unmarshal([]byte(g.done("cluster", "describe", "east", "-o", "json")), &c); err != nil {
			t.Fatal(err)
		}
		return c.Health
	}
	const well = "up"
	eventually(t, patience, "the cluster is well", func() bool { return health() == well })
	testkit.WriteWhole(t, password, []byte(plant("wrong password of a cluster")))
	eventually(t, patience, "the wrong password is met", func() bool { return health() != well })
	g.says("cluster", "check", "east")
	testkit.WriteWhole(t, password, []byte(upstream+"\n"))
	eventually(t, patience, "the right password is taken up", func() bool { return health() == well })

	// All that can be read.
	routes, err := os.ReadFile(filepath.Join("..", "..", "console", "routes.go"))
	if err != nil {
		t.Fatal(err)
	}
	named := strings.NewReplacer("/clusters/{name}", "/clusters/east", "/topics/{name}", "/topics/orders?tenant=acme", "{tenant}", "acme", "{id}", "none")
	paths := []string{"/metrics", "/healthz", "/readyz"}
	for _, m := range regexp.MustCompile(`"GET (/[^"]+)", catalog`).FindAllStringSubmatch(string(routes), -1) {
		paths = append(paths, "/v1"+named.Replace(m[1]))
	}
	if len(paths) < 15 {
		t.Fatalf("routes %q", paths)
	}
	for _, path := range paths {
		g.http(http.MethodGet, path, secrets["token of an operator"], "")
	}
	for _, args := range []string{"status", "status -o json", "cluster list", "cluster describe east", "cluster describe east -o json", "cluster check east", "topic describe orders --tenant acme",
		"op list", "op list -o json", "tenant describe acme -o json", "user list --tenant acme -o json", "operator list -o json", "acl list --tenant acme", "quota list --tenant acme",
		"usage", "audit list --since 1h", "audit list --since 1h -o json", "tenant use acme --user alice --form python"} {
		g.done(strings.Fields(args)...)
	}
	if _, code := g.says("op", "watch", "none"); code == 0 {
		t.Error("an operation that does not exist is watched")
	}

	// The dump of a crash is in the log.
	g.signal(syscall.SIGQUIT)
	<-g.process.Exited()
	log, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(log, []byte("goroutine 1 ")) || !bytes.Contains(log, []byte("level=DEBUG")) || !bytes.Contains(log, []byte("authentication failed")) {
		t.Errorf("the log is not what is looked through: %s", tail(log, 2000))
	}
	g.said["the log"] = log
	g.said["the ready file"], err = os.ReadFile(g.args[len(g.args)-1])
	if err != nil {
		t.Fatal(err)
	}

	for where, text := range g.said {
		for what, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s is in %s", what, where)
			}
		}
		for what, secret := range kept {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s is in %s", what, where)
			}
		}
	}
	err = filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		for what, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) && !(rel == localTokenName && what == "the process's token") {
				t.Errorf("%s is in file %s", what, rel)
			}
		}
		for what, secret := range kept {
			if bytes.Contains(text, []byte(secret)) && !strings.HasPrefix(rel, "catalog"+string(filepath.Separator)) {
				t.Errorf("%s is in file %s", what, rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

package main

import (
	"crypto/x509/pkix"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/testkit"
)

func TestAdminListenerOptions(t *testing.T) {
	t.Parallel()
	const files = ",cert=c,key=k"
	for text, want := range map[string]struct{ demand, open, warned bool }{
		"127.0.0.1:0":                        {false, false, false},
		"[::1]:0":                            {false, false, false},
		"localhost:9080,sign-on=required":    {true, false, false},
		"0.0.0.0:9080":                       {false, true, true},
		":9080":                              {false, true, true},
		"10.0.0.1:9080" + files:              {true, false, false},
		"10.0.0.1:9080,sign-on=required":     {true, false, true},
		"10.0.0.1:9080,sign-on=off" + files:  {false, true, true},
		"127.0.0.1:9080,client-ca=x" + files: {true, false, false},
		"10.0.0.1:1,client-ca=x" + files + ",mapping=RULE:^CN=(.*?),.*$/$1/L,DEFAULT": {true, false, false},
	} {
		l, err := parseAdminListener(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		s, err := l.security()
		if err != nil || s.Demand != want.demand || (l.open() != "") != want.open || (len(l.warnings()) > 0) != want.warned {
			t.Errorf("%s: %+v, open %q, warnings %q, %v", text, s, l.open(), l.warnings(), err)
		}
		c := upConfig{HTTP: text, Gateways: 1}
		if err := c.fill("127.0.0.1:0", nil, nil, "a", "", true); (err != nil) != want.open {
			t.Errorf("%s: start: %v", text, err)
		}
		c = upConfig{HTTP: text, Gateways: 1, Insecure: true}
		if err := c.fill("127.0.0.1:0", nil, nil, "a", "", true); err != nil {
			t.Errorf("%s with --insecure: %v", text, err)
		}
	}
	for _, bad := range []string{"", "nowhere", "127.0.0.1:1,zoom=1", "127.0.0.1:1,cert=c", "127.0.0.1:1,key=k", "127.0.0.1:1,client-ca=x", "127.0.0.1:1,mapping=DEFAULT" + files,
		"127.0.0.1:1,sign-on=maybe", "127.0.0.1:1,metrics=shut", "127.0.0.1:1,client-ca=x,sign-on=off" + files, "127.0.0.1:1,client-ca=x,client-auth=none" + files,
		"127.0.0.1:1,client-ca=x" + files + ",mapping=RULE:("} {
		if l, err := parseAdminListener(bad); err == nil {
			t.Errorf("%s is taken: %+v", bad, l)
		}
	}
}

// From a guarded process's first token to roles, by the command line alone.
func TestGuardedAdminAPI(t *testing.T) {
	dir := t.TempDir()
	ca := testkit.NewCA(t, "admin")
	cert, key := ca.IssueTo(t, dir, "server", pkix.Name{CommonName: "admin"}, nil)
	caFile := filepath.Join(dir, "ca.pem")
	testkit.WriteWhole(t, caFile, ca.PEM)
	clientCert, clientKey := ca.IssueTo(t, dir, "client", pkix.Name{CommonName: "carol"}, nil)
	data := t.TempDir()
	up := startUp(t, "--data-dir", data, "--local-clusters", "a",
		"--http", "127.0.0.1:0,sign-on=required,cert="+cert+",key="+key+",client-ca="+caFile+",client-auth=requested")
	if !strings.HasPrefix(up.ready.Admin, "https://") {
		t.Fatalf("%+v", up.ready)
	}
	as := func(code int, says string, args ...string) string {
		t.Helper()
		out, errs, got := up.run(append([]string{"--admin", up.ready.Admin, "--admin-ca", caFile}, args...)...)
		if got != code || !strings.Contains(out+errs, says) {
			t.Errorf("braid %s: exit %d, want %d and %q:\n%s%s", strings.Join(args, " "), got, code, says, out, errs)
		}
		return out
	}
	as(exitFailed, "asks who you are", "status")
	local := filepath.Join(data, localTokenName)
	as(exitDone, "fleet", "status", "--token-file", local)
	tokenOf := func(name, role string) string {
		var o api.OperatorToken
		if err := json.Unmarshal([]byte(as(exitDone, name, "operator", "add", name, "--role", role, "--token-file", local, "-o", "json")), &o); err != nil || o.Secret == "" {
			t.Fatalf("%+v, %v", o, err)
		}
		path := filepath.Join(dir, name+".token")
		testkit.WriteWhole(t, path, []byte(o.Secret+"\n"))
		return path
	}
	vera, otto := tokenOf("vera", "viewer"), tokenOf("otto", "operator")
	as(exitFailed, "this needs operator", "topic", "create", "orders", "--partitions", "1", "--token-file", vera)
	as(exitDone, "", "topic", "create", "orders", "--partitions", "1", "--token-file", otto)
	as(exitDone, "orders", "topic", "list", "--token-file", vera)
	as(exitFailed, "this needs admin", "user", "add", "alice", "--token-file", otto)
	as(exitFailed, "this needs admin", "cluster", "add", "east", "--bootstrap", "127.0.0.1:1", "--token-file", otto)
	as(exitDone, "added", "operator", "add", "carol", "--role", "admin", "--certificate", "--token-file", local)
	as(exitDone, "carol", "operator", "list", "--admin-cert", clientCert, "--admin-key", clientKey)
	as(exitDone, "deleted", "operator", "delete", "otto", "--admin-cert", clientCert, "--admin-key", clientKey)
	as(exitFailed, "no operator's", "topic", "list", "--token-file", otto)
	as(exitUsage, "did you mean", "operator", "lsit", "--token-file", local)
	if err := os.Chmod(vera, 0o644); err != nil {
		t.Fatal(err)
	}
	as(exitFailed, "chmod 600", "status", "--token-file", vera)
	log, err := os.ReadFile(up.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{local, vera, otto} {
		token, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(log), strings.TrimSpace(string(token))) {
			t.Errorf("%s is in the log", path)
		}
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/testkit"
)

// Who changed what and who was denied what is in the file and in the topic, also of a
// second process, and no password or token is in either.
func TestAuditLog(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	up := startUp(t, "--data-dir", data, "--local-clusters", "a", "--set", "braid.audit.topic=on")
	const right, wrong = "planted-right-password", "planted-wrong-password"
	file := filepath.Join(dir, "password")
	testkit.WriteWhole(t, file, []byte(right))
	up.must("tenant", "create", "acme")
	up.must("user", "add", "alice", "--tenant", "acme", "--password-file", file)
	up.must("user", "add", "eve", "--tenant", "acme", "--password-file", file)
	up.must("tenant", "set", "acme", "--super-users", "User:alice")
	var o api.OperatorToken
	if err := json.Unmarshal([]byte(up.must("operator", "add", "olga", "--role", "viewer", "-o", "json")), &o); err != nil {
		t.Fatal(err)
	}
	if _, _, code := up.run("topic", "create", "x", "--partitions", "99999999"); code == 0 {
		t.Error("an absurd topic was made")
	}
	as := func(user, password string) *kadm.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka[0]), kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()), kgo.RetryTimeout(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return kadm.NewClient(cl)
	}
	if _, err := as("alice", right).CreateTopic(t.Context(), 1, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	if _, err := as("eve", right).CreateTopic(t.Context(), 1, 1, nil, "stolen"); err == nil {
		t.Error("eve may create topics")
	}
	if _, err := as("eve", wrong).ListTopics(t.Context()); err == nil {
		t.Error("a wrong password is right")
	}
	want := []string{
		"change operator:anonymous POST /v1/tenants done",
		"change operator:anonymous POST /v1/tenants/acme/users done",
		"change operator:anonymous PATCH /v1/tenants/acme done",
		"change operator:anonymous POST /v1/operators done",
		"change operator:anonymous POST /v1/topics invalid",
		"change User:alice CreateTopics TOPIC orders done",
		"denied User:eve CreateTopics TOPIC stolen denied",
		"unauthenticated eve PLAIN failed",
	}
	has := func(list []api.AuditEvent) error {
		var all []string
		for _, e := range list {
			all = append(all, strings.Join(strings.Fields(fmt.Sprint(e.Kind, " ", e.Who, " ", e.Action, " ", e.Resource, " ", e.Result)), " "))
		}
		for _, w := range want {
			if !contains(all, w) {
				return fmt.Errorf("no %q in\n%s", w, strings.Join(all, "\n"))
			}
		}
		return nil
	}
	// It is in the topic a moment later; the topic is what is read here.
	var list []api.AuditEvent
	for deadline := time.Now().Add(patience); ; {
		list = nil
		if err := json.Unmarshal([]byte(up.must("audit", "list", "--since", "1h", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		err := has(list)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	for _, e := range list {
		if e.From == "" && e.Kind != "left-out" || e.Time.IsZero() || e.Via == "" {
			t.Errorf("%+v", e)
		}
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(data, "audit", "audit.log")
	inFile, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(up.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{right, wrong, o.Secret} {
		for where, b := range map[string][]byte{"the topic": text, "the file": inFile, "the log": log} {
			if strings.Contains(string(b), secret) {
				t.Errorf("%s is in %s", secret, where)
			}
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
	if out := up.must("audit", "list", "--kind", "denied", "--tenant", "acme"); !strings.Contains(out, "stolen") || strings.Contains(out, "orders") {
		t.Errorf("denied:\n%s", out)
	}
	// No client sees the topic.
	names, err := as("alice", right).ListTopicsWithInternal(t.Context())
	if err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names.Names(), err)
	}
}

// Without being told to, what any process writes down can be read of each, from the first tenant on: also of one that
// has no gateway, and no file of its own.
func TestAuditOfAllProcesses(t *testing.T) {
	t.Parallel()
	up := startUp(t, "--local-clusters", "a")
	alone := startBraid(t, "controller", "--catalog-endpoints", strings.Join(up.ready.Catalog, ","), "--http", "127.0.0.1:0")
	alone.must("topic", "create", "of-nobody", "--partitions", "1")
	if out, errs, code := alone.run("audit", "list"); code == 0 || !strings.Contains(errs, "keeps no audit log") {
		t.Errorf("a topic before there is anybody to tell apart: exit %d\n%s%s", code, out, errs)
	}
	alone.must("tenant", "create", "acme")
	up.must("tenant", "create", "globex")
	actions := func(r *running) string {
		t.Helper()
		out, errs, code := r.run("audit", "list", "--since", "1h", "-o", "json")
		if code != 0 {
			return errs // the topic is on its way
		}
		var list []api.AuditEvent
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		var text []string
		for i, e := range list {
			if i > 0 && e.Time.Before(list[i-1].Time) {
				t.Errorf("%+v comes after %+v", e, list[i-1])
			}
			text = append(text, e.Action+" "+e.Detail)
		}
		return strings.Join(text, "\n")
	}
	for _, r := range []*running{up, alone} {
		eventually(t, patience, "each process shows the events of both", func() bool {
			all := actions(r)
			return strings.Count(all, "acme") == 1 && strings.Count(all, "globex") == 1
		})
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/internal/testkit"
)

// volatile are the members whose values differ from run to run; what counts is that
// they are there, and of which type.
var volatile = map[string]bool{
	"id": true, "op": true, "created": true, "issued": true, "finished": true, "started": true, "until": true,
	"clusterId": true, "fleet": true, "controller": true, "advertise": true, "bootstrap": true, "version": true,
	"go": true, "revision": true, "commit": true, "platform": true, "os": true, "arch": true,
	"keptUntil": true, "health": true, "detail": true, "password": true, "deleteAt": true, "kcat": true, "since": true, "properties": true, "python": true,
	"time": true, "secret": true, "rotated": true, "expires": true,
}

var (
	physicalTopic = regexp.MustCompile(`braid\.[a-z0-9]+\.([a-z0-9-]+)\.([^./]+)\.[a-z0-9]{10,}`)
	verifyTopic   = regexp.MustCompile(`braid-verify-[0-9a-f]{16}`)
	operationID   = regexp.MustCompile(`\b1[0-9a-z]{12}\b`)
	address       = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)
)

// steady replaces what differs from run to run. With numbers set, those too.
func steady(v any, numbers bool) any {
	switch x := v.(type) {
	case map[string]any:
		if x["topic"] == "__braid_coordinator" && x["verdict"] != nil {
			// Of how much coordinators have written by then, and how soon gateways told of it.
			x["partitions"], x["verdict"] = "(partitions)", "(verdict)"
		}
		if _, ok := x["pauseMs"]; ok {
			x["idle"] = "(true or absent)" // said instead of a pause
		}
		if kept, ok := x["kept"].([]any); ok {
			// Whether coordinators have written anything there by then, and since anew elsewhere.
			kept = slices.DeleteFunc(kept, func(k any) bool { return k.(map[string]any)["topic"] == "__braid_coordinator" })
			if x["kept"] = kept; len(kept) == 0 {
				delete(x, "kept")
			}
		}
		if x["kind"] == "local" && x["health"] != nil {
			delete(x, "detail") // it has one when it is not well, as on a machine that is too busy
		}
		for k, member := range x {
			if k == "pauseMs" { // null until it is known
				x[k] = "(number or null)"
				continue
			}
			if _, planned := x["openTransactions"]; planned && isNumber(member) && (k == "records" || k == "bytes") {
				x[k] = "(number)" // what coordinators have written by then
				continue
			}
			switch member.(type) {
			case string, float64, []any:
				if volatile[k] {
					x[k] = map[bool]string{true: "(number)", false: "(" + k + ")"}[isNumber(member)]
					continue
				}
			}
			x[k] = steady(member, numbers)
		}
	case []any:
		for i := range x {
			x[i] = steady(x[i], numbers)
		}
	case string:
		s := physicalTopic.ReplaceAllString(x, "braid.FLEET.$1.$2.UNIQUE")
		s = address.ReplaceAllString(s, "ADDRESS")
		s = verifyTopic.ReplaceAllString(s, "braid-verify-UNIQUE")
		return operationID.ReplaceAllString(s, "OPERATION")
	case float64:
		if numbers {
			return "(number)"
		}
	}
	return v
}

func isNumber(v any) bool {
	_, ok := v.(float64)
	return ok
}

// goldenCase is a command line whose JSON is compared with a file of its name. In args EAST is the address of a real
// Kafka cluster, OP the operation that was started last.
type goldenCase struct {
	name    string
	args    string
	code    int
	numbers bool             // replaced
	before  func(*goldenRun) // what it needs
	until   string           // it is asked again until this is in the answer
}

// goldenRun is what the cases of one run share.
type goldenRun struct {
	*running
	faults string // directory of the points at which a controller is held
	op     string
}

// holdAt has the controller stop at a point, before a case starts what comes there.
func holdAt(point string) func(*goldenRun) {
	return func(g *goldenRun) {
		if err := os.WriteFile(filepath.Join(g.faults, point), nil, 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
}

// isHeld waits until the controller stands at a point.
func isHeld(point string) func(*goldenRun) {
	return func(g *goldenRun) {
		eventually(g.t, patience, "the controller is at "+point, func() bool {
			_, err := os.Stat(filepath.Join(g.faults, point+".reached"))
			return err == nil
		})
	}
}

// letGo lets it go on.
func letGo(point string) func(*goldenRun) {
	return func(g *goldenRun) {
		if err := os.Remove(filepath.Join(g.faults, point)); err != nil {
			g.t.Fatal(err)
		}
	}
}

// goldenCases run one after the other on one process.
var goldenCases = []goldenCase{
	{name: "version", args: "version"},
	{name: "topic-create", args: "topic create packages --partitions 2 --cluster a --config retention.ms=86400000"},
	{name: "topic-create-available", args: "topic create clicks --partitions 1 --cluster a --config braid.guarantee=available"},
	{name: "topic-list", args: "topic list"},
	{name: "topic-describe", args: "topic describe packages"},
	{name: "cluster-add", args: "cluster add east --bootstrap EAST --region eu --zone z1", numbers: true},
	{name: "cluster-list", args: "cluster list", numbers: true},
	{name: "cluster-describe", args: "cluster describe east", numbers: true},
	{name: "cluster-check", args: "cluster check east"},
	{name: "cluster-check-local", args: "cluster check a"},
	{name: "status", args: "status", numbers: true},
	{name: "move-plan", args: "topic move packages clicks --to b --dry-run"},
	{name: "move-nothing-plan", args: "topic move packages --to a --dry-run"},
	{name: "move-nothing", args: "topic move packages --to a"},
	{name: "drain-plan", args: "cluster drain a --to b --dry-run"},
	{name: "failover-plan", args: "failover a --to b --dry-run"},
	{name: "failover-forced-plan", args: "failover a --to b --force --dry-run"},
	{name: "failback-plan", args: "failback a --dry-run"},
	{name: "move", args: "topic move packages --to b"},
	{name: "op-watch", args: "op watch OP"},
	{name: "topic-describe-moved", args: "topic describe packages"},
	{name: "failover", args: "failover a --to b"},
	{name: "failback", args: "failback a"},
	{name: "drain", args: "cluster drain b --to a"},
	{name: "cluster-describe-drained", args: "cluster describe b", numbers: true},
	{name: "op-list", args: "op list"},
	{name: "move-detached", args: "topic move packages --to east --detach", numbers: true, before: holdAt(controller.FaultPrepared)},
	{name: "op-cancel", args: "op cancel OP", numbers: true, before: isHeld(controller.FaultPrepared)},
	{name: "op-cancelled", args: "op watch OP", code: exitFailed, numbers: true, before: letGo(controller.FaultPrepared)},
	{name: "cluster-remove", args: "cluster remove east", before: func(g *goldenRun) {
		// What the cancelled move had made there is gone when its extend is.
		eventually(g.t, patience, "the move is undone", func() bool { return g.topic("packages").Moving == nil })
	}},
	{name: "verify", args: "verify --duration 1s --rate 100 --partitions 1", numbers: true},
	{name: "verify-transactions", args: "verify --transactions --duration 1s --rate 100 --partitions 1 --group-consumers 0", numbers: true},
	{name: "topic-delete", args: "topic delete clicks"},
	{name: "tenant-create", args: "tenant create acme --display-name Acme --limit topics=5 --budget producer_byte_rate=1e6 --default retention.ms=1000 --super-users User:root --clusters a"},
	{name: "tenant-set", args: "tenant set acme --limit partitions=20 --remove retention.ms"},
	{name: "tenant-topic-create", args: "topic create packages --partitions 1 --tenant acme"},
	{name: "tenant-topic-list", args: "topic list --tenant acme"},
	{name: "user-add", args: "user add alice --tenant acme"},
	{name: "user-rotate", args: "user rotate alice --tenant acme --mechanism SCRAM-SHA-512"},
	{name: "user-list", args: "user list --tenant acme"},
	{name: "tenant-describe", args: "tenant describe acme"},
	{name: "tenant-list", args: "tenant list", numbers: true},
	{name: "tenant-use", args: "tenant use default"},
	{name: "acl-add", args: "acl add --tenant acme --principal User:alice --operation read,write --topic packages"},
	{name: "acl-list", args: "acl list --tenant acme --principal User:alice"},
	{name: "acl-delete-plan", args: "acl delete --tenant acme --principal User:alice --operation write --dry-run"},
	{name: "acl-delete", args: "acl delete --tenant acme --principal User:alice --operation write"},
	{name: "quota-set", args: "quota set --tenant acme --user alice producer_byte_rate=1048576 request_percentage=50"},
	{name: "quota-list", args: "quota list --tenant acme"},
	{name: "operator-add", args: "operator add olga --role admin"},
	{name: "operator-list", args: "operator list"},
	{name: "operator-rotate", args: "operator rotate olga --expires never"},
	{name: "operator-delete", args: "operator delete olga --force"},
	{name: "user-delete", args: "user delete alice --tenant acme"},
	{name: "usage-tenant", args: "usage --tenant acme --since 2026-01-01", numbers: true},
	{name: "tenant-delete", args: "tenant delete acme --yes --grace 1h"},
	{name: "tenant-undelete", args: "tenant undelete acme"},
}

// goldenElsewhere are the files of commands whose JSON other tests compare.
var goldenElsewhere = map[string][]string{
	"braid up":               {"ready-up"},
	"braid gateway":          {"ready-gateway"},
	"braid controller":       {"ready-controller"},
	"braid audit tail":       {"audit-tail"},
	"braid audit list":       {"audit-list"},
	"braid usage":            {"usage"},
	"braid topic describe":   {"topic-describe-waiting", "topic-describe-lost"},
	"braid status":           {"status-lost"},
	"braid cluster describe": {"cluster-describe-kept"},
	"braid storage check":    {"storage-check-damaged", "storage-check-whole"},
	"braid storage dump":     {"storage-dump-damaged", "storage-dump-whole"},
}

// TestEveryCommandHasAGolden: no command's JSON is without a file that it is compared with, and no file
// without a command.
func TestEveryCommandHasAGolden(t *testing.T) {
	t.Parallel()
	files := map[string]bool{} // true: of a command
	entries, err := os.ReadDir(filepath.Join("testdata", "json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range entries {
		files[strings.TrimSuffix(f.Name(), ".json")] = false
	}
	covered := map[string]bool{}
	cover := func(command string, names ...string) {
		for _, name := range names {
			if _, ok := files[name]; !ok {
				t.Errorf("%s: there is no testdata/json/%s.json", command, name)
			}
			files[name] = true
		}
		covered[command] = true
	}
	root := testRoot()
	for _, c := range goldenCases {
		cmd, _, err := root.Find(strings.Fields(c.args))
		if err != nil {
			t.Fatal(err)
		}
		cover(cmd.CommandPath(), c.name)
	}
	for command, names := range goldenElsewhere {
		cover(command, names...)
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return // cobra's own: scripts for shells
		}
		if c.HasParent() && !c.HasSubCommands() && !covered[c.CommandPath()] {
			t.Errorf("the JSON of %s is compared with nothing: give it a case in goldenCases", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	for name, ofCommand := range files {
		if !ofCommand {
			t.Errorf("testdata/json/%s.json is of no command", name)
		}
	}
}

// golden compares JSON with a file.
func golden(t *testing.T, name string, v any, numbers bool) {
	t.Helper()
	got, err := json.MarshalIndent(steady(v, numbers), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", "json", name+".json")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the JSON of %s is\n%s\nwant\n%s", name, got, want)
	}
}

// parsed is JSON as anything.
func parsed(t *testing.T, raw []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v:\n%s", err, raw)
	}
	return v
}

// TestGoldenJSON: the shape of every command's JSON is a contract. It also holds the
// plans of dry runs, and exit codes.
func TestGoldenJSON(t *testing.T) {
	east := testkit.Shared(t)
	// What certificates say changes when leases have turned over: not before the test is over.
	g := &goldenRun{faults: t.TempDir()}
	g.running = startBraidWith(t, []string{"BRAID_FAULTS_DIR=" + g.faults}, "up", "--set", "braid.lease.ms=600000", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0",
		"--http", "127.0.0.1:0", "--catalog-listen", "127.0.0.1:0")
	for _, tc := range goldenCases {
		t.Run(tc.name, func(t *testing.T) {
			if tc.before != nil {
				tc.before(g)
			}
			args := append(strings.Fields(strings.NewReplacer("OP", g.op, "EAST", east.Bootstrap()).Replace(tc.args)), "-o", "json")
			var out, errs string
			var code int
			eventually(t, patience, "answer to braid "+tc.args, func() bool {
				out, errs, code = g.run(args...)
				return strings.Contains(out, tc.until)
			})
			if code != tc.code {
				t.Fatalf("exit %d, want %d\n%s%s", code, tc.code, out, errs)
			}
			if tc.name == "move" || tc.name == "move-detached" {
				var x struct{ ID string }
				if err := json.Unmarshal([]byte(out), &x); err != nil {
					t.Fatal(err)
				}
				g.op = x.ID
			}
			golden(t, tc.name, parsed(t, []byte(out)), tc.numbers)
		})
	}
}

// TestGoldenReady: what is in the ready file, and what -o json prints in place of the greeting, is the same shape
// in each kind of process.
func TestGoldenReady(t *testing.T) {
	t.Parallel()
	up := startUp(t, "-o", "json")
	catalog := up.ready.Catalog[0]
	for name, r := range map[string]*running{"up": up, "gateway": up.gateway("-o", "json"),
		"controller": startBraid(t, "controller", "--catalog-endpoints", catalog, "-o", "json")} {
		line, err := os.ReadFile(r.args[len(r.args)-1])
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "ready-"+name, parsed(t, line), true)
		// The log is of both streams: what is printed begins with a line of its own.
		eventually(t, patience, "braid "+name+" prints what the ready file holds", func() bool {
			log, err := os.ReadFile(r.log)
			if err != nil {
				t.Fatal(err)
			}
			_, after, _ := strings.Cut("\n"+string(log), "\n{\n")
			var printed any
			return json.NewDecoder(strings.NewReader("{"+after)).Decode(&printed) == nil &&
				reflect.DeepEqual(printed, parsed(t, line))
		})
	}
}

// TestGoldenUsage: what all tenants used, once it is written down.
func TestGoldenUsage(t *testing.T) {
	t.Parallel()
	up := startUp(t)
	up.must("topic", "create", "packages", "--partitions", "1", "--cluster", "a")
	var out string
	eventually(t, patience, "what tenants hold is written down", func() bool {
		out = up.must("usage", "--since", "2026-01-01", "-o", "json")
		return strings.Contains(out, `"tenant"`)
	})
	golden(t, "usage", parsed(t, []byte(out)), true)
}

// TestGoldenWaiting: a topic that waits for its cluster.
func TestGoldenWaiting(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(api.Topic{Name: "orders", Config: map[string]string{}, Partitions: []api.Partition{}, Certificates: []api.Certificate{},
		Waits: []api.Wait{{Cluster: "east", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Partitions: 3, Hint: controller.WaitHint("east")},
			{Cluster: "west", Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Partitions: 1, Reason: "no other cluster takes it: east is down"}}})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "topic-describe-waiting", parsed(t, raw), false)
}

// TestGoldenRare: what is lost with a physical topic that is gone, in a topic's description and in the status; and what a
// cluster keeps that was drained.
func TestGoldenRare(t *testing.T) {
	t.Parallel()
	end, n, none := int64(3), int64(3), int64(0)
	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, v := range map[string]any{
		"topic-describe-lost": api.Topic{Name: "orders", Config: map[string]string{},
			Partitions: []api.Partition{{Spans: []api.Span{{End: &end, Copies: []api.Copy{{Cluster: "east", Topic: "braid.f.default.orders.x", Gone: true}}}}}},
			Certificates: []api.Certificate{{Op: "op", Kind: "repair", Topic: "orders", From: "east", To: "east", Mode: "seal", Verdict: "violated",
				Partitions: []api.CertifiedRecord{{End: 3, Start: 3, Lost: &n, Duplicated: &none, Reordered: &none, Idle: true, Verdict: "violated", Checked: []string{"read"},
					Ranges: []api.Range{{To: 3, What: "lost", Note: "it is gone"}}, Groups: []api.CertifiedGroup{{Group: "g", Committed: 1, From: 1, To: 3, Records: 2, What: "lost"}}}}}}},
		"status-lost":           api.Status{Gateways: []api.Gateway{}, Clusters: []api.Cluster{}, Running: []api.Op{}, Warnings: []string{controller.LostText("east", []string{"orders"})}},
		"cluster-describe-kept": api.Cluster{Name: "b", Kind: "local", State: "draining", Kept: []api.Kept{{Topic: "orders", Spans: 2, Until: &until}, {Topic: "compacted", Spans: 1}}},
	} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, parsed(t, raw), false)
	}
}

// TestGoldenAudit: a line that is tailed is what audit list has in its list; and that with what is around it.
func TestGoldenAudit(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	e := &env{streams: streams{out: &b}, output: "json"}
	event := api.AuditEvent{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Kind: "denied", Who: "User:alice", From: "10.0.0.1", Via: "default",
		Tenant: "acme", Action: "Produce", Resource: "TOPIC orders", Detail: "WRITE", Result: "TOPIC_AUTHORIZATION_FAILED", LeftOut: 2}
	if err := e.print(api.AuditPage{Events: []api.AuditEvent{event}, From: event.Time}, nil); err != nil {
		t.Fatal(err)
	}
	golden(t, "audit-list", parsed(t, b.Bytes()), false)
	b.Reset()
	if err := e.tailed(event); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b.Bytes(), []byte{'\n'}); n != 1 {
		t.Errorf("%d lines", n)
	}
	golden(t, "audit-tail", parsed(t, b.Bytes()), false)
}

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/braidstream/braid/internal/testkit"
)

// volatile are the members whose values differ from run to run; what counts is that
// they are there, and of which type.
var volatile = map[string]bool{
	"id": true, "op": true, "created": true, "issued": true, "finished": true, "started": true, "until": true,
	"clusterId": true, "fleet": true, "controller": true, "advertise": true, "bootstrap": true, "version": true,
	"go": true, "revision": true, "commit": true, "platform": true, "os": true, "arch": true,
	"keptUntil": true, "health": true, "detail": true, "password": true, "deleteAt": true, "kcat": true, "since": true, "properties": true, "python": true,
}

var (
	physicalTopic = regexp.MustCompile(`braid\.[a-z0-9]+\.([a-z0-9-]+)\.([^./]+)\.[a-z0-9]{10,}`)
	verifyTopic   = regexp.MustCompile(`braid-verify-[0-9a-f]{16}`)
	operationID   = regexp.MustCompile(`\b1[0-9a-z]{12}\b`)
)

// steady replaces what differs from run to run. With numbers set, those too.
func steady(v any, numbers bool) any {
	switch x := v.(type) {
	case map[string]any:
		if x["topic"] == "__braid_coordinator" && x["verdict"] != nil {
			// Of how much coordinators have written by then, and how soon gateways told of it.
			x["partitions"], x["verdict"] = "(partitions)", "(verdict)"
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

// TestGoldenJSON: the shape of every command's JSON is a contract. It also holds the
// plans of dry runs, and exit codes.
func TestGoldenJSON(t *testing.T) {
	east := testkit.Shared(t)
	// What certificates say changes when leases have turned over: not before the test is over.
	up := startUp(t, "--set", "braid.lease.ms=600000")
	op := ""
	for _, tc := range []struct {
		name    string
		args    string
		code    int
		numbers bool // replaced
	}{
		{name: "version", args: "version"},
		{name: "topic-create", args: "topic create packages --partitions 2 --cluster a --config retention.ms=86400000"},
		{name: "topic-create-available", args: "topic create clicks --partitions 1 --cluster a --config braid.guarantee=available"},
		{name: "topic-list", args: "topic list"},
		{name: "topic-describe", args: "topic describe packages"},
		{name: "cluster-add", args: "cluster add east --bootstrap " + east.Bootstrap() + " --region eu --zone z1", numbers: true},
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
		{name: "cluster-remove", args: "cluster remove east"},
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
		{name: "user-delete", args: "user delete alice --tenant acme"},
		{name: "usage-tenant", args: "usage --tenant acme --since 2026-01-01", numbers: true},
		{name: "tenant-delete", args: "tenant delete acme --yes --grace 1h"},
		{name: "tenant-undelete", args: "tenant undelete acme"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := strings.Fields(strings.ReplaceAll(tc.args, "OP", op))
			out, errs, code := up.run(append(args, "-o", "json")...)
			if code != tc.code {
				t.Fatalf("exit %d, want %d\n%s%s", code, tc.code, out, errs)
			}
			if tc.name == "move" {
				var x struct{ ID string }
				if err := json.Unmarshal([]byte(out), &x); err != nil {
					t.Fatal(err)
				}
				op = x.ID
			}
			var v any
			if err := json.Unmarshal([]byte(out), &v); err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			got, err := json.MarshalIndent(steady(v, tc.numbers), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			path := filepath.Join("testdata", "json", tc.name+".json")
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
				t.Errorf("braid %s -o json is\n%s\nwant\n%s", tc.args, got, want)
			}
		})
	}
}

package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/braidstream/braid/console/api"
)

// completed asks for what a shell offers behind a command line, without the descriptions.
func completed(t *testing.T, admin string, line ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), buildBraid(t), append([]string{"__complete"}, line...)...)
	cmd.Env = append(cmd.Environ(), "BRAID_ADMIN="+admin)
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	var out []string
	for l := range strings.Lines(string(b)) {
		l = strings.TrimSuffix(l, "\n")
		if directive, ok := strings.CutPrefix(l, ":"); ok {
			if directive != "4" && directive != "6" && directive != "0" { // no files, and no space; or files are asked for
				t.Errorf("%q ends with directive %s", line, directive)
			}
			break
		}
		name, _, _ := strings.Cut(l, "\t")
		out = append(out, name)
	}
	return out
}

// TestCompletion: shells are offered what there is, as the admin API tells it, and keys
// that are known.
func TestCompletion(t *testing.T) {
	t.Parallel()
	up := startUp(t)
	admin := "http://" + up.ready.HTTP
	up.must("topic", "create", "orders", "--partitions", "1", "--cluster", "a")
	up.must("topic", "create", "payments", "--partitions", "1", "--cluster", "a")
	up.must("tenant", "create", "acme")
	up.must("user", "add", "alice", "--tenant", "acme")
	up.must("topic", "create", "own", "--partitions", "1", "--tenant", "acme")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	past, err := up.move(ctx, "b", "orders")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		line []string
		want []string
	}{
		{[]string{"op", "watch", ""}, []string{past.ID}},
		{[]string{"op", "watch", past.ID[:3]}, []string{past.ID}},
		{[]string{"op", "watch", "x"}, nil},
		{[]string{"op", "watch", past.ID, ""}, nil},
		{[]string{"op", "cancel", ""}, nil}, // it has ended

		{[]string{"topic", "describe", ""}, []string{"orders", "payments"}},
		{[]string{"topic", "describe", "--tenant", "acme", ""}, []string{"own"}},
		{[]string{"topic", "move", "orders", ""}, []string{"payments"}},
		{[]string{"topic", "delete", "orders", ""}, nil},
		{[]string{"topic", "move", "orders", "--to", ""}, []string{"a", "b"}},
		{[]string{"topic", "create", "x", "--cluster", ""}, []string{"a", "b"}},
		{[]string{"topic", "create", "x", "--config", "retention."}, []string{"retention.bytes=", "retention.ms="}},
		{[]string{"verify", "--topic", "o"}, []string{"orders"}},

		{[]string{"cluster", "describe", ""}, []string{"a", "b"}},
		{[]string{"cluster", "drain", "a", "--to", "b"}, []string{"b"}},
		{[]string{"cluster", "add", "east", "--config", "sasl.mech"}, []string{"sasl.mechanism="}},
		{[]string{"failover", ""}, []string{"a", "b"}},
		{[]string{"failback", ""}, []string{"a", "b"}},

		{[]string{"up", "--set", "num.part"}, []string{"num.partitions="}},
		{[]string{"gateway", "--set", "braid.cache"}, []string{"braid.cache.bytes="}},
		{[]string{"controller", "--set", "braid.failure"}, []string{"braid.failure.detection.ms="}},
		{[]string{"up", "--set", "num.partitions=3"}, nil},
		{[]string{"up", "--set", "auto.create.topics.enable="}, []string{"auto.create.topics.enable=false", "auto.create.topics.enable=true"}},
		{[]string{"up", "--set", "group.consumer.migration.policy=d"}, []string{"group.consumer.migration.policy=disabled", "group.consumer.migration.policy=downgrade"}},
		{[]string{"up", "--set", "braid.certify.bytes="}, nil},
		{[]string{"topic", "create", "x", "--config", "braid.guarantee="}, []string{"braid.guarantee=available", "braid.guarantee=ordered"}},
		{[]string{"tenant", "set", "acme", "--default", "cleanup.policy=c"}, []string{"cleanup.policy=compact"}},
		{[]string{"cluster", "add", "east", "--config", "security.protocol=SASL"}, []string{"security.protocol=SASL_PLAINTEXT", "security.protocol=SASL_SSL"}},
		{[]string{"up", "--listener", "ext"}, []string{"external="}},
		{[]string{"up", "--listener", "in=127"}, []string{"in=127.0.0.1:"}},
		{[]string{"gateway", "--listener", "in=127.0.0.1:1,zone=z,s"}, []string{"in=127.0.0.1:1,zone=z,sasl=", "in=127.0.0.1:1,zone=z,security=", "in=127.0.0.1:1,zone=z,sni-domain="}},
		{[]string{"gateway", "--listener", "in=127.0.0.1:1,security=SASL_"}, []string{"in=127.0.0.1:1,security=SASL_PLAINTEXT", "in=127.0.0.1:1,security=SASL_SSL"}},
		{[]string{"gateway", "--listener", "in=127.0.0.1:1,zone="}, nil},

		{[]string{"tenant", "describe", ""}, []string{"acme", "default"}},
		{[]string{"tenant", "set", "acme", "--clusters", "a,"}, []string{"a,b"}},
		{[]string{"tenant", "set", "acme", "--default", "retention.m"}, []string{"retention.ms="}},
		{[]string{"tenant", "set", "acme", "--budget", "producer"}, []string{"producer_byte_rate="}},
		{[]string{"tenant", "set", "acme", "--remove", "retention.m"}, []string{"retention.ms"}},
		{[]string{"tenant", "set", "acme", "--super-users", ""}, []string{"User:alice"}},
		{[]string{"tenant", "use", "acme", "--user", ""}, []string{"alice"}},
		{[]string{"user", "rotate", "--tenant", "acme", ""}, []string{"alice"}},
		{[]string{"user", "delete", "--tenant", "default", ""}, nil},
		{[]string{"user", "list", "--tenant", "a"}, []string{"acme"}},
		{[]string{"acl", "add", "--tenant", "acme", "--topic", ""}, []string{"own"}},
		{[]string{"acl", "add", "--tenant", "acme", "--principal", ""}, []string{"User:alice"}},
		{[]string{"acl", "add", "--operation", "read,wr"}, []string{"read,write"}},
		{[]string{"quota", "set", "--tenant", "acme", "--user", ""}, []string{"alice"}},
		{[]string{"quota", "list", "--tenant", ""}, []string{"acme", "default"}},
	} {
		var got []string
		// Nothing is offered either when the process takes long to answer.
		eventually(t, patience, fmt.Sprintf("%q is completed", c.line), func() bool {
			got = completed(t, admin, c.line...)
			return len(got) > 0 || len(c.want) == 0
		})
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: offered %q, want %q", c.line, got, c.want)
		}
	}
	for _, line := range [][]string{{"topic", "describe", ""}, {"op", "cancel", ""}, {"tenant", "use", "acme", "--user", ""}} {
		if got := completed(t, "http://127.0.0.1:1", line...); len(got) > 0 {
			t.Errorf("%q without a process: offered %q", line, got)
		}
	}
}

// Operations are offered with what they are about; to cancel, those under way alone.
func TestOperationsAreOffered(t *testing.T) {
	t.Parallel()
	ops := []api.Op{{ID: "2", Kind: "drain", Cluster: "a", State: "running"}, {ID: "1", Kind: "move", Topics: []string{"x", "y"}, To: "b", State: "done"}}
	for running, want := range map[bool][]string{
		true:  {"2\tdrain a, running"},
		false: {"2\tdrain a, running", "1\tmove x,y to b, done"},
	} {
		var got []string
		for _, o := range ops {
			if s := opOffer(o, running); s != "" {
				got = append(got, s)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("under way alone %t: %q", running, got)
		}
	}
}

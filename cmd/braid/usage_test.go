package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrongUsage: every slip on the command line ends with exit code 2 and says what was meant.
func TestWrongUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := file("braid.yaml", "data-dri: x\n")
	for _, tc := range []struct {
		args string
		says string
	}{
		{"topc list", `did you mean "topic"?`},
		{"topic mov x", `did you mean "move"?`},
		{"topic move x --too y", "did you mean --to?"},
		{"topic move --to east", "wants the names of topics"},
		{"topic move x", "--to wants the name of the target cluster"},
		{"topic create x", "--partitions wants a number"},
		{"topic create x --partitions 3 --config retention.ms", "wants KEY=VALUE"},
		{"topic describe", "wants the name of a topic"},
		{"topic describe a b", `unexpected "b"`},
		{"cluster add east", "--bootstrap wants at least one HOST:PORT"},
		{"status -o yaml", "text or json"},
		{"status --admin nonsense", "is not a URL"},
		{"up --set num.partitons=3", `did you mean "num.partitions"?`},
		{"up --set num.partitions=many", "want a whole number"},
		{"up --set num.partitions=0", "out of range"},
		{"up --set message.max.bytes=200000000 --set socket.request.max.bytes=100000000", "is more than socket.request.max.bytes"},
		{"up --gateways 0", "a number from 1 to 64"},
		{"up --listen 9092", "wants HOST:PORT"},
		{"up --listen 127.0.0.1:99999", "port 99999 of \"127.0.0.1:99999\" is out of range: 0 to 65535"},
		{"up --listener internal:1", "wants NAME=HOST:PORT"},
		{"up --listener a=127.0.0.1:1,advertized=x:1", `unknown option "advertized"`},
		{"up --listener a=127.0.0.1:1 --listener a=127.0.0.1:2", `two listeners are named "a"`},
		{"up --local-clusters a/b", "is no name for a cluster"},
		{"up --local-clusters a,b,a", "a is named twice"},
		{"tenant crate x", `did you mean "create"?`},
		{"tenant create", "wants the name of the new tenant"},
		{"tenant create x --limit topic=1", `did you mean "topics"?`},
		{"tenant create x --limit topics=-1", "a number from 0 on"},
		{"tenant create x --budget producer_byte_rate=0", "a number above 0"},
		{"tenant create x --default retentoin.ms=1", `did you mean "retention.ms"?`},
		{"tenant set x --remove producer_byte_rat", `did you mean "producer_byte_rate"?`},
		{"tenant use x --form pythn", `did you mean "python"?`},
		{"tenant delete x --grace -1s", "a time from 0 on"},
		{"usage --since yesterday", "--since wants a time ago"},
		{"usage acme", "wants no arguments"},
		{"usage --sicne 1h", "did you mean --since?"},
		{"user add", "wants the name of the new user"},
		{"user add x --mechanism scram-sha-255", `did you mean "SCRAM-SHA-256"?`},
		{"user add x --iterations 10", "a number from 4096 to 16384"},
		{"usage acme", `no arguments: unexpected "acme"`},
		{"topic create bad^name --partitions 1", "no name for a topic"},
		{"topic create .. --partitions 1", "no name for a topic"},
		{"topic create x --partitions 1 --cluster a!", "--cluster: \"a!\" is no name for a cluster"},
		{"topic describe bad^name", "no name for a topic"},
		{"topic delete bad^name", "no name for a topic"},
		{"topic move x bad^name --to a", "no name for a topic"},
		{"topic move x --to a!", "--to: \"a!\" is no name for a cluster"},
		{"cluster add Bad! --bootstrap 127.0.0.1:1", "no name for a cluster"},
		{"cluster add East --bootstrap 127.0.0.1:1", "no name for a cluster: lower-case"},
		{"cluster describe a!", "no name for a cluster"},
		{"cluster drain a --to b!", "no name for a cluster"},
		{"cluster remove a!", "no name for a cluster"},
		{"failover a!", "no name for a cluster"},
		{"failover a --to b!", "no name for a cluster"},
		{"failback a!", "no name for a cluster"},
		{"verify --rate 0", "--rate wants a number from 1 on, not 0"},
		{"verify --rate -5", "--rate wants a number from 1 on, not -5"},
		{"verify --producers 0", "--producers wants a number from 1 on, not 0"},
		{"verify --partitions 0", "--partitions wants a number from 1 on, not 0"},
		{"verify --record-size 0", "--record-size wants a number from 1 on"},
		{"verify --consumers -1", "--consumers wants a number from 0 on, not -1"},
		{"verify --settle 0s", "--settle wants a time above 0"},
		{"verify --topic bad^name", "no name for a topic"},
		{"verify --duration 0s", "--duration wants a time above 0"},
		{"verify --duration -1s", "--duration wants a time above 0"},
		{"verify --transactions --topic x", "--topic does not go with --transactions"},
		{"verify --clusters a,b", "go with --transactions"},
		{"verify --transactions --topics x,y --clusters a", "a cluster for each of --topics: 2, not 1"},
		{"topic create x --partitions 1 --config retentoin.ms=1", `did you mean "retention.ms"?`},
		{"cluster add x --bootstrap x:1 --config security.protocl=SSL", `did you mean "security.protocol"?`},
		{"up --config " + file("text.yaml", "just words\n"), "wants lines of KEY: VALUE"},
		{"up --config " + file("broken.yaml", "a: [1\nb: }\n"), "is neither YAML nor JSON"},
		{"up --config " + file("listeners.yaml", "listeners: [{name: a, bind: '127.0.0.1:1', advertized: 'x:1'}]\n"), `did you mean "advertise"?`},
		{"up --config " + config, `did you mean "data-dir"?`},
		{"up --config /does/not/exist", "no such file"},
		{"up --log-level loud", "debug, info, warn or error"},
		{"gateway", "--catalog-endpoints wants the address of the catalog"},
		{"controller", "--catalog-endpoints wants the address of the catalog"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var out, errs strings.Builder
			args := strings.Fields(tc.args)
			if args[0] == "up" {
				args = append(args, "--data-dir", filepath.Join(t.TempDir(), "data"))
			}
			code := run(context.Background(), args, streams{strings.NewReader(""), &out, &errs})
			if code != exitUsage || !strings.Contains(errs.String(), tc.says) {
				t.Errorf("exit %d, want %d; want %q in:\n%s", code, exitUsage, tc.says, errs.String())
			}
		})
	}
}

// TestNobodyAnswers: without a process behind it a command fails and says what to do.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	var out, errs strings.Builder
	code := run(context.Background(), []string{"--admin", "http://127.0.0.1:1", "status"}, streams{strings.NewReader(""), &out, &errs})
	if code != exitFailed || !strings.Contains(errs.String(), "is `braid up` running?") {
		t.Errorf("exit %d:\n%s", code, errs.String())
	}
}

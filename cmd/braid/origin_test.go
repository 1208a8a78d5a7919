package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigFileIsBlamed: what is wrong in the file of --config is said of the file, its line and key; what is wrong
// with a flag, of the flag, also where the file sets the same.
func TestConfigFileIsBlamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "braid.yaml")
	for _, tc := range []struct {
		name, file string
		flags      []string
		want       string
	}{
		{"an unknown setting", "gateways: 1\nset:\n  num.partitions: 3\n  num.partitons: 6\n", nil, "line 4: set num.partitons: unknown config \"num.partitons\": did you mean \"num.partitions\"?"},
		{"a setting of another kind", "set:\n  num.partitions: many\n", nil, `line 2: set num.partitions: want a whole number, not "many"`},
		{"a setting that a flag wins over", "set:\n  num.partitions: 6\n", []string{"--set", "num.partitions=many"}, `--set num.partitions: want a whole number`},
		{"a setting of a flag, beside others", "set:\n  num.partitions: 6\n", []string{"--set", "num.partitons=6"}, `--set num.partitons: unknown config`},
		{"settings that do not go together", "set:\n  sasl.oauthbearer.expected.audience: a\n", nil, "line 1: set: sasl.oauthbearer.… needs"},
		{"too many gateways", "data-dir: x\ngateways: 65\n", nil, "line 2: gateways wants a number from 1 to 64, not 65"},
		{"too many gateways by a flag", "gateways: 3\n", []string{"--gateways", "65"}, "--gateways wants a number from 1 to 64, not 65"},
		{"gateways of another kind", "gateways: some\n", nil, "line 1: gateways wants a whole number, not a text"},
		{"a part of a gateway", "gateways: 1.5\n", nil, "line 1: gateways wants a whole number, not 1.5"},
		{"a list of texts where one is wanted", "# where\ndata-dir: [x]\n", nil, "line 2: data-dir wants a text, not a list"},
		{"a text where a list is wanted", "local-clusters: a,b\n", nil, "line 1: local-clusters wants a list, not a text"},
		{"a number that is true or false", "insecure: 1\n", nil, "line 1: insecure wants true or false, not a number"},
		{"a list in a setting", "set:\n  num.partitions: 3\n  message.max.bytes: [1]\n", nil, "line 3: set message.max.bytes wants a text, not a list"},
		{"a text where settings are", "set: num.partitions=3\n", nil, "line 1: set wants lines of KEY: VALUE below it, not a text"},
		{"a list in JSON", "{\n  \"set\": {\n    \"num.partitions\": [1]\n  }\n}\n", nil, "line 3: set num.partitions wants a text, not a list"},
		{"a name of a listener that is a list", "listeners:\n- bind: 127.0.0.1:0\n  name: [in]\n", nil, "line 3: listeners name wants a text, not a list"},
		{"a name twice", "local-clusters:\n- a\n- a\n", nil, "line 1: local-clusters: a is named twice"},
		{"an address", "listen: nowhere\n", nil, "line 1: listen wants HOST:PORT, not \"nowhere\""},
		{"the admin API's address", "# where it is asked\nhttp: 127.0.0.1:9080,zoom=1\n", nil, "line 2: http: unknown option \"zoom\""},
		{"a listener", "listeners:\n- name: in\n  bind: 127.0.0.1:0\n- name: out\n  bind: 127.0.0.1:0\n  security: TLS\n", nil, "line 4: listeners out: security \"TLS\" is none of"},
		{"a listener's address", "listeners:\n- bind: 127.0.0.1:0\n  name: \"in\"\n  advertise: kafka\n", nil, "line 3: listeners in advertise wants HOST:PORT"},
		{"a listener of a flag", "listeners:\n- name: in\n  bind: 127.0.0.1:0\n", []string{"--listener", "in=x"}, "--listener in wants HOST:PORT"},
		{"an unknown key", "data-dir: x\ngatways: 2\n", nil, `line 2: unknown key "gatways": did you mean "gateways"?`},
		{"an unknown key of a listener", "listeners:\n- name: in\n  securty: SSL\n", nil, `line 3: unknown key "securty" of a listener`},
		{"JSON", "{\n  \"gateways\": 65\n}\n", nil, "line 2: gateways wants a number"},
		{"no YAML", "gateways: [\n", nil, "is neither YAML nor JSON"},
	} {
		if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		want := tc.want
		if !strings.HasPrefix(want, "--") {
			want = strings.ReplaceAll("--config PATH, "+want, "PATH, is", "PATH is")
		}
		var out, errs strings.Builder
		// Nothing is started: what is wrong is found before.
		args := append([]string{"up", "--data-dir", filepath.Join(t.TempDir(), "none"), "--config", path}, tc.flags...)
		code := run(context.Background(), args, streams{strings.NewReader(""), &out, &errs})
		got := strings.ReplaceAll(errs.String(), path, "PATH")
		if code != exitUsage || !strings.HasPrefix(got, "braid: "+want) {
			t.Errorf("%s: exit %d\n%s\nwant %s", tc.name, code, got, want)
		}
	}
}

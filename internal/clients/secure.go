package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/braidstream/braid/internal/testkit"
)

// Secured is one round of records by a client that has to say who it is.
type Secured struct {
	Name      string `json:"name"`
	Client    Family `json:"client"`
	Bootstrap string `json:"bootstrap"`
	Topic     string `json:"topic"`
	Protocol  string `json:"protocol"` // SSL or SASL_SSL
	CA        string `json:"ca"`       // PEM files
	Cert      string `json:"cert,omitempty"`
	Key       string `json:"key,omitempty"`
	Mechanism string `json:"mechanism,omitempty"`
	Username  string `json:"username,omitempty"`
	Password  string `json:"password,omitempty"`
	Token     string `json:"token,omitempty"`
	// Fails says that it is to fail, so that nobody tries for long.
	Fails bool `json:"fails,omitempty"`
}

// SecuredRound is what became of it.
type SecuredRound struct {
	Name  string `json:"name"`
	Read  int    `json:"read"` // of 5 records, once each
	Error string `json:"error"`
}

// RunSecured runs the rounds of one client, one after the other, in one program:
// KafkaPython, Confluent or KafkaJS.
func RunSecured(tb testing.TB, f Family, rounds []Secured) []SecuredRound {
	tb.Helper()
	dir, err := source()
	if err != nil {
		tb.Fatal(err)
	}
	cache, err := testkit.CacheDir()
	if err != nil {
		tb.Fatal(err)
	}
	var cmd *exec.Cmd
	if f == KafkaJS {
		cmd = exec.CommandContext(tb.Context(), "node", filepath.Join(dir, "node", "secure.js"))
		cmd.Env = append(cmd.Environ(), "NODE_PATH="+filepath.Join(cache, "clients-node", "node_modules"))
	} else {
		cmd = exec.CommandContext(tb.Context(), filepath.Join(cache, "clients-python", "bin", "python3"), "-B", filepath.Join(dir, "python", "secure.py"))
	}
	var in, errs bytes.Buffer
	for _, r := range rounds {
		r.Client = f
		line, err := json.Marshal(r)
		if err != nil {
			tb.Fatal(err)
		}
		fmt.Fprintf(&in, "%s\n", line)
	}
	cmd.Stdin, cmd.Stderr = &in, &errs
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", f, err, &errs)
	}
	var answers []SecuredRound
	for line := range bytes.Lines(out) {
		var a SecuredRound
		if err := json.Unmarshal(line, &a); err != nil {
			tb.Fatalf("%s: %q: %v", f, line, err)
		}
		answers = append(answers, a)
	}
	if len(answers) != len(rounds) {
		tb.Fatalf("%s: %d answers to %d rounds\n%s", f, len(answers), len(rounds), &errs)
	}
	return answers
}

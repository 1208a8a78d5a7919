// Package kgosuite runs franz-go's own tests (pkg/kgo) against a cluster. The
// tests come from the module at the version that go.mod pins; nothing of them is
// copied here.
package kgosuite

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const module = "github.com/twmb/franz-go"

// except lists what is left out or known to skip itself, each with its reason.
//
//go:embed except.txt
var except string

// Exceptions of the suite, from except.txt.
type Exceptions struct {
	// Excluded tests are not run; Skipping ones skip themselves, and Direct ones do
	// so where they run on Apache Kafka without Braid.
	Excluded, Skipping, Direct map[string]string
}

// ReadExceptions parses except.txt: lines of "exclude", "skip" or "direct", a
// test's name and a reason.
func ReadExceptions() (Exceptions, error) {
	e := Exceptions{map[string]string{}, map[string]string{}, map[string]string{}}
	for n, line := range strings.Split(except, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(line, " ", 3)
		if len(f) < 3 {
			return e, fmt.Errorf("except.txt:%d: want a verb, a test and a reason", n+1)
		}
		switch f[0] {
		case "exclude":
			e.Excluded[f[1]] = f[2]
		case "skip":
			e.Skipping[f[1]] = f[2]
		case "direct":
			e.Direct[f[1]] = f[2]
		default:
			return e, fmt.Errorf("except.txt:%d: %q is none of exclude, skip and direct", n+1, f[0])
		}
	}
	return e, nil
}

// A Suite is the compiled tests.
type Suite struct {
	path string // of the test binary
	dir  string // of its package, where it has to run
}

// Build compiles the tests into a directory of tb's.
func Build(tb testing.TB) *Suite {
	tb.Helper()
	s := &Suite{path: filepath.Join(tb.TempDir(), "kgo.test")}
	dir, err := exec.CommandContext(tb.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		tb.Fatalf("find %s: %v", module, err)
	}
	s.dir = filepath.Join(strings.TrimSpace(string(dir)), "pkg", "kgo")
	if out, err := exec.CommandContext(tb.Context(), "go", "test", "-c", "-o", s.path, module+"/pkg/kgo").CombinedOutput(); err != nil {
		tb.Fatalf("compile the tests of %s: %v\n%s", module, err, out)
	}
	return s
}

// Options of a run.
type Options struct {
	Seeds []string
	// Scram is USER:PASSWORD of one who may sign on at the seeds by SCRAM-SHA-256;
	// without it the tests of SCRAM skip themselves.
	Scram string
	// Records is how many records each chain of the ETL tests carries (their own default: 500,000).
	Records int
	// Only, if it is not empty, names the tests to run; else all but Excluded are.
	Only     []string
	Excluded []string
	Timeout  time.Duration
}

// Result of a run, by test and subtest.
type Result struct {
	Passed, Failed, Skipped []string
	// Unfinished tests had begun when the time was up.
	Unfinished []string
	Seconds    map[string]float64
	Output     string // of everything
	Err        error  // of the process
}

// Run runs the tests; cancelling ctx ends them.
func (s *Suite) Run(ctx context.Context, o Options) Result {
	args := []string{"-test.v", "-test.timeout", o.Timeout.String()}
	if len(o.Only) > 0 {
		args = append(args, "-test.run", exactly(o.Only))
	}
	if len(o.Excluded) > 0 {
		args = append(args, "-test.skip", exactly(o.Excluded))
	}
	cmd := exec.CommandContext(ctx, s.path, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+strings.Join(o.Seeds, ","), "KGO_TEST_RF=1", "KGO_LOG_LEVEL=none",
		"KGO_TEST_RECORDS="+strconv.Itoa(o.Records))
	if o.Scram != "" {
		cmd.Env = append(cmd.Env, "KGO_TEST_SCRAM="+o.Scram, "KGO_TEST_SCRAM_SEEDS="+strings.Join(o.Seeds, ","))
	}
	out, err := cmd.CombinedOutput()
	r := parse(out)
	r.Err = err
	return r
}

// exactly is a pattern of the testing package for these names.
func exactly(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	return "^(" + strings.Join(quoted, "|") + ")$"
}

var (
	begun = regexp.MustCompile(`^=== RUN +(\S+)`)
	ended = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)`)
)

func parse(out []byte) Result {
	r := Result{Seconds: map[string]float64{}, Output: string(out)}
	open := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if m := begun.FindStringSubmatch(lines.Text()); m != nil {
			open[m[1]] = true
		}
		m := ended.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		delete(open, m[2])
		if sec, err := strconv.ParseFloat(m[3], 64); err == nil {
			r.Seconds[m[2]] = sec
		}
		switch m[1] {
		case "PASS":
			r.Passed = append(r.Passed, m[2])
		case "FAIL":
			r.Failed = append(r.Failed, m[2])
		case "SKIP":
			r.Skipped = append(r.Skipped, m[2])
		}
	}
	for name := range open {
		r.Unfinished = append(r.Unfinished, name)
	}
	slices.Sort(r.Unfinished)
	return r
}

// About is what the output says of the tests that failed: their lines, and the
// end of the whole.
func (r *Result) About() string {
	var b strings.Builder
	keep := false
	for line := range strings.SplitSeq(r.Output, "\n") {
		if strings.HasPrefix(line, "=== ") {
			keep = false
			for _, f := range append(slices.Clone(r.Failed), r.Unfinished...) {
				keep = keep || strings.HasSuffix(line, " "+f)
			}
			continue
		}
		if keep || strings.Contains(line, "--- FAIL") || strings.Contains(line, "sendErr") {
			b.WriteString(line + "\n")
		}
		if b.Len() > 32<<10 {
			break
		}
	}
	return b.String()
}

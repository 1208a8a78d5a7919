package rooms

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var soakPart = regexp.MustCompile(`^[a-z]+ +\./(\S+) +(Test\S+) +\d+h\b`)

// The parts of a soak name tests that there are: a name that is gone would leave its long variant to the part that takes the
// rest, with too short a limit.
func TestPartsOfASoakAreTests(t *testing.T) {
	root := filepath.Join("..", "..")
	script, err := os.ReadFile(filepath.Join(root, "scripts", "soak.sh"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]map[string]bool{}
	taken := 0
	for line := range strings.Lines(string(script)) {
		part := soakPart.FindStringSubmatch(line)
		if part == nil {
			continue
		}
		if tests[part[1]] == nil {
			tests[part[1]] = testsOf(t, filepath.Join(root, filepath.FromSlash(part[1])))
		}
		for name := range strings.SplitSeq(part[2], "|") {
			if !tests[part[1]][name] {
				t.Errorf("package %s has no %s", part[1], name)
			}
			taken++
		}
	}
	if taken < 20 {
		t.Errorf("%d tests have a part of the soak", taken)
	}
}

// A part that fails, and one that runs no test, keep none after them from running; the end tells of all of them.
func TestASoakGoesOnAfterAFailure(t *testing.T) {
	dir := t.TempDir()
	// In the place of the go command: what it "builds" of span/local fails at TestKill and knows no TestDifferential.
	stand := filepath.Join(dir, "go")
	err := os.WriteFile(stand, []byte(`#!/bin/sh
for to; do if [ "$was" = -o ]; then break; fi; was=$to; done
cat >"$to" <<'END'
#!/bin/sh
case "$*" in
*TestKill*) echo '--- FAIL: TestKill (1.00s)'; exit 1 ;;
*TestDifferential*) echo 'testing: warning: no tests to run' ;;
*) echo '--- PASS: TestOther (1.00s)'; echo "seen: $BRAID_SOAK $BRAID_EXPLORE" >>"$BRAID_TEST_SUMMARY" ;;
esac
END
chmod +x "$to"
`), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join("..", "..", "scripts", "soak.sh"), "kill", "engine", "faults", "explorer")
	cmd.Env = append(os.Environ(), "GO="+stand, "SOAK_DIR="+filepath.Join(dir, "out"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("the script ended with %v:\n%s", err, out)
	}
	told, err := os.ReadFile(filepath.Join(dir, "out", "summary.txt"))
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if !strings.HasSuffix(string(out), string(told)) {
		t.Errorf("the last lines are not the summary:\n%s", out)
	}
	for _, want := range []string{`(?m)^FAILED +kill .*1 tests$`, `(?m)^FAILED +engine .*0 tests$`, `(?m)^ok +faults `, `(?m)^ok +explorer `,
		`(?m)^soak of .* processors, `, `(?m)^seen: 1 30000000$`} {
		if !regexp.MustCompile(want).Match(told) {
			t.Errorf("nothing in the summary matches %s:\n%s", want, told)
		}
	}
	if !strings.Contains(string(out), "--- FAIL: TestKill") {
		t.Errorf("the test that failed is not named:\n%s", out)
	}
	if err := exec.CommandContext(t.Context(), "bash", filepath.Join("..", "..", "scripts", "soak.sh"), "nosuch").Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("a part that there is not: %v", err)
	}
}

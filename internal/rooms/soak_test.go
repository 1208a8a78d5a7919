package rooms

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var soakPart = regexp.MustCompile(`^[a-z]+ +(?:race|plain) +\./(\S+) +(Test\S+) +\d+h\b`)

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

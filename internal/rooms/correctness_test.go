package rooms

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	findingRow = regexp.MustCompile(`^\| (\d+)([a-z]?) \|`)
	namedTest  = regexp.MustCompile("`([a-z/]+): (Test\\w+)`")
	plantedBug = regexp.MustCompile("`chain/explore: TestPlanted\\w+` \\(([^)]+)\\)")
)

// findings is how many docs/correctness.md counts.
const findings = 21

// Each finding names a test that there is, or says that what it is about is not built yet.
func TestEachFindingHasItsTest(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "correctness.md"))
	if err != nil {
		t.Fatal(err)
	}
	explorer := sources(t, filepath.Join(root, "chain", "explore"))
	tests := map[string]map[string]bool{}
	seen := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		row := findingRow.FindStringSubmatch(line)
		if row == nil {
			continue
		}
		seen[row[1]] = true
		named := namedTest.FindAllStringSubmatch(line, -1)
		if len(named) == 0 && !strings.Contains(line, "yet |") {
			t.Errorf("finding %s%s has no test", row[1], row[2])
		}
		for _, n := range named {
			if tests[n[1]] == nil {
				tests[n[1]] = testsOf(t, filepath.Join(root, filepath.FromSlash(n[1])))
			}
			if !tests[n[1]][n[2]] {
				t.Errorf("finding %s%s: package %s has no %s", row[1], row[2], n[1], n[2])
			}
		}
		for _, p := range plantedBug.FindAllStringSubmatch(line, -1) {
			for bug := range strings.SplitSeq(p[1], "; ") {
				if !strings.Contains(explorer, `"`+bug+`"`) {
					t.Errorf("finding %s%s: nothing is planted in the explorer that is called %q", row[1], row[2], bug)
				}
			}
		}
	}
	for i := 1; i <= findings; i++ {
		if !seen[fmt.Sprint(i)] {
			t.Errorf("finding %d is not in the table", i)
		}
	}
}

// testsOf lists the test functions of a package.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				out[f.Name.Name] = true
			}
		}
	}
	return out
}

// sources is the text of a package's files, without its tests.
func sources(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

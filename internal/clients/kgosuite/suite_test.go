package kgosuite

import (
	"slices"
	"strings"
	"testing"
)

func TestExceptions(t *testing.T) {
	e, err := ReadExceptions()
	if err != nil || len(e.Skipping) == 0 {
		t.Fatal(e, err)
	}
	for name := range e.Excluded {
		if e.Skipping[name] != "" || e.Direct[name] != "" {
			t.Errorf("%s is listed twice", name)
		}
	}
}

func TestParse(t *testing.T) {
	r := parse([]byte(`=== RUN   TestA
=== RUN   TestB
=== PAUSE TestB
=== RUN   TestC
=== RUN   TestC/x
=== CONT  TestB
    x_test.go:1: what went wrong
--- PASS: TestA (0.01s)
--- FAIL: TestB (1.50s)
    --- SKIP: TestC/x (0.00s)
panic: test timed out after 1s
`))
	for _, c := range []struct{ got, want []string }{
		{r.Passed, []string{"TestA"}}, {r.Failed, []string{"TestB"}},
		{r.Skipped, []string{"TestC/x"}}, {r.Unfinished, []string{"TestC"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	if about := r.About(); r.Seconds["TestB"] != 1.5 || !strings.Contains(about, "what went wrong") || !strings.Contains(about, "timed out") {
		t.Errorf("%v\n%s", r.Seconds, about)
	}
}

func TestExactly(t *testing.T) {
	if p := exactly([]string{"A", "B.c"}); p != `^(A|B\.c)$` {
		t.Error(p)
	}
}

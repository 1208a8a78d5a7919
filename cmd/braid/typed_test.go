package main

import (
	"context"
	"strings"
	"testing"
)

// TestTypedAs: go run's builds are known by where they are.
func TestTypedAs(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/tmp/go-build1234567/b001/exe/braid":      "go run ./cmd/braid",
		"/home/me/.cache/go-build/3f/3f0a-d/braid": "go run ./cmd/braid",
		"/tmp/go-build1234567/b001/braid.test":     "braid",
		"/usr/local/bin/braid":                     "braid",
		"/home/me/braid/bin/braid":                 "braid",
		"/home/me/src/go_build/bin/braid":          "braid",
	} {
		if got := typedFor(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// TestHintsAsTyped: what is shown to be typed is what works there, and names alone stay.
func TestHintsAsTyped(t *testing.T) {
	t.Parallel()
	commands := commandsOf(testRoot())
	for text, want := range map[string]string{
		"braid op watch x follows it, braid op cancel x stops it": "go run ./cmd/braid op watch x follows it, go run ./cmd/braid op cancel x stops it",
		"is `braid up` running?":                                  "is `go run ./cmd/braid up` running?",
		"braid 0.1.0 is up":                                       "braid 0.1.0 is up",
		"topics named braid.x":                                    "topics named braid.x",
	} {
		if got := retyped(text, goRun, commands); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if got := retyped(text, "braid", commands); got != text {
			t.Errorf("%q installed: %q", text, got)
		}
	}
	root := testRoot()
	showTyped(root, goRun)
	c, _, err := root.Find([]string{"topic", "move"})
	if err != nil || !strings.HasPrefix(c.CommandPath(), goRun+" topic move") || !strings.Contains(c.Example, goRun+" topic move") {
		t.Errorf("%v: %q, %q", err, c.CommandPath(), c.Example)
	}
}

// TestUnknownCommand: only a name that is near is suggested.
func TestUnknownCommand(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{"foo": "", "tpoic": "topic", "clustr": "cluster", "po": "op"} {
		var out, errs strings.Builder
		code := run(context.Background(), []string{word}, streams{strings.NewReader(""), &out, &errs})
		if code != exitUsage || strings.Contains(errs.String(), "did you mean") != (want != "") || !strings.Contains(errs.String(), want) {
			t.Errorf("braid %s: exit %d: %s", word, code, errs.String())
		}
	}
}

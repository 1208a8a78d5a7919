package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write generated pages and golden files anew")

// page compares a generated page with the one in the tree.
func page(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the code says: go test ./cmd/braid -run %s -update", path, t.Name())
	}
}

func testRoot() *cobra.Command {
	return newRoot(streams{strings.NewReader(""), io.Discard, io.Discard})
}

// TestCommandLinePage holds docs/cli.md to the commands.
func TestCommandLinePage(t *testing.T) {
	t.Setenv("BRAID_ADMIN", "")
	var b strings.Builder
	b.WriteString("# The command line\n\nGenerated from the commands; `braid COMMAND -h` shows the same.\n\n" +
		"Exit codes: 0 done, 1 failed, 2 wrong usage. Every command takes `-o json`, whose shapes are those of\n" +
		"the admin API, and `--admin URL` (or `BRAID_ADMIN`). Completion: `braid completion bash|zsh|fish`.\n")
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.HasParent() && !c.HasSubCommands() {
			describeCommand(&b, c)
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				walk(sub)
			}
		}
	}
	walk(testRoot())
	page(t, filepath.Join("..", "..", "docs", "cli.md"), b.String())
}

func describeCommand(b *strings.Builder, c *cobra.Command) {
	use := c.Use
	if p := c.Parent(); p != nil {
		use = p.CommandPath() + " " + use
	}
	fmt.Fprintf(b, "\n## %s\n\n", c.CommandPath())
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(b, "    %s\n\n%s\n\n", use, text)
	everywhere := c.Root().PersistentFlags()
	flag := func(f *pflag.Flag) {
		if f.Name == "help" || everywhere.Lookup(f.Name) != nil {
			return
		}
		def := ""
		if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" {
			def = " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, "- `--%s`: %s%s\n", f.Name, f.Usage, def)
	}
	c.LocalNonPersistentFlags().VisitAll(flag)
	c.InheritedFlags().VisitAll(flag) // of the command that it belongs to
	fmt.Fprintf(b, "\nExample:\n\n%s\n", indent(c.Example))
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(s, "\n") {
		b.WriteString("    " + strings.TrimPrefix(line, "  ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// TestConfigurationPage holds docs/configuration.md to the settings.
func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Configuration\n\nGenerated from the code. `braid up`, `braid gateway` and `braid controller` take these with\n" +
		"`--set KEY=VALUE`, or under `set:` in the file of `--config`. Names are Kafka's where Kafka has the thing.\n\n" +
		"| key | what it is (default) |\n|---|---|\n")
	last := ""
	for _, s := range knownSettings {
		if s.key <= last {
			t.Errorf("setting %s is out of order", s.key)
		}
		last = s.key
		fmt.Fprintf(&b, "| `%s` | %s |\n", s.key, s.doc)
	}
	page(t, filepath.Join("..", "..", "docs", "configuration.md"), b.String())
}

// TestEveryCommandExplainsItself: help with an example, everywhere.
func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s has no short text or no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(testRoot())
}

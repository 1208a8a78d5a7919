package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// goRun is how the README starts Braid before anything is installed.
const goRun = "go run ./cmd/braid"

// typedAs is what one types to run this program, as far as hints can know: its name, or go run's command where that
// built it for this once, so that what is shown to be typed next works where it is typed.
func typedAs() string {
	path, err := os.Executable()
	if err != nil {
		return "braid"
	}
	return typedFor(path)
}

// typedFor is typedAs of a program at a path: go run's is in its directory for the build, or in the build cache.
func typedFor(path string) string {
	if filepath.Base(path) != "braid" {
		return "braid" // a test's binary, say
	}
	for part := range strings.SplitSeq(filepath.ToSlash(filepath.Dir(path)), "/") {
		if strings.HasPrefix(part, "go-build") {
			return goRun
		}
	}
	return "braid"
}

// retyped writes a text's commands, which begin with the program's name, as they are typed.
func retyped(text, typed string, commands *regexp.Regexp) string {
	if typed == "braid" {
		return text
	}
	return commands.ReplaceAllString(text, typed+" $1")
}

// commandsOf finds the commands of a program in a text: its name before the name of one.
func commandsOf(root *cobra.Command) *regexp.Regexp {
	var names []string
	for _, c := range root.Commands() {
		names = append(names, regexp.QuoteMeta(c.Name()))
	}
	return regexp.MustCompile(`\bbraid (` + strings.Join(names, "|") + `)\b`)
}

// showTyped has help and usage show commands as they are typed.
func showTyped(root *cobra.Command, typed string) {
	commands := commandsOf(root)
	if root.Annotations == nil {
		root.Annotations = map[string]string{}
	}
	root.Annotations[cobra.CommandDisplayNameAnnotation] = typed
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		c.Example, c.Long = retyped(c.Example, typed, commands), retyped(c.Long, typed, commands)
		for _, sub := range c.Commands() {
			each(sub)
		}
	}
	each(root)
}

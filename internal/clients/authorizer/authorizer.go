// Package authorizer asks Apache Kafka's own authorizer, in a JVM of its own.
package authorizer

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/braidstream/braid/internal/testkit"
)

// Ask hands the program its input (see Authorizer.java) and returns its answers,
// one for each question.
func Ask(ctx context.Context, input io.Reader) ([]bool, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(here) {
		// -trimpath took the directory away: tests run in that of their package.
		dir, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/braidstream/braid/internal/clients/authorizer").Output()
		if err != nil {
			return nil, fmt.Errorf("find the authorizer's source: %w", err)
		}
		here = filepath.Join(strings.TrimSpace(string(dir)), "authorizer.go")
	}
	cmd, err := testkit.Java(testkit.Kafka43, filepath.Join(filepath.Dir(here), "Authorizer.java"))
	if err != nil {
		return nil, err
	}
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("authorizer: %w: %.4000s", err, errs.String())
	}
	var answers []bool
	for line := range strings.Lines(out.String()) {
		switch strings.TrimSpace(line) {
		case "1":
			answers = append(answers, true)
		case "0":
			answers = append(answers, false)
		default:
			return nil, fmt.Errorf("authorizer: %.200q is no answer", line)
		}
	}
	return answers, nil
}

package main

import (
	"fmt"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/braidstream/braid/console/api"
)

// progress shows how far an operation is: a bar on a terminal, plain lines elsewhere,
// always on standard error so that output stays clean.
type progress struct {
	env  *env
	bar  *progressbar.ProgressBar
	last string
}

func newProgress(e *env, op api.Op) *progress {
	p := &progress{env: e}
	if f, ok := e.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(100,
			progressbar.OptionSetWriter(e.err),
			progressbar.OptionSetDescription(op.Kind),
			progressbar.OptionSetElapsedTime(true),
			progressbar.OptionClearOnFinish())
	}
	p.show(op)
	return p
}

func (p *progress) show(op api.Op) {
	if p.bar != nil {
		what := fmt.Sprintf("%s, %d of %s", op.Kind, op.Done, plural(op.Total, "topic", "topics"))
		if op.Message != "" {
			what += ": " + oneLine(op.Message)
		}
		p.bar.Describe(what)
		if err := p.bar.Set(op.Progress); err != nil {
			p.bar = nil // the terminal went away; plain lines from here
		}
		return
	}
	line := fmt.Sprintf("%s %s: %s, %d of %s", op.Kind, op.ID, op.State, op.Done, plural(op.Total, "topic", "topics"))
	if op.Progress > 0 && op.Progress < 100 {
		line += fmt.Sprintf(", %d %%", op.Progress)
	}
	if op.Message != "" {
		line += " (" + oneLine(op.Message) + ")"
	}
	if line != p.last {
		p.last = line
		_, _ = fmt.Fprintln(p.env.err, line)
	}
}

func (p *progress) stop() {
	if p.bar != nil {
		_ = p.bar.Finish() // only clears the line
	}
}

// Command braid makes many Kafka clusters flow as one. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes of the command line.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// The first signal asks for a clean end, a second one ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, io streams) int {
	root := newRoot(io)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var silent *silentError
	if !errors.As(err, &silent) {
		text := err.Error()
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			text = "interrupted: what was asked of the server by then may be done all the same"
		}
		_, _ = fmt.Fprintf(io.err, "braid: %s\n", retyped(text, typedAs(), commandsOf(root)))
	}
	var usage *usageError
	if errors.As(err, &usage) {
		_, _ = fmt.Fprintf(io.err, "Run '%s -h' for usage and an example.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

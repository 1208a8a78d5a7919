package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
)

func newOp(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "op",
		Short:   "Operations (moves, drains, failovers) under way and past",
		Example: "  braid op list\n  braid op watch 1m80gs9pqmac7",
	}
	group(cmd)
	cmd.AddCommand(newOpList(e), newOpWatch(e), newOpCancel(e))
	return cmd
}

func newOpList(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List operations, newest first",
		Example: "  braid op list -o json",
		Args:    noArguments,
		RunE:    ask(e, func(ctx context.Context, c *api.Client, _ []string) ([]api.Op, error) { return c.Ops(ctx) }, opTable),
	}
}

func opTable(w io.Writer, ops []api.Op) error {
	var rows [][]string
	for _, o := range ops {
		rows = append(rows, []string{o.ID, o.Kind, o.State, fmt.Sprintf("%d/%d", o.Done, o.Total),
			dash(opWhat(o)), dash(o.To), ago(o.Created), o.Message})
	}
	return table(w, []string{"ID", "KIND", "STATE", "TOPICS", "WHAT", "TO", "STARTED", "MESSAGE"}, rows)
}

// opWhat says in a few words what an operation is about.
func opWhat(o api.Op) string {
	if o.Cluster != "" {
		return o.Cluster
	}
	if len(o.Topics) > 3 {
		return strings.Join(o.Topics[:3], ",") + ",…"
	}
	return strings.Join(o.Topics, ",")
}

func newOpWatch(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "watch ID",
		Short:             "Follow an operation to its end",
		Example:           "  braid op watch 1m80gs9pqmac7",
		Args:              names(1, 1, "the id of an operation"),
		ValidArgsFunction: e.first(opIDs(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.client()
			if err != nil {
				return err
			}
			op, err := c.Op(cmd.Context(), args[0], 0)
			if err != nil {
				return err
			}
			return e.follow(cmd.Context(), c, op)
		},
	}
}

func newOpCancel(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "cancel ID",
		Short:             "Cancel an operation; what is not begun is left, what is committed stays, what has begun to seal is finished",
		Example:           "  braid op cancel 1m80gs9pqmac7",
		Args:              names(1, 1, "the id of an operation"),
		ValidArgsFunction: e.first(opIDs(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.client()
			if err != nil {
				return err
			}
			op, err := c.CancelOp(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return e.print(op, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "operation %s is being cancelled: braid op watch %s\n", op.ID, op.ID)
				return err
			})
		},
	}
}

// operate plans or starts an operation and follows it to its end.
func (e *env) operate(cmd *cobra.Command, req api.OpRequest, dryRun, detach bool) error {
	if err := checkClusterFlag("--to", req.To); err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	if dryRun {
		plan, err := c.Plan(cmd.Context(), req)
		if err != nil {
			return err
		}
		return e.print(plan, func(w io.Writer) error { return printPlan(w, plan) })
	}
	op, err := c.Submit(cmd.Context(), req)
	if err != nil {
		return err
	}
	if detach {
		return e.print(op, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "operation %s started: braid op watch %s\n", op.ID, op.ID)
			return err
		})
	}
	return e.follow(cmd.Context(), c, op)
}

// follow shows an operation's progress until it ends, then its certificates.
func (e *env) follow(ctx context.Context, c *api.Client, op api.Op) error {
	bar := newProgress(e, op)
	for !op.Ended() {
		next, err := c.Op(ctx, op.ID, op.Revision)
		if err != nil {
			bar.stop()
			if ctx.Err() != nil {
				return fmt.Errorf("stopped watching; operation %s goes on (braid op watch %s)", op.ID, op.ID)
			}
			return err
		}
		op = next
		bar.show(op)
	}
	bar.stop()
	if err := e.print(op, func(w io.Writer) error {
		for _, cert := range op.Certificates {
			if err := printCertificate(w, cert); err != nil {
				return err
			}
		}
		text := op.State
		if op.Message != "" {
			text += ": " + oneLine(op.Message)
		}
		_, err := fmt.Fprintf(w, "%s %s %s\n", op.Kind, op.ID, text)
		return err
	}); err != nil {
		return err
	}
	if op.State != "done" {
		return &silentError{"operation " + op.State}
	}
	return nil
}

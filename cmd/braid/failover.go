package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
)

func newFailover(e *env) *cobra.Command {
	var req api.OpRequest
	var dryRun, detach bool
	cmd := &cobra.Command{
		Use:   "failover CLUSTER",
		Short: "A cluster is gone: go on elsewhere",
		Long: `Continue the topics of a cluster that is gone on another one, as far as each topic's
guarantee allows: braid.guarantee=available goes on at once; ordered waits for the cluster's
return unless --force is given. --dry-run says first what it costs.`,
		Example: `  braid failover east --dry-run
  braid failover east --to west`,
		Args:              aCluster("the name of a cluster"),
		ValidArgsFunction: e.first(allClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Kind, req.Cluster = "failover", args[0]
			if err := checkClusterFlag("--to", req.To); err != nil {
				return err
			}
			if dryRun {
				return e.operate(cmd, req, dryRun, detach)
			}
			if err := e.warnCosts(cmd.Context(), req); err != nil {
				return err
			}
			if err := e.operate(cmd, req, dryRun, detach); err != nil {
				return err
			}
			return e.warnAnswers(cmd.Context(), req.Cluster)
		},
	}
	cmd.Flags().StringVar(&req.To, "to", "", "cluster to go on at (default: placement chooses)")
	cmd.Flags().BoolVar(&req.Force, "force", false, "also for topics whose guarantee it breaks")
	e.opFlags(cmd, &dryRun, &detach)
	e.completeFlag(cmd, "to", allClusters)
	return cmd
}

// warnCosts says on standard error what an operation is about to cost.
func (e *env) warnCosts(ctx context.Context, req api.OpRequest) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	plan, err := c.Plan(ctx, req)
	if err != nil {
		return err
	}
	return printCosts(e.err, plan.Costs)
}

// warnAnswers says so when a cluster that was just failed over answers after all.
func (e *env) warnAnswers(ctx context.Context, cluster string) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	cl, err := c.Cluster(ctx, cluster)
	if err != nil || cl.State != "failed" || cl.Health != "up" {
		return err
	}
	_, err = fmt.Fprintf(e.err, "%s answers; it is marked failed and takes no new spans; `braid failback %s` undoes that\n", cluster, cluster)
	return err
}

func newFailback(e *env) *cobra.Command {
	var req api.OpRequest
	var dryRun, detach bool
	cmd := &cobra.Command{
		Use:               "failback CLUSTER",
		Short:             "A cluster is back, or not drained after all: it is active, and topics that were failed over go home",
		Example:           "  braid failback east",
		Args:              aCluster("the name of a cluster"),
		ValidArgsFunction: e.first(allClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Kind, req.Cluster = "failback", args[0]
			return e.operate(cmd, req, dryRun, detach)
		},
	}
	e.opFlags(cmd, &dryRun, &detach)
	return cmd
}

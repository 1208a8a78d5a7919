package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
)

func newTopic(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Topics and their chains",
		Example: `  braid topic create packages --partitions 6
  braid topic describe packages
  braid topic move packages --to east`,
	}
	group(cmd)
	e.tenantFlag(cmd)
	cmd.AddCommand(newTopicCreate(e), newTopicList(e), newTopicDescribe(e), newTopicMove(e), newTopicDelete(e))
	return cmd
}

func newTopicCreate(e *env) *cobra.Command {
	var req api.TopicCreate
	var config []string
	cmd := &cobra.Command{
		Use:   "create NAME --partitions N",
		Short: "Create a topic",
		Long: `Create a topic. --config takes Kafka's topic configs and Braid's own: braid.guarantee
(ordered or available), braid.stranded (replay or in-place), braid.max.spans, braid.durability.`,
		Example: `  braid topic create packages --partitions 6 --cluster a --config retention.ms=604800000`,
		Args:    topicNames(1, "the name of the new topic"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			if req.Partitions < 1 {
				return usagef("--partitions wants a number from 1 on")
			}
			if err := checkClusterFlag("--cluster", req.Cluster); err != nil {
				return err
			}
			var err error
			if req.Config, err = keyValues("--config", config); err != nil {
				return err
			}
			if err := checkKeys("--config", req.Config, controller.TopicConfigNames()); err != nil {
				return err
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			t, err := c.CreateTopic(cmd.Context(), req)
			if err != nil {
				return err
			}
			return e.print(t, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "topic %s created: %s on %s\n", t.Name,
					plural(len(t.Partitions), "partition", "partitions"), openCluster(t))
				return err
			})
		},
	}
	f := cmd.Flags()
	f.Int32Var(&req.Partitions, "partitions", 0, "number of partitions, from 1 on; required")
	f.Lookup("partitions").DefValue = "" // 0 is none
	f.StringVar(&req.Cluster, "cluster", "", "cluster to place it on (default: placement chooses)")
	f.StringArrayVar(&config, "config", nil, "topic config KEY=VALUE (repeatable)")
	e.completeFlag(cmd, "cluster", allClusters)
	completeKeys(cmd, "config", controller.TopicConfigNames()...)
	return cmd
}

// openCluster names the clusters that take the topic's appends.
func openCluster(t api.Topic) string {
	seen := map[string]bool{}
	for _, p := range t.Partitions {
		for _, s := range p.Spans {
			if s.End == nil {
				for _, c := range s.Copies {
					seen[c.Cluster] = true
				}
			}
		}
	}
	return dash(strings.Join(sorted(seen), ","))
}

func newTopicList(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the topics",
		Example: "  braid topic list",
		Args:    noArguments,
		RunE:    ask(e, func(ctx context.Context, c *api.Client, _ []string) ([]api.TopicSummary, error) { return c.Topics(ctx) }, topicTable),
	}
}

func topicTable(w io.Writer, list []api.TopicSummary) error {
	var rows [][]string
	for _, t := range list {
		rows = append(rows, []string{t.Name, count(int64(t.Partitions)), count(int64(t.Spans)),
			strings.Join(t.Clusters, ","), dash(t.Moving)})
	}
	return table(w, []string{"NAME", "PARTITIONS", "SPANS", "CLUSTER", "MOVING"}, rows)
}

func newTopicDescribe(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "describe NAME",
		Short:             "Show a topic's chains, span by span",
		Example:           "  braid topic describe packages -o json | jq '.partitions[0].spans'",
		Args:              topicNames(1, "the name of a topic"),
		ValidArgsFunction: e.first(allTopics),
		RunE: ask(e, func(ctx context.Context, c *api.Client, args []string) (api.Topic, error) {
			return c.Topic(ctx, args[0])
		}, describeTopic),
	}
}

func describeTopic(w io.Writer, t api.Topic) error {
	if _, err := fmt.Fprintf(w, "%s  id %s  %s\n", t.Name, t.ID, plural(len(t.Partitions), "partition", "partitions")); err != nil {
		return err
	}
	for _, k := range sorted(t.Config) {
		if _, err := fmt.Fprintf(w, "  %s=%s\n", k, t.Config[k]); err != nil {
			return err
		}
	}
	if t.Moving != nil {
		if _, err := fmt.Fprintf(w, "moving to %s: %s (operation %s)\n", t.Moving.Target, t.Moving.Step, t.Moving.Op); err != nil {
			return err
		}
	}
	for _, x := range t.Waits {
		if x.Reason != "" {
			if _, err := fmt.Fprintf(w, "still on cluster %s, away since %s (%s): %s\n  %s\n", x.Cluster,
				x.Since.Local().Format("2006-01-02 15:04:05 MST"), ago(x.Since), plural(x.Partitions, "partition", "partitions"), x.Reason); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(w, "waiting for cluster %s, away since %s (%s): %s with braid.guarantee=ordered\n  %s\n", x.Cluster,
			x.Since.Local().Format("2006-01-02 15:04:05 MST"), ago(x.Since), plural(x.Partitions, "partition", "partitions"), x.Hint); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, p := range t.Partitions {
		for i, s := range p.Spans {
			id := ""
			if i == 0 {
				id = fmt.Sprint(p.ID)
			}
			end := "open"
			if s.End != nil {
				end = count(*s.End)
			}
			rows = append(rows, []string{id, count(s.Start), end, fmt.Sprint(s.Epoch), copiesText(s)})
		}
	}
	if err := table(w, []string{"PARTITION", "START", "END", "EPOCH", "COPIES"}, rows); err != nil {
		return err
	}
	for _, c := range t.Certificates {
		if _, err := fmt.Fprintf(w, "certificate: %s\n", certificateLine(c)); err != nil {
			return err
		}
		if c.Return != "" {
			continue // the return's own certificate is there too, and lists them
		}
		for _, l := range groupLines(c) {
			if _, err := fmt.Fprintln(w, l); err != nil {
				return err
			}
		}
	}
	return nil
}

func copiesText(s api.Span) string {
	var parts []string
	for _, c := range s.Copies {
		text := fmt.Sprintf("%s (%s/%d)", c.Cluster, c.Topic, c.Partition)
		switch {
		case c.Gone:
			text += " gone: lost"
		case !c.Readable:
			text += " not readable"
		}
		parts = append(parts, text)
	}
	text := strings.Join(parts, ", ")
	if s.Hole {
		text += "  [then a hole]"
	}
	return text
}

func newTopicMove(e *env) *cobra.Command {
	var req api.OpRequest
	var dryRun, detach bool
	cmd := &cobra.Command{
		Use:   "move NAME… --to C",
		Short: "Move topics to another cluster, live",
		Long: `Move topics to another cluster while clients produce and consume. No data is copied: new
records go to the target, old ones are read where they are until retention ends. At the end
a certificate says what was checked.`,
		Example: `  braid topic move packages --to east
  braid topic move orders payments --to west --dry-run`,
		Args:              topicNames(-1, "the names of topics"),
		ValidArgsFunction: e.every(allTopics),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.To == "" {
				return usagef("--to wants the name of the target cluster (braid cluster list shows them)")
			}
			req.Kind, req.Topics = "move", args
			return e.operate(cmd, req, dryRun, detach)
		},
	}
	cmd.Flags().StringVar(&req.To, "to", "", "target cluster")
	e.opFlags(cmd, &dryRun, &detach)
	e.completeFlag(cmd, "to", allClusters)
	return cmd
}

func newTopicDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME",
		Short:             "Delete a topic and its records",
		Example:           "  braid topic delete packages",
		Args:              topicNames(1, "the name of a topic"),
		ValidArgsFunction: e.first(allTopics),
		RunE: ask(e, func(ctx context.Context, c *api.Client, args []string) (gone, error) {
			return gone{"deleted", "topic", args[0]}, c.DeleteTopic(ctx, args[0])
		}, printGone),
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/span/kafka"
)

func newCluster(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "The clusters behind the gateways",
		Example: `  braid cluster add east --bootstrap 127.0.0.1:19092
  braid cluster list`,
	}
	group(cmd)
	cmd.AddCommand(newClusterAdd(e), newClusterList(e), newClusterDescribe(e), newClusterCheck(e), newClusterDrain(e), newClusterRemove(e))
	return cmd
}

func newClusterAdd(e *env) *cobra.Command {
	var req api.ClusterAdd
	var bootstrap string
	var config []string
	cmd := &cobra.Command{
		Use:   "add NAME --bootstrap HOST:PORT,…",
		Short: "Add a Kafka cluster",
		Long: `Add a Kafka cluster (Apache Kafka 3.9 or newer, or anything that speaks its protocol).
--config takes the options of Kafka clients for TLS and SASL: security.protocol, sasl.mechanism,
sasl.username, sasl.password, ssl.truststore.location, … Secrets are references only,
file:PATH (mode 0600) or env:NAME, read by the processes that connect.`,
		Example: `  braid cluster add east --bootstrap 127.0.0.1:19092
  braid cluster add west --bootstrap kafka-1:9093,kafka-2:9093 --region eu --zone b \
      --config security.protocol=SASL_SSL --config sasl.mechanism=SCRAM-SHA-256 \
      --config sasl.username=braid --config sasl.password=file:/etc/braid/west.password`,
		Args: aCluster("the name of the new cluster"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Name = args[0]; !controller.IsClusterName(req.Name) {
				return usagef("%q is no name for a cluster: %s", req.Name, controller.ClusterNames)
			}
			for b := range strings.SplitSeq(bootstrap, ",") {
				if b = strings.TrimSpace(b); b != "" {
					if err := checkHostPort("--bootstrap", b); err != nil {
						return err
					}
					req.Bootstrap = append(req.Bootstrap, b)
				}
			}
			if len(req.Bootstrap) == 0 {
				return usagef("--bootstrap wants at least one HOST:PORT")
			}
			var err error
			if req.Config, err = keyValues("--config", config); err != nil {
				return err
			}
			if err := checkKeys("--config", req.Config, kafka.ConfigKeys); err != nil {
				return err
			}
			if err := kafka.CheckSecrets(req.Config); err != nil {
				return usagef("--config %s", err)
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			added, err := c.AddCluster(cmd.Context(), req)
			if err != nil {
				return err
			}
			return e.print(added, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "cluster %s added: id %s, %s, seal %s\nnext: braid topic move TOPIC --to %s\n",
					added.Name, added.ClusterID, oneLine(added.Detail), added.Seal, added.Name)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&bootstrap, "bootstrap", "", "brokers to connect to first, HOST:PORT,…")
	f.StringVar(&req.Region, "region", "", "region of the cluster")
	f.StringVar(&req.Zone, "zone", "", "zone of the cluster")
	f.StringArrayVar(&config, "config", nil, "client option KEY=VALUE (repeatable)")
	completeKeys(cmd, "config", kafka.ConfigKeys...)
	return cmd
}

func newClusterList(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the clusters",
		Example: "  braid cluster list -o json",
		Args:    noArguments,
		RunE:    ask(e, func(ctx context.Context, c *api.Client, _ []string) ([]api.Cluster, error) { return c.Clusters(ctx) }, clusterTable),
	}
}

func clusterTable(w io.Writer, list []api.Cluster) error {
	var rows [][]string
	for _, c := range list {
		rows = append(rows, []string{c.Name, c.Kind, c.State, c.Health, c.Seal,
			dash(strings.Trim(c.Region+"/"+c.Zone, "/")), count(int64(c.Partitions)), count(int64(c.Sealed))})
	}
	if err := table(w, []string{"NAME", "KIND", "STATE", "HEALTH", "SEAL", "REGION/ZONE", "OPEN", "SEALED"}, rows); err != nil {
		return err
	}
	for _, c := range list {
		if err := printHint(w, c); err != nil {
			return err
		}
	}
	return nil
}

func printHint(w io.Writer, c api.Cluster) error {
	if c.Hint == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "hint: %s\n", oneLine(c.Hint))
	return err
}

func newClusterDescribe(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "describe NAME",
		Short:             "Show one cluster",
		Example:           "  braid cluster describe east",
		Args:              aCluster("the name of a cluster"),
		ValidArgsFunction: e.first(allClusters),
		RunE: ask(e, func(ctx context.Context, c *api.Client, args []string) (api.Cluster, error) {
			return c.Cluster(ctx, args[0])
		}, describeCluster),
	}
}

func describeCluster(w io.Writer, c api.Cluster) error {
	lines := [][2]string{
		{"name", c.Name}, {"kind", c.Kind}, {"state", c.State}, {"health", strings.TrimSuffix(c.Health+": "+c.Detail, ": ")},
		{"cluster id", dash(c.ClusterID)}, {"bootstrap", dash(strings.Join(c.Bootstrap, ","))},
		{"region, zone", dash(c.Region) + ", " + dash(c.Zone)},
		{"seal", sealText(c.Seal)},
		{"open partitions", count(int64(c.Partitions))}, {"sealed spans", count(int64(c.Sealed))},
	}
	for _, k := range sorted(c.Config) {
		lines = append(lines, [2]string{"config " + k, c.Config[k]})
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%-18s%s\n", l[0]+":", oneLine(l[1])); err != nil {
			return err
		}
	}
	if err := printHint(w, c); err != nil {
		return err
	}
	return printKept(w, c.Kept)
}

func sealText(seal string) string {
	if seal == "fence" {
		return "fence (weaker: trusts gateways' leases; the cluster grants us no ALTER_CONFIGS on topics)"
	}
	return seal
}

func printKept(w io.Writer, kept []api.Kept) error {
	for _, k := range kept {
		until := "until it is deleted or merged (nothing in its retention lets it go)"
		switch {
		case k.Topic == coordinator.TopicName:
			until = "until the coordinators have written elsewhere what they need of it"
		case k.Until != nil:
			until = "until " + k.Until.Local().Format("2006-01-02 15:04:05 MST")
		}
		if _, err := fmt.Fprintf(w, "kept: %s of topic %s, %s\n", plural(k.Spans, "sealed span", "sealed spans"), k.Topic, until); err != nil {
			return err
		}
	}
	return nil
}

func newClusterDrain(e *env) *cobra.Command {
	var req api.OpRequest
	var dryRun, detach bool
	cmd := &cobra.Command{
		Use:   "drain NAME [--to C]",
		Short: "Move everything off a cluster",
		Long: `Move every topic off a cluster, live. Sealed records stay readable where they are until
retention ends; the command says what must be kept until when.`,
		Example: `  braid cluster drain east --dry-run
  braid cluster drain east --to west`,
		Args:              aCluster("the name of a cluster"),
		ValidArgsFunction: e.first(allClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Kind, req.Cluster = "drain", args[0]
			if err := e.operate(cmd, req, dryRun, detach); err != nil || dryRun || detach || e.output == "json" {
				return err
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			cl, err := c.Cluster(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printKept(e.out, cl.Kept)
		},
	}
	cmd.Flags().StringVar(&req.To, "to", "", "cluster to move to (default: placement chooses)")
	e.opFlags(cmd, &dryRun, &detach)
	e.completeFlag(cmd, "to", allClusters)
	return cmd
}

func newClusterRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Forget a cluster that no chain needs",
		Example:           "  braid cluster remove east",
		Args:              aCluster("the name of a cluster"),
		ValidArgsFunction: e.first(allClusters),
		RunE: ask(e, func(ctx context.Context, c *api.Client, args []string) (gone, error) {
			return gone{"removed", "cluster", args[0]}, c.RemoveCluster(ctx, args[0])
		}, printGone),
	}
}

func newClusterCheck(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "check NAME",
		Short: "Name each right that Braid lacks on a cluster",
		Long: `Try each right that Braid needs on a cluster with an authorizer, without changing anything there,
and name those that are missing and what needs them. Exit code 1 if any is.`,
		Example:           "  braid cluster check east",
		Args:              aCluster("the name of a cluster"),
		ValidArgsFunction: e.first(allClusters),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := e.client()
			if err != nil {
				return err
			}
			list, err := c.ClusterRights(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := e.print(list, func(w io.Writer) error { return printRights(w, args[0], list) }); err != nil {
				return err
			}
			missing := 0
			for _, r := range list {
				if !r.Granted {
					missing++
				}
			}
			if missing > 0 {
				return fmt.Errorf("cluster %s lacks %s", args[0], plural(missing, "right", "rights"))
			}
			return nil
		},
	}
}

func printRights(w io.Writer, name string, list []api.Right) error {
	if len(list) == 0 {
		_, err := fmt.Fprintf(w, "cluster %s asks for no rights\n", name)
		return err
	}
	var rows [][]string
	for _, r := range list {
		state := "granted"
		if !r.Granted {
			state = "MISSING"
		}
		rows = append(rows, []string{state, r.Operation, r.Resource, r.For})
	}
	return table(w, []string{"STATE", "OPERATION", "ON", "FOR"}, rows)
}

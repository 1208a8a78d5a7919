package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
)

func newStatus(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "The fleet at a glance",
		Example: "  braid status",
		Args:    noArguments,
		RunE:    ask(e, func(ctx context.Context, c *api.Client, _ []string) (api.Status, error) { return c.Status(ctx) }, printStatus),
	}
}

// zoneText is the zone of a gateway's listeners, which clients are told; by name where they differ.
func zoneText(g api.Gateway) string {
	zones := map[string]bool{}
	var each []string
	for _, l := range g.Listeners {
		zone := dash(cmp.Or(l.Zone, g.Zone))
		zones[zone] = true
		each = append(each, l.Name+"="+zone)
	}
	switch len(zones) {
	case 0:
		return dash(g.Zone)
	case 1:
		return sorted(zones)[0]
	}
	return strings.Join(each, " ")
}

func printStatus(w io.Writer, s api.Status) error {
	if _, err := fmt.Fprintf(w, "braid %s  fleet %s  controller %s\n%s, %s\n\n", s.Version, s.Fleet, dash(s.Controller),
		plural(s.Topics, "topic", "topics"), plural(s.Partitions, "partition", "partitions")); err != nil {
		return err
	}
	var rows [][]string
	for _, g := range s.Gateways {
		var at []string
		for _, l := range g.Listeners {
			at = append(at, l.Name+"="+l.Advertise)
		}
		rows = append(rows, []string{fmt.Sprint(g.Node), strings.Join(at, " "), zoneText(g), g.Version, ago(g.Started)})
	}
	if err := table(w, []string{"GATEWAY", "LISTENERS", "ZONE", "VERSION", "STARTED"}, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := clusterTable(w, s.Clusters); err != nil {
		return err
	}
	for _, o := range s.Running {
		if _, err := fmt.Fprintf(w, "running: %s\n", strings.TrimSpace(fmt.Sprintf("%s %s, %d of %s %s", o.Kind, o.ID, o.Done, plural(o.Total, "topic", "topics"), oneLine(o.Message)))); err != nil {
			return err
		}
	}
	for _, warn := range s.Warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", oneLine(warn)); err != nil {
			return err
		}
	}
	return nil
}

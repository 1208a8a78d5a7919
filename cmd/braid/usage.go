package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newUsage(e *env) *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "What tenants used: bytes, requests, connections, partitions, storage",
		Long: `Show what tenants used on all gateways. It is written down every 10 seconds and survives
restarts. Whole hours are shown, and whole days of what is older than two weeks.`,
		Example: `  braid usage --since 720h
  braid usage --tenant acme --since 2026-01-01 -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := sinceTime(since, time.Now())
			if err != nil {
				return err
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			out, err := c.Usage(cmd.Context(), from)
			if err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) error {
				var rows [][]string
				for _, u := range out.Tenants {
					rows = append(rows, []string{u.Tenant, strconv.FormatInt(u.ReceivedBytes, 10), strconv.FormatInt(u.SentBytes, 10), strconv.FormatInt(u.Requests, 10),
						strconv.FormatInt(u.Connections, 10), hours(u.ConnectionHours), hours(u.PartitionHours), hours(u.StoredByteHours)})
				}
				if _, err := fmt.Fprintf(w, "since %s\n", out.Since.Format(time.RFC3339)); err != nil {
					return err
				}
				return table(w, []string{"TENANT", "BYTES IN", "BYTES OUT", "REQUESTS", "CONNECTIONS", "CONNECTION-H", "PARTITION-H", "STORED BYTE-H"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&e.tenant, "tenant", "", "tenant (default: all)")
	cmd.Flags().StringVar(&since, "since", "24h", "from when on: a time ago such as 24h, a day or a time (2026-01-31, 2026-01-31T12:00:00Z)")
	complete(cmd, "since", "1h", "24h", "168h", "720h")
	return cmd
}

func hours(h float64) string { return strconv.FormatFloat(h, 'f', 2, 64) }

// sinceTime reads a time, or how long ago it is.
func sinceTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usagef("--since wants a time ago such as 24h, or a day or a time such as 2026-01-31 or 2026-01-31T12:00:00Z, not %q", s)
}

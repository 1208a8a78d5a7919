package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
)

func newQuota(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quota",
		Short: "How much the clients of a tenant may use: Kafka's client quotas",
		Example: `  braid quota set --tenant orders --user app producer_byte_rate=10485760
  braid quota set --tenant orders --user-default consumer_byte_rate=1048576
  braid quota list --tenant orders`,
	}
	group(cmd)
	cmd.AddCommand(newQuotaSet(e), newQuotaList(e))
	return cmd
}

func newQuotaSet(e *env) *cobra.Command {
	var tenant, user, client, ip string
	var anyUser, anyClient, anyIP bool
	cmd := &cobra.Command{
		Use:   "set NAME=VALUE…",
		Short: "Set or remove quotas of a user, a client id, both, or an address",
		Long: `Set quotas. NAME is producer_byte_rate or consumer_byte_rate (bytes a second),
request_percentage (of one thread's time) or controller_mutation_rate (partitions a second);
of an address it is connection_creation_rate (connections a second to this tenant). An empty
VALUE removes a quota. The most specific quota holds, as in Kafka. Quotas hold for each gateway.`,
		Example: `  braid quota set --tenant orders --user app producer_byte_rate=10485760 request_percentage=50
  braid quota set --tenant orders --user-default --client-id batch consumer_byte_rate=1048576
  braid quota set --tenant orders --user app producer_byte_rate=`,
		Args: names(1, -1, "quotas as NAME=VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.QuotaSet{Values: map[string]*float64{}}
			for _, p := range []struct {
				kind, name string
				standard   bool
			}{{"user", user, anyUser}, {"client-id", client, anyClient}, {"ip", ip, anyIP}} {
				switch {
				case p.name != "" && p.standard:
					return usagef("--%s and --%s-default exclude one another", p.kind, p.kind)
				case p.name != "":
					name := p.name
					req.Entity = append(req.Entity, api.QuotaEntity{Type: p.kind, Name: &name})
				case p.standard:
					req.Entity = append(req.Entity, api.QuotaEntity{Type: p.kind})
				}
			}
			if len(req.Entity) == 0 {
				return usagef("for whom? --user, --client-id or --ip, or their defaults")
			}
			values, err := keyValues("quotas", args)
			if err != nil {
				return err
			}
			for _, k := range sorted(values) {
				req.Values[k] = nil
				if values[k] == "" {
					continue
				}
				v, err := strconv.ParseFloat(values[k], 64)
				if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
					return usagef("%s wants a number, not %q", k, values[k])
				}
				req.Values[k] = &v
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			out, err := c.SetQuota(cmd.Context(), tenant, req)
			if err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) error { return quotaTable(w, []api.Quota{out}) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&tenant, "tenant", catalog.DefaultTenant, "tenant")
	f.StringVar(&user, "user", "", "user")
	f.BoolVar(&anyUser, "user-default", false, "each user that has no quota of its own")
	f.StringVar(&client, "client-id", "", "client id")
	f.BoolVar(&anyClient, "client-id-default", false, "each client id that has no quota of its own")
	f.StringVar(&ip, "ip", "", "address")
	e.completeFlag(cmd, "tenant", allTenants)
	e.completeFlag(cmd, "user", usersOf(func([]string) string { return tenant }, ""))
	f.BoolVar(&anyIP, "ip-default", false, "each address that has no quota of its own")
	return cmd
}

func newQuotaList(e *env) *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the client quotas of a tenant",
		Example: "  braid quota list --tenant orders",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.client()
			if err != nil {
				return err
			}
			out, err := c.Quotas(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) error { return quotaTable(w, out) })
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", catalog.DefaultTenant, "tenant")
	e.completeFlag(cmd, "tenant", allTenants)
	return cmd
}

func quotaTable(w io.Writer, list []api.Quota) error {
	var rows [][]string
	for _, q := range list {
		var whom, what []string
		for _, p := range q.Entity {
			name := "<default>"
			if p.Name != nil {
				name = *p.Name
			}
			whom = append(whom, p.Type+"="+name)
		}
		for _, k := range sorted(q.Values) {
			what = append(what, fmt.Sprintf("%s=%s", k, strconv.FormatFloat(q.Values[k], 'f', -1, 64)))
		}
		rows = append(rows, []string{strings.Join(whom, " "), dash(strings.Join(what, " "))})
	}
	return table(w, []string{"ENTITY", "QUOTAS"}, rows)
}

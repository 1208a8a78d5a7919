package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
)

func newTenant(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tenant",
		Short: "Tenants: what each team takes for a Kafka cluster of its own",
		Example: `  braid tenant create acme --limit topics=100
  braid user add alice --tenant acme
  braid tenant use acme --user alice > client.properties`,
	}
	group(cmd)
	cmd.AddCommand(newTenantCreate(e), newTenantList(e), newTenantDescribe(e), newTenantSet(e), newTenantUse(e),
		newTenantDelete(e), newTenantUndelete(e))
	return cmd
}

// tenantFlags are what create and set take.
type tenantFlags struct {
	display, clusters, superUsers    string
	everyone                         string
	limits, defaults, budget, remove []string
}

func (f *tenantFlags) add(cmd *cobra.Command, e *env, set bool) {
	fl := cmd.Flags()
	fl.StringVar(&f.display, "display-name", "", "name for people")
	fl.StringVar(&f.clusters, "clusters", "", "clusters that its topics may be on, NAME,… (default: any)")
	fl.StringVar(&f.superUsers, "super-users", "", "principals that no ACL binds, User:NAME,…")
	fl.StringArrayVar(&f.limits, "limit", nil, "NAME=N, 0 for none: "+strings.Join(controller.TenantLimitNames(), ", ")+" (repeatable)")
	fl.StringArrayVar(&f.defaults, "default", nil, "topic config KEY=VALUE for topics that do not set it (repeatable)")
	fl.StringArrayVar(&f.budget, "budget", nil, "NAME=RATE over all gateways: "+strings.Join(controller.TenantBudgetNames(), ", ")+" (repeatable)")
	fl.StringVar(&f.everyone, everyoneFlag, "", "true or false: everybody may do what no ACL of the resource speaks of (default: false)")
	complete(cmd, everyoneFlag, "true", "false")
	if set {
		fl.StringArrayVar(&f.remove, "remove", nil, "take a default or a budget away, by its name (repeatable)")
		complete(cmd, "remove", tenantKeys()...)
		e.completeList(cmd, "super-users", usersOf(firstArg, "User:"))
	}
	e.completeList(cmd, "clusters", allClusters)
	completeKeys(cmd, "default", controller.TopicConfigNames()...)
	completeKeys(cmd, "limit", controller.TenantLimitNames()...)
	completeKeys(cmd, "budget", controller.TenantBudgetNames()...)
}

// everyoneFlag is Kafka's allow.everyone.if.no.acl.found, of one tenant.
const everyoneFlag = "allow-everyone-if-no-acl-found"

// request reads the flags that were given.
func (f *tenantFlags) request(cmd *cobra.Command) (api.TenantSet, error) {
	var req api.TenantSet
	given := cmd.Flags().Changed
	if given("display-name") {
		req.DisplayName = &f.display
	}
	if given("clusters") {
		list := append([]string{}, splitList(f.clusters)...)
		req.Clusters = &list
	}
	if given("super-users") {
		list := append([]string{}, splitList(f.superUsers)...)
		req.SuperUsers = &list
	}
	if given(everyoneFlag) {
		if f.everyone != "true" && f.everyone != "false" {
			return req, usagef("--%s wants true or false, not %q", everyoneFlag, f.everyone)
		}
		everyone := f.everyone == "true"
		req.AllowEveryone = &everyone
	}
	limits, err := keyValues("--limit", f.limits)
	if err != nil {
		return req, err
	}
	if err := checkKeys("--limit", limits, controller.TenantLimitNames()); err != nil {
		return req, err
	}
	for k, v := range limits {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return req, usagef("--limit %s wants a number from 0 on, not %q", k, v)
		}
		if req.Limits == nil {
			req.Limits = map[string]int64{}
		}
		req.Limits[k] = n
	}
	defaults, err := keyValues("--default", f.defaults)
	if err != nil {
		return req, err
	}
	if err := checkKeys("--default", defaults, controller.TopicConfigNames()); err != nil {
		return req, err
	}
	req.Defaults, req.Budget = map[string]*string{}, map[string]*float64{}
	for k, v := range defaults {
		req.Defaults[k] = &v
	}
	budget, err := keyValues("--budget", f.budget)
	if err != nil {
		return req, err
	}
	if err := checkKeys("--budget", budget, controller.TenantBudgetNames()); err != nil {
		return req, err
	}
	for k, v := range budget {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n <= 0 {
			return req, usagef("--budget %s wants a number above 0, not %q (--remove %s takes it away)", k, v, k)
		}
		req.Budget[k] = &n
	}
	for _, k := range f.remove {
		switch known := controller.TenantBudgetNames(); {
		case contains(known, k):
			req.Budget[k] = nil
		case contains(controller.TopicConfigNames(), k):
			req.Defaults[k] = nil
		default:
			return req, usagef("--remove: no default or budget is named %q%s", k, didYouMean(k, append(known, controller.TopicConfigNames()...)))
		}
	}
	return req, nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func newTenantCreate(e *env) *cobra.Command {
	var f tenantFlags
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a tenant",
		Long: `Create a tenant: a Kafka cluster of its own, to its clients. Its names of topics, groups,
transactional ids and users are its own; no other tenant sees them. The name is lower-case
letters, digits and '-', at most 63; it is not given twice, not after a deletion either.
What its limits and its budget do: braid tenant set --help.`,
		Example: `  braid tenant create acme
  braid tenant create globex --clusters east,west --limit topics=200 --limit partitions=2000 \
      --default retention.ms=86400000 --super-users User:admin`,
		Args: names(1, 1, "the name of the new tenant"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := f.request(cmd)
			if err != nil {
				return err
			}
			req.Name = args[0]
			return e.changeTenant(cmd, func(ctx context.Context, c *api.Client) (api.Tenant, error) {
				return c.CreateTenant(ctx, req)
			}, "tenant %s created\nnext: braid user add NAME --tenant %[1]s\n")
		},
	}
	f.add(cmd, e, false)
	return cmd
}

// changeTenant asks for a change and prints what came of it: JSON, or the words,
// which take the name.
func (e *env) changeTenant(cmd *cobra.Command, change func(context.Context, *api.Client) (api.Tenant, error), words string) error {
	return ask(e, func(ctx context.Context, c *api.Client, _ []string) (api.Tenant, error) { return change(ctx, c) },
		func(w io.Writer, t api.Tenant) error {
			_, err := fmt.Fprintf(w, words, t.Name)
			return err
		})(cmd, nil)
}

func newTenantList(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the tenants",
		Example: "  braid tenant list",
		Args:    noArguments,
		RunE: ask(e, func(ctx context.Context, c *api.Client, _ []string) ([]api.Tenant, error) { return c.Tenants(ctx) },
			func(w io.Writer, list []api.Tenant) error {
				var rows [][]string
				for _, t := range list {
					rows = append(rows, []string{t.Name, stateText(t), count(int64(t.Topics)), count(int64(t.Partitions)),
						count(int64(t.Users)), dash(strings.Join(t.Clusters, ",")), dash(t.DisplayName)})
				}
				return table(w, []string{"NAME", "STATE", "TOPICS", "PARTITIONS", "USERS", "CLUSTERS", "DISPLAY NAME"}, rows)
			}),
	}
}

func stateText(t api.Tenant) string {
	if t.State == "deleting" && t.DeleteAt != nil {
		return "deleting, data goes " + t.DeleteAt.Format(time.RFC3339)
	}
	return t.State
}

func newTenantDescribe(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "describe NAME",
		Short:             "Show a tenant",
		Example:           "  braid tenant describe acme",
		Args:              names(1, 1, "the name of a tenant"),
		ValidArgsFunction: e.first(allTenants),
		RunE: ask(e, func(ctx context.Context, c *api.Client, args []string) (api.Tenant, error) {
			return c.Tenant(ctx, args[0])
		},
			describeTenant),
	}
}

func describeTenant(w io.Writer, t api.Tenant) error {
	lines := []string{t.Name + "  " + stateText(t)}
	add := func(name, value string) {
		if value != "" {
			lines = append(lines, fmt.Sprintf("  %-14s %s", name, value))
		}
	}
	add("display name", t.DisplayName)
	add("cluster id", t.ClusterID)
	add("clusters", strings.Join(t.Clusters, ","))
	add("super users", strings.Join(t.SuperUsers, ","))
	if t.AllowEveryone {
		add("no ACL found", "everybody is allowed")
	}
	for _, k := range sorted(t.Limits) {
		used := ""
		switch k {
		case "topics":
			used = fmt.Sprintf(" (%s used)", count(int64(t.Topics)))
		case "partitions":
			used = fmt.Sprintf(" (%s used)", count(int64(t.Partitions)))
		}
		add("limit", k+"="+strconv.FormatInt(t.Limits[k], 10)+used)
	}
	for _, k := range sorted(t.Budget) {
		add("budget", k+"="+strconv.FormatFloat(t.Budget[k], 'f', -1, 64))
	}
	for _, k := range sorted(t.Defaults) {
		add("default", k+"="+t.Defaults[k])
	}
	add("holds", holds(t))
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// holds says in words what a tenant holds.
func holds(t api.Tenant) string {
	return fmt.Sprintf("%s with %s, %s, %s, %s", plural(t.Topics, "topic", "topics"), plural(t.Partitions, "partition", "partitions"),
		plural(t.Users, "user", "users"), plural(t.ACLs, "ACL", "ACLs"), plural(t.Quotas, "quota", "quotas"))
}

func newTenantSet(e *env) *cobra.Command {
	var f tenantFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change a tenant's limits, placement, defaults, budget, super users",
		Long: `Change a tenant. What is not named stays. A new placement holds for new topics and for moves;
topics that are elsewhere stay until they are moved. A limit below what there is stops growth
and takes nothing away. Budgets hold over all gateways together; client quotas (braid quota) for
each gateway.`,
		Example: `  braid tenant set acme --limit topics=500 --limit partitions=0
  braid tenant set acme --default cleanup.policy=compact --remove retention.ms`,
		Args:              names(1, 1, "the name of a tenant"),
		ValidArgsFunction: e.first(allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := f.request(cmd)
			if err != nil {
				return err
			}
			req.Force = force
			return e.changeTenant(cmd, func(ctx context.Context, c *api.Client) (api.Tenant, error) {
				return c.SetTenant(ctx, args[0], req)
			}, "tenant %s changed\n")
		},
	}
	f.add(cmd, e, true)
	cmd.Flags().BoolVar(&force, "force", false, "also if nobody is left who may change the ACLs")
	return cmd
}

func newTenantDelete(e *env) *cobra.Command {
	var yes bool
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a tenant after a grace time",
		Long: `Delete a tenant. Its clients are cut off at once; its topics, users, ACLs and quotas are kept for
the grace time, in which braid tenant undelete brings everything back. It shows what will go and
asks for the tenant's name, unless --yes is given.`,
		Example: `  braid tenant delete acme
  braid tenant delete acme --grace 24h --yes`,
		Args:              names(1, 1, "the name of a tenant"),
		ValidArgsFunction: e.first(allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			if grace < 0 {
				return usagef("--grace wants a time from 0 on, not %s", grace)
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			t, err := c.Tenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := e.askForName(t, grace); err != nil {
					return err
				}
			}
			return e.changeTenant(cmd, func(ctx context.Context, c *api.Client) (api.Tenant, error) {
				return c.DeleteTenant(ctx, args[0], grace)
			}, deletedText(grace))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().DurationVar(&grace, "grace", controller.DefaultGrace, "how long everything is kept; 0s: it is removed at once, for good")
	return cmd
}

// deletedText says what becomes of a deleted tenant's data.
func deletedText(grace time.Duration) string {
	if grace == 0 {
		return "tenant %s is deleted; its topics, users, ACLs and quotas are being removed for good, and cannot be brought back\n"
	}
	return "tenant %s is deleted; its data is kept for " + grace.String() + "\nback: braid tenant undelete %[1]s\n"
}

// askForName shows what goes and wants the name typed.
func (e *env) askForName(t api.Tenant, grace time.Duration) error {
	when := "after " + grace.String() + " these are gone for good"
	if grace == 0 {
		when = "there is no grace, so these are gone for good at once, with no way back"
	}
	if _, err := fmt.Fprintf(e.err, "tenant %s: clients are cut off now; %s:\n  %s\ntype the tenant's name to go on: ",
		t.Name, when, holds(t)); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(e.in, 1024)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != t.Name {
		return fmt.Errorf("that is not %s: nothing is deleted", t.Name)
	}
	return nil
}

func newTenantUndelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use:               "undelete NAME",
		Short:             "Bring back a deleted tenant in its grace time",
		Example:           "  braid tenant undelete acme",
		Args:              names(1, 1, "the name of a tenant"),
		ValidArgsFunction: e.first(allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.changeTenant(cmd, func(ctx context.Context, c *api.Client) (api.Tenant, error) {
				return c.UndeleteTenant(ctx, args[0])
			}, "tenant %s is back\n")
		},
	}
}

// tenantFlag adds --tenant for commands about what belongs to one.
func (e *env) tenantFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&e.tenant, "tenant", "", "whose (default: the default tenant)")
	e.completeFlag(cmd, "tenant", allTenants)
}

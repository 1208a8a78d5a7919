package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/tenant/sasl"
)

// What a shell offers for arguments and flags: names as the admin API tells them, and keys
// that are known here. Silently nothing when the process is away.

// noFiles: nothing that braid asks for here is the name of a file.
const noFiles = cobra.ShellCompDirectiveNoFileComp

// completionTime bounds the question behind a key stroke.
const completionTime = 3 * time.Second

// listing tells the names of something. args are those of the command so far.
type listing func(ctx context.Context, c *api.Client, args []string) ([]string, error)

// listed makes a listing of what the API lists.
func listed[T any](list func(ctx context.Context, c *api.Client) ([]T, error), name func(T) string) listing {
	return func(ctx context.Context, c *api.Client, _ []string) ([]string, error) {
		all, err := list(ctx, c)
		var out []string
		for _, x := range all {
			if s := name(x); s != "" {
				out = append(out, s)
			}
		}
		return out, err
	}
}

var (
	allClusters = listed(func(ctx context.Context, c *api.Client) ([]api.Cluster, error) { return c.Clusters(ctx) },
		func(x api.Cluster) string { return x.Name })
	allTopics = listed(func(ctx context.Context, c *api.Client) ([]api.TopicSummary, error) { return c.Topics(ctx) },
		func(x api.TopicSummary) string { return x.Name })
	allTenants = listed(func(ctx context.Context, c *api.Client) ([]api.Tenant, error) { return c.Tenants(ctx) },
		func(x api.Tenant) string { return x.Name })
	allOperators = listed(func(ctx context.Context, c *api.Client) ([]api.Operator, error) { return c.Operators(ctx) },
		func(x api.Operator) string { return x.Name })
	allListeners = listed(func(ctx context.Context, c *api.Client) ([]string, error) {
		s, err := c.Status(ctx)
		names := map[string]bool{}
		for _, g := range s.Gateways {
			for _, l := range g.Listeners {
				names[l.Name] = true
			}
		}
		return sorted(names), err
	}, func(name string) string { return name })
)

// firstArg: the command is about the tenant that its argument names.
func firstArg(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// usersOf lists the users of a tenant, which is told when the shell asks, in a form.
func usersOf(tenant func(args []string) string, form string) listing {
	return func(ctx context.Context, c *api.Client, args []string) ([]string, error) {
		list, err := c.Users(ctx, tenant(args))
		var out []string
		for _, u := range list {
			out = append(out, form+u.Name)
		}
		return out, err
	}
}

// opIDs lists operations, those under way alone if asked.
func opIDs(running bool) listing {
	return listed(func(ctx context.Context, c *api.Client) ([]api.Op, error) { return c.Ops(ctx) },
		func(o api.Op) string { return opOffer(o, running) })
}

// opOffer is an operation's id with what it is about; empty if it is not asked for.
func opOffer(o api.Op, running bool) string {
	if running && (o.Ended() || o.Kind == "return") {
		return ""
	}
	what := o.Kind + " " + opWhat(o)
	if o.To != "" {
		what += " to " + o.To
	}
	return o.ID + "\t" + what + ", " + o.State
}

// list asks the process for a listing.
func (e *env) list(cmd *cobra.Command, args []string, l listing) []string {
	c, err := e.client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	out, err := l(ctx, c, args)
	if err != nil {
		return nil
	}
	return out
}

// first completes the first argument.
func (e *env) first(l listing) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, noFiles
		}
		return begun(e.list(cmd, args, l), typed), noFiles
	}
}

// every completes each argument, by names that are not there yet.
func (e *env) every(l listing) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		out := slices.DeleteFunc(e.list(cmd, args, l), func(s string) bool { return slices.Contains(args, s) })
		return begun(out, typed), noFiles
	}
}

// completeFlag completes a flag's value.
func (e *env) completeFlag(cmd *cobra.Command, flag string, l listing) {
	register(cmd, flag, func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		return begun(e.list(cmd, args, l), typed), noFiles
	})
}

// completeList completes a flag's value of several names with commas between.
func (e *env) completeList(cmd *cobra.Command, flag string, l listing) {
	register(cmd, flag, func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		had := ""
		if i := strings.LastIndexByte(typed, ','); i >= 0 {
			had = typed[:i+1]
		}
		var out []string
		for _, s := range e.list(cmd, args, l) {
			if !slices.Contains(strings.Split(had, ","), s) {
				out = append(out, had+s)
			}
		}
		return begun(out, typed), noFiles | cobra.ShellCompDirectiveNoSpace
	})
}

// completeKeys completes the keys of a flag that takes KEY=VALUE, and behind one the values that it
// has to choose from, if these are few.
func completeKeys(cmd *cobra.Command, flag string, keys ...string) {
	register(cmd, flag, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		if key, _, ok := strings.Cut(typed, "="); ok {
			var out []string
			for _, v := range choices(key) {
				out = append(out, key+"="+v)
			}
			return begun(out, typed), noFiles
		}
		var out []string
		for _, k := range keys {
			key, doc, _ := strings.Cut(k, "\t")
			out = append(out, key+"=\t"+doc)
		}
		return begun(out, typed), noFiles | cobra.ShellCompDirectiveNoSpace
	})
}

// choices are the values of a key that has few.
func choices(key string) []string {
	if v := controller.TopicConfigValues(key); v != nil {
		return v
	}
	switch key {
	case "authorizer":
		return []string{"on", "auto"}
	case "braid.audit.topic":
		return []string{"auto", "on", "off"}
	case "group.consumer.migration.policy":
		return []string{"bidirectional", "upgrade", "downgrade", "disabled"}
	case "security.protocol":
		return []string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}
	case "sasl.mechanism":
		return []string{sasl.Plain, sasl.ScramSHA256, sasl.ScramSHA512, sasl.OAuthBearer}
	}
	i := slices.IndexFunc(knownSettings, func(s setting) bool { return s.key == key })
	if i < 0 {
		return nil
	}
	// A switch takes these two and nothing else.
	takes := func(v string) bool { return knownSettings[i].apply(&settings{}, v) == nil }
	if takes("true") && takes("false") && !takes("perhaps") {
		return []string{"true", "false"}
	}
	return nil
}

// completeListener completes the options of a --listener: behind its name and address their names, and
// the values of those that have few.
func completeListener(cmd *cobra.Command) {
	few := map[string][]string{
		"security": {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}, "client-auth": {"required", "requested"},
		"sasl": append(sasl.Mechanisms(), "none"),
	}
	register(cmd, "listener", func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		more := noFiles | cobra.ShellCompDirectiveNoSpace
		at := strings.LastIndexByte(typed, ',')
		if at < 0 {
			if !strings.Contains(typed, "=") {
				return begun([]string{"default=", "internal=", "external="}, typed), more
			}
			name, _, _ := strings.Cut(typed, "=")
			return begun([]string{name + "=127.0.0.1:", name + "=0.0.0.0:"}, typed), more
		}
		had, option := typed[:at+1], typed[at+1:]
		key, _, chosen := strings.Cut(option, "=")
		var out []string
		switch {
		case chosen && (key == "cert" || key == "key" || key == "client-ca" || key == "client-crl"):
			return nil, cobra.ShellCompDirectiveDefault
		case chosen:
			for _, v := range few[key] {
				out = append(out, had+key+"="+v)
			}
		default:
			for _, o := range listenerOptions {
				if !strings.Contains(had, ","+o+"=") {
					out = append(out, had+o+"=")
				}
			}
		}
		return begun(out, typed), more
	})
}

// complete offers fixed values for a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	register(cmd, flag, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return begun(values, typed), noFiles
	})
}

func register(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	// Fails only for a flag that does not exist, which every test of the command would show.
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

// begun leaves what begins as what was typed. Shells do so too, not all of them.
func begun(list []string, typed string) []string {
	var out []string
	for _, s := range list {
		if strings.HasPrefix(s, typed) {
			out = append(out, s)
		}
	}
	return out
}

// settingKeys are the keys of --set with what they are for.
func settingKeys() []string {
	out := make([]string, len(knownSettings))
	for i, s := range knownSettings {
		out[i] = s.key + "\t" + s.doc
	}
	return out
}

// tenantKeys are what braid tenant set takes away by name.
func tenantKeys() []string {
	return append(controller.TenantBudgetNames(), controller.TopicConfigNames()...)
}

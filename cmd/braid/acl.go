package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
)

func newACL(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "Who may do what in a tenant: Kafka's access control lists",
		Example: `  braid acl add --tenant orders --principal User:app --operation read,write --topic orders
  braid acl add --tenant orders --principal User:app --operation read --group app- --prefixed
  braid acl list --tenant orders`,
	}
	group(cmd)
	cmd.AddCommand(newACLAdd(e), newACLList(e), newACLDelete(e))
	return cmd
}

// aclFlags are the flags that name a rule.
type aclFlags struct {
	tenant                 string
	topic, group, txn, who string
	cluster                bool
	prefixed, deny         bool
	principal, host        string
	operations             []string
}

func (a *aclFlags) add(e *env, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.tenant, "tenant", catalog.DefaultTenant, "tenant")
	f.StringVar(&a.topic, "topic", "", "topic; * is any")
	f.StringVar(&a.group, "group", "", "consumer group; * is any")
	f.StringVar(&a.txn, "transactional-id", "", "transactional id; * is any")
	f.StringVar(&a.who, "user", "", "principal that a rule is about, such as User:bob")
	f.BoolVar(&a.cluster, "cluster", false, "the tenant's cluster itself")
	f.BoolVar(&a.prefixed, "prefixed", false, "all whose name begins with it")
	f.StringVar(&a.principal, "principal", "", "who: User:alice, or User:* for everyone")
	f.StringVar(&a.host, "host", "", "address that clients come from (default: any)")
	f.BoolVar(&a.deny, "deny", false, "deny instead of allow; a denial wins")
	f.StringSliceVar(&a.operations, "operation", nil, "all, read, write, create, delete, alter, describe, cluster-action, describe-configs, alter-configs, idempotent-write")
	e.completeList(cmd, "operation", func(context.Context, *api.Client, []string) ([]string, error) {
		return []string{"all", "read", "write", "create", "delete", "alter", "describe", "cluster-action", "describe-configs", "alter-configs", "idempotent-write"}, nil
	})
	tenant := func([]string) string { return a.tenant }
	e.completeFlag(cmd, "tenant", allTenants)
	e.completeFlag(cmd, "topic", func(ctx context.Context, c *api.Client, args []string) ([]string, error) {
		return allTopics(ctx, c.Of(a.tenant), args)
	})
	e.completeFlag(cmd, "user", usersOf(tenant, "User:"))
	e.completeFlag(cmd, "principal", usersOf(tenant, "User:"))
}

// resource tells which resource the flags name, if any.
func (a *aclFlags) resource() (kind, name string, err error) {
	n := 0
	for _, r := range []struct{ kind, name string }{{"TOPIC", a.topic}, {"GROUP", a.group}, {"TRANSACTIONAL_ID", a.txn}, {"USER", a.who}} {
		if r.name != "" {
			kind, name = r.kind, r.name
			n++
		}
	}
	if a.cluster {
		kind, name = "CLUSTER", "kafka-cluster"
		n++
	}
	if n > 1 {
		return "", "", usagef("a rule is about one resource: --topic, --group, --transactional-id, --user or --cluster")
	}
	return kind, name, nil
}

func newACLAdd(e *env) *cobra.Command {
	var a aclFlags
	req := api.ACLAdd{}
	cmd := &cobra.Command{
		Use:   "add --principal WHO --operation OP[,OP…] --topic NAME",
		Short: "Allow or deny something",
		Long: `Allow or deny something. As in Kafka, a denial wins over what is allowed; read, write, delete
and alter imply describe, alter-configs implies describe-configs. A tenant is guarded from its
first rule or super user on: then what no rule allows is denied. In a tenant that allows everybody
what no rule is about (braid tenant describe) that holds for what a rule is about alone.`,
		Example: `  braid acl add --tenant orders --principal User:app --operation read,write --topic orders
  braid acl add --tenant orders --principal User:audit --operation read --topic '*' --host 10.0.0.7
  braid acl add --tenant orders --principal User:lead --operation all --cluster`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kind, name, err := a.resource()
			switch {
			case err != nil:
				return err
			case kind == "":
				return usagef("what is it about? --topic, --group, --transactional-id, --user or --cluster")
			case a.principal == "":
				return usagef("--principal wants who, such as User:alice")
			case len(a.operations) == 0:
				return usagef("--operation wants what, such as read,write")
			}
			for _, op := range a.operations {
				rule := api.ACL{ResourceType: kind, ResourceName: name, PatternType: "LITERAL", Principal: a.principal, Host: a.host, Operation: op, Permission: "ALLOW"}
				if a.prefixed {
					rule.PatternType = "PREFIXED"
				}
				if a.deny {
					rule.Permission = "DENY"
				}
				req.ACLs = append(req.ACLs, rule)
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			out, err := c.AddACLs(cmd.Context(), a.tenant, req)
			if err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) error { return printACLs(w, out) })
		},
	}
	a.add(e, cmd)
	cmd.Flags().BoolVar(&req.Force, "force", false, "also if it locks everybody out")
	return cmd
}

func printACLs(w io.Writer, list api.ACLs) error {
	var rows [][]string
	for _, a := range list.ACLs {
		name := a.ResourceName
		if a.PatternType == "PREFIXED" {
			name += "…"
		}
		rows = append(rows, []string{strings.ToLower(a.Permission), a.Principal, strings.ToLower(a.Operation), strings.ToLower(a.ResourceType), name, a.Host})
	}
	if err := table(w, []string{"", "PRINCIPAL", "OPERATION", "RESOURCE", "NAME", "HOST"}, rows); err != nil {
		return err
	}
	for _, n := range list.Notes {
		if _, err := fmt.Fprintf(w, "note: %s\n", n); err != nil {
			return err
		}
	}
	return nil
}

// filter is what the flags select; what was not given selects any.
func (a *aclFlags) filter() (api.ACLFilter, error) {
	kind, name, err := a.resource()
	f := api.ACLFilter{ResourceType: kind, ResourceName: name, Principal: a.principal, Host: a.host}
	if a.prefixed {
		f.PatternType = "PREFIXED"
	}
	if a.deny {
		f.Permission = "DENY"
	}
	switch len(a.operations) {
	case 0:
	case 1:
		f.Operation = a.operations[0]
	default:
		err = usagef("--operation selects one here")
	}
	return f, err
}

func newACLList(e *env) *cobra.Command {
	var a aclFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the rules of a tenant",
		Example: "  braid acl list --tenant orders --principal User:app",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := a.filter()
			if err != nil {
				return err
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			out, err := c.ACLs(cmd.Context(), a.tenant, f)
			if err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) error { return printACLs(w, out) })
		},
	}
	a.add(e, cmd)
	return cmd
}

func newACLDelete(e *env) *cobra.Command {
	var a aclFlags
	var all bool
	req := api.ACLDelete{}
	cmd := &cobra.Command{
		Use:     "delete",
		Short:   "Delete the rules that the flags select",
		Example: "  braid acl delete --tenant orders --principal User:app --topic orders",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := a.filter()
			if err != nil {
				return err
			}
			if f == (api.ACLFilter{}) && !all {
				return usagef("which rules? --all means all of the tenant")
			}
			req.Filter = f
			c, err := e.client()
			if err != nil {
				return err
			}
			out, err := c.DeleteACLs(cmd.Context(), a.tenant, req)
			if err != nil {
				return err
			}
			return e.print(out, func(w io.Writer) error {
				if _, err := fmt.Fprintf(w, "%s deleted\n", plural(len(out.ACLs), "rule", "rules")); err != nil {
					return err
				}
				return printACLs(w, out)
			})
		},
	}
	a.add(e, cmd)
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "all rules of the tenant")
	f.BoolVar(&req.Force, "force", false, "also the last admin's, and the last rule")
	f.BoolVar(&req.DryRun, "dry-run", false, "show what would be deleted")
	return cmd
}

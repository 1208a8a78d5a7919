package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/tenant/sasl"
)

func newUser(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Users of a tenant, who sign on by SASL",
		Example: `  braid user add alice --tenant acme
  braid user list --tenant acme`,
	}
	group(cmd)
	e.tenantFlag(cmd)
	cmd.AddCommand(newUserAdd(e), newUserList(e), newUserRotate(e), newUserDelete(e))
	return cmd
}

// whose is the tenant that a user command is about.
func (e *env) whose() string {
	if e.tenant == "" {
		return "default"
	}
	return e.tenant
}

// owner is whose for listings.
func (e *env) owner([]string) string { return e.whose() }

// passwordFlags are where a password comes from.
type passwordFlags struct {
	mechanism, file string
	iterations      int
}

func (p *passwordFlags) add(cmd *cobra.Command, mechanism string) {
	f := cmd.Flags()
	f.StringVar(&p.mechanism, "mechanism", "", sasl.ScramSHA256+" or "+sasl.ScramSHA512+mechanism)
	f.StringVar(&p.file, "password-file", "", "file with the password, readable by its owner alone (default: one is generated and shown once)")
	f.IntVar(&p.iterations, "iterations", sasl.DefaultIterations, "of the hash, 4096 to 16384")
	complete(cmd, "mechanism", sasl.ScramSHA256, sasl.ScramSHA512)
}

func (p *passwordFlags) request(name string) (api.UserAdd, error) {
	req := api.UserAdd{Name: name, Mechanism: p.mechanism, Iterations: p.iterations}
	if known := []string{sasl.ScramSHA256, sasl.ScramSHA512}; p.mechanism != "" && !contains(known, p.mechanism) {
		return req, usagef("--mechanism: unknown mechanism %q%s", p.mechanism, didYouMean(strings.ToUpper(p.mechanism), known))
	}
	if p.iterations < sasl.MinIterations || p.iterations > sasl.MaxIterations {
		return req, usagef("--iterations wants a number from %d to %d, not %d", sasl.MinIterations, sasl.MaxIterations, p.iterations)
	}
	if p.file != "" {
		var err error
		if req.Password, err = readSecret("password", p.file, sasl.MaxPassword); err != nil {
			return req, err
		}
	}
	return req, nil
}

func newUserAdd(e *env) *cobra.Command {
	var p passwordFlags
	cmd := &cobra.Command{
		Use:   "add NAME --tenant T",
		Short: "Add a user",
		Long: `Add a user to a tenant. Without --password-file a password is generated and shown this once:
only a salted hash of it is kept. At a listener without a tenant the user signs on by its bare
name if no other has that, else as NAME@TENANT: the output says which.`,
		Example: `  braid user add alice --tenant acme
  braid user add batch --tenant acme --mechanism SCRAM-SHA-512 --password-file batch.password`,
		Args: names(1, 1, "the name of the new user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := p.request(args[0])
			if err != nil {
				return err
			}
			return e.credential(cmd, func(ctx context.Context, c *api.Client) (api.User, error) {
				return c.AddUser(ctx, e.whose(), req)
			}, "added to")
		},
	}
	p.add(cmd, " (default "+sasl.ScramSHA256+")")
	return cmd
}

// credential asks for a user's credentials and shows a generated password, once.
func (e *env) credential(cmd *cobra.Command, change func(context.Context, *api.Client) (api.User, error), verb string) error {
	return ask(e, func(ctx context.Context, c *api.Client, _ []string) (api.User, error) { return change(ctx, c) },
		func(w io.Writer, u api.User) error {
			text := fmt.Sprintf("user %s %s tenant %s (%s)\n", u.Name, verb, u.Tenant, strings.Join(u.Mechanisms, ", ")) + signsOn(u, verb == "added to")
			if u.Password != "" {
				text += "password " + u.Password + "\nit is not shown again\n"
			}
			_, err := io.WriteString(w, text)
			return err
		})(cmd, nil)
}

// signsOn says by which name, where the listener does not tell the tenant.
func signsOn(u api.User, added bool) string {
	if added && u.SignsOn != u.Name {
		return "signs on as " + u.SignsOn + ": the bare name is another tenant's\n"
	}
	return "signs on as " + u.SignsOn + "\n"
}

func newUserList(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "list --tenant T",
		Short:   "List a tenant's users",
		Example: "  braid user list --tenant acme",
		Args:    noArguments,
		RunE: ask(e, func(ctx context.Context, c *api.Client, _ []string) ([]api.User, error) {
			return c.Users(ctx, e.whose())
		},
			func(w io.Writer, list []api.User) error {
				var rows [][]string
				for _, u := range list {
					rows = append(rows, []string{u.Name, dash(strings.Join(u.Mechanisms, ",")), u.SignsOn, ago(u.Created)})
				}
				return table(w, []string{"NAME", "MECHANISMS", "SIGNS ON AS", "CREATED"}, rows)
			}),
	}
}

func newUserRotate(e *env) *cobra.Command {
	var p passwordFlags
	cmd := &cobra.Command{
		Use:   "rotate NAME --tenant T",
		Short: "Give a user a new password",
		Long: `Give a user a new password, for all its mechanisms or for the one that is named. The old one is
void at once, and sessions that were opened with it end.`,
		Example: `  braid user rotate alice --tenant acme
  braid user rotate batch --tenant acme --password-file new.password`,
		Args:              names(1, 1, "the name of a user"),
		ValidArgsFunction: e.first(usersOf(e.owner, "")),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := p.request("")
			if err != nil {
				return err
			}
			return e.credential(cmd, func(ctx context.Context, c *api.Client) (api.User, error) {
				return c.RotateUser(ctx, e.whose(), args[0], req)
			}, "has a new password in")
		},
	}
	p.add(cmd, " (default: all that the user has)")
	return cmd
}

func newUserDelete(e *env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "delete NAME --tenant T",
		Short:             "Delete a user; its sessions end",
		Example:           "  braid user delete alice --tenant acme",
		Args:              names(1, 1, "the name of a user"),
		ValidArgsFunction: e.first(usersOf(e.owner, "")),
		RunE: ask(e, func(ctx context.Context, c *api.Client, args []string) (gone, error) {
			return gone{"deleted", "user", args[0]}, c.DeleteUser(ctx, e.whose(), args[0], force)
		}, printGone),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also the last one with a password who may change the ACLs")
	return cmd
}

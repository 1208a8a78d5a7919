package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
)

// signOnFlags say who the command line is to the admin API.
type signOnFlags struct {
	tokenFile, ca, cert, key string
}

func (s *signOnFlags) add(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&s.tokenFile, "token-file", os.Getenv("BRAID_TOKEN_FILE"), "file with an operator's token, readable by its owner alone (environment: BRAID_TOKEN_FILE, or the token itself: BRAID_TOKEN)")
	f.StringVar(&s.ca, "admin-ca", os.Getenv("BRAID_ADMIN_CA"), "PEM file of who signs the admin API's certificate (default: the system's; environment: BRAID_ADMIN_CA)")
	f.StringVar(&s.cert, "admin-cert", os.Getenv("BRAID_ADMIN_CERT"), "PEM file with the certificate to sign on with (environment: BRAID_ADMIN_CERT)")
	f.StringVar(&s.key, "admin-key", os.Getenv("BRAID_ADMIN_KEY"), "PEM file with its key, readable by its owner alone (environment: BRAID_ADMIN_KEY)")
}

// maxToken bounds a token, in bytes.
const maxToken = 4096

func (s *signOnFlags) options() (o api.ClientOptions, err error) {
	if o.Token = os.Getenv("BRAID_TOKEN"); s.tokenFile != "" {
		if o.Token, err = readSecret("token", s.tokenFile, maxToken); err != nil {
			return o, err
		}
	}
	if s.ca == "" && s.cert == "" && s.key == "" {
		return o, nil
	}
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if s.ca != "" {
		if o.TLS.RootCAs, err = caPool("--admin-ca", s.ca); err != nil {
			return o, err
		}
	}
	if (s.cert == "") != (s.key == "") {
		return o, usagef("--admin-cert and --admin-key go together")
	}
	if s.cert != "" {
		if err := ownersAlone("key", s.key); err != nil {
			return o, err
		}
		pair, err := tls.LoadX509KeyPair(s.cert, s.key)
		if err != nil {
			return o, fmt.Errorf("--admin-cert, --admin-key: %w", err)
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	return o, nil
}

func newOperator(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "Who may use the admin API, and for what",
		Example: `  braid operator add olga --role admin
  braid operator list`,
	}
	group(cmd)
	cmd.AddCommand(newOperatorAdd(e), newOperatorList(e), newOperatorRotate(e), newOperatorDelete(e))
	return cmd
}

const newTokenVerb = "has a new token"

func printOperatorToken(verb string) func(io.Writer, api.OperatorToken) error {
	return func(w io.Writer, o api.OperatorToken) error {
		if o.Secret == "" && verb == newTokenVerb {
			verb = "is changed"
		}
		text := fmt.Sprintf("operator %s %s (%s)\n", o.Name, verb, o.Role)
		if o.Secret != "" {
			text += "token " + o.Secret + "\nit is not shown again\n"
		}
		_, err := io.WriteString(w, text)
		return err
	}
}

func newOperatorAdd(e *env) *cobra.Command {
	var req api.OperatorAdd
	cmd := &cobra.Command{
		Use:   "add NAME --role viewer|operator|admin",
		Short: "Add an operator",
		Long: `Add an operator. Viewers look; operators run the fleet (topics, moves, failovers, quotas);
admins say who may do what (tenants, users, ACLs, operators) and which clusters there are. The token is
shown this once: only a hash of it is kept. With --certificate none is made: the operator signs on by a
client certificate that is mapped to the name.`,
		Example: `  braid operator add olga --role admin
  braid operator add grafana --role viewer --expires 8760h
  braid operator add deploy --role operator --certificate`,
		Args: names(1, 1, "the name of the new operator"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if known := []string{"viewer", "operator", "admin"}; !contains(known, req.Role) {
				return usagef("--role wants viewer, operator or admin, not %q", req.Role)
			}
			req.Name = args[0]
			return ask(e, func(ctx context.Context, c *api.Client, _ []string) (api.OperatorToken, error) {
				return c.AddOperator(ctx, req)
			}, printOperatorToken("added"))(cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Role, "role", "", "viewer, operator or admin")
	f.StringVar(&req.Expires, "expires", "", "how long it may sign on, such as 720h (default: without an end)")
	f.BoolVar(&req.Certificate, "certificate", false, "no token: it signs on by a certificate")
	complete(cmd, "role", "viewer", "operator", "admin")
	return cmd
}

func newOperatorList(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the operators",
		Example: "  braid operator list",
		Args:    noArguments,
		RunE: ask(e, func(ctx context.Context, c *api.Client, _ []string) ([]api.Operator, error) { return c.Operators(ctx) },
			func(w io.Writer, list []api.Operator) error {
				var rows [][]string
				for _, o := range list {
					by, until := "certificate", "-"
					if o.Token {
						by = "token"
					}
					if o.Expires != nil {
						until = o.Expires.Local().Format(time.DateTime)
					}
					if o.Expired {
						until += " (expired)"
					}
					rows = append(rows, []string{o.Name, o.Role, by, until, ago(o.Created)})
				}
				return table(w, []string{"NAME", "ROLE", "BY", "EXPIRES", "CREATED"}, rows)
			}),
	}
}

func newOperatorRotate(e *env) *cobra.Command {
	var req api.OperatorRotate
	cmd := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Give an operator a new token; the one before is void at once",
		Example: `  braid operator rotate olga
  braid operator rotate olga --expires never`,
		Args:              names(1, 1, "the name of an operator"),
		ValidArgsFunction: e.first(allOperators),
		RunE: ask(e, func(ctx context.Context, c *api.Client, args []string) (api.OperatorToken, error) {
			return c.RotateOperator(ctx, args[0], req)
		}, printOperatorToken(newTokenVerb)),
	}
	f := cmd.Flags()
	f.StringVar(&req.Expires, "expires", "", "how long it may sign on from now, such as 720h, or never for without an end (default: as before)")
	f.BoolVar(&req.Token, "token", false, "a token also for one who has signed on by a certificate alone until now")
	f.BoolVar(&req.Force, "force", false, "also if the last admin who does not expire will")
	return cmd
}

func newOperatorDelete(e *env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "delete NAME",
		Short:             "Delete an operator; its token is void at once",
		Example:           "  braid operator delete olga",
		Args:              names(1, 1, "the name of an operator"),
		ValidArgsFunction: e.first(allOperators),
		RunE: ask(e, func(ctx context.Context, c *api.Client, args []string) (gone, error) {
			return gone{"deleted", "operator", args[0]}, c.DeleteOperator(ctx, args[0], force)
		}, printGone),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also the last admin")
	return cmd
}

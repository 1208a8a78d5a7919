package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/nearest"
)

// streams are what a command reads and writes.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// usageError is a command line, or a configuration, that cannot be understood: exit code 2.
type usageError struct {
	message string
	about   string // what the message begins with: the flag, as in --listener NAME; "" if it is of none
}

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// aboutf is usagef for what is wrong with the value of one flag, or of its like in a file. The message begins
// with that.
func aboutf(about, format string, args ...any) error {
	return &usageError{message: about + fmt.Sprintf(format, args...), about: about}
}

// silentError fails the command whose output has already said why.
type silentError struct{ reason string }

func (e *silentError) Error() string { return e.reason }

// env is what all commands share: where the admin API is and how to print.
type env struct {
	streams
	admin  string
	signOn signOnFlags
	output string
	tenant string // of commands that take --tenant
}

// defaultAdmin is where `braid up` serves the admin API.
const defaultAdmin = "http://127.0.0.1:9080"

func newRoot(io streams) *cobra.Command {
	e := &env{streams: io}
	root := &cobra.Command{
		Use:   "braid",
		Short: "Many Kafka clusters flow as one",
		Long: `Braid makes many Kafka clusters flow as one. Any Kafka client connects to a
gateway and sees one Kafka cluster; behind it, topics live on as many clusters as
you like, move between them while clients run, and survive the loss of one.`,
		Example: `  braid up                                              # start on embedded defaults
  braid cluster add east --bootstrap 127.0.0.1:19092    # a real Apache Kafka
  braid topic move packages --to east                   # live
  braid verify --duration 30s                           # is anything lost?`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	group(root)
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.HiddenDefaultCmd = false
	flags := root.PersistentFlags()
	admin := os.Getenv("BRAID_ADMIN")
	if admin == "" {
		admin = defaultAdmin
	}
	flags.StringVar(&e.admin, "admin", admin, "address of the admin API (environment: BRAID_ADMIN)")
	e.signOn.add(root)
	flags.StringVarP(&e.output, "output", "o", "text", "output format: text or json")
	complete(root, "output", "text", "json")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if e.output != "text" && e.output != "json" {
			return usagef("unknown output format %q: text or json", e.output)
		}
		return nil
	}
	root.AddCommand(
		newUp(e), newGateway(e), newController(e),
		newCluster(e), newTopic(e), newFailover(e), newFailback(e), newOp(e),
		newTenant(e), newUser(e), newOperator(e), newAudit(e),
		newACL(e), newQuota(e), newUsage(e),
		newStatus(e), newVerify(e), newStorage(e), newVersion(e),
	)
	// Cobra's own, which by itself takes any word for a shell.
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		group(c)
	}
	if typed := typedAs(); typed != root.Name() {
		showTyped(root, typed)
	}
	return root
}

// client returns a client of the admin API.
func (e *env) client() (*api.Client, error) {
	o, err := e.signOn.options()
	if err != nil {
		return nil, err
	}
	c, err := api.NewClientWith(e.admin, o)
	if err != nil {
		return nil, &usageError{message: err.Error()}
	}
	return c.Of(e.tenant), nil
}

// flagError names the flag that was most likely meant.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return &usageError{message: err.Error()}
	}
	var known []string
	add := func(f *pflag.Flag) { known = append(known, f.Name) }
	cmd.Flags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	if n := nearest.Name(unknown.GetSpecifiedName(), known); n != "" {
		return usagef("unknown flag --%s: did you mean --%s?", unknown.GetSpecifiedName(), n)
	}
	return &usageError{message: err.Error()}
}

// group makes cmd a command that only holds others: alone it prints its help, and
// an unknown word after it is an error that names the nearest one.
func group(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var known []string
		for _, c := range cmd.Commands() {
			known = append(known, c.Name())
		}
		if n := nearest.Name(args[0], known); n != "" {
			return usagef("unknown command %q for %q: did you mean %q?", args[0], cmd.CommandPath(), n)
		}
		return usagef("unknown command %q for %q", args[0], cmd.CommandPath())
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/verify"
)

func newVerify(e *env) *cobra.Command {
	var bootstrap, topics, clusters string
	var transactions bool
	var opts verify.Options
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Produce and consume against an endpoint and check every record",
		Long: `Run a workload of unique records against a Kafka endpoint and check its history: what was
acknowledged, lost, duplicated, reordered, and the longest pause. It works against any Kafka
cluster; run it while topics move. Exit code 1 when anything is wrong.

With --transactions producers write to several topics in each transaction, some are aborted and some
given up in the middle, and a group consumes the first topic, writes to the others and commits its
offsets in the same transactions. What is checked besides: each transaction is there as a whole or not at
all, at the end and in what each reader of committed records was given; nothing aborted is
read, nothing committed hidden; and the group's offsets are those of what was written.`,
		Example: `  braid verify --duration 30s
  braid verify --bootstrap kafka.example.com:9092 --topic orders-check --producers 8 --rate 20000 -o json
  braid verify --transactions --clusters east,west --duration 1m`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.Duration <= 0 {
				return usagef("--duration wants a time above 0, such as 30s, not %s", opts.Duration)
			}
			for _, n := range []struct {
				flag string
				is   int
				from int
			}{{"partitions", opts.Partitions, 1}, {"producers", opts.Producers, 1}, {"rate", opts.Rate, 1}, {"record-size", opts.RecordSize, 1},
				{"consumers", opts.Consumers, 0}, {"group-consumers", opts.GroupConsumers, 0}} {
				if n.is < n.from {
					return usagef("--%s wants a number from %d on, not %d", n.flag, n.from, n.is)
				}
			}
			if opts.Settle <= 0 {
				return usagef("--settle wants a time above 0, such as 1m, not %s", opts.Settle)
			}
			for _, name := range append([]string{opts.Topic}, splitList(topics)...) {
				if name == "" {
					continue // one of its own
				}
				if err := checkTopicName(name); err != nil {
					return err
				}
			}
			for _, name := range []string{"topic", "no-idempotence"} {
				if transactions && cmd.Flags().Changed(name) {
					return usagef("--%s does not go with --transactions", name)
				}
			}
			if (topics != "" || clusters != "") && !transactions {
				return usagef("--topics and --clusters go with --transactions")
			}
			if topics != "" && clusters != "" && len(splitList(topics)) != len(splitList(clusters)) {
				return usagef("--clusters wants a cluster for each of --topics: %d, not %d", len(splitList(topics)), len(splitList(clusters)))
			}
			opts.Bootstrap = splitList(bootstrap)
			if len(opts.Bootstrap) == 0 {
				addr, err := e.gatewayAddress(cmd.Context())
				if err != nil {
					return err
				}
				opts.Bootstrap = []string{addr}
			}
			for _, b := range opts.Bootstrap {
				if err := checkHostPort("--bootstrap", b); err != nil {
					return err
				}
			}
			bar := e.verifyBar(opts.Duration, transactions)
			opts.Progress = bar.show
			var report interface {
				OK() bool
				Complete() bool
				String() string
			}
			if transactions {
				r, err := verify.RunTxns(cmd.Context(), txnOptions(&opts, splitList(topics), splitList(clusters)))
				bar.stop()
				if err != nil {
					return err
				}
				report = &r
			} else {
				// None was asked for; to the package 0 is its default.
				if opts.Consumers == 0 {
					opts.Consumers = -1
				}
				if opts.GroupConsumers == 0 {
					opts.GroupConsumers = -1
				}
				r, err := verify.Run(cmd.Context(), opts)
				bar.stop()
				if err != nil {
					return err
				}
				report = &r
			}
			if err := e.print(report, func(w io.Writer) error {
				_, err := io.WriteString(w, strings.TrimRight(report.String(), "\n")+"\n")
				return err
			}); err != nil {
				return err
			}
			if !report.OK() || !report.Complete() {
				return &silentError{"anomalies were found, or not everything could be verified"}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&bootstrap, "bootstrap", "", "endpoint HOST:PORT,… (default: the first gateway of the fleet behind --admin)")
	f.DurationVar(&opts.Duration, "duration", 10*time.Second, "how long the workload runs")
	f.StringVar(&opts.Topic, "topic", "", "topic to use; created unless it exists (default: one of its own, deleted when clean)")
	e.completeFlag(cmd, "topic", allTopics)
	f.IntVar(&opts.Partitions, "partitions", 6, "partitions of a topic that is created")
	f.IntVar(&opts.Producers, "producers", 2, "producers, each a client of its own")
	f.IntVar(&opts.Rate, "rate", 1000, "records a second of all producers together")
	f.IntVar(&opts.RecordSize, "record-size", 200, "bytes of a record's value")
	f.IntVar(&opts.Consumers, "consumers", 1, "consumers that read everything")
	f.IntVar(&opts.GroupConsumers, "group-consumers", 2, "members of one consumer group")
	f.BoolVar(&transactions, "transactions", false, "write in transactions over several topics, and check those")
	f.StringVar(&topics, "topics", "", "with --transactions: topics to write to; created unless they exist (default: some of its own, deleted when clean)")
	f.StringVar(&clusters, "clusters", "", "with --transactions: clusters of a Braid fleet to create the topics on, one topic each (default: two topics where placement puts them)")
	f.BoolVar(&opts.NonIdempotent, "no-idempotence", false, "produce without producer ids, one request in flight")
	f.DurationVar(&opts.Settle, "settle", time.Minute, "how long to wait for answers and readers after the workload")
	return cmd
}

// txnOptions are the options of a run with transactions.
func txnOptions(o *verify.Options, topics, clusters []string) verify.TxnOptions {
	x := verify.TxnOptions{Bootstrap: o.Bootstrap, Topics: topics, Partitions: o.Partitions, Producers: o.Producers, Pipelines: o.GroupConsumers,
		Rate: o.Rate, Duration: o.Duration, RecordSize: o.RecordSize, Consumers: o.Consumers, Settle: o.Settle, Progress: o.Progress}
	for _, c := range clusters {
		x.Configs = append(x.Configs, map[string]string{controller.ConfigCluster: c})
	}
	// None was asked for; to the package 0 is its default.
	if x.Pipelines == 0 {
		x.Pipelines = -1
	}
	if x.Consumers == 0 {
		x.Consumers = -1
	}
	return x
}

// gatewayAddress asks the admin API where clients connect.
func (e *env) gatewayAddress(ctx context.Context) (string, error) {
	c, err := e.client()
	if err != nil {
		return "", err
	}
	s, err := c.Status(ctx)
	if err != nil {
		return "", fmt.Errorf("%w; or name the endpoint with --bootstrap", err)
	}
	for _, g := range s.Gateways {
		for _, l := range g.Listeners {
			return l.Advertise, nil
		}
	}
	return "", fmt.Errorf("no gateway is up: braid status shows the fleet, --bootstrap names an endpoint")
}

// verifyBar shows a run's progress on standard error.
type verifyBar struct {
	env          *env
	bar          *progressbar.ProgressBar
	last         time.Time
	transactions bool
}

func (e *env) verifyBar(total time.Duration, transactions bool) *verifyBar {
	v := &verifyBar{env: e, transactions: transactions}
	if f, ok := e.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		v.bar = progressbar.NewOptions(int(total.Milliseconds()), progressbar.OptionSetWriter(e.err),
			progressbar.OptionSetDescription("verify"), progressbar.OptionClearOnFinish())
	}
	return v
}

func (v *verifyBar) show(p verify.Progress) {
	line := fmt.Sprintf("%s: %s sent, %s acknowledged, %s polled, longest pause %s", p.Phase, count(p.Sent),
		count(p.Acknowledged), count(p.Polled), p.LongestPause.Round(time.Millisecond))
	if v.transactions {
		line = fmt.Sprintf("%s: %s transactions committed, %s records sent, %s polled, longest pause %s", p.Phase, count(p.Committed), count(p.Sent),
			count(p.Polled), p.LongestPause.Round(time.Millisecond))
	}
	if v.bar != nil {
		v.bar.Describe(line)
		_ = v.bar.Set(int(min(p.Elapsed, p.Total).Milliseconds())) // a terminal that went away is no failure of the run
		return
	}
	if time.Since(v.last) >= 5*time.Second {
		v.last = time.Now()
		_, _ = fmt.Fprintln(v.env.err, line)
	}
}

func (v *verifyBar) stop() {
	if v.bar != nil {
		_ = v.bar.Finish() // only clears the line
	}
}

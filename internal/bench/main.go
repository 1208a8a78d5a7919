// Command bench measures speed and memory of a gateway against peers: Apache Kafka itself, a process
// that only copies bytes, and Braid's own parts against each other. Machines drift, and others work on
// them; so every figure is a ratio between runs that took turns (A B C, B C A, …), and with each rate
// comes the CPU time of every process, which a busy neighbour changes least.
//
//	go run ./internal/bench                        # everything
//	go run ./internal/bench -only produce,consume  # some of it
//	go run ./internal/bench -quick -o json
//
// The program runs itself in other roles for what must be a process of its own: the forwarder and the
// load generators.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/braidstream/braid/internal/nearest"
	"github.com/braidstream/braid/internal/testkit"
)

// options are the command line's.
type options struct {
	only    []string
	parts   []string // of a scenario that has parts; none: all
	quick   bool
	output  string
	profile string // directory for profiles, "" if none
	dir     string // where data go, "" for the system's temporary directory
	level   string // of braid's logs
	braid   string // a binary that was built before, "" to build one
	brisk   bool   // set by a scenario of many parts: shorter turns
	rounds  int
	window  time.Duration
}

// warmUp is how long a load runs before it counts.
func (o *options) warmUp() time.Duration {
	if o.quick {
		return 500 * time.Millisecond
	}
	if o.brisk {
		return time.Second
	}
	return 2 * time.Second
}

// pick chooses between the full size of something and the quick one.
func (o *options) pick(full, quick int) int {
	if o.quick {
		return quick
	}
	return full
}

// scenario is one thing to measure, within a time limit.
type scenario struct {
	name  string
	about string
	limit time.Duration
	run   func(context.Context, *env) ([]figure, error)
}

// allScenarios lists them in the order of the report.
func allScenarios() []scenario {
	return []scenario{
		{"produce", "1 KiB records, 6 partitions, acks=all: saturated, and at 60 % of direct's rate", 10 * time.Minute, produceScenario},
		{"consume", "the same, read", 10 * time.Minute, consumeScenario},
		{"latency", "added latency at 5,000 records/s", 8 * time.Minute, latencyScenario},
		{"many", "500 producers, 5,000 records/s in all", 5 * time.Minute, manyScenario},
		{"fanout", "ten groups tail a topic", 8 * time.Minute, fanoutScenario},
		{"moves", "100 live moves under 2,000 records/s, between kinds of clusters", 10 * time.Minute, movesScenario},
		{"batch", "1,000 topics moved as one operation", 8 * time.Minute, batchScenario},
		{"failover", "a Kafka cluster is killed, stops and vanishes, ten times each, under load", 8 * time.Minute, failoverScenario},
		{"coordinators", "groups, commits and transactions, and metadata of many topics", 20 * time.Minute, coordinatorsScenario},
		{"local", "the embedded engine, synced, against Kafka", 8 * time.Minute, localScenario},
		{"tenants", "the cost of quotas and ACLs; a quiet tenant beside one at ten times its budget on 2,000 connections", 8 * time.Minute, tenantsScenario},
		{"engine", "the same without a gateway: the disk's limit, 10,000 partitions, restarts, a compaction", 4 * time.Minute, engineScenario},
	}
}

func main() {
	err := error(nil)
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "load":
			err = runLoad(os.Stdin, os.Stdout)
		case "store":
			err = runStore(os.Stdin, os.Stdout)
		case "forward":
			err = runForward(os.Args[2:])
		default:
			err = runBench(os.Args[1:])
		}
	} else {
		err = runBench(nil)
	}
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	var only, parts string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&only, "only", "", "scenarios to run, NAME,… (default: all)")
	f.StringVar(&parts, "parts", "", "of the scenario local: "+strings.Join(localParts, ", ")+"; of coordinators: "+strings.Join(coordinatorParts, ", ")+"; of tenants: "+strings.Join(tenantParts, ", ")+"; of moves: "+strings.Join(movesParts, ", ")+" (default: all)")
	f.BoolVar(&o.quick, "quick", false, "each scenario in about ten seconds: to see that it works, not to believe it")
	f.StringVar(&o.output, "o", "text", "text or json")
	f.StringVar(&o.profile, "profile", "", "also write CPU and heap profiles of the gateway to this directory")
	f.StringVar(&o.braid, "braid", "", "measure this binary instead of building cmd/braid; it gives no profiles")
	f.StringVar(&o.dir, "dir", "", "directory for the data of all servers (default: the system's for temporary files)")
	f.StringVar(&o.level, "log-level", "warn", "of braid's processes; a scenario that fails keeps its directory with their logs")
	f.IntVar(&o.rounds, "rounds", 5, "turns that each peer takes")
	f.DurationVar(&o.window, "window", 5*time.Second, "how long one turn counts")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: bench [flags]")
		f.PrintDefaults()
		for _, s := range allScenarios() {
			fmt.Fprintf(f.Output(), "  %-10s %s\n", s.name, s.about)
		}
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.output != "text" && o.output != "json" {
		return o, fmt.Errorf("unknown output format %q: text or json", o.output)
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected %q", f.Args())
	}
	given := map[string]bool{}
	f.Visit(func(g *flag.Flag) { given[g.Name] = true })
	if o.quick && !given["rounds"] {
		o.rounds = 1
	}
	if o.quick && !given["window"] {
		o.window = 2 * time.Second
	}
	if o.rounds < 1 || o.window < 100*time.Millisecond {
		return o, errors.New("at least one round, of at least 100ms")
	}
	for name := range strings.SplitSeq(only, ",") {
		if name == "" {
			continue
		}
		var known []string
		for _, s := range allScenarios() {
			known = append(known, s.name)
		}
		if !slices.Contains(known, name) {
			return o, fmt.Errorf("unknown scenario %q, did you mean %q? (%s)", name, nearest.Name(name, known), strings.Join(known, ", "))
		}
		o.only = append(o.only, name)
	}
	for name := range strings.SplitSeq(parts, ",") {
		if name == "" {
			continue
		}
		if known := slices.Concat(localParts, coordinatorParts, tenantParts, movesParts); !slices.Contains(known, name) {
			return o, fmt.Errorf("unknown part %q, did you mean %q? (%s)", name, nearest.Name(name, known), strings.Join(known, ", "))
		}
		o.parts = append(o.parts, name)
	}
	if o.braid != "" {
		path, err := filepath.Abs(o.braid)
		if err != nil {
			return o, err
		}
		o.braid = path
	}
	if o.profile != "" {
		dir, err := filepath.Abs(o.profile)
		if err != nil {
			return o, err
		}
		o.profile = dir
		return o, os.MkdirAll(dir, 0o755)
	}
	return o, nil
}

func runBench(args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var all []figure
	for _, s := range allScenarios() {
		if len(o.only) > 0 && !slices.Contains(o.only, s.name) {
			continue
		}
		began := time.Now()
		figures, err := runScenario(ctx, o, s)
		if err != nil {
			// The others still have something to say.
			figures = append(figures, figure{Name: s.name, Note: "failed: " + err.Error(), Goal: "to run", Met: no()})
		}
		for i := range figures {
			figures[i].Scenario = s.name
		}
		all = append(all, figures...)
		fmt.Fprintf(os.Stderr, "%s: %d figures in %s\n", s.name, len(figures), time.Since(began).Round(time.Second))
		if ctx.Err() != nil {
			break
		}
	}
	if err := report(os.Stdout, o, all); err != nil {
		return err
	}
	return ctx.Err()
}

// runScenario gives each scenario processes of its own, so that none inherits another's heap, caches
// or open files.
func runScenario(ctx context.Context, o options, s scenario) (figures []figure, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	dir, err := os.MkdirTemp(o.dir, "braid-bench-")
	if err != nil {
		return nil, err
	}
	e := &env{opts: o, dir: dir, clusters: map[string]*testkit.Cluster{}, log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	defer func() {
		e.close()
		if err != nil || o.level != "warn" {
			// The logs say why; the records, which are many, go.
			kept := filepath.Join(os.TempDir(), "braid-bench-logs-"+s.name)
			if kerr := keepLogs(dir, kept); kerr != nil {
				e.log.Warn("keep the logs", "err", kerr)
			} else {
				fmt.Fprintf(os.Stderr, "%s: logs are in %s\n", s.name, kept)
			}
		}
		if rerr := os.RemoveAll(dir); rerr != nil {
			e.log.Warn("remove the run's directory", "err", rerr)
		}
	}()
	return s.run(ctx, e)
}

// keepLogs copies what processes logged to a directory that replaces that of an earlier run.
func keepLogs(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(from, "*.log"))
	if err != nil {
		return err
	}
	more, err := filepath.Glob(filepath.Join(from, "*", "*", "node.log"))
	if err != nil {
		return err
	}
	for _, path := range append(logs, more...) {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.ReplaceAll(strings.TrimPrefix(path, from+"/"), "/", "-")
		if err := os.WriteFile(filepath.Join(to, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func heading(w io.Writer, o options) {
	fmt.Fprintf(w, "%d CPUs, %s, %d rounds of %s each\n\n", runtime.NumCPU(), runtime.Version(), o.rounds, o.window)
}

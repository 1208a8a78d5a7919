package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// upConfig is what `braid up` was told, defaults filled in.
type upConfig struct {
	DataDir          string
	Listeners        []listener
	HTTP             string
	admin            adminListener // HTTP, read
	CatalogListen    string
	CatalogEndpoints []string
	Gateways         int
	LocalClusters    []string
	Zone             string
	Insecure         bool // listeners that are not loopback may let everybody in
	Set              map[string]string
	ReadyFile        string
	LogLevel         string

	// Controller: whether the process runs one and the admin API.
	Controller bool
}

func newUp(e *env) *cobra.Command {
	var listen string
	var listeners, set []string
	var localClusters, endpoints, configFile string
	cfg := upConfig{Controller: true}
	var from origin
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run everything in this process: catalog, local clusters, controller, gateways",
		Long: `Run Braid in one process: an embedded catalog (etcd), embedded local clusters, a controller
and one or more gateways. SIGTERM drains and ends it; nothing acknowledged is lost on kill -9.

--set takes Kafka's broker configs where it has them (auto.create.topics.enable, num.partitions,
message.max.bytes, …); an unknown one is an error that names the nearest known one.`,
		Example: `  braid up
  braid up --data-dir /var/lib/braid --gateways 3 --set num.partitions=6
  braid up --listener internal=127.0.0.1:9092 --listener external=0.0.0.0:9094,advertise=kafka.example.com:9094,security=SASL_SSL,cert=tls.pem,key=tls.key`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := cmd.Flags()
			if configFile != "" {
				file, text, err := readConfig(configFile)
				if err != nil {
					return err
				}
				changed := flags.Changed
				given, err := keyValues("--set", set)
				if err != nil {
					return err
				}
				from = origin{path: configFile, text: text, file: file, given: changed, set: given}
				take(changed("data-dir"), &cfg.DataDir, file.DataDir)
				take(changed("listen"), &listen, file.Listen)
				take(changed("http"), &cfg.HTTP, file.HTTP)
				take(changed("catalog-listen"), &cfg.CatalogListen, file.CatalogListen)
				take(changed("catalog-endpoints"), &endpoints, strings.Join(file.CatalogEndpoints, ","))
				take(changed("gateways"), &cfg.Gateways, file.Gateways)
				take(changed("local-clusters"), &localClusters, strings.Join(file.LocalClusters, ","))
				take(changed("zone"), &cfg.Zone, file.Zone)
				take(changed("insecure"), &cfg.Insecure, file.Insecure)
				if !changed("listener") && !changed("listen") {
					cfg.Listeners = file.Listeners
				}
				cfg.Set = file.Set
			}
			if err := cfg.fill(listen, listeners, set, localClusters, endpoints, flags.Changed("listen")); err != nil {
				return from.blame(err)
			}
			return from.blame(runProcess(cmd.Context(), e, cfg, func(w io.Writer, r ready) error { return greet(w, cfg, r, typedAs()) }))
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.DataDir, "data-dir", "./braid-data", "where the catalog and the local clusters keep their data")
	f.StringVar(&listen, "listen", "127.0.0.1:9092", "address for Kafka clients")
	f.StringArrayVar(&listeners, "listener", nil, "named address "+listenerForm+", instead of --listen (repeatable; docs/security.md)")
	f.BoolVar(&cfg.Insecure, "insecure", false, "let everybody in by listeners, and to an admin API, that are not loopback and have no authentication")
	f.StringVar(&cfg.HTTP, "http", "127.0.0.1:9080", "address of the admin API, /metrics, /healthz and /readyz: "+adminForm+" (docs/security.md)")
	f.StringVar(&cfg.CatalogListen, "catalog-listen", "127.0.0.1:9079", "address of the embedded catalog, for further processes")
	f.StringVar(&endpoints, "catalog-endpoints", "", "use an external etcd, URL,…, instead of the embedded one")
	f.IntVar(&cfg.Gateways, "gateways", 1, "number of gateways, on consecutive ports")
	f.StringVar(&localClusters, "local-clusters", "a,b", "names of the embedded clusters; '' for none, which leaves it to clusters that are added")
	f.StringVar(&cfg.Zone, "zone", "", "zone of this process")
	f.StringArrayVar(&set, "set", nil, "config KEY=VALUE by Kafka's names (repeatable)")
	completeKeys(cmd, "set", settingKeys()...)
	completeListener(cmd)
	f.StringVar(&configFile, "config", "", "file (YAML or JSON) with the same settings; flags win over it")
	processFlags(cmd, &cfg)
	return cmd
}

// processFlags are those of every command that runs until it is stopped.
func processFlags(cmd *cobra.Command, cfg *upConfig) {
	f := cmd.Flags()
	f.StringVar(&cfg.ReadyFile, "ready-file", "", "write one JSON line with all addresses and the pid to this file when everything answers")
	f.StringVar(&cfg.LogLevel, "log-level", "info", "debug, info, warn or error")
	complete(cmd, "log-level", "debug", "info", "warn", "error")
}

// take sets *to from the file unless a flag was given or the file is silent.
func take[T comparable](flagGiven bool, to *T, file T) {
	var zero T
	if !flagGiven && file != zero {
		*to = file
	}
}

// fill completes and checks a config.
func (c *upConfig) fill(listen string, listeners, set []string, localClusters, endpoints string, listenGiven bool) error {
	if len(listeners) > 0 && listenGiven {
		return usagef("--listen and --listener exclude one another: name every address with --listener")
	}
	if len(listeners) > 0 {
		c.Listeners = nil
	}
	for _, s := range listeners {
		l, err := parseListener(s)
		if err != nil {
			return err
		}
		c.Listeners = append(c.Listeners, l)
	}
	if len(c.Listeners) == 0 {
		if err := checkHostPort("--listen", listen); err != nil {
			return err
		}
		c.Listeners = []listener{{Name: "default", Bind: listen}}
	}
	seen := map[string]bool{}
	for _, l := range c.Listeners {
		if seen[l.Name] {
			return aboutf("--listener "+l.Name, ": two listeners are named %q", l.Name)
		}
		seen[l.Name] = true
		if err := l.check(); err != nil {
			return err
		}
	}
	var err error
	if c.HTTP == "" {
		c.HTTP = "127.0.0.1:0"
	}
	if c.admin, err = parseAdminListener(c.HTTP); err != nil {
		return err
	}
	if err := c.refuseOpen(); err != nil {
		return err
	}
	if c.CatalogListen != "" {
		if err := checkHostPort("--catalog-listen", c.CatalogListen); err != nil {
			return err
		}
	}
	if c.Gateways < 1 || c.Gateways > 64 {
		return aboutf("--gateways", " wants a number from 1 to 64, not %d", c.Gateways)
	}
	c.LocalClusters = splitList(localClusters)
	for i, name := range c.LocalClusters {
		if slices.Contains(c.LocalClusters[:i], name) {
			return aboutf("--local-clusters", ": %s is named twice", name)
		}
		if !clusterName(name) {
			return aboutf("--local-clusters", ": %q is no name for a cluster: letters, digits, '-' and '_', at most 64", name)
		}
	}
	c.CatalogEndpoints = splitList(endpoints)
	more, err := keyValues("--set", set)
	if err != nil {
		return err
	}
	merged := map[string]string{}
	for k, v := range c.Set {
		merged[k] = v
	}
	for k, v := range more {
		merged[k] = v
	}
	c.Set = merged
	return nil
}

func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// clusterName tells whether s may name a cluster.
func clusterName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return true
}

func newGateway(e *env) *cobra.Command {
	var listen, advertise, endpoints string
	var listeners, set []string
	cfg := upConfig{Gateways: 1}
	cmd := &cobra.Command{
		Use:   "gateway --catalog-endpoints URL --listen HOST:PORT",
		Short: "Run a further gateway",
		Long: `Run a further gateway of a fleet. Local clusters that another process holds are reached over
that process's internal listener.`,
		Example: `  braid gateway --catalog-endpoints http://127.0.0.1:9079 --listen 127.0.0.1:9093`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if endpoints == "" {
				return usagef("--catalog-endpoints wants the address of the catalog (braid up prints it)")
			}
			if err := cfg.fill(listen, listeners, set, "", endpoints, cmd.Flags().Changed("listen")); err != nil {
				return err
			}
			if advertise != "" && len(listeners) > 0 {
				return usagef("--advertise goes with --listen; a --listener has an advertise of its own")
			}
			if advertise != "" {
				if err := checkHostPort("--advertise", advertise); err != nil {
					return err
				}
				cfg.Listeners[0].Advertise = advertise
			}
			return runProcess(cmd.Context(), e, cfg, func(w io.Writer, r ready) error {
				_, err := fmt.Fprintf(w, "gateway is up\n  Kafka clients    %s\n  admin API        %s\n", boundAddresses(r.Nodes), r.Admin)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&endpoints, "catalog-endpoints", "", "the catalog of the fleet, URL,…")
	f.StringVar(&listen, "listen", "127.0.0.1:9093", "address for Kafka clients")
	f.StringArrayVar(&listeners, "listener", nil, "named address as of braid up, instead of --listen (repeatable)")
	completeListener(cmd)
	f.BoolVar(&cfg.Insecure, "insecure", false, "let everybody in by listeners, and to an admin API, that are not loopback and have no authentication")
	f.StringVar(&advertise, "advertise", "", "address that clients are told (default: the one it listens on)")
	f.StringVar(&cfg.Zone, "zone", "", "zone of this gateway")
	f.StringVar(&cfg.HTTP, "http", "127.0.0.1:0", "address of /metrics, /healthz, /readyz and the admin API, as of braid up")
	f.StringArrayVar(&set, "set", nil, "config KEY=VALUE by Kafka's names (repeatable)")
	completeKeys(cmd, "set", settingKeys()...)
	processFlags(cmd, &cfg)
	return cmd
}

func newController(e *env) *cobra.Command {
	var endpoints string
	var set []string
	cfg := upConfig{Controller: true, Gateways: 1}
	cmd := &cobra.Command{
		Use:     "controller --catalog-endpoints URL",
		Short:   "Run a further controller; one of them leads",
		Example: `  braid controller --catalog-endpoints http://127.0.0.1:9079`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if endpoints == "" {
				return usagef("--catalog-endpoints wants the address of the catalog (braid up prints it)")
			}
			if err := cfg.fill("127.0.0.1:0", nil, set, "", endpoints, true); err != nil {
				return err
			}
			cfg.Listeners, cfg.Gateways = nil, 0
			return runProcess(cmd.Context(), e, cfg, func(w io.Writer, r ready) error {
				_, err := fmt.Fprintf(w, "controller, admin API %s\n", r.Admin)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&endpoints, "catalog-endpoints", "", "the catalog of the fleet, URL,…")
	f.StringVar(&cfg.HTTP, "http", "127.0.0.1:0", "address of the admin API, /metrics, /healthz and /readyz, as of braid up")
	f.BoolVar(&cfg.Insecure, "insecure", false, "let everybody in to an admin API that is not loopback and has no authentication")
	f.StringArrayVar(&set, "set", nil, "config KEY=VALUE by Kafka's names (repeatable)")
	completeKeys(cmd, "set", settingKeys()...)
	processFlags(cmd, &cfg)
	return cmd
}

// clientAddresses lists where clients connect: all listeners of all gateways, by
// name where a gateway has several.
func clientAddresses(nodes []readyNode) string {
	var out []string
	for _, n := range nodes {
		for _, name := range sorted(n.Listeners) {
			text := n.Listeners[name]
			if len(n.Listeners) > 1 {
				text = name + " " + text
			}
			if b := n.Bound[name]; b != n.Listeners[name] {
				text += " (bound to " + b + ")"
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

// boundAddresses is clientAddresses with what is listened on, also where that is what clients are told.
func boundAddresses(nodes []readyNode) string {
	var out []string
	for _, n := range nodes {
		for _, name := range sorted(n.Listeners) {
			text := n.Listeners[name] + " (bound to " + n.Bound[name] + ")"
			if len(n.Listeners) > 1 {
				text = name + " " + text
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

// greet prints what to type next; typed is how this program is.
func greet(w io.Writer, cfg upConfig, r ready, typed string) error {
	local := "none: topics need a cluster that is added (braid cluster add)"
	if len(cfg.LocalClusters) > 0 {
		local = strings.Join(cfg.LocalClusters, ", ") + " (in " + cfg.DataDir + ")"
	}
	var next []string
	if r.Admin != defaultAdmin {
		next = append(next, "export BRAID_ADMIN="+r.Admin)
	}
	produce := []string{"kcat -b " + r.Kafka[0] + " -P -t packages < lines          # or any Kafka client", typed + " topic describe packages"}
	if add := typed + " cluster add east --bootstrap 127.0.0.1:19092"; len(cfg.LocalClusters) == 0 {
		next = append(append(next, add), produce...)
	} else {
		next = append(append(next, produce...), add, typed+" topic move packages --to east")
	}
	_, err := fmt.Fprintf(w, `braid %s is up after %s
  Kafka clients    %s
  admin API        %s
  catalog          %s
  local clusters   %s

next:
  %s
`, version, r.Took.Round(time.Millisecond), clientAddresses(r.Nodes), r.Admin, strings.Join(r.Catalog, ","), local, strings.Join(next, "\n  "))
	return err
}

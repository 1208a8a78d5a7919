package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/clients/kgosuite"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/summary"
)

// placement is where the topics of franz-go's suite lie.
type placement struct {
	name    string
	kafkas  int           // real clusters
	local   bool          // the engine takes topics too
	move    time.Duration // how often every topic moves to the next cluster; 0: never
	direct  bool          // no Braid at all: what the suite says of Apache Kafka
	records int           // of each chain of the ETL tests
	only    []string      // tests; none: all
}

// placements of a usual run and of a soak. BRAID_KGO names the ones to run
// instead, BRAID_KGO_RECORDS their records, BRAID_KGO_ONLY the tests.
var placements = []placement{
	{name: "local", local: true},
	{name: "kafka", kafkas: 1},
	{name: "three", kafkas: 2, local: true},
	{name: "moving", kafkas: 2, local: true, move: 2 * time.Second},
	{name: "direct", kafkas: 1, direct: true},
}

// What the usual run does while topics move: chains of groups of both protocols, and what is short.
var movingTests = []string{"TestGroupETL", "TestGroupSimple", "TestPauseIssueOct2023", "TestAddRemovePartitions"}

const movingRecords = 500

// TestFranzGoSuite runs franz-go's own tests (pkg/kgo, as the module has them)
// through Braid: on the local engine; on one real Kafka; with topics placed in
// turn on two real clusters and the engine; and so while every topic moves to
// the next cluster every two seconds. The usual run does the first with few
// records, and the last with still fewer for the tests of groups;
// `make soak` does all in full.
func TestFranzGoSuite(t *testing.T) {
	if testing.Short() {
		t.Parallel() // on Kafka clusters it loads the machine enough by itself
	}
	wanted, records, usual := []string{"local"}, 2000, false
	switch {
	case os.Getenv("BRAID_KGO") != "":
		wanted, records = strings.Split(os.Getenv("BRAID_KGO"), ","), 20_000
	case os.Getenv("BRAID_SOAK") != "":
		wanted, records = []string{"local", "kafka", "three", "moving", "direct"}, 100_000
	case !testing.Short():
		wanted, usual = []string{"local", "moving"}, true
	}
	if n, err := strconv.Atoi(os.Getenv("BRAID_KGO_RECORDS")); err == nil {
		records = n
	}
	suite := kgosuite.Build(t)
	except, err := kgosuite.ReadExceptions()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range placements {
		if !slices.Contains(wanted, p.name) {
			continue
		}
		p.records = records
		if usual && p.move > 0 {
			p.records, p.only = movingRecords, movingTests
		}
		t.Run(p.name, func(t *testing.T) { p.run(t, suite, except) })
	}
}

func (p placement) run(t *testing.T, suite *kgosuite.Suite, except kgosuite.Exceptions) {
	o := kgosuite.Options{Records: p.records, Excluded: slices.Sorted(maps.Keys(except.Excluded)), Timeout: 20 * time.Minute, Only: p.only}
	if os.Getenv("BRAID_SOAK") != "" {
		o.Timeout = 70 * time.Minute // the package's limit leaves all placements as long
	}
	if testing.Short() {
		// Under the race detector what does not take long.
		o.Only = []string{"TestGroupSimple", "TestPauseIssueOct2023", "TestIssue865", "TestConsumeRegex", "TestClient_ProduceLargeMessages",
			"TestAddRemovePartitions", "TestIssue810", "TestIssueFetchLargerThanBrokerMaxReadBytes"}
	}
	if only := os.Getenv("BRAID_KGO_ONLY"); only != "" {
		o.Only = strings.Split(only, ",")
	}
	var clusters []string
	var kafkas []*testkit.Cluster
	for range p.kafkas {
		kafkas = append(kafkas, testkit.Kafka(t))
	}
	stop := func() {}
	if p.direct {
		o.Seeds = kafkas[0].Addrs()
	} else {
		up := startUp(t, "--gateways", "2", "--local-clusters", "a", "--set", "group.initial.rebalance.delay.ms=100")
		for i, k := range kafkas {
			name := []string{"east", "west"}[i]
			up.addCluster(name, k)
			clusters = append(clusters, name)
		}
		if p.local {
			clusters = append(clusters, "a")
		} else {
			up.must("cluster", "drain", "a")
		}
		o.Seeds = up.ready.Kafka
		password := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(password, []byte("of-the-suite"), 0o600); err != nil {
			t.Fatal(err)
		}
		up.must("user", "add", "suite", "--password-file", password)
		o.Scram = "suite:of-the-suite"
		if p.move > 0 {
			stop = up.keepMoving(t, p.move, clusters)
		}
	}
	r := suite.Run(t.Context(), o)
	stop()
	summary.Line(t, "franz-go's own tests, %s, %d records a chain: %d passed, %d failed, %d skipped, %d unfinished", p.name, p.records, len(r.Passed), len(r.Failed), len(r.Skipped), len(r.Unfinished))
	for _, name := range slices.Sorted(maps.Keys(r.Seconds)) {
		if r.Seconds[name] > 5 {
			t.Logf("  %5.1f s %s", r.Seconds[name], name)
		}
	}
	if dir := os.Getenv("BRAID_TEST_LOGS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "kgo-"+p.name+".log"), []byte(r.Output), 0o600); err != nil {
			t.Error(err)
		}
	}
	if r.Err != nil || len(r.Failed)+len(r.Unfinished) > 0 || len(r.Passed) == 0 {
		t.Errorf("failed: %v, unfinished: %v: %v\n%s", r.Failed, r.Unfinished, r.Err, r.About())
	}
	for _, name := range r.Skipped {
		if except.Skipping[name] == "" && (!p.direct || except.Direct[name] == "") {
			t.Errorf("%s skips itself, which nothing explains", name)
		}
	}
}

// keepMoving moves every topic to the cluster after its own, again and again,
// until the function it returns is called.
func (r *running) keepMoving(t *testing.T, every time.Duration, clusters []string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	done, moved := 0, 0
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			topics, err := r.admin.Topics(ctx)
			if err != nil {
				continue
			}
			to := map[string][]string{}
			for i := range topics {
				if len(topics[i].Clusters) == 1 && topics[i].Moving == "" {
					at := slices.Index(clusters, topics[i].Clusters[0])
					next := clusters[(at+1)%len(clusters)]
					to[next] = append(to[next], topics[i].Name)
				}
			}
			var each sync.WaitGroup
			var mu sync.Mutex
			for target, names := range to {
				each.Go(func() {
					// A topic that a test has deleted meanwhile fails its part of the move.
					op, err := r.move(ctx, target, names...)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						done++
						moved += op.Done
					}
				})
			}
			each.Wait()
		}
	})
	return func() {
		cancel()
		wg.Wait()
		t.Logf("%d operations moved %d topics", done, moved)
		if moved == 0 {
			t.Error("nothing was moved")
		}
	}
}

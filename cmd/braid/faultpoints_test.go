package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/summary"
)

// TestFaultAtEachPointOfAMove holds moves between the engine and a real Kafka at every point of
// an extend, a topic at each, and then kills (kill -9) or stops (SIGSTOP) a process: each kind
// of process in each way, in each direction, with one gateway and with three. So every point
// meets every fault. The moves are finished afterwards, and the histories are clean.
func TestFaultAtEachPointOfAMove(t *testing.T) {
	t.Parallel()
	for _, gateways := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d gateways", gateways), func(t *testing.T) {
			t.Parallel() // mostly they wait: for leases to end, for brokers to start
			f := startFaulted(t, gateways)
			rounds := 0
			for range movesWanted(t, 1, 3) {
				for _, fault := range f.faults() {
					for _, to := range []string{"east", "a"} {
						f.round(to, fault)
						rounds++
					}
				}
			}
			records := f.end()
			summary.Line(t, "%d faults (kill -9, SIGSTOP of controller, gateway, engine and broker, both directions), each at %d points of a move, %d gateways: %d records acknowledged, 0 lost, duplicated, reordered",
				rounds, len(movePoints)+1, gateways, records)
		})
	}
}

// movePoints are those that every move comes by. controller.FaultCommitPage is one more, of
// topics whose chains fill more than one page.
var movePoints = []string{controller.FaultBegun, controller.FaultCreated, controller.FaultPrepared, controller.FaultHolding,
	controller.FaultSettled, controller.FaultSealing, controller.FaultSealed, controller.FaultStored,
	controller.FaultCommitted, controller.FaultCertified}

// faultedWide is the topic of two pages.
const faultedWide = "wide"

// faulted is a fleet whose moves are held at points.
type faulted struct {
	t           *testing.T
	dir         string // of the points
	east        *testkit.Cluster
	engine      *running // the catalog, the local clusters, a gateway
	controllers []*running
	gateways    []*running // the further ones
	topics      []string
	loads       []*load // a client per topic: in one, what waits would hold up the others
}

func startFaulted(t *testing.T, gateways int) *faulted {
	f := &faulted{t: t, dir: t.TempDir(), east: testkit.Kafka(t)}
	// Brokers are away for some seconds: that alone is no reason to leave them here.
	const patient = "braid.failure.detection.ms=60000"
	f.engine = startBraidWith(t, []string{"BRAID_FAULTS_CONTROLLED_ELSEWHERE=1"}, "up", "--data-dir", t.TempDir(), "--set", patient,
		"--listen", testkit.Addr(t), "--http", testkit.Addr(t), "--catalog-listen", testkit.Addr(t))
	for range 2 {
		f.controllers = append(f.controllers, startBraidWith(t, []string{"BRAID_FAULTS_DIR=" + f.dir},
			"controller", "--catalog-endpoints", f.engine.ready.Catalog[0], "--set", patient))
	}
	bootstrap := []string{f.engine.ready.Kafka[0]}
	for range gateways - 1 {
		g := f.engine.gateway("--set", patient)
		f.gateways = append(f.gateways, g)
		bootstrap = append(bootstrap, g.ready.Kafka[0])
	}
	f.engine.addCluster("east", f.east)
	create := func(name string, partitions int, every time.Duration) {
		f.engine.must("topic", "create", name, "--partitions", strconv.Itoa(partitions), "--cluster", "a")
		f.topics = append(f.topics, name)
		f.loads = append(f.loads, startLoad(t, bootstrap, every, int32(partitions), name))
	}
	for i := range movePoints {
		create(fmt.Sprintf("faulted-%d", i), 2, 40*time.Millisecond)
	}
	create(faultedWide, catalog.PageSize+2, 300*time.Millisecond)
	return f
}

// moveFault is something that is done to a fleet.
type moveFault struct {
	name string
	// do lets the moves go on when the fault has begun, and returns when it is over.
	// leader is the controller that the points hold.
	do func(leader *running, goOn func()) error
	// undoes: before the seal a cluster that is away ends a move, and the topic is untouched.
	undoes bool
}

func (f *faulted) faults() []moveFault {
	list := []moveFault{
		{name: "the leading controller is killed", do: func(leader *running, goOn func()) error {
			leader.kill()
			goOn()
			leader.start()
			return nil
		}},
		{name: "the leading controller is stopped until another leads", do: func(leader *running, goOn func()) error {
			was, err := f.leads()
			if err != nil {
				return err
			}
			leader.signal(syscall.SIGSTOP)
			defer leader.signal(syscall.SIGCONT)
			goOn()
			// Nobody takes over if the leadership changed hands just before.
			for end := time.Now().Add(2 * catalog.DefaultTTL); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
				if now, err := f.leads(); err == nil && now != "" && now != was {
					break
				}
			}
			return nil
		}},
		{name: "the broker is killed", undoes: true, do: func(_ *running, goOn func()) error {
			err := f.east.Node(1).Kill()
			goOn()
			return errors.Join(err, f.east.Node(1).Start(f.t.Context()))
		}},
		{name: "the broker is stopped", undoes: true, do: func(_ *running, goOn func()) error {
			err := f.east.Node(1).Pause()
			goOn()
			<-time.After(2 * time.Second)
			return errors.Join(err, f.east.Node(1).Resume())
		}},
		{name: "the process with catalog, engine and a gateway is killed", undoes: true, do: func(_ *running, goOn func()) error {
			f.engine.kill()
			goOn()
			f.engine.start()
			return nil
		}},
		{name: "the process with catalog, engine and a gateway is stopped", undoes: true, do: func(_ *running, goOn func()) error {
			f.engine.signal(syscall.SIGSTOP)
			goOn()
			<-time.After(f.stoppedFor())
			f.engine.signal(syscall.SIGCONT)
			return nil
		}},
	}
	if len(f.gateways) == 0 {
		return list
	}
	return append(list, moveFault{name: "a gateway is killed", do: func(_ *running, goOn func()) error {
		f.gateways[0].kill()
		goOn()
		f.gateways[0].start()
		return nil
	}}, moveFault{name: "a gateway is stopped for longer than its lease", do: func(_ *running, goOn func()) error {
		g := f.gateways[1]
		g.signal(syscall.SIGSTOP)
		defer g.signal(syscall.SIGCONT)
		goOn()
		eventually(f.t, patience, "the gateway's lease has ended", func() bool {
			ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
			defer cancel()
			s, err := f.engine.admin.Status(ctx)
			return err == nil && !slices.ContainsFunc(s.Gateways, func(x api.Gateway) bool {
				return slices.ContainsFunc(x.Listeners, func(l api.Listener) bool { return l.Advertise == g.ready.Kafka[0] })
			})
		})
		return nil
	}})
}

// stoppedFor is how long the engine's process is stopped: where it has the only gateway, for
// longer than a lease.
func (f *faulted) stoppedFor() time.Duration {
	if len(f.gateways) == 0 {
		return 8 * time.Second
	}
	return time.Second
}

func (f *faulted) leads() (string, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	s, err := f.engine.admin.Status(ctx)
	return s.Controller, err
}

// round moves all topics to a cluster, with a fault while one stands at each point.
func (f *faulted) round(to string, fault moveFault) {
	f.t.Helper()
	began := time.Now()
	what := fmt.Sprintf("moves to %s: %s", to, fault.name)
	for _, l := range f.loads {
		l.topics[0].goesOn(f.t, "before "+what, patience)
	}
	points := append([]string{controller.FaultCommitPage}, movePoints...)
	// First the wide topic: it would come by the other points too.
	f.arm(points[0])
	f.await(what+": both pages are not committed", to, points[:1], faultedWide)
	// Of the others each goes as far as the first point where nobody stands yet.
	f.arm(movePoints...)
	f.await(what+": all points are taken", to, movePoints, f.topics[:len(movePoints)]...)
	leader := f.leader(points)
	goOn := func() {
		for _, p := range points {
			if err := os.Remove(filepath.Join(f.dir, p)); err != nil {
				f.t.Error(err)
			}
		}
	}
	if err := fault.do(leader, goOn); err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
	var undone []string
	f.poll(what+": the moves have ended", func() bool {
		states, err := f.states()
		if err != nil {
			return false
		}
		undone = undone[:0]
		for _, s := range states {
			if s.Moving != "" {
				return false
			}
			if !slices.Equal(s.Clusters, []string{to}) {
				undone = append(undone, s.Name)
			}
		}
		return true
	})
	if len(undone) > 0 && !fault.undoes {
		f.t.Errorf("%s: moves of %q were undone", what, undone)
	}
	f.poll(what+": what was undone is moved", func() bool { return f.ask(to, f.topics...) == 0 })
	for _, p := range points {
		if err := os.Remove(filepath.Join(f.dir, p+".reached")); err != nil {
			f.t.Error(err)
		}
	}
	f.t.Logf("%s: %d undone, %s", what, len(undone), time.Since(began).Round(100*time.Millisecond))
}

func (f *faulted) arm(points ...string) {
	f.t.Helper()
	for _, p := range points {
		if err := os.WriteFile(filepath.Join(f.dir, p), nil, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

// await moves topics until somebody stands at each point. A move may be refused before it
// begins, as while a store is being opened anew: it is asked for again.
func (f *faulted) await(what, to string, points []string, topics ...string) {
	f.t.Helper()
	asked := time.Time{}
	eventually(f.t, patience, what, func() bool {
		if time.Since(asked) > time.Second {
			f.ask(to, topics...)
			asked = time.Now()
		}
		return !slices.ContainsFunc(points, func(p string) bool { return f.standsAt(p) == 0 })
	})
}

// standsAt is the pid of who is held at a point, 0 for nobody.
func (f *faulted) standsAt(point string) int {
	b, err := os.ReadFile(filepath.Join(f.dir, point+".reached"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0 // not all of it is written yet
	}
	return pid
}

// leader is the controller that is held at the points: at the last of them, should the
// leadership have changed hands meanwhile.
func (f *faulted) leader(points []string) *running {
	f.t.Helper()
	pid := f.standsAt(points[len(points)-1])
	i := slices.IndexFunc(f.controllers, func(c *running) bool { return c.ready.PID == pid })
	if i < 0 {
		f.t.Fatalf("process %d is held, which is no controller", pid)
	}
	return f.controllers[i]
}

// ask begins a move of those topics that are not there and are not being moved, and tells how
// many are not there, or on their way.
func (f *faulted) ask(to string, topics ...string) (left int) {
	states, err := f.states()
	if err != nil {
		return len(topics)
	}
	for _, s := range states {
		there := slices.Equal(s.Clusters, []string{to})
		if !slices.Contains(topics, s.Name) || there && s.Moving == "" {
			continue
		}
		left++
		if there || s.Moving != "" {
			continue
		}
		ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
		// Refused while the one before has not ended; the caller asks again.
		if _, err := f.engine.admin.Submit(ctx, api.OpRequest{Kind: "move", Topics: []string{s.Name}, To: to}); err != nil {
			f.t.Logf("move of %s to %s: %v", s.Name, to, err)
		}
		cancel()
	}
	return left
}

// states are the topics as they are now.
func (f *faulted) states() ([]api.TopicSummary, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	list, err := f.engine.admin.Topics(ctx)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(s api.TopicSummary) bool { return !slices.Contains(f.topics, s.Name) })
	if len(list) != len(f.topics) {
		return nil, fmt.Errorf("%d topics are listed, there are %d", len(list), len(f.topics))
	}
	return list, nil
}

// poll is eventually for what is costly to ask.
func (f *faulted) poll(what string, done func() bool) {
	f.t.Helper()
	asked := time.Time{}
	eventually(f.t, patience, what, func() bool {
		if time.Since(asked) < 250*time.Millisecond {
			return false
		}
		defer func() { asked = time.Now() }()
		return done()
	})
}

// end holds the histories against what the topics hold, and the certificates against both.
func (f *faulted) end() (acknowledged int64) {
	f.t.Helper()
	for _, l := range f.loads {
		x := l.topics[0]
		x.goesOn(f.t, "at the end", patience)
		f.engine.noStrays(f.t.Context(), x.name, map[string]*testkit.Cluster{"east": f.east})
		r := l.end(3 * time.Minute)[x.name]
		f.t.Logf("topic %s\n%s", x.name, r)
		if !r.OK() || !r.Complete() {
			f.engine.showChains(x.name, *r)
			f.t.Errorf("the history of topic %s is not clean", x.name)
		}
		acknowledged += r.Acknowledged
		for _, c := range f.engine.topic(x.name).Certificates {
			if c.Verdict == "violated" {
				f.t.Errorf("topic %s: certificate %+v", x.name, c)
			}
		}
	}
	if f.t.Failed() {
		f.t.FailNow() // nothing is summed up
	}
	return acknowledged
}

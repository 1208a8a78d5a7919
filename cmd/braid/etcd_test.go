package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/summary"
)

// onEtcd is a fleet whose catalog is an etcd of processes of its own: `braid up` with the local clusters and a
// gateway, and a further gateway. Idempotent producers append, and a group reads, all the while.
type onEtcd struct {
	t          *testing.T
	etcd       *testkit.Etcd
	points     string // directory of fault points
	up, second *running
	// controllers are processes of their own; one of them leads, where there are any.
	controllers []*running
	loads       []*load // a client per topic: in one, what waits would hold up the others
	group       *member
	faults      int
}

// Topics: one that moves, one that stays and is read by the group, and one that would go on elsewhere at once if its
// cluster were taken for lost.
const etcdMoved, etcdStill, etcdAvailable = "moved", "still", "available"

func startOnEtcd(t *testing.T, members, controllers int) *onEtcd {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: mostly it waits for leases")
	}
	f := &onEtcd{t: t, etcd: testkit.StartEtcd(t, members), points: t.TempDir()}
	// A busy machine takes its time to see a local cluster that is back; what is said of it before `braid up` leads counts for nothing at all.
	const patient = "braid.failure.detection.ms=20000"
	env := []string{"BRAID_FAULTS_DIR=" + f.points}
	for range controllers {
		f.controllers = append(f.controllers, startBraidWith(t, env, "controller", "--catalog-endpoints", strings.Join(f.etcd.Endpoints(), ","), "--set", patient))
	}
	if controllers > 0 {
		env = append(env, "BRAID_FAULTS_CONTROLLED_ELSEWHERE=1")
	}
	f.up = startBraidWith(t, env, "up", "--data-dir", t.TempDir(), "--listen", testkit.Addr(t),
		"--http", testkit.Addr(t), "--catalog-endpoints", strings.Join(f.etcd.Endpoints(), ","), "--set", patient)
	f.second = f.up.gateway()
	f.up.must("topic", "create", etcdMoved, "--partitions", "2", "--cluster", "a")
	f.up.must("topic", "create", etcdStill, "--partitions", "2", "--cluster", "b")
	f.up.must("topic", "create", etcdAvailable, "--partitions", "2", "--cluster", "b", "--config", "braid.guarantee=available")
	for _, name := range []string{etcdMoved, etcdStill, etcdAvailable} {
		f.loads = append(f.loads, startLoad(t, []string{f.up.ready.Kafka[0], f.second.ready.Kafka[0]}, 10*time.Millisecond, 2, name))
	}
	f.group = f.loads[1].join("readers", "one", &commitments{high: map[string]map[int32]int64{}})
	f.goesOn("at first")
	f.commits("at first")
	return f
}

// goesOn waits until every topic takes appends and is read, but those left out.
func (f *onEtcd) goesOn(what string, except ...string) {
	f.t.Helper()
	for _, l := range f.loads {
		if x := l.topics[0]; !slices.Contains(except, x.name) {
			x.goesOn(f.t, what, patience)
		}
	}
}

// commits waits until the group's coordinator takes commits.
func (f *onEtcd) commits(what string) {
	f.t.Helper()
	before := f.group.count()
	eventually(f.t, patience, "the group commits "+what, func() bool { return f.group.count() >= before+3 })
}

// whole waits until the fleet is as before: both gateways, a leading controller, all clusters in use and up.
func (f *onEtcd) whole(what string) {
	f.t.Helper()
	f.goesOn(what)
	eventually(f.t, patience, "the fleet is whole "+what, func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
		defer cancel()
		for _, r := range []*running{f.up, f.second} {
			s, err := r.admin.Status(ctx)
			if err != nil || len(s.Gateways) != 2 || s.Controller == "" || len(s.Clusters) != 2 ||
				slices.ContainsFunc(s.Clusters, func(c api.Cluster) bool { return c.State != "active" || c.Health != "up" }) {
				return false
			}
		}
		return true
	})
	f.commits(what)
}

// leasesEnd waits until leases that were not renewed meanwhile are over, and more is appended.
func (f *onEtcd) leasesEnd(what string) {
	f.t.Helper()
	f.goesOn(what)
	<-time.After(8 * time.Second)
	f.goesOn(what + " for longer than leases")
}

func (f *onEtcd) do(action func() error) {
	f.t.Helper()
	if err := action(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *onEtcd) startEtcd() {
	f.t.Helper()
	f.do(func() error { return f.etcd.Start(f.t.Context()) })
}

// move moves the topic to the local cluster where it is not. It is asked for again until a controller takes it.
func (f *onEtcd) move() {
	f.t.Helper()
	to := f.elsewhere()
	eventually(f.t, patience, "a move to "+to, func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), patience)
		defer cancel()
		op, err := f.up.move(ctx, to, etcdMoved)
		return err == nil && op.State == "done"
	})
}

// elsewhere is the local cluster that the topic is not on.
func (f *onEtcd) elsewhere() (to string) {
	f.t.Helper()
	eventually(f.t, patience, "the catalog is read", func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
		defer cancel()
		d, err := f.up.admin.Topic(ctx, etcdMoved)
		to = map[string]string{"a": "b", "b": "a"}[openCluster(d)]
		return err == nil && to != ""
	})
	return to
}

// killedInAMove kills etcd while a move stands at a point, and starts it again, for longer than leases or soon.
func (f *onEtcd) killedInAMove(point string, long bool) {
	f.t.Helper()
	what := "etcd is killed while a move is at " + point
	held := filepath.Join(f.points, point)
	f.do(func() error { return os.WriteFile(held, nil, 0o600) })
	if _, err := f.up.admin.Submit(f.t.Context(), api.OpRequest{Kind: "move", Topics: []string{etcdMoved}, To: f.elsewhere()}); err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
	eventually(f.t, patience, "the move is at "+point, func() bool { _, err := os.Stat(held + ".reached"); return err == nil })
	f.do(f.etcd.Kill)
	f.do(func() error { return os.Remove(held) })
	f.goesOn(what, etcdMoved)
	if long {
		<-time.After(8 * time.Second)
		f.goesOn(what, etcdMoved)
	}
	f.startEtcd()
	var op api.Op
	eventually(f.t, patience, "the move ends: "+what, func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
		defer cancel()
		ops, err := f.up.admin.Ops(ctx)
		if err != nil || len(ops) == 0 || slices.ContainsFunc(ops, func(o api.Op) bool { return !o.Ended() }) {
			return false
		}
		op = ops[0]
		d, err := f.up.admin.Topic(ctx, etcdMoved)
		return err == nil && d.Moving == nil
	})
	f.do(func() error { return os.Remove(held + ".reached") })
	f.whole("after " + what)
	f.faults++
	f.t.Logf("%s: the move is %s %s", what, op.State, op.Message)
}

// end judges: nothing is lost, doubled or in another order, and nothing was failed over.
func (f *onEtcd) end() {
	f.t.Helper()
	ops, err := f.up.admin.Ops(f.t.Context())
	f.do(func() error { return err })
	for _, op := range ops {
		if op.Kind != "move" {
			f.t.Errorf("%s %s was decided: %s", op.Kind, op.ID, op.Message)
		}
	}
	f.group.leave()
	var records int64
	for _, l := range f.loads {
		for name, r := range l.end(patience) {
			f.t.Logf("topic %s\n%s", name, r)
			if !r.OK() || !r.Complete() {
				f.up.showChains(name, *r)
				f.t.Errorf("the history of topic %s is not clean", name)
			}
			records += r.Acknowledged
		}
	}
	if !f.t.Failed() {
		summary.Line(f.t, "%d faults (kill -9, SIGSTOP) of an external etcd, and of what runs on it, also while a topic moves: %d records acknowledged, 0 lost, duplicated, reordered, no failover", f.faults, records)
	}
}

// TestCatalogOnEtcdGoesAway: the fleet's etcd is killed, also in the middle of a move, is stopped for longer
// than leases, and outlives the process that has the local clusters. Appends and reads go on, the move ends,
// nobody takes a cluster for lost, and all is as it was when etcd is back.
func TestCatalogOnEtcdGoesAway(t *testing.T) {
	t.Parallel()
	f := startOnEtcd(t, 1, 0)
	f.killedInAMove(controller.FaultSealed, false)
	f.killsUp()
	f.do(f.etcd.Pause)
	f.leasesEnd("while etcd is stopped")
	f.do(f.etcd.Resume)
	f.faults++
	f.whole("when etcd goes on")
	f.move()
	f.end()
}

// leaderKilledInAMove kills the leading controller, a process of its own, while a move stands at a point. The other one ends it.
func (f *onEtcd) leaderKilledInAMove(point string) {
	f.t.Helper()
	held := filepath.Join(f.points, point)
	f.do(func() error { return os.WriteFile(held, nil, 0o600) })
	to := f.elsewhere()
	op, err := f.up.admin.Submit(f.t.Context(), api.OpRequest{Kind: "move", Topics: []string{etcdMoved}, To: to})
	f.do(func() error { return err })
	pid := 0
	eventually(f.t, patience, "the move is at "+point, func() bool {
		b, err := os.ReadFile(held + ".reached")
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err == nil
	})
	i := slices.IndexFunc(f.controllers, func(c *running) bool { return c.ready.PID == pid })
	if i < 0 {
		f.t.Fatalf("process %d leads, which is no controller of its own", pid)
	}
	f.controllers[i].kill()
	f.do(func() error { return os.Remove(held) })
	f.goesOn("while no controller leads", etcdMoved)
	eventually(f.t, patience, "the other controller ends the move", func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
		defer cancel()
		now, err := f.up.admin.Op(ctx, op.ID, 0)
		if err == nil && now.Ended() && now.State != "done" {
			f.t.Fatalf("the move is %s: %s", now.State, now.Message)
		}
		return err == nil && now.Ended()
	})
	if f.elsewhere() == to {
		f.t.Errorf("the topic is not on %s", to)
	}
	f.do(func() error { return os.Remove(held + ".reached") })
	f.controllers[i].start()
	f.faults++
	f.whole("after the leading controller was killed at " + point)
}

// TestControllersOnEtcd: the catalog is an etcd of its own, the controllers are two processes that have nothing else. The one that
// leads is killed in the middle of a move, the other ends it; then it is its turn.
func TestControllersOnEtcd(t *testing.T) {
	t.Parallel()
	f := startOnEtcd(t, 1, 2)
	f.leaderKilledInAMove(controller.FaultSealed)
	f.leaderKilledInAMove(controller.FaultPrepared)
	f.end()
}

// killsUp kills the process with the local clusters and the only controller, and starts it again when its leases end.
func (f *onEtcd) killsUp() {
	f.t.Helper()
	f.up.kill()
	<-time.After(6 * time.Second)
	f.up.start()
	f.faults++
	f.whole("when up is back")
}

// TestCatalogOnEtcdGoesAwayAtEachPoint is the long variant: etcd is away for longer than leases at every point of a move, of
// three members the leader is killed, and all of it is killed together with `braid up`.
func TestCatalogOnEtcdGoesAwayAtEachPoint(t *testing.T) {
	if os.Getenv("BRAID_SOAK") == "" {
		t.Skip("a soak: minutes of waiting for leases")
	}
	t.Parallel()
	t.Run("one member", func(t *testing.T) {
		t.Parallel()
		f := startOnEtcd(t, 1, 0)
		for _, point := range movePoints {
			f.killedInAMove(point, false)
			f.killedInAMove(point, true)
		}
		f.do(f.etcd.Kill)
		f.leasesEnd("without etcd")
		f.up.kill()
		f.startEtcd()
		f.up.start()
		f.faults += 2
		f.whole("after etcd and up were killed")
		f.do(f.etcd.Pause)
		f.leasesEnd("while etcd is stopped")
		<-time.After(6 * time.Second)
		f.do(f.etcd.Resume)
		f.whole("when etcd goes on")
		f.move()
		f.end()
	})
	t.Run("the leader of three members", func(t *testing.T) {
		t.Parallel()
		f := startOnEtcd(t, 3, 0)
		for i := range 6 {
			leader, err := f.etcd.Leader(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			away, back := leader.Kill, func() error { return f.etcd.Start(t.Context()) }
			if i%2 == 1 {
				away, back = leader.Pause, leader.Resume
			}
			f.do(away)
			f.goesOn("without etcd's leader")
			f.move()
			f.do(back)
			f.faults++
			f.whole("when the member is back")
		}
		f.end()
	})
}

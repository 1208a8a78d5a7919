package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// etcdPackage is etcd's own command, of the module version that go.mod pins.
const etcdPackage = "go.etcd.io/etcd/server/v3"

// Etcd is an etcd cluster of processes of its own, as a fleet beyond one machine has it. Its
// members keep their ports and data over restarts. Methods may be called from any goroutine.
type Etcd struct {
	members []*EtcdMember
	cli     *clientv3.Client
}

// EtcdMember is one server of it.
type EtcdMember struct {
	name         string
	dir          string
	client, peer *port
	args         []string

	mu   sync.Mutex // held over whole actions, as a Node's
	proc *Process
}

// StartEtcd starts a cluster of one or three members, which ends with the test, and returns when it answers.
func StartEtcd(t testing.TB, members int) *Etcd {
	t.Helper()
	bin, err := etcdBinary()
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	e, dir := &Etcd{}, t.TempDir()
	t.Cleanup(func() { e.close(t) }) // before the directory goes
	var all []string
	for i := range members {
		m := &EtcdMember{name: "m" + strconv.Itoa(i+1)}
		m.dir = filepath.Join(dir, m.name)
		e.members = append(e.members, m)
		if m.client, err = reservePort(); err == nil {
			m.peer, err = reservePort()
		}
		if err != nil {
			t.Fatalf("testkit: %v", err)
		}
		all = append(all, m.name+"=http://"+m.peer.addr())
	}
	for _, m := range e.members {
		m.args = []string{
			bin, "--name", m.name, "--data-dir", filepath.Join(m.dir, "data"), "--log-level", "warn",
			"--listen-client-urls", m.URL(), "--advertise-client-urls", m.URL(),
			"--listen-peer-urls", "http://" + m.peer.addr(), "--initial-advertise-peer-urls", "http://" + m.peer.addr(),
			"--initial-cluster", strings.Join(all, ","), "--initial-cluster-state", "new",
			// What was written outlives the process, and no test cuts a machine's power.
			"--unsafe-no-fsync",
		}
		if members > 1 {
			// A machine that stands still for a second must not change the leader.
			m.args = append(m.args, "--heartbeat-interval", "200", "--election-timeout", "2000")
		}
	}
	if e.cli, err = clientv3.New(clientv3.Config{Endpoints: e.Endpoints(), Logger: zap.NewNop()}); err != nil {
		t.Fatalf("testkit: client of etcd: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := e.Start(ctx); err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return e
}

// etcdBinary makes the server once per test binary; between them Go's own build ID tells that nothing is to be done.
var etcdBinary = sync.OnceValues(func() (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "etcd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build etcd: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return "", fmt.Errorf("build etcd: %w", err)
	}
	defer lock.Close() // nothing was written; closing ends the lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("build etcd: %w", err)
	}
	bin := filepath.Join(dir, "etcd")
	if out, err := exec.Command("go", "build", "-o", bin, etcdPackage).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build etcd: %w: %s", err, out)
	}
	return bin, nil
})

// Endpoints are the URLs of all members, as --catalog-endpoints takes them.
func (e *Etcd) Endpoints() []string {
	var out []string
	for _, m := range e.members {
		out = append(out, m.URL())
	}
	return out
}

// Members lists the servers.
func (e *Etcd) Members() []*EtcdMember { return slices.Clone(e.members) }

// Leader is the member that leads, as one that answers says.
func (e *Etcd) Leader(ctx context.Context) (*EtcdMember, error) {
	var errs []error
	for _, asked := range e.members {
		s, err := e.status(ctx, asked)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, m := range e.members {
			if other, err := e.status(ctx, m); err == nil && other.Header.MemberId == s.Leader {
				return m, nil
			}
		}
	}
	return nil, errors.Join(append(errs, errors.New("no member of etcd leads"))...)
}

func (e *Etcd) status(ctx context.Context, m *EtcdMember) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return e.cli.Status(ctx, m.URL())
}

// Kill ends all members at once (SIGKILL).
func (e *Etcd) Kill() error { return e.each((*EtcdMember).Kill) }

// Pause stops all members (SIGSTOP): connections stay up, nothing answers.
func (e *Etcd) Pause() error { return e.each((*EtcdMember).Pause) }

// Resume ends Pause.
func (e *Etcd) Resume() error { return e.each((*EtcdMember).Resume) }

// Start starts the members that do not run, on the same ports and data, and returns when they answer.
func (e *Etcd) Start(ctx context.Context) error {
	if err := e.each((*EtcdMember).launch); err != nil {
		return err
	}
	return e.each(func(m *EtcdMember) error { return e.await(ctx, m) })
}

// await waits until a member has heard of a leader and answers with the state as of now.
func (e *Etcd) await(ctx context.Context, m *EtcdMember) error {
	err := poll(ctx, func() error {
		s, err := e.status(ctx, m)
		if err == nil && s.Leader == 0 {
			err = errors.New("no leader yet")
		}
		if err != nil && !m.running() {
			err = fmt.Errorf("%w (the process has ended)", err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("etcd %s does not serve: %w: %s", m.name, err, m.logTail())
	}
	return nil
}

func (e *Etcd) each(f func(*EtcdMember) error) error {
	var errs []error
	for _, m := range e.members {
		errs = append(errs, f(m))
	}
	return errors.Join(errs...)
}

func (e *Etcd) close(t testing.TB) {
	if err := e.Kill(); err != nil {
		t.Errorf("testkit: %v", err)
	}
	if e.cli != nil {
		if err := e.cli.Close(); err != nil {
			t.Errorf("testkit: client of etcd: %v", err)
		}
	}
	for _, m := range e.members {
		if t.Failed() {
			t.Logf("etcd %s: %s", m.name, m.logTail())
		}
		for _, p := range []*port{m.client, m.peer} {
			if p != nil {
				p.release()
			}
		}
	}
}

// Name is the member's, from m1 on.
func (m *EtcdMember) Name() string { return m.name }

// URL is where clients reach the member. It never changes.
func (m *EtcdMember) URL() string { return "http://" + m.client.addr() }

// LogFile is where its output goes, all its starts one after the other.
func (m *EtcdMember) LogFile() string { return filepath.Join(m.dir, "etcd.log") }

func (m *EtcdMember) logTail() string { return fileTail(m.LogFile()) }

func (m *EtcdMember) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.alive()
}

// alive needs m.mu.
func (m *EtcdMember) alive() bool {
	if m.proc == nil {
		return false
	}
	select {
	case <-m.proc.Exited():
		return false
	default:
		return true
	}
}

// launch starts the process, unless it runs.
func (m *EtcdMember) launch() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.alive() {
		return nil
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return fmt.Errorf("etcd %s: %w", m.name, err)
	}
	out, err := os.OpenFile(m.LogFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("etcd %s: %w", m.name, err)
	}
	defer out.Close() // the child has its own descriptor
	cmd := exec.Command(m.args[0], m.args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, m.dir
	m.proc, err = StartProcess(cmd)
	return err
}

// Kill ends the member at once (SIGKILL) and waits until the process is gone.
func (m *EtcdMember) Kill() error { return m.act((*Process).Kill) }

// Stop ends the member in order (SIGTERM) and waits.
func (m *EtcdMember) Stop() error {
	return m.act(func(p *Process) error { return p.Terminate(stopGrace) })
}

// Pause stops the process (SIGSTOP); the kernel goes on to accept connections for it.
func (m *EtcdMember) Pause() error {
	return m.act(func(p *Process) error { return p.Signal(syscall.SIGSTOP) })
}

// Resume ends Pause.
func (m *EtcdMember) Resume() error {
	return m.act(func(p *Process) error { return p.Signal(syscall.SIGCONT) })
}

func (m *EtcdMember) act(f func(*Process) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.alive() {
		return nil
	}
	if err := f(m.proc); err != nil {
		return fmt.Errorf("etcd %s: %w", m.name, err)
	}
	return nil
}

package testkit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Ports are taken from below the kernel's ephemeral range (32768 and up): a port that a stopped
// node will need again must not become the local end of somebody's outgoing connection meanwhile.
const (
	firstPort = 20000
	lastPort  = 31999
)

// A port is a reserved TCP port of the loopback address. The reservation is a locked file, so it
// holds against other test binaries too, and the kernel ends it when the process dies.
type port struct {
	number int
	lock   *os.File
}

func (p *port) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number)) }

func (p *port) release() {
	// Closing ends the lock. The file stays: removing it would let two processes lock two files of one name.
	_ = p.lock.Close()
}

// Addr is a loopback address whose port is the test's own until it ends: for what is
// stopped and started again at the same address.
func Addr(t testing.TB) string {
	t.Helper()
	p, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.release)
	return p.addr()
}

// reservePort finds a port that nobody listens on and nobody of ours has reserved.
func reservePort() (*port, error) {
	dir := filepath.Join(os.TempDir(), "braid-test-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	for range 200 {
		n := firstPort + rand.IntN(lastPort-firstPort+1)
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(n)), os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			return nil, fmt.Errorf("reserve a port: %w", err)
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			_ = f.Close()
			continue
		}
		p := &port{number: n, lock: f}
		l, err := net.Listen("tcp", p.addr())
		if err != nil {
			p.release()
			continue
		}
		if err := l.Close(); err != nil {
			p.release()
			continue
		}
		return p, nil
	}
	return nil, errors.New("reserve a port: none free in 200 tries")
}

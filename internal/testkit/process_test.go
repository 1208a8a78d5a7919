package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/braidstream/braid/internal/testkit/leaks"
)

// orphanEnv makes this test binary a parent that starts a child, says its number, and waits.
const orphanEnv = "BRAID_TESTKIT_ORPHAN"

func TestNoChildOutlivesItsParent(t *testing.T) {
	if os.Getenv(orphanEnv) != "" {
		p, err := StartProcess(exec.Command("sleep", "600"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid=%d\n", p.Pid())
		<-p.Exited()
		return
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestNoChildOutlivesItsParent$")
	parent.Env = append(os.Environ(), orphanEnv+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if s, ok := strings.CutPrefix(lines.Text(), "pid="); ok {
			if pid, err = strconv.Atoi(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if pid == 0 {
		t.Fatal("the parent named no child")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := poll(ctx, func() error { return gone(pid) }); err != nil {
		t.Fatal(err)
	}
}

// gone says whether a process has ended; one that nobody has waited for yet has.
func gone(pid int) error {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ") {
		return nil
	}
	return fmt.Errorf("process %d is alive", pid)
}

func TestProcessEnds(t *testing.T) {
	defer leaks.None(t, goleak.IgnoreCurrent())
	start := func(script string) *Process {
		t.Helper()
		p, err := StartProcess(exec.Command("sh", "-c", script))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := start("exit 3")
	<-p.Exited()
	var status *exec.ExitError
	if !errors.As(p.Err(), &status) || status.ExitCode() != 3 {
		t.Fatalf("ended with %v", p.Err())
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("a signal to the dead: %v", err)
	}
	if err := start("sleep 600").Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	deaf := exec.Command("sh", "-c", `trap "" TERM; echo ready; exec sleep 600`)
	out, err := deaf.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p, err = StartProcessPiped(deaf); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q %v", line, err)
	}
	go p.Wait()
	if err := p.Terminate(50 * time.Millisecond); err == nil {
		t.Fatal("a process that ignores SIGTERM ended by it")
	}
	if _, err := StartProcess(exec.Command("/nowhere/nothing")); err == nil {
		t.Fatal("started nothing")
	}
}

package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Linux sends the parent-death signal when the thread that forked ends, not when the process does.
// So one goroutine, locked to its thread, forks every child, and lives as long as any child does.
var forks struct {
	sync.Mutex
	live int
	jobs chan forkJob
}

type forkJob struct {
	cmd  *exec.Cmd
	done chan error
}

func fork(cmd *exec.Cmd) error {
	forks.Lock()
	if forks.live == 0 {
		jobs := make(chan forkJob)
		forks.jobs = jobs
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for j := range jobs {
				j.done <- j.cmd.Start()
			}
		}()
	}
	forks.live++
	jobs := forks.jobs
	forks.Unlock()

	j := forkJob{cmd: cmd, done: make(chan error, 1)}
	jobs <- j
	err := <-j.done
	if err != nil {
		forked()
	}
	return err
}

// forked says that one child has ended (or never began).
func forked() {
	forks.Lock()
	defer forks.Unlock()
	forks.live--
	if forks.live == 0 {
		close(forks.jobs)
	}
}

// A Process is a child that does not outlive the test binary, whichever way that ends.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of Wait; read after exited is closed
}

// StartProcess starts cmd. Its output goes where the caller set it to, and belongs to the caller.
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	p, err := startProcess(cmd)
	if err != nil {
		return nil, err
	}
	go p.Wait()
	return p, nil
}

func startProcess(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := fork(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return &Process{cmd: cmd, exited: make(chan struct{})}, nil
}

// StartProcessPiped starts a command whose output the caller reads from a pipe of the command's.
// Waiting for the process closes that pipe, so it is the caller who waits, by calling Wait once
// everything is read; until then the process does not count as exited.
func StartProcessPiped(cmd *exec.Cmd) (*Process, error) { return startProcess(cmd) }

// Wait waits for the end of a process that StartProcessPiped started. It is called once.
func (p *Process) Wait() {
	p.err = p.cmd.Wait()
	forked()
	close(p.exited)
}

// Pid is the operating system's number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Exited is closed once the process has ended and its output is written.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err is what the process ended with; nil while it runs and after exit status 0.
func (p *Process) Err() error {
	select {
	case <-p.exited:
		return p.err
	default:
		return nil
	}
}

// Signal sends a signal; to a process that has ended it does nothing.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %d: %w", p.Pid(), err)
	}
	return nil
}

// Kill sends SIGKILL and waits for the end. It works on a stopped process too.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.exited
	return nil
}

// errKilled is what Terminate reports of a process that it had to kill.
var errKilled = errors.New("killed, since it did not end after SIGTERM")

// Terminate sends SIGTERM and waits; after the grace period it kills, and reports that.
func (p *Process) Terminate(grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
	}
	if err := p.Kill(); err != nil {
		return err
	}
	return fmt.Errorf("process %d: %w within %s", p.Pid(), errKilled, grace)
}

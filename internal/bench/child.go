package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/braidstream/braid/internal/testkit"
)

// child is a process of the run: a forwarder, a gateway, a load generator. None outlives the run,
// whichever way that ends (see testkit.StartProcess).
type child struct {
	name string
	proc *testkit.Process
	in   io.WriteCloser
	out  *bufio.Reader
	log  string
}

// start runs a command with its errors in a file of the run's directory. With piped, the caller talks
// to it over its standard input and output.
func (e *env) start(name string, piped bool, path string, args ...string) (*child, error) {
	c := &child{name: name, log: filepath.Join(e.dir, name+".log")}
	f, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the child has its own descriptor
	cmd := exec.Command(path, args...)
	cmd.Stderr, cmd.Dir = f, e.dir
	cmd.Env = append(os.Environ(), e.extraEnv...)
	if !piped {
		cmd.Stdout = f
		c.proc, err = testkit.StartProcess(cmd)
		return c, err
	}
	if c.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReaderSize(out, 1<<20)
	c.proc, err = testkit.StartProcessPiped(cmd)
	return c, err
}

// self runs this program in another of its roles.
func (e *env) self(name string, args ...string) (*child, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return e.start(name, true, path, args...)
}

// end ends a child. One that was piped is reaped here.
func (c *child) end() {
	if c.in != nil {
		_ = c.in.Close()                  // it may have closed its side already
		_ = c.proc.Signal(os.Kill)        // gone already, or gone now
		_, _ = io.Copy(io.Discard, c.out) // what it still said
		select {
		case <-c.proc.Exited():
		default:
			c.proc.Wait()
		}
		return
	}
	// A child that does not go in time is killed, which its next start would survive as well.
	_ = c.proc.Terminate(25 * time.Second)
}

// tail is the end of what it logged, for an error.
func (c *child) tail() string {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// line reads one line of a piped child's output.
func (c *child) line(ctx context.Context) (string, error) {
	type read struct {
		s   string
		err error
	}
	got := make(chan read, 1)
	go func() {
		s, err := c.out.ReadString('\n')
		got <- read{strings.TrimSpace(s), err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			return "", fmt.Errorf("%s ended early: %w: %s", c.name, r.err, c.tail())
		}
		return r.s, nil
	case <-ctx.Done():
		// The reader ends with the child, which the caller ends.
		return "", fmt.Errorf("%s says nothing: %w: %s", c.name, ctx.Err(), c.tail())
	}
}

// say writes one line to a piped child.
func (c *child) say(s string) error {
	_, err := io.WriteString(c.in, s+"\n")
	return err
}

// load is a load generator under way.
type load struct {
	*child
	plan loadPlan
}

// startLoad starts a generator and waits until all its connections had an answer.
func (e *env) startLoad(ctx context.Context, plan loadPlan) (*load, error) {
	c, err := e.self("load", "load")
	if err != nil {
		return nil, err
	}
	l := &load{c, plan}
	if err := l.begin(ctx, plan); err != nil {
		l.end()
		return nil, err
	}
	return l, nil
}

func (l *load) begin(ctx context.Context, plan loadPlan) error {
	b, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	if err := l.say(string(b)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	_, err = l.line(ctx)
	return err
}

// stop ends the generator and returns what it saw.
func (l *load) stop(ctx context.Context) (loadResult, error) {
	defer l.end()
	var r loadResult
	if err := l.say("stop"); err != nil {
		return r, fmt.Errorf("stop %s: %w: %s", l.name, err, l.tail())
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := l.line(ctx)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(s), &r); err != nil {
		return r, err
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	if r.Records == 0 && !l.plan.MayStarve {
		return r, errors.New("no record in the whole run")
	}
	return r, nil
}

// quantile is a percentile of an answer's time, in milliseconds.
func (r *loadResult) quantile(q float64) float64 {
	if len(r.Micros) == 0 {
		return 0
	}
	return float64(r.Micros[min(int(q*float64(len(r.Micros))), len(r.Micros)-1)]) / 1000
}

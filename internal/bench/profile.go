package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profileVariable names the address at which a profiled build of braid answers.
const profileVariable = "BRAID_BENCH_PPROF"

// profiled is added to the command's package in such a build only; what ships has no such door.
const profiled = `package main

import (
	"net/http"
	_ "net/http/pprof"
	"os"
)

func init() {
	if addr := os.Getenv("` + profileVariable + `"); addr != "" {
		go func() { _ = http.ListenAndServe(addr, nil) }()
	}
}
`

// overlay writes what "go build -overlay" reads.
func (e *env) overlay(module string) (string, error) {
	source := filepath.Join(e.dir, "profiled.go")
	if err := os.WriteFile(source, []byte(profiled), 0o644); err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(module, "cmd", "braid", "profiled.go"): source}})
	if err != nil {
		return "", err
	}
	file := filepath.Join(e.dir, "overlay.json")
	return file, os.WriteFile(file, b, 0o644)
}

// freeAddr is an address that nobody listens on just now.
func (e *env) freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer l.Close()
	return l.Addr().String()
}

// profile takes a CPU profile of a fleet's gateway over the coming d, and a heap profile after it, if
// profiles are wanted. The returned function waits for them.
func (e *env) profile(ctx context.Context, f *fleet, name string, d time.Duration) func() {
	if e.opts.profile == "" || f == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, of := range []struct{ kind, path string }{
			{"cpu", fmt.Sprintf("profile?seconds=%d", max(1, int(d.Seconds())))},
			{"heap", "heap"},
		} {
			file := filepath.Join(e.opts.profile, fmt.Sprintf("%s-%s.pb.gz", name, of.kind))
			if err := download(ctx, "http://"+f.pprof+"/debug/pprof/"+of.path, file); err != nil {
				e.log.Warn("profile", "name", name, "err", err)
			}
		}
	}()
	return func() { <-done }
}

func download(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

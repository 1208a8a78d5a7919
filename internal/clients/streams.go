package clients

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braidstream/braid/internal/testkit"
)

// Streams is a running application of Kafka Streams that counts words exactly once
// (exactly_once_v2): lines of one topic, over a repartition topic and a store with a
// changelog, to another topic, each new count on its own.
type Streams struct {
	cmd    *exec.Cmd
	in     io.Closer
	out    bytes.Buffer
	exited chan struct{}
}

// StartStreams starts the application, with its state in a directory. It ends with
// the test, which fails if it does not end well.
func StartStreams(tb testing.TB, bootstrap []string, id, in, out, dir string) *Streams {
	tb.Helper()
	src, err := source()
	if err != nil {
		tb.Fatal(err)
	}
	cp, err := appsClassPath()
	if err != nil {
		tb.Fatal(err)
	}
	s := &Streams{exited: make(chan struct{})}
	s.cmd = exec.CommandContext(context.WithoutCancel(tb.Context()), "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", cp, filepath.Join(src, "apps", "Streams.java"),
		"--bootstrap", strings.Join(bootstrap, ","), "--id", id, "--in", in, "--out", out, "--dir", dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	var ended error
	go func() {
		defer close(s.exited)
		ended = s.cmd.Wait()
	}()
	tb.Cleanup(func() {
		_ = s.in.Close() // which it ends by; it may have ended before
		<-s.exited
		if ended != nil || tb.Failed() {
			tb.Errorf("Kafka Streams: %v\n%s", ended, lastOf(s.out.Bytes()))
		}
	})
	return s
}

// Exited is closed when the application has ended.
func (s *Streams) Exited() <-chan struct{} { return s.exited }

func lastOf(b []byte) []byte { return b[max(0, len(b)-16<<10):] }

// appsClassPath is what applications of Apache Kafka's other libraries run with.
func appsClassPath() (string, error) {
	cp, err := testkit.JavaClassPath(testkit.Kafka43)
	if err != nil {
		return "", err
	}
	cache, err := testkit.CacheDir()
	if err != nil {
		return "", err
	}
	libs := filepath.Join(cache, "kafka-streams-"+testkit.Kafka43, "libs")
	if _, err := os.Stat(libs); err != nil {
		return "", fmt.Errorf("clients: Kafka Streams: %w", testkit.ErrNotInstalled)
	}
	return cp + ":" + filepath.Join(libs, "*"), nil
}

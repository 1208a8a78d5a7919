// Package tools runs the command line tools of Apache Kafka, unmodified, as the
// kafka-*.sh scripts do; many in one JVM.
package tools

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/braidstream/braid/internal/testkit"
)

// Tools is a running JVM. It is for one goroutine.
type Tools struct {
	tb  testing.TB
	in  io.WriteCloser
	out *bufio.Reader
}

// Classes of the tools by the name of their script.
var Classes = map[string]string{
	"kafka-acls":                "org.apache.kafka.tools.AclCommand",
	"kafka-broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
	"kafka-client-metrics":      "org.apache.kafka.tools.ClientMetricsCommand",
	"kafka-cluster":             "org.apache.kafka.tools.ClusterTool",
	"kafka-configs":             "kafka.admin.ConfigCommand",
	"kafka-consumer-groups":     "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"kafka-consumer-perf-test":  "org.apache.kafka.tools.ConsumerPerformance",
	"kafka-delegation-tokens":   "org.apache.kafka.tools.DelegationTokenCommand",
	"kafka-delete-records":      "org.apache.kafka.tools.DeleteRecordsCommand",
	"kafka-features":            "org.apache.kafka.tools.FeatureCommand",
	"kafka-get-offsets":         "org.apache.kafka.tools.GetOffsetShell",
	"kafka-groups":              "org.apache.kafka.tools.GroupsCommand",
	"kafka-leader-election":     "org.apache.kafka.tools.LeaderElectionCommand",
	"kafka-log-dirs":            "org.apache.kafka.tools.LogDirsCommand",
	"kafka-metadata-quorum":     "org.apache.kafka.tools.MetadataQuorumCommand",
	"kafka-producer-perf-test":  "org.apache.kafka.tools.ProducerPerformance",
	"kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
	"kafka-transactions":        "org.apache.kafka.tools.TransactionsCommand",
	"kafka-topics":              "org.apache.kafka.tools.TopicCommand",
}

// Start starts the JVM, with further options if given; it ends with the test.
func Start(tb testing.TB, options ...string) *Tools {
	tb.Helper()
	_, here, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(here) {
		// -trimpath took the directory away: tests run in that of their package.
		dir, err := exec.CommandContext(tb.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/braidstream/braid/internal/clients/tools").Output()
		if err != nil {
			tb.Fatalf("find the tools' source: %v", err)
		}
		here = filepath.Join(strings.TrimSpace(string(dir)), "tools.go")
	}
	cmd, err := testkit.Java(testkit.Kafka43, filepath.Join(filepath.Dir(here), "Tools.java"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(options) > 0 {
		cmd.Env = append(cmd.Environ(), "JAVA_TOOL_OPTIONS="+strings.Join(options, " "))
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	t := &Tools{tb: tb, in: in, out: bufio.NewReaderSize(out, 1<<20)}
	tb.Cleanup(func() {
		if err := in.Close(); err != nil {
			tb.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			tb.Errorf("tools: %v\n%s", err, &errs)
		}
	})
	return t
}

// Run runs one tool and returns what it printed, logs included, and its exit code.
func (t *Tools) Run(script string, args ...string) (output string, code int) {
	t.tb.Helper()
	class := Classes[script]
	if class == "" {
		t.tb.Fatalf("no tool %s", script)
	}
	for _, a := range args {
		if strings.ContainsAny(a, "\t\n") {
			t.tb.Fatalf("argument %q", a)
		}
	}
	if _, err := fmt.Fprintln(t.in, strings.Join(append([]string{class}, args...), "\t")); err != nil {
		t.tb.Fatal(err)
	}
	line, err := t.out.ReadString('\n')
	if err != nil {
		t.tb.Fatalf("%s: %v", script, err)
	}
	first, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	code, err = strconv.Atoi(first)
	if err != nil {
		t.tb.Fatalf("%s: %q", script, line)
	}
	b, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		t.tb.Fatal(err)
	}
	return string(b), code
}

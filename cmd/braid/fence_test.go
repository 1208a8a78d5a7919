package main

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/braidstream/braid/internal/testkit"
)

// TestMovesOffAClusterThatGrantsNoSeal: without ALTER_CONFIGS a topic leaves a real Kafka by
// the fence: the gateways stop by acknowledgement, and one that is stopped is waited out by
// its lease. The weaker way is named wherever the operator looks.
func TestMovesOffAClusterThatGrantsNoSeal(t *testing.T) {
	strict := testkit.Kafka(t, testkit.PlainUsers(map[string]string{"admin": "a", "braid": "b"}))
	t.Setenv("BRAID_TEST_STRICT", "b")
	admin := kadm.NewClient(strict.Client(t, kgo.SASL(plain.Auth{User: "admin", Pass: "a"}.AsMechanism())))
	testkit.Grant(t, admin, kadm.NewACLs().Allow("User:braid").AllowHosts("*").
		Topics("braid.").ResourcePatternType(kadm.ACLPatternPrefixed).
		Operations(kmsg.ACLOperationCreate, kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe,
			kmsg.ACLOperationDescribeConfigs, kmsg.ACLOperationDelete))

	up := startUp(t)
	up.must("cluster", "add", "strict", "--bootstrap", strict.Bootstrap(), "--config", "security.protocol=SASL_PLAINTEXT",
		"--config", "sasl.mechanism=PLAIN", "--config", "sasl.username=braid", "--config", "sasl.password=env:BRAID_TEST_STRICT")
	second := startBraid(t, "gateway", "--catalog-endpoints", strings.Join(up.ready.Catalog, ","), "--listen", "127.0.0.1:0")
	up.must("topic", "create", "fenced", "--partitions", "3", "--cluster", "strict")
	if c := up.cluster("strict"); c.Seal != "fence" {
		t.Errorf("cluster describe says %q of a cluster that grants no ALTER_CONFIGS", c.Seal)
	}
	if s := up.must("status"); !strings.Contains(s, "grants no ALTER_CONFIGS") {
		t.Errorf("the status does not warn:\n%s", s)
	}
	load := startLoad(t, []string{up.ready.Kafka[0], second.ready.Kafka[0]}, 5*time.Millisecond, 3, "fenced")
	x := load.topic("fenced")
	targets := []string{"a", "strict", "b"}
	for _, to := range targets[:movesWanted(t, 1, len(targets))] {
		x.goesOn(t, "before the move to "+to, patience)
		off := to != "strict"
		if off {
			// Off the strict cluster while a gateway does not answer, for longer than its lease of 6 s.
			second.signal(syscall.SIGSTOP)
			time.AfterFunc(9*time.Second, func() { second.signal(syscall.SIGCONT) })
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		op, err := up.move(ctx, to, "fenced")
		cancel()
		if err != nil || op.State != "done" {
			t.Fatalf("move to %s: %v: %s %s", to, err, op.State, op.Message)
		}
		x.goesOn(t, "after the move to "+to, patience)
		if mode := op.Certificates[0].Mode; off && mode != "fence" {
			t.Errorf("the certificate of the move to %s says %q", to, mode)
		}
	}
	r := load.end(2 * time.Minute)["fenced"]
	t.Logf("\n%s", r)
	if !r.OK() || !r.Complete() {
		t.Error("the history is not clean")
	}
}

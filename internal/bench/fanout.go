package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/braidstream/braid/internal/testkit"
)

const (
	// tailRate is what is appended while groups tail, records per second: 20 MiB/s.
	tailRate = 20 * mib / recordBytes
	// heldRate is the same where the broker's egress is held: 60 MiB/s, so that ten groups ask for six
	// times what the quota grants.
	heldRate = 60 * mib / recordBytes
	// quota holds the broker's egress, bytes per second.
	quota = 100 * mib
)

// fanoutScenario has one and ten groups tail a topic. Another gateway takes the appends, so that the
// one which serves the groups has to fetch what they read, and its CPU time is that of serving alone.
func fanoutScenario(ctx context.Context, e *env) ([]figure, error) {
	peers, err := e.peers(ctx)
	if err != nil {
		return nil, err
	}
	front, back := peers[2], peers[0]
	writer, err := e.secondGateway(ctx)
	if err != nil {
		return nil, err
	}
	var out []figure
	share := map[int]float64{}
	var serve, rate []float64
	for _, groups := range []int{1, 10} {
		for r := range max(1, e.opts.rounds/2) {
			t, egress, err := e.tailing(ctx, front, writer, groups, tailRate, fmt.Sprintf("tail-%d-%d", groups, r))
			if err != nil {
				return out, err
			}
			share[groups] = max(share[groups], egress)
			if groups == 10 {
				serve = append(serve, t.cpu["proxy"]/(float64(t.load[0].Bytes)/gib))
				rate = append(rate, float64(t.load[0].Bytes)/mib/t.load[0].Seconds)
			}
		}
	}
	now, peak, err := memory(e.fleet.pids["gateway"])
	if err != nil {
		return out, err
	}
	out = append(out,
		figure{Name: "broker egress, ten groups", Unit: "x of what came in", Value: share[10], Peer: "one group", PeerValue: share[1], Ratio: share[10] / share[1]}.
			ratioAtMost(1.05).note("the broker's own counters BytesOutPerSec and BytesInPerSec"),
		figure{Name: "gateway CPU, served from the tail cache", Unit: "s/GiB", Value: median(serve)}.valueAtMost(0.35).
			note("%s MiB/s to ten groups, the read that feeds them included", number(median(rate))),
		figure{Name: "gateway memory, ten groups", Unit: "MB", Value: float64(peak) / 1e6}.valueAtMost(150).note("%s MB at the end", number(float64(now)/1e6)))
	if err := e.setQuota(ctx); err != nil {
		return out, err
	}
	var held, direct10 []float64
	for range max(1, e.opts.rounds/2) {
		for _, p := range []*peer{front, back} {
			to := writer
			if p == back {
				to = back.addr
			}
			t, _, err := e.tailing(ctx, p, to, 10, heldRate, "quota-"+p.name)
			if err != nil {
				return out, err
			}
			got := float64(t.load[0].Bytes) / mib / t.load[0].Seconds
			if p == front {
				held = append(held, got)
			} else {
				direct10 = append(direct10, max(got, 0.1)) // a run may pass within one delay of the quota
			}
		}
	}
	return append(out, against("ten groups in all, egress held to 100 MiB/s", "MiB/s", held, direct, direct10).
		goal(">= 500 MiB/s", median(held) >= 500).note("%d MiB/s are appended", heldRate*recordBytes/mib)), nil
}

// tailing has groups follow a topic that is written at a rate through the writer's address.
// egress is the broker's bytes out for each byte in, over the whole run.
func (e *env) tailing(ctx context.Context, p *peer, writer string, groups int, rate float64, profile string) (turn, float64, error) {
	topic, drop, err := e.topic(ctx, p, partitions)
	if err != nil {
		return turn{}, 0, err
	}
	defer drop()
	out, in, err := e.brokerBytes(ctx)
	if err != nil {
		return turn{}, 0, err
	}
	read := consumePlan(topic, 0)
	read.Connections, read.Share, read.Tail = groups, false, true
	read.MayStarve = p.name == direct
	write := producePlan(topic, rate)
	write.Addr = writer
	t, err := e.measure(ctx, p, profile, read, write)
	if err != nil {
		return t, 0, err
	}
	out2, in2, err := e.brokerBytes(ctx)
	if err != nil {
		return t, 0, err
	}
	return t, (out2 - out) / (in2 - in), nil
}

// secondGateway starts another gateway of the fleet.
func (e *env) secondGateway(ctx context.Context) (addr string, err error) {
	_, r, err := e.braid(ctx, "gateway-2", "gateway", "--catalog-endpoints", e.fleet.catalog, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return r.Kafka[0], nil
}

// setQuota holds every client of the first cluster to the quota, by Kafka's own means.
func (e *env) setQuota(ctx context.Context) error {
	adm, done, err := e.kadm("a")
	if err != nil {
		return err
	}
	defer done()
	answers, err := adm.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{
		Entity: kadm.ClientQuotaEntity{{Type: "client-id"}}, // nil name: the default of every client
		Ops:    []kadm.AlterClientQuotaOp{{Key: "consumer_byte_rate", Value: quota}},
	}})
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.Err != nil {
			return fmt.Errorf("set the quota: %w", a.Err)
		}
	}
	return nil
}

// brokerBytes asks the first cluster's broker for the bytes that it sent to and took from clients.
func (e *env) brokerBytes(ctx context.Context) (out, in float64, err error) {
	path, err := testkit.JavaClassPath(testkit.Kafka43)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	args := []string{"-Xmx64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", path, "org.apache.kafka.tools.JmxTool",
		"--jmx-url", "service:jmx:rmi:///jndi/rmi://" + e.jmx + "/jmxrmi", "--one-time", "--report-format", "properties", "--attributes", "Count",
		"--object-name", "kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec", "--object-name", "kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec"}
	text, err := exec.CommandContext(ctx, "java", args...).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("ask the broker for its counters: %w", err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if i := strings.LastIndexByte(line, '='); i > 0 {
			name, value = line[:i], strings.TrimSpace(line[i+1:])
		}
		v, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil || strings.Contains(name, "topic=") {
			continue
		}
		switch {
		case strings.Contains(name, "BytesOutPerSec"):
			out, found = v, found|1
		case strings.Contains(name, "BytesInPerSec"):
			in, found = v, found|2
		}
	}
	if found != 3 {
		return 0, 0, fmt.Errorf("the broker's counters are not in %q", text)
	}
	return out, in, nil
}

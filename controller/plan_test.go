package controller

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braidstream/braid/catalog"
)

var update = flag.Bool("update", false, "write golden files anew")

// show writes a plan as people read it.
func show(b *strings.Builder, title string, p Plan, err error) {
	fmt.Fprintf(b, "# %s\n", title)
	if err != nil {
		fmt.Fprintf(b, "error: %v\n", err)
	}
	for _, m := range p.Moves {
		fmt.Fprintf(b, "%s (%d partitions): %s -> %s, %s", m.Topic.Name, m.Partitions, m.From, m.To, m.Mode)
		if m.Note != "" {
			fmt.Fprintf(b, "; %s", m.Note)
		}
		fmt.Fprintf(b, "; %d records, %d bytes", m.Cost.Records, m.Cost.Bytes)
		switch {
		case m.Cost.Forever:
			b.WriteString(", kept for ever")
		case !m.Cost.Until.IsZero():
			b.WriteString(", kept for its retention")
		}
		if m.Cost.OpenTransactions != 0 {
			fmt.Fprintf(b, ", %d partitions with an open transaction", m.Cost.OpenTransactions)
		}
		b.WriteByte('\n')
	}
	if p.Answers != nil {
		fmt.Fprintf(b, "answers: %v\n", *p.Answers)
	}
	for _, c := range p.Costs {
		fmt.Fprintf(b, "cost: %s\n", c)
	}
	if p.Effect != "" {
		fmt.Fprintf(b, "effect: %s\n", p.Effect)
	}
	if p.Refused != "" {
		fmt.Fprintf(b, "refused: %s\n", p.Refused)
	}
	b.WriteByte('\n')
}

func TestPlans(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b", "c", "d", "e")
	f.controller()
	f.grantsNoSeal("d")
	f.topic("orders", 6, "a", nil)
	f.topic("clicks", 3, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	f.topic("short", 1, "a", map[string]string{ConfigMaxSpans: "2"})
	f.topic("weak", 2, "d", nil)
	for _, to := range []string{"b", "a"} {
		w := f.writer(*f.watch.Snapshot().TopicByName(catalog.DefaultTenant, "short"), 0, 100)
		w.producer = int64(len(to)) + int64(to[0])
		w.append(1)
		if to == "b" {
			if op := f.done(f.move(to, "short")); op.State != catalog.OpDone {
				t.Fatal(op)
			}
		}
	}
	orders := f.writer(*f.watch.Snapshot().TopicByName(catalog.DefaultTenant, "orders"), 3, 200)
	orders.append(10)
	kept := f.topic("kept", 1, "b", map[string]string{"cleanup.policy": "compact"})
	f.writer(kept, 0, 300).append(2)
	f.topic("unread", 1, "e", map[string]string{ConfigGuarantee: guaranteeAvailable})
	f.doubles["b"].set(func() { f.doubles["b"].topics[physicalNameOf(f.chain(kept, 0))].parts[0].openTxn = true })
	f.doubles["e"].set(func() { f.doubles["e"].away = true })
	var b strings.Builder
	for _, tc := range []struct {
		title string
		req   OpRequest
	}{
		{"move of what has an open transaction, and nothing that lets go of it", OpRequest{Kind: catalog.OpMove, Topics: []string{"kept"}, To: "c"}},
		{"move off a cluster that is away", OpRequest{Kind: catalog.OpMove, Topics: []string{"unread"}, To: "c"}},
		{"failover e", OpRequest{Kind: catalog.OpFailover, Cluster: "e", To: "c"}},
		{"move two topics to c", OpRequest{Kind: catalog.OpMove, Topics: []string{"orders", "clicks", "orders"}, To: "c"}},
		{"move without a target", OpRequest{Kind: catalog.OpMove, Topics: []string{"orders"}}},
		{"move to where it is", OpRequest{Kind: catalog.OpMove, Topics: []string{"orders"}, To: "a"}},
		{"move off a cluster that grants no seal", OpRequest{Kind: catalog.OpMove, Topics: []string{"weak"}, To: "a"}},
		{"move of a chain that is full", OpRequest{Kind: catalog.OpMove, Topics: []string{"short"}, To: "c"}},
		{"move of what does not exist", OpRequest{Kind: catalog.OpMove, Topics: []string{"ordres"}, To: "c"}},
		{"drain a", OpRequest{Kind: catalog.OpDrain, Cluster: "a"}},
		{"drain a to b", OpRequest{Kind: catalog.OpDrain, Cluster: "a", To: "b"}},
		{"failover a", OpRequest{Kind: catalog.OpFailover, Cluster: "a"}},
		{"failover a by force, to c", OpRequest{Kind: catalog.OpFailover, Cluster: "a", To: "c", Force: true}},
		{"failback a", OpRequest{Kind: catalog.OpFailback, Cluster: "a"}},
	} {
		p, err := f.admin.Plan(f.ctx, tc.req)
		show(&b, tc.title, p, err)
	}
	golden := filepath.Join("testdata", "plans.golden")
	if *update {
		f.check(os.MkdirAll("testdata", 0o755))
		f.check(os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	f.check(err)
	if b.String() != string(want) {
		t.Errorf("plans differ from %s (run with -update to write it anew):\n%s", golden, b.String())
	}
}

func FuzzPhysicalName(f *testing.F) {
	f.Add("default", "orders")
	f.Add("t/ä", strings.Repeat("x", 300))
	f.Fuzz(func(t *testing.T, tenant, topic string) {
		a, b := physicalName("abcdef", tenant, topic), physicalName("abcdef", tenant, topic)
		if len(a) > maxTopicName || legal(a) != a || a == b || !strings.HasPrefix(a, physicalPrefix("abcdef")) {
			t.Errorf("%q, %q", a, b)
		}
	})
}

func FuzzCheckConfig(f *testing.F) {
	for i := range topicConfigs {
		f.Add(topicConfigs[i].Name, topicConfigs[i].Default)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if checkConfig(name, value) != nil {
			return
		}
		physicalConfig(map[string]string{name: value}, catalog.KindLocal, false)
	})
}

func TestDefaultsOfConfigsAreValid(t *testing.T) {
	t.Parallel()
	for i := range topicConfigs {
		c := &topicConfigs[i]
		if err := checkConfig(c.Name, c.Default); err != nil {
			t.Error(err)
		}
		if i > 0 && topicConfigs[i-1].Name >= c.Name {
			t.Errorf("%s is not in order", c.Name)
		}
	}
}

// The indexes of a physical topic are as large as its segments may need, unless the
// topic says otherwise.
func TestIndexesAreNoLargerThanTheirSegments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config map[string]string
		kind   catalog.ClusterKind
		want   string
	}{
		"default":          {nil, catalog.KindKafka, "3146496"},
		"small segments":   {map[string]string{"segment.bytes": "1048576"}, catalog.KindKafka, "3840"},
		"dense index":      {map[string]string{"index.interval.bytes": "0"}, catalog.KindKafka, "10485760"},
		"the topic's own":  {map[string]string{"segment.index.bytes": "4096"}, catalog.KindKafka, "4096"},
		"the engine's own": {nil, catalog.KindLocal, "10485760"},
	} {
		if got := physicalConfig(c.config, c.kind, false)["segment.index.bytes"]; got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/console/api"
)

// TestPlanText: what a plan costs is said even when it moves nothing.
func TestPlanText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := printPlan(&b, api.Plan{Nothing: true, Costs: []string{"1 topic waits for east (orders)"}}); err != nil {
		t.Fatal(err)
	}
	if want := "nothing to do\ncost: 1 topic waits for east (orders)\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// TestOneLine: what others have worded in several lines is one line of a table, of a status and of a description.
func TestOneLine(t *testing.T) {
	t.Parallel()
	bad := "dial tcp 10.0.0.1:9092: connection refused\ndial tcp 10.0.0.2:9092:\tconnection refused\r\n\n"
	want := "dial tcp 10.0.0.1:9092: connection refused; dial tcp 10.0.0.2:9092: connection refused"
	status := api.Status{Clusters: []api.Cluster{{Name: "east", Health: "down", Detail: bad}},
		Running: []api.Op{{Kind: "move", ID: "1", Message: bad}}, Warnings: []string{"cluster east is down: " + bad}}
	for name, print := range map[string]func(io.Writer) error{
		"status":           func(w io.Writer) error { return printStatus(w, status) },
		"op list":          func(w io.Writer) error { return opTable(w, status.Running) },
		"cluster describe": func(w io.Writer) error { return describeCluster(w, status.Clusters[0]) },
		"dry run":          func(w io.Writer) error { return printPlan(w, api.Plan{Refused: bad, Costs: []string{bad}}) },
	} {
		var b strings.Builder
		if err := print(&b); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), want+"\n") || strings.Contains(b.String(), "\ndial tcp") {
			t.Errorf("%s:\n%s", name, b.String())
		}
	}
}

// TestFailedClusterText: the list and the description of clusters say what brings a failed one back.
func TestFailedClusterText(t *testing.T) {
	t.Parallel()
	failed := api.Cluster{Name: "east", State: "failed", Health: "up", Hint: "cluster east is failed: braid failback east"}
	for name, print := range map[string]func(w io.Writer) error{
		"list":     func(w io.Writer) error { return clusterTable(w, []api.Cluster{{Name: "west"}, failed}) },
		"describe": func(w io.Writer) error { return describeCluster(w, failed) },
	} {
		var b strings.Builder
		if err := print(&b); err != nil {
			t.Fatal(err)
		}
		if want := "\nhint: cluster east is failed: braid failback east\n"; strings.Count(b.String(), want) != 1 {
			t.Errorf("%s: %q is not in:\n%s", name, want, b.String())
		}
	}
}

// TestWaitingText: a topic that waits for its cluster says so, since when, and what ends it.
func TestWaitingText(t *testing.T) {
	t.Parallel()
	since := time.Now().Add(-5*time.Minute - time.Second)
	var b strings.Builder
	if err := describeTopic(&b, api.Topic{Name: "orders", Waits: []api.Wait{{Cluster: "east", Since: since, Partitions: 3, Hint: "braid failover east --force"}}}); err != nil {
		t.Fatal(err)
	}
	want := "waiting for cluster east, away since " + since.Format("2006-01-02 15:04:05 MST") + " (5m ago): 3 partitions with braid.guarantee=ordered\n  braid failover east --force\n"
	if !strings.Contains(b.String(), want) {
		t.Errorf("%q is not in:\n%s", want, b.String())
	}
}

// TestStuckText: a topic that is to go on without its cluster and does not says why.
func TestStuckText(t *testing.T) {
	t.Parallel()
	since := time.Now().Add(-5*time.Minute - time.Second)
	var b strings.Builder
	if err := describeTopic(&b, api.Topic{Name: "clicks", Waits: []api.Wait{{Cluster: "east", Since: since, Partitions: 1, Reason: "no other cluster takes it: west is down"}}}); err != nil {
		t.Fatal(err)
	}
	want := "still on cluster east, away since " + since.Format("2006-01-02 15:04:05 MST") + " (5m ago): 1 partition\n  no other cluster takes it: west is down\n"
	if !strings.Contains(b.String(), want) {
		t.Errorf("%q is not in:\n%s", want, b.String())
	}
}

// TestPlanVolume: a plan says what it concerns, what must be kept until when, and what is not known.
func TestPlanVolume(t *testing.T) {
	t.Parallel()
	n, size, zero, until := int64(12345), int64(3<<20), int64(0), time.Date(2030, 1, 2, 3, 4, 0, 0, time.Local)
	for _, tc := range []struct {
		name string
		plan api.Plan
		want []string
		not  string
	}{
		{"a move", api.Plan{Kind: "move", Moves: []api.PlanMove{{Topic: "orders", Records: &n, Bytes: &size, KeptUntil: &until, OpenTransactions: &zero}}},
			[]string{"12,345   3.0 MiB  2030-01-02 03:04", "volume: 12,345 records, 3.0 MiB; nothing is copied, they stay where they are\n", "kept: until 2030-01-02 03:04 at the latest, by retention\n"}, "transactions"},
		{"with an open transaction", api.Plan{Kind: "drain", Moves: []api.PlanMove{{Records: &n, Bytes: &size, KeptForever: true, OpenTransactions: &size}}},
			[]string{"kept: 1 topic until deleted", "transactions: open in 1 topic;"}, "by retention"},
		{"of what does not answer", api.Plan{Kind: "failover", Moves: []api.PlanMove{{Topic: "orders"}}, Costs: []string{"much"}},
			[]string{"unknown  unknown  -", "volume: an unknown number of records, an unknown number of bytes; nothing is copied, they stay where they are\n", "cost: much\n"}, "0 records"},
		{"of which one does not answer", api.Plan{Kind: "drain", Moves: []api.PlanMove{{Topic: "orders"}, {Records: &n, Bytes: &size}}},
			[]string{"volume: at least 12,345 records (unknown of 1 topic), at least 3.0 MiB (unknown of 1 topic); nothing"}, "kept:"},
	} {
		var b strings.Builder
		if err := printPlan(&b, tc.plan); err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: %q is not in:\n%s", tc.name, want, b.String())
			}
		}
		if strings.Contains(b.String(), tc.not) {
			t.Errorf("%s: %q is in:\n%s", tc.name, tc.not, b.String())
		}
	}
}

// TestCertificateText: a pause that is not known is not shown as none, a check is
// shown once with its partitions, and one that is still to come as such.
func TestCertificateText(t *testing.T) {
	t.Parallel()
	pause := 12.34
	c := api.Certificate{Kind: "move", Topic: "orders", From: "a", To: "b", Partitions: []api.CertifiedRecord{
		{Partition: 0, Checked: []string{"read", "to come: the end"}},
		{Partition: 1, Checked: []string{"read", "to come: the end"}},
		{Partition: 2, Checked: []string{"read"}},
		{Partition: 4, Checked: []string{"not read"}},
	}}
	text := func() string {
		var b strings.Builder
		if err := printCertificate(&b, c); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, want := range []string{"; pause unknown\n", "checked, partitions 0 to 2: read\n", "to come, partitions 0, 1: the end\n", "checked, partition 4: not read\n"} {
		if got := text(); !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	raw, err := json.Marshal(c.Partitions[0])
	if err != nil || !strings.Contains(string(raw), `"pauseMs":null`) {
		t.Errorf("%v: %s", err, raw)
	}
	for i := range c.Partitions {
		c.Partitions[i].Idle = true
	}
	if got := text(); !strings.Contains(got, "; idle: nobody waited\n") || strings.Count(got, " idle ") != 4 {
		t.Errorf("where nobody produced is not shown:\n%s", got)
	}
	c.Partitions[1].PauseMs, c.Partitions[1].Idle = &pause, false
	if got := text(); !strings.Contains(got, "longest pause 12 ms\n") || !strings.Contains(got, "12.3") {
		t.Errorf("a known pause is not shown:\n%s", got)
	}
}

// TestZoneText: the zone that clients of a gateway are told is that of the listener they come in by.
func TestZoneText(t *testing.T) {
	t.Parallel()
	for want, g := range map[string]api.Gateway{
		"-":            {Listeners: []api.Listener{{Name: "in"}}},
		"z1":           {Listeners: []api.Listener{{Name: "in", Zone: "z1"}, {Name: "out", Zone: "z1"}}},
		"z2":           {Zone: "z2", Listeners: []api.Listener{{Name: "in"}}},
		"in=z2 out=z1": {Zone: "z2", Listeners: []api.Listener{{Name: "in"}, {Name: "out", Zone: "z1"}}},
		"in=- out=z1":  {Listeners: []api.Listener{{Name: "in"}, {Name: "out", Zone: "z1"}}},
		"z3":           {Zone: "z3"},
	} {
		if got := zoneText(g); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// counted adds up what a certificate counts, as far as it is known.
func counted(ns ...*int64) (sum int64) {
	for _, n := range ns {
		if n != nil {
			sum += *n
		}
	}
	return sum
}

// TestCertificateOfWhatWasNotRead: nothing that was not read is called found, or 0.
func TestCertificateOfWhatWasNotRead(t *testing.T) {
	t.Parallel()
	n, zero, acked := int64(3), int64(0), int64(500)
	for _, tc := range []struct {
		name  string
		parts []api.CertifiedRecord
		want  []string
		not   []string
	}{
		{"nothing was read", []api.CertifiedRecord{{Acknowledged: &acked, Verdict: "unverified"}},
			[]string{"500 acknowledged, lost, duplicated and reordered unverified: nothing was read;", "500    unverified  unverified  unverified  unverified"}, []string{" 0 lost"}},
		{"one of two was read", []api.CertifiedRecord{{Acknowledged: &n, Found: &n, Lost: &zero, Duplicated: &zero, Reordered: &zero}, {Partition: 1}},
			[]string{"3 acknowledged as far as reported (1 partition unverified), 0 lost, 0 duplicated, 0 reordered as far as read (1 partition unverified)"}, nil},
		{"nobody reported", []api.CertifiedRecord{{Found: &n, Lost: &zero, Duplicated: &zero, Reordered: &zero}},
			[]string{"acknowledged unverified: no gateway has reported, 0 lost", "0          0    unverified  3 "}, []string{"0 acknowledged"}},
		{"lost is known although nothing was read", []api.CertifiedRecord{{Lost: &n}}, []string{"3 lost, 0 duplicated, 0 reordered as far as read (1 partition unverified)"}, nil},
		{"taken in", []api.CertifiedRecord{{Found: &n, Lost: &zero, Duplicated: &zero, Reordered: &zero, Replayed: 2, InPlace: 1}},
			[]string{"; 2 stranded records appended anew; 1 stranded record read in place"}, []string{"as far as read"}},
	} {
		var b strings.Builder
		if err := printCertificate(&b, api.Certificate{Kind: "failover", Topic: "orders", From: "a", To: "b", Mode: "lossy", Verdict: "unverified", Partitions: tc.parts}); err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: %q is not in:\n%s", tc.name, want, b.String())
			}
		}
		for _, not := range tc.not {
			if strings.Contains(b.String(), not) {
				t.Errorf("%s: %q is in:\n%s", tc.name, not, b.String())
			}
		}
	}
	raw, err := json.Marshal(api.CertifiedRecord{})
	for _, name := range []string{"acknowledged", "found", "lost", "duplicated", "reordered", "stray"} {
		if err != nil || !strings.Contains(string(raw), `"`+name+`":null`) {
			t.Errorf("%v: %s is not null in %s", err, name, raw)
		}
	}
}

// TestCertificateTellsOfGroups: who skipped records is named with the way back, and who is not known is counted.
func TestCertificateTellsOfGroups(t *testing.T) {
	t.Parallel()
	now := int64(4294968306)
	many := make([]api.CertifiedGroup, groupsShown+2)
	for i := range many {
		many[i] = api.CertifiedGroup{Group: fmt.Sprint("g", i), Committed: 1, To: 3, From: 1, Records: 2, What: "waits"}
	}
	for _, tc := range []struct {
		name string
		cert api.Certificate
		want []string
		not  []string
	}{
		{"waits", api.Certificate{Partitions: []api.CertifiedRecord{{Groups: []api.CertifiedGroup{{Group: "g1", Committed: 100, From: 100, To: 1000, Records: 900, What: "waits"}}}}, GroupsAsked: &api.GroupsAsked{}},
			[]string{"; 1 group stands before records that cannot be read", "partition 0: group g1 stands at 100: up to 900 records in [100, 1,000) wait for cluster east; it skips them if it reads on meanwhile"}, []string{"groups:"}},
		{"skipped", api.Certificate{Partitions: []api.CertifiedRecord{{Partition: 2, Groups: []api.CertifiedGroup{{Group: "it's", Committed: 50, From: 100, To: 1000, Records: 900, What: "skipped", Now: &now}}}}},
			[]string{"; 1 group skipped records", "partition 2: group it's skipped up to 900 records in [100, 1,000): it stood at 50 when the cluster was lost and has committed 4,294,968,306 since",
				`--group 'it'\''s' --topic orders:2 --reset-offsets --to-offset 100 --execute`}, nil},
		{"a name that would move the cursor", api.Certificate{Partitions: []api.CertifiedRecord{{Groups: []api.CertifiedGroup{{Group: "a\x1b[2J", What: "skipped"}}}}},
			[]string{`group "a\x1b[2J" skipped`, "--group GROUP --topic"}, []string{"\x1b"}},
		{"not known", api.Certificate{GroupsAsked: &api.GroupsAsked{UnknownShards: 3, LateShards: 1, UnlistedGroups: 1200}},
			[]string{"groups: those of 3 coordinator shards are not known", "groups: those of 1 coordinator shard were asked only after the failover", "groups: 1,200 with committed offsets could not be listed"}, nil},
		{"nobody was reached", api.Certificate{GroupsAsked: &api.GroupsAsked{UnknownShards: -1}}, []string{"groups: not known where they stood"}, nil},
		{"many", api.Certificate{Partitions: []api.CertifiedRecord{{Groups: many}}}, []string{"; 22 groups stand before", "and 2 groups more (-o json lists them)"}, []string{"group g20 "}},
	} {
		tc.cert.Kind, tc.cert.Topic, tc.cert.From, tc.cert.To, tc.cert.Mode = "failover", "orders", "east", "b", "lossy"
		var b strings.Builder
		if err := printCertificate(&b, tc.cert); err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: %q is not in:\n%s", tc.name, want, b.String())
			}
		}
		for _, not := range tc.not {
			if strings.Contains(b.String(), not) {
				t.Errorf("%s: %q is in:\n%s", tc.name, not, b.String())
			}
		}
	}
}

// TestClientAddresses: every listener is listed, by name where there are several.
func TestClientAddresses(t *testing.T) {
	t.Parallel()
	one := readyNode{Listeners: map[string]string{"default": "127.0.0.1:1"}, Bound: map[string]string{"default": "127.0.0.1:1"}}
	two := readyNode{Listeners: map[string]string{"in": "127.0.0.1:2", "out": "kafka.example.com:3"},
		Bound: map[string]string{"in": "127.0.0.1:2", "out": "0.0.0.0:3"}}
	if got, want := boundAddresses([]readyNode{one, two}), "127.0.0.1:1 (bound to 127.0.0.1:1), in 127.0.0.1:2 (bound to 127.0.0.1:2), out kafka.example.com:3 (bound to 0.0.0.0:3)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := clientAddresses([]readyNode{one, two}), "127.0.0.1:1, in 127.0.0.1:2, out kafka.example.com:3 (bound to 0.0.0.0:3)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

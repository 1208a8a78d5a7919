package console

import (
	"context"
	"encoding/json"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
)

var update = flag.Bool("update", false, "write golden files anew")

// A cluster that answers and is failed is named with what brings it back: by hand where an operator failed it, or votes under a
// release that did not note what it was before; else by itself.
func TestFailedClusterSaysWhatToDo(t *testing.T) {
	t.Parallel()
	s := server(t, Security{})
	ctx := t.Context()
	session, err := s.opts.Catalog.Register(ctx, catalog.Gateway{Node: 1}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []catalog.Cluster{
		{Name: "well", State: catalog.ClusterActive}, {Name: "ours", State: catalog.ClusterFailed},
		{Name: "theirs", State: catalog.ClusterFailed, Before: catalog.ClusterActive}, {Name: "away", State: catalog.ClusterFailed},
	} {
		c.Kind = catalog.KindLocal
		if _, err := s.opts.Catalog.PutCluster(ctx, c, catalog.Fence{}); err != nil {
			t.Fatal(err)
		}
		if err := s.opts.Catalog.PutClusterVote(ctx, session, catalog.ClusterVote{Cluster: c.Name, Up: c.Name != "away", Since: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := s.opts.Watcher.Refresh(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"well": "", "away": "",
		"ours":   "cluster ours answers and is failed, so it takes no new topics: braid failback ours brings it back into use",
		"theirs": "cluster theirs answers and is failed, so it takes no new topics: it is active again by itself when it has answered for a while and its records are taken in; braid failback theirs does so at once",
	} {
		if got := clusterView(snap.Cluster(name), snap, clusterUses(snap)).Hint; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	v, err := s.status(httptest.NewRequest("GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if status := v.(api.Status); !slices.Contains(status.Warnings, "cluster ours answers and is failed, so it takes no new topics: braid failback ours brings it back into use") {
		t.Errorf("the status does not say it: %q", status.Warnings)
	}
}

// The JSON of a failover's certificate: while nothing was read, in part, and when the cluster is back.
func TestCertificateJSON(t *testing.T) {
	t.Parallel()
	base := catalog.Certificate{Op: "1m8", Kind: catalog.OpFailover, Topic: catalog.TopicRef{Tenant: "default", Name: "clicks"}, From: "a", To: "b", Mode: catalog.ModeLossy,
		Issued: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	unread := catalog.PartitionCertificate{End: 500, Start: 500 + 1<<32, Acknowledged: 500, Unread: true, Verdict: catalog.VerdictUnverified,
		Checked: []string{"to come: when it is back"}, Ranges: []catalog.Range{{From: 0, To: 500, What: "unverified", Note: "nothing was read of it"}}}
	pause := 1234.5
	read := catalog.PartitionCertificate{Partition: 1, End: 500, Start: 500 + 1<<32, Acknowledged: 500, Found: 503, PauseMs: &pause, Replayed: 2, LeftOut: 1,
		Verdict: catalog.VerdictVerified}
	short := unread
	short.Lost, short.Verdict = 3, catalog.VerdictViolated
	back := base
	back.Return, back.Partitions = "1m9", []catalog.PartitionCertificate{read}
	unheard := unread
	unheard.Acknowledged, unheard.Unreported = 0, true
	first := base
	first.Partitions = []catalog.PartitionCertificate{unread, read, short, unheard}
	taken := base
	taken.Kind, taken.Op, taken.Failovers, taken.Partitions = catalog.OpReturn, "1m9", []string{"1m8"}, []catalog.PartitionCertificate{read}
	stands := base
	stands.Standing = &catalog.Standing{Silent: []int32{3, 4}, Late: []int32{7}, Unlisted: 2}
	waiting, skipped := unread, read
	waiting.Groups = []catalog.GroupSkip{{Group: "billing", Committed: 100, From: 100, To: 500, Records: 400, What: catalog.GroupWaits}}
	skipped.Groups = []catalog.GroupSkip{{Group: "audit", Committed: 100, Now: 600 + 1<<32, From: 100, To: 500, Records: 400, What: catalog.GroupSkipped}}
	stands.Partitions = []catalog.PartitionCertificate{waiting, skipped}
	unasked := base
	unasked.Standing = &catalog.Standing{Unasked: true}
	unasked.Partitions = []catalog.PartitionCertificate{unread}
	var all []any
	for _, c := range []catalog.Certificate{first, back, taken, stands, unasked} {
		all = append(all, certificateView(c))
	}
	got, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", "certificates.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

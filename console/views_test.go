package console

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

var update = flag.Bool("update", false, "write golden files anew")

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
	first := base
	first.Partitions = []catalog.PartitionCertificate{unread, read, short}
	taken := base
	taken.Kind, taken.Op, taken.Failovers, taken.Partitions = catalog.OpReturn, "1m9", []string{"1m8"}, []catalog.PartitionCertificate{read}
	var all []any
	for _, c := range []catalog.Certificate{first, back, taken} {
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

package verify

import (
	"runtime"
	"testing"
	"time"
)

// TestHistoryStaysSmall holds the promise of doc comments: two columns and some bits a record, and
// a check that needs 32 bytes for each record of the largest partition.
func TestHistoryStaysSmall(t *testing.T) {
	const partitions, each = 2, 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	h := NewHistory(partitions)
	for p := range int32(partitions) {
		for i := range int64(each) {
			v := Value{1, p, i}
			if err := h.Sent(v); err != nil {
				t.Fatal(err)
			}
			if err := h.Acked(v, i, time.Time{}, time.Time{}); err != nil {
				t.Fatal(err)
			}
			h.Polled(Reader{"m", "g"}, p, i, v)
			h.Final(p, i, v)
		}
		h.GroupDone("g", p)
		h.FinalDone(p)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	perRecord := float64(after.HeapAlloc-before.HeapAlloc) / (partitions * each)
	if perRecord > 17.5 {
		t.Errorf("%.1f bytes for each record", perRecord)
	}
	total := after.TotalAlloc
	start := time.Now()
	r := Check(h)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	inCheck := float64(after.TotalAlloc-total) / (partitions * each)
	t.Logf("%.1f bytes a record, checked %d in %s with %.1f bytes a record", perRecord, partitions*each, took, inCheck)
	if !r.OK() || !r.Complete() || r.Found != partitions*each {
		t.Fatalf("\n%s", &r)
	}
	if inCheck > 40 {
		t.Errorf("the check allocated %.1f bytes for each record", inCheck)
	}
}

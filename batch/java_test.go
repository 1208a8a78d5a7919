package batch

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testdata/java holds batches that MemoryRecords of kafka-clients 4.3.1 wrote:
// per codec 20 records key<i>, "value <i>" and 3i times x, timestamps from 1000
// ms on, producer 2^40 with epoch 2 from sequence 2^31-11 on; zstd at level 22.
func TestBatchesWrittenByJava(t *testing.T) {
	for _, codec := range codecs {
		b, err := os.ReadFile(filepath.Join("testdata", "java", codec.String()+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		h, err := Validate(b, Limits{MaxBytes: 2000})
		if err != nil {
			t.Errorf("%v: %v", codec, err)
			continue
		}
		if h.Codec() != codec || h.NumRecords != 20 || h.ProducerID != 1<<40 || h.ProducerEpoch != 2 ||
			h.BaseSequence != math.MaxInt32-10 || h.LastSequence() != 8 || h.MaxTimestamp != 1019 {
			t.Errorf("%v: header %+v", codec, h)
		}
		if ts, err := CheckRecords(b, 4<<10); err != nil || ts != 1019 {
			t.Errorf("%v: largest timestamp %d, %v", codec, ts, err)
		}
		n := 0
		for r, err := range Records(b, 4<<10) {
			if err != nil {
				t.Errorf("%v: %v", codec, err)
				break
			}
			if string(r.Key) != fmt.Sprintf("key%d", n) || string(r.Value) != fmt.Sprintf("value %d%s", n, strings.Repeat("x", 3*n)) ||
				r.Offset != int64(n) || r.Timestamp != int64(1000+n) {
				t.Errorf("%v: record %d: %+v", codec, n, r)
			}
			n++
		}
		if n != 20 {
			t.Errorf("%v: %d records", codec, n)
		}
	}
}

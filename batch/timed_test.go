package batch

import "testing"

// The largest timestamp is that of the records from an offset on, however they are packed.
func TestLargestFrom(t *testing.T) {
	for _, codec := range []Codec{None, Gzip, Snappy, LZ4, Zstd} {
		b := NewBuilder().BaseOffset(10).Codec(codec)
		for _, ts := range []int64{900, 100, 800, 0} {
			b.Add(Record{Timestamp: ts, Value: []byte("v")})
		}
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		for start, want := range map[int64]int64{0: 900, 10: 900, 11: 800, 12: 800, 13: 0, 14: NoTimestamp} {
			if ts, err := LargestFrom("", raw, start); err != nil || ts != want {
				t.Errorf("%v: from %d on: %d, %v, want %d", codec, start, ts, err, want)
			}
		}
	}
	if _, err := LargestFrom("", []byte("no batch"), 0); err == nil {
		t.Error("the largest timestamp of no batch")
	}
}

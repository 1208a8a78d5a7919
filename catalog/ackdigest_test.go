package catalog

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// What several gateways saw adds up to what one would have seen, in whatever order, and
// stays within its bound.
func TestAckDigestsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var one AckDigest
		parts := make([]AckDigest, rapid.IntRange(1, 4).Draw(t, "gateways"))
		begin := rapid.Int64Range(0, 1<<40).Draw(t, "begin")
		for range rapid.IntRange(0, 200).Draw(t, "batches") {
			at := begin + rapid.Int64Range(0, 1<<rapid.IntRange(0, 30).Draw(t, "span")).Draw(t, "offset")
			n, crc := rapid.Int32Range(1, 500).Draw(t, "records"), rapid.Uint32().Draw(t, "crc")
			one.Add(at, n, crc)
			parts[rapid.IntRange(0, len(parts)-1).Draw(t, "gateway")].Add(at, n, crc)
		}
		var sum AckDigest
		for i := range parts {
			b, err := json.Marshal(parts[i])
			if err != nil {
				t.Fatal(err)
			}
			var read AckDigest
			if err := json.Unmarshal(b, &read); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			if len(read.Chunks) > MaxAckChunks {
				t.Fatalf("%d chunks", len(read.Chunks))
			}
			sum.Merge(&read)
		}
		sum.Fold(one.Shift)
		one.Fold(sum.Shift)
		if len(one.Chunks) == 0 {
			return
		}
		if !reflect.DeepEqual(one, sum) {
			t.Fatalf("one gateway: %+v\nseveral: %+v", one, sum)
		}
	})
}

// A batch that is dropped, altered, moved or put in another's place changes the sum of its chunk.
func TestAckDigestNoticesOneBatch(t *testing.T) {
	type b struct {
		at  int64
		n   int32
		crc uint32
	}
	digest := func(list ...b) (d AckDigest) {
		for _, x := range list {
			d.Add(x.at, x.n, x.crc)
		}
		return d
	}
	good := digest(b{0, 2, 7}, b{2, 1, 8}, b{3, 1, 9})
	for name, d := range map[string]AckDigest{
		"dropped": digest(b{0, 2, 7}, b{3, 1, 9}),
		"altered": digest(b{0, 2, 7}, b{2, 1, 88}, b{3, 1, 9}),
		"swapped": digest(b{0, 2, 7}, b{2, 1, 9}, b{3, 1, 8}),
		"moved":   digest(b{0, 2, 7}, b{2, 1, 8}, b{4, 1, 9}),
		"doubled": digest(b{0, 2, 7}, b{2, 1, 8}, b{3, 1, 8}),
		"counted": digest(b{0, 1, 7}, b{2, 2, 8}, b{3, 1, 9}),
	} {
		if d.Chunks[0].Sum == good.Chunks[0].Sum {
			t.Errorf("%s: the sum is the same", name)
		}
	}
	if stamped := digest(b{0, 2, 70}, b{2, 1, 80}, b{3, 1, 90}); stamped.Chunks[0].Places != good.Chunks[0].Places {
		t.Error("the places depend on checksums")
	}
}

func FuzzAckDigest(f *testing.F) {
	var d AckDigest
	d.Add(1000, 3, 5)
	d.Add(70_000, 1, 6)
	good, err := json.Marshal(d)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`"AQ=="`))
	f.Add([]byte(`"Aj8A/////w8="`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d AckDigest
		if json.Unmarshal(b, &d) != nil {
			return
		}
		if len(d.Chunks) > MaxAckChunks {
			t.Fatalf("%d chunks of %d bytes", len(d.Chunks), len(b))
		}
		var sum AckDigest
		sum.Add(1<<40, 1, 1)
		sum.Merge(&d)
	})
}

func BenchmarkAckDigest(b *testing.B) {
	b.ReportAllocs()
	var d AckDigest
	for i := range b.N {
		d.Add(int64(i)*3, 3, uint32(i))
	}
}

// A record of an earlier release has 0 for a pause that it does not know.
func TestCertificateOfAnEarlierRelease(t *testing.T) {
	var p PartitionCertificate
	for text, want := range map[string]bool{`{"pauseMs":0}`: false, `{"pauseMs":null}`: false, `{}`: false, `{"pauseMs":1.5}`: true} {
		p = PartitionCertificate{}
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		if (p.PauseMs != nil) != want {
			t.Errorf("%s: %v", text, p.PauseMs)
		}
	}
}

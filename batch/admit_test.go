package batch

import (
	"errors"
	"testing"
)

// What is told of a batch with several unfit records is what Apache Kafka's
// LogValidator tells of it: seen with the differential test of the engine.
func TestAdmission(t *testing.T) {
	const now = 10_000
	none := int64(-1)
	keyed := func(ts int64) Record { return Record{Timestamp: ts, Key: []byte{}, Value: []byte("v")} }
	bare := func(ts int64) Record { return Record{Timestamp: ts, Value: []byte("v")} }
	for _, c := range []struct {
		name          string
		keys          bool
		before, after int64
		records       []Record
		want          any // nil, an error, or the time that is refused
	}{
		{"no limits", false, none, none, []Record{bare(1), bare(1 << 40)}, nil},
		{"keys", true, none, none, []Record{keyed(1), keyed(2)}, nil},
		{"no key", true, none, none, []Record{keyed(1), bare(2)}, ErrNoKey},
		{"within", true, 100, 100, []Record{keyed(now - 100), keyed(now + 100)}, nil},
		{"no time", true, 100, 100, []Record{keyed(NoTimestamp)}, nil},
		{"too old", false, 100, none, []Record{bare(now), bare(now - 101)}, int64(now - 101)},
		{"too new", false, none, 100, []Record{bare(now + 101), bare(now)}, int64(now + 101)},
		{"no key, then too old", true, 100, 100, []Record{bare(now), keyed(now - 101)}, int64(now - 101)},
		{"too old, then no key", true, 100, 100, []Record{keyed(now - 101), bare(now)}, int64(now - 101)},
		{"no key, then too new", true, 100, 100, []Record{bare(now), keyed(now + 101)}, int64(now + 101)},
		{"too old without a key", true, 100, 100, []Record{bare(now - 101)}, ErrNoKey},
		{"too new without a key", true, 100, 100, []Record{bare(now + 101)}, ErrNoKey},
		{"too new without a key, and too old", true, 100, 100, []Record{bare(now + 101), keyed(1)}, int64(1)},
	} {
		for _, codec := range codecs {
			b := NewBuilder().Codec(codec)
			for _, r := range c.records {
				b.Add(r)
			}
			raw, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			h, _, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			err = Admission{Keys: c.keys, Before: c.before, After: c.after, Now: now}.Check(raw, &h, 1<<20)
			var out *TimeError
			switch want := c.want.(type) {
			case nil:
				if err != nil {
					t.Errorf("%s, %v: %v", c.name, codec, err)
				}
			case error:
				if !errors.Is(err, want) {
					t.Errorf("%s, %v: %v", c.name, codec, err)
				}
			case int64:
				if !errors.As(err, &out) || out.Timestamp != want {
					t.Errorf("%s, %v: %v, want %d", c.name, codec, err, want)
				}
			}
		}
	}
	// A header that says more than its records stays as it is, and is refused.
	raw, err := NewBuilder().Add(bare(now)).Build()
	if err != nil {
		t.Fatal(err)
	}
	h := Header{MaxTimestamp: now + 101}
	var out *TimeError
	if err := (Admission{Before: none, After: 100, Now: now}).Check(raw, &h, 1<<20); !errors.As(err, &out) {
		t.Error(err)
	}
	if err := (Admission{Keys: true, Before: none, After: none}).Check(raw[:len(raw)-1], &h, 1<<20); err == nil || errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
}

// Each record that is refused is named, with its own reason, as far as there is room.
func TestAdmissionNamesRecords(t *testing.T) {
	const now = 10_000
	check := func(records ...Record) *FaultsError {
		t.Helper()
		b := NewBuilder()
		for _, r := range records {
			b.Add(r)
		}
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		var out *FaultsError
		if err := (Admission{Keys: true, Before: 100, After: -1, Now: now}).Check(raw, &h, 1<<20); !errors.As(err, &out) {
			t.Fatalf("%v", err)
		}
		return out
	}
	good, bare, old := Record{Timestamp: now, Key: []byte("k")}, Record{Timestamp: now}, Record{Timestamp: 1, Key: []byte("k")}
	out := check(good, bare, old, good, bare)
	if out.Total != 3 || len(out.Faults) != 3 {
		t.Fatalf("%+v", out)
	}
	for i, want := range []int32{1, 2, 4} {
		var late *TimeError
		if f := out.Faults[i]; f.Index != want || errors.As(f.Err, &late) != (want == 2) {
			t.Errorf("fault %d: %+v", i, f)
		}
	}
	many := make([]Record, MaxFaults+10)
	if out := check(many...); out.Total != len(many) || len(out.Faults) != MaxFaults {
		t.Errorf("%d of %d are named", len(out.Faults), out.Total)
	}
}

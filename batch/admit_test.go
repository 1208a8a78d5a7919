package batch

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/fair"
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
			err = Admission{Keys: c.keys, Before: c.before, After: c.after, Now: now}.Check("", raw, &h)
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
	if err := (Admission{Before: none, After: 100, Now: now}).Check("", raw, &h); !errors.As(err, &out) {
		t.Error(err)
	}
	if err := (Admission{Keys: true, Before: none, After: none}).Check("", raw[:len(raw)-1], &h); err == nil || errors.Is(err, ErrNoKey) {
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
		if err := (Admission{Keys: true, Before: 100, After: -1, Now: now}).Check("", raw, &h); !errors.As(err, &out) {
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

// Tenants take turns at what keys and times need unpacked, as at all else that is unpacked; what is not compressed needs none.
func TestAdmissionTakesTurns(t *testing.T) {
	gate := soundGate()
	var held []fair.Pass
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		p, err := gate.Enter(t.Context(), "another")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, p)
	}
	check := func(codec Codec) error {
		raw := simple(t, 9, 3, func(b *Builder) { b.Codec(codec) })
		h, _, err := Parse(raw)
		if err != nil {
			t.Error(err)
		}
		return Admission{Keys: true, Before: -1, After: -1}.Check("acme", raw, &h)
	}
	plain := check(None)
	var ended atomic.Bool
	done := make(chan error)
	go func() {
		err := check(Gzip)
		ended.Store(true)
		done <- err
	}()
	for deadline := time.Now().Add(time.Minute); gate.Waiting() == 0 && !ended.Load(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("it neither waits nor ends")
		}
	}
	if ended.Load() {
		t.Error("it did not wait for a turn")
	}
	for i := range held {
		held[i].Leave(0)
	}
	if err := <-done; err == nil != (plain == nil) {
		t.Errorf("%v, not compressed %v", err, plain)
	}
}

// The first record of a time is found without those behind it, also where they cannot be read.
func TestFirstAt(t *testing.T) {
	for _, codec := range codecs {
		b := NewBuilder().Codec(codec)
		for i := range int64(5) {
			b.Add(Record{Timestamp: 100 + 10*i, Value: []byte("v")})
		}
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		SetBaseOffset(raw, 1000)
		for _, c := range []struct{ from, start, offset, at int64 }{
			{0, 0, 1000, 100}, {111, 0, 1002, 120}, {140, 0, 1004, 140}, {100, 1003, 1003, 130}, {141, 0, -1, 0}, {0, 1005, -1, 0},
		} {
			offset, at, found, err := FirstAt("", raw, c.from, c.start)
			if err != nil || found != (c.offset >= 0) || found && (offset != c.offset || at != c.at) {
				t.Errorf("%v, from %d at %d on: offset %d, time %d, %v, %v", codec, c.from, c.start, offset, at, found, err)
			}
		}
	}
}

package batch

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/braidstream/braid/fair"
)

// claimed makes a batch that claims count records out of bytes that claim to be compressed so.
func claimed(codec Codec, count int32, records []byte) []byte {
	h := Header{Magic: Magic, Attributes: int16(codec), NumRecords: count, LastOffsetDelta: count - 1,
		PartitionLeaderEpoch: NoLeaderEpoch, ProducerID: NoProducerID, ProducerEpoch: NoProducerEpoch, BaseSequence: NoSequence}
	b := make([]byte, HeaderSize, HeaderSize+len(records))
	h.put(b)
	b = append(b, records...)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	seal(b)
	return b
}

// raw is one record as it is written; its size is its own, or the true one.
type raw struct {
	attributes        byte
	delta, key, value int64
	size, headers     int64
	body, tail        string
	trueSize          bool
}

func record(delta int64, value string, change ...func(*raw)) []byte {
	r := raw{delta: delta, key: -1, value: int64(len(value)), body: value, trueSize: true}
	for _, f := range change {
		f(&r)
	}
	b := []byte{r.attributes}
	b = binary.AppendVarint(b, 0)
	b = binary.AppendVarint(b, r.delta)
	b = binary.AppendVarint(b, r.key)
	b = binary.AppendVarint(b, r.value)
	b = append(b, r.body...)
	b = binary.AppendVarint(b, r.headers)
	b = append(b, r.tail...)
	if r.trueSize {
		r.size = int64(len(b))
	}
	return append(binary.AppendVarint(nil, r.size), b...)
}

func sized(n int64) func(*raw) { return func(r *raw) { r.trueSize, r.size = false, n } }

// What Apache Kafka 4.3.1 was asked of each: it refuses those that are not sound, but for offsets
// that do not grow in an uncompressed batch and null for lengths below -1.
func TestSound(t *testing.T) {
	one, two := record(0, "v"), record(1, "v")
	header := func(tail string) func(*raw) {
		return func(r *raw) { r.headers, r.tail = 1, tail }
	}
	long := string(bytes.Repeat([]byte("long "), 20<<10))
	for _, c := range []struct {
		name    string
		count   int32
		records []byte
		sound   bool
	}{
		{"one", 1, one, true},
		{"two", 2, append(bytes.Clone(one), two...), true},
		{"a long one", 2, append(record(0, long), two...), true},
		{"unknown attributes", 1, record(0, "v", func(r *raw) { r.attributes = 7 }), true},
		{"a header", 1, record(0, "v", header("\x02k\x02v")), true},
		{"a header without a value", 1, record(0, "v", header("\x02k\x01")), true},
		{"no value", 1, record(0, "", func(r *raw) { r.value = -1 }), true},
		{"fewer than said", 2, one, false},
		{"more than said", 1, append(bytes.Clone(one), two...), false},
		{"nothing", 1, nil, false},
		{"junk", 1, bytes.Repeat([]byte{0xff}, 20), false},
		{"offset past the batch", 1, record(9, "v"), false},
		{"offset before the batch", 1, record(-1, "v"), false},
		{"an offset twice", 2, append(bytes.Clone(one), one...), false},
		{"offsets turned", 2, append(record(1, "v"), one...), false},
		{"too long", 1, record(0, "v", sized(100)), false},
		{"too short", 1, record(0, "abcdef", sized(8)), false},
		{"no length", 1, record(0, "v", sized(0)), false},
		{"negative length", 1, record(0, "v", sized(-5)), false},
		{"long value cut", 1, record(0, long, sized(int64(len(long)-9))), false},
		{"long value that claims more", 1, record(0, long, func(r *raw) { r.value += 9 }), false},
		{"long and its offset past the batch", 1, record(3, long), false},
		{"long with a header too many", 1, record(0, long, func(r *raw) { r.headers = 1 }), false},
		{"long with bytes behind", 1, record(0, long, func(r *raw) { r.tail = "zz" }), false},
		{"key past the record", 1, record(0, "v", func(r *raw) { r.key = 100 }), false},
		{"value past the record", 1, record(0, "v", func(r *raw) { r.value = 100 }), false},
		{"negative headers", 1, record(0, "v", func(r *raw) { r.headers = -1 }), false},
		{"missing headers", 1, record(0, "v", func(r *raw) { r.headers = 5 }), false},
		{"header without a key", 1, record(0, "v", header("\x01\x02v")), false},
		{"bytes behind the fields", 1, record(0, "v", func(r *raw) { r.tail = "zz" }), false},
		{"bytes behind the records", 1, append(bytes.Clone(one), "zzz"...), false},
	} {
		for _, codec := range codecs {
			records, err := compress(codec, nil, c.records)
			if err != nil {
				t.Fatal(err)
			}
			err = Sound(claimed(codec, c.count, records))
			if c.sound && err != nil || !c.sound && !errors.Is(err, ErrInvalid) {
				t.Errorf("%s, %v: %v", c.name, codec, err)
			}
		}
	}
}

func TestSoundRefusesWhatDoesNotUnpack(t *testing.T) {
	var records []byte
	for i := range int64(400) {
		records = append(records, record(i, fmt.Sprintf("%d %[1]x %[1]b", i*i*977))...)
	}
	for _, codec := range codecs[1:] {
		good, err := compress(codec, nil, records)
		if err != nil {
			t.Fatal(err)
		}
		if err := Sound(claimed(codec, 400, good)); err != nil {
			t.Fatalf("%v: %v", codec, err)
		}
		for name, bad := range map[string][]byte{
			"junk": []byte("junkjunk"), "nothing": {}, "cut": good[:len(good)/2], "uncompressed": records,
		} {
			if err := Sound(claimed(codec, 400, bad)); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s as %v: %v", name, codec, err)
			}
		}
	}
	members, _ := compress(Gzip, nil, record(0, "a"))
	next, _ := compress(Gzip, nil, record(1, "b"))
	if err := Sound(claimed(Gzip, 2, append(members, next...))); err != nil {
		t.Errorf("two members: %v", err)
	}
}

// A few bytes that unpack to much are looked at up to a bound, and without the memory for it.
func TestSoundIsBounded(t *testing.T) {
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	zeros := make([]byte, 1<<20)
	size := int64(2*soundBudget) + 11
	head := binary.AppendVarint(nil, size)
	if _, err := zw.Write(append(head, 0, 0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	for range 2*soundBudget>>20 + 1 {
		if _, err := zw.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	// As a record it is malformed: its value is empty. A value of the whole length would be taken.
	if err := Sound(claimed(Gzip, 1, out.Bytes())); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	out.Reset()
	zw.Reset(&out)
	if _, err := zw.Write(binary.AppendVarint(append(head, 0, 0, 0, 1), 2*soundBudget)); err != nil {
		t.Fatal(err)
	}
	for range 2*soundBudget>>20 + 1 {
		if _, err := zw.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Sound(claimed(Gzip, 1, out.Bytes())); err != nil {
		t.Error(err)
	}
}

// stuck are zeros without end; after the first MiB they wait for a channel.
type stuck struct {
	had  int
	wait <-chan struct{}
}

func (s *stuck) Read(p []byte) (int, error) {
	if s.had += len(p); s.had > 1<<20 {
		<-s.wait
	}
	clear(p)
	return len(p), nil
}

// Who unpacks little has its turn while another unpacks much: only one has a place.
func TestSoundTakesTurns(t *testing.T) {
	for _, codec := range []Codec{Gzip, LZ4, Zstd} {
		gate := fair.NewGate(1, time.Hour)
		quiet := simple(t, 9, 3, func(b *Builder) { b.Codec(codec) })
		done, went := make(chan struct{}), make(chan error, 2)
		first, err := gate.Enter(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		queued := func(n int) {
			for deadline := time.Now().Add(time.Minute); gate.Waiting() < n; runtime.Gosched() {
				if time.Now().After(deadline) {
					t.Fatalf("%d wait, not %d", gate.Waiting(), n)
				}
			}
		}
		go func() {
			s := sounding{count: 1, last: 0, before: -1, turn: soundTurns{gate: gate, owner: "noisy"}}
			s.turn.begin()
			defer s.turn.end()
			// One record that never ends, and is cut off at the budget.
			head := binary.AppendVarint(nil, 1<<30)
			head = binary.AppendVarint(append(head, 0, 0, 0, 1), 1<<29)
			went <- s.stream(codec, io.MultiReader(bytes.NewReader(head), &stuck{wait: done}))
		}()
		queued(1)
		go func() {
			err := soundIn(gate, "quiet", quiet, nil)
			close(done)
			went <- err
		}()
		queued(2)
		first.Leave(0)
		for range 2 {
			select {
			case err := <-went:
				if err != nil {
					t.Errorf("%v: %v", codec, err)
				}
			case <-time.After(2 * time.Minute):
				t.Fatalf("%v: who unpacks much has the place for itself", codec)
			}
		}
	}
}

func FuzzSound(f *testing.F) {
	for _, codec := range codecs {
		b := simple(f, 9, 3, func(b *Builder) { b.Codec(codec) })
		f.Add(int8(codec), int32(3), b[HeaderSize:])
	}
	f.Add(int8(0), int32(1), bytes.Repeat([]byte{0xff}, 20))
	f.Fuzz(func(t *testing.T, codec int8, count int32, records []byte) {
		b := claimed(Codec(codec&7), count&0xffff, records)
		err := Sound(b)
		if !kindOf(err) {
			t.Fatal(err)
		}
		if err != nil || count&0xffff == 0 {
			return
		}
		// What is taken can be read.
		if _, err := CheckRecords(b, 256<<20); err != nil && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("taken, but %v", err)
		}
	})
}

func BenchmarkSound(b *testing.B) {
	for _, size := range []int{10, 100, 1024, 10 << 10} {
		for _, codec := range codecs {
			n := max(1, (16<<10)/size)
			made := NewBuilder().Codec(codec)
			for i := range n {
				value := make([]byte, size)
				for j := range value {
					value[j] = "abcdefghijklmnop"[(i*j*7+j*j*3+i)%16]
				}
				made.Add(Record{Timestamp: int64(i), Value: value})
			}
			whole, err := made.Build()
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%v/%dB", codec, size), func(b *testing.B) {
				b.SetBytes(int64(n * size))
				b.ReportAllocs()
				for range b.N {
					if err := Sound(whole); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/record")
			})
		}
	}
}

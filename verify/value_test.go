package verify

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const testRun = "0123456789abcdef"

func anyValue(t *rapid.T) Value {
	return Value{
		Producer:  rapid.Int32Range(0, math.MaxInt32).Draw(t, "producer"),
		Partition: rapid.Int32Range(0, math.MaxInt32).Draw(t, "partition"),
		Sequence:  rapid.Int64Range(0, math.MaxInt64).Draw(t, "sequence"),
	}
}

func TestPayloadRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyValue(t)
		sent := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "sent"))
		size := rapid.IntRange(0, 500).Draw(t, "size")
		b := appendPayload(nil, testRun, sent, v, size)
		if len(b) > max(size, minPayload) || len(b) < size {
			t.Fatalf("%d bytes for %d", len(b), size)
		}
		got, at, err := parsePayload(b, testRun)
		if err != nil || got != v || at != sent {
			t.Fatalf("%v %v %v, want %v %v", got, at, err, v, sent)
		}
		if p, err := ParseValue(v.String()); err != nil || p != v {
			t.Fatalf("%v %v", p, err)
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "flip")
		b[i] ^= 1
		if _, _, err := parsePayload(b, testRun); err == nil {
			t.Fatalf("a flipped bit in byte %d went unseen", i)
		}
	})
}

func TestPayloadOfOthers(t *testing.T) {
	b := appendPayload(nil, testRun, 0, Value{}, 0)
	for name, tc := range map[string]struct {
		in   []byte
		want error
	}{
		"nothing":     {nil, errForeign},
		"text":        {[]byte("hello"), errForeign},
		"another run": {appendPayload(nil, "fedcba9876543210", 0, Value{}, 0), errForeign},
		"cut":         {b[:len(b)-2], errDamaged},
	} {
		if _, _, err := parsePayload(tc.in, testRun); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	for _, s := range []string{"", "1/2", "1/2/3/4", "01/2/3", "-1/2/3", "1/2/x", "1//3", "1/2/9223372036854775808", "2147483648/0/0"} {
		if v, err := ParseValue(s); err == nil {
			t.Errorf("%q was read as %v", s, v)
		}
	}
}

func FuzzPayload(f *testing.F) {
	f.Add(appendPayload(nil, testRun, 5, Value{1, 2, 3}, 100))
	f.Add([]byte("bv1/00000000/0123456789abcdef/"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, sent, err := parsePayload(b, testRun)
		if err != nil {
			return
		}
		// Whatever is read is what would be written, but for the padding.
		if w := appendPayload(nil, testRun, sent, v, len(b)); len(w) != len(b) {
			t.Fatalf("%q read as %v", b, v)
		}
	})
}

package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func FuzzFrameReader(f *testing.F) {
	f.Add(frameOf([]byte("abc")), uint8(1))
	f.Add(append(frameOf(nil), frameOf(make([]byte, 300))...), uint8(7))
	f.Add([]byte{0x16, 3, 1, 0}, uint8(200))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		src := &pieces{}
		for b := in; len(b) > 0; {
			n := min(len(b), int(step)+1)
			src.left = append(src.left, b[:n])
			b = b[n:]
		}
		r := NewFrameReader(src, 1<<20)
		var again []byte
		for {
			buf, err := r.Next()
			if err != nil {
				if errors.Is(err, io.EOF) && !bytes.Equal(again, in) {
					t.Fatalf("the frames make %x, in was %x", again, in)
				}
				return
			}
			again = append(again, frameOf(buf.B)...)
			buf.Release()
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(AppendRequest(nil, 1, []byte("c"), kmsg.NewPtrMetadataRequest())[4:])
	f.Add(AppendRequest(nil, 1, nil, kmsg.NewPtrApiVersionsRequest())[4:])
	f.Fuzz(func(t *testing.T, in []byte) {
		h, body, err := ParseHeader(in)
		if err != nil {
			return
		}
		if len(body)+len(h.ClientID) > len(in) {
			t.Fatal("more came out than went in")
		}
		if _, _, err := ParseResponseHeader(in, h.Key, h.Version); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
	})
}

// Whatever Check lets pass is decoded by kmsg within the budget.
func FuzzCheck(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	decoders(func(_ string, version int16, _ uint16, fresh func() body) {
		b := fresh()
		if _, ok := b.(kmsg.Request); ok && rng.IntN(4) == 0 {
			fill(rng, reflect.ValueOf(b).Elem())
			f.Add(b.Key(), version, b.AppendTo(nil))
		}
	})
	f.Fuzz(func(t *testing.T, key, version int16, in []byte) {
		for _, response := range []bool{false, true} {
			var b body
			if response {
				if resp := kmsg.ResponseForKey(key); resp != nil {
					b = resp
				}
			} else if req := kmsg.RequestForKey(key); req != nil {
				b = req
			}
			if b == nil || version > b.MaxVersion() {
				return
			}
			b.SetVersion(version)
			if err := checkBody(b, version, in, DefaultBudget); err != nil {
				continue
			}
			var err error
			limit := slack * (DefaultBudget.Factor*len(in) + DefaultBudget.Base)
			got := allocated(limit, func() { err = b.ReadFrom(in) })
			if err != nil {
				t.Fatalf("passed the check, but kmsg says %v", err)
			}
			// Fuzzing's own goroutines allocate a little at the same time.
			if got > limit+1<<20 {
				t.Fatalf("%d bytes made kmsg allocate %d", len(in), got)
			}
		}
	})
}

func fuzzWalker(f *testing.F, index int) {
	rng := rand.New(rand.NewPCG(9, 10))
	w := walkDecoders()[index]
	for v := w.lo; v <= w.hi; v++ {
		m := bodyMaker{rng: rng, room: 64, pending: 2, hostile: -1}
		m.shape(w.root(v))
		f.Add(v, m.out)
	}
	f.Fuzz(func(t *testing.T, version int16, in []byte) {
		check := Check
		if w.response {
			check = CheckResponse
		}
		w := walkDecoders()[index]
		want, got := check(w.key, version, in, generous), w.decode(version, in)
		if version >= w.lo && version <= w.hi && (want == nil) != (got == nil) {
			t.Fatalf("walker says %v, check says %v", got, want)
		}
	})
}

func FuzzProduceRequest(f *testing.F)  { fuzzWalker(f, 0) }
func FuzzProduceResponse(f *testing.F) { fuzzWalker(f, 1) }
func FuzzFetchRequest(f *testing.F)    { fuzzWalker(f, 2) }
func FuzzFetchResponse(f *testing.F)   { fuzzWalker(f, 3) }

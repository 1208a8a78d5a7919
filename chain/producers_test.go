package chain_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

func genState(t *rapid.T) []chain.ProducerState {
	n := rapid.IntRange(0, 20).Draw(t, "producers")
	ids := map[int64]bool{}
	for len(ids) < n {
		ids[rapid.Int64Range(0, math.MaxInt64).Draw(t, "id")] = true
	}
	var out []chain.ProducerState
	for id := range ids {
		p := chain.ProducerState{ID: id, Epoch: int16(rapid.IntRange(0, math.MaxInt16).Draw(t, "epoch")),
			LastSequence: rapid.Int32Range(-1, math.MaxInt32).Draw(t, "seq"), LastOffset: rapid.Int64Range(-1, 1<<50).Draw(t, "offset"),
			Timestamp: rapid.Int64Range(-1, 1<<45).Draw(t, "ts"), Seen: rapid.Int64Range(0, 1<<45).Draw(t, "seen"), Jump: rapid.Bool().Draw(t, "jump")}
		for range rapid.IntRange(0, 5).Draw(t, "batches") {
			first := rapid.Int32Range(0, math.MaxInt32).Draw(t, "first")
			count := rapid.Int32Range(0, 1000).Draw(t, "n")
			offset := rapid.Int64Range(0, 1<<50).Draw(t, "at")
			p.Batches = append(p.Batches, span.ProducedBatch{FirstSequence: first, LastSequence: batch.IncrementSequence(first, count),
				FirstOffset: offset, LastOffset: offset + int64(count), Timestamp: rapid.Int64Range(-1, 1<<45).Draw(t, "bts")})
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b chain.ProducerState) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

func TestProducerStateCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := genState(t)
		b := chain.EncodeProducers(state)
		got, err := chain.DecodeProducers(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(state) > 0 && !reflect.DeepEqual(got, state) {
			t.Fatalf("%+v\n%+v", got, state)
		}
		for i := range state {
			if p := chain.FindProducer(got, state[i].ID); p == nil || p.ID != state[i].ID {
				t.Fatalf("producer %d was not found", state[i].ID)
			}
		}
		if len(b) > 0 {
			i := rapid.IntRange(0, len(b)-1).Draw(t, "flip")
			bad := bytes.Clone(b)
			bad[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			if _, err := chain.DecodeProducers(bad); !errors.Is(err, chain.ErrCorruptState) {
				t.Fatalf("a flipped bit: %v", err)
			}
			if _, err := chain.DecodeProducers(b[:i]); i > 0 && !errors.Is(err, chain.ErrCorruptState) {
				t.Fatalf("a cut: %v", err)
			}
		}
	})
}

func FuzzDecodeProducers(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 1, 0, 0, 0})
	f.Add(chain.EncodeProducers([]chain.ProducerState{{ID: 1 << 40, LastSequence: 4, Batches: []span.ProducedBatch{{LastSequence: 4, LastOffset: 4}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum would stop all the interesting inputs.
		b = chain.ResealState(b)
		state, err := chain.DecodeProducers(b)
		if err != nil {
			if !errors.Is(err, chain.ErrCorruptState) {
				t.Fatal(err)
			}
			return
		}
		if len(state)*7 > len(b) {
			t.Fatalf("%d producers out of %d bytes", len(state), len(b))
		}
		again, err := chain.DecodeProducers(chain.EncodeProducers(state))
		if err != nil || len(state) > 0 && !reflect.DeepEqual(again, state) {
			t.Fatalf("%v: %+v, then %+v", err, state, again)
		}
	})
}

func piece(delta int64) *catalog.Copy {
	return &catalog.Copy{Map: []catalog.Piece{{Delta: delta}}}
}

// The state of a sealed span is that of its batches below the end only.
func TestFinding01_StatePastTheEndIsRefused(t *testing.T) {
	fresh := []span.Producer{{ID: 7, LastSequence: 3, LastOffset: 9, Batches: []span.ProducedBatch{{LastSequence: 3, FirstOffset: 6, LastOffset: 9}}}}
	if _, err := chain.MergeProducers(nil, fresh, chain.Merge{Copy: piece(100), End: 109, Now: day}); !errors.Is(err, chain.ErrPastEnd) {
		t.Fatal(err)
	}
	state, err := chain.MergeProducers(nil, fresh, chain.Merge{Copy: piece(100), End: 110, Now: day})
	if err != nil || state[0].LastOffset != 109 || state[0].Batches[0].FirstOffset != 106 {
		t.Fatalf("%+v, %v", state, err)
	}
}

func TestMergeIsCumulativeWithExpiry(t *testing.T) {
	one := func(id int64, epoch int16, first, last int32, at int64) span.Producer {
		return span.Producer{ID: id, Epoch: epoch, LastSequence: last, LastOffset: at + int64(last-first), LastTimestamp: 1,
			Batches: []span.ProducedBatch{{FirstSequence: first, LastSequence: last, FirstOffset: at, LastOffset: at + int64(last-first)}}}
	}
	merge := func(before []chain.ProducerState, now time.Time, lossy bool, fresh ...span.Producer) []chain.ProducerState {
		t.Helper()
		out, err := chain.MergeProducers(before, fresh, chain.Merge{Copy: piece(0), End: 1 << 40, Now: now, Lossy: lossy})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	s1 := merge(nil, day, false, one(7, 0, 0, 4, 0), one(8, 0, 0, 0, 5))
	s2 := merge(s1, day.Add(time.Hour), false, one(7, 0, 5, 6, 6))
	if p := chain.FindProducer(s2, 7); len(p.Batches) != 2 || p.LastSequence != 6 {
		t.Fatalf("batches of both spans: %+v", p)
	}
	if chain.FindProducer(s2, 8) == nil {
		t.Fatal("an idle producer was forgotten at once")
	}
	s3 := merge(s2, day.Add(25*time.Hour), false)
	if chain.FindProducer(s3, 8) != nil || chain.FindProducer(s3, 7) == nil {
		t.Fatalf("expiry is a day from when it was last seen: %+v", s3)
	}
	s4 := merge(s2, day.Add(2*time.Hour), false, one(7, 1, 0, 0, 8))
	if p := chain.FindProducer(s4, 7); p.Epoch != 1 || len(p.Batches) != 1 {
		t.Fatalf("a new epoch begins anew: %+v", p)
	}
	s5 := merge(s4, day.Add(2*time.Hour), true)
	if p := chain.FindProducer(s5, 8); !p.Jump {
		t.Fatalf("after a loss: %+v", p)
	}
	s6 := merge(s5, day.Add(2*time.Hour), false, one(7, 1, 9, 9, 9))
	if p, q := chain.FindProducer(s6, 7), chain.FindProducer(s6, 8); p.Jump || !q.Jump {
		t.Fatalf("a jump is for once: %+v %+v", p, q)
	}
	var many []span.Producer
	for i := range int32(9) {
		many = []span.Producer{one(9, 0, i, i, int64(i))}
		s6 = merge(s6, day, false, many...)
	}
	if p := chain.FindProducer(s6, 9); len(p.Batches) != 5 || p.Batches[4].LastSequence != 8 {
		t.Fatalf("five batches: %+v", p)
	}
}

func TestJudge(t *testing.T) {
	known := &chain.ProducerState{ID: 7, Epoch: 3, LastSequence: 14, Batches: []span.ProducedBatch{
		{FirstSequence: 5, LastSequence: 9, FirstOffset: 100, LastOffset: 104}, {FirstSequence: 10, LastSequence: 14, FirstOffset: 200, LastOffset: 204}}}
	jump := &chain.ProducerState{ID: 7, Epoch: 3, LastSequence: 14, Jump: true}
	wrap := &chain.ProducerState{ID: 7, Epoch: 3, LastSequence: math.MaxInt32}
	wrapped := &chain.ProducerState{ID: 7, Epoch: 3, LastSequence: 3}
	none := &chain.ProducerState{ID: 7, Epoch: 3, LastSequence: -1}
	for _, x := range []struct {
		name        string
		p           *chain.ProducerState
		epoch       int16
		first, last int32
		want        chain.Ruling
		offset      int64
	}{
		{"unknown producer", nil, 0, 17, 20, chain.RuleAppend, -1},
		{"next", known, 3, 15, 16, chain.RuleAppend, -1},
		{"last again", known, 3, 10, 14, chain.RuleDuplicate, 200},
		{"the one before again", known, 3, 5, 9, chain.RuleDuplicate, 100},
		{"older than is remembered", known, 3, 0, 4, chain.RuleDuplicate, -1},
		{"other bounds", known, 3, 11, 14, chain.RuleDuplicate, -1},
		{"half old, half new", known, 3, 12, 17, chain.RuleMissing, -1},
		{"gap", known, 3, 16, 16, chain.RuleMissing, -1},
		{"old epoch", known, 2, 15, 15, chain.RuleOldEpoch, -1},
		{"new epoch", known, 4, 0, 3, chain.RuleAppend, -1},
		{"new epoch, not from 0", known, 4, 1, 3, chain.RuleMissing, -1},
		{"jump after a loss", jump, 3, 40, 41, chain.RuleAppend, -1},
		{"next after a loss", jump, 3, 15, 15, chain.RuleAppend, -1},
		{"duplicate after a loss", jump, 3, 14, 14, chain.RuleDuplicate, -1},
		{"wrap", wrap, 3, 0, 2, chain.RuleAppend, -1},
		{"duplicate across the wrap", wrapped, 3, math.MaxInt32 - 1, 1, chain.RuleDuplicate, -1},
		{"gap across the wrap", wrap, 3, 1, 2, chain.RuleMissing, -1},
		{"first of the epoch", none, 3, 0, 0, chain.RuleAppend, -1},
		{"not the first of the epoch", none, 3, 2, 2, chain.RuleMissing, -1},
	} {
		if r, offset := chain.Judge(x.p, x.epoch, x.first, x.last); r != x.want || offset != x.offset {
			t.Errorf("%s: %v at %d, want %v at %d", x.name, r, offset, x.want, x.offset)
		}
	}
}

package chain

import (
	"slices"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

func known(from, to, producer int64, first int32) catalog.KnownBatch {
	return catalog.KnownBatch{From: from, To: to, Producer: producer, First: first, Last: first + int32(to-from) - 1, Acked: true}
}

// Where a span ends whose copy is gone, by what gateways say.
func TestCutAt(t *testing.T) {
	word := func(node int32, next, doubt, floor int64, batches ...catalog.KnownBatch) catalog.HoldAck {
		return catalog.HoldAck{Node: node, Next: []int64{next}, Accounts: []catalog.Account{{Doubt: doubt, Floor: floor, Batches: batches}}}
	}
	for _, tc := range []struct {
		name  string
		words []catalog.HoldAck
		end   int64
		skip  []catalog.Gap
	}{
		{"nobody knows anything", nil, 10, nil},
		{"the highest word counts", []catalog.HoldAck{word(1, 15, -1, 0), word(2, 20, -1, 0)}, 20, nil},
		{"a word without an account", []catalog.HoldAck{{Next: []int64{20}}, word(2, 14, 12, 0)}, 20, nil},
		{"nothing was served past what is on its way", []catalog.HoldAck{word(1, 20, 20, 0, known(18, 20, 1, 0))}, 20, nil},
		// The high watermark was heard of before the answer.
		{"what is on its way was served by its number only", []catalog.HoldAck{word(1, 24, 20, 0, known(18, 20, 1, 0))}, 20, nil},
		{"it was read", []catalog.HoldAck{word(1, 24, 20, 0, known(18, 20, 1, 0), known(20, 22, 1, 2))}, 22, nil},
		{"another gateway has read it", []catalog.HoldAck{word(1, 20, 20, 0, known(18, 20, 1, 0)), word(2, 22, -1, 0, known(20, 22, 1, 2))}, 22, nil},
		{"another gateway was answered behind it", []catalog.HoldAck{word(1, 20, 20, 0, known(18, 20, 1, 0)), word(2, 25, -1, 0, known(22, 25, 2, 0))},
			25, []catalog.Gap{{From: 20, To: 22}}},
		{"two gaps", []catalog.HoldAck{word(1, 20, 20, 0), word(2, 30, -1, 0, known(21, 22, 2, 0), known(22, 24, 2, 1), known(26, 27, 2, 3))},
			27, []catalog.Gap{{From: 20, To: 21}, {From: 24, To: 26}}},
		{"the account of one does not reach down", []catalog.HoldAck{word(1, 20, 20, 0), word(2, 30, -1, 24, known(26, 27, 2, 3))},
			27, []catalog.Gap{{From: 24, To: 26}}},
		{"the doubt of two", []catalog.HoldAck{word(1, 20, 20, 0), word(2, 23, 14, 0, known(12, 14, 2, 0), known(16, 23, 2, 2))},
			23, []catalog.Gap{{From: 14, To: 16}}},
		{"a doubt from before the span", []catalog.HoldAck{word(1, 12, 0, 0, known(11, 12, 1, 0))}, 12, []catalog.Gap{{From: 10, To: 11}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := CutAt(&catalog.Span{Start: 10, End: catalog.Open}, 0, tc.words)
			if c.End != tc.end || !slices.Equal(c.Skip, tc.skip) {
				t.Errorf("end %d, left out %v; want %d, %v", c.End, c.Skip, tc.end, tc.skip)
			}
		})
	}
}

func TestProducersOfACut(t *testing.T) {
	c := &catalog.Copy{Map: []catalog.Piece{{Physical: 0, Delta: 100}}}
	newer := known(108, 110, 1, 0)
	newer.Epoch = 1
	cut := Cut{End: 110, Known: []catalog.KnownBatch{known(100, 102, 1, 5), known(102, 104, 2, 0), known(104, 106, 2, 2), known(106, 108, -1, -1),
		newer, known(110, 112, 2, 4)}}
	out, err := MergeProducers(nil, cut.Producers(c, 7), Merge{Copy: c, End: 110, Now: time.Now(), Lossy: true})
	if err != nil || len(out) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	if p := out[0]; p.ID != 1 || p.Epoch != 1 || p.LastSequence != 1 || len(p.Batches) != 1 || p.Batches[0].FirstOffset != 108 || !p.Jump {
		t.Errorf("%+v", p)
	}
	if p := out[1]; p.LastSequence != 3 || p.LastOffset != 105 || len(p.Batches) != 2 || p.Batches[0].FirstOffset != 102 {
		t.Errorf("%+v", p)
	}
}

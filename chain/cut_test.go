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

// What runs of gateways that are over have reported counts for the cut: none of it is cut off, and
// batches of which they say more than their number are known.
func TestCutByReports(t *testing.T) {
	word := func(next, doubt int64, batches ...catalog.KnownBatch) []catalog.HoldAck {
		return []catalog.HoldAck{{Node: 1, Next: []int64{next}, Accounts: []catalog.Account{{Doubt: doubt, Batches: batches}}}}
	}
	acked := func(from, to, producer int64, first int32) catalog.AckedBatch {
		b := catalog.AckedBatch{Offset: from, Records: int32(to - from)}
		if producer >= 0 {
			b.By = &catalog.AckedBy{Producer: producer, First: first, Last: first + int32(to-from) - 1}
		}
		return b
	}
	report := func(next, batches int64, tail ...catalog.AckedBatch) catalog.AckReport {
		return catalog.AckReport{Span: 3, Next: next, Batches: batches, Tail: tail, Last: true}
	}
	for _, tc := range []struct {
		name     string
		words    []catalog.HoldAck
		reports  []catalog.AckReport
		end      int64
		skip     []catalog.Gap
		reported bool
		known    int // batches of producers
	}{
		{"nobody lives who knows", nil, []catalog.AckReport{report(20, 50)}, 20, nil, true, 0},
		{"the one who lives has seen nothing", word(-1, -1), []catalog.AckReport{report(20, 50, acked(18, 20, 1, 4))}, 20, nil, true, 1},
		{"he has seen more", word(25, -1, known(24, 25, 1, 9)), []catalog.AckReport{report(20, 50, acked(18, 20, 1, 4))}, 25, nil, false, 2},
		{"he has seen as much", word(20, -1, known(18, 20, 1, 4)), []catalog.AckReport{report(20, 1, acked(18, 20, -1, 0))}, 20, nil, false, 1},
		{"of another span", nil, []catalog.AckReport{{Span: 2, Next: 20}, {Span: 3, Partition: 1, Next: 20}}, 10, nil, false, 0},
		{"of what was appended anew", nil, []catalog.AckReport{{Span: 3, Next: -1, Records: 5}}, 10, nil, false, 0},
		{"on its way below what a report counts", word(14, 14), []catalog.AckReport{report(20, 50, acked(18, 20, 1, 4))}, 20, nil, true, 1},
		{"on its way below what a report lists", word(14, 14), []catalog.AckReport{report(20, 1, acked(18, 20, 1, 4))},
			20, []catalog.Gap{{From: 14, To: 18}}, true, 1},
		{"batches that do not fit", nil, []catalog.AckReport{report(20, 50, acked(8, 12, 1, 0), acked(19, 22, 1, 0))}, 20, nil, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := CutAt(&catalog.Span{Seq: 3, Start: 10, End: catalog.Open}, 0, tc.words, tc.reports...)
			if c.End != tc.end || !slices.Equal(c.Skip, tc.skip) || c.Reported != tc.reported {
				t.Errorf("end %d, left out %v, reported %v; want %d, %v, %v", c.End, c.Skip, c.Reported, tc.end, tc.skip, tc.reported)
			}
			n := 0
			for _, p := range c.Producers(&catalog.Copy{Map: []catalog.Piece{{}}}, 0) {
				n += len(p.Batches)
			}
			if n != tc.known {
				t.Errorf("%d batches are known, want %d: %+v", n, tc.known, c.Known)
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

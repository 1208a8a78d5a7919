package chain_test

import (
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// A span that was lost with its cluster ends for a trim where the next one begins, until what
// its copy holds outside of the chain is taken in: also one that is cut at its own start, or
// that the start has passed.
func TestTrimKeepsWhatIsAwaited(t *testing.T) {
	t.Parallel()
	const room = 100
	for _, tc := range []struct {
		name          string
		records, end  int64 // of a span before the lost one; of the lost one
		start, before int64
		settled       bool
		dropped       int
	}{
		{name: "cut at the chain's start"},
		{name: "cut at its start, behind another span", records: 5, end: 5, before: 5, dropped: 1},
		{name: "cut at its start, which is the chain's", records: 5, end: 5, start: 5, before: 5, dropped: 1},
		{name: "the start is moved to the cut", end: 7, before: 7},
		{name: "the start is at the cut", end: 7, start: 7, before: 7},
		{name: "the start is moved past the cut", end: 7, before: 20},
		{name: "the start was past the cut", end: 7, start: 20, before: 20},
		{name: "the start is moved to the next span", end: 7, before: 7 + room, dropped: 1},
		{name: "the start is moved past the next span's", before: 3 + room, dropped: 1},
		{name: "nothing was stranded", settled: true, dropped: 1},
		{name: "settled", end: 7, before: 7, settled: true, dropped: 1},
	} {
		c := chain.New(copyOn("k", 0), 0, day)
		lossy := chain.Extension{End: tc.end, MaxTimestamp: -1, To: copyOn("k", 2), Lossy: true, Room: room, Unreadable: true, At: day}
		for _, x := range []chain.Extension{{End: tc.records, MaxTimestamp: -1, To: copyOn("k", 1), At: day}, lossy} {
			next, err := chain.Extend(&c, x)
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			c = next
		}
		c.Start = tc.start
		lost := &c.Spans[len(c.Spans)-2]
		if !chain.Awaited(lost) {
			t.Errorf("%s: %+v is not awaited", tc.name, lost)
		}
		lost.Copies[0].Settled = tc.settled
		out, dropped := chain.Trim(&c, tc.before)
		if out.Start != tc.before || len(dropped) != tc.dropped || len(dropped)+len(out.Spans) != len(c.Spans) {
			t.Errorf("%s: dropped %+v of %+v", tc.name, dropped, c)
		}
		if err := chain.Follows(&c, &out); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if tc.dropped == len(c.Spans)-1 {
			continue
		}
		// No other version of the chain may lack the span.
		out.Spans = []catalog.Span{out.Spans[len(out.Spans)-1]}
		if err := chain.Follows(&c, &out); err == nil {
			t.Errorf("%s: a chain without the span follows", tc.name)
		}
	}
}

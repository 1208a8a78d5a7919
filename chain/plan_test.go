package chain_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

var update = flag.Bool("update", false, "write golden files")

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func copyOn(cluster string, n byte) catalog.Copy {
	return catalog.Copy{Cluster: cluster, Topic: "braid.t." + string('0'+n), TopicID: catalog.ID{1, n}}
}

// built is a chain: [0,100) on a, [100,150) on b, a loss, open on c.
func built(t testing.TB) catalog.Chain {
	t.Helper()
	c := chain.New(copyOn("a", 1), 0, day)
	c, err := chain.Extend(&c, chain.Extension{End: 100, MaxTimestamp: 5000, Producers: "p1", To: copyOn("b", 2), At: day.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	c, err = chain.Extend(&c, chain.Extension{End: 150, MaxTimestamp: 4000, Producers: "p2", To: copyOn("c", 3), At: day.Add(2 * time.Hour),
		Lossy: true, Room: 1000, Unreadable: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", path, got)
	}
}

func TestGoldenPlans(t *testing.T) {
	c := chain.New(copyOn("a", 1), 0, day)
	golden(t, "new", c)
	empty, err := chain.Extend(&c, chain.Extension{End: 0, MaxTimestamp: -1, To: copyOn("b", 2), At: day.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "extend_empty_span_vanishes", empty)
	full := built(t)
	golden(t, "extend_normal_then_lossy", full)
	trimmed, dropped := chain.Trim(&full, 120)
	golden(t, "trim_into_second_span", map[string]any{"chain": trimmed, "dropped": dropped})
	trimmed, dropped = chain.Trim(&full, 1150)
	golden(t, "trim_to_open_span", map[string]any{"chain": trimmed, "dropped": dropped})
}

func TestExtendRefuses(t *testing.T) {
	c := built(t)
	for name, x := range map[string]chain.Extension{
		"end before the span":         {End: 1149, To: copyOn("d", 4)},
		"room without loss":           {End: 1200, Room: 5, To: copyOn("d", 4)},
		"loss without room":           {End: 1200, Lossy: true, To: copyOn("d", 4)},
		"room that overflows":         {End: 1200, Lossy: true, Room: 1 << 62, To: copyOn("d", 4)},
		"a physical partition again":  {End: 1200, To: copyOn("a", 1)},
		"the physical partition open": {End: 1200, To: copyOn("c", 3)},
		"nowhere":                     {End: 1200},
	} {
		if _, err := chain.Extend(&c, x); !errors.Is(err, chain.ErrInvalidChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A physical topic that was used before holds old producers and stray records.
func TestFinding05_PhysicalPartitionIsNeverUsedTwice(t *testing.T) {
	c := built(t)
	again := copyOn("a", 1)
	if _, err := chain.Extend(&c, chain.Extension{End: 1200, To: again, At: day}); !errors.Is(err, chain.ErrInvalidChain) {
		t.Fatalf("extend onto a used partition: %v", err)
	}
	c.Spans[2].Copies[0] = c.Spans[0].Copies[0]
	if err := chain.Validate(&c); !errors.Is(err, chain.ErrInvalidChain) {
		t.Fatalf("validate: %v", err)
	}
}

func TestValidateFindsEachFault(t *testing.T) {
	good := built(t)
	if err := chain.Validate(&good); err != nil {
		t.Fatal(err)
	}
	for name, break_ := range map[string]func(*catalog.Chain){
		"negative start":     func(c *catalog.Chain) { c.Start = -1 },
		"seq not below next": func(c *catalog.Chain) { c.NextSeq = 2 },
		"seq goes back":      func(c *catalog.Chain) { c.Spans[1].Seq = 0 },
		"epoch stands still": func(c *catalog.Chain) { c.Spans[1].Epoch = 0 },
		"negative epoch":     func(c *catalog.Chain) { c.Spans[0].Epoch = -1 },
		"open in the middle": func(c *catalog.Chain) { c.Spans[0].End = catalog.Open },
		"overlap":            func(c *catalog.Chain) { c.Spans[1].Start = 99 },
		"end before start":   func(c *catalog.Chain) { c.Spans[1].End = 90 },
		"sealed and empty":   func(c *catalog.Chain) { c.Spans[0].End = 0 },
		"open with a hole":   func(c *catalog.Chain) { c.Spans[2].Hole = true },
		"no copy":            func(c *catalog.Chain) { c.Spans[0].Copies = nil },
		"no cluster":         func(c *catalog.Chain) { c.Spans[0].Copies[0].Cluster = "" },
		"no map":             func(c *catalog.Chain) { c.Spans[0].Copies[0].Map = nil },
		"map begins late":    func(c *catalog.Chain) { c.Spans[0].Copies[0].Map = []catalog.Piece{{Physical: 1}} },
		"map falls": func(c *catalog.Chain) {
			c.Spans[0].Copies[0].Map = []catalog.Piece{{Physical: 0}, {Physical: 5, Delta: -1}}
		},
		"map out of order":    func(c *catalog.Chain) { c.Spans[0].Copies[0].Map = []catalog.Piece{{Physical: 0}, {Delta: 1}} },
		"open and unreadable": func(c *catalog.Chain) { c.Spans[2].Copies[0].Unreadable = true },
		"too many spans":      func(c *catalog.Chain) { c.Spans = make([]catalog.Span, 2000) },
		"start past the end":  func(c *catalog.Chain) { c.Spans = c.Spans[:2]; c.Start = 151 },
	} {
		c := built(t)
		break_(&c)
		if err := chain.Validate(&c); !errors.Is(err, chain.ErrInvalidChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFollowsFindsEachFault(t *testing.T) {
	prev := built(t)
	for name, break_ := range map[string]func(*catalog.Chain){
		"start goes back":     func(c *catalog.Chain) { c.Start = 5 },
		"end moves":           func(c *catalog.Chain) { c.Spans[0].End = 99 },
		"epoch changes":       func(c *catalog.Chain) { c.Spans[1].Epoch = 7; c.Spans[2].Epoch = 8 },
		"span vanishes":       func(c *catalog.Chain) { c.Spans = slices.Clone(c.Spans[1:]) },
		"next seq goes back":  func(c *catalog.Chain) { c.NextSeq = 3; c.Spans = c.Spans[:1] },
		"new span too low":    func(c *catalog.Chain) { add(c, 3, 149, 9) },
		"new span's epoch":    func(c *catalog.Chain) { add(c, 3, 2000, 2) },
		"open span vanishes":  nil,
		"start passes a span": nil,
	} {
		next := built(t)
		next.NextSeq = 4
		p := prev
		p.NextSeq = 4
		p.Start = 10
		next.Start = 10
		switch {
		case break_ != nil:
			if name == "new span too low" || name == "new span's epoch" {
				p.NextSeq = 3
			}
			break_(&next)
			if err := chain.Follows(&p, &next); !errors.Is(err, chain.ErrInvalidChain) {
				t.Errorf("%s: %v", name, err)
			}
		case name == "open span vanishes":
			next.Spans = next.Spans[:2]
			if err := chain.Follows(&p, &next); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		default:
			next, _ = chain.Trim(&next, 100)
			if err := chain.Follows(&p, &next); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func add(c *catalog.Chain, seq int32, start int64, epoch int32) {
	c.Spans = slices.Clone(c.Spans)
	c.Spans[2].End = start
	s := catalog.Span{Seq: seq, Start: start, End: catalog.Open, Epoch: epoch, Copies: []catalog.Copy{copyOn("z", 9)}}
	s.Copies[0].Map = []catalog.Piece{{Delta: start}}
	c.Spans = append(c.Spans[:2], s)
	c.NextSeq = seq + 1
}

func TestLocate(t *testing.T) {
	c := built(t) // [0,100) a, [100,150) b unreadable, hole, [1150,open) c
	c.Start = 10
	for _, x := range []struct {
		offset int64
		span   int
		at     int64
	}{
		{10, 0, 10}, {99, 0, 99},
		{100, 2, 1150}, {149, 2, 1150}, // unreadable
		{150, 2, 1150}, {1149, 2, 1150}, // hole
		{1150, 2, 1150}, {99999, 2, 99999},
	} {
		got, err := chain.Locate(&c, x.offset)
		if err != nil || got.Span != x.span || got.Offset != x.at {
			t.Errorf("locate %d: %+v, %v; want span %d at %d", x.offset, got, err, x.span, x.at)
		}
	}
	if _, err := chain.Locate(&c, 9); !errors.Is(err, chain.ErrOffsetOutOfRange) {
		t.Errorf("below the start: %v", err)
	}
	c.Spans = c.Spans[:2]
	if got, err := chain.Locate(&c, 120); err != nil || got.Span != -1 {
		t.Errorf("nothing readable: %+v, %v", got, err)
	}
}

func TestFinding16_OneEpochPerSpan(t *testing.T) {
	c := built(t)
	const end = 1300
	for _, x := range []struct {
		ask, epoch int32
		end        int64
	}{
		{0, 0, 100},
		{1, 1, 1150}, // up to the next span: who stands in the hole was not cut off
		{2, 2, end},
		{3, -1, -1},
	} {
		if epoch, at := chain.EpochEnd(&c, x.ask, end); epoch != x.epoch || at != x.end {
			t.Errorf("end of %d: %d at %d, want %d at %d", x.ask, epoch, at, x.epoch, x.end)
		}
	}
	// Vanished and trimmed epochs.
	d, _ := chain.Trim(&c, 1200)
	if epoch, at := chain.EpochEnd(&d, 0, end); epoch != 0 || at != 1200 {
		t.Errorf("trimmed epoch: %d at %d", epoch, at)
	}
	e, err := chain.Extend(&c, chain.Extension{End: 1150, MaxTimestamp: -1, To: copyOn("d", 4), At: day})
	if err != nil {
		t.Fatal(err)
	}
	if got := chain.LeaderEpoch(&e); got != 3 {
		t.Errorf("a span that vanished leaves its epoch used; the next is %d", got)
	}
	if epoch, at := chain.EpochEnd(&e, 2, end); epoch != 1 || at != 1150 {
		t.Errorf("vanished epoch: %d at %d", epoch, at)
	}
	if _, _, diverges := chain.Diverges(&c, 100, 0, end); diverges {
		t.Error("a reader at the end of a span has diverged")
	}
	if epoch, at, diverges := chain.Diverges(&c, 101, 0, end); !diverges || epoch != 0 || at != 100 {
		t.Errorf("a reader past the end of its epoch: %d at %d, %v", epoch, at, diverges)
	}
}

func TestFinding09_LossyExtendLeavesRoomRaisesTheEpochAndListsTheHole(t *testing.T) {
	c := built(t)
	lost, next := c.Spans[1], c.Spans[2]
	if !lost.Hole || next.Start != lost.End+1000 || next.Epoch <= lost.Epoch || !lost.Copies[0].Unreadable {
		t.Fatalf("%+v then %+v", lost, next)
	}
	// Even an empty span is kept: records may turn up for it.
	d := chain.New(copyOn("a", 1), 0, day)
	d, err := chain.Extend(&d, chain.Extension{End: 0, Lossy: true, Room: chain.UnknownRoom, To: copyOn("b", 2), At: day})
	if err != nil || len(d.Spans) != 2 || d.Spans[1].Start != 1<<32 {
		t.Fatalf("%+v, %v", d, err)
	}
}

func TestSealedStateOutlivesItsSpan(t *testing.T) {
	c := built(t)
	d, _ := chain.Trim(&c, 2000)
	if len(d.Spans) != 1 || chain.SealedState(&d) != "p2" {
		t.Fatalf("%+v", d)
	}
	if refs := chain.ProducerRefs(&c); !slices.Equal(refs, []string{"p2", "p1"}) {
		t.Fatal(refs)
	}
	if got := chain.ProducerRefs(&d); strings.Join(got, ",") != "p2" {
		t.Fatal(got)
	}
}

func genChain(t *rapid.T) catalog.Chain {
	c := chain.New(copyOn("k", 0), 0, day)
	end := int64(0)
	for i := range rapid.IntRange(0, 8).Draw(t, "extends") {
		end = chain.OpenSpan(&c).Start + rapid.Int64Range(0, 20).Draw(t, "records")
		x := chain.Extension{End: end, To: copyOn("k", byte(i+1)), At: day}
		if x.Lossy = rapid.Bool().Draw(t, "lossy"); x.Lossy {
			x.Room = rapid.Int64Range(1, 30).Draw(t, "room")
			x.Unreadable = rapid.Bool().Draw(t, "unreadable")
		}
		next, err := chain.Extend(&c, x)
		if err != nil {
			t.Fatal(err)
		}
		c = next
		if rapid.IntRange(0, 3).Draw(t, "trim") == 0 {
			before := rapid.Int64Range(0, end+5).Draw(t, "before")
			trimmed, dropped := chain.Trim(&c, before)
			if err := chain.Validate(&trimmed); err != nil {
				t.Fatal(err)
			}
			if err := chain.Follows(&c, &trimmed); err != nil {
				t.Fatal(err)
			}
			for _, s := range dropped {
				if s.IsOpen() || s.End > before {
					t.Fatalf("dropped %+v for a start of %d", s, before)
				}
			}
			c = trimmed
		}
	}
	return c
}

// Locate agrees with a search through every offset.
func TestLocateModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := genChain(t)
		if err := chain.Validate(&c); err != nil {
			t.Fatal(err)
		}
		offset := rapid.Int64Range(0, 300).Draw(t, "offset")
		got, err := chain.Locate(&c, offset)
		if offset < c.Start {
			if !errors.Is(err, chain.ErrOffsetOutOfRange) {
				t.Fatalf("%d below %d: %v", offset, c.Start, err)
			}
			return
		}
		want := chain.Place{Span: -1, Offset: offset}
	search:
		for at := offset; at < 1000; at++ {
			for i := range c.Spans {
				s := &c.Spans[i]
				if chain.ReadableCopy(s) >= 0 && at >= s.Start && (s.IsOpen() || at < s.End) {
					want = chain.Place{Span: i, Offset: at}
					break search
				}
			}
		}
		if err != nil || got != want {
			t.Fatalf("locate %d: %+v, %v; want %+v in %+v", offset, got, err, want, c)
		}
	})
}

// The map is a bijection between records, and steps over holes in both directions.
func TestCopyMapModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var cp catalog.Copy
		logical := map[int64]int64{} // by physical
		p, d := rapid.Int64Range(0, 5).Draw(t, "first"), rapid.Int64Range(0, 1000).Draw(t, "delta")
		first := p
		for range rapid.IntRange(1, 6).Draw(t, "pieces") {
			cp.Map = append(cp.Map, catalog.Piece{Physical: p, Delta: d})
			for range rapid.IntRange(1, 6).Draw(t, "records") {
				logical[p] = p + d
				p++
			}
			d += rapid.Int64Range(0, 9).Draw(t, "hole")
		}
		end := p
		for p := first; p < end; p++ {
			l := logical[p]
			if got := chain.ToLogical(&cp, p); got != l {
				t.Fatalf("physical %d is %d, want %d in %+v", p, got, l, cp.Map)
			}
			if got := chain.ToPhysical(&cp, l); got != p {
				t.Fatalf("logical %d is %d, want %d in %+v", l, got, p, cp.Map)
			}
		}
		// In a hole: the next record.
		for l := logical[first]; l < logical[end-1]; l++ {
			got := chain.ToPhysical(&cp, l)
			if logical[got] < l || got > first && logical[got-1] >= l {
				t.Fatalf("logical %d reads from %d (%d)", l, got, logical[got])
			}
		}
	})
}

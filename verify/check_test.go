package verify

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// story builds a history of one partition, one producer and one group, which went well: values
// 0..n-1 at offsets 0..n-1, read by a consumer, a group and the final read. Each hook may plant one
// thing that did not.
type story struct {
	n       int64
	allowed bool // repeats
	acked   func(h *History, v Value, offset int64) bool
	polls   []int64 // values in the order of a consumer's offsets; nil: all
	log     []int64 // what the log holds at the end, by offset; nil: all
	readLog func(h *History)
	cut     bool // the final read does not get to the end
}

func value(seq int64) Value { return Value{Producer: 7, Partition: 0, Sequence: seq} }

func (s story) history(t interface{ Fatal(...any) }) *History {
	h := NewHistory(1)
	h.RepeatsAllowed = s.allowed
	straight := make([]int64, s.n)
	for i := range straight {
		straight[i] = int64(i)
	}
	if s.log == nil {
		s.log = straight
	}
	if s.polls == nil {
		s.polls = straight
	}
	for i := range s.n {
		if err := h.Sent(value(i)); err != nil {
			t.Fatal(err)
		}
		if s.acked == nil || s.acked(h, value(i), i) {
			if err := h.Acked(value(i), i, time.Time{}, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s.readLog != nil {
		s.readLog(h)
	} else {
		for o, seq := range s.polls {
			h.Polled(Reader{Name: "c"}, 0, int64(o), value(seq))
		}
	}
	for o, seq := range s.log {
		h.Final(0, int64(o), value(seq))
		h.Polled(Reader{Name: "m", Group: "g"}, 0, int64(o), value(seq))
	}
	h.GroupDone("g", 0)
	if !s.cut {
		h.FinalDone(0)
	}
	return h
}

// wrong lists what a report found, as "lost 1 duplicated 2".
func wrong(r Report) string {
	var found []string
	for _, a := range r.Anomalies() {
		if a.Count > 0 {
			found = append(found, fmt.Sprintf("%s %d", a.Name, a.Count))
		}
	}
	return strings.Join(found, " ")
}

func TestCheckNamesWhatWasPlanted(t *testing.T) {
	consumer := Reader{Name: "c"}
	for _, tc := range []struct {
		name  string
		story story
		want  string
	}{
		{"nothing", story{n: 5}, ""},
		{"empty", story{}, ""},
		{"last one lost", story{n: 3, log: []int64{0, 1}, polls: []int64{0, 1}}, "lost 1"},
		{
			// The next value took its place: the offset has two values.
			"lost and overwritten",
			story{n: 4, log: []int64{0, 1, 3}, polls: []int64{0, 1, 3}},
			"lost 1 misplaced 1 conflicting 1",
		},
		{"read, then gone", story{
			n: 3, log: []int64{0, 1}, acked: func(_ *History, v Value, _ int64) bool { return v.Sequence != 2 },
		}, "lost 1"},
		{"never acknowledged, never there", story{
			n: 3, log: []int64{0, 1}, polls: []int64{0, 1}, acked: func(_ *History, v Value, _ int64) bool { return v.Sequence != 2 },
		}, ""},
		{"never acknowledged, but there", story{
			n: 3, acked: func(_ *History, v Value, _ int64) bool { return v.Sequence != 2 },
		}, ""},
		{"twice at the end", story{n: 3, log: []int64{0, 1, 2, 2}}, "duplicated 1"},
		{"twice, of old", story{n: 3, log: []int64{0, 1, 2, 0}}, "duplicated 1"},
		{"three times", story{n: 3, log: []int64{0, 1, 2, 0, 0}}, "duplicated 2"},
		{"twice, allowed", story{n: 3, log: []int64{0, 1, 2, 2}, allowed: true}, ""},
		{"swapped before the acknowledgement", story{
			n: 3, log: []int64{0, 2, 1}, polls: []int64{0, 2, 1},
			acked: func(h *History, v Value, o int64) bool {
				return v.Sequence == 0 || h.Acked(v, 3-o, time.Time{}, time.Time{}) != nil
			},
		}, "reordered 1"},
		{
			"swapped after it", story{n: 3, log: []int64{0, 2, 1}, polls: []int64{0, 2, 1}},
			"reordered 1 misplaced 2 conflicting 2",
		},
		{"acknowledged without an offset", story{n: 3, acked: func(h *History, v Value, _ int64) bool {
			return h.Acked(v, -1, time.Time{}, time.Time{}) != nil
		}}, ""},
		{"two acknowledged at one offset", story{n: 2, log: []int64{0}, polls: []int64{0}, acked: func(h *History, v Value, _ int64) bool {
			return h.Acked(v, 0, time.Time{}, time.Time{}) != nil
		}}, "lost 1 conflicting 1"},
		{"at another offset", story{n: 2, acked: func(h *History, v Value, o int64) bool {
			return v.Sequence == 0 || h.Acked(v, 9, time.Time{}, time.Time{}) != nil
		}}, "misplaced 1"},
		{"an aborted one read", story{n: 2, acked: func(h *History, v Value, _ int64) bool {
			return v.Sequence == 0 || h.Aborted(v) != nil
		}}, "aborted read 3"}, // by the consumer, the group and the final read
		{"a reader goes back", story{n: 3, readLog: func(h *History) {
			for _, i := range []int64{0, 1, 2, 1, 2} {
				h.Polled(consumer, 0, i, value(i))
			}
		}}, "non-monotonic 1"},
		{"a reader goes back after an assignment", story{n: 3, readLog: func(h *History) {
			for _, i := range []int64{0, 1, 2} {
				h.Polled(consumer, 0, i, value(i))
			}
			h.Assigned(consumer, 0)
			for _, i := range []int64{1, 2} {
				h.Polled(consumer, 0, i, value(i))
			}
		}}, ""},
		{"a reader skips two", story{n: 5, readLog: func(h *History) {
			for _, i := range []int64{0, 3, 4} {
				h.Polled(consumer, 0, i, value(i))
			}
		}}, "skipped 2"},
		{"one from nowhere", story{n: 2, readLog: func(h *History) {
			h.Polled(consumer, 0, 0, value(0))
			h.Polled(consumer, 0, 1, value(99))
		}}, "phantom 1"},
		{"one of another partition", story{n: 1, readLog: func(h *History) {
			h.Polled(consumer, 0, 0, Value{Producer: 7, Partition: 3, Sequence: 0})
		}}, "phantom 1"},
		{"damaged", story{n: 1, readLog: func(h *History) { h.Damaged(0, 0) }}, "phantom 1"},
		{"an offset used twice", story{n: 3, readLog: func(h *History) {
			h.Polled(consumer, 0, 0, value(1))
		}}, "duplicated 1 conflicting 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Check(tc.story.history(t))
			if got := wrong(r); got != tc.want {
				t.Fatalf("found %q, want %q\n%s", got, tc.want, &r)
			}
			if r.OK() != (tc.want == "") || !r.Complete() {
				t.Fatalf("ok %v, complete %v", r.OK(), r.Complete())
			}
			if tc.story.allowed && r.Repeated.Count != 1 {
				t.Fatalf("repeated %d", r.Repeated.Count)
			}
		})
	}
}

func TestCheckSkippedByAGroup(t *testing.T) {
	h := NewHistory(2)
	for p := range int32(2) {
		for i := range int64(3) {
			v := Value{1, p, i}
			if err := h.Sent(v); err != nil {
				t.Fatal(err)
			}
			h.Final(p, i, v)
			if i != 1 {
				h.Assigned(Reader{"m", "g"}, p)
				h.Polled(Reader{"m", "g"}, p, i, v)
			}
		}
		h.FinalDone(p)
	}
	h.GroupDone("g", 1) // partition 0 was not read to its end: nothing is said of it
	r := Check(h)
	if got := wrong(r); got != "skipped 1" || r.Skipped.Examples[0].Reader != "group g" {
		t.Fatalf("found %q %+v", got, r.Skipped)
	}
}

func TestCheckSaysWhatItCouldNotVerify(t *testing.T) {
	r := Check(story{n: 3, log: []int64{0, 1}, cut: true}.history(t))
	if wrong(r) != "" || r.Complete() || r.Unverified != 1 || !strings.Contains(r.String(), "could not be read to the end") {
		t.Fatalf("%s", &r)
	}
	// What retention removed before the final read is not lost, but not verified either.
	h := NewHistory(1)
	for i := range int64(4) {
		if err := h.Sent(value(i)); err != nil {
			t.Fatal(err)
		}
		if err := h.Acked(value(i), i, time.Time{}, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	h.FinalFrom(0, 2)
	h.Final(0, 2, value(2))
	h.FinalDone(0)
	r = Check(h)
	if wrong(r) != "lost 1" || r.Unverified != 2 || r.Complete() {
		t.Fatalf("%s", &r)
	}
}

func TestHistoryRefusesWhatMakesNoSense(t *testing.T) {
	h := NewHistory(1)
	for name, err := range map[string]error{
		"sent to no partition":  h.Sent(Value{Partition: 1}),
		"sent out of sequence":  h.Sent(Value{Sequence: 3}),
		"acked, never sent":     h.Acked(value(0), 0, time.Time{}, time.Time{}),
		"aborted, never sent":   h.Aborted(value(0)),
		"acked, no partition":   h.Acked(Value{Partition: -1}, 0, time.Time{}, time.Time{}),
		"aborted, no partition": h.Aborted(Value{Partition: 2}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// Reads come from outside: they are judged, or left out, and never refused.
	h.Polled(Reader{Name: "c"}, 5, 0, value(0))
	h.Final(-1, 0, value(0))
	h.Final(0, 0, Value{Sequence: -1})
	if r := Check(h); wrong(r) != "phantom 1" {
		t.Fatalf("found %q", wrong(r))
	}
}

func TestPauses(t *testing.T) {
	h := NewHistory(2)
	at := time.Now()
	ack := func(seq int64, sent, acked time.Duration) {
		t.Helper()
		if err := h.Sent(value(seq)); err != nil {
			t.Fatal(err)
		}
		if err := h.Acked(value(seq), seq, at.Add(sent), at.Add(acked)); err != nil {
			t.Fatal(err)
		}
	}
	ms := time.Millisecond
	ack(0, 0, 900*ms)        // making the connection is no pause
	ack(1, 5000*ms, 5010*ms) // nothing was outstanding before: 10 ms
	ack(2, 5005*ms, 5210*ms) // 200 ms since the last acknowledgement
	ack(3, 5006*ms, 5211*ms) // 1 ms
	r := Check(h)
	if p := r.Partitions[0].Pauses; p.Count != 3 || p.Longest != 200 || p.P50 < 10 || p.P50 > 11 || p.P99 != 200 {
		t.Fatalf("pauses %+v", p)
	}
	if p := r.Partitions[1].Pauses; p != (Summary{}) {
		t.Fatalf("pauses %+v", p)
	}
	if r.Latency.Longest != 900 {
		t.Fatalf("latency %+v", r.Latency)
	}
	// A pause that never ended counts as well.
	if got := h.gaveUp(value(3), at.Add(6000*ms), at.Add(9000*ms)); got != 3*time.Second {
		t.Fatalf("gave up after %s", got)
	}
}

func TestBoundsAreKept(t *testing.T) {
	h := NewHistory(1)
	for i := range int64(2) {
		if err := h.Sent(value(i)); err != nil {
			t.Fatal(err)
		}
	}
	h.Final(0, 0, value(0))
	for o := range int64(maxExtras + 10) {
		h.Polled(Reader{Name: "c"}, 0, o*2, value(1))
	}
	h.FinalDone(0)
	r := Check(h)
	if r.Complete() || len(r.Duplicated.Examples) != maxExamples || r.Duplicated.Count != maxExtras {
		t.Fatalf("complete %v, %d duplicated, %d examples", r.Complete(), r.Duplicated.Count, len(r.Duplicated.Examples))
	}
}

// TestCheckAgainstModel makes random logs and asks a checker so simple that it is surely right.
func TestCheckAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 20).Draw(t, "sent")
		log := rapid.SliceOfN(rapid.Int64Range(0, n-1), 0, 30).Draw(t, "log")
		acks := make([]int64, n)
		h := NewHistory(1)
		for i := range n {
			if err := h.Sent(value(i)); err != nil {
				t.Fatal(err)
			}
			acks[i] = rapid.Int64Range(-2, 30).Draw(t, "offset") // -2: no answer
			if acks[i] > -2 {
				if err := h.Acked(value(i), acks[i], time.Time{}, time.Time{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		at := map[int64][]int64{} // offsets by value
		for o, seq := range log {
			h.Final(0, int64(o), value(seq))
			at[seq] = append(at[seq], int64(o))
		}
		h.FinalDone(0)

		var lost, duplicated, reordered, misplaced int64
		highest := int64(-1)
		for o, seq := range log {
			if at[seq][0] == int64(o) {
				if seq < highest {
					reordered++
				}
				highest = max(highest, seq)
			}
		}
		by := map[int64]map[int64]bool{} // values by offset
		note := func(o, seq int64) {
			if by[o] == nil {
				by[o] = map[int64]bool{}
			}
			by[o][seq] = true
		}
		for seq := range n {
			offsets := at[seq]
			hit := acks[seq] < 0
			for _, o := range offsets {
				note(o, seq)
				hit = hit || o == acks[seq]
			}
			if acks[seq] >= 0 {
				note(acks[seq], seq)
			}
			switch {
			case len(offsets) == 0 && acks[seq] > -2:
				lost++
			case len(offsets) > 0 && !hit:
				misplaced++
			}
			duplicated += max(0, int64(len(offsets))-1)
		}
		var conflicting int64
		for _, values := range by {
			if len(values) > 1 {
				conflicting++
			}
		}
		r := Check(h)
		got := []int64{r.Lost.Count, r.Duplicated.Count, r.Reordered.Count, r.Misplaced.Count, r.Conflicting.Count}
		want := []int64{lost, duplicated, reordered, misplaced, conflicting}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("lost, duplicated, reordered, misplaced, conflicting: %v, want %v", got, want)
		}
	})
}

func TestDurations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "d"))
		i := bucket(d)
		if d < floor(i) || d >= floor(i+1) {
			t.Fatalf("%s is in bucket %d, from %s to %s", d, i, floor(i), floor(i+1))
		}
		if w := floor(i+1) - floor(i); d > 16*time.Microsecond && w > d/16+time.Microsecond {
			t.Fatalf("bucket %d is %s wide at %s", i, w, d)
		}
	})
}

func TestReportJSON(t *testing.T) {
	r := Check(story{n: 3, log: []int64{0, 2, 1}, polls: []int64{0}}.history(t))
	r.Topic, r.Seconds = "packages", 1.5
	r.Pauses = Summary{Count: 3, P50: 0.5, P99: 1, Longest: 2}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", append(b, '\n'))
	golden(t, "report.txt", []byte(r.String()))
}

package verify

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// txnStory is a history of two topics of one partition each, which went well: producer 1 commits transactions
// 0 and 1 with two records in "in" and one in "out" each, aborts transaction 2, and of 3 no answer came. Producer 9
// consumes "in" and writes to "out" in transactions 4 and 5. A consumer and the final read see all
// that is there. Each hook plants one thing that did not go well.
type txnStory struct {
	logs   func(in, out []Value) ([]Value, []Value) // what the topics hold at the end
	views  func(in, out []Value) ([]Value, []Value) // what the consumer was given; nil: what they hold
	open   bool                                     // the consumer has not read to the end
	group  int64                                    // committed at the end; 0: what was consumed
	twice  bool                                     // transaction 5 consumed what 4 had
	late   bool                                     // the consumer reads before the client knows how transactions ended
	unread bool                                     // the final read does not get to the end of "out"
	silent bool                                     // the commit of transaction 5 has no answer
}

func in(seq int64) Value        { return Value{1, 0, seq} }
func out(seq int64) Value       { return Value{1, 0, seq} }
func processed(seq int64) Value { return Value{9, 0, seq} }

func (s txnStory) history(t interface{ Fatal(...any) }) *TxnHistory {
	h := NewTxnHistory(TxnTopic{"in", 1}, TxnTopic{"out", 1})
	h.Grouped = true
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	inLog := []Value{in(0), in(1), in(2), in(3)}
	outLog := []Value{out(0), out(1), processed(0), processed(1), processed(2), processed(3)}
	if s.logs != nil {
		inLog, outLog = s.logs(inLog, outLog)
	}
	at := func(log []Value, v Value) int64 {
		for o, x := range log {
			if x == v {
				return int64(o)
			}
		}
		return -1
	}
	reads := func() {
		inView, outView := inLog, outLog
		if s.views != nil {
			inView, outView = s.views(inLog, outLog)
		}
		for _, v := range inView {
			h.Polled(Reader{Name: "c"}, 0, 0, at(inLog, v), v)
		}
		for _, v := range outView {
			h.Polled(Reader{Name: "c"}, 1, 0, at(outLog, v), v)
		}
		if !s.open {
			h.Read("c", 0, 0)
			h.Read("c", 1, 0)
		}
	}
	for n := range int64(4) {
		if h.Begin(1) != n {
			t.Fatal("numbers of transactions")
		}
		check(h.Wrote(n, 0, in(2*n)))
		check(h.Wrote(n, 0, in(2*n+1)))
		check(h.Wrote(n, 1, out(n)))
	}
	for n := range int64(2) {
		h.Begin(9)
		from := 2 * n
		if s.twice {
			from = 0
		}
		for i := range int64(2) {
			h.Consumed(4+n, in(from+i))
			check(h.Wrote(4+n, 1, processed(2*n+i)))
		}
	}
	if s.late {
		reads()
	}
	for _, n := range []int64{0, 1, 4, 5} {
		if n < 5 || !s.silent {
			check(h.Committed(n, nil, time.Time{}, time.Time{}))
		}
	}
	check(h.Aborted(2))
	if !s.late {
		reads()
	}
	for o, v := range inLog {
		h.Topic(0).Final(0, int64(o), v)
	}
	h.Topic(0).FinalDone(0)
	for o, v := range outLog {
		h.Topic(1).Final(0, int64(o), v)
	}
	if !s.unread {
		h.Topic(1).FinalDone(0)
	}
	if s.group == 0 {
		s.group = int64(len(inLog))
	}
	h.GroupOffset(0, s.group)
	return h
}

// without drops a value.
func without(log []Value, v Value) (kept []Value) {
	for _, x := range log {
		if x != v {
			kept = append(kept, x)
		}
	}
	return kept
}

func wrongTxns(r TxnReport) string {
	var found []string
	for _, a := range r.Anomalies() {
		if a.Count > 0 {
			found = append(found, fmt.Sprintf("%s %d", a.Name, a.Count))
		}
	}
	return strings.Join(found, " ")
}

func TestCheckTxnsNamesWhatWasPlanted(t *testing.T) {
	for _, tc := range []struct {
		name  string
		story txnStory
		want  string
	}{
		{"nothing", txnStory{}, ""},
		{"nothing, known late", txnStory{late: true}, ""},
		{"one part is lost", txnStory{logs: func(in, log []Value) ([]Value, []Value) { return in, without(log, out(1)) }}, "torn 1 torn view 1 lost 1"},
		{"all of it is lost", txnStory{
			logs:  func(log, other []Value) ([]Value, []Value) { return log[:2], without(other, out(1)) },
			group: 2,
		}, "lost 3"},
		{"an aborted one was read", txnStory{logs: func(log, other []Value) ([]Value, []Value) {
			return append(log, in(4), in(5)), append(other, out(2))
		}, group: 4}, "aborted read 6"},
		{"an aborted one was read, known late", txnStory{late: true, logs: func(log, other []Value) ([]Value, []Value) {
			return append(log, in(4), in(5)), append(other, out(2))
		}, group: 4}, "aborted read 6"}, // once for each when it is known, once by the final read
		{"a part of an aborted one was read", txnStory{logs: func(log, other []Value) ([]Value, []Value) {
			return append(log, in(5)), other
		}, group: 4}, "torn 1 torn view 1 aborted read 2"},
		{"an unknown one is whole", txnStory{logs: func(log, other []Value) ([]Value, []Value) {
			return append(log, in(6), in(7)), append(other, out(3))
		}, group: 4}, ""},
		{"an unknown one is torn", txnStory{logs: func(log, other []Value) ([]Value, []Value) {
			return append(log, in(6), in(7)), other
		}, group: 4}, "torn 1 torn view 1"},
		{"an unknown one is torn within a partition", txnStory{logs: func(log, other []Value) ([]Value, []Value) {
			return append(log, in(7)), append(other, out(3))
		}, group: 4}, "torn 1 torn view 1"},
		{"a record is there twice", txnStory{logs: func(log, other []Value) ([]Value, []Value) {
			return log, append(other, out(0))
		}, views: func(log, other []Value) ([]Value, []Value) { return log, other[:6] }}, "duplicated 1"},
		{"a producer's order is not kept", txnStory{logs: func(log, other []Value) ([]Value, []Value) {
			return log, append([]Value{out(1), out(0)}, other[2:]...)
		}}, "reordered 1"},
		{"a reader was given one part and not the other", txnStory{views: func(log, other []Value) ([]Value, []Value) {
			return log, append([]Value{out(0)}, other[2:]...)
		}, open: true}, "torn view 1 skipped 1"},
		{"a reader has not got to the other part yet", txnStory{views: func(log, other []Value) ([]Value, []Value) {
			return log, other[:1]
		}, open: true}, ""},
		{"a reader read all and missed the last part", txnStory{views: func(log, other []Value) ([]Value, []Value) {
			return log, other[:5]
		}}, "torn view 1"},
		{"a reader was given nothing of it", txnStory{views: func(log, other []Value) ([]Value, []Value) {
			return log[2:], other[1:]
		}}, "hidden 1"},
		{"offsets were committed, records not", txnStory{silent: true, logs: func(log, other []Value) ([]Value, []Value) {
			return log, other[:4]
		}}, "unprocessed 2"},
		{"neither was committed", txnStory{silent: true, group: 2, logs: func(log, other []Value) ([]Value, []Value) {
			return log, other[:4]
		}}, ""},
		{"records were committed, offsets not", txnStory{group: 2}, "offset lost 2"},
		{"consumed by two", txnStory{twice: true}, "unprocessed 2 reprocessed 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := CheckTxns(tc.story.history(t))
			if got := wrongTxns(r); got != tc.want {
				t.Fatalf("found %q, want %q\n%s", got, tc.want, &r)
			}
			if r.OK() != (tc.want == "") || !r.Complete() || r.Transactions != 6 || r.Committed+r.Aborted+r.Unknown != 6 {
				t.Fatalf("ok %v, complete %v\n%s", r.OK(), r.Complete(), &r)
			}
		})
	}
}

func TestCheckTxnsObservedOffsets(t *testing.T) {
	h := txnStory{}.history(t)
	for _, o := range []int64{0, 2, 2, 4} {
		h.Observed("one", 0, o)
	}
	h.Observed("two", 0, 2)
	if r := CheckTxns(h); wrongTxns(r) != "" {
		t.Fatalf("%s", &r)
	}
	h.Observed("one", 0, 2)
	if r := CheckTxns(h); wrongTxns(r) != "offset backwards 1" || r.OffsetBackwards.Examples[0].Reader != "one" {
		t.Fatalf("%s", &r)
	}
}

func TestCheckTxnsSaysWhatItCouldNotVerify(t *testing.T) {
	s := txnStory{unread: true, open: true, logs: func(in, log []Value) ([]Value, []Value) { return in, log[:1] }}
	r := CheckTxns(s.history(t))
	// Transactions 1, 2, 3, 4 and 5 may have records where nobody looked.
	if wrongTxns(r) != "" || r.Complete() || r.Unverified != 5 || !strings.Contains(r.String(), "could not be read to the end") {
		t.Fatalf("%s", &r)
	}
	h := txnStory{}.history(t)
	delete(h.committed, 0)
	if r := CheckTxns(h); r.Complete() || r.OffsetsUnverified != 1 || wrongTxns(r) != "" {
		t.Fatalf("%s", &r)
	}
}

// TestCheckTxnsAgainstModel makes random ends of transactions, and asks a checker so simple that it is surely right.
func TestCheckTxnsAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := NewTxnHistory(TxnTopic{"a", 2}, TxnTopic{"b", 1})
		type place struct {
			topic     int
			partition int32
		}
		places := []place{{0, 0}, {0, 1}, {1, 0}}
		logs := map[place][]Value{}
		given := map[place]int{} // how much of it the reader was given
		skip := map[place]int{}  // of what it leaves out one
		next := map[place]int64{}
		type record struct {
			at   place
			v    Value
			here bool
		}
		var all [][]record
		for range rapid.IntRange(1, 6).Draw(t, "transactions") {
			n := h.Begin(1)
			var records []record
			for range rapid.IntRange(1, 4).Draw(t, "records") {
				at := rapid.SampledFrom(places).Draw(t, "place")
				v := Value{1, at.partition, next[at]}
				next[at]++
				if err := h.Wrote(n, at.topic, v); err != nil {
					t.Fatal(err)
				}
				here := rapid.IntRange(0, 3).Draw(t, "there") > 0
				if here {
					logs[at] = append(logs[at], v)
				}
				records = append(records, record{at, v, here})
			}
			all = append(all, records)
		}
		for _, at := range places {
			for o, v := range logs[at] {
				h.Topic(at.topic).Final(at.partition, int64(o), v)
			}
			h.Topic(at.topic).FinalDone(at.partition)
			given[at] = rapid.IntRange(0, len(logs[at])).Draw(t, "given")
			skip[at] = rapid.IntRange(-1, max(0, len(logs[at])-1)).Draw(t, "skipped")
			for o := range given[at] {
				if o != skip[at] {
					h.Polled(Reader{Name: "c"}, at.topic, at.partition, int64(o), logs[at][o])
				}
			}
		}
		var torn, tornView, hidden int64
		for _, records := range all {
			here, seen, missed := 0, 0, 0
			for _, x := range records {
				if !x.here {
					continue
				}
				here++
				last := -1
				was := false
				for o := range given[x.at] {
					if o == skip[x.at] {
						continue
					}
					last = o
					was = was || logs[x.at][o] == x.v
				}
				at := -1
				for o, v := range logs[x.at] {
					if v == x.v {
						at = o
					}
				}
				switch {
				case was:
					seen++
				case last > at:
					missed++
				}
			}
			if here > 0 && here < len(records) {
				torn++
			}
			switch {
			case missed > 0 && seen > 0:
				tornView++
			case missed > 0:
				hidden++
			}
		}
		r := CheckTxns(h)
		if r.Torn.Count != torn || r.TornView.Count != tornView || r.Hidden.Count != hidden {
			t.Fatalf("torn %d, torn view %d, hidden %d; want %d, %d, %d", r.Torn.Count, r.TornView.Count, r.Hidden.Count, torn, tornView, hidden)
		}
	})
}

func TestTxnReportJSON(t *testing.T) {
	r := CheckTxns(txnStory{logs: func(log, other []Value) ([]Value, []Value) {
		return append(log, in(6), in(7)), other
	}, group: 3}.history(t))
	r.Seconds = 1.5
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "txnreport.json", append(b, '\n'))
	golden(t, "txnreport.txt", []byte(r.String()))
}

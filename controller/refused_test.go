package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// written is a record of a test: nil keys, old times and sizes are what topics refuse.
type written struct {
	name  string
	plain bool // without a key
	old   bool
	size  int
}

func (w written) record() batch.Record {
	r := batch.Record{Timestamp: time.Now().UnixMilli(), Key: []byte("k"), Value: []byte(w.name + "-" + strings.Repeat("x", w.size))}
	if w.plain {
		r.Key = nil
	}
	if w.old {
		r.Timestamp = time.Now().Add(-24 * time.Hour).UnixMilli()
	}
	return r
}

// strandBatches lets the cluster hold batches of a producer without an id that nobody knows of.
func (l *lostAndBack) strandBatches(cluster string, batches [][]written) {
	l.t.Helper()
	h := &doubleHandle{d: l.doubles[cluster], topic: topicOf(chain.OpenSpan(l.chain(l.topic, 0)))}
	for _, list := range batches {
		nb := batch.NewBuilder()
		for _, w := range list {
			nb.Add(w.record())
		}
		b, err := nb.Build()
		l.check(err)
		l.doubles[cluster].set(func() {
			if _, err := h.append(b); err != nil {
				l.t.Error(err)
			}
		})
	}
}

// asKafka refuses batches as a topic with these configs does: whole, in the order of Kafka's checks.
func asKafka(most int, keys bool, after time.Time) func(h batch.Header, b []byte, landed bool) error {
	return func(_ batch.Header, b []byte, landed bool) error {
		if landed {
			return nil
		}
		for r, err := range batch.Records(b, 1<<20) {
			switch {
			case err != nil:
				return err
			case keys && r.Key == nil:
				return &span.RejectedError{Code: wire.InvalidRecord}
			case r.Timestamp < after.UnixMilli():
				return &span.RejectedError{Code: wire.InvalidTimestamp}
			}
		}
		if most > 0 && len(b) > most {
			return &span.RejectedError{Code: wire.MessageTooLarge}
		}
		return nil
	}
}

// What a topic refuses by now, since it was configured anew while the cluster was away, does not hold the return, nor the
// topic, for ever: the rest is appended anew, once, also where its controller or an answer is lost in between.
func TestReturnOfWhatItsTopicRefuses(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	row := func(n int, w written) (out []written) {
		for i := range n {
			w := w
			w.name = fmt.Sprintf("%s%d", w.name, i)
			out = append(out, w)
		}
		return out
	}
	large, plain, keyed, old := written{name: "large", size: 900}, written{name: "plain", plain: true}, written{name: "keyed", size: 100}, written{name: "old", old: true}
	for _, tc := range []struct {
		name    string
		batches [][]written
		most    int
		keys    bool
		after   time.Duration
		anew    []string // appended anew, in order, with what is stranded by loses between those that nobody refuses
		inPlace []string
		left    []string
		stamped int64
		verdict catalog.Verdict
	}{
		{name: "batches too large", batches: [][]written{row(5, keyed)}, most: 300, anew: []string{"keyed0", "keyed1", "keyed2", "keyed3", "keyed4"},
			verdict: catalog.VerdictVerified},
		{name: "records too large", batches: [][]written{row(2, large), {keyed}}, most: 500, anew: []string{"keyed"}, inPlace: []string{"large0", "large1"},
			verdict: catalog.VerdictVerified},
		{name: "no keys", batches: [][]written{{keyed, plain, keyed}, row(2, plain), {keyed}}, keys: true, anew: []string{"keyed", "keyed", "keyed"},
			inPlace: []string{"plain0", "plain1"}, left: []string{"plain"}, verdict: catalog.VerdictUnverified},
		{name: "too old", batches: [][]written{row(3, old), {keyed, old}}, after: hour, anew: []string{"old0", "old1", "old2", "keyed", "old"}, stamped: 5,
			verdict: catalog.VerdictVerified},
		{name: "all of that", batches: [][]written{{old, plain, large, keyed}, {large}, {old}}, most: 500, keys: true, after: hour, anew: []string{"old", "keyed", "old"},
			inPlace: []string{"large"}, left: []string{"plain", "large"}, stamped: 3, verdict: catalog.VerdictUnverified},
	} {
		for _, trouble := range []string{"", "an answer is lost", "a later answer is lost", FaultReplayed} {
			if trouble != "" && tc.name != "all of that" {
				continue
			}
			t.Run(tc.name+" "+trouble, func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, "a", "b")
				change, died := dies(FaultReplayed)
				if trouble != FaultReplayed {
					change = func(*Options) {}
				}
				f.controller(change)
				l := f.loses(strandedReplay)
				l.strandBatches("a", tc.batches)
				f.gateway(1, l.w)
				after := time.Time{}
				if tc.after > 0 {
					after = time.Now().Add(-tc.after)
				}
				refuses := asKafka(tc.most, tc.keys, after)
				own, lost := 0, map[string]int{"an answer is lost": 4, "a later answer is lost": 5}[trouble]
				f.doubles["b"].set(func() {
					f.doubles["b"].answers = func(h batch.Header, b []byte, landed bool) error {
						if landed && h.HasProducer() && h.ProducerID != l.w.producer {
							if own++; own == lost {
								return span.ErrUnknownOutcome
							}
						}
						return refuses(h, b, landed)
					}
				})
				l.away()
				f.doubles["a"].set(func() { f.doubles["a"].away = false })
				if trouble == FaultReplayed {
					f.await(died)
					f.controller()
				}
				cert := l.of(catalog.OpReturn, isFinal)
				p := cert.Partitions[0]
				text := strings.Join(p.Checked, "\n")
				if p.Verdict != tc.verdict || p.Replayed != int64(3+len(tc.anew)) || p.Lost+p.Duplicated != 0 {
					t.Errorf("%+v", p)
				}
				if n := len(tc.inPlace) + len(tc.left); n > 0 != strings.Contains(text, fmt.Sprintf("%d stranded records were not appended anew: their topic refuses them", n)) {
					t.Errorf("%d were refused: %s", n, text)
				}
				if tc.stamped > 0 != strings.Contains(text, fmt.Sprintf("up to %d stranded records were appended anew with the time of that", tc.stamped)) {
					t.Errorf("%d were stamped: %s", tc.stamped, text)
				}
				if got := named(p.Ranges, "left out"); got != int64(len(tc.left)) {
					t.Errorf("%d are said to be left out: %+v", got, p.Ranges)
				}
				if got := named(p.Ranges, "stranded"); got != int64(len(tc.inPlace)) {
					t.Errorf("%d are said to be in place: %+v", got, p.Ranges)
				}
				l.compare(tc.inPlace, tc.anew)
			})
		}
	}
}

func named(list []catalog.Range, what string) (n int64) {
	for _, r := range list {
		if r.What == what {
			n += r.To - r.From
		}
	}
	return n
}

// compare looks at what a client reads besides what the writer wrote: what stayed, then what was appended anew.
func (l *lostAndBack) compare(inPlace, anew []string) {
	l.t.Helper()
	l.until("the topic is free", func() bool { return l.isBack("a") })
	have := l.records(l.topic, 0)
	open := chain.OpenSpan(l.chain(l.topic, 0)).Start
	var stays, went []string
	at := make([]int64, 0, len(have))
	for o := range have {
		at = append(at, o)
	}
	slices.Sort(at)
	for _, o := range at {
		name := have[o][:strings.IndexByte(have[o], '-')]
		switch {
		case name == "v":
		case o < open:
			stays = append(stays, name)
		default:
			went = append(went, name)
		}
	}
	if want := append([]string{"lonely", "lonely", "lonely"}, anew...); !slices.Equal(went, want) || !slices.Equal(stays, inPlace) {
		l.t.Errorf("in place %q, want %q; anew %q, want %q", stays, inPlace, went, want)
	}
	for o, v := range l.w.acked {
		if have[o] != v {
			l.t.Errorf("acknowledged %q at %d, read %q", v, o, have[o])
		}
	}
}

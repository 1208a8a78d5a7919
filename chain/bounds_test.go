package chain

import (
	"log/slog"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
)

// Doubts past the bound are not dropped: the lowest offset in doubt is that of any of them, until
// none can come again.
func TestDoubtsPastTheBound(t *testing.T) {
	m := Doubts{}
	for id := range int64(maxDoubts) {
		if !m.Note(id, Doubt{Floor: 1000 + id, At: 10}) {
			t.Fatalf("no room for producer %d", id)
		}
	}
	if m.Note(maxDoubts, Doubt{Floor: 500, At: 20}) || m.Note(maxDoubts+1, Doubt{Floor: 700, At: 30}) {
		t.Fatal("there is room past the bound")
	}
	if len(m) > maxDoubts+1 {
		t.Errorf("%d doubts", len(m))
	}
	if low := m.Lowest(30); low != 500 {
		t.Errorf("the lowest doubt is %d", low)
	}
	m.Resolve(maxDoubts, 0, 0)
	if low := m.Lowest(30); low != 500 {
		t.Errorf("the lowest doubt is %d after one of those without a name was resolved", low)
	}
	if low := m.Lowest(30 + retryWindow); low != 500 {
		t.Errorf("the lowest doubt is %d while one without a name may still come again", low)
	}
	if low := m.Lowest(31 + retryWindow); low != -1 {
		t.Errorf("the lowest doubt is %d when nobody comes again", low)
	}
}

// Where more producers had batches sent back than there is room for, batches of any other wait unless
// they are for certain the next: one that was sent back may have to come before.
func TestExpectationsPastTheBound(t *testing.T) {
	p := &Partition{l: &Logs{metrics: NewMetrics(nil), log: slog.New(slog.DiscardHandler), holdTime: time.Hour}}
	flightOf := func(producer int64, first int32) *flight {
		return &flight{producer: producer, first: first, last: first}
	}
	for id := range int64(maxExpected) {
		p.expectAgain(flightOf(id, 5))
	}
	other := flightOf(maxExpected, 7)
	if p.tooEarly(other, nil) {
		t.Fatal("a producer that nothing is expected of is early before the bound")
	}
	p.expectAgain(flightOf(maxExpected, 6))
	if len(p.expect) > maxExpected {
		t.Errorf("%d expectations", len(p.expect))
	}
	known := &ProducerState{ID: maxExpected, LastSequence: 6, Jump: true}
	fresh := &ProducerState{ID: maxExpected, LastSequence: batch.NoSequence}
	for _, tc := range []struct {
		name  string
		f     *flight
		state *ProducerState
		early bool
	}{
		{"behind the one without room", other, nil, true},
		{"the first of its producer", flightOf(maxExpected, 0), nil, false},
		{"the next of its producer", other, known, false},
		{"a jump", flightOf(maxExpected, 9), known, true},
		{"the first of its epoch", flightOf(maxExpected, 0), fresh, false},
		{"the one awaited", flightOf(3, 5), nil, false},
	} {
		if got := p.tooEarly(tc.f, tc.state); got != tc.early {
			t.Errorf("%s: early %v", tc.name, got)
		}
	}
	until := p.expectFull
	p.expectAgain(other)
	if p.expectFull != until {
		t.Error("a batch that was sent back for it prolongs the time")
	}
	p.expectFull = time.Now()
	if p.tooEarly(other, nil) {
		t.Error("still early when the time is over")
	}
}

// A batch that is sent back again and again is awaited from the last time on; one behind it, that
// goes back for the lack of it, does not prolong that.
func TestExpectationIsRenewed(t *testing.T) {
	p := &Partition{l: &Logs{metrics: NewMetrics(nil), log: slog.New(slog.DiscardHandler), holdTime: time.Hour}}
	awaited, behind := &flight{producer: 7, first: 3, last: 3}, &flight{producer: 7, first: 4, last: 4}
	p.expectAgain(awaited)
	sooner := time.Now().Add(30 * time.Minute)
	p.expect[7] = expectation{first: 3, until: sooner}
	p.expectAgain(behind)
	if e := p.expect[7]; e.first != 3 || e.until != sooner {
		t.Errorf("a later batch made it %+v", e)
	}
	p.expectAgain(awaited)
	if e := p.expect[7]; e.first != 3 || !e.until.After(sooner) {
		t.Errorf("the batch itself left it at %+v", e)
	}
	if !p.missesOne(behind) || p.missesOne(awaited) {
		t.Error("the one behind misses one, and the one that is awaited does not")
	}
}

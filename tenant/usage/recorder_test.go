package usage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/catalog"
)

var errLost = errors.New("no answer")

// store is a catalog whose answers may be lost, whose writes may land late, and in which
// somebody folds.
type store struct {
	revision int64
	readings map[string]catalog.Reading // by hour and writer
	folded   Counts
	late     []catalog.Reading // on their way

	lose, delay bool
}

func (s *store) put(r catalog.Reading) (int64, error) {
	key := r.Hour + r.Writer
	have, ok := s.readings[key]
	switch {
	case r.Revision == 0 && ok:
		return 0, catalog.ErrExists
	case r.Revision != 0 && !ok:
		return 0, catalog.ErrNotFound
	case r.Revision != have.Revision:
		return 0, catalog.ErrConflict
	}
	s.revision++
	r.Revision = s.revision
	s.readings[key] = r
	return r.Revision, nil
}

func (s *store) PutReading(_ context.Context, r catalog.Reading, _ catalog.Fence) (int64, error) {
	if s.delay {
		s.late = append(s.late, r)
		return 0, errLost
	}
	rev, err := s.put(r)
	if s.lose {
		return 0, errLost
	}
	return rev, err
}

func (s *store) Reading(_ context.Context, hour, writer string) (catalog.Reading, error) {
	if s.lose || s.delay {
		return catalog.Reading{}, errLost
	}
	r, ok := s.readings[hour+writer]
	if !ok {
		return r, catalog.ErrNotFound
	}
	return r, nil
}

func (s *store) land() {
	for _, r := range s.late {
		_, _ = s.put(r) // refused or not, nobody hears of it
	}
	s.late = nil
}

// fold is what the leading controller does with hours that are over for long.
func (s *store) fold(now time.Time) {
	for key, r := range s.readings {
		if now.Sub(hourEnd(r.Hour)) > FoldAfter {
			s.folded = s.folded.Add(r.Tenants["acme"])
			delete(s.readings, key)
		}
	}
	// No write is on its way for as long as that.
	s.late = slices.DeleteFunc(s.late, func(r catalog.Reading) bool { return now.Sub(hourEnd(r.Hour)) > FoldAfter })
}

func (s *store) total() Counts {
	total := s.folded
	for _, r := range s.readings {
		total = total.Add(r.Tenants["acme"])
	}
	return total
}

// Whatever answers are lost, however late writes land and whoever folds: never is more
// written down than was counted, and once the catalog answers and nothing was folded in doubt,
// all of it is.
func TestNothingIsCountedTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &store{readings: map[string]catalog.Reading{}}
		var counted Counts
		r := &Recorder{Store: s, Writer: "1-x", Logger: slog.New(slog.DiscardHandler), Counts: func(time.Time) map[string]Counts {
			return map[string]Counts{"acme": counted}
		}}
		now := time.Date(2026, 1, 2, 3, 58, 0, 0, time.UTC)
		latest := now
		folds := rapid.Bool().Draw(t, "folds")
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"count", "flush", "lose", "delay", "heal", "land", "time", "back", "fold"}).Draw(t, "step") {
			case "count":
				counted.Received += rapid.Int64Range(1, 1000).Draw(t, "bytes")
				counted.Requests++
			case "flush":
				_ = r.Flush(t.Context(), now) // its failures are the test
			case "lose":
				s.lose = true
			case "delay":
				s.delay = true
			case "heal":
				s.lose, s.delay = false, false
			case "land":
				s.land()
			case "time":
				now = latest.Add(time.Duration(rapid.IntRange(1, 50).Draw(t, "minutes")) * time.Minute)
				latest = now
			case "back":
				// Clocks are apart by less than what settle leaves between an hour's end and its fold.
				now = latest.Add(-time.Duration(rapid.IntRange(0, 7).Draw(t, "minutes")) * time.Minute)
			case "fold":
				if folds {
					s.fold(now)
				}
			}
			if got := s.total(); got.Received > counted.Received || got.Requests > counted.Requests {
				t.Fatalf("%+v is written down of %+v", got, counted)
			}
		}
		s.lose, s.delay = false, false
		for range 3 {
			_ = r.Flush(t.Context(), now) // the first may find out what became of an earlier one
			s.land()
		}
		got := s.total()
		if got.Received > counted.Received {
			t.Fatalf("%+v is written down of %+v", got, counted)
		}
		if !folds && latest.Sub(time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)) < FoldAfter/2 && got != counted {
			t.Fatalf("%+v is written down of %+v", got, counted)
		}
	})
}

// A run that is killed loses what it counted since its last flush; the next one goes on
// beside it.
func TestCountsSurviveRestarts(t *testing.T) {
	t.Parallel()
	s := &store{readings: map[string]catalog.Reading{}}
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	for _, writer := range []string{"1-a", "1-b", "1-c"} {
		counted := Counts{}
		r := &Recorder{Store: s, Writer: writer, Logger: slog.New(slog.DiscardHandler), Counts: func(time.Time) map[string]Counts { return map[string]Counts{"acme": counted} }}
		counted.Received = 100
		if err := r.Flush(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		counted.Received = 150
		if err := r.Flush(t.Context(), now.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		counted.Received = 155 // and the run is killed
	}
	if got := s.total(); got.Received != 450 {
		t.Errorf("%+v", got)
	}
}

func TestAccountsCountConnections(t *testing.T) {
	t.Parallel()
	var l Ledger
	a := l.Account("acme")
	if a != l.Account("acme") || l.Find("acme") != a || l.Find("globex") != nil {
		t.Error("accounts are not kept")
	}
	for i, want := range []bool{true, true, false} {
		if got := a.Open(2); got != want {
			t.Errorf("connection %d of two: %v", i+1, got)
		}
	}
	if n := a.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
	a.Received(10)
	a.Sent(20)
	a.Request()
	later := time.Now().Add(time.Hour)
	c := a.Counts(later)
	if c.Received != 10 || c.Sent != 20 || c.Requests != 1 || c.Connections != 2 || c.ConnectionSeconds < 7190 || c.ConnectionSeconds > 7210 {
		t.Errorf("%+v", c)
	}
	a.Close()
	if a.Connections() != 1 {
		t.Error("a connection that ended counts")
	}
	var nobody *Account
	nobody.Received(1)
	nobody.Sent(1)
	nobody.Request()
	nobody.Close()
	if !nobody.Open(0) {
		t.Error("nobody's connection is refused")
	}
}

// Time that stands still, or goes back, takes nothing away.
func TestHoldings(t *testing.T) {
	t.Parallel()
	h := &Holdings{}
	at := time.Now()
	h.Set("acme", 4, 1000, at)
	h.Set("acme", 6, 2000, at.Add(10*time.Second))
	h.Set("acme", 6, 2000, at.Add(5*time.Second))
	got := h.Counts(at.Add(20 * time.Second))["acme"]
	if got.PartitionSeconds != 4*10+6*10 || got.ByteSeconds != 10_000+20_000 {
		t.Errorf("%+v", got)
	}
}

// A clock that steps back over the end of an hour, once or over and over, neither stalls the
// recorder nor loses anything.
func TestClocksThatStepBack(t *testing.T) {
	t.Parallel()
	before, after := time.Date(2026, 1, 2, 3, 59, 59, 0, time.UTC), time.Date(2026, 1, 2, 4, 0, 1, 0, time.UTC)
	s := &store{readings: map[string]catalog.Reading{}}
	var counted Counts
	r := &Recorder{Store: s, Writer: "1-x", Logger: slog.New(slog.DiscardHandler), Counts: func(time.Time) map[string]Counts {
		return map[string]Counts{"acme": counted}
	}}
	for i, at := range []time.Time{before, after, before, before, after, before} {
		counted.Received += 100
		if err := r.Flush(t.Context(), at); err != nil {
			t.Fatalf("flush %d: %v", i, err)
		}
		if got := s.total(); got != counted {
			t.Fatalf("flush %d: %+v is written down of %+v", i, got, counted)
		}
	}
	// The answer to the first write of an hour is lost, and the clock steps back.
	s.lose = true
	counted.Received += 100
	if err := r.Flush(t.Context(), after.Add(time.Hour)); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	s.lose = false
	counted.Received += 100
	if err := r.Flush(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if got := s.total(); got != counted {
		t.Errorf("%+v is written down of %+v", got, counted)
	}
}

// A write that was refused cannot land later: it is not among those whose outcome is open.
func TestRefusedWritesAreNotOpen(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	s := &store{readings: map[string]catalog.Reading{}}
	var counted Counts
	r := &Recorder{Store: s, Writer: "1-x", Logger: slog.New(slog.DiscardHandler), Counts: func(time.Time) map[string]Counts {
		return map[string]Counts{"acme": counted}
	}}
	s.readings[now.Format(catalog.HourLayout)+fmt.Sprintf("%s.%d", r.Writer, partOf("acme"))] = catalog.Reading{Revision: 7}
	for range 3 {
		counted.Received += 100
		if err := r.Flush(t.Context(), now); !errors.Is(err, catalog.ErrExists) {
			t.Fatal(err)
		}
	}
	if open := r.parts[partOf("acme")].tried; len(open) != 0 {
		t.Errorf("%d writes are taken for open", len(open))
	}
	if err := r.Flush(t.Context(), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := s.total(); got != counted {
		t.Errorf("%+v is written down of %+v", got, counted)
	}
}

package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// manyTenants is what thousands of tenants used who have been here for long: names as long as they may be, and counts of many digits.
func manyTenants(n int) map[string]Counts {
	out := map[string]Counts{}
	for i := range n {
		name := fmt.Sprintf("tenant-%d-", i)
		out[name+strings.Repeat("x", 63-len(name))] = Counts{Received: math.MaxInt64 - int64(i), Sent: math.MaxInt64, Requests: 1 << 50, Connections: 1 << 40,
			ConnectionSeconds: 123456789.123456, PartitionSeconds: 123456789.123456, ByteSeconds: 1.2345678901234567e+20}
	}
	return out
}

// Thousands of tenants are written in values that the catalog takes, and all of them.
func TestManyTenants(t *testing.T) {
	t.Parallel()
	const n = 20_000
	counts := manyTenants(n)
	s := &store{readings: map[string]catalog.Reading{}}
	r := &Recorder{Store: s, Writer: "1-x", Logger: slog.New(slog.DiscardHandler), Counts: func(time.Time) map[string]Counts { return counts }}
	if err := r.Flush(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	written := 0
	for _, x := range s.readings {
		text, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 1<<20 {
			t.Errorf("the reading of %s has %d bytes", x.Writer, len(text))
		}
		for tenant, u := range x.Tenants {
			if u != counts[tenant] {
				t.Fatalf("%s: %+v, want %+v", tenant, u, counts[tenant])
			}
			written++
		}
	}
	if written != n {
		t.Errorf("%d of %d tenants are written", written, n)
	}
	// What did not change costs nothing, what did one of the values.
	before := s.revision
	if err := r.Flush(t.Context(), time.Now()); err != nil || s.revision != before {
		t.Errorf("%d more writes, %v", s.revision-before, err)
	}
	counts = manyTenants(n)
	counts["one-more"] = Counts{Requests: 1}
	if err := r.Flush(t.Context(), time.Now()); err != nil || s.revision != before+1 {
		t.Errorf("%d more writes, %v", s.revision-before, err)
	}
}

// refusing takes no value of one writer.
type refusing struct {
	*store
	writer string
}

func (s refusing) PutReading(ctx context.Context, r catalog.Reading, f catalog.Fence) (int64, error) {
	if r.Writer == s.writer {
		return 0, errLost
	}
	return s.store.PutReading(ctx, r, f)
}

// A part that cannot be written keeps no other from being written.
func TestPartsTakeTurns(t *testing.T) {
	t.Parallel()
	counts := manyTenants(200)
	stuck := partOf("acme")
	counts["acme"] = Counts{Requests: 1}
	s := &store{readings: map[string]catalog.Reading{}}
	r := &Recorder{Store: refusing{s, fmt.Sprintf("1-x.%d", stuck)}, Writer: "1-x", Logger: slog.New(slog.DiscardHandler), Counts: func(time.Time) map[string]Counts { return counts }}
	for range 2 {
		if err := r.Flush(t.Context(), time.Now()); !errors.Is(err, errLost) {
			t.Fatal(err)
		}
	}
	if len(s.readings) != parts-1 {
		t.Errorf("%d of %d parts are written", len(s.readings), parts-1)
	}
}

// BenchmarkFlush5000 is what 5,000 tenants cost that all used something since the last time.
func BenchmarkFlush5000(b *testing.B) {
	counts := manyTenants(5000)
	s := encoding{&store{readings: map[string]catalog.Reading{}}, b}
	r := &Recorder{Store: s, Writer: "1-x", Logger: slog.New(slog.DiscardHandler)}
	now := time.Now()
	for i := int64(0); b.Loop(); i++ {
		next := make(map[string]Counts, len(counts))
		for tenant, c := range counts {
			c.Requests += i
			next[tenant] = c
		}
		r.Counts = func(time.Time) map[string]Counts { return next }
		if err := r.Flush(b.Context(), now); err != nil {
			b.Fatal(err)
		}
	}
}

// encoding encodes what is written, as a catalog does.
type encoding struct {
	*store
	b *testing.B
}

func (s encoding) PutReading(ctx context.Context, r catalog.Reading, f catalog.Fence) (int64, error) {
	text, err := json.Marshal(r)
	if err != nil || len(text) > 1<<20 {
		s.b.Fatal(len(text), err)
	}
	return s.store.PutReading(ctx, r, f)
}

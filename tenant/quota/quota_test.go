package quota

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/catalog"
)

func name(s string) *string { return &s }

func entity(user, client *string, has string) []catalog.EntityPart {
	var out []catalog.EntityPart
	if strings.Contains(has, "u") {
		out = append(out, catalog.EntityPart{Type: UserEntity, Name: user})
	}
	if strings.Contains(has, "c") {
		out = append(out, catalog.EntityPart{Type: ClientIDEntity, Name: client})
	}
	return out
}

// Quotas are looked for from the most specific to the least, KIP-55's order.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	order := []struct {
		entity []catalog.EntityPart
		of     share
	}{
		{entity(name("ann"), name("app"), "uc"), share{"ann", "app"}},
		{entity(name("ann"), nil, "uc"), share{"ann", "app"}},
		{entity(name("ann"), nil, "u"), share{"ann", ""}},
		{entity(nil, name("app"), "uc"), share{"ann", "app"}},
		{entity(nil, nil, "uc"), share{"ann", "app"}},
		{entity(nil, nil, "u"), share{"ann", ""}},
		{entity(nil, name("app"), "c"), share{"", "app"}},
		{entity(nil, nil, "c"), share{"", "app"}},
	}
	for from := range order {
		var quotas []*catalog.ClientQuota
		for i := from; i < len(order); i++ {
			quotas = append(quotas, &catalog.ClientQuota{Entity: order[i].entity, Values: map[string]float64{ProducerByteRate: float64(i + 1)}})
		}
		table := Compile(quotas)
		limit, of := table.find(produce, "ann", "app")
		if limit != float64(from+1) || of != order[from].of {
			t.Errorf("from %s on: %v for %v", Text(order[from].entity), limit, of)
		}
		if limit, _ := table.find(consume, "ann", "app"); limit != 0 {
			t.Errorf("a limit of %v for consumers", limit)
		}
	}
	if Compile(nil) != nil {
		t.Error("a table of nothing")
	}
	only := Compile([]*catalog.ClientQuota{{Entity: entity(name("bob"), nil, "u"), Values: map[string]float64{ProducerByteRate: 1}}})
	if c := only.Client(&Meters{}, "ann", "app", 1); c != nil {
		t.Errorf("%+v for somebody else", c)
	}
	if wait := (*Client)(nil).Produced(1<<30, 1); wait != 0 {
		t.Errorf("%d ms without a quota", wait)
	}
}

// The figures are those that Kafka's Rate and QuotaUtils give for the same records.
func TestThrottleTimes(t *testing.T) {
	t.Parallel()
	r := Rate{}
	r.Record(11_000, 0)
	// 11,000 over at least 10 s is 1,100/s: 10 % over 1,000 for 10 s.
	if wait := r.Throttle(1000, 0); wait != 1000 {
		t.Errorf("%d ms, want 1000", wait)
	}
	if wait := r.Throttle(1000, 1000); wait != 0 {
		// 1 s later the window is still 10 s, as the tenth has begun.
		if rate, window := r.Measure(1000); window != 10_000 || rate != 1100 {
			t.Errorf("%v over %d ms", rate, window)
		}
	}
	if rate, _ := r.Measure(11_000); rate != 0 {
		t.Errorf("%v after the samples expired", rate)
	}
	// A burst leaves as its window does.
	r = Rate{}
	for s := int64(0); s < 10; s++ {
		r.Record(1000, s*1000)
	}
	if rate, window := r.Measure(9999); window != 10_998 && math.Abs(rate-10_000/10.998) > 1 {
		t.Errorf("%v over %d ms", rate, window)
	}
	r.Record(-1000, 9999)
	if rate, _ := r.Measure(9999); rate > 1000 {
		t.Errorf("%v after some was taken back", rate)
	}
}

func TestARateIsWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var r Rate
		now, total := int64(1), 0.0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 3000).Draw(t, "pause")
			v := rapid.Float64Range(0, 1e6).Draw(t, "value")
			r.Record(v, now)
			total += v
			rate, window := r.Measure(now)
			if window < (Samples-1)*WindowMillis || window > (Samples+4)*WindowMillis {
				t.Fatalf("a window of %d ms", window)
			}
			if rate*float64(window)/1000 > total+1e-3 {
				t.Fatalf("%v by the second of %v in all", rate, total)
			}
			// What was used is forgotten once its window is.
			later := r
			if wait := later.Throttle(1, now+(Samples+1)*WindowMillis); wait != 0 {
				t.Fatalf("%d ms to wait, long after", wait)
			}
		}
	})
}

// KIP-599: a burst of as much as fits is let through, and then the bucket has to fill.
func TestMutations(t *testing.T) {
	t.Parallel()
	table := Compile([]*catalog.ClientQuota{{Entity: entity(nil, nil, "u"), Values: map[string]float64{ControllerMutationRate: 5}}})
	c := table.Client(&Meters{}, "ann", "", 1)
	if wait, refused := c.Mutate(70, true, 1); wait != 0 || refused {
		t.Fatalf("the first: %d ms, refused %v", wait, refused)
	}
	if wait, refused := c.Mutate(1, true, 1); wait != 3000 || !refused {
		t.Errorf("overdrawn by 15 at 5 a second: %d ms, refused %v", wait, refused)
	}
	if wait, refused := c.Mutate(5, false, 1); wait != 4000 || refused {
		t.Errorf("an old client: %d ms, refused %v", wait, refused)
	}
	if wait, refused := c.Mutate(1, true, 4001); wait != 0 || refused {
		t.Errorf("after the wait: %d ms, refused %v", wait, refused)
	}
}

func TestClientsOfOneShareCountTogether(t *testing.T) {
	t.Parallel()
	table := Compile([]*catalog.ClientQuota{{Entity: entity(name("ann"), nil, "u"), Values: map[string]float64{ProducerByteRate: 1000, RequestPercentage: 10}}})
	m := &Meters{}
	a, b := table.Client(m, "ann", "one", 1), table.Client(m, "ann", "two", 1)
	if wait := a.Produced(9000, 1); wait != 0 {
		t.Errorf("%d ms", wait)
	}
	if wait := b.Produced(2000, 1); wait != 1000 {
		t.Errorf("%d ms, want 1000", wait)
	}
	if wait := a.Worked(60e9, 1); wait != WindowMillis {
		t.Errorf("%d ms for a minute's work: the wait is at most a window", wait)
	}
	if a.FetchAtMost() < 1<<60 || a.Fetched(1<<40, 1) != 0 {
		t.Error("fetches are limited")
	}
}

func TestValidation(t *testing.T) {
	t.Parallel()
	ip := func(s string) []catalog.EntityPart { return []catalog.EntityPart{{Type: IPEntity, Name: &s}} }
	user := entity(name("ann"), nil, "u")
	for _, c := range []struct {
		name   string
		entity []catalog.EntityPart
		key    string
		value  float64
		ok     bool
	}{
		{"fine", user, ProducerByteRate, 1, true},
		{"fraction of a percentage", user, RequestPercentage, 0.5, true},
		{"zero", user, ProducerByteRate, 0, false},
		{"negative", user, ProducerByteRate, -5, false},
		{"not a number", user, RequestPercentage, math.NaN(), false},
		{"infinite", user, RequestPercentage, math.Inf(1), false},
		{"a fraction of a byte", user, ProducerByteRate, 1.5, false},
		{"too large", user, ProducerByteRate, 1e300, false},
		{"unknown", user, "producer_bytes", 1, false},
		{"connections of a user", user, ConnectionCreationRate, 1, false},
		{"connections of an address", ip("10.0.0.1"), ConnectionCreationRate, 1, true},
		{"a host's name", ip("localhost"), ConnectionCreationRate, 1, false},
		{"bytes of an address", ip("10.0.0.1"), ProducerByteRate, 1, false},
		{"nobody", nil, ProducerByteRate, 1, false},
		{"an empty user", entity(name(""), nil, "u"), ProducerByteRate, 1, false},
		{"a long user", entity(name(strings.Repeat("x", 10<<10)), nil, "u"), ProducerByteRate, 1, false},
		{"a control character", entity(name("a\nb"), nil, "u"), ProducerByteRate, 1, false},
		{"twice", append(entity(name("a"), nil, "u"), user...), ProducerByteRate, 1, false},
		{"address and user", append(ip("10.0.0.1"), user...), ConnectionCreationRate, 1, false},
		{"another type", []catalog.EntityPart{{Type: "group"}}, ProducerByteRate, 1, false},
	} {
		_, err := Change{Entity: c.entity, Values: map[string]*float64{c.key: &c.value}}.Apply(nil)
		if (err == nil) != c.ok || err != nil && (!errors.Is(err, ErrInvalid) || len(err.Error()) > 250) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	got, err := Change{Entity: user, Values: map[string]*float64{ProducerByteRate: nil}}.Apply(map[string]float64{ProducerByteRate: 1, ConsumerByteRate: 2})
	if err != nil || len(got) != 1 || got[ConsumerByteRate] != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestConnectionRates(t *testing.T) {
	t.Parallel()
	quotas := []*catalog.ClientQuota{
		{Entity: []catalog.EntityPart{{Type: IPEntity, Name: name("10.0.0.1")}}, Values: map[string]float64{ConnectionCreationRate: 3}},
		{Entity: []catalog.EntityPart{{Type: IPEntity}}, Values: map[string]float64{ConnectionCreationRate: 7}},
	}
	table := Compile(quotas)
	if table.Connections("10.0.0.1") != 3 || table.Connections("10.0.0.2") != 7 || (*Table)(nil).Connections("10.0.0.2") != 0 {
		t.Error("limits of addresses")
	}
}

// Ids that clients make up take a bounded number of meters, each of a bounded size.
func TestMetersAreBounded(t *testing.T) {
	t.Parallel()
	m := &Meters{}
	for i := range maxMeters + 1000 {
		m.get(produce, share{client: strconv.Itoa(i)}, 1)
	}
	if len(m.by) > maxMeters {
		t.Errorf("%d meters", len(m.by))
	}
	m = &Meters{}
	long, other := strings.Repeat("x", 32_000), strings.Repeat("x", 31_999)+"y"
	if m.get(produce, share{client: long}, 1) != m.get(produce, share{client: long}, 2) {
		t.Error("a long id has two meters")
	}
	if m.get(produce, share{client: long}, 1) == m.get(produce, share{client: other}, 2) {
		t.Error("two long ids share a meter")
	}
	for key := range m.by {
		if len(key.of.client) > longName {
			t.Errorf("a key of %d bytes", len(key.of.client))
		}
	}
}

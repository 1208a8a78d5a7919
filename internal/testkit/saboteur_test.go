package testkit_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/verify"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestVerifyNamesEachHarm is the proof that verify notices: it looks at Kafka through a saboteur.
func TestVerifyNamesEachHarm(t *testing.T) {
	c := testkit.Shared(t)
	for _, tc := range []struct {
		harm testkit.Harm
		want map[string]int64
	}{
		{"", map[string]int64{}},
		{testkit.Drop, map[string]int64{"lost": 1}},
		{testkit.Double, map[string]int64{"duplicated": 1}},
		{testkit.Swap, map[string]int64{"reordered": 1, "misplaced": 2, "conflicting": 2}},
	} {
		t.Run(string("harm "+tc.harm), func(t *testing.T) {
			s := testkit.NewSaboteur(t, c.Addrs()[0])
			topic := fmt.Sprintf("harm-%s", tc.harm)
			if tc.harm != "" {
				s.Harm(tc.harm, topic, 1)
			}
			r, err := verify.Run(t.Context(), verify.Options{
				Bootstrap: []string{s.Addr()}, Topic: topic, Partitions: 2, Rate: 4000,
				Duration: 1200 * time.Millisecond, Settle: 2 * time.Minute, Linger: 20 * time.Millisecond,
			})
			if err != nil {
				t.Fatal(err)
			}
			if tc.harm != "" {
				if d := s.Deeds(); len(d) != 1 || d[0].Harm != tc.harm || d[0].Partition != 1 || d[0].Offset < 0 {
					t.Fatalf("done: %+v", d)
				}
			}
			for _, a := range r.Anomalies() {
				want := tc.want[a.Name]
				if a.Name == "conflicting" && tc.harm == testkit.Drop {
					continue // the next batch takes the offset, unless it was the last
				}
				if a.Count != want {
					t.Errorf("%s: %d, want %d", a.Name, a.Count, want)
				}
				for _, e := range a.Examples {
					if e.Partition != 1 {
						t.Errorf("%s: %s", a.Name, e)
					}
				}
			}
			if !r.Complete() || len(r.Problems) > 0 || t.Failed() {
				t.Errorf("\n%s", &r)
			}
		})
	}
}

// A batch of one record is dropped whole: the endpoint never hears of it.
func TestSaboteurDropsASingleRecord(t *testing.T) {
	c := testkit.Shared(t)
	c.CreateTopic(t, "single", 1)
	s := testkit.NewSaboteur(t, c.Addrs()[0])
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Addr()), kgo.DefaultProduceTopic("single"), kgo.ConsumeTopics("single"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	produce := func(v string) int64 {
		r, err := cl.ProduceSync(ctx, kgo.StringRecord(v)).First()
		if err != nil {
			t.Fatal(err)
		}
		return r.Offset
	}
	if o := produce("a"); o != 0 {
		t.Fatalf("a at %d", o)
	}
	s.Harm(testkit.Drop, "", -1)
	if o := produce("b"); o != 1 {
		t.Fatalf("b at %d", o)
	}
	if d, err := s.Wait(ctx, 1); err != nil || d[0] != (testkit.Deed{Harm: testkit.Drop, Topic: "single", Partition: 0, Offset: 1}) {
		t.Fatalf("%+v %v", d, err)
	}
	if o := produce("c"); o != 1 {
		t.Fatalf("c at %d", o)
	}
	s.Harm(testkit.Double, "single", 0)
	if o := produce("d"); o != 2 {
		t.Fatalf("d at %d", o)
	}
	if o := produce("e"); o != 4 {
		t.Fatalf("e at %d", o)
	}
	var got string
	for len(got) < 5 {
		f := cl.PollFetches(ctx)
		if err := f.Err0(); err != nil {
			t.Fatal(err)
		}
		for _, r := range f.Records() {
			got += string(r.Value)
		}
	}
	if got != "acdde" {
		t.Fatalf("the log is %s", got)
	}
	m, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range m.Brokers {
		if addr := fmt.Sprintf("%s:%d", b.Host, b.Port); addr == c.Addrs()[0] {
			t.Fatalf("the client was told %s", addr)
		}
	}
}

package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// groupsDouble is where groups stand, as coordinators would tell.
type groupsDouble struct {
	mu     sync.Mutex
	at     map[string]int64 // by group, of partition 0
	silent []int32          // that do not answer
	hidden map[string]int32 // groups of such shards
	asked  int
}

func (g *groupsDouble) commit(group string, offset int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at[group] = offset
}

func (g *groupsDouble) standings(_ context.Context, topics []catalog.ID, shards []int32) map[catalog.ID]catalog.Standing {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	out := map[catalog.ID]catalog.Standing{}
	for _, id := range topics {
		s := catalog.Standing{}
		for _, n := range g.silent {
			if len(shards) == 0 || slices.Contains(shards, n) {
				s.Silent = append(s.Silent, n)
			}
		}
		for n := range int32(4) {
			if !slices.Contains(g.silent, n) && (len(shards) == 0 || slices.Contains(shards, n)) {
				s.Answered = append(s.Answered, n)
			}
		}
		for group, offset := range g.at {
			shard, hidden := g.hidden[group]
			if !slices.Contains(g.silent, shard) && (len(shards) == 0 || hidden && slices.Contains(shards, shard)) {
				s.Groups = append(s.Groups, catalog.GroupStand{Group: group, Offset: offset})
			}
		}
		out[id] = s
	}
	return out
}

func groupsText(groups []catalog.GroupSkip) string {
	var out []string
	for _, g := range groups {
		out = append(out, fmt.Sprintf("%s %s at %d [%d,%d) %d", g.Group, g.What, g.Committed, g.From, g.To, g.Records))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// A certificate names the groups that stand before what cannot be read, and, when that can be read again, those
// that went past it meanwhile. Who waited for it, or had read it, is not named then.
func TestCertificateNamesGroupsThatSkip(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		stranded string
		skipped  string
	}{
		// Three records were stranded behind offset 12: appended anew they come to everybody.
		{strandedReplay, "behind skipped at 4 [4,12) 8"},
		{strandedInPlace, "abreast skipped at 12 [12,15) 3; behind skipped at 4 [4,15) 11"},
	} {
		t.Run(tc.stranded, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			groups := &groupsDouble{at: map[string]int64{"behind": 4, "waits": 5, "abreast": 12, "late": 6}, silent: []int32{3}, hidden: map[string]int32{"late": 3}}
			f.controller(func(o *Options) {
				o.SweepEvery = 10 * time.Millisecond
				o.Standings = groups.standings
			})
			l := f.loses(tc.stranded)
			f.gateway(1, l.w)
			l.away()
			first := l.of(catalog.OpFailover, func(catalog.Certificate) bool { return true })
			if got, want := groupsText(first.Partitions[0].Groups), "behind waits at 4 [4,12) 8; waits waits at 5 [5,12) 7"; got != want {
				t.Errorf("while the cluster is away: %s, want %s", got, want)
			}
			if s := first.Standing; s == nil || !slices.Equal(s.Silent, []int32{3}) || len(s.Groups) > 0 {
				t.Errorf("shard 3 did not answer: %+v", s)
			}
			// That shard is served again.
			groups.mu.Lock()
			groups.silent = nil
			groups.mu.Unlock()
			asked := l.of(catalog.OpFailover, func(c catalog.Certificate) bool { return len(c.Standing.Silent) == 0 })
			if got := groupsText(asked.Partitions[0].Groups); !slices.Equal(asked.Standing.Late, []int32{3}) || !strings.Contains(got, "late waits at 6 [6,12) 6") {
				t.Errorf("shard 3 answers later: %s, %+v", got, asked.Standing)
			}
			next := asked.Partitions[0].Start
			groups.commit("behind", next+1)
			groups.commit("abreast", next+1)
			groups.commit("begins", next+1)
			f.until("the certificate to be postponed", func() bool {
				list, err := f.cat.Postponed(f.ctx, l.topic.ID)
				f.check(err)
				return len(list) == 1
			})
			f.doubles["a"].set(func() { f.doubles["a"].away = false })
			// From the return's commit on the group reads it; that it comes past later means nothing.
			l.of(catalog.OpReturn, func(catalog.Certificate) bool { return true })
			groups.commit("waits", next+1)
			for _, kind := range []catalog.OpKind{catalog.OpReturn, catalog.OpFailover} {
				c := l.of(kind, func(c catalog.Certificate) bool { return isFinal(c) && (kind == catalog.OpReturn || c.Return != "") })
				if got := groupsText(c.Partitions[0].Groups); got != tc.skipped {
					t.Errorf("certificate of the %s: %s, want %s", kind, got, tc.skipped)
				}
				for _, g := range c.Partitions[0].Groups {
					if g.Now != next+1 {
						t.Errorf("%+v", g)
					}
				}
				if s := c.Standing; s == nil || len(s.Silent) > 0 || !slices.Equal(s.Late, []int32{3}) {
					t.Errorf("certificate of the %s: %+v", kind, s)
				}
			}
		})
	}
}

// What an extend keeps of where groups stood is bounded, and those who are behind go first.
func TestStandingIsBounded(t *testing.T) {
	t.Parallel()
	ends := []catalog.SealedEnd{{Partition: 0, End: 10, Next: 100}, {Partition: 1, End: 10, Next: 10}}
	s := &catalog.Standing{Unlisted: 1}
	for i := range standingEntries {
		s.Groups = append(s.Groups, catalog.GroupStand{Group: fmt.Sprint("abreast-", i), Offset: 10})
	}
	s.Groups = append(s.Groups, catalog.GroupStand{Group: "past", Offset: 100}, catalog.GroupStand{Group: "other", Partition: 1, Offset: 3},
		catalog.GroupStand{Group: "behind", Offset: 9}, catalog.GroupStand{Group: strings.Repeat("x", standingBytes), Offset: 10})
	got := concerned(s, ends)
	if n := int64(len(got.Groups)); got.Groups[0].Group != "behind" || n > standingEntries || n+got.Unlisted != standingEntries+3 {
		t.Errorf("%d groups, the first is %q, %d unlisted", n, got.Groups[0].Group, got.Unlisted)
	}
}

// Topics that ask at the same time are asked for together; one whose answer does not come says so.
func TestStandingsAreAskedTogether(t *testing.T) {
	t.Parallel()
	begun, gate := make(chan int, 10), make(chan struct{})
	s := newStandings(func(ctx context.Context, topics []catalog.ID, _ []int32) map[catalog.ID]catalog.Standing {
		begun <- len(topics)
		<-gate
		out := map[catalog.ID]catalog.Standing{}
		for _, id := range topics {
			out[id] = catalog.Standing{Unlisted: int64(id[0])}
		}
		return out
	})
	defer s.wait()
	ask := func(i byte) func() *catalog.Standing {
		return s.ask(t.Context(), &catalog.TopicRef{Tenant: "default", ID: catalog.ID{i}}, patience)
	}
	var first []func() *catalog.Standing
	for i := range standingsAtOnce {
		first = append(first, ask(byte(1+i)))
		<-begun
	}
	var rest []func() *catalog.Standing
	for i := range 100 {
		rest = append(rest, ask(byte(100+i)))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if got := s.ask(gone, &catalog.TopicRef{Tenant: "default", ID: catalog.ID{99}}, patience)(); !got.Unasked {
		t.Errorf("nobody answered, and it gave %+v", got)
	}
	close(gate)
	for i, f := range append(first, rest...) {
		want := int64(1 + i)
		if i >= len(first) {
			want = int64(100 + i - len(first))
		}
		if got := f(); got.Unlisted != want || got.Unasked {
			t.Errorf("%d: %+v", i, got)
		}
	}
	if n := <-begun; n != 101 {
		t.Errorf("%d topics were asked for together", n)
	}
	if got := newStandings(nil).ask(t.Context(), &catalog.TopicRef{}, patience)(); got != nil {
		t.Errorf("there is nobody to ask, and it gave %+v", got)
	}
}

// An answer that came in time counts, however late somebody looks.
func TestStandingsThatCameInTime(t *testing.T) {
	s := newStandings((&groupsDouble{at: map[string]int64{"g": 4}}).standings)
	for range 50 {
		get := s.ask(t.Context(), &catalog.TopicRef{Tenant: catalog.DefaultTenant, ID: catalog.ID{1}}, time.Millisecond)
		s.wait()
		<-time.After(3 * time.Millisecond) // past all of its time
		if got := get(); got.Unasked || len(got.Groups) != 1 {
			t.Fatalf("%+v", got)
		}
	}
}

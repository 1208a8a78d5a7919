package vote

import (
	"testing"
	"time"
)

// TestOpinion walks one opinion through answers, a second apart unless said.
func TestOpinion(t *testing.T) {
	type step struct {
		after time.Duration
		a     answer
		vote  string // "", up, down
	}
	up, refused, silent := answer{up: true}, answer{detail: "connection refused"}, answer{timeout: true, detail: "no answer"}
	for name, steps := range map[string][]step{
		"up at once":                        {{0, up, "up"}, {time.Second, up, ""}},
		"refused is down at once":           {{0, up, "up"}, {time.Second, refused, "down"}, {time.Second, refused, ""}},
		"back after three good answers":     {{0, refused, "down"}, {time.Second, up, ""}, {time.Second, up, ""}, {time.Second, up, "up"}},
		"one bad answer begins the count":   {{0, refused, "down"}, {1, up, ""}, {1, up, ""}, {1, refused, ""}, {1, up, ""}, {1, up, ""}, {1, up, "up"}},
		"silence counts only when it lasts": {{0, up, "up"}, {time.Second, silent, ""}, {3 * time.Second, silent, ""}, {time.Second, silent, "down"}},
		"an answer breaks silence":          {{0, up, "up"}, {1, silent, ""}, {3 * time.Second, up, ""}, {time.Second, silent, ""}, {3 * time.Second, silent, ""}},
		"silent from the start is unknown":  {{0, silent, ""}, {time.Second, silent, ""}, {3 * time.Second, silent, "down"}},
		"unknown, then up":                  {{0, silent, ""}, {time.Second, up, "up"}},
	} {
		t.Run(name, func(t *testing.T) {
			var o opinion
			now := time.Unix(1000, 0)
			for i, s := range steps {
				now = now.Add(s.after)
				vote, ok := o.form(s.a, 1, now)
				got := ""
				if ok {
					got = map[bool]string{true: "up", false: "down"}[vote]
					o.told, o.lease = true, 1
				}
				if got != s.vote {
					t.Fatalf("step %d: vote %q, want %q", i, got, s.vote)
				}
			}
			if _, ok := o.form(steps[len(steps)-1].a, 2, now); !ok {
				t.Fatal("a vote dies with its lease: under a new one it has to be told again")
			}
		})
	}
}

// A cluster that fills up, or has room again, is told anew, and is up all the while since the same time.
func TestRoomIsTold(t *testing.T) {
	var o opinion
	began := time.Unix(1000, 0)
	for i, full := range []bool{false, true, true, false} {
		up, tell := o.form(answer{up: true, full: full}, 1, began.Add(time.Duration(i)*time.Second))
		if want := i != 2; !up || tell != want || !o.since.Equal(began) {
			t.Errorf("answer %d, full %v: up %v, told %v, since %v", i, full, up, tell, o.since)
		}
		o.told, o.lease = true, 1
	}
}

// The reason that is shown of a cluster that is down follows what is seen, not with each check, and not to an empty
// one while it comes back; since when it is down stays.
func TestReasonIsTold(t *testing.T) {
	var o opinion
	began := time.Unix(1000, 0)
	for i, s := range []struct {
		after time.Duration
		a     answer
		tell  bool
	}{
		{0, answer{detail: "refused"}, true},
		{time.Second, answer{detail: "refused"}, false},
		{2 * time.Second, answer{detail: "another cluster"}, false},
		{again + time.Second, answer{detail: "another cluster"}, true},
		{again + 2*time.Second, answer{detail: "refused"}, false},
		{3 * again, answer{up: true}, false},
		{3*again + time.Second, answer{detail: "another cluster"}, false},
		{3*again + 2*time.Second, answer{timeout: true, detail: "silent"}, true},
	} {
		up, tell := o.form(s.a, 1, began.Add(s.after))
		if up || tell != s.tell || !o.since.Equal(began) {
			t.Errorf("answer %d: up %v, told %v, since %v", i, up, tell, o.since)
		}
		o.told, o.lease = true, 1
	}
}

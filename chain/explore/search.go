package explore

import (
	"fmt"
	"hash/maphash"
	"time"
)

// fault is the first thing that is wrong with the state that is looked at.
type fault struct{ bad string }

func (f *fault) wrong(format string, args ...any) {
	if f.bad == "" {
		f.bad = fmt.Sprintf(format, args...)
	}
}

// step is a state with the event that leads to it, put into words only for a trace.
type step[W any] struct {
	w     W
	event string
	args  []any
}

// hasher gives 128-bit hashes of states, which have no pointers and no padding.
type hasher [2]maphash.Seed

func newHasher() hasher { return hasher{maphash.MakeSeed(), maphash.MakeSeed()} }

func hashOf[W comparable](h *hasher, w *W) [2]uint64 {
	b := bytesOf(w)
	return [2]uint64{maphash.Bytes(h[0], b), maphash.Bytes(h[1], b)}
}

// search walks all states from begin on, depth first. key tells which states are
// alike; visit brings a state to rest, holds it against the invariants, and appends
// what can happen next.
func search[W comparable](begin W, key func(*W) [2]uint64, visit func(w *W, fresh func() bool, out []step[W]) ([]step[W], string), limit int, progress func(int)) Result {
	type level struct {
		next []step[W]
		i    int
	}
	began := time.Now()
	seen := map[[2]uint64]struct{}{}
	var free [][]step[W]
	stack := []level{{next: []step[W]{{w: begin, event: "begin"}}}}
	res := Result{Complete: true}
	var w *W // in its level of the stack, which stays where it is: visit brings it to rest there
	fresh := func() bool {
		k := key(w)
		if _, ok := seen[k]; ok {
			return false
		}
		seen[k] = struct{}{}
		return true
	}
	for len(stack) > 0 {
		l := &stack[len(stack)-1]
		if l.i == len(l.next) {
			free = append(free, l.next[:0])
			stack = stack[:len(stack)-1]
			continue
		}
		w = &l.next[l.i].w
		l.i++
		res.Transitions++
		var out []step[W]
		if n := len(free); n > 0 {
			out, free = free[n-1], free[:n-1]
		}
		out, bad := visit(w, fresh, out)
		if bad != "" {
			res.Violation, res.Complete = bad, false
			for i := range stack {
				s := &stack[i].next[stack[i].i-1]
				res.Trace = append(res.Trace, fmt.Sprintf(s.event, s.args...))
			}
			break
		}
		if res.Depth = max(res.Depth, len(stack)); progress != nil && len(seen)%100000 == 0 {
			progress(len(seen))
		}
		if limit > 0 && len(seen) >= limit {
			res.Complete = false
			break
		}
		if len(out) == 0 {
			free = append(free, out)
			continue
		}
		stack = append(stack, level{next: out})
	}
	res.States, res.Elapsed = len(seen), time.Since(began)
	return res
}

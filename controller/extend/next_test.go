package extend

import (
	"fmt"
	"testing"

	"github.com/braidstream/braid/catalog"
)

// world is a topic of two pages that is extended, as an explorer sees it: the
// catalog, the clusters, and what the controller in charge has observed.
type world struct {
	s      State
	o      Observation
	fresh  bool // the fresh topic exists
	sealed bool // the old topic refuses appends
	over   bool
	forgot bool
}

func (w world) String() string {
	return fmt.Sprintf("step %s to %s aim %s, id known %t, moved %d, left %d, deleting %t, %+v, fresh %t, sealed %t, over %t, forgotten %t", w.s.Extend.Step, w.s.Extend.Target, w.s.Extend.Aim,
		!w.s.Extend.New.TopicID.IsZero(), w.s.Moved, w.s.Left, w.s.Deleting, w.o, w.fresh, w.sealed, w.over, w.forgot)
}

// Every interleaving of the actions with cancelling, a refusing target, a
// deletion, a controller that dies before or after any action, and a commit that
// gets only one page through: the extend always ends, either committed whole with
// the old topic sealed, or undone with the fresh topic gone and the old one as it was,
// unless the topic goes; and no chain is committed without a seal.
func TestEveryPathEndsWell(t *testing.T) {
	begin := world{s: State{Extend: catalog.Extend{Step: catalog.StepPrepare, Target: "b", Old: []catalog.PhysicalTopic{{Cluster: "a"}},
		New: catalog.PhysicalTopic{Partitions: 2}}, Exists: true, Partitions: 2, Left: 2}}
	seen := map[string]bool{}
	ends := map[string]int{}
	stack := []world{begin}
	for len(stack) > 0 {
		w := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if key := w.String(); seen[key] {
			continue
		} else {
			seen[key] = true
		}
		if w.s.Moved > 0 && !w.sealed {
			t.Fatalf("committed without a seal: %v", w)
		}
		if w.over {
			switch {
			case w.s.Left == 0 && w.sealed && w.fresh && !w.forgot:
				ends["committed"]++
			case w.s.Moved == 0 && w.forgot && !w.fresh && (!w.sealed || w.s.Deleting):
				ends["undone"]++
			default:
				t.Fatalf("bad end: %v", w)
			}
			continue
		}
		stack = append(stack, after(t, w)...)
		// The controller dies; the next one has observed nothing.
		died := w
		died.o = Observation{Cancel: w.o.Cancel}
		stack = append(stack, died)
		if !w.o.Cancel {
			c := w
			c.o.Cancel = true
			stack = append(stack, c)
		}
		if !w.s.Deleting {
			d := w
			d.s.Deleting = true
			stack = append(stack, d)
		}
	}
	if ends["committed"] == 0 || ends["undone"] == 0 {
		t.Errorf("ends: %v", ends)
	}
	t.Logf("%d states, ends %v", len(seen), ends)
}

// after gives what the next action may lead to: done, refused, or done with the
// controller dead before it noticed.
func after(t *testing.T, w world) []world {
	d := Next(w.s, w.o)
	done, refused := w, w
	refused.o.Refused = "refused"
	out := []world{}
	switch d.Do {
	case Record:
		done.s.Extend.Step = d.Step
		return []world{done}
	case Create:
		done.fresh = true
		unnoticed := done // it exists, and its id is not recorded
		done.s.Extend.New.TopicID = catalog.ID{1}
		return append(out, done, unnoticed, refused)
	case Settle:
		done.o.Settled = true
		return append(out, done, refused)
	case Seal:
		done.sealed = true
		unnoticed := done
		done.o.Sealed = true
		refused.sealed = true // an error says nothing about whether it holds
		out = append(out, done, unnoticed)
		if w.s.Moved == 0 {
			elsewhere := refused
			elsewhere.o.Elsewhere = "c"
			out = append(out, refused, elsewhere)
		}
		return out
	case Commit:
		if !w.o.Sealed {
			t.Fatalf("commit without known ends: %v", w)
		}
		whole, half := w, w
		whole.s.Moved, whole.s.Left = 2, 0
		half.s.Moved, half.s.Left = 1, 1
		if w.s.Moved == 0 {
			out = append(out, half, refused)
		}
		return append(out, whole)
	case Turn:
		done.s.Extend.Aim, done.s.Extend.Target = "b", d.Target
		done.s.Extend.New.TopicID = catalog.ID{}
		done.fresh, done.o.Refused, done.o.Elsewhere = false, "", "" // the sweep takes it
		return append(out, done)
	case Drop:
		done.fresh = false
		unnoticed := done
		done.o.Dropped = true
		return append(out, done, unnoticed)
	case Forget:
		done.forgot, done.over = true, true
		return append(out, done)
	case Done:
		done.over = true
		return append(out, done)
	}
	t.Fatalf("unknown action %q", d.Do)
	return nil
}

func TestNextUndoesWhatIsGone(t *testing.T) {
	s := State{Extend: catalog.Extend{Step: catalog.StepHold, New: catalog.PhysicalTopic{TopicID: catalog.ID{1}, Partitions: 2}}, Exists: true, Partitions: 3, Left: 3}
	if d := Next(s, Observation{}); d.Do != Record || d.Step != catalog.StepUndo {
		t.Errorf("topic that grew: %+v", d)
	}
	s.Extend.Step = catalog.StepSeal
	s.Exists = false
	if d := Next(s, Observation{}); d.Do != Record || d.Step != catalog.StepUndo {
		t.Errorf("topic that is gone: %+v", d)
	}
	s.Extend.Step = catalog.StepUndo
	if d := Next(s, Observation{}); d.Do != Drop {
		t.Errorf("a topic that is gone: %+v", d)
	}
}

// What may have been sealed is never undone: it goes on somewhere.
func TestAnExtendThatHasSealedIsTurned(t *testing.T) {
	fresh := catalog.PhysicalTopic{TopicID: catalog.ID{1}, Partitions: 1}
	old := []catalog.PhysicalTopic{{Cluster: "a"}}
	for _, tc := range []struct {
		name string
		e    catalog.Extend
		o    Observation
		do   Action
		to   string
	}{
		{"cancelled", catalog.Extend{Target: "b", Old: old, New: fresh}, Observation{Cancel: true}, Turn, "a"},
		{"cancelled when the ends are known", catalog.Extend{Target: "b", Old: old, New: fresh}, Observation{Cancel: true, Sealed: true}, Turn, "a"},
		{"cancelled and turned", catalog.Extend{Target: "a", Aim: "b", Old: old}, Observation{Cancel: true, Sealed: true}, Create, ""},
		{"and made there", catalog.Extend{Target: "a", Aim: "b", Old: old, New: fresh}, Observation{Cancel: true, Sealed: true}, Commit, ""},
		{"the target is gone", catalog.Extend{Target: "b", Old: old, New: fresh}, Observation{Refused: "gone"}, Turn, "a"},
		{"a failover: no way back", catalog.Extend{Target: "b", Old: old, New: fresh}, Observation{Refused: "gone", Elsewhere: "c"}, Turn, "c"},
		{"and the old cluster takes nothing", catalog.Extend{Target: "a", Aim: "b", Old: old}, Observation{Refused: "gone"}, Turn, "b"},
		{"it has grown", catalog.Extend{Target: "b", Old: old, New: catalog.PhysicalTopic{TopicID: catalog.ID{1}, Partitions: 3}}, Observation{}, Turn, "b"},
		{"a repair is where it is", catalog.Extend{Kind: catalog.OpRepair, Target: "a", Old: old, New: fresh}, Observation{Cancel: true}, Seal, ""},
	} {
		tc.e.Step = catalog.StepSeal
		s := State{Exists: true, Partitions: 1, Left: 1, Extend: tc.e}
		if d := Next(s, tc.o); d.Do != tc.do || d.Target != tc.to {
			t.Errorf("%s: %+v, want %s %s", tc.name, d, tc.do, tc.to)
		}
		s.Moved = 1
		if d := Next(s, tc.o); d.Do == Turn || d.Step == catalog.StepUndo {
			t.Errorf("%s, moved in part: %+v", tc.name, d)
		}
	}
	s := State{Exists: true, Partitions: 1, Left: 1, Extend: catalog.Extend{Kind: catalog.OpRepair, Old: old, New: fresh}}
	s.Extend.Step = catalog.StepPrepare
	if d := Next(s, Observation{Cancel: true}); d.Step != catalog.StepUndo {
		t.Errorf("nothing is sealed yet: %+v, want to undo", d)
	}
}

// Package extend holds the decisions of an extend: pure functions over what the
// catalog says and what was observed, so that the driver of package controller
// and an explorer walk the same machine. Nothing here does I/O or reads a clock.
//
//	prepare ──▶ hold ──▶ seal ──▶ (ends and producers are read) ──▶ commit ──▶ certify
//	   │          │        │
//	   │          │        └──▶ turn ──▶ seal            another target, while no chain has been committed
//	   └──────────┴──▶ undo ──▶ undone                   only while nothing can have been sealed
//
// A seal is never taken back. A request to unseal may land at any later time, when
// the same copy has been sealed again and a later extend counts on it; no cluster
// can refuse it. So an extend that has begun to seal goes forward, if need be onto a
// fresh topic of the cluster that it came from.
//
// Steps up to seal and undo are written before what they name is done, so a
// controller that takes over knows what may have happened. Ends, producers' state
// and the commit are not: sealing again gives the same ends, and a commit is seen
// in the chains themselves.
package extend

import "github.com/braidstream/braid/catalog"

// Action is what the driver does next. Each may be repeated.
type Action string

const (
	// Create makes the fresh physical topic and records its id.
	Create Action = "create"
	// Record writes Decision.Step (and Message) and asks again.
	Record Action = "record"
	// Settle waits until nothing transactional is open or under way on the open copies.
	Settle Action = "settle"
	// Seal seals the open copies; or, in fence mode, waits until all gateways stopped and reads the ends.
	Seal Action = "seal"
	// Commit reads the producers' state below the ends, ends the spans, opens the
	// next ones on the fresh topic, and ends the extend with the last page.
	Commit Action = "commit"
	// Turn makes Decision.Target the target, with a fresh physical topic to be made there.
	Turn Action = "turn"
	// Drop deletes the fresh physical topic.
	Drop Action = "drop"
	// Forget removes the extend from the catalog: it was undone.
	Forget Action = "forget"
	// Done: nothing is left to do.
	Done Action = "done"
)

// State is what the catalog says, read by a leader whose writes are still accepted.
type State struct {
	Extend catalog.Extend
	// Exists and Deleting describe the topic.
	Exists   bool
	Deleting bool
	// Partitions is the topic's count now.
	Partitions int32
	// Moved and Left count the chains whose open span is, and is not, on the fresh topic.
	Moved, Left int
}

// Observation is what this controller has seen since it took the extend up.
type Observation struct {
	Cancel  bool   // the operation was asked to stop
	Refused string // why the extend cannot work, "" as far as is known
	Settled bool   // nothing transactional is open
	Sealed  bool   // the seal holds and the ends are known
	Dropped bool   // undone but for the record
	// Elsewhere is a cluster that takes the topic instead of a target that refuses it, where there is no way back to
	// the cluster that it came from; "" if there is none.
	Elsewhere string
}

// Decision is the next action; Step is for Record, Target for Turn, Message for both.
type Decision struct {
	Do      Action
	Step    catalog.Step
	Target  string
	Message string
}

// Next decides. It never gives up an extend of which a chain was committed: those
// partitions' new spans take appends already, so the others follow.
func Next(s State, o Observation) Decision {
	e := &s.Extend
	if e.Step == catalog.StepUndo {
		if !o.Dropped {
			return Decision{Do: Drop}
		}
		return Decision{Do: Forget}
	}
	if !s.Exists {
		return Decision{Do: Record, Step: catalog.StepUndo, Message: "the topic was deleted"}
	}
	if s.Moved == 0 {
		switch why := undo(s, o); {
		case why == "":
		case s.Deleting, e.Step == catalog.StepPrepare, e.Step == catalog.StepHold:
			return Decision{Do: Record, Step: catalog.StepUndo, Message: why}
		default:
			if to, ok := turn(s, o); ok {
				return Decision{Do: Turn, Target: to, Message: why}
			}
		}
	}
	if s.Left == 0 {
		return Decision{Do: Done}
	}
	switch e.Step {
	case catalog.StepPrepare:
		if e.New.TopicID.IsZero() {
			return Decision{Do: Create}
		}
		return Decision{Do: Record, Step: catalog.StepHold}
	case catalog.StepHold:
		if !o.Settled {
			return Decision{Do: Settle}
		}
		return Decision{Do: Record, Step: catalog.StepSeal}
	}
	if e.New.TopicID.IsZero() {
		return Decision{Do: Create} // it was turned
	}
	if !o.Sealed {
		return Decision{Do: Seal}
	}
	return Decision{Do: Commit}
}

// turn tells where an extend that has begun to seal goes on to, which cannot or
// shall not end where it was to: to the cluster that it came from, and, when that
// does not take it, back to its first aim. One whose cluster is lost goes on to any other.
func turn(s State, o Observation) (target string, ok bool) {
	e := &s.Extend
	home := e.Target
	if len(e.Old) > 0 {
		home = e.Old[0].Cluster
	}
	switch {
	case o.Refused != "" && o.Elsewhere != "":
		return o.Elsewhere, true
	case o.Refused != "" && e.Aim != "" && e.Target == home:
		return e.Aim, true
	case o.Refused != "":
		return home, true
	case s.Partitions != e.New.Partitions && !e.New.TopicID.IsZero():
		return e.Target, true // the same, with room for all of them
	}
	// Cancelled.
	return home, e.Aim == "" && e.Target != home
}

// undo gives the reason to undo, or to turn, an extend of which nothing is committed.
func undo(s State, o Observation) string {
	switch {
	case s.Deleting:
		return "the topic is being deleted"
	case o.Refused != "":
		return o.Refused
	case !s.Extend.New.TopicID.IsZero() && s.Partitions != s.Extend.New.Partitions:
		return "the topic was given more partitions meanwhile"
	case o.Cancel:
		return "cancelled"
	}
	return ""
}

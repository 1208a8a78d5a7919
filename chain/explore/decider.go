package explore

import "github.com/braidstream/braid/catalog"

// Question is what a controller knows when it decides.
type Question struct {
	Step          catalog.Step
	Created       bool // the fresh physical topic is there and recorded
	Moved, Left   int  // chains that are, and are not, on the fresh topic
	Cancel        bool
	Settled       bool
	Sealed        bool
	Unsealed      bool // for deciders that take a seal back
	Dropped       bool
	Turned        bool // the extend has another target than it began with
	PartitionsNow int32
}

// Answer names the action in the words of the controller's machine: create,
// record (of Step), settle, seal, turn, commit, drop, forget, done; and unseal, which
// the machine does not do.
type Answer struct {
	Do   string
	Step catalog.Step
}

// Decider is the controller's decision.
type Decider func(Question) Answer

// Standard decides as the controller is designed to (DESIGN section 4). The
// controller's own tests hand in its real decision.
func Standard(q Question) Answer {
	switch {
	case q.Step == catalog.StepUndo && !q.Dropped:
		return Answer{Do: "drop"}
	case q.Step == catalog.StepUndo:
		return Answer{Do: "forget"}
	case q.Cancel && q.Moved == 0 && q.Step != catalog.StepSeal:
		return Answer{Do: "record", Step: catalog.StepUndo}
	case q.Cancel && q.Moved == 0 && !q.Turned:
		return Answer{Do: "turn"}
	case q.Left == 0:
		return Answer{Do: "done"}
	case q.Step == catalog.StepPrepare && !q.Created:
		return Answer{Do: "create"}
	case q.Step == catalog.StepPrepare:
		return Answer{Do: "record", Step: catalog.StepHold}
	case q.Step == catalog.StepHold && !q.Settled:
		return Answer{Do: "settle"}
	case q.Step == catalog.StepHold:
		return Answer{Do: "record", Step: catalog.StepSeal}
	case !q.Created:
		return Answer{Do: "create"}
	case !q.Sealed:
		return Answer{Do: "seal"}
	}
	return Answer{Do: "commit"}
}

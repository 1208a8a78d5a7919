// Package explore walks every interleaving of a small fleet: controllers that
// extend a chain and crash, lose their leadership or answers; gateways that lag;
// producers that retry through other gateways; requests that land at any later
// time. The decisions are those of package chain and, handed in as a [Decider],
// those of the controller; what is modelled here is the world around them. The
// invariants of DESIGN section 2 are checked in each state.
//
// [Run] walks extends that seal. [Lose] walks those that cannot: behind a fence, by
// the gateways' words and leases, and where the cluster is gone and comes back.
package explore

import (
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// Sizes of the model's fixed arrays; Config bounds what is used of them.
const (
	maxCopies    = 4
	maxLog       = 7
	maxVersions  = 4
	maxGateways  = 3
	maxProducers = 2
	maxBatches   = 3
	maxFlights   = 8
	maxOrphans   = 3
	controllers  = 2
	maxOffsets   = 10
)

// record is a producer's batch: 1 + producer*maxBatches + sequence; 0 is none.
type record uint8

func recordOf(producer, seq uint8) record { return record(1 + producer*maxBatches + seq) }

func (r record) producer() uint8 { return uint8(r-1) / maxBatches }
func (r record) seq() uint8      { return uint8(r-1) % maxBatches }

// physical is one physical partition: a leader's log of which hw records are committed.
type physical struct {
	exists, sealed bool
	n, hw          uint8
	log            [maxLog]record
}

// Where a flight is.
const (
	waiting uint8 = iota // at its gateway
	sent                 // on the connection to a copy, in order
	landed               // in the copy's log, or a duplicate there; answered once committed
	refused              // answered: the copy is sealed; the answer is on its way
)

// flight is one batch between a client and a copy.
type flight struct {
	used    bool
	state   uint8
	gateway uint8
	prod    uint8
	seq     uint8
	copy    uint8
	pos     uint8
	live    bool // the client still waits for this answer
}

// orphan is a request whose sender does not wait any more. It lands at any later
// time, or never.
type orphan struct {
	kind orphanKind
	copy uint8
	rec  record
}

type orphanKind uint8

const (
	noOrphan orphanKind = iota
	lateAppend
	lateSeal
	lateUnseal
	lateCreate
	lateDrop
)

type gateway struct {
	up      bool
	known   uint8 // index into versions
	target  uint8 // version whose open span is appended to
	stopped bool  // the copy refused; or the chain has moved and answers are still out
	placed  uint8 // producers that the copy is known to have, as bits
}

type client struct {
	via   uint8
	next  uint8
	acked [maxBatches]int8 // offset, -1 none
}

func (c *client) base(batches uint8) uint8 {
	for i := range batches {
		if c.acked[i] < 0 {
			return i
		}
	}
	return batches
}

// extending is the extend in the catalog.
type extending struct {
	active bool
	step   uint8
	fresh  uint8 // copy, 0 while there is none
	rev    uint8
	cancel bool
	turned bool
}

type controller struct {
	up     bool
	on     bool // has taken the extend up
	step   uint8
	fresh  uint8
	rev    uint8
	ver    uint8 // chain version that it read
	pend   uint8 // what was asked of a copy: see pending
	landed bool
	sealed bool
	end    uint8
	state  uint8 // how much of the old copy's log its producers' state covers + 1; 0 unread
	undone uint8 // bit 0 unsealed, bit 1 dropped
	turned bool
}

const (
	noPending uint8 = iota
	pendCreate
	pendSeal
	pendUnseal
	pendDrop
)

// world is one state. It is comparable and holds no pointers.
type world struct {
	copies   [maxCopies]physical
	created  uint8                 // copies made so far
	versions [maxVersions][2]uint8 // numbers of versions, low byte first: no field needs padding
	nv       uint8
	ext      extending
	leader   uint8 // 0 or 1; controllers
	ctl      [controllers]controller
	gws      [maxGateways]gateway
	cls      [maxProducers]client
	fl       [maxFlights]flight // by order of arrival at the gateways
	orphans  [maxOrphans]orphan
	served   [maxOffsets]record

	// What may still happen.
	moves, takeovers, crashes, drops, cuts, cancels uint8
}

// version is one committed chain with the producers' state behind it.
type version struct {
	chain catalog.Chain
	state []chain.ProducerState
}

var steps = []catalog.Step{catalog.StepPrepare, catalog.StepHold, catalog.StepSeal, catalog.StepUndo}

func stepIndex(s catalog.Step) uint8 {
	for i, t := range steps {
		if s == t {
			return uint8(i)
		}
	}
	return 0
}

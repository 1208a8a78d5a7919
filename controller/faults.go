package controller

import "slices"

// Fault points lie between every two side effects of an extend. A test stops a
// controller at each of them, as kill -9 would, and lets another one go on.
const (
	FaultBegun        = "begin.recorded"   // the extend is in the catalog
	FaultCreated      = "prepare.created"  // the fresh topic exists, its id is not recorded
	FaultPrepared     = "prepare.recorded" // the id is recorded
	FaultHolding      = "hold.recorded"
	FaultSettled      = "hold.settled"
	FaultSealing      = "seal.recorded" // the seal is announced, nothing is sealed
	FaultSealed       = "seal.sealed"   // sealed, ends known
	FaultSealedOne    = "seal.one"      // one of several old topics is sealed
	FaultStored       = "read.stored"   // producers' states are stored
	FaultCommitPage   = "commit.page"   // one page is committed, others are not
	FaultCommitted    = "commit.done"   // all are; the extend is ended
	FaultCertified    = "certify.issued"
	FaultTurnedOver   = "certify.again" // issued when leases had turned over; the sealed span is still to be read
	FaultUndoing      = "undo.recorded"
	FaultTurned       = "turn.recorded" // another target is recorded for an extend that had begun to seal
	FaultDropped      = "undo.dropped"
	FaultUndone       = "undo.forgotten"
	FaultDeleteSealed = "delete.sealed"
	FaultDeleteGone   = "delete.gone" // physical topics are gone, the topic is still marked
	FaultRestored     = "return.committed"
	FaultReplayed     = "return.replayed" // stranded records are appended, not yet certified
)

// FaultPoints lists the fault points of extends in the order of a run that
// succeeds, then those of undoing, deleting and returning.
var FaultPoints = []string{
	FaultBegun, FaultCreated, FaultPrepared, FaultHolding, FaultSettled, FaultSealing, FaultSealedOne, FaultSealed,
	FaultStored, FaultCommitPage, FaultCommitted, FaultCertified, FaultTurnedOver,
	FaultTurned, FaultUndoing, FaultDropped, FaultUndone,
	FaultDeleteSealed, FaultDeleteGone, FaultRestored, FaultReplayed,
}

// isFaultPoint guards against a point that tests would never reach.
func isFaultPoint(p string) bool { return slices.Contains(FaultPoints, p) }

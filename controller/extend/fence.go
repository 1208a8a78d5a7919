package extend

import (
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
)

// Fence is what a controller knows that waits for gateways to stop.
type Fence struct {
	Gateways []catalog.Gateway // that are registered
	// First are those that were at the first look, which was after the extend began to seal.
	First []catalog.Gateway
	Words []catalog.HoldAck
	// Revoked are the leases that were taken from gateways and not waited for, whoever
	// took them and for whichever topic; read after Gateways.
	Revoked []catalog.Revoked
	Waited  time.Duration // since the first look
	// Patience is how long silent gateways are waited for; TTL is a lease's.
	Patience, TTL time.Duration
	// Revoke: what is silent after that is fenced off, rather than left out.
	Revoke bool
	// Gone tells for how long this controller has found a lease's registration
	// away, 0 if it has not.
	Gone func(lease int64) time.Duration
}

// FenceAction is what a fence needs next.
type FenceAction string

const (
	// FenceWaits: look again in a moment.
	FenceWaits FenceAction = "wait"
	// RevokeSilent: take the leases of the gateways that are named.
	RevokeSilent FenceAction = "revoke"
	// FenceHolds: nobody passes answers on any more; but those that are named, which
	// were left out.
	FenceHolds FenceAction = "holds"
)

// Await decides on a fence. A gateway whose registration is absent has stopped by
// its own clock if its lease has run out; if the lease was taken, its holder stops
// by that clock later, so each lease that was taken is waited for in full.
// Without a single word no gateway is left out, nor revoked, before a lease's
// time: it is the catalog that is slow then, or nobody is there who could hold
// anything up. A lease that began after the first look is of a gateway that loaded
// the fence before it, and passes on nothing that it asked for under an earlier one:
// its word is not needed.
func Await(f Fence) (FenceAction, []catalog.Gateway) {
	var silent []catalog.Gateway
	for _, g := range f.Gateways {
		late := f.Revoke && !slices.ContainsFunc(f.First, func(w catalog.Gateway) bool { return w.Lease == g.Lease })
		if !late && !slices.ContainsFunc(f.Words, func(w catalog.HoldAck) bool { return w.Node == g.Node }) {
			silent = append(silent, g)
		}
	}
	switch {
	case len(silent) > 0 && (f.Waited < f.Patience || len(f.Words) == 0 && f.Waited < f.TTL):
		return FenceWaits, nil
	case len(silent) > 0 && f.Revoke:
		return RevokeSilent, silent
	case !f.Revoke:
		return FenceHolds, silent
	}
	for _, x := range f.Revoked {
		if !f.Past(x) && !f.registered(x.Lease) {
			return FenceWaits, nil
		}
	}
	return FenceHolds, nil
}

// Past tells whether the holder of a revoked lease has stopped for certain.
func (f *Fence) Past(x catalog.Revoked) bool {
	return !f.registered(x.Lease) && f.Gone(x.Lease) >= catalog.FenceWait(x.TTL)
}

func (f *Fence) registered(lease int64) bool {
	return slices.ContainsFunc(f.Gateways, func(g catalog.Gateway) bool { return g.Lease == lease })
}

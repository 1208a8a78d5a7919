package catalog

import (
	"time"
)

// Certificate says what a move or failover did to each partition, and how that was checked.
type Certificate struct {
	Op         string                 `json:"op"`
	Kind       OpKind                 `json:"kind"`
	Topic      TopicRef               `json:"topic"`
	From       string                 `json:"from"`
	To         string                 `json:"to"`
	Mode       Mode                   `json:"mode"`
	Partitions []PartitionCertificate `json:"partitions"`
	Issued     time.Time              `json:"issued"`
	// Return is the operation by which the lost cluster's spans were taken in again, on whose
	// certificate that of a failover was given its last word.
	Return string `json:"return,omitempty"`
	// Failovers are the operations whose spans a return has taken in.
	Failovers []string `json:"failovers,omitempty"`
	// Standing says how far the groups in PartitionCertificate.Groups are all of them; its own Groups
	// are empty. nil: nobody asked where groups stood.
	Standing *Standing `json:"standing,omitempty"`
}

// Verdict of one partition's certificate.
type Verdict string

const (
	VerdictVerified   Verdict = "verified"
	VerdictUnverified Verdict = "unverified"
	VerdictViolated   Verdict = "violated"
)

// PartitionCertificate: counts of records over the range that was checked.
type PartitionCertificate struct {
	Partition    int32 `json:"partition"`
	End          int64 `json:"end"`   // logical end of the sealed span
	Start        int64 `json:"start"` // logical start of the next
	Acknowledged int64 `json:"acknowledged"`
	// Unreported: no gateway has reported (yet) what it saw acknowledged on a span that holds records,
	// or may. Acknowledged is nothing then.
	Unreported bool  `json:"unreported,omitempty"`
	Found      int64 `json:"found"`
	Lost       int64 `json:"lost"`
	Duplicated int64 `json:"duplicated"`
	Reordered  int64 `json:"reordered"`
	Stray      int64 `json:"stray"` // records past the sealed end
	// Unread: nothing of the span was read. Found is nothing then; of Lost, Duplicated, Reordered and
	// Stray only what is not 0 is known.
	Unread bool `json:"unread,omitempty"`
	// Of a lost cluster's stranded records, when it is back: those that were appended anew, those that
	// are read in place, and those that are left out because their producers had appended them again.
	Replayed int64 `json:"replayed,omitempty"`
	InPlace  int64 `json:"inPlace,omitempty"`
	LeftOut  int64 `json:"leftOut,omitempty"`
	// PauseMs is the time over the boundary in which an append waited and none was acknowledged; nil: not known, or, with
	// Idle, none waited.
	PauseMs *float64 `json:"pauseMs"`
	Idle    bool     `json:"idle,omitempty"`
	Verdict Verdict  `json:"verdict"`
	Checked []string `json:"checked"`          // what was done, in words
	Ranges  []Range  `json:"ranges,omitempty"` // lost, stranded or unverified
	// Groups are those whose committed offsets lie before or in a span that cannot be read, and, of a
	// cluster that is back, those that went past it meanwhile.
	Groups []GroupSkip `json:"groups,omitempty"`
}

// What has become of a group's records in a lost span.
const (
	GroupWaits   = "waits"   // stands before them; they are readable when the cluster is back
	GroupSkipped = "skipped" // has committed past them while they could not be read, and is not given them
	GroupDropped = "dropped" // they left the topic before they could be read again
	GroupLost    = "lost"    // stood before them when they were lost for good
)

// GroupSkip is what a group of the topic's tenant has not read of a lost span.
type GroupSkip struct {
	Group     string `json:"group"`
	Committed int64  `json:"committed"` // when the cluster was lost
	// Now is what it had committed when the span became readable again (skipped).
	Now  int64 `json:"now,omitempty"`
	From int64 `json:"from"` // logical offsets
	To   int64 `json:"to"`
	// Records are at most so many: ends of transactions, and what compaction removed, count too.
	Records int64  `json:"records"`
	What    string `json:"what"` // waits, skipped, dropped, lost
}

// Standing is where the groups stood in a topic at one moment, as far as their coordinators told.
type Standing struct {
	Groups []GroupStand `json:"groups,omitempty"`
	// Unlisted groups have committed in the topic too, and are not told of: there are too many.
	Unlisted int64 `json:"unlisted,omitempty"`
	// Silent are the coordinator shards that did not answer, Late those that answered only when
	// their groups may have gone on already. Unasked: none was reached.
	Silent  []int32 `json:"silent,omitempty"`
	Late    []int32 `json:"late,omitempty"`
	Unasked bool    `json:"unasked,omitempty"`
	// Answered are the shards that did answer, where that was just asked.
	Answered []int32 `json:"-"`
}

// GroupStand is what a group of the topic's tenant has committed for a partition.
type GroupStand struct {
	Group     string `json:"g"`
	Partition int32  `json:"p"`
	Offset    int64  `json:"o"`
}

// Range of logical offsets with what is the matter with it.
type Range struct {
	From int64  `json:"from"`
	To   int64  `json:"to"`
	What string `json:"what"` // lost, stranded, replayed, unverified, hole
	Note string `json:"note,omitempty"`
}

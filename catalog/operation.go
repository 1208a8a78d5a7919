package catalog

import (
	"time"
)

// OpKind tells what an operation does.
type OpKind string

const (
	OpMove     OpKind = "move"
	OpDrain    OpKind = "drain"
	OpFailover OpKind = "failover"
	OpFailback OpKind = "failback"
	OpRepair   OpKind = "repair" // extend past a physical log that went back, or give up sealed spans that are gone
	OpReturn   OpKind = "return" // records of a cluster that came back are taken in again
)

// OpState is where an operation stands.
type OpState string

const (
	OpPending   OpState = "pending"
	OpRunning   OpState = "running"
	OpDone      OpState = "done"
	OpFailed    OpState = "failed"
	OpCancelled OpState = "cancelled"
)

// Op is an operation that an operator (or a detector) asked for. The leading controller runs it;
// its per-topic steps are Extends.
type Op struct {
	ID      string     `json:"id"`
	Kind    OpKind     `json:"kind"`
	State   OpState    `json:"state"`
	Topics  []TopicRef `json:"topics,omitempty"`
	Cluster string     `json:"cluster,omitempty"` // drain, failover, failback: which
	To      string     `json:"to,omitempty"`      // target cluster; "" lets placement choose
	Force   bool       `json:"force,omitempty"`
	// Automatic: a failover that gateways' votes decided, not an operator.
	Automatic bool `json:"automatic,omitempty"`
	// Again: a failover of topics that an earlier one of the same loss has left on the cluster.
	Again    bool      `json:"again,omitempty"`
	Cancel   bool      `json:"cancel,omitempty"` // asked to stop; undone where not committed
	Reason   string    `json:"reason,omitempty"` // who or what asked
	Total    int       `json:"total"`            // topics
	Done     int       `json:"done"`
	Failed   int       `json:"failed"`
	Progress int       `json:"progress,omitempty"` // percent; the steps of topics under way count
	Message  string    `json:"message,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	Finished time.Time `json:"finished,omitzero"`
	Revision int64     `json:"-"`
}

// TopicRef names a topic for people and for machines.
type TopicRef struct {
	Tenant string `json:"tenant"`
	Name   string `json:"name"`
	ID     ID     `json:"id"`
}

// Step is where an Extend stands. Steps only go forward, or to Undo before the commit.
type Step string

const (
	StepPrepare Step = "prepare" // create the fresh physical topic, check target
	StepHold    Step = "hold"    // hold transactional appends, wait for open transactions
	StepSeal    Step = "seal"    // seal the open copies
	StepRead    Step = "read"    // ends and producers' state
	StepCommit  Step = "commit"  // end the spans, open the next
	StepCertify Step = "certify" // compare what was acknowledged with what the chain holds
	StepDone    Step = "done"
	StepUndo    Step = "undo" // delete the fresh topic; only before the seal
	StepUndone  Step = "undone"
)

// Mode tells how an Extend ends the old span.
type Mode string

const (
	ModeSeal  Mode = "seal"  // enforced by the copy
	ModeFence Mode = "fence" // gateways' acknowledgement and leases; weaker
	ModeLossy Mode = "lossy" // the old copy is gone or went back: leave room
)

// Extend is the state of one topic's extend under way: at most one per topic (the key is the topic id).
type Extend struct {
	Op     string   `json:"op"`
	Topic  TopicRef `json:"topic"`
	Step   Step     `json:"step"`
	Mode   Mode     `json:"mode"`
	Target string   `json:"target"`
	// Aim is where the extend was to go, if it was turned elsewhere after it had begun
	// to seal: it cannot be undone then, so it ends on a fresh topic of another cluster.
	Aim string `json:"aim,omitempty"`
	// Old are the physical topics that hold the open spans; usually one.
	Old []PhysicalTopic `json:"old"`
	New PhysicalTopic   `json:"new"`
	// TopicRevision: the commit fails if the topic changed meanwhile.
	TopicRevision int64 `json:"topicRevision"`
	// Producer is the producer id under which a return appends stranded records
	// anew: a controller that takes over finds by it how far the last one came.
	Producer int64 `json:"producer,omitempty"`
	// Forfeit: a repair by which sealed spans are given up for lost, since the cluster has their physical topics no more.
	// Returned lists them from the beginning; else it is as a return.
	Forfeit bool `json:"forfeit,omitempty"`
	// Judged keeps what a return has found out, so that it is decided once.
	Judged []Judged `json:"judged,omitempty"`
	// Returned says what a return has made of each span that it lists in Ends.
	Returned []ReturnedSpan `json:"returned,omitempty"`
	// Alarms are those that the commit heeded.
	Alarms []Alarm `json:"alarms,omitempty"`
	// Ends per partition, known from the commit on.
	Ends []SealedEnd `json:"ends,omitempty"`
	Room int64       `json:"room,omitempty"` // offsets left free by a lossy extend
	// Unreadable: the old copies are away, so that readers skip them (a failover, not a repair).
	Unreadable bool `json:"unreadable,omitempty"`
	// Kind is the operation's, for the certificate.
	Kind OpKind `json:"kind,omitempty"`
	// Silent are the gateways whose word a lossy extend went without.
	Silent []int32 `json:"silent,omitempty"`
	// Standing is where the topic's groups stood when a lossy extend was committed, or when a return
	// made what was lost readable again; nil: nobody was asked.
	Standing *Standing `json:"standing,omitempty"`
	Sealed   time.Time `json:"sealed,omitzero"` // when the seal began to refuse, as far as known
	Message  string    `json:"message,omitempty"`
	Started  time.Time `json:"started"`

	Revision int64 `json:"-"`
}

// Judged says which producers appended again what of theirs is stranded on one span.
type Judged struct {
	Partition int32           `json:"partition"`
	Span      int32           `json:"span"` // Span.Seq
	Again     []AppendedAgain `json:"again,omitempty"`
	// To is where the rest is appended anew, from the physical offset From on; nil where it is read in place.
	To   *PhysicalTopic `json:"to,omitempty"`
	At   int32          `json:"at,omitempty"` // physical partition
	From int64          `json:"from,omitempty"`
	// Delta is that between logical and physical offsets there.
	Delta int64 `json:"delta,omitempty"`
	// Altered: batches were halved or stamped anew, so that they are not there as they were.
	Altered bool `json:"altered,omitempty"`
	// Refused is what is not appended anew, and takes no sequence there: its topic refuses it for good. Stamped are
	// those that were given the time of the append.
	Refused []Refused `json:"refused,omitempty"`
	Stamped []Gap     `json:"stamped,omitempty"`
}

// Refused are logical offsets of records that a topic refuses with a code of Kafka's.
type Refused struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
	Code int16 `json:"code"`
}

// ReturnedSpan is what a return makes of one lost span, whose log, as it came back, is the
// entry of Extend.Ends at the same index: Physical and End are where it really ends, Skip
// is what it left out until then. Offsets are logical.
type ReturnedSpan struct {
	Cut  int64 `json:"cut"` // where the span had been ended
	End  int64 `json:"end"` // where it ends from now on
	Skip []Gap `json:"skip,omitempty"`
	// Gone: the cluster is back, and has the physical topic no more.
	Gone    bool  `json:"gone,omitempty"`
	InPlace bool  `json:"inPlace,omitempty"`
	Taken   int64 `json:"taken"` // stranded records that were appended anew, or are read in place
	Left    int64 `json:"left"`  // and that are left out, since their producers had appended them again
	First   int64 `json:"first"` // offset of the first that was appended anew; -1 none
	// Sequence is that of the first, of the return's own producer id.
	Sequence int32 `json:"sequence,omitempty"`
	Stranded []Gap `json:"stranded,omitempty"` // what lay outside of the chain
	// Refused were to be appended anew, and their topic refuses them for good; RefusedRecords is how many they are. They
	// are read in place where Skip and End say so. Stamped records were appended anew with the time of that.
	Refused        []Refused `json:"refused,omitempty"`
	RefusedRecords int64     `json:"refusedRecords,omitempty"`
	Stamped        int64     `json:"stamped,omitempty"`
	// Groups are those that have gone past the span while it could not be read.
	Groups []GroupSkip `json:"groups,omitempty"`
}

// Records is how many stranded records there were.
func (s *ReturnedSpan) Records() int64 { return s.Taken + s.Left + s.RefusedRecords }

// AppendedAgain: the producer went on with this sequence.
type AppendedAgain struct {
	Producer int64 `json:"producer"`
	Epoch    int16 `json:"epoch"`
	First    int32 `json:"first"`
}

// PhysicalTopic is a topic on a cluster.
type PhysicalTopic struct {
	Cluster    string `json:"cluster"`
	Topic      string `json:"topic"`
	TopicID    ID     `json:"topicId"`
	Partitions int32  `json:"partitions"`
}

// SealedEnd is what was read of one sealed partition.
type SealedEnd struct {
	Partition    int32  `json:"partition"` // logical
	Old          int    `json:"old"`       // index into Extend.Old: where the sealed copy is
	At           int32  `json:"at"`        // physical partition there
	Span         int32  `json:"span"`      // Seq of the sealed span
	Start        int64  `json:"start"`     // logical start of the sealed span
	Next         int64  `json:"next"`      // logical start of the next span
	Delta        int64  `json:"delta"`     // logical - physical at the end
	Physical     int64  `json:"physical"`  // physical end
	End          int64  `json:"end"`       // logical end
	MaxTimestamp int64  `json:"maxTimestamp"`
	Producers    string `json:"producers,omitempty"`
	// Skip lists ranges before End that the span leaves out (a lossy extend).
	Skip []Gap `json:"skip,omitempty"`
	// Reported: see [Span.Reported].
	Reported bool `json:"reported,omitempty"`
}

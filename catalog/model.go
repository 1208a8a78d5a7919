// Package catalog is the versioned state that everything but records lives in:
// clusters, topics, chains, gateways, shards, operations. It is kept in etcd,
// embedded or external, and is never on the path of a record.
//
// Values are JSON with a format version, keys are laid out in keys.go. Readers
// keep an immutable [Snapshot], fed by a watch that may repeat or skip events;
// writers compare the revision they read.
package catalog

import (
	"encoding/hex"
	"fmt"
	"time"
)

// ID is a 16-byte identifier (topic ids are shown to clients as such).
type ID [16]byte

// String is the ID in lower-case hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether the ID is unset.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText implements [encoding.TextMarshaler].
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != 32 {
		return fmt.Errorf("id %q: want 32 hex digits", b)
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// DefaultTenant is the one tenant of a fleet that has not made any.
const DefaultTenant = "default"

// SystemTenant owns the internal topics (coordinator shards). No client sees it.
const SystemTenant = "braid"

// ClusterKind tells what stands behind a cluster.
type ClusterKind string

const (
	KindKafka ClusterKind = "kafka" // anything that speaks the Kafka protocol
	KindLocal ClusterKind = "local" // the embedded engine on a directory
)

// ClusterState is what may be done with a cluster.
type ClusterState string

const (
	ClusterActive   ClusterState = "active"   // takes new spans
	ClusterDraining ClusterState = "draining" // takes no new spans, is being emptied
	ClusterFailed   ClusterState = "failed"   // failed over; takes none until failback, see Cluster.Before
)

// Cluster is a place that stores partitions.
type Cluster struct {
	Name  string       `json:"name"`
	Kind  ClusterKind  `json:"kind"`
	State ClusterState `json:"state"`
	// Before is set of a cluster that is failed since gateways called it down, not since an operator
	// said so: the state that it had, and gets again by itself when it is well.
	Before    ClusterState `json:"before,omitempty"`
	Region    string       `json:"region,omitempty"`
	Zone      string       `json:"zone,omitempty"`
	Bootstrap []string     `json:"bootstrap,omitempty"` // kafka: host:port
	// Config: client options under Kafka's names (security.protocol, sasl.mechanism, ...). Secrets
	// are references only: file:PATH or env:NAME.
	Config map[string]string `json:"config,omitempty"`
	// ClusterID is what the cluster says its id is; pinned when it was added, so that another
	// cluster behind the same address is told apart.
	ClusterID string `json:"clusterId,omitempty"`
	CanSeal   bool   `json:"canSeal"`
	// Local clusters belong to the process that holds their directory.
	Dir      string    `json:"dir,omitempty"`
	Owner    string    `json:"owner,omitempty"`    // process id (Process.ID)
	Internal string    `json:"internal,omitempty"` // host:port of the owner's internal listener
	Added    time.Time `json:"added"`

	Revision int64 `json:"-"` // etcd mod revision
}

// Topic is a tenant's topic. Its chains are kept apart, in pages.
type Topic struct {
	Tenant     string            `json:"tenant"`
	Name       string            `json:"name"`
	ID         ID                `json:"id"`
	Partitions int32             `json:"partitions"`
	Config     map[string]string `json:"config,omitempty"` // only what was set; Kafka's names and braid.*
	Deleting   bool              `json:"deleting,omitempty"`
	Created    time.Time         `json:"created"`

	// Revision is compared by every commit that concerns the topic, so that a
	// change of partitions or a deletion stops an extend that did not see it.
	Revision int64 `json:"-"`
}

// PageSize is how many chains one catalog key holds: far below etcd's 1.5 MiB
// with 256 spans each.
const PageSize = 32

// Page holds the chains of partitions [First, First+len(Chains)) of a topic.
type Page struct {
	Topic  ID      `json:"topic"`
	First  int32   `json:"first"`
	Chains []Chain `json:"chains"`

	// States are what the chains newly refer to: written with the page, or before
	// it those that are too large for that. Not read back.
	States []StoredState `json:"-"`
	// Fresh are those of States that are small: gateways are told of them with the
	// page, since appends wait for what they say. Only the page's next version lacks them.
	Fresh []StoredState `json:"fresh,omitempty"`

	Revision int64 `json:"-"`
}

// StoredState is the producers' state at one seal, under the reference of [NewProducersRef].
type StoredState struct {
	Ref  string `json:"ref"`
	Blob []byte `json:"blob"` // not empty
}

// Chain is one logical partition: its spans in order. Offsets are logical.
// Spans are never empty of copies; only the last may be open.
type Chain struct {
	// Start is the log start: the first offset that a reader may ask for. It only grows.
	Start int64  `json:"start"`
	Spans []Span `json:"spans"`
	// NextSeq is the Seq of the next span; never used twice.
	NextSeq int32 `json:"nextSeq"`
	// Sealed refers to the producers' state at the last seal, cumulative over the
	// chain. It is kept here besides in the sealed span, since that one may have
	// been empty or trimmed.
	Sealed string `json:"sealed,omitempty"`
}

// Open is the End of the span that takes appends.
const Open = int64(-1)

// Span covers the logical offsets [Start, End).
type Span struct {
	Seq   int32 `json:"seq"`   // unique in the chain, grows
	Start int64 `json:"start"` // logical
	End   int64 `json:"end"`   // logical; Open (-1) on the last span
	// Epoch is the one logical leader epoch stamped on all batches of the span; it grows from span to span.
	Epoch  int32  `json:"epoch"`
	Copies []Copy `json:"copies"`
	// Producers refers to the state of all producer ids at the span's seal,
	// cumulative over the chain; "" if none had any.
	Producers string `json:"producers,omitempty"`
	// MaxTimestamp is the largest record timestamp at the seal, ms; -1 unknown or empty.
	MaxTimestamp int64 `json:"maxTimestamp"`
	// Hole is true when a lossy extend left [End, next Start) as room for records
	// that may have been acknowledged and are not in the chain.
	Hole bool `json:"hole,omitempty"`
	// Reported: no gateway that lived when the cluster was lost had seen as much acknowledged as lies
	// below End; runs that were over had reported it. So more may have been acknowledged, and what the
	// copy holds past End is read in place.
	Reported bool      `json:"reported,omitempty"`
	Opened   time.Time `json:"opened"`
	SealedAt time.Time `json:"sealedAt,omitzero"`
}

// IsOpen tells whether the span takes appends.
func (s *Span) IsOpen() bool { return s.End == Open }

// Copy says where the records of a span physically are.
type Copy struct {
	Cluster   string `json:"cluster"`
	Topic     string `json:"topic"` // physical name
	TopicID   ID     `json:"topicId"`
	Partition int32  `json:"partition"` // physical
	// Map is piecewise constant: from physical offset Physical on, logical = physical + Delta.
	// Pieces are in ascending order; the first begins at the copy's first record.
	Map []Piece `json:"map"`
	// Unreadable: the cluster is gone (failed over); readers skip the span until it is back.
	Unreadable bool `json:"unreadable,omitempty"`
	// Settled: the cluster was lost and came back, and what the copy held outside of the chain was
	// taken in. A later loss of the cluster hides the copy again, and changes nothing else.
	Settled bool `json:"settled,omitempty"`
	// Gone: the cluster answers, and has the physical topic no more. What it held is lost for good, so the copy stays
	// Unreadable, and nothing is ever taken in from it.
	Gone bool `json:"gone,omitempty"`
	// Skip lists logical ranges of the copy that are not in the chain, ascending and
	// apart from each other: what may have landed there before the cluster was lost
	// was appended again elsewhere. They begin and end with batches.
	Skip []Gap `json:"skip,omitempty"`
}

// Gap is a range of logical offsets, [From, To).
type Gap struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Piece is one piece of a copy's offset map.
type Piece struct {
	Physical int64 `json:"physical"`
	Delta    int64 `json:"delta"`
}

// Gateway is one live gateway, under a lease.
type Gateway struct {
	Node      int32      `json:"node"`    // Kafka broker id, kept per advertised address
	Process   string     `json:"process"` // which process runs it
	Zone      string     `json:"zone,omitempty"`
	Listeners []Listener `json:"listeners"`
	Version   string     `json:"version"`
	Started   time.Time  `json:"started"`
	// Draining is set by a gateway that is about to leave: it still answers, but
	// clients are no longer told of it and coordinator shards go to others.
	Draining bool `json:"draining,omitempty"`
	// Peer is where its coordinator answers those of other gateways, host:port.
	Peer string `json:"peer,omitempty"`

	Lease    int64 `json:"-"`
	Revision int64 `json:"-"`
}

// Listener is one address of a gateway. A client is told those of the listener that it came in by.
type Listener struct {
	Name      string `json:"name"`
	Advertise string `json:"advertise"` // host:port
	Zone      string `json:"zone,omitempty"`
	// What clients need to sign on, for those who tell them.
	Security    string   `json:"security,omitempty"`   // PLAINTEXT (or ""), SSL, SASL_PLAINTEXT, SASL_SSL
	Mechanisms  []string `json:"mechanisms,omitempty"` // of SASL
	Tenant      string   `json:"tenant,omitempty"`     // of all who come in; "": who signs on says it
	ServerNames string   `json:"serverNames,omitempty"`
	// Refused is why certificates that its files hold were not taken, and the former ones serve on.
	Refused string `json:"refused,omitempty"`
}

// Shard is the ownership of one coordinator shard, under its owner's lease.
type Shard struct {
	Number int32 `json:"number"`
	Node   int32 `json:"node"`
	// Term grows with every change of owner; it is the epoch of the shard's
	// producer id, so that the shard's log refuses a former owner.
	Term  int64 `json:"term"`
	Ready bool  `json:"ready"` // replayed; answers requests
	// Empty: as of the claim nothing but barriers was ever written to the shard's log. See [Catalog.SetShardHolds].
	Empty    bool  `json:"empty,omitempty"`
	Revision int64 `json:"-"`
}

// ProducerIDBase is below all producer ids that Braid gives out (2^40): far above
// what clusters give to their own clients.
const ProducerIDBase = int64(1) << 40

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

// AckReport is what one gateway saw acknowledged on one span of one partition,
// published when it learns that the span was sealed, or when it ends before that.
// Certificates compare the sum of them with what the span holds.
type AckReport struct {
	Node int32 `json:"node"`
	// Run tells apart the reports of one node that was started again meanwhile.
	Run string `json:"run,omitempty"`
	// Last: the run is over, and has said all that it will say of the span.
	Last bool `json:"last,omitempty"`
	// Nodes whose last words were folded into this one (at most 64); see [Catalog.FoldAckReports].
	Nodes     []int32 `json:"nodes,omitempty"`
	Partition int32   `json:"partition"`
	Span      int32   `json:"span"` // Span.Seq
	Records   int64   `json:"records"`
	Batches   int64   `json:"batches"`
	// Markers counts the ends of transactions that were written: they take offsets, and hold no records.
	Markers int64 `json:"markers,omitempty"`
	// Digest condenses the batches; nil in reports of releases that had none.
	Digest *AckDigest `json:"digest,omitempty"`
	// Unknown counts records whose outcome this gateway never learned.
	Unknown int64 `json:"unknown"`
	// InDoubt holds the last of their batches (at most 64). Their offsets are -1.
	InDoubt []AckedBatch `json:"inDoubt,omitempty"`
	// Next is the first logical offset past the highest that it saw acknowledged; -1 if none.
	Next int64 `json:"next"`
	// LastAck and FirstAck bound the pause: the last acknowledgement on the span before the
	// seal and the first on the next span, Unix nanoseconds; 0 unknown.
	LastAck  int64 `json:"lastAck"`
	FirstAck int64 `json:"firstAck"`
	// Asked is when the append of FirstAck came in, or the first that was sent back since LastAck; Unix nanoseconds, 0
	// unknown: until then nobody waited. Idle: that was after the gateway had heard where the chain goes on.
	Asked int64 `json:"asked,omitempty"`
	Idle  bool  `json:"idle,omitempty"`
	// Tail holds the last batches that it saw acknowledged, oldest first (at most 64).
	Tail []AckedBatch `json:"tail,omitempty"`
}

// AckedBatch identifies an acknowledged batch: its records must be found at its offset with its CRC.
type AckedBatch struct {
	Offset  int64  `json:"offset"` // logical
	Records int32  `json:"records"`
	CRC     uint32 `json:"crc"`
	// By says who appended it; nil: a producer without an id, or a report of a release that did not say.
	By *AckedBy `json:"by,omitempty"`
}

// AckedBy is the producer of a batch, with the batch's first and last sequence.
type AckedBy struct {
	Producer int64 `json:"p"`
	Epoch    int16 `json:"e,omitempty"`
	First    int32 `json:"f,omitempty"`
	Last     int32 `json:"l,omitempty"`
}

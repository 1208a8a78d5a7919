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

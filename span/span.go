// Package span is the contract of a copy: one physical topic on one cluster,
// holding a range of a chain. Everything above (chains, controllers) speaks to
// Apache Kafka, to the embedded engine and to object storage through it.
//
// All offsets in this package are physical: those of the copy itself. Package
// chain maps them to the logical offsets that clients see.
package span

import (
	"context"
	"time"
)

// Topic names a physical topic. A topic of the same name with another ID is
// another topic: every operation on it fails with [ErrGone].
type Topic struct {
	Name string
	ID   [16]byte // as the cluster gave it at Create; pinned in the catalog
}

// Spec asks for a fresh physical topic.
type Spec struct {
	Name       string
	Partitions int32
	// Config holds Kafka's topic configs. Those that decide semantics are always
	// set explicitly, since the defaults of clusters and releases differ
	// (message.max.bytes, timestamp type, cleanup policy, retention -1, ...).
	Config map[string]string
}

// Store is one cluster. All methods may be called concurrently. Every method
// that takes a context does I/O and returns its error wrapped; errors.Is finds
// the kinds of errors.go.
type Store interface {
	// Name is the cluster's name in the catalog.
	Name() string

	// Create makes a topic that never existed under this name. It fails with
	// [ErrExists] if the name is taken. When it returns, every partition has a
	// leader and takes appends.
	Create(ctx context.Context, spec Spec) (Topic, error)

	// AddPartitions grows the topic to total partitions. Idempotent.
	AddPartitions(ctx context.Context, t Topic, total int32) error

	// Configure sets the given topic configs and leaves the others. The seal is
	// never touched by it.
	Configure(ctx context.Context, t Topic, config map[string]string) error

	// Delete removes the topic and its data. Deleting what is gone succeeds.
	Delete(ctx context.Context, t Topic) error

	// Topics lists the physical topics whose names start with prefix.
	Topics(ctx context.Context, prefix string) ([]Topic, error)

	// Seal makes every partition of the topic refuse appends for good, enforced
	// where the records are. Once it has returned without an error, no append
	// lands in any partition, whoever sends it and however late; End is final
	// and every record below it is committed (high watermark = log end).
	// One End per partition, by index. Idempotent.
	//
	// There is no way back from it: a request to unseal could land at any later time.
	//
	// It fails with [ErrCannotSeal] where the cluster grants no such operation,
	// and with [ErrUnavailable] where it cannot be reached: nothing is known then,
	// the seal may or may not hold.
	Seal(ctx context.Context, t Topic) ([]End, error)

	// Log returns the handle of one partition: cheap, no I/O, never nil. Handles
	// of one partition are the same object as long as one of them is in use, so
	// that order of appends is kept across callers.
	Log(t Topic, partition int32) Log

	// Health tells whether the cluster answers and what it grants.
	Health(ctx context.Context) (Health, error)

	// Close ends all connections and goroutines. Appends under way end with
	// [ErrUnavailable] or [ErrUnknownOutcome].
	Close() error
}

// End describes a sealed partition.
type End struct {
	Partition    int32
	Start        int64 // log start
	End          int64 // first offset past the last record; final
	MaxTimestamp int64 // largest timestamp of its records in ms, -1 when empty
	// Lossy: the store has lost records, and acknowledged ones may have lain past End. Their offsets are not
	// to be given to others.
	Lossy bool
	// Producers is what [Log.Producers] would answer, where the seal learned it on
	// the way (not nil then, even if there are none). A caller whose appends wait is
	// spared a question.
	Producers []Producer
}

// Health is what a cluster said of itself.
type Health struct {
	ClusterID string
	Brokers   int    // that the cluster has, or had since it was opened
	Answering int    // of them
	Kafka     string // release or feature level as far as it can be told; "" otherwise
	CanSeal   bool   // ALTER_CONFIGS granted (kafka), always (local)
	// SealUnknown: there was no answer to the question for CanSeal, which is false then.
	SealUnknown bool
	Writable    bool
	// Full: it is not Writable for want of room, and for no other reason. It is not down.
	Full   bool
	Detail string // one line for people
	// Latency of the check.
	Latency time.Duration
}

// Right is something that a cluster's authorizer has to grant.
type Right struct {
	Resource  string // topics braid.*
	Operation string // by Kafka's name
	For       string // what needs it
	Granted   bool
}

// Rights is implemented by stores whose clusters have an authorizer.
type Rights interface {
	Rights(ctx context.Context) ([]Right, error)
}

// Log is one partition of a physical topic.
type Log interface {
	// Append submits one record batch (magic 2) and returns at once. a.Done is
	// called exactly once, from a goroutine of the store; it must not block.
	// Until then the store owns a and a.Batch, which it does not modify.
	//
	// Appends to one Log land in the order of the calls, as far as they land:
	// the store pipelines, retries what its cluster answered with a retriable
	// error, and keeps the order while it does. With a producer id in the batch it
	// retries after a lost connection too (the cluster tells duplicates); without
	// one the append ends with [ErrUnknownOutcome] and is never sent again.
	// After the first [ErrSealed] every later append of this Log that was
	// submitted before the Done of the first ends with ErrSealed too.
	Append(a *Append)

	// Read returns whole batches from r.Offset on. See [ReadRequest].
	Read(ctx context.Context, r ReadRequest) (ReadResult, error)

	// Offsets returns the bounds of the log, from its leader.
	Offsets(ctx context.Context) (Offsets, error)

	// OffsetFor returns the first record with a timestamp >= ms, or the record
	// with the largest timestamp for ms = [MaxTimestamp]. found is false when
	// there is none.
	OffsetFor(ctx context.Context, ms int64) (at Position, found bool, err error)

	// Probe proves that the partition is not sealed at the moment of the call:
	// nil when it takes appends, [ErrSealed] when it does not. It appends nothing.
	Probe(ctx context.Context) error

	// Producers returns the state of every producer id that the log remembers. On
	// a sealed log it covers exactly the records below its end.
	Producers(ctx context.Context) ([]Producer, error)

	// DeleteBefore trims the head and returns the new log start. The log end is
	// the highest offset that it takes.
	DeleteBefore(ctx context.Context, offset int64) (int64, error)

	// Release gives the handle back.
	Release()
}

// MaxTimestamp asks [Log.OffsetFor] for the record with the largest timestamp.
const MaxTimestamp = int64(-3)

// Warmer is a [Log] that can get ready for its first append ahead of time.
type Warmer interface {
	// Warm does what the first append would have to wait for: it finds out who
	// leads and connects. It appends nothing, and its error only says that the first
	// append will have to do the same.
	Warm(ctx context.Context) error
}

// Append is one batch on its way. The caller may reuse it after Done.
type Append struct {
	Batch    []byte    // exactly one v2 record batch; CRC and counts were validated by the caller
	Deadline time.Time // when the store gives up; zero: the store's own default (30 s)
	Done     func(*Append)
	// Burst, if not nil, says with what else this is submitted.
	Burst *Burst
	// Transaction is the transactional id that a [Transactor]'s cluster knows the
	// batch's producer by; "" outside of its transactions.
	Transaction string
	// Owner is whose append it is: where appends wait for each other, owners take turns.
	Owner string

	// Set before Done.
	BaseOffset    int64 // physical offset of the first record; -1 if a duplicate's is unknown
	LogAppendTime int64 // ms, -1 with CreateTime
	LogStart      int64
	LastStable    int64 // physical, at some moment not before the append; -1 where the store is not told
	Duplicate     bool  // the cluster had it already
	Err           error

	// Tag is the caller's own; stores leave it alone.
	Tag any
}

// ReadRequest asks for records.
type ReadRequest struct {
	Offset   int64
	MaxBytes int // soft: the first batch is returned whole whatever its size
	// MaxWait is how long to wait when there is nothing at Offset yet: 0 returns
	// at once with no batches.
	MaxWait time.Duration
	// Committed limits the read to below the last stable offset and fills
	// Aborted (isolation.level=read_committed).
	Committed bool
	// Apart allows the result to be in Apart instead of in Batches.
	Apart bool
	// Burst, if not nil, says with what else this is read.
	Burst *Burst
	// Owner is whose read it is, as [Append.Owner]; "" is Braid's own.
	Owner string
}

// ReadResult holds whole batches; the first may begin before the asked offset.
type ReadResult struct {
	// Batches belongs to the caller, who may patch it, until Release.
	Batches []byte
	// Apart, if not empty, is in the place of Batches, of a read that allowed it.
	Apart         []Apart
	Start         int64
	HighWatermark int64
	LastStable    int64
	Aborted       []Aborted // transactions to skip, only for Committed reads
	// Held is how many bytes of memory stay in use until Release; 0 when it is not
	// known to be more than Batches, which may share a buffer with other reads.
	Held int
	// Release gives the buffer back. Never nil.
	Release func()
}

// Apart is a batch whose records are where the page cache has them, for readers who
// only pass them on to a socket: they are copied once less.
type Apart struct {
	// Header is the batch's first batch.HeaderSize bytes. It belongs to the caller, who may patch it.
	Header []byte
	// Rest is what follows, 1 KiB and more. It is for system calls only, which fail where it cannot be
	// read; the process itself would be ended by a signal. Until Release.
	Rest []byte
}

// Aborted is one aborted transaction in the range that was read.
type Aborted struct {
	ProducerID  int64
	FirstOffset int64
}

// Offsets are the bounds of a log.
type Offsets struct {
	Start         int64
	HighWatermark int64
	LastStable    int64
	End           int64 // log end at the leader, >= HighWatermark
	LeaderEpoch   int32 // physical; never shown to a client
}

// Position is a record found by time.
type Position struct {
	Offset    int64
	Timestamp int64 // ms
}

// Producer is the state of one producer id in one partition.
type Producer struct {
	ID            int64
	Epoch         int16
	LastSequence  int32 // of its last batch's last record; -1 if none of this epoch
	LastOffset    int64 // offset of that record; -1 if the store cannot tell
	LastTimestamp int64 // ms
	TxnStart      int64 // first offset of its open transaction, -1 if none
	// CoordinatorEpoch is that of its last transaction marker; 0: none is known.
	CoordinatorEpoch int32
	// Batches are its last batches (at most five, oldest first), if the store can
	// tell; else empty, and package chain finds them by reading headers.
	Batches []ProducedBatch
}

// ProducedBatch is one batch that a producer appended.
type ProducedBatch struct {
	FirstSequence int32
	LastSequence  int32
	FirstOffset   int64
	LastOffset    int64
	Timestamp     int64 // largest of the batch, ms
}

// Package chain is the virtual log: a partition as clients see it, over the
// spans of its chain. It routes appends to the open span and reads to the spans
// that hold them, maps offsets and epochs both ways, and keeps appends in order
// while a chain is extended under them.
//
// The pure part works on [catalog.Chain] values alone and does no I/O: Validate,
// Locate, Extend, Trim, EpochEnd, the producers' state and Judge. Gateways and
// controllers decide with the same functions, and the explorer walks them.
//
// All offsets of this package are logical unless a name says physical.
//
// Lock order: Partition.mu, then one of Logs.mu, cache.mu, reporter.mu, and last
// Logs.runMu; never those of two partitions. None is held while a store does
// I/O or takes an append, nor while the catalog or a callback is called. What is
// called under them: Stores.Store and Store.Log, which look something up, and
// the Source's methods that take no context.
package chain

import (
	"context"
	"log/slog"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// Stores finds the store of a cluster. It may be called often and from many
// goroutines; it does no I/O.
type Stores interface {
	Store(cluster string) (span.Store, error)
}

// Options configure [NewLogs]. Watcher and Catalog, or Source, and Stores are needed.
type Options struct {
	// Watcher and Catalog are where chains come from.
	Watcher *catalog.Watcher
	Catalog *catalog.Catalog
	// Source takes their place, mainly in tests.
	Source Source
	Stores Stores
	Node   int32 // this gateway, for acknowledgement reports

	// CacheBytes bounds the tail cache over all partitions; 0: 64 MiB, negative: none. When it is full the
	// tenant that has most of it gives way.
	// Half as much is used on top of it while several readers go through the same records.
	CacheBytes int64
	// HoldBytes bounds the appends that are held while chains change, over all partitions; 0: 64 MiB. Where
	// there are several tenants, each may hold as much as is left free.
	HoldBytes int64
	// HoldTime bounds how long one append is held; 0: 30 s.
	HoldTime time.Duration
	// Alive tells whether this gateway's session still holds; nil: always. Asked
	// after an answer came from a copy on a cluster that grants no seal, before it is passed on.
	Alive func() bool
	// Lease identifies the session that Alive speaks of; nil: there is only one. An
	// answer to what was sent under an earlier session is not passed on: behind a
	// fence that one's end was waited for, and then the copy's end was read.
	Lease func() int64

	Logger  *slog.Logger
	Metrics *Metrics // nil: counted and not shown
}

// Source is what chain needs of the catalog.
type Source interface {
	// Chain is the last known version of a partition's chain; it must not be
	// changed. revision grows with each change of the chain. Errors are
	// [ErrUnknownTopic] and [ErrUnknownPartition].
	Chain(topic catalog.ID, partition int32) (c *catalog.Chain, revision int64, err error)
	// Topic is the topic as last known, ok false if there is none.
	Topic(topic catalog.ID) (t catalog.Topic, ok bool)
	// Refresh reads the topic linearizably: after it returned nil, Chain gives at
	// least what was committed when it was called.
	Refresh(ctx context.Context, topic catalog.ID) error
	// OnChange calls f, which must not block, after every change, with the
	// topics whose chains or extends have changed. Changes may be merged.
	OnChange(f func(topics []catalog.ID)) (cancel func())
	// CanSeal tells whether the cluster grants a seal; true when it is not known.
	CanSeal(cluster string) bool
	// Extend is the extend of the topic under way as last known, nil if there is none.
	Extend(topic catalog.ID) *catalog.Extend
	// ReadExtend reads it linearizably.
	ReadExtend(ctx context.Context, topic catalog.ID) (*catalog.Extend, error)
	// Fences lists the topics with an extend that waits for gateways to stop.
	Fences() []catalog.ID

	// Producers reads the producers' state behind a reference.
	Producers(ctx context.Context, ref string) ([]byte, error)
	// Report publishes what this gateway saw acknowledged.
	Report(ctx context.Context, topic catalog.ID, reports []catalog.AckReport) error
	// HoldAck publishes that this gateway stopped, for a fence.
	HoldAck(ctx context.Context, topic catalog.ID, op string, ack catalog.HoldAck) error
	// Alarm publishes that a physical log went back.
	Alarm(ctx context.Context, a catalog.Alarm) error
	// TrimStart moves the start of a partition's chain up to before, if it is below.
	TrimStart(ctx context.Context, topic catalog.ID, partition int32, before int64) error
}

// Append is one record batch on its way into a partition.
type Append struct {
	// Batch is exactly one v2 record batch, validated by the caller. It is copied
	// before Append returns, and the caller may reuse the memory at once, unless
	// it lies in a Loan.
	Batch  []byte
	Header batch.Header // of Batch, as batch.Validate returned it
	// Loan, if not nil, is what Batch lies in, from byte At on.
	Loan *Loan
	At   int
	// Burst, if not nil, says with what else this is submitted.
	Burst *span.Burst
	// Came is when the caller was asked for it; zero: now.
	Came time.Time
	// Deadline is when the caller wants an answer at the latest; zero: 30 s from now.
	Deadline time.Time
	// MaxBatch is the topic's max.message.bytes; 0: no limit.
	MaxBatch int
	// Done is called exactly once with the outcome set, on any goroutine, maybe
	// before Append returns. It holds no locks and must not block.
	Done func(*Append)
	// Txn is set for a batch of a transaction.
	Txn *Transaction

	// marker: Batch ends a transaction.
	marker bool

	// The outcome.
	BaseOffset    int64 // of the first record; -1 with Err
	LogAppendTime int64 // ms, -1 with CreateTime
	LogStart      int64
	Epoch         int32 // the chain's leader epoch
	Duplicate     bool  // it was in the chain before
	Err           error

	// Tag is the caller's own.
	Tag any
}

// ReadRequest asks for records.
type ReadRequest struct {
	Offset   int64
	MaxBytes int // soft: the first batch comes whole whatever its size
	// Committed reads up to the last stable offset only (isolation.level=read_committed).
	Committed bool
	// ClientEpoch is the leader epoch that the client believes in, -1 unknown.
	ClientEpoch int32
	// LastFetchedEpoch is the epoch of the client's last record, -1 unknown (KIP-320, KIP-595).
	LastFetchedEpoch int32
	// FromCopy passes the tail cache by: what is given is what the copy holds now.
	FromCopy bool
	// Apart allows the result to be in Apart instead of in Batches.
	Apart bool
	// Burst, if not nil, says with what else this is read.
	Burst *span.Burst

	waited bool  // for another reader of the same
	asked  int64 // Offset as it came; that moves on over what cannot be read
}

// ReadResult holds whole batches; the first may begin before the asked offset.
type ReadResult struct {
	// Batches is shared between readers and must not be changed; valid until Release.
	Batches []byte
	// Apart, if not empty, is in the place of Batches, of a read that allowed it.
	Apart         []span.Apart
	Start         int64 // log start
	HighWatermark int64
	LastStable    int64
	Aborted       []span.Aborted // logical offsets, only for Committed reads
	Epoch         int32          // the chain's leader epoch
	// DivergingEpoch and DivergingEnd are set (epoch >= 0), with no batches, when the
	// chain's history differs from the client's LastFetchedEpoch. -1 otherwise.
	DivergingEpoch int32
	DivergingEnd   int64
	// Release gives the memory back. Never nil when the error is nil.
	Release func()
}

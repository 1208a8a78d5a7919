package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/catalog"
)

// Leases is what the coordinators need of the catalog that is not a snapshot:
// the gateway's session and what is claimed under it. Implementations do I/O and
// may be called concurrently.
type Leases interface {
	// Lease is the session's present lease. A session that lost its lease gets
	// another one; what was claimed under the old one is gone.
	Lease() int64
	// Alive tells whether the lease holds for sure at this moment. An owner gives no
	// answer when it does not. It does no I/O.
	Alive(lease int64) bool
	// ClaimShard makes this gateway the owner with the next term. It fails with
	// [catalog.ErrExists] or [catalog.ErrConflict] while there is another.
	ClaimShard(ctx context.Context, number int32) (catalog.Shard, error)
	// SetShardReady records that the shard answers.
	SetShardReady(ctx context.Context, s catalog.Shard) (catalog.Shard, error)
	// SetShardHolds records that the shard's log is about to hold more than barriers: it is [catalog.Shard.Empty] no
	// more. It fails with [catalog.ErrConflict] once the shard has had a later owner.
	SetShardHolds(ctx context.Context, s catalog.Shard) error
	// ReleaseShard gives the shard up; releasing what was lost succeeds.
	ReleaseShard(ctx context.Context, s catalog.Shard) error
	// ProducerIDs takes n producer ids that nobody else gets.
	ProducerIDs(ctx context.Context, n int64) ([]int64, error)
}

// Directory is the catalog as last seen. Its methods do no I/O, but for Refresh.
type Directory interface {
	// Revision is how new the directory is, to compare with [catalog.Shard.Revision].
	Revision() int64
	// Gateways lists the live ones by node id, ascending.
	Gateways() []int32
	// Shard is the owner of a shard; false when there is none.
	Shard(number int32) (catalog.Shard, bool)
	TopicByName(tenant, name string) (catalog.Topic, bool)
	TopicByID(id catalog.ID) (catalog.Topic, bool)
	// TopicNames calls yield with the tenant's topics, those being deleted excepted,
	// until it returns false.
	TopicNames(tenant string, yield func(name string) bool)
	// GroupConfig holds the configs that were set for a group, nil if none were; not
	// to be changed.
	GroupConfig(tenant, group string) map[string]string
	// Refresh returns once the directory is as new as the catalog is now.
	Refresh(ctx context.Context) error
	// OnChange has fn called after each change, until cancel. fn must not block.
	OnChange(fn func(Change)) (cancel func())
}

// Change tells what moved in the directory.
type Change struct {
	Owners  bool            // gateways or shards
	Removed []catalog.Topic // topics that are no more
	Topics  []string        // tenants of which a topic came, went or grew
}

// Logs opens the log of a shard.
type Logs interface {
	Open(topic catalog.Topic, partition int32) (Log, error)
}

// Log is one shard's log. Only its owner appends, one batch at a time.
type Log interface {
	// Append has the batch appended; done is called exactly once and must not
	// block; start is -1 if it is not known. An error that is [ErrFenced] means that
	// another owner has written, [ErrBroken] that the log lacks what was
	// acknowledged before; after anything else the same batch may be sent again, as
	// its sequence number makes that safe.
	Append(b []byte, deadline time.Time, done func(start int64, err error))
	// Start is the first offset that can be read.
	Start(ctx context.Context) (int64, error)
	// Read returns whole batches from offset on and the high watermark; no batches
	// when there are none yet. release gives the buffer back.
	Read(ctx context.Context, offset int64, maxBytes int) (batches []byte, highWatermark int64, release func(), err error)
	// Trim drops what lies below before.
	Trim(ctx context.Context, before int64) error
	// Sealed tells up to which offset the log lies in spans that take no appends any
	// more, 0 for none, and the first offset past the last of these spans that cannot be read at present, 0 if
	// all can. It does no I/O.
	Sealed() (upTo, missing int64)
}

// ErrFenced: the shard's log has taken batches of a later term.
var ErrFenced = errors.New("shard has another owner")

// ErrBroken: the shard's log does not hold what it acknowledged before.
var ErrBroken = errors.New("shard log has lost records")

// Clock is the time, so that tests own it.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f once d has passed, in its own goroutine, unless stopped.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// TopicConfig is what the internal topic is made with: nothing is dropped by age
// or size (snapshots and trims bound it), and a batch may hold a large group.
func TopicConfig() map[string]string {
	return map[string]string{
		"cleanup.policy":    "delete",
		"retention.ms":      "-1",
		"retention.bytes":   "-1",
		"max.message.bytes": "20971520",
		"compression.type":  "producer",
		"braid.guarantee":   "ordered",
	}
}

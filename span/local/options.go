package local

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/braidstream/braid/span/local/vfs"
)

// Options of a store. Zero values take the defaults named here.
type Options struct {
	// Dir is the data directory. It is made if it does not exist; an existing one
	// must be empty or a data directory of the same Name.
	Dir string
	// Name is the cluster's name in the catalog.
	Name string
	// ID is what the catalog knows of the directory, in hex as [Store.ID] tells it: any other one, and none, is
	// refused with [ErrForeign]. "" where the catalog does not know the cluster yet.
	ID string
	// Fleet is the installation that the directory is for. It is noted in it; a directory that is noted for another one,
	// or for nobody while ID is unknown too, is refused with [ErrForeign]. "" takes any.
	Fleet string
	// FS is the file system; default [vfs.OS].
	FS vfs.FS
	// MemoryBudget bounds what is kept in memory for reads of the tail, and the
	// buffers of appends on their way, in bytes. Default 64 MiB, at least 4 MiB.
	MemoryBudget int64
	// LogFileBytes is the size of one file of the shared log; default 64 MiB. The
	// largest batch is half of it.
	LogFileBytes int64
	// FlushBytes is how much the shared log holds before partitions are written to
	// their segments; default 128 MiB. Replay at start is bounded by about twice this.
	FlushBytes int64
	// QueueBytes bounds appends that wait to be written; past it they are refused
	// with span.ErrUnavailable. Default 256 MiB.
	QueueBytes int64
	// OpenFiles bounds open segment files; default 512.
	OpenFiles int
	// LowSpace is the room on the file system below which retention is hurried,
	// MinSpace that below which appends are refused; bytes. Defaults: 1 GiB and
	// 256 MiB; -1 switches a mark off.
	LowSpace, MinSpace int64
	// CompactionMemory bounds the table of keys of a compaction, in bytes; default
	// 48 MiB, which takes 1.5 million keys at once.
	CompactionMemory int64
	// ProducerExpiry is when the state of an idle producer id is forgotten; default 24 h.
	ProducerExpiry time.Duration
	// Maintenance is how often retention, compaction and free space are looked
	// at; default 1 s for space, and 30 s for the others.
	Maintenance time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Steady is the time since some moment by a clock that nobody sets; default the
	// monotonic reading of Now.
	Steady func() time.Duration
	// Logger; default slog.Default().
	Logger *slog.Logger
}

const (
	minMemoryBudget = 4 << 20
	minLogFileBytes = 64 << 10
	maxLogFileBytes = 1 << 30
)

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, fmt.Errorf("local engine: no data directory given")
	}
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.MemoryBudget, 64<<20)
	def(&o.LogFileBytes, 64<<20)
	def(&o.FlushBytes, 128<<20)
	def(&o.QueueBytes, 256<<20)
	def(&o.CompactionMemory, 48<<20)
	def(&o.LowSpace, 1<<30)
	def(&o.MinSpace, 256<<20)
	if o.OpenFiles == 0 {
		o.OpenFiles = 512
	}
	if o.ProducerExpiry == 0 {
		o.ProducerExpiry = 24 * time.Hour
	}
	if o.Maintenance == 0 {
		o.Maintenance = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Steady == nil {
		began, now := o.Now(), o.Now
		o.Steady = func() time.Duration { return now().Sub(began) }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	switch {
	case o.MemoryBudget < minMemoryBudget:
		return o, fmt.Errorf("local engine: memory budget of %d bytes, at least %d", o.MemoryBudget, int64(minMemoryBudget))
	case o.LogFileBytes < minLogFileBytes || o.LogFileBytes > maxLogFileBytes:
		return o, fmt.Errorf("local engine: log files of %d bytes, between %d and %d", o.LogFileBytes, int64(minLogFileBytes), int64(maxLogFileBytes))
	case o.FlushBytes < 0 || o.CompactionMemory < 4096 || o.QueueBytes < 0 || o.OpenFiles < 8 || o.ProducerExpiry < 0 || o.Maintenance < 0:
		return o, fmt.Errorf("local engine: negative size, duration, or fewer than 8 open files in the options")
	}
	return o, nil
}

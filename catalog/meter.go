package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Usage is what a tenant used in some time.
type Usage struct {
	Received          int64   `json:"received,omitempty"`          // bytes from clients, frames and all
	Sent              int64   `json:"sent,omitempty"`              // bytes to clients
	Requests          int64   `json:"requests,omitempty"`          // of clients
	Connections       int64   `json:"connections,omitempty"`       // that were opened
	ConnectionSeconds float64 `json:"connectionSeconds,omitempty"` // connections times seconds that they were open
	PartitionSeconds  float64 `json:"partitionSeconds,omitempty"`  // partitions times seconds that they existed
	ByteSeconds       float64 `json:"byteSeconds,omitempty"`       // bytes stored, of one copy, times seconds
}

// Add gives the sum.
func (u Usage) Add(o Usage) Usage {
	return Usage{Received: u.Received + o.Received, Sent: u.Sent + o.Sent, Requests: u.Requests + o.Requests, Connections: u.Connections + o.Connections,
		ConnectionSeconds: u.ConnectionSeconds + o.ConnectionSeconds, PartitionSeconds: u.PartitionSeconds + o.PartitionSeconds,
		ByteSeconds: u.ByteSeconds + o.ByteSeconds}
}

// Sub gives the difference.
func (u Usage) Sub(o Usage) Usage {
	return Usage{Received: u.Received - o.Received, Sent: u.Sent - o.Sent, Requests: u.Requests - o.Requests, Connections: u.Connections - o.Connections,
		ConnectionSeconds: u.ConnectionSeconds - o.ConnectionSeconds, PartitionSeconds: u.PartitionSeconds - o.PartitionSeconds,
		ByteSeconds: u.ByteSeconds - o.ByteSeconds}
}

// Reading is what one writer (a run of a gateway, or a leading controller) counted in one
// hour, or what is left of many readings, by tenant. Sums of readings are what tenants
// used: nothing is in two of them.
//
// A writer writes its reading of an hour anew, whole, whenever it has counted more, and
// compares the revision that it wrote last. So an answer that was lost is no second count:
// Seq tells the next attempt whether it landed. A reading that is gone when its writer comes
// back was folded; the writer begins another.
type Reading struct {
	Hour    string           `json:"hour"` // 2006-01-02T15, UTC; a day once it is folded: 2006-01-02
	Writer  string           `json:"writer"`
	Seq     int64            `json:"seq"`
	Tenants map[string]Usage `json:"tenants"`

	Revision int64 `json:"-"`
}

// Layouts of [Reading.Hour].
const (
	HourLayout = "2006-01-02T15"
	DayLayout  = "2006-01-02"
)

// foldedWriter is who folded readings are by.
const foldedWriter = "all"

const meterPrefix = dataRoot + "meter/"

func meterKey(hour, writer string) string { return meterPrefix + segment(hour) + "/" + segment(writer) }

// PutReading writes a reading if its Revision still stands (0: there is none yet) and
// returns the new one. [ErrConflict] or [ErrNotFound] say that another is there, or none any more.
func (c *Catalog) PutReading(ctx context.Context, r Reading, fence Fence) (revision int64, err error) {
	return c.put(ctx, "usage of "+r.Hour, meterKey(r.Hour, r.Writer), r.Revision, fence, &r)
}

// Reading reads one writer's; [ErrNotFound] if there is none.
func (c *Catalog) Reading(ctx context.Context, hour, writer string) (Reading, error) {
	var r Reading
	rev, err := c.get(ctx, "usage of "+hour, meterKey(hour, writer), &r)
	r.Revision = rev
	return r, err
}

// Readings reads all of the hours from a time on, and of its day if that was folded.
func (c *Catalog) Readings(ctx context.Context, since time.Time) ([]Reading, error) {
	var out []Reading
	from := since.UTC().Truncate(time.Hour).Format(HourLayout)
	day := from[:len(DayLayout)]
	all, err := listOf(ctx, c, "usage", meterPrefix, func(r *Reading, rev int64) { r.Revision = rev })
	for _, r := range all {
		if len(r.Hour) == len(DayLayout) && r.Hour >= day || r.Hour >= from {
			out = append(out, r)
		}
	}
	return out, err
}

// foldOps is how many readings one transaction folds: each costs a comparison and a deletion.
const foldOps = txnOps/2 - 4

// FoldReadings puts the readings of each hour that ended before a time into one, and those of
// each day that ended before another. Each step is one transaction that compares all
// that it takes, so that nothing is lost or counted twice, whoever else folds or writes.
func (c *Catalog) FoldReadings(ctx context.Context, hoursBefore, daysBefore time.Time, fence Fence) error {
	all, err := listOf(ctx, c, "usage", meterPrefix, func(r *Reading, rev int64) { r.Revision = rev })
	if err != nil {
		return err
	}
	into := map[string][]Reading{}
	for _, r := range all {
		at, err := time.Parse(HourLayout, r.Hour)
		if err != nil {
			continue // a day, or a later release's
		}
		switch {
		case !at.Add(time.Hour).After(daysBefore):
			into[r.Hour[:len(DayLayout)]] = append(into[r.Hour[:len(DayLayout)]], r)
		case !at.Add(time.Hour).After(hoursBefore) && r.Writer != foldedWriter:
			into[r.Hour] = append(into[r.Hour], r)
		}
	}
	for _, hour := range slices.Sorted(maps.Keys(into)) {
		for part := range slices.Chunk(into[hour], foldOps) {
			if err := c.fold(ctx, hour, part, fence); err != nil && !errors.Is(err, ErrConflict) {
				return err
			}
		}
	}
	return nil
}

// fold adds readings to the folded one of an hour or a day.
func (c *Catalog) fold(ctx context.Context, into string, parts []Reading, fence Fence) error {
	what := "fold usage of " + into
	sum, err := c.Reading(ctx, into, foldedWriter)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if sum.Tenants == nil {
		sum.Tenants = map[string]Usage{}
	}
	sum.Hour, sum.Writer, sum.Seq = into, foldedWriter, sum.Seq+1
	key := meterKey(into, foldedWriter)
	cmps := fence.guard([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", sum.Revision)})
	var ops []clientv3.Op
	for _, r := range parts {
		for tenant, u := range r.Tenants {
			sum.Tenants[tenant] = sum.Tenants[tenant].Add(u)
		}
		from := meterKey(r.Hour, r.Writer)
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(from), "=", r.Revision))
		ops = append(ops, clientv3.OpDelete(from))
	}
	value, err := encode(&sum)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	r, err := c.txn(ctx, what, cmps, append(ops, clientv3.OpPut(key, value)), fence.probe(nil))
	if err != nil || r.Succeeded {
		return err
	}
	if err := fence.check(r); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, ErrConflict)
}

package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
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

// foldedWriter is who folded readings are by, with the part of those that they are of.
const foldedWriter = "all"

// partOf is the end of a writer's name that tells which part of the tenants it writes: a dot and a number; "" if
// it writes all of them.
func partOf(writer string) string {
	if at := strings.LastIndexByte(writer, '.'); at >= 0 {
		return writer[at:]
	}
	return ""
}

func isFolded(writer string) bool { return strings.TrimSuffix(writer, partOf(writer)) == foldedWriter }

const meterPrefix = dataRoot + "meter/"

func meterKey(hour, writer string) string { return meterPrefix + segment(hour) + "/" + segment(writer) }

// meterOf takes a key of meterKey apart.
func meterOf(key string) (hour, writer string, ok bool) {
	hour, writer, ok = strings.Cut(strings.TrimPrefix(key, meterPrefix), "/")
	if !ok {
		return "", "", false
	}
	hour, hok := unsegment(hour)
	writer, wok := unsegment(writer)
	return hour, writer, hok && wok
}

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

// readingsAtOnce bounds how many readings are in memory: each may hold thousands of tenants.
const readingsAtOnce = 16

// Readings reads all of the hours from a time on, and of its day if that was folded, few at a time. All are as
// they were at one moment. An error is the last thing that is yielded.
func (c *Catalog) Readings(ctx context.Context, since time.Time) iter.Seq2[Reading, error] {
	return func(yield func(Reading, error) bool) {
		hour := since.UTC().Truncate(time.Hour).Format(HourLayout)
		day := hour[:len(DayLayout)]
		// A day sorts before its hours.
		from, end, revision := meterPrefix+segment(day), clientv3.GetPrefixRangeEnd(meterPrefix), int64(0)
		for {
			items, at, more, err := c.page(ctx, "usage", from, end, revision, clientv3.WithLimit(readingsAtOnce))
			if err != nil {
				yield(Reading{}, err)
				return
			}
			for _, it := range items {
				var r Reading
				if err := decode(it.value, &r); err != nil {
					yield(Reading{}, fmt.Errorf("usage: %s: %w", strings.TrimPrefix(it.key, dataRoot), err))
					return
				}
				r.Revision = it.revision
				if (len(r.Hour) == len(DayLayout) || r.Hour >= hour) && !yield(r, nil) {
					return
				}
			}
			if !more {
				return
			}
			from, revision = items[len(items)-1].key+"\x00", at
		}
	}
}

// foldOps is how many readings one transaction folds: each costs a comparison and a deletion.
const foldOps = txnOps/2 - 4

// FoldReadings puts the readings of each hour that ended before a time into one of each part of the tenants, and
// those of each day that ended before another. Each step is one transaction that compares all
// that it takes, so that nothing is lost or counted twice, whoever else folds or writes. What stays as it is
// costs its key: values are read of those that are folded.
func (c *Catalog) FoldReadings(ctx context.Context, hoursBefore, daysBefore time.Time, fence Fence) error {
	keys, _, err := c.list(ctx, "usage", meterPrefix, clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	type target struct{ hour, part string }
	into := map[target][]item{}
	for _, it := range keys {
		hour, writer, ok := meterOf(it.key)
		at, err := time.Parse(HourLayout, hour)
		if !ok || err != nil {
			continue // a day, or a later release's
		}
		switch {
		case !at.Add(time.Hour).After(daysBefore):
			to := target{hour[:len(DayLayout)], partOf(writer)}
			into[to] = append(into[to], it)
		case !at.Add(time.Hour).After(hoursBefore) && !isFolded(writer):
			to := target{hour, partOf(writer)}
			into[to] = append(into[to], it)
		}
	}
	targets := slices.SortedFunc(maps.Keys(into), func(a, b target) int {
		return cmp.Or(cmp.Compare(a.hour, b.hour), cmp.Compare(a.part, b.part))
	})
	for _, to := range targets {
		for part := range slices.Chunk(into[to], foldOps) {
			if err := c.fold(ctx, to.hour, foldedWriter+to.part, part, fence); err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

// fold adds readings to the folded one of an hour or a day. One that has changed since it was listed is left for
// the next time, with the others.
func (c *Catalog) fold(ctx context.Context, into, writer string, parts []item, fence Fence) error {
	what := "fold usage of " + into
	sum, err := c.Reading(ctx, into, writer)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if sum.Tenants == nil {
		sum.Tenants = map[string]Usage{}
	}
	sum.Hour, sum.Writer, sum.Seq = into, writer, sum.Seq+1
	key := meterKey(into, writer)
	cmps := fence.guard([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", sum.Revision)})
	var ops []clientv3.Op
	for _, it := range parts {
		var r Reading
		revision, err := c.get(ctx, what, it.key, &r)
		if err != nil {
			return err
		}
		for tenant, u := range r.Tenants {
			sum.Tenants[tenant] = sum.Tenants[tenant].Add(u)
		}
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(it.key), "=", revision))
		ops = append(ops, clientv3.OpDelete(it.key))
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

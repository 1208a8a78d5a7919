package usage

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"time"

	"github.com/braidstream/braid/catalog"
)

// Every is how often what was counted is written down: a process that is killed loses
// what it counted since, at most.
const Every = 10 * time.Second

// FoldAfter is how long after its end the readings of an hour are made one, and Keep how
// long hours are kept apart from their day.
const (
	FoldAfter = 15 * time.Minute
	Keep      = 14 * 24 * time.Hour
)

// Store keeps readings; *catalog.Catalog is one. Its methods may be called concurrently.
// An error that is neither of catalog.ErrConflict, ErrExists, ErrNotFound and ErrFenced leaves open
// whether a reading was written.
type Store interface {
	PutReading(ctx context.Context, r catalog.Reading, fence catalog.Fence) (revision int64, err error)
	Reading(ctx context.Context, hour, writer string) (catalog.Reading, error)
}

// parts is how many readings a writer has of an hour, each of a part of the tenants: so none grows beyond what the
// catalog takes for a value (1.5 MiB; a tenant takes up to 200 bytes), and a tenant that used something has
// a sixteenth of the others written anew.
const parts = 16

// partOf tells which part a tenant is in. Releases may differ in that: sums are over all of them.
func partOf(tenant string) int {
	h := fnv.New32a()
	_, _ = io.WriteString(h, tenant) // a hash takes everything
	return int(h.Sum32() % parts)
}

// Recorder writes down what was counted so that each count is in the catalog once, or,
// if the process ends before it was written, not at all. It is for one goroutine.
type Recorder struct {
	Store  Store
	Writer string        // unique to the run; without a dot
	Fence  catalog.Fence // of a leading controller
	// Counts are all that was counted since the process began, by tenant.
	Counts func(now time.Time) map[string]Counts
	Logger *slog.Logger

	parts [parts]recorder
	next  int // the part that is flushed first: after one that failed the others have their turn
}

// Run flushes now and then, and once more when the context ends, within limit.
func (r *Recorder) Run(ctx context.Context, every, limit time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := r.Flush(ctx, time.Now()); err != nil && ctx.Err() == nil {
				r.Logger.Debug("usage was not written down, tried again", "err", err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
			defer cancel()
			if err := r.Flush(last, time.Now()); err != nil {
				r.Logger.Info("the last usage was not written down", "err", err)
			}
			return
		}
	}
}

// Flush writes what was counted since the last flush. After an error all of it is
// tried again by the next.
func (r *Recorder) Flush(ctx context.Context, now time.Time) error {
	var counts [parts]map[string]Counts
	for tenant, c := range r.Counts(now) {
		i := partOf(tenant)
		if counts[i] == nil {
			counts[i] = map[string]Counts{}
		}
		counts[i][tenant] = c
	}
	for range parts {
		i := r.next
		r.next = (i + 1) % parts
		p := &r.parts[i]
		p.store, p.fence, p.writer = r.Store, r.Fence, fmt.Sprintf("%s.%d", r.Writer, i)
		if err := p.flush(ctx, now, counts[i]); err != nil {
			return err
		}
	}
	return nil
}

// recorder writes the readings of one part.
//
// A reading is written whole, over the one before of the same hour, if that still has the
// revision that it was written with. When the answer to a write is lost, the next flush
// reads which of the writes landed, by their numbers, before it writes again.
type recorder struct {
	store  Store
	fence  catalog.Fence
	writer string

	written map[string]Counts // of Counts, what is in readings
	reading catalog.Reading   // the last one that is known to be written
	latest  string            // the latest hour that has a reading
	seq     int64
	// tried are the writes since whose outcome is open. All are of one hour, over the same
	// reading, so that no more than one of them can be written, and none once a later one is.
	tried []attempt
}

type attempt struct {
	reading catalog.Reading
	counts  map[string]Counts
}

// maxTried bounds the attempts that are remembered: the oldest is taken for one that was
// not written then, an hour and more after it was sent.
const maxTried = 400

// flush writes the counts of the part, if there are new ones.
func (r *recorder) flush(ctx context.Context, now time.Time, counts map[string]Counts) error {
	if len(r.tried) > 0 {
		if err := r.settle(ctx, now); err != nil {
			return err
		}
	}
	// A clock that steps back does not lead to an earlier hour: the reading that is there
	// already cannot be written anew, nor is it known any more.
	hour := max(now.UTC().Format(catalog.HourLayout), r.latest)
	if len(r.tried) > 0 {
		// One that is still under way may land yet: only a write over the same reading
		// keeps it from that.
		hour = r.tried[0].reading.Hour
	}
	next := r.reading
	if next.Hour != hour {
		next = catalog.Reading{Hour: hour, Writer: r.writer}
	}
	if next.Tenants = maps.Clone(next.Tenants); next.Tenants == nil {
		next.Tenants = map[string]Counts{}
	}
	news := false
	for tenant, c := range counts {
		if d := c.Sub(r.written[tenant]); d != (Counts{}) {
			next.Tenants[tenant] = next.Tenants[tenant].Add(d)
			news = true
		}
	}
	if !news {
		return nil
	}
	r.seq++
	next.Seq = r.seq
	revision, err := r.store.PutReading(ctx, next, r.fence)
	switch {
	case err == nil:
		next.Revision = revision
		r.reading, r.written, r.tried = next, counts, nil
		r.latest = hour
	case errors.Is(err, catalog.ErrFenced):
	case errors.Is(err, catalog.ErrExists), errors.Is(err, catalog.ErrConflict):
		// Not written, for sure: one of those that are open was, and settle finds it.
	case errors.Is(err, catalog.ErrNotFound):
		r.folded()
	default:
		if len(r.tried) == maxTried {
			r.tried = r.tried[1:]
		}
		r.tried = append(r.tried, attempt{next, counts})
	}
	return err
}

// settle finds out which of the open attempts was written, if one was.
func (r *recorder) settle(ctx context.Context, now time.Time) error {
	first := r.tried[0].reading
	found, err := r.store.Reading(ctx, first.Hour, r.writer)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		if first.Revision != 0 || now.Sub(hourEnd(first.Hour)) > FoldAfter/2 {
			r.folded()
		}
		return nil
	case err != nil:
		return err
	}
	for _, a := range r.tried {
		if a.reading.Seq == found.Seq {
			r.written, r.reading, r.tried, r.latest = a.counts, found, nil, found.Hour
			return nil
		}
	}
	return nil
}

// folded begins anew after the reading was made part of another. Whether the last of the open
// attempts was written before cannot be known: it is taken to be, so that nothing
// counts twice.
func (r *recorder) folded() {
	if n := len(r.tried); n > 0 {
		r.written = r.tried[n-1].counts
	}
	r.reading, r.tried = catalog.Reading{}, nil
}

func hourEnd(hour string) time.Time {
	at, err := time.Parse(catalog.HourLayout, hour)
	if err != nil {
		return time.Time{} // of no hour: long over
	}
	return at.Add(time.Hour)
}

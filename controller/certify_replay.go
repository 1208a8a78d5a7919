package controller

import (
	"context"
	"errors"
	"fmt"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// maxReplayed bounds how many batches are remembered of what a return has appended anew, per
// partition.
const maxReplayed = 1 << 17

// placed is a batch that a return has appended anew, as it was read back.
type placed struct {
	offset  int64 // logical
	seq     int32
	records int32
	crc     uint32
	stamped bool
}

// readReplay looks up what a return has appended anew: each stranded batch is made once more as
// it was appended, and compared with what lies in the log that it was appended to. Failures
// are evidence.
func (t *term) readReplay(ctx context.Context, e *catalog.Extend, i int, ev *evidence) {
	x, r := &e.Returned[i], &ev.replay
	if x.InPlace || x.Taken == 0 {
		return
	}
	j := judgedOf(e, e.Ends[i].Partition, e.Ends[i].Span)
	switch {
	case j == nil || j.To == nil:
		r.why = "it is not on record where"
	case t.o.CertifyBytes <= 0:
		r.why = ConfigCertifyBytes + "=0"
	case ev.compacted:
		r.why = "the topic is compacted: its cluster removes records and makes batches anew"
	default:
		t.compareReplay(ctx, e, i, j, r)
	}
}

func (t *term) compareReplay(ctx context.Context, e *catalog.Extend, i int, j *catalog.Judged, r *replayed) {
	select {
	case t.reading <- struct{}{}:
		defer func() { <-t.reading }()
	case <-ctx.Done():
		r.err = ctx.Err()
		return
	}
	there, whole, err := t.readPlaced(ctx, e, i, j)
	if errors.Is(err, span.ErrGone) || errors.Is(err, span.ErrOffsetOutOfRange) {
		r.why = "they are gone from where they had been appended"
		return
	}
	if err != nil {
		r.err = err
		return
	}
	at := map[int32][]placed{}
	for _, p := range there {
		at[p.seq] = append(at[p.seq], p)
	}
	end := e.Returned[i].Sequence
	if n := len(there); n > 0 {
		r.first, end = there[0].offset, there[n-1].seq+there[n-1].records
	}
	r.whole, r.altered = whole, j.Altered
	if !whole {
		r.why = "more than " + ConfigCertifyBytes
	}
	err = t.strandedAgain(ctx, e, i, j, func(h *batch.Header, b []byte, a anew) error {
		if !whole && (len(there) == 0 || a.seq+a.records > end) {
			r.from = a.from
			return errEnough
		}
		r.batches, r.from = r.batches+1, a.to
		r.records += int64(a.records)
		found := at[a.seq]
		if n := len(found); n > 1 {
			r.twice += int64(n-1) * int64(found[1].records)
			r.missing = append(r.missing, catalog.Range{From: found[1].offset, To: found[1].offset + int64(found[1].records), What: "duplicated",
				Note: fmt.Sprintf("appended anew twice, also at %d", found[0].offset)})
		}
		same, err := a.isThere(h, b, e.Producer, j, at)
		if err != nil {
			return err
		}
		if !same {
			r.lost += int64(a.records)
			r.missing = append(r.missing, catalog.Range{From: a.from, To: a.to, What: "lost",
				Note: "stranded, and not found as it was appended anew"})
		}
		return nil
	})
	if errors.Is(err, errEnough) { // by either of the two walks' bounds
		err = nil
		if !whole || r.records < e.Returned[i].Taken {
			r.whole, r.why = false, "more than "+ConfigCertifyBytes
		}
	}
	r.err = err
}

// readPlaced reads the return's own batches in the log that it appended to. whole: all of them that are there.
func (t *term) readPlaced(ctx context.Context, e *catalog.Extend, i int, j *catalog.Judged) (list []placed, whole bool, err error) {
	st, err := t.o.Stores.Store(j.To.Cluster)
	if err != nil {
		return nil, false, err
	}
	log := st.Log(storeTopic(*j.To), j.At)
	defer log.Release()
	o, err := t.offsets(ctx, log)
	if err != nil {
		return nil, false, err
	}
	x := &e.Returned[i]
	var records int64
	err = t.pacedWalk(ctx, log, j.From, o.HighWatermark, t.o.CertifyBytes, &content{}, func(h batch.Header, _ []byte) error {
		if h.ProducerID != e.Producer || h.IsControl() || h.BaseSequence < x.Sequence {
			return nil
		}
		list = append(list, placed{offset: h.BaseOffset + j.Delta, seq: h.BaseSequence, records: h.NumRecords, crc: h.CRC, stamped: h.LogAppendTime()})
		if records += int64(h.NumRecords); records >= x.Taken || len(list) >= maxReplayed {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		return list, records >= x.Taken, nil
	case errors.Is(err, errNothing):
		err = nil // the log went back: what is missing is named
	}
	return list, err == nil, err
}

// anew is a stranded batch as a return has appended it: with so many of its records, from a sequence on.
type anew struct {
	seq, records int32
	from, to     int64 // logical offsets in the lost log
}

// isThere tells whether a batch was found as it was appended anew, whole or, where batches were halved, in parts one behind the other.
func (a *anew) isThere(h *batch.Header, b []byte, producer int64, j *catalog.Judged, at map[int32][]placed) (bool, error) {
	if !j.Altered {
		out, err := restamp(h, b, producer, a.seq)
		if err != nil {
			return false, err
		}
		made, _, err := batch.Parse(out)
		if err != nil {
			return false, err
		}
		found := at[a.seq]
		return len(found) > 0 && found[0].records == made.NumRecords && (found[0].stamped || found[0].crc == made.CRC), nil
	}
	for seq := a.seq; seq < a.seq+a.records; {
		found := at[seq]
		if len(found) == 0 || found[0].records <= 0 || seq+found[0].records > a.seq+a.records {
			return false, nil
		}
		seq += found[0].records
	}
	return true, nil
}

// strandedAgain hands on the batches that a return has appended anew, as they lie in the lost log.
func (t *term) strandedAgain(ctx context.Context, e *catalog.Extend, i int, j *catalog.Judged, f func(h *batch.Header, b []byte, a anew) error) error {
	end, x := &e.Ends[i], &e.Returned[i]
	old := e.Old[end.Old]
	st, err := t.o.Stores.Store(old.Cluster)
	if err != nil {
		return err
	}
	log := st.Log(storeTopic(old), end.At)
	defer log.Release()
	again, seq := againOf(j), x.Sequence
	for _, g := range x.Stranded {
		err := t.pacedWalk(ctx, log, g.From-end.Delta, g.To-end.Delta, t.o.CertifyBytes, &content{}, func(h batch.Header, b []byte) error {
			if h.IsControl() || h.NumRecords == 0 || h.HasProducer() && again.Has(h.ProducerID, h.ProducerEpoch, h.BaseSequence) {
				return nil
			}
			a := anew{seq: seq, records: h.NumRecords, from: h.BaseOffset + end.Delta, to: h.NextOffset() + end.Delta}
			out, err := refusedOf(j, &h, b, a.from)
			if err != nil {
				return err
			}
			if a.records -= out; a.records == 0 {
				return nil
			}
			seq += a.records
			return f(&h, b, a)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

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
	last := e.Returned[i].Sequence - 1
	if n := len(there); n > 0 {
		r.first, last = there[0].offset, there[n-1].seq
	}
	r.whole = whole
	if !whole {
		r.why = "more than " + ConfigCertifyBytes
	}
	err = t.strandedAgain(ctx, e, i, j, func(h *batch.Header, b []byte, seq int32, from int64) error {
		if !whole && (len(there) == 0 || seq > last) {
			r.from = from
			return errEnough
		}
		out, err := restamp(h, b, e.Producer, seq)
		if err != nil {
			return err
		}
		made, _, err := batch.Parse(out)
		if err != nil {
			return err
		}
		found := at[seq]
		r.batches, r.from = r.batches+1, from+int64(made.NumRecords)
		r.records += int64(made.NumRecords)
		if n := len(found); n > 1 {
			r.twice += int64(n-1) * int64(made.NumRecords)
			r.missing = append(r.missing, catalog.Range{From: found[1].offset, To: found[1].offset + int64(made.NumRecords), What: "duplicated",
				Note: fmt.Sprintf("appended anew twice, also at %d", found[0].offset)})
		}
		if len(found) == 0 || found[0].records != made.NumRecords || !found[0].stamped && found[0].crc != made.CRC {
			r.lost += int64(made.NumRecords)
			r.missing = append(r.missing, catalog.Range{From: from, To: from + int64(made.NumRecords), What: "lost",
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

// strandedAgain hands on the batches that a return has appended anew, as they lie in the lost
// log, with the sequence that each was given and its logical offset there.
func (t *term) strandedAgain(ctx context.Context, e *catalog.Extend, i int, j *catalog.Judged, f func(h *batch.Header, b []byte, seq int32, from int64) error) error {
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
			at := seq
			seq += h.NumRecords
			return f(&h, b, at, h.BaseOffset+end.Delta)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

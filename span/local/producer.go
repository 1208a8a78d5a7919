package local

import (
	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// keptBatches is how many of a producer's last batches are remembered, as many
// as a client may have in flight (KIP-98).
const keptBatches = 5

// producer is the state of one producer id in one partition.
type producer struct {
	id         int64
	epoch      int16
	n          uint8 // batches in use
	coordEpoch int32 // of the last marker, -1
	batches    [keptBatches]span.ProducedBatch
	txnStart   int64 // -1: no open transaction
	lastTime   int64 // ms, by the log's clock: when it was last heard of
	lastOffset int64
	lastTS     int64
}

func (p *producer) lastSequence() int32 {
	if p.n == 0 {
		return batch.NoSequence
	}
	return p.batches[p.n-1].LastSequence
}

func (p *producer) export() span.Producer {
	return span.Producer{
		ID: p.id, Epoch: p.epoch,
		LastSequence:  p.lastSequence(),
		LastOffset:    p.lastOffset,
		LastTimestamp: p.lastTS,
		TxnStart:      p.txnStart,

		CoordinatorEpoch: p.coordEpoch,
		Batches:          append([]span.ProducedBatch(nil), p.batches[:p.n]...),
	}
}

func reject(code wire.Code, detail string) error {
	return &span.RejectedError{Code: code, Detail: detail}
}

// These are allocated once: a producer that is out of order sends many.
var (
	errOutOfOrder  = reject(wire.OutOfOrderSequenceNumber, "the batch does not follow the producer's last one")
	errOldEpoch    = reject(wire.InvalidProducerEpoch, "a newer epoch of this producer id has written")
	errTxnState    = reject(wire.InvalidTxnState, "the producer has an open transaction")
	errCoordinator = reject(wire.TransactionCoordinatorFenced, "a newer coordinator has written")
)

// judge tells what to do with a producer's batch, as Apache Kafka's
// ProducerStateManager does: append it (dup nil, err nil), answer it with the
// batch that it repeats, or refuse it. state is nil for an unknown producer, who
// may begin at any sequence.
func judge(state *producer, h *batch.Header) (dup *span.ProducedBatch, err error) {
	if state == nil {
		return nil, nil
	}
	if h.ProducerEpoch < state.epoch {
		return nil, errOldEpoch
	}
	first, last := h.BaseSequence, h.LastSequence()
	if h.ProducerEpoch == state.epoch {
		for i := range state.batches[:state.n] {
			if b := &state.batches[i]; b.FirstSequence == first && b.LastSequence == last {
				return b, nil
			}
		}
		if want := state.lastSequence(); want == batch.NoSequence && first != 0 ||
			want != batch.NoSequence && first != batch.IncrementSequence(want, 1) {
			return nil, errOutOfOrder
		}
	} else if first != 0 {
		return nil, errOutOfOrder
	}
	if state.txnStart >= 0 && !h.IsTransactional() {
		return nil, errTxnState
	}
	return nil, nil
}

// note records an appended batch of the producer. now is the log's clock.
func (p *producer) note(h *batch.Header, now int64) {
	if h.ProducerEpoch != p.epoch {
		p.epoch, p.n = h.ProducerEpoch, 0
	}
	b := span.ProducedBatch{
		FirstSequence: h.BaseSequence, LastSequence: h.LastSequence(),
		FirstOffset: h.BaseOffset, LastOffset: h.LastOffset(), Timestamp: h.MaxTimestamp,
	}
	if p.n == keptBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = b
	p.n++
	p.lastTime, p.lastOffset, p.lastTS = now, b.LastOffset, b.Timestamp
	if h.IsTransactional() && p.txnStart < 0 {
		p.txnStart = h.BaseOffset
	}
}

// judgeMarker tells whether a transaction marker may be appended.
func judgeMarker(state *producer, m *batch.Marker) error {
	if state == nil {
		return nil
	}
	if m.ProducerEpoch < state.epoch {
		return errOldEpoch
	}
	if m.CoordinatorEpoch < state.coordEpoch {
		return errCoordinator
	}
	return nil
}

// noteMarker records an appended marker and returns where the transaction that
// it ended began, -1 if there was none.
func (p *producer) noteMarker(m *batch.Marker, now int64) (start int64) {
	if m.ProducerEpoch != p.epoch {
		p.epoch, p.n = m.ProducerEpoch, 0
	}
	start = p.txnStart
	p.txnStart = -1
	p.coordEpoch = m.CoordinatorEpoch
	p.lastTime, p.lastTS = now, m.Timestamp
	return start
}

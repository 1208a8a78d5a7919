package testkit

import (
	"encoding/binary"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceExchange is what the answer to a produce request is held against.
type produceExchange struct {
	counts  map[topicPartition]int64 // records forwarded
	harmed  *harmed
	removed *removed
}

// harmed is a harm that counts once the endpoint has accepted the batch.
type harmed struct {
	order   order
	tp      topicPartition
	key     producerKey
	shift   int32
	index   int64 // of the record in the client's batch
	shifted bool
}

// removed is a partition that was taken out of a request whole, and is to be answered by us.
type removed struct {
	topic     string
	id        [16]byte
	partition int32
	base      int64
}

// produceRequest shifts sequences, does at most one harm, and passes the request on.
func (s *Saboteur) produceRequest(x *exchange, frame []byte, body int) (*exchange, []byte, error) {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(x.version)
	if err := req.ReadFrom(frame[body:]); err != nil {
		return nil, nil, err
	}
	x.produce = &produceExchange{counts: map[topicPartition]int64{}}
	changed := false
	s.mu.Lock()
	for i := range req.Topics {
		t := &req.Topics[i]
		name := t.Topic
		if name == "" {
			name = s.topics[t.TopicID]
		}
		for j := 0; j < len(t.Partitions); j++ {
			p := &t.Partitions[j]
			tp := topicPartition{name, p.Partition}
			b, err := openBatch(p.Records)
			if err != nil {
				continue // the endpoint will say what is wrong with it
			}
			if s.shiftBatch(&b, tp) {
				changed = true
			}
			if x.produce.harmed == nil && req.Acks != 0 && s.harmBatch(&b, tp, x.produce) {
				changed = true
			}
			x.produce.counts[tp] = int64(b.count())
			p.Records = b.bytes
			if b.count() == 0 {
				end, known := s.ends[tp]
				if !known {
					end = -1
				}
				x.produce.removed = &removed{topic: t.Topic, id: t.TopicID, partition: p.Partition, base: end}
				t.Partitions = slices.Delete(t.Partitions, j, j+1)
				j--
			}
		}
	}
	s.mu.Unlock()
	req.Topics = slices.DeleteFunc(req.Topics, func(t kmsg.ProduceRequestTopic) bool { return len(t.Partitions) == 0 })
	if x.produce.removed != nil && len(req.Topics) == 0 {
		// Nothing is left to forward: the answer is all ours, and takes its place in the order.
		answer := kmsg.NewPtrProduceResponse()
		answer.SetVersion(x.version)
		x.answer = append([]byte(nil), frame[4:8]...)
		if answer.IsFlexible() {
			x.answer = append(x.answer, 0)
		}
		x.answer = answer.AppendTo(x.answer)
		return x, nil, nil
	}
	if changed {
		frame = req.AppendTo(frame[:body:body])
	}
	if req.Acks == 0 {
		return nil, frame, nil
	}
	return x, frame, nil
}

// shiftBatch makes up for records that earlier harms took or added. Called with the lock held.
func (s *Saboteur) shiftBatch(b *openedBatch, tp topicPartition) bool {
	shift := s.shifts[b.producer(tp)]
	if shift == 0 || b.producer(tp).id < 0 {
		return false
	}
	b.shiftSequence(shift)
	return true
}

// harmBatch carries out the first order that fits. Called with the lock held.
func (s *Saboteur) harmBatch(b *openedBatch, tp topicPartition, x *produceExchange) bool {
	for i, o := range s.armed {
		if o.topic != "" && o.topic != tp.topic || o.partition >= 0 && o.partition != tp.partition || o.sequence > 0 && b.sequence() < o.sequence {
			continue
		}
		h := &harmed{order: o, tp: tp, key: b.producer(tp), index: int64(b.count()) - 1}
		var err error
		switch o.harm {
		case Drop:
			h.shift = -1
			err = b.edit(func(r [][]byte) [][]byte { return r[:len(r)-1] })
		case Double:
			h.shift = 1
			err = b.edit(func(r [][]byte) [][]byte { return append(r, r[len(r)-1]) })
		case Swap:
			if b.count() < 2 {
				continue
			}
			h.index = 0
			err = b.edit(func(r [][]byte) [][]byte { r[0], r[1] = r[1], r[0]; return r })
		default:
			continue
		}
		if err != nil {
			continue // a batch that we cannot read is left to the endpoint
		}
		s.armed = slices.Delete(s.armed, i, i+1)
		if h.key.id >= 0 {
			s.shifts[h.key] += h.shift
			h.shifted = true
		}
		x.harmed = h
		return true
	}
	return false
}

// produceResponse books what the endpoint accepted, and answers for what it was not given.
func (s *Saboteur) produceResponse(x *produceExchange, a *kmsg.ProduceResponse) {
	if x == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range a.Topics {
		name := t.Topic
		if name == "" {
			name = s.topics[t.TopicID]
		}
		for _, p := range t.Partitions {
			tp := topicPartition{name, p.Partition}
			accepted := p.ErrorCode == 0
			if accepted && p.BaseOffset >= 0 {
				s.ends[tp] = max(s.ends[tp], p.BaseOffset+x.counts[tp])
			}
			if h := x.harmed; h != nil && h.tp == tp && x.removed == nil {
				if accepted {
					s.book(h, p.BaseOffset)
				} else {
					s.undoHarm(h)
				}
				x.harmed = nil
			}
		}
	}
	if r := x.removed; r != nil {
		s.answerFor(r, a)
		if x.harmed != nil {
			s.book(x.harmed, r.base)
			x.harmed = nil
		}
	}
}

// answerFor adds the partition that was taken out.
func (s *Saboteur) answerFor(r *removed, a *kmsg.ProduceResponse) {
	p := kmsg.NewProduceResponseTopicPartition()
	p.Partition, p.BaseOffset, p.LogAppendTime, p.LogStartOffset = r.partition, r.base, -1, 0
	for i := range a.Topics {
		if a.Topics[i].Topic == r.topic && a.Topics[i].TopicID == r.id {
			a.Topics[i].Partitions = append(a.Topics[i].Partitions, p)
			return
		}
	}
	t := kmsg.NewProduceResponseTopic()
	t.Topic, t.TopicID, t.Partitions = r.topic, r.id, []kmsg.ProduceResponseTopicPartition{p}
	a.Topics = append(a.Topics, t)
}

// book is called with the lock held.
func (s *Saboteur) book(h *harmed, base int64) {
	offset := int64(-1)
	if base >= 0 {
		offset = base + h.index
	}
	s.done = append(s.done, Deed{h.order.harm, h.tp.topic, h.tp.partition, offset})
	close(s.change)
	s.change = make(chan struct{})
}

// undoHarm is for a batch that was refused: the client will send it again, and the order stands.
// Called with the lock held.
func (s *Saboteur) undoHarm(h *harmed) {
	if h.shifted {
		s.shifts[h.key] -= h.shift
	}
	s.armed = append([]order{h.order}, s.armed...)
}

// undo is for an exchange whose answer never reached the client.
func (s *Saboteur) undo(x *exchange) {
	if x.produce == nil || x.produce.harmed == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undoHarm(x.produce.harmed)
	x.produce.harmed = nil
}

// Where the fields of a record batch of version 2 lie.
const (
	batchLength     = 8
	batchMagic      = 16
	batchCRC        = 17
	batchAttributes = 21
	batchLastDelta  = 23
	batchProducer   = 43
	batchEpoch      = 51
	batchSequence   = 53
	batchCount      = 57
	batchRecords    = 61
)

// openedBatch is one record batch; edits replace its bytes, and never write into the client's.
type openedBatch struct{ bytes []byte }

func (b *openedBatch) count() int {
	return int(int32(binary.BigEndian.Uint32(b.bytes[batchCount:])))
}

func (b *openedBatch) sequence() int32 {
	return int32(binary.BigEndian.Uint32(b.bytes[batchSequence:]))
}

func (b *openedBatch) producer(tp topicPartition) producerKey {
	return producerKey{tp, int64(binary.BigEndian.Uint64(b.bytes[batchProducer:])), int16(binary.BigEndian.Uint16(b.bytes[batchEpoch:]))}
}

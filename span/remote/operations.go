package remote

import (
	"context"
	"slices"
	"time"

	"github.com/braidstream/braid/span"
)

// answer runs one operation and encodes what comes of it.
func (c *serverConn) answer(ctx context.Context, m message) answer {
	e := encoder{}
	body, release, err := c.run(ctx, m.op, &decoder{b: m.head}, &e)
	status := opOK
	if err != nil {
		if release != nil {
			release()
		}
		body, release, status = nil, nil, opError
		e = encoder{}
		encodeError(&e, err)
	}
	if release == nil {
		release = noRelease
	}
	return answer{prefix: append(appendPrefix(nil, m.id, status, len(e.b), len(body)), e.b...), body: body, release: release}
}

func (c *serverConn) run(ctx context.Context, o op, d *decoder, e *encoder) (body []byte, release func(), err error) {
	switch o {
	case opCreate, opAddPartitions, opConfigure, opDelete, opTopics, opSeal, opHealth:
		return nil, nil, c.runStore(ctx, o, d, e)
	}
	key := logKey{topic: d.topic(), partition: int32(d.int())}
	if d.bad {
		return nil, nil, errFrame
	}
	l := c.store.Log(key.topic, key.partition)
	defer l.Release()
	switch o {
	case opRead:
		r := span.ReadRequest{Offset: d.int(), MaxBytes: int(min(max(d.int(), 0), maxBody/2)), MaxWait: time.Duration(d.int()), Committed: d.flag()}
		if err := d.end(); err != nil {
			return nil, nil, err
		}
		res, err := l.Read(ctx, r)
		if err != nil {
			return nil, res.Release, err
		}
		e.int(res.Start)
		e.int(res.HighWatermark)
		e.int(res.LastStable)
		e.int(int64(len(res.Aborted)))
		for _, a := range res.Aborted {
			e.int(a.ProducerID)
			e.int(a.FirstOffset)
		}
		return res.Batches, res.Release, nil
	case opOffsets:
		if err := d.end(); err != nil {
			return nil, nil, err
		}
		off, err := l.Offsets(ctx)
		e.int(off.Start)
		e.int(off.HighWatermark)
		e.int(off.LastStable)
		e.int(off.End)
		e.int(int64(off.LeaderEpoch))
		return nil, nil, err
	case opOffsetFor:
		ms := d.int()
		if err := d.end(); err != nil {
			return nil, nil, err
		}
		at, found, err := l.OffsetFor(ctx, ms)
		e.int(at.Offset)
		e.int(at.Timestamp)
		e.flag(found)
		return nil, nil, err
	case opProbe:
		if err := d.end(); err != nil {
			return nil, nil, err
		}
		return nil, nil, l.Probe(ctx)
	case opProducers:
		if err := d.end(); err != nil {
			return nil, nil, err
		}
		list, err := l.Producers(ctx)
		encodeProducers(e, list)
		return nil, nil, err
	case opDeleteBefore:
		offset := d.int()
		if err := d.end(); err != nil {
			return nil, nil, err
		}
		start, err := l.DeleteBefore(ctx, offset)
		e.int(start)
		return nil, nil, err
	}
	return nil, nil, errFrame
}

func (c *serverConn) runStore(ctx context.Context, o op, d *decoder, e *encoder) error {
	switch o {
	case opCreate:
		spec := span.Spec{Name: d.text(maxName), Partitions: int32(d.int()), Config: d.config()}
		if err := d.end(); err != nil {
			return err
		}
		t, err := c.store.Create(ctx, spec)
		e.topic(t)
		return err
	case opTopics:
		prefix := d.text(maxName)
		if err := d.end(); err != nil {
			return err
		}
		list, err := c.store.Topics(ctx, prefix)
		e.int(int64(len(list)))
		for _, t := range list {
			e.topic(t)
		}
		return err
	case opHealth:
		if err := d.end(); err != nil {
			return err
		}
		h, err := c.store.Health(ctx)
		e.text(h.ClusterID)
		e.int(int64(h.Brokers))
		e.text(h.Kafka)
		e.bits(h.CanSeal, h.Full)
		e.flag(h.Writable)
		e.text(clip(h.Detail))
		return err
	}
	t := d.topic()
	switch o {
	case opAddPartitions:
		total := int32(d.int())
		if err := d.end(); err != nil {
			return err
		}
		return c.store.AddPartitions(ctx, t, total)
	case opConfigure:
		config := d.config()
		if err := d.end(); err != nil {
			return err
		}
		return c.store.Configure(ctx, t, config)
	}
	if err := d.end(); err != nil {
		return err
	}
	if o == opDelete {
		return c.store.Delete(ctx, t)
	}
	ends, err := c.store.Seal(ctx, t)
	e.int(int64(len(ends)))
	for _, end := range ends {
		e.int(int64(end.Partition))
		e.int(end.Start)
		e.int(end.End)
		e.int(end.MaxTimestamp)
	}
	// A peer that does not know of it takes the answer for none, which is right: it would give the offsets again.
	if slices.ContainsFunc(ends, func(e span.End) bool { return e.Lossy }) {
		for _, end := range ends {
			e.flag(end.Lossy)
		}
	}
	return err
}

package gateway

// Produce, key 0, versions 3 to 13 (0 to 2 are told in ApiVersions and refused,
// as Apache Kafka 4 does; see apiversions.go).
//
// Like Apache Kafka: one batch of format 2 for each partition; answers leave in
// the order of the requests; acks=0 gets no answer, and a closed connection if
// it failed, unless only a cluster was away: other partitions need the connection.
//
// Differences: requests of one connection are worked on at the same time, their
// appends in the order of arrival, so a partition that waits does not keep the
// requests behind from being appended. acks 0 and 1 are appended like -1.
// Timestamps are checked by the batch's header; keys and times of single records are looked at
// only where the topic sets message.timestamp.before.max.ms or is compacted. That records unpack and
// are whole is checked by the cluster that takes them. What Apache Kafka answers with UNKNOWN_SERVER_ERROR
// then (records that do not unpack) is INVALID_RECORD, and so are offsets that do not grow within an uncompressed batch,
// which it takes. Behind the first 64 MiB that a batch unpacks to, a local cluster checks nothing.
// CurrentLeader and NodeEndpoints
// (KIP-951) are never set: every gateway takes appends for every partition.

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// producePart is one partition of a flight.
type producePart struct {
	f      *flight
	append chain.Append
	index  int // of its result
}

// produce takes over the frame, which counts among those in flight already. It returns when every append of the request was
// submitted; the flight's last append has it answered.
func (c *conn) produce(frame *wire.Buffer, h wire.Header, body []byte, start time.Time) error {
	f := flightPool.Get().(*flight)
	f.c, f.frame, f.size = c, frame, frame.Cap()
	f.version, f.corr, f.start = h.Version, h.CorrelationID, start
	f.of = c.account
	if err := f.req.Decode(h.Version, body); err != nil {
		f.free()
		return err
	}
	f.silent = f.req.Acks == 0
	f.resp.Answer(&f.req)
	f.left.Store(1)
	if err := c.launch(f); err != nil {
		f.free()
		return err
	}
	if c.quota != nil {
		f.resp.ThrottleMillis = c.throttle(c.quota.Produced(len(frame.B), start.UnixMilli()))
	}
	metered := c.quota.Metered()
	f.submit(len(frame.B) - len(body))
	if metered {
		// What the answer waits for from here on is no work.
		if wait := c.throttle(c.quota.Worked(int64(time.Since(start)-c.queued), time.Now().UnixMilli())); wait > f.resp.ThrottleMillis {
			f.resp.ThrottleMillis = wait
		}
	}
	f.landed()
	return nil
}

// burstBytes ends a burst: of a large request the first batches are on their way
// while the others' checksums are still computed.
const burstBytes = 2 << 20

// submit validates and submits the request's batches, in their order. They stay
// in the frame, whose body begins at byte body, and leave together as far as
// they go to the same broker.
func (f *flight) submit(body int) {
	c := f.c
	g := c.g
	if cap(f.parts) < len(f.req.Partitions) {
		f.parts = make([]producePart, len(f.req.Partitions))
	}
	f.parts = f.parts[:len(f.req.Partitions)]
	deadline := f.start.Add(g.produceTimeout(f.req.TimeoutMillis))
	now := f.start.UnixMilli()
	loan := chain.Lend(f.frame.B, f.frame.Cap(), f.frame.Release)
	f.frame = nil
	f.burst.Begin()
	burst := 0
	txn := f.transaction()
	ask := c.asker(keyProduce)
	refused, why := wire.None, ""
	if txn != nil {
		refused = ask.onTxn(acl.Write, string(f.req.TransactionalID))
	}
	if c.full && refused == wire.None {
		refused, why = wire.PolicyViolation, storageFull
	}
	for t := range f.req.Topics {
		topic := &f.req.Topics[t]
		var st *topicState
		code := refused
		if code == wire.None {
			st, code = f.topic(topic, &ask)
		}
		// The answer outlives the frame.
		if st != nil {
			f.resp.Topics[t].Name = st.name
		} else {
			f.resp.Topics[t].Name = bytes.Clone(topic.Name)
		}
		for i := topic.First; i < topic.First+topic.Count; i++ {
			if code != wire.None {
				f.refuse(i, code, why)
				continue
			}
			part := &f.req.Partitions[i]
			p, err := st.partition(g.logs, part.Index)
			if err != nil {
				f.fail(i, err)
				continue
			}
			header, err := st.settings.check(part.Records, f.version)
			if asked := st.settings.admission(now); err == nil && asked.Demands(&header) {
				err = f.admit(&st.settings, asked, part.Records, &header)
			}
			if err != nil {
				f.fail(i, err)
				continue
			}
			if header.IsTransactional() != (txn != nil) {
				f.fail(i, errTransactional)
				continue
			}
			pp := &f.parts[i]
			pp.f, pp.index = f, i
			pp.append = chain.Append{
				Batch: part.Records, Header: header, Loan: loan, At: body + part.At, Burst: &f.burst, Came: f.start, Deadline: deadline,
				MaxBatch: st.settings.maxMessageBytes, Txn: txn, Done: produceLanded, Tag: pp,
			}
			f.left.Add(1)
			if header.Codec() == batch.None {
				p.Append(&pp.append)
			} else {
				// A local cluster unpacks it, for which tenants take turns of their own.
				c.aside(func() { p.Append(&pp.append) })
			}
			if burst += len(part.Records); burst >= burstBytes {
				f.burst.End()
				f.burst.Begin()
				burst = 0
			}
		}
	}
	f.burst.End()
	f.req.Reset()
	loan.Release()
}

// topic finds the topic of a request's part, or says why not.
//
// A name that may not be written to is refused before anything else is said of
// it; an id has to be known to have a name.
func (f *flight) topic(t *wire.Topic, ask *asker) (*topicState, wire.Code) {
	if f.req.Acks < -1 || f.req.Acks > 1 {
		return nil, wire.InvalidRequiredAcks
	}
	if f.version < 13 {
		if code := ask.onStream(acl.Write, t.Name); code != wire.None {
			return nil, code
		}
	}
	g, tenant := f.c.g, f.c.tenant
	find := func() *topicState {
		if f.version >= 13 {
			return g.topics.withID(tenant, t.ID)
		}
		return g.topics.named(tenant, t.Name)
	}
	most := int32(0)
	for i := t.First; i < t.First+t.Count; i++ {
		most = max(most, f.req.Partitions[i].Index)
	}
	st := find()
	if st == nil || int(most) >= len(st.parts) {
		// Another gateway may have told the client of a topic or of partitions
		// that this one has not heard of yet. What is submitted does not wait for that.
		f.burst.End()
		f.c.aside(func() { g.fresh.refresh(f.c.ctx) })
		f.burst.Begin()
		st = find()
	}
	if st != nil && f.version >= 13 {
		if code := ask.onStream(acl.Write, st.name); code != wire.None {
			return nil, code
		}
	}
	switch {
	case st != nil && internalTopic(string(st.name)):
		return nil, wire.InvalidTopicException // nobody's to write to, as in Kafka
	case st != nil:
		return st, wire.None
	case f.version >= 13:
		return nil, wire.UnknownTopicID
	}
	return nil, wire.UnknownTopicOrPartition
}

// check validates one partition's records as a broker does, but for keys and times.
func (s *topicSettings) check(records []byte, version int16) (batch.Header, error) {
	if len(records) == 0 {
		return batch.Header{}, &span.RejectedError{Code: wire.InvalidRecord, Detail: "A partition needs one record batch"}
	}
	h, err := batch.Validate(records, batch.Limits{MaxBytes: s.maxMessageBytes, NoZstd: version < 7})
	if err != nil {
		return h, err
	}
	if h.LogAppendTime() {
		return h, &span.RejectedError{Code: wire.InvalidTimestamp,
			Detail: "Invalid timestamp type in message. Producer should not set timestamp type to LogAppendTime."}
	}
	return h, nil
}

// admission is what the topic's configs ask of keys and times.
func (s *topicSettings) admission(now int64) batch.Admission {
	asked := batch.Admission{Keys: s.compact, Before: -1, After: -1, Now: now}
	if !s.logAppendTime {
		asked.Before, asked.After = s.beforeMax, s.afterMax
	}
	return asked
}

// admit checks keys and times. For what has to be unpacked tenants take turns of their own, outside of those at
// requests, for which what was submitted does not wait.
func (f *flight) admit(s *topicSettings, asked batch.Admission, records []byte, h *batch.Header) (err error) {
	if h.Codec() == batch.None {
		return s.admit(f.c.tenant, asked, records, h)
	}
	f.burst.End()
	f.c.aside(func() { err = s.admit(f.c.tenant, asked, records, h) })
	f.burst.Begin()
	return err
}

func (s *topicSettings) admit(owner string, asked batch.Admission, records []byte, h *batch.Header) error {
	err := asked.Check(owner, records, h)
	var faults *batch.FaultsError
	var late *batch.TimeError
	rejected := &span.RejectedError{}
	switch {
	case errors.Is(err, batch.ErrNoKey):
		rejected.Code, rejected.Detail = wire.InvalidRecord, s.fault(err, asked.Now)
	case errors.As(err, &late):
		rejected.Code, rejected.Detail = wire.InvalidTimestamp, s.fault(err, asked.Now)
	case errors.Is(err, batch.ErrCorrupt), errors.Is(err, batch.ErrInvalid):
		// The checksum was right: sent again it would be the same.
		return &span.RejectedError{Code: wire.InvalidRecord, Detail: err.Error()}
	default:
		return err
	}
	if !errors.As(err, &faults) {
		return rejected
	}
	out := &recordsRefused{RejectedError: rejected, records: make([]wire.RecordError, len(faults.Faults))}
	for i, f := range faults.Faults {
		out.records[i] = wire.RecordError{Index: f.Index, Message: []byte(s.fault(f.Err, asked.Now))}
	}
	return out
}

// recordsRefused is a batch that is refused for some of its records. A client
// fails those with the batch's error, and tells of the others that they were in
// bad company (KIP-467).
type recordsRefused struct {
	*span.RejectedError
	records []wire.RecordError
}

func (e *recordsRefused) Unwrap() error { return e.RejectedError }

// fault says what is wrong with a record.
func (s *topicSettings) fault(err error, now int64) string {
	var late *batch.TimeError
	if !errors.As(err, &late) {
		return "Compacted topic cannot accept message without key"
	}
	return fmt.Sprintf("Timestamp %d of message is out of range [%s, %s] of the topic",
		late.Timestamp, bound(now, -s.beforeMax, s.beforeMax), bound(now, s.afterMax, s.afterMax))
}

func bound(now, d, limit int64) string {
	if limit < 0 {
		return "no limit"
	}
	return time.UnixMilli(now + d).UTC().Format(time.RFC3339)
}

// produceLanded is the end of one append. It may run on any goroutine and must
// not block.
func produceLanded(a *chain.Append) {
	pp := a.Tag.(*producePart)
	f := pp.f
	if a.Err != nil {
		f.fail(pp.index, a.Err)
	} else {
		r := &f.resp.Partitions[pp.index]
		r.BaseOffset, r.LogAppendTime, r.LogStart = a.BaseOffset, a.LogAppendTime, a.LogStart
	}
	f.landed()
}

// fail writes an error into a partition's result. Each result has one writer at
// a time.
func (f *flight) fail(i int, err error) {
	code := f.c.g.codeOf(keyProduce, f.c.peer, err)
	detail := ""
	var rejected *span.RejectedError
	var some *recordsRefused
	if f.version >= 8 && errors.As(err, &some) {
		// Few bytes unpack to many records: an answer names no more of them than a batch may.
		some.records = some.records[:min(len(some.records), batch.MaxFaults-f.named)]
		f.named += len(some.records)
		f.resp.Partitions[i].RecordErrors = some.records
	}
	switch {
	case errors.As(err, &rejected):
		detail = rejected.Detail
	case code == wire.UnknownTopicOrPartition && f.version >= 13 && errors.Is(err, chain.ErrUnknownTopic):
		code = wire.UnknownTopicID
	}
	f.refuse(i, code, detail)
}

func (f *flight) refuse(i int, code wire.Code, detail string) {
	f.c.g.metrics.failed(keyProduce, code)
	r := &f.resp.Partitions[i]
	r.Code, r.BaseOffset, r.LogAppendTime, r.LogStart = code, -1, -1, -1
	if detail != "" {
		r.Message = []byte(detail)
	}
	// Every gateway takes appends for every partition, so a client that looks at the metadata again is
	// told nothing new of a cluster that is away: the connection stays up for the others.
	if f.silent && code != wire.NotLeaderOrFollower && code != wire.RequestTimedOut {
		f.failed.Store(true)
	}
}

// produceTimeout is how long a request may take: the client's own limit less a
// tenth, so that the answer is there before the client gives up on the connection.
func (g *Gateway) produceTimeout(millis int32) time.Duration {
	d := time.Duration(millis) * time.Millisecond
	return min(max(d-d/10, time.Second), g.cfg.ProduceMaxTimeout)
}

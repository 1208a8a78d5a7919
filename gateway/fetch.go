package gateway

// Fetch, key 1, versions 4 to 18.
//
// Like Apache Kafka: sessions (KIP-227), long polls, max bytes in total and for
// each partition with the first batch whole whatever its size, topic ids from
// version 13 on, fencing by leader epoch (KIP-320), truncation by the last
// fetched epoch (KIP-595), aborted transactions for committed reads.
//
// Differences: sessions belong to their connection (fetch_session.go). A
// partition whose cluster does not answer in time comes with no records and no
// error, and keeps the others waiting no longer than the request's max wait.
// Preferred replicas, CurrentLeader and NodeEndpoints are never set: the rack is
// ignored, since every gateway serves every partition. Fetches of followers get
// NOT_LEADER_OR_FOLLOWER. Those with replica id -2, Kafka's debugging consumer, are served from
// the cluster that has the records, past the gateway's cache.

import (
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// fetcher works on the Fetch requests of one connection, one after the other.
// Its memory is used again.
type fetcher struct {
	call *call
	req  wire.FetchRequest
	resp wire.FetchResponse
	out  wire.Scatter

	committed bool
	byID      bool
	maxBytes  int32
	minBytes  int32
	now       time.Time
	session   *session
	// incremental: only what has changed is answered.
	incremental bool
	// withheld: a quota keeps the records back, and with them everything else.
	withheld bool
	waited   time.Duration // of the request's time, for records
	first    int           // index of the part that is read first

	parts   []*fetchPart // of the request
	ordered []*fetchPart // the same, in the order in which they are read
	batch   []*fetchPart // of one wave
	aborted []wire.AbortedTransaction
	burst   span.Burst // of the reads of one wave
	// told is when records were last sent.
	told time.Time

	signal  chan struct{}
	wake    func()
	timer   *time.Timer
	pending map[fetchKey]*fetchJob
}

func serveFetch(call *call) error {
	f := &call.c.fetch
	f.init()
	f.call, f.now = call, call.start
	defer f.end()
	version := call.header.Version
	// Clients that are slow to take what they asked for keep it in memory meanwhile.
	if err := call.g.answers.wait(call.ctx, call.c.account); err != nil {
		return err
	}
	if err := call.c.begin(); err != nil {
		return err
	}
	if err := f.req.Decode(version, call.body); err != nil {
		return err
	}
	f.resp.Reset()
	f.byID = version >= 13
	f.committed = f.req.Isolation == wire.ReadCommitted
	f.maxBytes = max(1, min(f.req.MaxBytes, call.g.cfg.FetchMaxBytes))
	if most := call.c.quota.FetchAtMost(); float64(f.maxBytes) > most {
		f.maxBytes = max(1, int32(most)) // more would be held back for ever
	}
	f.minBytes = min(f.req.MinBytes, f.maxBytes)
	if code := f.open(); code != wire.None {
		f.resp.Code = wire.Code(call.failed(code))
		return f.answer(version)
	}
	f.order()
	f.resolve()
	f.gather()
	if err := call.c.begin(); err != nil {
		return err
	}
	f.fetched()
	f.fill()
	f.worked()
	return f.answer(version)
}

func (f *fetcher) init() {
	if f.signal != nil {
		return
	}
	f.signal = make(chan struct{}, 1)
	f.wake = func() {
		select {
		case f.signal <- struct{}{}:
		default:
		}
	}
	f.timer = time.NewTimer(time.Hour)
	f.timer.Stop()
}

// end gives back everything that belongs to the request.
func (f *fetcher) end() {
	for _, fp := range f.parts {
		fp.drop()
		if f.session == nil {
			fp.unwatch()
		}
	}
	clear(f.parts)
	clear(f.ordered)
	clear(f.batch)
	f.parts, f.ordered, f.batch = f.parts[:0], f.ordered[:0], f.batch[:0]
	f.req.Reset()
	f.resp.Reset()
	f.out.Reset()
	f.aborted = f.aborted[:0]
	f.call, f.session, f.incremental, f.withheld, f.waited = nil, nil, false, false, 0
	// Room for thousands of partitions is not kept.
	if cap(f.req.Partitions) > 4096 {
		f.req, f.resp, f.out = wire.FetchRequest{}, wire.FetchResponse{}, wire.Scatter{}
		f.parts, f.ordered, f.batch = nil, nil, nil
	}
}

// closePending gives up the reads that requests left behind.
func (f *fetcher) closePending() {
	for _, j := range f.pending {
		j.abandon()
	}
	f.pending = nil
}

// open finds or makes the session, and the parts that are fetched.
func (f *fetcher) open() wire.Code {
	s := &f.call.c.sessions
	req := &f.req
	if req.SessionEpoch == sessionInitial || req.SessionEpoch == sessionFinal {
		if req.SessionID != 0 {
			s.remove(req.SessionID)
		}
		f.takeParts()
		if req.SessionEpoch == sessionInitial && len(f.parts) > 0 {
			own := append([]*fetchPart(nil), f.parts...)
			if f.session = s.add(f.call.tenant, own, f.byID); f.session != nil {
				f.resp.SessionID = f.session.id
			}
		}
		return wire.None
	}
	x := s.find(req.SessionID)
	switch {
	case x == nil:
		return wire.FetchSessionIDNotFound
	case x.epoch != req.SessionEpoch:
		return wire.InvalidFetchSessionEpoch
	case x.byID != f.byID:
		return wire.FetchSessionTopicIDError
	}
	if !s.apply(x, req, f.wake) {
		// No room to grow: the client begins anew, and gets on without a session.
		s.remove(x.id)
		return wire.FetchSessionIDNotFound
	}
	f.parts = append(f.parts, x.parts...)
	if len(x.parts) == 0 {
		s.remove(x.id)
		return wire.None
	}
	s.touch(x)
	x.advance()
	f.session, f.incremental = x, true
	f.resp.SessionID = x.id
	return wire.None
}

// takeParts makes parts of the request itself. One that is named twice counts once.
func (f *fetcher) takeParts() {
	seen := make(map[fetchKey]*fetchPart, len(f.req.Partitions))
	var key fetchKey
	for t := range f.req.Topics {
		topic := &f.req.Topics[t]
		key.name, key.id = string(topic.Name), topic.ID
		for i := topic.First; i < topic.First+topic.Count; i++ {
			p := &f.req.Partitions[i]
			key.index = p.Index
			if fp := seen[key]; fp != nil {
				fp.update(p)
				continue
			}
			fp := newFetchPart(key, p, f.wake)
			seen[key] = fp
			f.parts = append(f.parts, fp)
		}
	}
}

// order lets another partition be first each time, since the bytes of an answer
// may end before all had their turn. Requests without a session say the order
// themselves.
func (f *fetcher) order() {
	at := 0
	if f.incremental && len(f.parts) > 0 {
		at = f.session.turn % len(f.parts)
	}
	f.first = at
	f.ordered = append(append(f.ordered, f.parts[at:]...), f.parts[:at]...)
}

// resolve finds each part's partition.
func (f *fetcher) resolve() {
	g, tenant := f.call.g, f.call.tenant
	find := func(fp *fetchPart) {
		fp.code = wire.None
		if fp.st == nil || fp.st.stale.Load() || fp.part == nil {
			if f.byID {
				fp.st = g.topics.withID(tenant, fp.key.id)
			} else {
				fp.st = g.topics.named(tenant, fp.name)
			}
			was := fp.part
			fp.part = nil
			switch {
			case fp.st == nil && f.byID:
				fp.code = wire.UnknownTopicID
			case fp.st == nil:
				fp.code = wire.UnknownTopicOrPartition
			default:
				p, err := fp.st.partition(g.logs, fp.key.index)
				if err != nil {
					fp.code = g.codeOf(keyFetch, f.call.c.peer, err)
				}
				fp.part = p
			}
			if fp.part != was {
				fp.unwatch()
			}
		}
	}
	unknown := false
	for _, fp := range f.parts {
		find(fp)
		unknown = unknown || fp.code != wire.None
	}
	if unknown {
		f.call.c.aside(func() { g.fresh.refresh(f.call.ctx) })
	}
	follower := f.req.ReplicaID >= 0
	for _, fp := range f.parts {
		if fp.code != wire.None {
			find(fp)
		}
		if code := f.authorize(fp, follower); code != wire.None {
			fp.code = code
		}
		if fp.code == wire.None && follower {
			fp.code = wire.NotLeaderOrFollower
		}
		f.call.failed(fp.code)
	}
}

// authorize tells why a part may not be read. As in Produce, a name is refused
// whether there is such a topic or not.
func (f *fetcher) authorize(fp *fetchPart, follower bool) wire.Code {
	call := f.call
	switch {
	case call.index == nil:
		return wire.None
	case follower && !call.may(acl.ClusterAction, acl.Cluster, acl.ClusterName):
		return wire.TopicAuthorizationFailed
	case follower:
		return wire.None
	case !f.byID:
		return call.onStream(acl.Read, fp.name)
	case fp.st == nil:
		return wire.None
	}
	return call.onStream(acl.Read, fp.st.name)
}

// fill writes the parts into the answer.
func (f *fetcher) fill() {
	total := 0
	var topic *fetchPart
	if f.withheld {
		if !f.incremental {
			// A session begins with an answer that names its partitions.
			if f.session != nil {
				f.call.c.sessions.remove(f.session.id)
				f.session, f.resp.SessionID = nil, 0
			}
		}
		return
	}
	for i, fp := range f.ordered {
		r := wire.NewFetchResult(fp.key.index, fp.code)
		changed := !f.incremental
		switch {
		case fp.code != wire.None:
			// Told in every answer; what comes after the error is news again.
			changed = true
			fp.highWatermark = -1
		case fp.job == nil:
			r.HighWatermark, r.LastStable, r.LogStart = fp.highWatermark, fp.lastStable, fp.logStart
		default:
			f.result(fp, &r)
			// The first batch of a part comes whole, so that the sum may go past
			// the limit; only the first part of an answer is allowed to.
			if n := r.RecordBytes(); n > 0 && total > 0 && total+n > int(f.maxBytes) {
				r.Records, r.More, r.Aborted = nil, nil, nil
				if f.committed {
					r.Aborted = []wire.AbortedTransaction{}
				}
			} else if n > 0 {
				total += n
				if f.session != nil {
					f.session.turn = f.first + i + 1
				}
			}
			changed = changed || r.RecordBytes() > 0 || r.Diverging != wire.NoEpochEnd ||
				r.HighWatermark != fp.highWatermark || r.LogStart != fp.logStart || r.LastStable != fp.lastStable
			fp.highWatermark, fp.logStart, fp.lastStable = r.HighWatermark, r.LogStart, r.LastStable
		}
		if !changed {
			continue
		}
		if topic == nil || topic.key.name != fp.key.name || topic.key.id != fp.key.id {
			f.resp.AddTopic(fp.name, fp.key.id)
			topic = fp
		}
		f.resp.AddPartition(r)
	}
	if total > 0 {
		f.told = time.Now()
	}
}

func (f *fetcher) result(fp *fetchPart, r *wire.FetchResult) {
	j := fp.job
	first := &j.runs[0]
	last := &j.runs[len(j.runs)-1]
	r.HighWatermark, r.LastStable, r.LogStart = last.HighWatermark, last.LastStable, last.Start
	if first.DivergingEpoch >= 0 {
		r.Diverging = wire.EpochEnd{Epoch: first.DivergingEpoch, EndOffset: first.DivergingEnd}
		return
	}
	r.Records = first.Batches
	for i := range j.runs {
		if i > 0 {
			r.More = append(r.More, j.runs[i].Batches)
		}
		for _, b := range j.runs[i].Apart {
			r.More = append(r.More, b.Header, b.Rest)
		}
	}
	if !f.committed {
		return
	}
	from := len(f.aborted)
	for i := range j.runs {
		for _, a := range j.runs[i].Aborted {
			f.aborted = append(f.aborted, wire.AbortedTransaction{ProducerID: a.ProducerID, FirstOffset: a.FirstOffset})
		}
	}
	r.Aborted = f.aborted[from:len(f.aborted):len(f.aborted)]
	if r.Aborted == nil {
		r.Aborted = []wire.AbortedTransaction{}
	}
}

// answer writes the response; the records leave from where they were read to.
func (f *fetcher) answer(version int16) error {
	call := f.call
	if err := f.resp.AppendFrame(&f.out, version, call.header.CorrelationID); err != nil {
		return err
	}
	call.g.metrics.served(keyFetch, call.start)
	call.c.finish()
	call.c.worked(time.Duration(float64(f.total(f.ordered)) * sendCost))
	return call.c.writeScatter(&f.out)
}

package wire

import "slices"

// FetchResponse answers a Fetch. Decoding uses the slices again, so that a
// reused value does not allocate.
type FetchResponse struct {
	ThrottleMillis int32
	Code           Code  // from version 7 on
	SessionID      int32 // from version 7 on
	Topics         []Topic
	Partitions     []FetchResult
	NodeEndpoints  []NodeEndpoint // from version 16 on
	// Aborted holds the aborted transactions of all decoded partitions; those of
	// a partition are a part of it.
	aborted []AbortedTransaction
}

// FetchResult is one partition of a FetchResponse.
type FetchResult struct {
	Index         int32
	Topic         int // index into Topics; not looked at when encoding
	Code          Code
	HighWatermark int64
	LastStable    int64 // -1: none
	LogStart      int64 // from version 5 on, else -1

	// Records is the first run of batches, More those behind it; neither is
	// copied. Encoding writes an empty set for nil, never null.
	Records []byte
	More    [][]byte

	// Aborted is nil for null, which uncommitted reads are given.
	Aborted              []AbortedTransaction
	PreferredReadReplica int32 // from version 11 on; -1: none
	CurrentLeader        Leader
	Diverging            EpochEnd
	Snapshot             EpochEnd
}

// AbortedTransaction is a transaction whose records a committed read skips.
type AbortedTransaction struct {
	ProducerID  int64
	FirstOffset int64
}

// EpochEnd is the end offset of a leader epoch.
type EpochEnd struct {
	Epoch     int32
	EndOffset int64
}

// NoEpochEnd is the value of an EpochEnd that is not set.
var NoEpochEnd = EpochEnd{Epoch: -1, EndOffset: -1}

// NewFetchResult has the defaults of a partition without records.
func NewFetchResult(index int32, code Code) FetchResult {
	return FetchResult{
		Index: index, Code: code, HighWatermark: -1, LastStable: -1, LogStart: -1,
		PreferredReadReplica: -1, CurrentLeader: NoLeader, Diverging: NoEpochEnd, Snapshot: NoEpochEnd,
	}
}

// RecordBytes is the size of all runs.
func (r *FetchResult) RecordBytes() int {
	n := len(r.Records)
	for _, m := range r.More {
		n += len(m)
	}
	return n
}

// Reset empties the response and drops what it refers to; its slices are kept.
func (f *FetchResponse) Reset() {
	*f = FetchResponse{
		Topics: reuse(f.Topics), Partitions: reuse(f.Partitions), NodeEndpoints: reuse(f.NodeEndpoints),
		aborted: reuse(f.aborted),
	}
}

// AddTopic begins a topic; the partitions that follow are its own.
func (f *FetchResponse) AddTopic(name []byte, id [16]byte) {
	f.Topics = append(f.Topics, Topic{Name: name, ID: id, First: len(f.Partitions)})
}

// AddPartition adds a partition to the topic that was begun last.
func (f *FetchResponse) AddPartition(p FetchResult) {
	last := len(f.Topics) - 1
	p.Topic = last
	f.Topics[last].Count++
	f.Partitions = append(f.Partitions, p)
}

// AppendFrame adds the response as a frame, header included. Records are not
// copied; everything else is.
func (f *FetchResponse) AppendFrame(s *Scatter, version int16, correlationID int32) error {
	if err := fetchVersion(version); err != nil {
		return err
	}
	flexible, byID := version >= 12, version >= 13
	m := s.open()
	s.scratch = AppendResponseHeader(s.scratch, FetchKey, version, correlationID)
	s.scratch = appendInt32(s.scratch, f.ThrottleMillis)
	if version >= 7 {
		s.scratch = appendInt16(s.scratch, int16(f.Code))
		s.scratch = appendInt32(s.scratch, f.SessionID)
	}
	s.scratch = appendArrayLen(s.scratch, flexible, len(f.Topics))
	for i := range f.Topics {
		t := &f.Topics[i]
		s.scratch = topicHead(s.scratch, t, byID, flexible)
		s.scratch = appendArrayLen(s.scratch, flexible, t.Count)
		for j := range f.Partitions[t.First : t.First+t.Count] {
			f.Partitions[t.First+j].appendTo(s, version)
		}
		s.scratch = appendNoTags(s.scratch, flexible)
	}
	if version >= 16 {
		s.scratch = appendEndpointsTag(s.scratch, f.NodeEndpoints)
	} else {
		s.scratch = appendNoTags(s.scratch, flexible)
	}
	s.close(m)
	return nil
}

func (r *FetchResult) appendTo(s *Scatter, version int16) {
	flexible := version >= 12
	dst := appendInt32(s.scratch, r.Index)
	dst = appendInt16(dst, int16(r.Code))
	dst = appendInt64(dst, r.HighWatermark)
	dst = appendInt64(dst, r.LastStable)
	if version >= 5 {
		dst = appendInt64(dst, r.LogStart)
	}
	switch {
	case r.Aborted != nil:
		dst = appendArrayLen(dst, flexible, len(r.Aborted))
		for i := range r.Aborted {
			dst = appendInt64(dst, r.Aborted[i].ProducerID)
			dst = appendInt64(dst, r.Aborted[i].FirstOffset)
			dst = appendNoTags(dst, flexible)
		}
	case flexible:
		dst = append(dst, 0)
	default:
		dst = appendInt32(dst, -1)
	}
	if version >= 11 {
		dst = appendInt32(dst, r.PreferredReadReplica)
	}
	s.scratch = appendArrayLen(dst, flexible, r.RecordBytes())
	s.AppendRun(r.Records)
	for _, run := range r.More {
		s.AppendRun(run)
	}
	if flexible {
		s.scratch = r.appendTags(s.scratch)
	}
}

// epochEndSize is the size of a tagged epoch end: both fields and no tags.
const epochEndSize = 4 + 8 + 1

func (r *FetchResult) appendTags(dst []byte) []byte {
	diverging, leader, snapshot := r.Diverging != NoEpochEnd, r.CurrentLeader.isSet(), r.Snapshot != NoEpochEnd
	at := len(dst)
	dst = append(dst, 0)
	if diverging {
		dst[at]++
		dst = append(dst, 0, epochEndSize)
		dst = appendInt32(dst, r.Diverging.Epoch)
		dst = appendInt64(dst, r.Diverging.EndOffset)
		dst = append(dst, 0)
	}
	if leader {
		dst[at]++
		dst = append(dst, 1, leaderSize)
		dst = appendLeader(dst, r.CurrentLeader)
	}
	if snapshot {
		dst[at]++
		dst = append(dst, 2, epochEndSize)
		dst = appendInt64(dst, r.Snapshot.EndOffset)
		dst = appendInt32(dst, r.Snapshot.Epoch)
		dst = append(dst, 0)
	}
	return dst
}

// Decode reads a response body. Names and records alias it. What it allocates is
// at most 32 times the bytes of the body.
func (f *FetchResponse) Decode(version int16, body []byte) error {
	f.Reset()
	if err := fetchVersion(version); err != nil {
		return err
	}
	r := NewReader(body)
	f.decode(&r, version)
	if err := r.done("Fetch response", version); err != nil {
		f.Reset()
		return err
	}
	return nil
}

func (f *FetchResponse) decode(r *Reader, version int16) {
	flexible, byID := version >= 12, version >= 13
	f.ThrottleMillis = r.Int32()
	if version >= 7 {
		f.Code = Code(r.Int16())
		f.SessionID = r.Int32()
	}
	topics := r.ArrayLen(flexible, 3)
	if topics < 0 {
		r.fail()
	}
	f.Topics = slices.Grow(f.Topics, max(topics, 0))
	for range topics {
		t := Topic{First: len(f.Partitions)}
		readTopicHead(r, &t, byID, flexible)
		parts := r.ArrayLen(flexible, 4+2+8+8+1+1)
		if parts < 0 {
			r.fail()
		}
		f.Partitions = slices.Grow(f.Partitions, max(parts, 0))
		for range parts {
			part := NewFetchResult(0, None)
			part.Topic = len(f.Topics)
			f.aborted = part.read(r, version, f.aborted)
			if r.bad {
				return
			}
			f.Partitions = append(f.Partitions, part)
		}
		if flexible {
			r.SkipTags()
		}
		if r.bad {
			return
		}
		t.Count = len(f.Partitions) - t.First
		f.Topics = append(f.Topics, t)
	}
	if !flexible || r.noTags() {
		return
	}
	r.Tags(func(tag uint32, v *Reader) bool {
		switch {
		case tag == 0 && version >= 16:
			f.NodeEndpoints = readEndpoints(v, f.NodeEndpoints)
		case tag == 0: // a tag of later versions, see opTags
			readEndpoints(v, nil)
		default:
			return false
		}
		return true
	})
}

// read decodes one partition; its aborted transactions are appended to aborted,
// which is returned.
func (p *FetchResult) read(r *Reader, version int16, aborted []AbortedTransaction) []AbortedTransaction {
	flexible := version >= 12
	p.Index = r.Int32()
	p.Code = Code(r.Int16())
	p.HighWatermark = r.Int64()
	p.LastStable = r.Int64()
	if version >= 5 {
		p.LogStart = r.Int64()
	}
	if n := r.ArrayLen(flexible, 16); n >= 0 {
		from := len(aborted)
		for range n {
			aborted = append(aborted, AbortedTransaction{ProducerID: r.Int64(), FirstOffset: r.Int64()})
			if flexible {
				r.SkipTags()
			}
		}
		// An append that moves the array leaves this part valid in the old one.
		p.Aborted = aborted[from:len(aborted):len(aborted)]
		if p.Aborted == nil {
			p.Aborted = []AbortedTransaction{}
		}
	}
	if version >= 11 {
		p.PreferredReadReplica = r.Int32()
	}
	p.Records = r.NullableBytes(flexible)
	if !flexible || r.noTags() {
		return aborted
	}
	r.Tags(func(tag uint32, v *Reader) bool {
		switch tag {
		case 0:
			p.Diverging = EpochEnd{Epoch: v.Int32(), EndOffset: v.Int64()}
			v.SkipTags()
		case 1:
			p.CurrentLeader = readLeader(v)
		case 2:
			p.Snapshot.EndOffset = v.Int64()
			p.Snapshot.Epoch = v.Int32()
			v.SkipTags()
		default:
			return false
		}
		return true
	})
	return aborted
}

package wire

import (
	"fmt"
	"slices"
)

// Produce, API key 0, versions 3 to 13. Version 9 is the first flexible one, 10
// tells of new leaders, 13 names topics by id.
const (
	ProduceKey        = 0
	ProduceMinVersion = 3
	ProduceMaxVersion = 13
)

// ProduceRequest is a decoded or to be encoded Produce request. Decoding uses the
// slices again, so that a reused value does not allocate.
type ProduceRequest struct {
	TransactionalID []byte // nil: null
	Acks            int16
	TimeoutMillis   int32
	Topics          []Topic
	Partitions      []ProducePartition
}

// ProducePartition is one partition of a Produce request.
type ProducePartition struct {
	Index   int32
	Topic   int    // index into Topics
	Records []byte // nil: null
	At      int    // where in the decoded body the records begin
}

func produceVersion(version int16) error {
	if version < ProduceMinVersion || version > ProduceMaxVersion {
		return fmt.Errorf("%w: Produce version %d", ErrUnknownVersion, version)
	}
	return nil
}

// Decode reads a request body. Names and records alias it. What it allocates is
// at most 32 times the bytes of the body.
func (p *ProduceRequest) Decode(version int16, body []byte) error {
	p.Reset()
	if err := produceVersion(version); err != nil {
		return err
	}
	flexible, byID := version >= 9, version >= 13
	r := NewReader(body)
	p.TransactionalID = r.NullableString(flexible)
	p.Acks = r.Int16()
	p.TimeoutMillis = r.Int32()
	minTopic, minPart := 2+4, 4+4
	if flexible {
		minTopic, minPart = 1+1+1, 4+1+1
	}
	if byID {
		minTopic = 16 + 1 + 1
	}
	topics := r.ArrayLen(flexible, minTopic)
	if topics < 0 {
		r.fail()
	}
	p.Topics = slices.Grow(p.Topics, max(topics, 0))
	for range topics {
		t := Topic{First: len(p.Partitions)}
		readTopicHead(&r, &t, byID, flexible)
		parts := r.ArrayLen(flexible, minPart)
		if parts < 0 {
			r.fail()
		}
		p.Partitions = slices.Grow(p.Partitions, max(parts, 0))
		for range parts {
			part := ProducePartition{Topic: len(p.Topics)}
			part.Index = r.Int32()
			part.Records = r.NullableBytes(flexible)
			part.At = len(body) - len(r.b) - len(part.Records)
			if flexible {
				r.SkipTags()
			}
			if r.bad {
				break
			}
			p.Partitions = append(p.Partitions, part)
		}
		if flexible {
			r.SkipTags()
		}
		if r.bad {
			break
		}
		t.Count = len(p.Partitions) - t.First
		p.Topics = append(p.Topics, t)
	}
	if flexible {
		r.SkipTags()
	}
	if err := r.done("Produce request", version); err != nil {
		p.Reset()
		return err
	}
	return nil
}

// Reset empties the request and drops what it refers to; its slices are kept.
func (p *ProduceRequest) Reset() {
	*p = ProduceRequest{Topics: reuse(p.Topics), Partitions: reuse(p.Partitions)}
}

// AddTopic begins a topic; the partitions that follow are its own.
func (p *ProduceRequest) AddTopic(name []byte, id [16]byte) {
	p.Topics = append(p.Topics, Topic{Name: name, ID: id, First: len(p.Partitions)})
}

// AddPartition adds a partition to the topic that was begun last.
func (p *ProduceRequest) AddPartition(index int32, records []byte) {
	last := len(p.Topics) - 1
	p.Topics[last].Count++
	p.Partitions = append(p.Partitions, ProducePartition{Index: index, Topic: last, Records: records})
}

// AppendFrame adds the request as a frame, header included. Records are not
// copied, names are.
func (p *ProduceRequest) AppendFrame(s *Scatter, version int16, correlationID int32, clientID []byte) error {
	if err := produceVersion(version); err != nil {
		return err
	}
	flexible, byID := version >= 9, version >= 13
	m := s.open()
	s.scratch = AppendRequestHeader(s.scratch, ProduceKey, version, correlationID, clientID)
	s.scratch = appendNullableString(s.scratch, flexible, p.TransactionalID)
	s.scratch = appendInt16(s.scratch, p.Acks)
	s.scratch = appendInt32(s.scratch, p.TimeoutMillis)
	s.scratch = appendArrayLen(s.scratch, flexible, len(p.Topics))
	for i := range p.Topics {
		t := &p.Topics[i]
		s.scratch = topicHead(s.scratch, t, byID, flexible)
		s.scratch = appendArrayLen(s.scratch, flexible, t.Count)
		for j := range p.Partitions[t.First : t.First+t.Count] {
			part := &p.Partitions[t.First+j]
			s.scratch = appendInt32(s.scratch, part.Index)
			if part.Records == nil {
				s.scratch = appendNullRecords(s.scratch, flexible)
			} else {
				s.scratch = appendArrayLen(s.scratch, flexible, len(part.Records))
				s.AppendRun(part.Records)
			}
			s.scratch = appendNoTags(s.scratch, flexible)
		}
		s.scratch = appendNoTags(s.scratch, flexible)
	}
	s.scratch = appendNoTags(s.scratch, flexible)
	s.close(m)
	return nil
}

func appendNullRecords(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return appendInt32(dst, -1)
}

// ProduceResponse answers a Produce request. Decoding uses the slices again.
type ProduceResponse struct {
	ThrottleMillis int32
	Topics         []Topic
	Partitions     []ProduceResult
	NodeEndpoints  []NodeEndpoint // from version 10 on
}

// ProduceResult is one partition of a ProduceResponse.
type ProduceResult struct {
	Index         int32
	Topic         int // index into Topics; not looked at when encoding
	Code          Code
	BaseOffset    int64
	LogAppendTime int64         // ms, -1 with CreateTime
	LogStart      int64         // from version 5 on, else -1
	RecordErrors  []RecordError // from version 8 on
	Message       []byte        // from version 8 on; nil: null
	CurrentLeader Leader        // from version 10 on, else NoLeader
}

// RecordError names a record that made its batch be refused.
type RecordError struct {
	Index   int32
	Message []byte // nil: null
}

// Reset empties the response and drops what it refers to; its slices are kept.
func (p *ProduceResponse) Reset() {
	*p = ProduceResponse{Topics: reuse(p.Topics), Partitions: reuse(p.Partitions), NodeEndpoints: reuse(p.NodeEndpoints)}
}

// Answer fills the response with the topics of the request and one result for
// each of its partitions, in its order: no error, no offset, no leader. Names
// alias the request.
func (p *ProduceResponse) Answer(req *ProduceRequest) {
	p.Reset()
	p.Topics = append(p.Topics, req.Topics...)
	p.Partitions = slices.Grow(p.Partitions, len(req.Partitions))
	for i := range req.Partitions {
		p.Partitions = append(p.Partitions, ProduceResult{
			Index: req.Partitions[i].Index, Topic: req.Partitions[i].Topic,
			BaseOffset: -1, LogAppendTime: -1, LogStart: -1, CurrentLeader: NoLeader,
		})
	}
}

// AppendTo appends the body of the response.
func (p *ProduceResponse) AppendTo(dst []byte, version int16) []byte {
	flexible, byID := version >= 9, version >= 13
	dst = appendArrayLen(dst, flexible, len(p.Topics))
	for i := range p.Topics {
		t := &p.Topics[i]
		dst = topicHead(dst, t, byID, flexible)
		dst = appendArrayLen(dst, flexible, t.Count)
		for j := range p.Partitions[t.First : t.First+t.Count] {
			dst = p.Partitions[t.First+j].appendTo(dst, version)
		}
		dst = appendNoTags(dst, flexible)
	}
	dst = appendInt32(dst, p.ThrottleMillis)
	if version >= 10 {
		return appendEndpointsTag(dst, p.NodeEndpoints)
	}
	return appendNoTags(dst, flexible)
}

func (r *ProduceResult) appendTo(dst []byte, version int16) []byte {
	flexible := version >= 9
	dst = appendInt32(dst, r.Index)
	dst = appendInt16(dst, int16(r.Code))
	dst = appendInt64(dst, r.BaseOffset)
	dst = appendInt64(dst, r.LogAppendTime)
	if version >= 5 {
		dst = appendInt64(dst, r.LogStart)
	}
	if version >= 8 {
		dst = appendArrayLen(dst, flexible, len(r.RecordErrors))
		for i := range r.RecordErrors {
			dst = appendInt32(dst, r.RecordErrors[i].Index)
			dst = appendNullableString(dst, flexible, r.RecordErrors[i].Message)
			dst = appendNoTags(dst, flexible)
		}
		dst = appendNullableString(dst, flexible, r.Message)
	}
	if version >= 10 && r.CurrentLeader.isSet() {
		dst = append(dst, 1, 0, leaderSize)
		return appendLeader(dst, r.CurrentLeader)
	}
	return appendNoTags(dst, flexible)
}

// AppendFrame appends the response as a frame, size and header included.
func (p *ProduceResponse) AppendFrame(dst []byte, version int16, correlationID int32) ([]byte, error) {
	if err := produceVersion(version); err != nil {
		return dst, err
	}
	at := len(dst)
	dst = appendInt32(dst, 0)
	dst = AppendResponseHeader(dst, ProduceKey, version, correlationID)
	return sized(p.AppendTo(dst, version), at), nil
}

// Decode reads a response body. Names and messages alias it. What it allocates
// is at most 32 times the bytes of the body.
func (p *ProduceResponse) Decode(version int16, body []byte) error {
	p.Reset()
	if err := produceVersion(version); err != nil {
		return err
	}
	flexible, byID := version >= 9, version >= 13
	r := NewReader(body)
	topics := r.ArrayLen(flexible, 3)
	if topics < 0 {
		r.fail()
	}
	p.Topics = slices.Grow(p.Topics, max(topics, 0))
	for range topics {
		t := Topic{First: len(p.Partitions)}
		readTopicHead(&r, &t, byID, flexible)
		parts := r.ArrayLen(flexible, 4+2+8+8)
		if parts < 0 {
			r.fail()
		}
		p.Partitions = slices.Grow(p.Partitions, max(parts, 0))
		for range parts {
			part := ProduceResult{Topic: len(p.Topics)}
			part.read(&r, version)
			if r.bad {
				break
			}
			p.Partitions = append(p.Partitions, part)
		}
		if flexible {
			r.SkipTags()
		}
		if r.bad {
			break
		}
		t.Count = len(p.Partitions) - t.First
		p.Topics = append(p.Topics, t)
	}
	p.ThrottleMillis = r.Int32()
	if flexible && !r.noTags() {
		r.Tags(func(tag uint32, v *Reader) bool {
			switch {
			case tag == 0 && version >= 10:
				p.NodeEndpoints = readEndpoints(v, p.NodeEndpoints)
			case tag == 0: // a tag of later versions, see opTags
				readEndpoints(v, nil)
			default:
				return false
			}
			return true
		})
	}
	if err := r.done("Produce response", version); err != nil {
		p.Reset()
		return err
	}
	return nil
}

func (p *ProduceResult) read(r *Reader, version int16) {
	flexible := version >= 9
	p.Index = r.Int32()
	p.Code = Code(r.Int16())
	p.BaseOffset = r.Int64()
	p.LogAppendTime = r.Int64()
	p.LogStart = -1
	if version >= 5 {
		p.LogStart = r.Int64()
	}
	if version >= 8 {
		n := r.ArrayLen(flexible, 4+1)
		if n < 0 {
			r.fail()
		}
		for range n {
			e := RecordError{Index: r.Int32(), Message: r.NullableString(flexible)}
			if flexible {
				r.SkipTags()
			}
			if r.bad {
				return
			}
			p.RecordErrors = append(p.RecordErrors, e)
		}
		p.Message = r.NullableString(flexible)
	}
	p.CurrentLeader = NoLeader
	if !flexible || r.noTags() {
		return
	}
	r.Tags(func(tag uint32, v *Reader) bool {
		switch {
		case tag == 0 && version >= 10:
			p.CurrentLeader = readLeader(v)
		case tag == 0: // a tag of later versions, see opTags
			readLeader(v)
		default:
			return false
		}
		return true
	})
}

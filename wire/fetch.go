package wire

import (
	"fmt"
	"math"
	"slices"
)

// Fetch, API key 1, versions 4 to 18. Version 7 has sessions, 12 is the first
// flexible one, 13 names topics by id, 15 moves the replica id into a tag, 16
// tells of new leaders.
const (
	FetchKey        = 1
	FetchMinVersion = 4
	FetchMaxVersion = 18
)

// Isolation levels of a Fetch.
const (
	ReadUncommitted = int8(0)
	ReadCommitted   = int8(1)
)

// FetchRequest is a decoded or to be encoded Fetch request. Decoding uses the
// slices again, so that a reused value does not allocate. Fields that a version
// lacks get their default.
type FetchRequest struct {
	ClusterID           []byte // nil: null
	ReplicaID           int32  // -1: a consumer
	ReplicaEpoch        int64  // -1: none
	MaxWaitMillis       int32
	MinBytes            int32
	MaxBytes            int32
	Isolation           int8
	SessionID           int32
	SessionEpoch        int32 // -1: no session
	Topics              []Topic
	Partitions          []FetchPartition
	Forgotten           []Topic // First and Count refer to ForgottenPartitions
	ForgottenPartitions []int32
	Rack                []byte
}

// FetchPartition is one partition of a Fetch request.
type FetchPartition struct {
	Index            int32
	LeaderEpoch      int32 // -1: none
	Offset           int64
	LastFetchedEpoch int32 // -1: none
	LogStart         int64 // of a follower, else -1
	MaxBytes         int32
	Topic            int // index into Topics; not looked at when encoding
	// DirectoryID and HighWatermark are a follower's.
	DirectoryID   [16]byte
	HighWatermark int64 // math.MaxInt64: not supported
}

// NewFetchPartition has the defaults of a consumer.
func NewFetchPartition(index int32, offset int64, maxBytes int32) FetchPartition {
	return FetchPartition{
		Index: index, Offset: offset, MaxBytes: maxBytes,
		LeaderEpoch: -1, LastFetchedEpoch: -1, LogStart: -1, HighWatermark: math.MaxInt64,
	}
}

func fetchVersion(version int16) error {
	if version < FetchMinVersion || version > FetchMaxVersion {
		return fmt.Errorf("%w: Fetch version %d", ErrUnknownVersion, version)
	}
	return nil
}

// Reset makes the request an empty one of a consumer without session; it drops
// what it refers to and keeps its slices.
func (f *FetchRequest) Reset() {
	*f = FetchRequest{
		Topics: reuse(f.Topics), Partitions: reuse(f.Partitions),
		Forgotten: reuse(f.Forgotten), ForgottenPartitions: reuse(f.ForgottenPartitions),
		ReplicaID: -1, ReplicaEpoch: -1, MaxBytes: math.MaxInt32, SessionEpoch: -1,
	}
}

// AddTopic begins a topic; the partitions that follow are its own.
func (f *FetchRequest) AddTopic(name []byte, id [16]byte) {
	f.Topics = append(f.Topics, Topic{Name: name, ID: id, First: len(f.Partitions)})
}

// AddPartition adds a partition to the topic that was begun last.
func (f *FetchRequest) AddPartition(p FetchPartition) {
	last := len(f.Topics) - 1
	p.Topic = last
	f.Topics[last].Count++
	f.Partitions = append(f.Partitions, p)
}

// Decode reads a request body. Names alias it. What it allocates is at most 32
// times the bytes of the body.
func (f *FetchRequest) Decode(version int16, body []byte) error {
	f.Reset()
	if err := fetchVersion(version); err != nil {
		return err
	}
	r := NewReader(body)
	f.decode(&r, version)
	if err := r.done("Fetch request", version); err != nil {
		f.Reset()
		return err
	}
	return nil
}

func (f *FetchRequest) decode(r *Reader, version int16) {
	flexible, byID := version >= 12, version >= 13
	if version < 15 {
		f.ReplicaID = r.Int32()
	}
	f.MaxWaitMillis = r.Int32()
	f.MinBytes = r.Int32()
	f.MaxBytes = r.Int32()
	f.Isolation = r.Int8()
	if version >= 7 {
		f.SessionID = r.Int32()
		f.SessionEpoch = r.Int32()
	}
	topics := r.ArrayLen(flexible, 3)
	if topics < 0 {
		r.fail()
	}
	minPart := 4 + 8 + 4
	f.Topics = slices.Grow(f.Topics, max(topics, 0))
	for range topics {
		t := Topic{First: len(f.Partitions)}
		readTopicHead(r, &t, byID, flexible)
		parts := r.ArrayLen(flexible, minPart)
		if parts < 0 {
			r.fail()
		}
		f.Partitions = slices.Grow(f.Partitions, max(parts, 0))
		for range parts {
			part := FetchPartition{Topic: len(f.Topics)}
			part.read(r, version)
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
	if version >= 7 {
		f.decodeForgotten(r, flexible, byID)
	}
	if version >= 11 {
		f.Rack = r.String(flexible)
	}
	if !flexible || r.noTags() {
		return
	}
	r.Tags(func(tag uint32, v *Reader) bool {
		switch {
		case tag == 0:
			f.ClusterID = v.NullableString(true)
		case tag == 1 && version >= 15:
			f.ReplicaID = v.Int32()
			f.ReplicaEpoch = v.Int64()
			v.SkipTags()
		case tag == 1: // a tag of later versions, see opTags
			v.Raw(4 + 8)
			v.SkipTags()
		default:
			return false
		}
		return true
	})
}

func (f *FetchRequest) decodeForgotten(r *Reader, flexible, byID bool) {
	n := r.ArrayLen(flexible, 3)
	if n < 0 {
		r.fail()
	}
	f.Forgotten = slices.Grow(f.Forgotten, max(n, 0))
	for range n {
		t := Topic{First: len(f.ForgottenPartitions)}
		readTopicHead(r, &t, byID, flexible)
		parts := r.ArrayLen(flexible, 4)
		if parts < 0 {
			r.fail()
		}
		for range parts {
			f.ForgottenPartitions = append(f.ForgottenPartitions, r.Int32())
		}
		if flexible {
			r.SkipTags()
		}
		if r.bad {
			return
		}
		t.Count = len(f.ForgottenPartitions) - t.First
		f.Forgotten = append(f.Forgotten, t)
	}
}

func (p *FetchPartition) read(r *Reader, version int16) {
	p.Index = r.Int32()
	p.LeaderEpoch, p.LastFetchedEpoch, p.LogStart = -1, -1, -1
	p.HighWatermark = math.MaxInt64
	if version >= 9 {
		p.LeaderEpoch = r.Int32()
	}
	p.Offset = r.Int64()
	if version >= 12 {
		p.LastFetchedEpoch = r.Int32()
	}
	if version >= 5 {
		p.LogStart = r.Int64()
	}
	p.MaxBytes = r.Int32()
	if version < 12 || r.noTags() {
		return
	}
	r.Tags(func(tag uint32, v *Reader) bool {
		switch {
		case tag == 0 && version >= 17:
			p.DirectoryID = v.UUID()
		case tag == 1 && version >= 18:
			p.HighWatermark = v.Int64()
		case tag == 0: // tags of later versions, see opTags
			v.Raw(16)
		case tag == 1:
			v.Raw(8)
		default:
			return false
		}
		return true
	})
}

// AppendTo appends the body of the request.
func (f *FetchRequest) AppendTo(dst []byte, version int16) []byte {
	flexible, byID := version >= 12, version >= 13
	if version < 15 {
		dst = appendInt32(dst, f.ReplicaID)
	}
	dst = appendInt32(dst, f.MaxWaitMillis)
	dst = appendInt32(dst, f.MinBytes)
	dst = appendInt32(dst, f.MaxBytes)
	dst = append(dst, byte(f.Isolation))
	if version >= 7 {
		dst = appendInt32(dst, f.SessionID)
		dst = appendInt32(dst, f.SessionEpoch)
	}
	dst = appendArrayLen(dst, flexible, len(f.Topics))
	for i := range f.Topics {
		t := &f.Topics[i]
		dst = topicHead(dst, t, byID, flexible)
		dst = appendArrayLen(dst, flexible, t.Count)
		for j := range f.Partitions[t.First : t.First+t.Count] {
			dst = f.Partitions[t.First+j].appendTo(dst, version)
		}
		dst = appendNoTags(dst, flexible)
	}
	if version >= 7 {
		dst = appendArrayLen(dst, flexible, len(f.Forgotten))
		for i := range f.Forgotten {
			t := &f.Forgotten[i]
			dst = topicHead(dst, t, byID, flexible)
			dst = appendArrayLen(dst, flexible, t.Count)
			for _, p := range f.ForgottenPartitions[t.First : t.First+t.Count] {
				dst = appendInt32(dst, p)
			}
			dst = appendNoTags(dst, flexible)
		}
	}
	if version >= 11 {
		dst = appendString(dst, flexible, f.Rack)
	}
	if flexible {
		dst = f.appendTags(dst, version)
	}
	return dst
}

func (f *FetchRequest) appendTags(dst []byte, version int16) []byte {
	replica := version >= 15 && (f.ReplicaID != -1 || f.ReplicaEpoch != -1)
	n := byte(0)
	if f.ClusterID != nil {
		n++
	}
	if replica {
		n++
	}
	dst = append(dst, n)
	if f.ClusterID != nil {
		dst = append(dst, 0)
		dst = appendUvarint(dst, uint32(uvarintSize(uint32(len(f.ClusterID))+1)+len(f.ClusterID)))
		dst = appendString(dst, true, f.ClusterID)
	}
	if replica {
		dst = append(dst, 1, 4+8+1)
		dst = appendInt32(dst, f.ReplicaID)
		dst = appendInt64(dst, f.ReplicaEpoch)
		dst = append(dst, 0)
	}
	return dst
}

func (p *FetchPartition) appendTo(dst []byte, version int16) []byte {
	dst = appendInt32(dst, p.Index)
	if version >= 9 {
		dst = appendInt32(dst, p.LeaderEpoch)
	}
	dst = appendInt64(dst, p.Offset)
	if version >= 12 {
		dst = appendInt32(dst, p.LastFetchedEpoch)
	}
	if version >= 5 {
		dst = appendInt64(dst, p.LogStart)
	}
	dst = appendInt32(dst, p.MaxBytes)
	if version < 12 {
		return dst
	}
	directory := version >= 17 && p.DirectoryID != [16]byte{}
	watermark := version >= 18 && p.HighWatermark != math.MaxInt64
	n := byte(0)
	if directory {
		n++
	}
	if watermark {
		n++
	}
	dst = append(dst, n)
	if directory {
		dst = append(dst, 0, 16)
		dst = append(dst, p.DirectoryID[:]...)
	}
	if watermark {
		dst = append(dst, 1, 8)
		dst = appendInt64(dst, p.HighWatermark)
	}
	return dst
}

// AppendFrame appends the request as a frame, size and header included.
func (f *FetchRequest) AppendFrame(dst []byte, version int16, correlationID int32, clientID []byte) ([]byte, error) {
	if err := fetchVersion(version); err != nil {
		return dst, err
	}
	at := len(dst)
	dst = appendInt32(dst, 0)
	dst = AppendRequestHeader(dst, FetchKey, version, correlationID, clientID)
	return sized(f.AppendTo(dst, version), at), nil
}

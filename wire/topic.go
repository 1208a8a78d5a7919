package wire

import "slices"

// Topic names a topic within a Produce or Fetch message, and says which of the
// message's partitions are its own: those from First on, Count of them. By
// version a topic has a name or an id.
type Topic struct {
	Name  []byte
	ID    [16]byte
	First int
	Count int
}

// NodeEndpoint is the address of a broker (KIP-951).
type NodeEndpoint struct {
	NodeID int32
	Host   string
	Port   int32
	Rack   *string
}

// Leader is the current leader of a partition, in answers that refuse for it
// (KIP-951). Not set when ID is negative and Epoch is too.
type Leader struct {
	ID    int32
	Epoch int32
}

// NoLeader is the value of a Leader that is not set.
var NoLeader = Leader{ID: -1, Epoch: -1}

func (l Leader) isSet() bool { return l != NoLeader }

// topicHead writes a topic's name or id.
func topicHead(dst []byte, t *Topic, byID, flexible bool) []byte {
	if byID {
		return append(dst, t.ID[:]...)
	}
	return appendString(dst, flexible, t.Name)
}

func readTopicHead(r *Reader, t *Topic, byID, flexible bool) {
	if byID {
		t.ID = r.UUID()
		return
	}
	t.Name = r.String(flexible)
}

const leaderSize = 4 + 4 + 1

// appendLeader writes the tagged value of a leader.
func appendLeader(dst []byte, l Leader) []byte {
	dst = appendInt32(dst, l.ID)
	dst = appendInt32(dst, l.Epoch)
	return append(dst, 0)
}

func readLeader(r *Reader) (l Leader) {
	l.ID = r.Int32()
	l.Epoch = r.Int32()
	r.SkipTags()
	return l
}

// appendEndpoints writes the tagged value of node endpoints.
func appendEndpoints(dst []byte, eps []NodeEndpoint) []byte {
	dst = appendArrayLen(dst, true, len(eps))
	for i := range eps {
		ep := &eps[i]
		dst = appendInt32(dst, ep.NodeID)
		dst = appendUvarint(dst, uint32(len(ep.Host))+1)
		dst = append(dst, ep.Host...)
		dst = appendInt32(dst, ep.Port)
		if ep.Rack == nil {
			dst = append(dst, 0)
		} else {
			dst = appendUvarint(dst, uint32(len(*ep.Rack))+1)
			dst = append(dst, *ep.Rack...)
		}
		dst = append(dst, 0)
	}
	return dst
}

func endpointsSize(eps []NodeEndpoint) int {
	n := uvarintSize(uint32(len(eps)) + 1)
	for i := range eps {
		ep := &eps[i]
		n += 4 + uvarintSize(uint32(len(ep.Host))+1) + len(ep.Host) + 4 + 1
		if ep.Rack == nil {
			n++
		} else {
			n += uvarintSize(uint32(len(*ep.Rack))+1) + len(*ep.Rack)
		}
	}
	return n
}

// readEndpoints copies strings: endpoints are rare and few.
func readEndpoints(r *Reader, dst []NodeEndpoint) []NodeEndpoint {
	n := r.ArrayLen(true, 4+1+4+1+1)
	if n < 0 {
		r.fail()
	}
	dst = slices.Grow(dst, max(n, 0))
	for range n {
		var ep NodeEndpoint
		ep.NodeID = r.Int32()
		ep.Host = string(r.String(true))
		ep.Port = r.Int32()
		if rack := r.NullableString(true); rack != nil {
			s := string(rack)
			ep.Rack = &s
		}
		r.SkipTags()
		if r.bad {
			return dst
		}
		dst = append(dst, ep)
	}
	return dst
}

// appendEndpointsTag writes a tag section whose only tag, 0, holds endpoints.
func appendEndpointsTag(dst []byte, eps []NodeEndpoint) []byte {
	if len(eps) == 0 {
		return append(dst, 0)
	}
	dst = append(dst, 1, 0)
	dst = appendUvarint(dst, uint32(endpointsSize(eps)))
	return appendEndpoints(dst, eps)
}

// keptElements is how many elements of a slice a reused message keeps room for;
// one absurd message must not hold its memory for as long as a connection lives.
const keptElements = 4096

func reuse[T any](s []T) []T {
	if cap(s) > keptElements {
		return nil
	}
	clear(s)
	return s[:0]
}

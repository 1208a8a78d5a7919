package coordinator

import (
	"encoding/binary"
	"maps"
	"slices"
)

// What consumers of the classic protocol say in their metadata and assignments
// (ConsumerProtocolSubscription and ConsumerProtocolAssignment, versions 0 to 3). Later
// versions append fields, which are of no concern here.

// consumerSubscription is what a subscription says.
type consumerSubscription struct {
	topics []string
	owned  map[string][]int32 // since version 1
	rack   *string            // since version 3
}

// protocolReader reads big-endian fields; once bad it gives zeroes.
type protocolReader struct {
	b   []byte
	bad bool
}

func (r *protocolReader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *protocolReader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *protocolReader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

// count is an array's, of elements of at least size bytes.
func (r *protocolReader) count(size int) int {
	n := int(r.int32())
	if n < 0 || n > len(r.b)/size {
		r.bad = true
		return 0
	}
	return n
}

func (r *protocolReader) string() string { return string(r.take(int(r.int16()))) }

func (r *protocolReader) bytes() []byte {
	n := int(r.int32())
	if n < 0 {
		return nil
	}
	return r.take(n)
}

// partitions is an array of topics with partitions.
func (r *protocolReader) partitions() map[string][]int32 {
	n := r.count(6)
	out := make(map[string][]int32, n)
	for range n {
		name := r.string()
		k := r.count(4)
		for range k {
			out[name] = append(out[name], r.int32())
		}
		if r.bad {
			return nil
		}
	}
	return out
}

func parseConsumerSubscription(b []byte) (s consumerSubscription, ok bool) {
	r := &protocolReader{b: b}
	version := r.int16()
	n := r.count(2)
	for range n {
		s.topics = append(s.topics, r.string())
	}
	r.bytes() // user data
	if version >= 1 {
		s.owned = r.partitions()
	}
	if version >= 2 {
		r.int32() // generation
	}
	if version >= 3 {
		if l := r.int16(); l >= 0 {
			rack := string(r.take(int(l)))
			s.rack = &rack
		}
	}
	return s, !r.bad && version >= 0
}

func parseConsumerAssignment(b []byte) (owned map[string][]int32, userData []byte, ok bool) {
	r := &protocolReader{b: b}
	version := r.int16()
	owned = r.partitions()
	userData = r.bytes()
	return owned, userData, !r.bad && version >= 0
}

// appendConsumerAssignment encodes an assignment in the version of the member's
// subscription, without user data.
func appendConsumerAssignment(b, subscription []byte, owned map[string][]int32) []byte {
	version := (&protocolReader{b: subscription}).int16()
	b = binary.BigEndian.AppendUint16(b, uint16(min(max(version, 0), 3)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(owned)))
	for _, name := range slices.Sorted(maps.Keys(owned)) {
		b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
		b = append(b, name...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(owned[name])))
		for _, p := range owned[name] {
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		}
	}
	return binary.BigEndian.AppendUint32(b, 0xffffffff) // no user data
}

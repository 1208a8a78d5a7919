package coordinator

import (
	"fmt"
	"math"
)

// barrier is the first record of a term: once it is in the log, no record of a
// former owner lands behind it (its producer epoch is the term).
type barrier struct {
	term int64
	node int32
}

func (r barrier) encode() record {
	e := newEncoder(kindBarrier, 16)
	e.int(r.term)
	e.int(int64(r.node))
	return e.b
}

// snapshotMark begins or ends the rewriting of the whole state. Everything before
// the start of a finished one may be trimmed: each record sets what it names as a
// whole, so the rewriting may be interleaved with changes.
type snapshotMark struct {
	end bool
	id  uint64
}

func (r snapshotMark) encode() record {
	k := kindSnapshotStart
	if r.end {
		k = kindSnapshotEnd
	}
	e := newEncoder(k, 16)
	e.uint(r.id)
	return e.b
}

// groupRecord is what is kept of a classic group: what the members of its last
// complete generation are and got.
type groupRecord struct {
	key          groupKey
	protocolType *string
	generation   int32
	protocol     *string
	leader       *string
	since        int64 // ms, when it came to this state
	members      []memberRecord
}

type memberRecord struct {
	id               string
	instance         *string
	clientID         string
	clientHost       string
	rebalanceTimeout int32 // ms
	sessionTimeout   int32 // ms
	protocols        []protocol
	assignment       []byte
}

// protocol is one that a member offers, best first.
type protocol struct {
	name     string
	metadata []byte
}

func (k groupKey) encode(e *encoder) {
	e.string(k.tenant)
	e.string(k.group)
}

func decodeKey(d *decoder) groupKey { return groupKey{d.string(), d.string()} }

func (r *groupRecord) encode() record {
	size := len(r.key.tenant) + len(r.key.group) + 64
	for i := range r.members {
		m := &r.members[i]
		size += len(m.id) + len(m.clientID) + len(m.clientHost) + len(m.assignment) + 64
		for _, p := range m.protocols {
			size += len(p.name) + len(p.metadata) + 8
		}
	}
	e := newEncoder(kindGroup, size)
	r.key.encode(e)
	e.optional(r.protocolType)
	e.int(int64(r.generation))
	e.optional(r.protocol)
	e.optional(r.leader)
	e.int(r.since)
	e.count(len(r.members))
	for i := range r.members {
		m := &r.members[i]
		e.string(m.id)
		e.optional(m.instance)
		e.string(m.clientID)
		e.string(m.clientHost)
		e.int(int64(m.rebalanceTimeout))
		e.int(int64(m.sessionTimeout))
		e.count(len(m.protocols))
		for _, p := range m.protocols {
			e.string(p.name)
			e.bytes(p.metadata)
		}
		e.bytes(m.assignment)
	}
	return e.b
}

func decodeGroup(d *decoder) (*groupRecord, error) {
	r := &groupRecord{key: decodeKey(d)}
	r.protocolType = d.optional()
	r.generation = d.int32()
	r.protocol = d.optional()
	r.leader = d.optional()
	r.since = d.int()
	r.members = make([]memberRecord, 0, d.count(maxMembers, 9))
	for range cap(r.members) {
		m := memberRecord{id: d.string(), instance: d.optional(), clientID: d.string(), clientHost: d.string()}
		m.rebalanceTimeout = d.int32()
		m.sessionTimeout = d.int32()
		n := d.count(maxProtocols, 2)
		if d.bad {
			break
		}
		m.protocols = make([]protocol, 0, n)
		for range n {
			m.protocols = append(m.protocols, protocol{d.string(), d.bytes()})
		}
		m.assignment = d.bytes()
		if d.bad {
			break
		}
		r.members = append(r.members, m)
	}
	if err := d.end("group"); err != nil {
		return nil, err
	}
	if (len(r.members) > 0) && (r.protocolType == nil || r.protocol == nil || r.leader == nil) {
		return nil, fmt.Errorf("%w: group with members has no protocol or leader", errRecord)
	}
	seen := make(map[string]bool, len(r.members))
	for i := range r.members {
		if seen[r.members[i].id] {
			return nil, fmt.Errorf("%w: group has a member twice", errRecord)
		}
		seen[r.members[i].id] = true
	}
	return r, nil
}

// groupGone says that a group and all its offsets are no more.
type groupGone struct{ key groupKey }

func (r groupGone) encode() record {
	e := newEncoder(kindGroupGone, len(r.key.tenant)+len(r.key.group))
	r.key.encode(e)
	return e.b
}

// offsetsRecord sets committed offsets of one group.
type offsetsRecord struct {
	key       groupKey
	committed int64 // ms
	expires   int64 // ms; -1: by the group's retention
	topics    []topicOffsets
}

type topicOffsets struct {
	name       string
	id         [16]byte // zero if not known
	partitions []partitionOffset
}

type partitionOffset struct {
	partition   int32
	offset      int64
	leaderEpoch int32 // -1: none
	metadata    string
}

func (r *offsetsRecord) encode() record {
	size := len(r.key.tenant) + len(r.key.group) + 32
	for i := range r.topics {
		size += len(r.topics[i].name) + 32
		for j := range r.topics[i].partitions {
			size += 16 + len(r.topics[i].partitions[j].metadata)
		}
	}
	e := newEncoder(kindOffsets, size)
	r.key.encode(e)
	e.int(r.committed)
	e.int(r.expires)
	e.count(len(r.topics))
	for i := range r.topics {
		t := &r.topics[i]
		e.string(t.name)
		e.raw(t.id[:])
		e.count(len(t.partitions))
		for j := range t.partitions {
			p := &t.partitions[j]
			e.int(int64(p.partition))
			e.int(p.offset)
			e.int(int64(p.leaderEpoch))
			e.string(p.metadata)
		}
	}
	return e.b
}

func decodeOffsets(d *decoder) (*offsetsRecord, error) {
	r := &offsetsRecord{key: decodeKey(d)}
	r.committed = d.int()
	r.expires = d.int()
	r.topics = make([]topicOffsets, 0, d.count(math.MaxInt32, 18))
	if cap(r.topics) == 0 {
		d.fail()
	}
	for range cap(r.topics) {
		t := topicOffsets{name: d.string(), id: d.id()}
		n := d.count(math.MaxInt32, 4)
		if n == 0 {
			d.fail() // never written
		}
		if d.bad {
			break
		}
		t.partitions = make([]partitionOffset, n)
		for i := range t.partitions {
			t.partitions[i] = partitionOffset{d.int32(), d.int(), d.int32(), d.string()}
		}
		r.topics = append(r.topics, t)
	}
	return r, d.end("offsets")
}

// offsetsGone drops committed offsets of one group.
type offsetsGone struct {
	key    groupKey
	topics []topicPartitions
}

type topicPartitions struct {
	name       string
	partitions []int32
}

func (r *offsetsGone) encode() record {
	size := len(r.key.tenant) + len(r.key.group) + 16
	for i := range r.topics {
		size += len(r.topics[i].name) + 8 + 5*len(r.topics[i].partitions)
	}
	e := newEncoder(kindOffsetsGone, size)
	r.key.encode(e)
	e.count(len(r.topics))
	for i := range r.topics {
		e.string(r.topics[i].name)
		e.count(len(r.topics[i].partitions))
		for _, p := range r.topics[i].partitions {
			e.int(int64(p))
		}
	}
	return e.b
}

func decodeOffsetsGone(d *decoder) (*offsetsGone, error) {
	r := &offsetsGone{key: decodeKey(d)}
	r.topics = make([]topicPartitions, 0, d.count(math.MaxInt32, 2))
	for range cap(r.topics) {
		t := topicPartitions{name: d.string()}
		n := d.count(math.MaxInt32, 1)
		if d.bad {
			break
		}
		t.partitions = make([]int32, n)
		for i := range t.partitions {
			t.partitions[i] = d.int32()
		}
		r.topics = append(r.topics, t)
	}
	return r, d.end("removed offsets")
}

package coordinator

import (
	"fmt"
)

// apply takes one record of the log into an empty machine's state. It is used by
// replay alone but for offsets, which live requests apply in the same way.
//
// barrier, start and end are what the marks of the log say, zero otherwise.
func (m *machine) apply(r record) (mark logMark, err error) {
	k, d, err := open(r)
	if err != nil {
		return mark, err
	}
	switch k {
	case kindBarrier:
		mark = logMark{kind: k, term: d.int()}
		d.int32()
		return mark, d.end("barrier")
	case kindSnapshotStart, kindSnapshotEnd:
		mark = logMark{kind: k, snapshot: d.uint()}
		return mark, d.end("snapshot mark")
	case kindGroup:
		g, err := decodeGroup(d)
		if err != nil {
			return mark, err
		}
		m.applyGroup(g, r)
	case kindGroupGone:
		key := decodeKey(d)
		if err := d.end("removed group"); err != nil {
			return mark, err
		}
		if g := m.groups[key]; g != nil {
			m.drop(g)
		}
	case kindOffsets:
		o, err := decodeOffsets(d)
		if err != nil {
			return mark, err
		}
		m.applyOffsets(o)
	case kindOffsetsGone:
		o, err := decodeOffsetsGone(d)
		if err != nil {
			return mark, err
		}
		m.applyOffsetsGone(o)
	case kindConsumerGroup:
		return mark, m.applyConsumerGroup(d)
	case kindConsumerMember:
		return mark, m.applyConsumerMember(d)
	case kindConsumerTarget:
		return mark, m.applyConsumerTarget(d)
	case kindConsumerCurrent:
		return mark, m.applyConsumerCurrent(d)
	case kindConsumerGone:
		return mark, m.applyConsumerGone(d)
	case kindConsumerRegex:
		return mark, m.applyConsumerRegex(d)
	case kindSeveral:
		return mark, m.applySeveral(d)
	case kindTxn, kindTxnFormers, kindTxnUnfloored, kindTxnAdded, kindTxnAddedUnfloored, kindTxnGone, kindTxnOffsets, kindTxnOffsetsUnnamed, kindTxnSettled, kindTxnLeftOut:
		return mark, m.applyTxnRecord(k, d)
	default:
		// From the first release on, one that knows more kinds raises the format version, so this is damage.
		return mark, fmt.Errorf("%w: kind %d", errRecord, k)
	}
	return mark, nil
}

// isState tells a record of the state from one that is but a mark in the log.
func (r record) isState() bool {
	k, _, err := open(r)
	return err != nil || k != kindBarrier && k != kindSnapshotStart && k != kindSnapshotEnd
}

// logMark is what a record says of the log rather than of the state.
type logMark struct {
	kind     kind // 0: none
	term     int64
	snapshot uint64
}

// applyGroup sets the members of a group to what the record says and leaves its
// offsets.
func (m *machine) applyGroup(r *groupRecord, raw record) {
	g := m.groups[r.key]
	if g == nil {
		g = m.newGroup(r.key)
	}
	m.dropConsumer(g)
	g.consumer = nil
	for _, mb := range g.order {
		g.unweigh(mb)
	}
	g.members, g.statics, g.support = map[string]*member{}, map[string]string{}, map[string]int{}
	g.order = nil
	g.generation = r.generation
	g.protocol = r.protocol
	g.leader = ""
	if r.leader != nil {
		g.leader = *r.leader
	}
	for i := range r.members {
		mr := &r.members[i]
		mb := &member{
			id: mr.id, instance: mr.instance, clientID: mr.clientID, clientHost: mr.clientHost,
			rebalanceTimeout: mr.rebalanceTimeout, sessionTimeout: mr.sessionTimeout,
			protocols: mr.protocols, assignment: mr.assignment,
		}
		if r.protocolType != nil {
			mb.protocolType = *r.protocolType
		}
		mb.session = newTimer(func() { m.expireSession(g, mb) })
		g.add(mb)
	}
	g.protocolType = r.protocolType
	g.previous, g.state = stateEmpty, stateEmpty
	if len(g.members) > 0 {
		g.state = stateStable
	}
	g.since = r.since
	g.subscribed = g.readSubscriptions()
	g.write(append(record(nil), raw...))
}

// begin is called once, when all records were applied and the machine is to
// serve: sessions start to run anew, since nobody could send heartbeats meanwhile.
func (m *machine) begin() {
	for _, g := range m.groups {
		if g.consumer != nil {
			m.beginConsumer(g)
			continue
		}
		for _, mb := range g.order {
			m.alive(mb, int64(mb.sessionTimeout))
		}
		if len(g.order) > m.config.MaxGroupSize {
			// The limit was lowered: let the members sort out who stays.
			m.prepare(g, "group is larger than group.max.size")
		}
	}
	m.scheduleExpiry()
}

// snapshotKeys lists the groups that a snapshot has to write.
func (m *machine) snapshotKeys() []groupKey {
	keys := make([]groupKey, 0, len(m.groups))
	for key := range m.groups {
		keys = append(keys, key)
	}
	return keys
}

// snapshotGroup writes again all that is kept of a group. It is the last state
// that was written, not the one in memory: the members of a rebalance under way
// are not in the log before it is complete.
func (m *machine) snapshotGroup(key groupKey) {
	g := m.groups[key]
	if g == nil {
		return
	}
	if g.consumer != nil {
		m.snapshotConsumer(g)
	} else if g.written != nil {
		m.emit(g.written)
	}
	// Offsets with equal times share a record; most were committed together.
	type times struct{ at, expires int64 }
	byTime := map[times]*offsetsRecord{}
	for name, store := range g.offsets {
		at := map[times]int{} // index of the topic in the record of that time
		for p, o := range store.partitions {
			t := times{o.at, o.expires}
			r := byTime[t]
			if r == nil {
				r = &offsetsRecord{key: key, committed: o.at, expires: o.expires}
				byTime[t] = r
			}
			i, ok := at[t]
			if !ok {
				i = len(r.topics)
				at[t] = i
				r.topics = append(r.topics, topicOffsets{name: name, id: store.id})
			}
			r.topics[i].partitions = append(r.topics[i].partitions, partitionOffset{p, o.offset, o.leaderEpoch, o.metadata})
		}
	}
	for _, r := range byTime {
		for _, part := range r.split(maxOffsetsPerRecord) {
			m.emit(part.encode())
		}
	}
	m.snapshotPending(g)
}

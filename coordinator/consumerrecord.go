package coordinator

import (
	"fmt"
	"math"
	"slices"

	"github.com/braidstream/braid/catalog"
)

// Limits of what a consumer group's records hold.
const (
	maxSubscription = 1 << 20 // topics of a member
	maxRegexes      = 256     // different expressions of one group
)

// consumerGroupRecord holds the epochs of a consumer group. It makes the group one of
// that protocol if it was classic, and leaves its members and offsets.
type consumerGroupRecord struct {
	key groupKey
	c   *consumerGroup
}

func (r consumerGroupRecord) encode() record {
	e := newEncoder(kindConsumerGroup, len(r.key.tenant)+len(r.key.group)+32)
	r.key.encode(e)
	e.int(int64(r.c.epoch))
	e.int(int64(r.c.assigned))
	e.int(r.c.assignedAt)
	e.uint(r.c.hash)
	return e.b
}

func (m *machine) applyConsumerGroup(d *decoder) error {
	key := decodeKey(d)
	epoch, assigned, at, hash := d.int32(), d.int32(), d.int(), d.uint()
	if err := d.end("consumer group"); err != nil {
		return err
	}
	g := m.replayed(key)
	c := g.consumer
	c.epoch, c.assigned, c.assignedAt, c.hash, c.checked = epoch, assigned, at, hash, 0
	return nil
}

// replayed is the consumer group of a key, made if there is none.
func (m *machine) replayed(key groupKey) *group {
	g := m.groups[key]
	if g == nil {
		g = m.newGroup(key)
	}
	if g.consumer == nil {
		m.becomeConsumer(g)
	}
	return g
}

// consumerMemberRecord says who a member is and what it subscribes to.
type consumerMemberRecord struct {
	key groupKey
	mb  *consumerMember
}

func (r consumerMemberRecord) encode() record {
	mb := r.mb
	e := newEncoder(kindConsumerMember, mb.size())
	r.key.encode(e)
	e.string(mb.id)
	e.optional(mb.instance)
	e.optional(mb.rack)
	e.string(mb.clientID)
	e.string(mb.clientHost)
	e.int(int64(mb.rebalanceTimeout))
	e.count(len(mb.topics))
	for _, t := range mb.topics {
		e.string(t)
	}
	e.optional(mb.regex)
	e.optional(mb.assignor)
	if mb.classic == nil {
		e.raw([]byte{0})
		return e.b
	}
	e.raw([]byte{1})
	e.int(int64(mb.classic.session))
	e.count(len(mb.classic.protocols))
	for _, p := range mb.classic.protocols {
		e.string(p.name)
		e.bytes(p.metadata)
	}
	return e.b
}

// size is what the member takes in a record without its partitions.
func (mb *consumerMember) size() int {
	n := len(mb.id) + len(mb.clientID) + len(mb.clientHost) + 128
	for _, t := range mb.topics {
		n += len(t) + 3
	}
	if mb.regex != nil {
		n += len(*mb.regex)
	}
	if mb.classic != nil {
		for _, p := range mb.classic.protocols {
			n += len(p.name) + len(p.metadata) + 8
		}
	}
	return n
}

func (m *machine) applyConsumerMember(d *decoder) error {
	key, id := decodeKey(d), d.string()
	is := consumerMember{instance: d.optional(), rack: d.optional(), clientID: d.string(), clientHost: d.string(), rebalanceTimeout: d.int32()}
	is.topics = d.strings(maxSubscription)
	is.regex, is.assignor = d.optional(), d.optional()
	switch d.byte() {
	case 0:
	case 1:
		is.classic = &classicSide{session: d.int32()}
		n := d.count(maxProtocols, 2)
		for range n {
			is.classic.protocols = append(is.classic.protocols, protocol{d.string(), d.bytes()})
		}
		if n == 0 {
			d.fail() // never written
		}
	default:
		d.fail()
	}
	if err := d.end("consumer group member"); err != nil {
		return err
	}
	g := m.replayed(key)
	mb := g.consumer.members[id]
	if mb == nil {
		mb = m.newConsumerMember(g, id)
	}
	mb.instance, mb.rack, mb.clientID, mb.clientHost = is.instance, is.rack, is.clientID, is.clientHost
	mb.rebalanceTimeout, mb.topics, mb.regex, mb.assignor, mb.classic = is.rebalanceTimeout, is.topics, is.regex, is.assignor, is.classic
	g.consumer.add(mb)
	return nil
}

// consumerTargetRecord is what a member shall have.
type consumerTargetRecord struct {
	key groupKey
	mb  *consumerMember
}

func (r consumerTargetRecord) encode() record {
	size := len(r.mb.id) + 64
	for _, all := range r.mb.target {
		size += 24 + 3*len(all)
	}
	e := newEncoder(kindConsumerTarget, size)
	r.key.encode(e)
	e.string(r.mb.id)
	e.count(len(r.mb.target))
	for _, topic := range sortedTopics(r.mb.target) {
		e.raw(topic[:])
		e.count(len(r.mb.target[topic]))
		for _, p := range r.mb.target[topic] {
			e.int(int64(p))
		}
	}
	return e.b
}

func (m *machine) applyConsumerTarget(d *decoder) error {
	key, id := decodeKey(d), d.string()
	n := d.count(math.MaxInt32, 18)
	target := make(assignment, n)
	for range n {
		topic := catalog.ID(d.id())
		all := make([]int32, d.count(math.MaxInt32, 1))
		for i := range all {
			all[i] = d.int32()
		}
		if d.bad {
			break
		}
		target[topic] = all
	}
	if err := d.end("target assignment"); err != nil {
		return err
	}
	if mb := m.replayedMember(key, id); mb != nil {
		mb.target = target
		m.groups[key].consumer.weigh(mb)
	}
	return nil
}

// replayedMember is nil for one that is not known (yet): behind a trim, a snapshot
// that comes later in the log says all of it.
func (m *machine) replayedMember(key groupKey, id string) *consumerMember {
	if g := m.groups[key]; g != nil && g.consumer != nil {
		return g.consumer.members[id]
	}
	return nil
}

// consumerCurrentRecord is what a member has.
type consumerCurrentRecord struct {
	key groupKey
	mb  *consumerMember
}

func (r consumerCurrentRecord) encode() record {
	mb := r.mb
	size := len(mb.id) + 64
	for _, h := range []held{mb.assigned, mb.revoking} {
		for _, all := range h {
			size += 24 + 6*len(all)
		}
	}
	e := newEncoder(kindConsumerCurrent, size)
	r.key.encode(e)
	e.string(mb.id)
	e.int(int64(mb.epoch))
	e.int(int64(mb.previous))
	e.int(int64(mb.state))
	for _, h := range []held{mb.assigned, mb.revoking} {
		e.count(len(h))
		for _, topic := range sortedTopics(h) {
			e.raw(topic[:])
			e.count(len(h[topic]))
			for _, p := range h[topic] {
				e.int(int64(p.partition))
				e.int(int64(p.epoch))
			}
		}
	}
	return e.b
}

func (m *machine) applyConsumerCurrent(d *decoder) error {
	key, id := decodeKey(d), d.string()
	epoch, previous, state := d.int32(), d.int32(), d.int()
	if state < int64(memberStable) || state > int64(memberUnreleased) {
		d.fail()
	}
	var both [2]held
	for i := range both {
		n := d.count(math.MaxInt32, 18)
		both[i] = make(held, n)
		for range n {
			topic := catalog.ID(d.id())
			all := make([]heldPartition, d.count(math.MaxInt32, 2))
			for j := range all {
				all[j] = heldPartition{d.int32(), d.int32()}
			}
			if d.bad {
				break
			}
			both[i][topic] = all
		}
	}
	if err := d.end("current assignment"); err != nil {
		return err
	}
	if mb := m.replayedMember(key, id); mb != nil {
		m.groups[key].consumer.settle(mb, epoch, memberState(state), both[0], both[1])
		mb.previous = previous
	}
	return nil
}

// consumerGoneRecord removes a member with all that it has.
type consumerGoneRecord struct {
	key groupKey
	id  string
}

func (r consumerGoneRecord) encode() record {
	e := newEncoder(kindConsumerGone, len(r.key.tenant)+len(r.key.group)+len(r.id)+8)
	r.key.encode(e)
	e.string(r.id)
	return e.b
}

func (m *machine) applyConsumerGone(d *decoder) error {
	key, id := decodeKey(d), d.string()
	if err := d.end("removed consumer group member"); err != nil {
		return err
	}
	if mb := m.replayedMember(key, id); mb != nil {
		m.groups[key].consumer.remove(m, mb)
	}
	return nil
}

// consumerRegexRecord holds the topics that an expression stands for; without r, nobody
// subscribes to it any more.
type consumerRegexRecord struct {
	key  groupKey
	expr string
	r    *resolvedRegex
}

func (r consumerRegexRecord) encode() record {
	size := len(r.expr) + 64
	if r.r != nil {
		for _, t := range r.r.topics {
			size += len(t) + 3
		}
	}
	e := newEncoder(kindConsumerRegex, size)
	r.key.encode(e)
	e.string(r.expr)
	if r.r == nil {
		e.raw([]byte{0})
		return e.b
	}
	e.raw([]byte{1})
	e.int(r.r.at)
	e.count(len(r.r.topics))
	for _, t := range r.r.topics {
		e.string(t)
	}
	return e.b
}

func (m *machine) applyConsumerRegex(d *decoder) error {
	key, expr, there := decodeKey(d), d.string(), d.byte()
	r := &resolvedRegex{}
	switch there {
	case 0:
	case 1:
		r.at = d.int()
		r.topics = d.strings(maxSubscription)
	default:
		d.fail()
	}
	if err := d.end("regular expression"); err != nil {
		return err
	}
	if there == 1 {
		m.replayed(key).consumer.stands(expr, r)
	} else if g := m.groups[key]; g != nil && g.consumer != nil {
		g.consumer.stands(expr, nil)
	}
	return nil
}

// severalRecord holds records that are one change.
type severalRecord []record

func (s severalRecord) encode() record {
	size := 16
	for _, r := range s {
		size += len(r) + 5
	}
	e := newEncoder(kindSeveral, size)
	e.count(len(s))
	for _, r := range s {
		e.bytes(r)
	}
	return e.b
}

func (m *machine) applySeveral(d *decoder) error {
	n := d.count(maxRecordLimit, 3)
	if n == 0 {
		d.fail() // never written
	}
	all := make([]record, 0, n)
	for range n {
		all = append(all, record(d.view(maxRecordLimit)))
	}
	if err := d.end("several records"); err != nil {
		return err
	}
	for _, r := range all {
		k, _, err := open(r)
		if err != nil {
			return err
		}
		if k != kindGroup && (k < kindConsumerGroup || k > kindConsumerRegex) {
			return fmt.Errorf("%w: kind %d within another record", errRecord, k)
		}
	}
	for _, r := range all {
		if _, err := m.apply(r); err != nil {
			return err
		}
	}
	return nil
}

// sortedTopics are the keys of an assignment in order: equal state is equal bytes.
func sortedTopics[V any](of map[catalog.ID]V) []catalog.ID {
	all := make([]catalog.ID, 0, len(of))
	for id := range of {
		all = append(all, id)
	}
	slices.SortFunc(all, compareIDs)
	return all
}

func compareIDs(a, b catalog.ID) int { return slices.Compare(a[:], b[:]) }

// snapshotConsumer writes again all that is kept of a consumer group but its offsets.
func (m *machine) snapshotConsumer(g *group) {
	ch := m.change(g)
	ch.group = true
	for _, mb := range g.consumer.sorted() {
		ch.member(mb)
		ch.target(mb)
		ch.current(mb)
	}
	for expr, r := range g.consumer.regexes {
		ch.regex(expr, r)
	}
	ch.commit()
}

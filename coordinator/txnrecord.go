package coordinator

import (
	"fmt"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/wire"
)

// Kinds of records of transactions; docs/formats/coordinator.md.
const (
	kindTxn        kind = 37
	kindTxnAdded   kind = 38
	kindTxnGone    kind = 34
	kindTxnOffsets kind = 40
	kindTxnSettled kind = 36
	kindTxnLeftOut kind = 39
	kindTxnFormers kind = 41 // kindTxn, and the transactions before whose markers may be missing

	// As earlier releases wrote them, without the floors of places.
	kindTxnUnfloored      kind = 32
	kindTxnAddedUnfloored kind = 33
	// And without telling the producer's transactions apart.
	kindTxnOffsetsUnnamed kind = 35
)

// Limits of what one transaction may hold.
const (
	maxTxnParts        = 100_000
	maxTxnPlaces       = 64
	maxTxnParticipants = 1000
	maxTxnGroups       = 10_000
)

func (e *encoder) bool(v bool) {
	if v {
		e.b = append(e.b, 1)
	} else {
		e.b = append(e.b, 0)
	}
}

func (d *decoder) bool() bool {
	v := d.byte()
	if v > 1 {
		d.fail()
	}
	return v == 1
}

func (d *decoder) int16() int16 {
	v := d.int()
	if int64(int16(v)) != v {
		d.fail()
		return 0
	}
	return int16(v)
}

// encode gives the record that sets all of a transactional id.
func (t *transaction) encode() record {
	k := kindTxn
	if len(t.formers) > 0 {
		k = kindTxnFormers
	}
	e := newEncoder(k, 64+len(t.key.tenant)+len(t.key.group)+96*len(t.parts))
	t.key.encode(e)
	e.int(t.producer)
	e.int(int64(t.epoch))
	e.int(int64(t.lastEpoch))
	e.int(t.before)
	e.int(t.next)
	e.int(int64(t.timeout))
	e.b = append(e.b, byte(t.state))
	e.bool(t.bumped)
	e.int(t.started)
	e.int(t.updated)
	encodeParts(e, t.parts, t.sortedParts())
	groups := t.sortedGroups()
	e.count(len(groups))
	for _, g := range groups {
		e.string(g)
	}
	e.count(len(t.participants))
	for i := range t.participants {
		t.participants[i].encode(e)
	}
	if k == kindTxnFormers {
		e.count(len(t.formers))
		for _, f := range t.formers {
			f.encode(e)
		}
	}
	return e.b
}

func encodeParts(e *encoder, parts map[partKey]*txnPart, keys []partKey) {
	e.count(len(keys))
	for _, k := range keys {
		e.raw(k.topic[:])
		e.int(int64(k.partition))
		places := parts[k].places
		e.count(len(places))
		for i := range places {
			p := &places[i]
			e.string(p.cluster)
			e.string(p.topic)
			e.raw(p.id[:])
			e.int(int64(p.index))
			e.bool(p.foreign)
			e.int(int64(p.base))
			e.int(p.floor)
		}
	}
}

func (p *participant) encode(e *encoder) {
	e.string(p.cluster)
	e.string(p.id)
	e.int(p.term)
	e.int(int64(p.slot))
	e.int(p.producer)
	e.int(int64(p.epoch))
}

func decodeParticipant(d *decoder) participant {
	return participant{cluster: d.string(), id: d.string(), term: d.int(), slot: d.int32(), producer: d.int(), epoch: d.int16()}
}

func decodeParts(d *decoder, floors bool) map[partKey]*txnPart {
	n := d.count(maxTxnParts, 18)
	parts := make(map[partKey]*txnPart, n)
	for range n {
		k := partKey{catalog.ID(d.id()), d.int32()}
		part := &txnPart{}
		for range d.count(maxTxnPlaces, 21) {
			at := place{cluster: d.string(), topic: d.string(), id: catalog.ID(d.id()), index: d.int32(), foreign: d.bool(), base: d.int32()}
			if floors {
				at.floor = d.int()
			}
			part.places = append(part.places, at)
		}
		if d.bad {
			break
		}
		parts[k] = part
	}
	return parts
}

// decodeTxn decodes a record of one of the kinds that set all of a transactional id.
func decodeTxn(k kind, d *decoder) (*transaction, error) {
	t := &transaction{key: decodeKey(d), producer: d.int(), epoch: d.int16(), lastEpoch: d.int16(), before: d.int(), next: d.int(),
		timeout: d.int32()}
	t.state = txnState(d.byte())
	t.bumped = d.bool()
	t.started, t.updated = d.int(), d.int()
	t.parts = decodeParts(d, k != kindTxnUnfloored)
	t.groups = map[string]bool{}
	for range d.count(maxTxnGroups, 1) {
		t.groups[d.string()] = true
	}
	for range d.count(maxTxnParticipants, 6) {
		t.participants = append(t.participants, decodeParticipant(d))
	}
	if k == kindTxnFormers {
		for range d.count(maxFormers, 4) {
			t.formers = append(t.formers, decodeFormer(d))
		}
	}
	if err := d.end("transaction"); err != nil {
		return nil, err
	}
	if t.state < 0 || t.state >= txnStates {
		return nil, fmt.Errorf("%w: transaction in state %d", errRecord, t.state)
	}
	return t, nil
}

// txnAdded adds parts, groups and a participant to the transaction of an epoch.
// A part that is named is set as a whole.
type txnAdded struct {
	key         groupKey
	started     int64
	parts       map[partKey]*txnPart
	groups      []string
	participant *participant
}

func (t *transaction) encodeAdded(parts []partKey, groups []string, p *participant) record {
	e := newEncoder(kindTxnAdded, 64+len(t.key.tenant)+len(t.key.group)+96*len(parts))
	t.key.encode(e)
	e.int(t.started)
	encodeParts(e, t.parts, parts)
	e.count(len(groups))
	for _, g := range groups {
		e.string(g)
	}
	e.bool(p != nil)
	if p != nil {
		p.encode(e)
	}
	return e.b
}

func decodeTxnAdded(k kind, d *decoder) (*txnAdded, error) {
	r := &txnAdded{key: decodeKey(d), started: d.int(), parts: decodeParts(d, k == kindTxnAdded)}
	for range d.count(maxTxnGroups, 1) {
		r.groups = append(r.groups, d.string())
	}
	if d.bool() {
		p := decodeParticipant(d)
		r.participant = &p
	}
	return r, d.end("addition to a transaction")
}

// txnGone says that a transactional id is no more.
type txnGone struct{ key groupKey }

func (r txnGone) encode() record {
	e := newEncoder(kindTxnGone, len(r.key.tenant)+len(r.key.group))
	r.key.encode(e)
	return e.b
}

// txnLeftOut says what a redo could not append. It comes before the record of the redo's commit.
type txnLeftOut struct {
	key  groupKey
	left chain.LeftOut
}

func (r txnLeftOut) encode() record {
	e := newEncoder(kindTxnLeftOut, len(r.key.tenant)+len(r.key.group)+22)
	r.key.encode(e)
	e.int(r.left.Records)
	e.int(int64(r.left.Code))
	e.int(r.left.Stamped)
	return e.b
}

func decodeTxnLeftOut(d *decoder) (txnLeftOut, error) {
	r := txnLeftOut{key: decodeKey(d), left: chain.LeftOut{Records: d.int(), Code: wire.Code(d.int16())}}
	if len(d.b) > 0 { // earlier builds stamped nothing anew
		r.left.Stamped = d.int()
	}
	if r.left.Records < 0 || r.left.Stamped < 0 {
		d.fail()
	}
	return r, d.end("records that a redo leaves out")
}

// txnOffsets holds offsets that a group gets if a transaction commits.
type txnOffsets struct {
	producer int64
	began    int64 // of the transaction, 0 in records of earlier releases
	offsets  *offsetsRecord
}

func (r *txnOffsets) encode() record {
	inner := r.offsets.encode()
	e := newEncoder(kindTxnOffsets, len(inner)+22)
	e.int(r.producer)
	e.int(r.began)
	e.bytes(inner)
	return e.b
}

func decodeTxnOffsets(k kind, d *decoder) (*txnOffsets, error) {
	r := &txnOffsets{producer: d.int()}
	if k == kindTxnOffsets {
		r.began = d.int()
	}
	inner := d.view(maxRecordLimit)
	if err := d.end("offsets of a transaction"); err != nil {
		return nil, err
	}
	ok, od, err := open(inner)
	if err != nil {
		return nil, err
	}
	if ok != kindOffsets {
		return nil, fmt.Errorf("%w: offsets of a transaction of kind %d", errRecord, ok)
	}
	r.offsets, err = decodeOffsets(od)
	return r, err
}

// txnSettled ends the pending offsets of a producer in a group.
type txnSettled struct {
	key       groupKey
	producer  int64
	committed bool
	at        int64 // ms
}

func (r txnSettled) encode() record {
	e := newEncoder(kindTxnSettled, len(r.key.tenant)+len(r.key.group)+16)
	r.key.encode(e)
	e.int(r.producer)
	e.bool(r.committed)
	e.int(r.at)
	return e.b
}

func decodeTxnSettled(d *decoder) (txnSettled, error) {
	r := txnSettled{key: decodeKey(d), producer: d.int(), committed: d.bool(), at: d.int()}
	return r, d.end("end of a group's transaction")
}

// applyTxnRecord takes a record of one of the kinds above.
func (m *machine) applyTxnRecord(k kind, d *decoder) error {
	switch k {
	case kindTxn, kindTxnFormers, kindTxnUnfloored:
		r, err := decodeTxn(k, d)
		if err != nil {
			return err
		}
		if t := m.txns[r.key]; t != nil {
			if r.state.decided() || r.state == txnCompleteCommit || r.state == txnCompleteAbort {
				r.left = t.left
			}
			m.dropTxn(t)
		}
		t := m.newTransaction(r.key)
		timer, l := t.timer, t.load
		*t = *r
		t.timer, t.load = timer, l
		t.grew(t.weigh())
		for _, f := range t.formers {
			t.load.add(f.weight())
		}
	case kindTxnAdded, kindTxnAddedUnfloored:
		r, err := decodeTxnAdded(k, d)
		if err != nil {
			return err
		}
		t := m.txns[r.key]
		if t != nil {
			// Else it comes before its id's own place in a snapshot, which has it too.
			m.applyAdded(t, r)
		}
	case kindTxnGone:
		key := decodeKey(d)
		if err := d.end("removed transactional id"); err != nil {
			return err
		}
		if t := m.txns[key]; t != nil {
			m.dropTxn(t)
		}
	case kindTxnLeftOut:
		r, err := decodeTxnLeftOut(d)
		if err != nil {
			return err
		}
		if t := m.txns[r.key]; t != nil {
			t.left = r.left
		}
	case kindTxnOffsets, kindTxnOffsetsUnnamed:
		r, err := decodeTxnOffsets(k, d)
		if err != nil {
			return err
		}
		m.applyTxnOffsets(r)
	case kindTxnSettled:
		r, err := decodeTxnSettled(d)
		if err != nil {
			return err
		}
		m.applySettled(r)
	default:
		return fmt.Errorf("%w: kind %d", errRecord, k)
	}
	return nil
}

func (m *machine) applyAdded(t *transaction, r *txnAdded) {
	if t.state != txnOngoing {
		t.empty()
		t.state, t.started = txnOngoing, r.started
	}
	for k, p := range r.parts {
		t.part(k, p)
	}
	for _, g := range r.groups {
		t.addGroup(g)
	}
	if r.participant != nil && t.participant(r.participant.cluster) == nil {
		t.addParticipant(*r.participant)
	}
}

// beginTxns arms the timers when the machine begins to serve, and lists the
// transactions whose decision is still to be carried out. Markers that clusters may not have written are looked for.
func (m *machine) beginTxns() (decided []groupKey) {
	for key, t := range m.txns {
		m.armTxn(t)
		if t.state.decided() {
			decided = append(decided, key)
		}
		for _, f := range t.formers {
			m.watchFormer(key, f, nil)
		}
	}
	return decided
}

// snapshotTxn writes again all that is kept of a transactional id.
func (m *machine) snapshotTxn(key groupKey) {
	if t := m.txns[key]; t != nil {
		m.emit(t.encode())
		if t.left != (chain.LeftOut{}) {
			m.emit(txnLeftOut{key, t.left}.encode())
		}
	}
}

// snapshotTxns lists the transactional ids that a snapshot has to write.
func (m *machine) snapshotTxns() []groupKey {
	keys := make([]groupKey, 0, len(m.txns))
	for key := range m.txns {
		keys = append(keys, key)
	}
	return keys
}

package coordinator

// change collects what one event changed in a consumer group, and has it written
// as one record, so that the next owner sees all of the event or nothing.
type change struct {
	m       *machine
	g       *group
	group   bool // epochs or hash
	records []record
}

func (m *machine) change(g *group) *change { return &change{m: m, g: g} }

func (ch *change) member(mb *consumerMember) { ch.add(consumerMemberRecord{ch.g.key, mb}.encode()) }
func (ch *change) target(mb *consumerMember) { ch.add(consumerTargetRecord{ch.g.key, mb}.encode()) }
func (ch *change) current(mb *consumerMember) {
	ch.add(consumerCurrentRecord{ch.g.key, mb}.encode())
}
func (ch *change) gone(id string) { ch.add(consumerGoneRecord{ch.g.key, id}.encode()) }
func (ch *change) regex(expr string, r *resolvedRegex) {
	ch.add(consumerRegexRecord{ch.g.key, expr, r}.encode())
}
func (ch *change) add(r record) { ch.records = append(ch.records, r) }

// bump raises the group's epoch; the targets are computed anew.
func (ch *change) bump() {
	ch.g.consumer.epoch++
	ch.group = true
}

// commit emits what was collected. Nothing is emitted if nothing changed.
func (ch *change) commit() {
	var all []record
	if ch.group {
		all = append(all, consumerGroupRecord{ch.g.key, ch.g.consumer}.encode())
	}
	all = append(all, ch.records...)
	for len(all) > 0 {
		// Beyond any sensible group: then the parts are in order, the epoch first, so
		// that what the next owner may miss has it compute the targets again.
		n, size := 0, 0
		for n < len(all) && (n == 0 || size+len(all[n]) <= ch.m.config.MaxRecordBytes) {
			size += len(all[n])
			n++
		}
		if n == 1 {
			ch.m.emit(all[0])
		} else {
			ch.m.emit(severalRecord(all[:n]).encode())
		}
		all = all[n:]
	}
}

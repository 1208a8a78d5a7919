package coordinator

import "github.com/braidstream/braid/catalog"

// scheduleExpiry has offsets looked at every interval, the first time after one.
func (m *machine) scheduleExpiry() {
	t := newTimer(nil)
	t.fire = func() {
		m.expire()
		m.timers.set(t, m.now+m.config.ExpiryInterval.Milliseconds())
	}
	m.timers.set(t, m.now+m.config.ExpiryInterval.Milliseconds())
}

// expire drops offsets past their retention (KIP-211), those of topics that are
// gone, and then groups that are empty and have none left.
func (m *machine) expire() {
	for key, g := range m.groups {
		left := 0
		var gone []topicPartitions
		for name, store := range g.offsets {
			// Twice in a row: what is not there may only be behind in the watch.
			absent := !store.id.IsZero() && !m.topics.exists(store.id)
			missing := absent && store.absent
			store.absent = absent
			drop := topicPartitions{name: name}
			for p, o := range store.partitions {
				if missing || m.expired(g, name, o) {
					drop.partitions = append(drop.partitions, p)
				} else {
					left++
				}
			}
			if len(drop.partitions) > 0 {
				gone = append(gone, drop)
			}
		}
		switch {
		case left > 0 || g.state != stateEmpty || len(g.pending) > 0 || len(g.txns) > 0 || g.consumer != nil && len(g.consumer.members) > 0:
			m.forget(key, gone)
		case !g.isFresh(m):
			m.remove(g)
		}
	}
}

// isFresh spares groups that have only just been made: their first member has got
// its id and is about to join.
func (g *group) isFresh(m *machine) bool {
	return len(g.offsets) == 0 && m.now-g.since < m.config.ExpiryInterval.Milliseconds()
}

// expired tells whether an offset is past its retention. It runs from the commit
// for simple groups and for topics that nobody in a live group reads any more,
// and from when the group became empty otherwise. Other live groups keep theirs.
func (m *machine) expired(g *group, topic string, o *committed) bool {
	base := o.at
	switch {
	case g.consumer != nil:
		// From the commit, for topics that no member subscribes to.
		if g.consumer.subscribedTo(topic) {
			return false
		}
	case g.protocolType == nil:
	case g.state == stateEmpty:
		base = g.since
	case g.isConsumer() && g.subscribed != nil && g.state == stateStable && !g.subscribed[topic]:
	default:
		return false
	}
	if o.expires >= 0 {
		return m.now >= o.expires
	}
	return m.now-base >= m.config.OffsetsRetention.Milliseconds()
}

// topicGone drops all offsets of a topic that was deleted.
func (m *machine) topicGone(tenant, name string, id catalog.ID) {
	for key, g := range m.groups {
		if key.tenant != tenant {
			continue
		}
		store := g.offsets[name]
		if store == nil || store.id != id {
			continue
		}
		drop := topicPartitions{name: name}
		for p := range store.partitions {
			drop.partitions = append(drop.partitions, p)
		}
		m.forget(key, []topicPartitions{drop})
	}
}

package coordinator

import (
	"slices"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// MigrationPolicy tells which groups may change their protocol while members are in
// them (group.consumer.migration.policy). Empty groups always may.
type MigrationPolicy string

// The policies, by Kafka's names.
const (
	MigrateBoth     MigrationPolicy = "bidirectional"
	MigrateUp       MigrationPolicy = "upgrade"   // classic to consumer
	MigrateDown     MigrationPolicy = "downgrade" // consumer to classic
	MigrateDisabled MigrationPolicy = "disabled"
)

// upgradeable tells why a classic group with members cannot become a consumer group; ""
// if it can.
func (m *machine) upgradeable(g *group) string {
	switch {
	case m.config.ConsumerMigration != MigrateBoth && m.config.ConsumerMigration != MigrateUp:
		return "online upgrade is disabled"
	case !g.isConsumer():
		return "it does not use the consumer embedded protocol"
	case len(g.members) > m.config.ConsumerMaxSize:
		return "it has more members than a consumer group may have"
	}
	_, why := m.upgraded(g)
	return why
}

// upgraded makes consumer members of classic ones, with what the leader assigned to them.
func (m *machine) upgraded(g *group) (members []*consumerMember, why string) {
	chosen := g.vote()
	if g.protocol != nil {
		chosen = *g.protocol
	}
	taken := map[topicPartition]bool{}
	for _, o := range g.order {
		i := slices.IndexFunc(o.protocols, func(p protocol) bool { return p.name == chosen })
		if i < 0 {
			return nil, "its members have no protocol in common"
		}
		sub, ok := parseConsumerSubscription(o.protocols[i].metadata)
		if !ok {
			return nil, "the embedded consumer protocol is malformed"
		}
		mb := m.newConsumerMember(g, o.id)
		mb.instance, mb.clientID, mb.clientHost, mb.rack = o.instance, o.clientID, o.clientHost, sub.rack
		mb.rebalanceTimeout = o.rebalanceTimeout
		mb.topics = slices.Compact(slices.Sorted(slices.Values(sub.topics)))
		mb.classic = &classicSide{session: o.sessionTimeout, protocols: o.protocols}
		mb.epoch, mb.previous = g.generation, g.generation
		mb.target, mb.assigned, mb.revoking = assignment{}, held{}, held{}
		members = append(members, mb)
		if len(o.assignment) == 0 {
			continue
		}
		owned, userData, ok := parseConsumerAssignment(o.assignment)
		switch {
		case !ok:
			return nil, "the embedded consumer protocol is malformed"
		case len(userData) > 0:
			return nil, "an assignor of its own is in use"
		}
		for name, all := range owned {
			topic, _, ok := m.topics.named(g.key.tenant, name)
			if !ok {
				continue
			}
			for _, p := range slices.Compact(slices.Sorted(slices.Values(all))) {
				// An assignor may have given a partition to several; the protocol does not.
				if tp := (topicPartition{topic, p}); !taken[tp] {
					taken[tp] = true
					mb.target[topic] = append(mb.target[topic], p)
					mb.assigned[topic] = append(mb.assigned[topic], heldPartition{p, g.generation})
				}
			}
		}
	}
	return members, ""
}

// toConsumer makes a classic group a consumer group; its members go on with the
// classic protocol until they come with the other one.
func (m *machine) toConsumer(ch *change) {
	g := ch.g
	var members []*consumerMember
	generation := g.generation
	if len(g.order) > 0 {
		// It was asked before whether that works.
		members, _ = m.upgraded(g)
		m.logger.Info("classic group becomes a consumer group", "tenant", g.key.tenant, "group", g.key.group)
	}
	for _, o := range g.order {
		g.answerJoin(m, o, joinAnswer{code: wire.RebalanceInProgress, memberID: o.id, generation: -1})
		g.answerSync(m, o, syncAnswer{code: wire.RebalanceInProgress})
	}
	m.becomeConsumer(g)
	c := g.consumer
	if len(members) > 0 {
		c.epoch, c.assigned = generation, generation
	}
	ch.group = true
	for _, mb := range members {
		c.add(mb)
		ch.member(mb)
		ch.target(mb)
		ch.current(mb)
		m.timers.set(mb.session, m.now+int64(mb.classic.session))
	}
	c.hash, c.checked = m.topicHash(g), m.topics.version(g.key.tenant)
}

// downgradeable tells whether a consumer group can become a classic one when some
// leave and left are there then.
func (m *machine) downgradeable(c *consumerGroup, leaving map[*consumerMember]bool, left int) bool {
	if left <= 0 || left > m.config.MaxGroupSize || m.config.ConsumerMigration != MigrateBoth && m.config.ConsumerMigration != MigrateDown {
		return false
	}
	for _, mb := range c.members {
		if mb.classic == nil && !leaving[mb] {
			return false
		}
	}
	return true
}

// toClassic makes a consumer group, whose members but those that leave speak the classic
// protocol, a classic one that is stable with their targets. joining, if not nil,
// takes the place of the one with its instance id.
func (m *machine) toClassic(g *group, leaving map[*consumerMember]bool, joining *consumerMember) {
	c := g.consumer
	all := c.sorted()
	epoch := c.epoch
	m.logger.Info("consumer group becomes a classic group", "tenant", g.key.tenant, "group", g.key.group)
	m.becomeClassic(g)
	g.generation = epoch
	targets := map[string]assignment{}
	for _, o := range all {
		if leaving[o] && o != joining || o.classic == nil {
			continue
		}
		mb := &member{
			id: o.id, instance: o.instance, clientID: o.clientID, clientHost: o.clientHost,
			rebalanceTimeout: o.rebalanceTimeout, sessionTimeout: o.classic.session,
			protocolType: consumerType, protocols: o.classic.protocols, assignment: []byte{},
		}
		mb.session = newTimer(func() { m.expireSession(g, mb) })
		g.add(mb)
		targets[mb.id] = o.target
	}
	chosen := g.vote()
	g.protocol = &chosen
	for _, mb := range g.order {
		mb.assignment = m.classicAssignment(g.metadata(mb), targets[mb.id])
		g.weigh(mb)
		m.alive(mb, int64(mb.sessionTimeout))
	}
	g.subscribed = g.readSubscriptions()
	g.move(m, stateStable)
	m.persist(g, nil)
}

// classicAssignment encodes partitions as members of the classic protocol know them, in
// the version of their subscription.
func (m *machine) classicAssignment(subscription []byte, of map[catalog.ID][]int32) []byte {
	named := map[string][]int32{}
	for topic, all := range of {
		if name, ok := m.topics.name(topic); ok {
			named[name] = all
		}
	}
	return appendConsumerAssignment(nil, subscription, named)
}

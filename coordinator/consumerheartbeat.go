package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// ConsumerGroupHeartbeat, versions 0 to 1, as Apache Kafka 4.3 (KIP-848), with what is
// committed of an older epoch as in KIP-1251.
//
// Differences: expressions are resolved before the answer rather than after it; their
// compiled size, their number in a group and the size of a subscription are bounded.
// A new target is computed at once in small groups, without waiting for
// group.consumer.assignment.interval.ms (see Config.ConsumerAssignmentInterval).

// consumerBeat is one heartbeat.
type consumerBeat struct {
	key        groupKey
	memberID   string
	epoch      int32 // 0: join; -1: leave; -2: leave for a moment
	instance   *string
	rack       *string
	clientID   string
	clientHost string
	rebalance  int32    // ms; -1: as before
	topics     []string // sorted
	hasTopics  bool
	regex      *string
	badRegex   error
	assignor   *string
	owned      *assignment // nil: as before
	resolved   map[string]*resolvedRegex
	done       func(consumerAnswer)
}

// consumerAnswer is what a heartbeat comes to.
type consumerAnswer struct {
	code     wire.Code
	message  string
	memberID string
	epoch    int32
	interval int32 // ms
	assigned held
	tell     bool // assigned
}

func consumerResponse(req *kmsg.ConsumerGroupHeartbeatRequest, a consumerAnswer) *kmsg.ConsumerGroupHeartbeatResponse {
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.Version = req.Version
	resp.ErrorCode = int16(a.code)
	if a.code != wire.None {
		if a.message == "" {
			a.message = a.code.Message()
		}
		resp.ErrorMessage = &a.message
		return resp
	}
	resp.MemberID, resp.MemberEpoch, resp.HeartbeatIntervalMillis = &a.memberID, a.epoch, a.interval
	if !a.tell {
		return resp
	}
	resp.Assignment = &kmsg.ConsumerGroupHeartbeatResponseAssignment{Topics: []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{}}
	for _, topic := range sortedTopics(a.assigned) {
		t := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		t.TopicID = topic
		for _, p := range a.assigned[topic] {
			t.Partitions = append(t.Partitions, p.partition)
		}
		resp.Assignment.Topics = append(resp.Assignment.Topics, t)
	}
	return resp
}

// ConsumerGroupHeartbeat answers once what it says is in the log.
func (c *Coordinator) ConsumerGroupHeartbeat(ctx context.Context, caller Caller, req *kmsg.ConsumerGroupHeartbeatRequest) *kmsg.ConsumerGroupHeartbeatResponse {
	r, refused := c.consumerBeat(caller, req)
	if refused != nil {
		return consumerResponse(req, *refused)
	}
	a := await(ctx, func(done func(consumerAnswer)) {
		r.done = done
		var exprs []string
		code := c.within(caller.Tenant, req.Group, func(m *machine) {
			if exprs = m.unresolved(r); len(exprs) == 0 {
				m.consumerHeartbeat(r)
			}
		})
		if code == wire.None && len(exprs) > 0 {
			r.resolved = c.resolveRegexes(caller, exprs)
			code = c.within(caller.Tenant, req.Group, func(m *machine) { m.consumerHeartbeat(r) })
		}
		if code != wire.None {
			done(consumerAnswer{code: code})
		}
	}, func() consumerAnswer { return consumerAnswer{code: wire.RequestTimedOut} })
	return consumerResponse(req, a)
}

// consumerBeat checks what can be checked without the group.
func (c *Coordinator) consumerBeat(caller Caller, req *kmsg.ConsumerGroupHeartbeatRequest) (*consumerBeat, *consumerAnswer) {
	refuse := func(code wire.Code, format string, args ...any) (*consumerBeat, *consumerAnswer) {
		return nil, &consumerAnswer{code: code, message: fmt.Sprintf(format, args...)}
	}
	blank := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	long := max(len(req.Group), len(req.MemberID), len(caller.ClientID), len(caller.ClientHost))
	for _, s := range []*string{req.InstanceID, req.RackID} {
		if s != nil {
			long = max(long, len(*s))
		}
	}
	size := 0
	for _, t := range req.SubscribedTopicNames {
		long = max(long, len(t))
		size += len(t)
	}
	switch epoch := req.MemberEpoch; {
	case (req.Version >= 1 || epoch > 0 || epoch == -1) && strings.TrimSpace(req.MemberID) == "":
		return refuse(wire.InvalidRequest, "the member id must not be empty")
	case strings.TrimSpace(req.Group) == "":
		return refuse(wire.InvalidRequest, "the group id must not be empty")
	case blank(req.InstanceID):
		return refuse(wire.InvalidRequest, "the instance id must not be empty")
	case blank(req.RackID):
		return refuse(wire.InvalidRequest, "the rack id must not be empty")
	case epoch == 0 && req.RebalanceTimeoutMillis == -1:
		return refuse(wire.InvalidRequest, "a member that joins must give its rebalance timeout")
	case epoch == 0 && (req.Topics == nil || len(req.Topics) > 0):
		return refuse(wire.InvalidRequest, "a member that joins must own no partitions, and say so")
	case epoch == 0 && req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
		return refuse(wire.InvalidRequest, "a member that joins must subscribe to topics or to a regular expression")
	case epoch == -2 && req.InstanceID == nil:
		return refuse(wire.InvalidRequest, "only a member with an instance id can leave for a moment")
	case epoch < -2:
		return refuse(wire.InvalidRequest, "member epoch %d is invalid", epoch)
	case req.ServerAssignor != nil && !slices.Contains(c.config.ConsumerAssignors, *req.ServerAssignor):
		return refuse(wire.UnsupportedAssignor, "assignor %.100q is not supported; there are: %s", *req.ServerAssignor, strings.Join(c.config.ConsumerAssignors, ", "))
	case long > maxName, size > c.config.MaxRecordBytes/2, len(req.SubscribedTopicNames) > maxSubscription:
		return refuse(wire.InvalidRequest, "the subscription or a name in it is too long")
	}
	r := &consumerBeat{
		key: groupKey{caller.Tenant, req.Group}, memberID: req.MemberID, epoch: req.MemberEpoch, instance: req.InstanceID, rack: req.RackID,
		clientID: caller.ClientID, clientHost: caller.ClientHost, rebalance: req.RebalanceTimeoutMillis,
		hasTopics: req.SubscribedTopicNames != nil, regex: req.SubscribedTopicRegex, assignor: req.ServerAssignor,
	}
	r.topics = slices.Compact(slices.Sorted(slices.Values(req.SubscribedTopicNames)))
	if r.regex != nil && *r.regex != "" {
		_, r.badRegex = compileTopicRegex(*r.regex)
	}
	if req.Topics != nil {
		owned := make(assignment, len(req.Topics))
		for i := range req.Topics {
			owned[req.Topics[i].TopicID] = append(owned[req.Topics[i].TopicID], req.Topics[i].Partitions...)
		}
		r.owned = &owned
	}
	return r, nil
}

// consumerHeartbeat is a heartbeat of any kind. All checks come before anything is
// changed.
func (m *machine) consumerHeartbeat(r *consumerBeat) {
	refuse := func(code wire.Code, format string, args ...any) {
		a := consumerAnswer{code: code, message: fmt.Sprintf(format, args...)}
		m.reply(func() { r.done(a) })
	}
	g := m.groups[r.key]
	if r.epoch < 0 {
		m.consumerLeave(g, r, refuse)
		return
	}
	joins := r.epoch == 0
	switch {
	case g == nil && !joins:
		refuse(wire.GroupIDNotFound, "Group %s not found.", r.key.group)
		return
	case g != nil && g.consumer == nil && !joins:
		refuse(wire.GroupIDNotFound, "Group %s is not a consumer group.", r.key.group)
		return
	case g != nil && g.consumer == nil && len(g.members) > 0:
		if why := m.upgradeable(g); why != "" {
			refuse(wire.GroupIDNotFound, "Group %s cannot become a consumer group: %s.", r.key.group, why)
			return
		}
	}
	// known is the member, replaced the one whose instance it takes over.
	known, replaced, code, why := m.findConsumer(g, r)
	if code != wire.None {
		refuse(code, "%s", why)
		return
	}
	if r.badRegex != nil && (known == nil || known.regex == nil || *known.regex != *r.regex) {
		refuse(wire.InvalidRegularExpression, "regular expression %.200q is not valid: %v", *r.regex, r.badRegex)
		return
	}
	if r.regex != nil && *r.regex != "" && g != nil && g.consumer != nil && g.consumer.regexes[*r.regex] == nil && len(g.consumer.regexes) >= maxRegexes {
		refuse(wire.InvalidRequest, "the group subscribes to %d regular expressions already", maxRegexes)
		return
	}

	has := known
	if replaced != nil {
		has = replaced
	}
	if !m.mayHold(r.key.tenant, m.beatGrowth(g, has, r)) {
		refuse(wire.GroupMaxSizeReached, "%s", heldRefused)
		return
	}
	if g == nil {
		if code := m.mayGrow(r.key); code != wire.None {
			refuse(code, "%s", growthRefused[code])
			return
		}
		g = m.newGroup(r.key)
	}
	ch := m.change(g)
	if g.consumer == nil {
		m.toConsumer(ch)
		// Their members were made anew.
		known = g.consumer.members[r.memberID]
		if r.instance != nil {
			replaced = g.consumer.members[g.consumer.statics[*r.instance]]
		}
		if replaced == known {
			replaced = nil
		}
	}
	mb := known
	switch {
	case replaced != nil:
		mb = ch.replace(replaced, r.memberID)
	case known == nil:
		mb = m.newConsumerMember(g, r.memberID)
	}
	before := *mb
	if r.hasTopics {
		mb.topics = r.topics
	}
	if r.regex != nil {
		mb.regex = r.regex
	}
	if r.rack != nil {
		mb.rack = r.rack
	}
	if r.assignor != nil {
		mb.assignor = r.assignor
	}
	if r.rebalance >= 0 {
		mb.rebalanceTimeout = r.rebalance
	}
	mb.clientID, mb.clientHost, mb.classic = r.clientID, r.clientHost, nil
	ch.update(mb, &before, r.instance, known == nil && replaced == nil, r.resolved)
	ch.retarget()
	ch.reconcile(mb, !mb.sameSubscription(&before), r.owned)
	ch.commit()
	if before.classic != nil {
		m.timers.stop(mb.rejoin)
		m.timers.stop(mb.sync)
	}
	session, interval := m.consumerTimes(r.key)
	m.timers.set(mb.session, m.now+session)

	a := consumerAnswer{memberID: mb.id, epoch: mb.epoch, interval: int32(interval), assigned: mb.assigned}
	full := r.rebalance != -1 && (r.hasTopics || r.regex != nil) && r.owned != nil
	a.tell = joins || full || !before.assigned.equal(mb.assigned)
	m.durably(func() { r.done(a) }, func(code wire.Code) { r.done(consumerAnswer{code: code}) })
}

// findConsumer looks the member of a heartbeat up and holds its epoch against what
// is known. Both are nil for one that joins anew.
func (m *machine) findConsumer(g *group, r *consumerBeat) (known, replaced *consumerMember, code wire.Code, why string) {
	var c *consumerGroup
	if g != nil {
		c = g.consumer
	}
	if c == nil {
		if g != nil && len(g.members) >= m.config.ConsumerMaxSize && g.members[r.memberID] == nil {
			return nil, nil, wire.GroupMaxSizeReached, m.full()
		}
		if r.memberID == "" {
			r.memberID = m.newID()
		}
		return nil, nil, wire.None, ""
	}
	if len(c.members) >= m.config.ConsumerMaxSize && c.members[r.memberID] == nil {
		return nil, nil, wire.GroupMaxSizeReached, m.full()
	}
	if r.memberID == "" {
		r.memberID = m.newID()
	}
	known = c.members[r.memberID]
	if r.instance == nil {
		if known == nil && r.epoch != 0 {
			return nil, nil, wire.UnknownMemberID, fmt.Sprintf("Member %s is not a member of group %s.", r.memberID, g.key.group)
		}
	} else {
		holder := c.members[c.statics[*r.instance]]
		switch {
		case r.epoch == 0 && holder == nil:
		case r.epoch == 0:
			if holder.classic == nil && holder.epoch != -2 {
				return nil, nil, wire.UnreleasedInstanceID, fmt.Sprintf("Instance id %s is still owned by member %s.", *r.instance, holder.id)
			}
			return nil, holder, wire.None, ""
		case holder == nil:
			return nil, nil, wire.UnknownMemberID, fmt.Sprintf("Instance id %s is unknown.", *r.instance)
		case holder.id != r.memberID:
			return nil, nil, wire.FencedInstanceID, fmt.Sprintf("Instance id %s is owned by member %s.", *r.instance, holder.id)
		default:
			known = holder
		}
	}
	if known == nil || r.epoch == 0 {
		return known, nil, wire.None, ""
	}
	// A member whose answer was lost comes with the epoch before.
	switch {
	case r.epoch > known.epoch:
	case r.epoch < known.epoch && (r.epoch != known.previous || !known.hasAll(r.owned)):
	default:
		return known, nil, wire.None, ""
	}
	return nil, nil, wire.FencedMemberEpoch, fmt.Sprintf("Member epoch %d is not %d; the member must abandon its partitions and join anew.", r.epoch, known.epoch)
}

func (m *machine) full() string {
	return fmt.Sprintf("The consumer group has its maximum of %d members.", m.config.ConsumerMaxSize)
}

// hasAll tells whether the member was assigned all of it.
func (mb *consumerMember) hasAll(owned *assignment) bool {
	if owned == nil {
		return false
	}
	for topic, all := range *owned {
		for _, p := range all {
			if _, ok := mb.assigned.find(topic, p); !ok {
				return false
			}
		}
	}
	return true
}

func (mb *consumerMember) sameSubscription(o *consumerMember) bool {
	return slices.Equal(mb.topics, o.topics) && sameText(mb.regex, o.regex)
}

func sameText(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// update takes the member as it is now into the group, and bumps the epoch if its
// subscription, or what that stands for, is another.
func (ch *change) update(mb, before *consumerMember, instance *string, added bool, resolved map[string]*resolvedRegex) {
	m, g, c := ch.m, ch.g, ch.g.consumer
	if instance != nil && !sameText(instance, mb.instance) {
		if mb.instance != nil && c.statics[*mb.instance] == mb.id {
			delete(c.statics, *mb.instance)
		}
		mb.instance = instance
	}
	c.add(mb)
	if added || !mb.sameIdentity(before) {
		ch.member(mb)
	}
	changed := !mb.sameSubscription(before)
	if ch.resolve(resolved) {
		changed = true
	}
	version := m.topics.version(g.key.tenant)
	if changed || c.checked != version {
		hash := m.topicHash(g)
		if hash != c.hash {
			c.hash, ch.group, changed = hash, true, true
		}
		c.checked = version
	}
	if changed {
		ch.bump()
	}
}

// sameIdentity tells whether the member's record would be the same.
func (mb *consumerMember) sameIdentity(o *consumerMember) bool {
	if (mb.classic == nil) != (o.classic == nil) {
		return false
	}
	if mb.classic != nil && (mb.classic.session != o.classic.session || !slices.EqualFunc(mb.classic.protocols, o.classic.protocols, equalProtocol)) {
		return false
	}
	return mb.sameSubscription(o) && sameText(mb.instance, o.instance) && sameText(mb.rack, o.rack) && sameText(mb.assignor, o.assignor) &&
		mb.clientID == o.clientID && mb.clientHost == o.clientHost && mb.rebalanceTimeout == o.rebalanceTimeout
}

// replace gives an instance's membership, with all its partitions, to another member
// id: the process was started again.
func (ch *change) replace(old *consumerMember, id string) *consumerMember {
	m, c := ch.m, ch.g.consumer
	mb := m.newConsumerMember(ch.g, id)
	mb.instance, mb.rack, mb.rebalanceTimeout, mb.topics, mb.regex, mb.assignor = old.instance, old.rack, old.rebalanceTimeout, old.topics, old.regex, old.assignor
	mb.clientID, mb.clientHost, mb.classic = old.clientID, old.clientHost, old.classic
	mb.target, mb.state, mb.assigned, mb.revoking = old.target, old.state, old.assigned, old.revoking
	if other := c.members[id]; other != nil && other != old {
		c.remove(m, other)
		ch.gone(id)
	}
	if old.id != id {
		ch.gone(old.id)
	}
	m.stopTimers(old)
	c.disown(old)
	c.unweigh(old)
	delete(c.members, old.id)
	c.add(mb)
	ch.member(mb)
	ch.target(mb)
	ch.current(mb)
	return mb
}

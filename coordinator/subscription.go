package coordinator

import "encoding/binary"

// readSubscriptions collects the topics that the members of a consumer group
// subscribe to; nil if that cannot be told.
func (g *group) readSubscriptions() map[string]bool {
	if !g.isConsumer() {
		return nil
	}
	topics := map[string]bool{}
	if len(g.members) == 0 {
		return topics
	}
	if g.protocol == nil {
		return nil
	}
	for _, mb := range g.order {
		if !parseSubscription(g.metadata(mb), topics) {
			return nil
		}
	}
	return topics
}

// isSubscribed tells whether a member consumes the topic, or may do so.
func (g *group) isSubscribed(topic string) bool {
	if g.consumer != nil {
		return g.consumer.subscribedTo(topic)
	}
	if g.subscribed == nil {
		return g.isConsumer()
	}
	return g.subscribed[topic]
}

// parseSubscription reads the topics of a ConsumerProtocolSubscription: a
// version, then an array of strings. What follows depends on the version and is
// of no concern here.
func parseSubscription(b []byte, into map[string]bool) bool {
	if len(b) < 6 {
		return false
	}
	if int16(binary.BigEndian.Uint16(b)) < 0 {
		return false
	}
	n := int32(binary.BigEndian.Uint32(b[2:]))
	b = b[6:]
	if n < 0 || int64(n)*2 > int64(len(b)) {
		return false
	}
	for range n {
		if len(b) < 2 {
			return false
		}
		l := int(int16(binary.BigEndian.Uint16(b)))
		if l < 0 || len(b)-2 < l {
			return false
		}
		into[string(b[2:2+l])] = true
		b = b[2+l:]
	}
	return true
}

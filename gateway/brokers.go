package gateway

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/braidstream/braid/catalog"
)

// broker is a live gateway as clients see it.
type broker struct {
	node int32
	host string
	port int32
	rack string // its zone; "" is none
	seed uint64
}

// brokers is what the clients of one listener are told of the fleet: every
// live gateway that has a listener of the same name, under the address that
// this listener advertises there. It is immutable.
//
// A gateway without such a listener is left out: its other addresses belong to
// networks that these clients may not reach. While this gateway itself is not
// registered (its lease ran out, or it is starting), it is in the list all the
// same, since the client that asks does reach it.
//
// A gateway that drains is left out as soon as there is another, itself
// included: whoever asks it where to go is sent elsewhere.
type brokers struct {
	list []broker // by node
	// leaders are those of list that may lead a partition: the ones in the
	// client's zone, or all if there are none.
	leaders []broker
}

func newBrokers(gateways []*catalog.Gateway, listener, zone string, self broker) *brokers {
	b := &brokers{}
	selfLeaves := false
	for _, gw := range gateways {
		if gw.Draining {
			selfLeaves = selfLeaves || gw.Node == self.node
			continue
		}
		if found, ok := brokerOf(gw, listener); ok {
			b.list = append(b.list, found)
		}
	}
	if b.find(self.node) == nil && (!selfLeaves || len(b.list) == 0) {
		b.list = append(b.list, self)
		slices.SortFunc(b.list, func(x, y broker) int { return cmp.Compare(x.node, y.node) })
	}
	for i := range b.list {
		b.list[i].seed = mix(uint64(uint32(b.list[i].node)) + 0x9e3779b97f4a7c15)
	}
	b.leaders = b.list
	if zone != "" {
		var near []broker
		for i := range b.list {
			if b.list[i].rack == zone {
				near = append(near, b.list[i])
			}
		}
		if len(near) > 0 {
			b.leaders = near
		}
	}
	return b
}

// called puts the tenant before the names of brokers in the domain by which
// tenants are told apart, so that their clients come back under such a name.
func (b *brokers) called(tenant, domain string) {
	for i := range b.list {
		if host := b.list[i].host; tenant != "" && (host == domain || strings.HasSuffix(host, "."+domain)) {
			b.list[i].host = tenant + "." + host
		}
	}
}

// brokerOf is false for a gateway without such a listener.
func brokerOf(gw *catalog.Gateway, listener string) (broker, bool) {
	for i := range gw.Listeners {
		l := &gw.Listeners[i]
		if l.Name != listener {
			continue
		}
		// An address that cannot be read was written by a release that knows better; not ours to judge.
		host, port, err := splitAddress(l.Advertise)
		return broker{node: gw.Node, host: host, port: port, rack: firstOf(l.Zone, gw.Zone)}, err == nil
	}
	return broker{}, false
}

// find returns nil if the node is not in the list.
func (b *brokers) find(node int32) *broker {
	for i := range b.list {
		if b.list[i].node == node {
			return &b.list[i]
		}
	}
	return nil
}

// leader picks the partition's leader by rendezvous hash: when a gateway comes
// or goes, only its own share of the partitions changes leader. Any gateway
// serves any partition; leadership only spreads load and keeps caches warm.
func (b *brokers) leader(topic catalog.ID, partition int32) int32 {
	return b.pick(topicSeed(topic) + uint64(uint32(partition))*0x9e3779b97f4a7c15)
}

// controller is the broker that clients send their admin requests to.
func (b *brokers) controller(tenant string) int32 {
	h := uint64(14695981039346656037)
	for i := range len(tenant) {
		h = (h ^ uint64(tenant[i])) * 1099511628211
	}
	return b.pick(h)
}

func (b *brokers) pick(h uint64) int32 {
	h = mix(h)
	best, node := uint64(0), int32(-1)
	for i := range b.leaders {
		if score := mix(h ^ b.leaders[i].seed); node < 0 || score > best {
			best, node = score, b.leaders[i].node
		}
	}
	return node
}

func topicSeed(id catalog.ID) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range id {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func splitAddress(addr string) (host string, port int32, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, err
	}
	return host, int32(n), nil
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

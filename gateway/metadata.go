package gateway

// Metadata, key 3, versions 0 to 13.
//
// Like Apache Kafka: all topics for null (version 0: for none), automatic
// creation where the broker and the request allow it, lookup by topic id from
// version 12 on.
//
// Differences: brokers are the live gateways with the addresses of the
// listener that the client came in by; the controller is one of them. Leaders
// are spread over the gateways of the client's zone and differ between zones.
// The only replica shown is the leader, and no partition is ever offline: any
// gateway serves any partition. A topic that is created automatically is in the
// same answer. The leader epoch is that of the chain's open span.

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// notAsked is the set of allowed operations that nobody asked for.
const notAsked = int32(math.MinInt32)

const (
	flagTopicOperations   = 1
	flagClusterOperations = 2
)

func serveMetadata(call *call) error {
	h := call.header
	if err := call.c.begin(); err != nil {
		return err
	}
	if err := wire.Check(h.Key, h.Version, call.body, wire.DefaultBudget); err != nil {
		return err
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Version = h.Version
	if h.Version < 4 {
		req.AllowAutoTopicCreation = true
	}
	if err := req.ReadFrom(call.body); err != nil {
		return errors.Join(wire.ErrMalformed, err)
	}
	all := req.Topics == nil || h.Version == 0 && len(req.Topics) == 0
	var flags byte
	if req.IncludeTopicAuthorizedOperations {
		flags |= flagTopicOperations
	}
	if req.IncludeClusterAuthorizedOperations {
		flags |= flagClusterOperations
	}
	if all && call.index == nil {
		return call.wholeMetadata(flags)
	}
	if all {
		return call.visibleMetadata(flags)
	}
	var wanted []wantedTopic
	call.c.aside(func() { wanted = call.wantedTopics(req) }) // topics may be looked for, and made
	v := call.c.view()
	m := metadataWriter{v: v, ask: &call.asker, version: h.Version, flags: flags}
	out := replyPool.Get().(*[]byte)
	m.b = *out
	m.frame(h)
	m.head(call)
	m.array(len(wanted))
	for i := range wanted {
		if w := &wanted[i]; w.topic != nil {
			m.topic(w.topic)
		} else {
			m.absent(w.name, w.id, wire.Code(call.failed(w.code)))
		}
	}
	m.tail()
	m.worked(call)
	err := call.send(m.finish())
	keep(out, m.b)
	return err
}

// wholeMetadata answers with all topics of the tenant.
func (call *call) wholeMetadata(flags byte) error {
	v := call.c.view()
	key := wholeKey{tenant: call.tenant, version: call.header.Version, flags: flags}
	v.whole.mu.Lock()
	body := v.whole.by[key]
	if body == nil {
		m := metadataWriter{v: v, ask: &call.asker, version: key.version, flags: flags}
		m.b = make([]byte, 0, v.whole.size)
		m.head(call)
		at := len(m.b)
		m.int32(0) // room for the count
		n := 0
		for t := range v.snapshot.Topics(call.tenant) {
			m.topic(t)
			n++
		}
		m.tail()
		body = m.withCount(at, n)
		v.whole.by[key] = body
	}
	v.whole.mu.Unlock()
	// All who ask are sent the same bytes, which nobody changes any more.
	e := metadataWriter{version: key.version}
	e.frame(call.header)
	if call.c.quota != nil {
		if key.version >= 3 {
			e.throttleAt = len(e.b)
			e.b, body = append(e.b, body[:4]...), body[4:]
		}
		e.worked(call)
	}
	binary.BigEndian.PutUint32(e.b, uint32(len(e.b)-4+len(body)))
	return call.sendBoth(e.b, body)
}

// visibleMetadata answers with those topics of the tenant that who asks may describe.
func (call *call) visibleMetadata(flags byte) error {
	m := metadataWriter{v: call.c.view(), ask: &call.asker, version: call.header.Version, flags: flags}
	var seen []*catalog.Topic
	for t := range m.v.snapshot.Topics(call.tenant) {
		if call.may(acl.Describe, acl.Topic, t.Name) {
			seen = append(seen, t)
		}
	}
	out := replyPool.Get().(*[]byte)
	m.b = *out
	m.frame(call.header)
	m.head(call)
	m.array(len(seen))
	for _, t := range seen {
		m.topic(t)
	}
	m.tail()
	m.worked(call)
	err := call.send(m.finish())
	keep(out, m.b)
	return err
}

// wantedTopic is one topic of a request, and what was found.
type wantedTopic struct {
	name  string
	id    catalog.ID
	topic *catalog.Topic
	code  wire.Code
}

func (call *call) wantedTopics(req *kmsg.MetadataRequest) []wantedTopic {
	wanted := make([]wantedTopic, 0, len(req.Topics))
	type key struct {
		name string
		id   catalog.ID
	}
	seen := make(map[key]bool, len(req.Topics))
	for i := range req.Topics {
		t := &req.Topics[i]
		w := wantedTopic{}
		if t.Topic != nil {
			w.name = *t.Topic
		}
		if req.Version >= 10 {
			w.id = t.TopicID
		}
		// A topic that is named twice is answered once: answers must not grow
		// out of proportion to requests.
		k := key{w.name, w.id}
		if seen[k] {
			continue
		}
		seen[k] = true
		switch {
		case req.Version < 12 && (t.Topic == nil || !w.id.IsZero()):
			w.code = wire.InvalidRequest
		case w.id.IsZero():
			// What may not be described is not looked for, so nothing tells
			// whether it is there.
			w.code = call.onTopic(acl.Describe, w.name)
		}
		wanted = append(wanted, w)
	}
	if call.find(wanted) {
		call.g.fresh.refresh(call.ctx)
		call.find(wanted)
	}
	var create []*wantedTopic
	mayCreate := call.may(acl.Create, acl.Cluster, acl.ClusterName)
	for i := range wanted {
		w := &wanted[i]
		if w.topic != nil && !w.id.IsZero() {
			// Ids are no secret, names are.
			if w.code = call.onTopic(acl.Describe, w.topic.Name); w.code != wire.None {
				w.topic, w.name = nil, ""
			}
		}
		if w.topic != nil || w.code != wire.None {
			continue
		}
		switch {
		case !w.id.IsZero():
			w.code, w.name = wire.UnknownTopicID, ""
		case checkTopicName(w.name) != nil:
			w.code = wire.InvalidTopicException
		case req.AllowAutoTopicCreation && call.g.cfg.AutoCreateTopics && !mayCreate && !call.allowed(acl.Create, acl.Topic, w.name):
			w.code = wire.TopicAuthorizationFailed
		case req.AllowAutoTopicCreation && call.g.cfg.AutoCreateTopics:
			create = append(create, w)
		default:
			w.code = wire.UnknownTopicOrPartition
		}
	}
	each(len(create), func(i int) { create[i].topic, create[i].code = call.autoCreate(create[i].name) })
	return wanted
}

// find looks the topics up in the latest snapshot and tells whether one is missing.
func (call *call) find(wanted []wantedTopic) (missing bool) {
	s := call.g.watcher.Snapshot()
	for i := range wanted {
		w := &wanted[i]
		if w.code != wire.None {
			continue
		}
		if !w.id.IsZero() {
			w.topic = s.TopicByID(w.id)
		} else {
			w.topic = s.TopicByName(call.tenant, w.name)
		}
		if w.topic != nil && (w.topic.Tenant != call.tenant || w.topic.Deleting) {
			w.topic = nil
		}
		missing = missing || w.topic == nil
	}
	return missing
}

// autoCreate makes a topic that a client asked for by name.
func (call *call) autoCreate(name string) (*catalog.Topic, wire.Code) {
	switch {
	case internalTopic(name):
		return nil, wire.UnknownTopicOrPartition
	case reservedTopic(name):
		return nil, wire.InvalidTopicException
	}
	ctx, cancel := context.WithTimeout(call.ctx, call.g.cfg.RequestTimeout)
	defer cancel()
	// Counted, and never refused: who asks for metadata waits afterwards, as with Apache Kafka.
	if err := call.mutate(call.g.cfg.NumPartitions, math.MaxInt16); err != nil {
		return nil, wire.ThrottlingQuotaExceeded
	}
	_, err := call.g.admin.CreateTopic(ctx, TopicSpec{
		Tenant: call.tenant, Name: name, Partitions: call.g.cfg.NumPartitions, ReplicationFactor: -1,
	})
	if rejected := (*span.RejectedError)(nil); errors.As(err, &rejected) && rejected.Code == wire.TopicAlreadyExists {
		err = nil // another client was first
	} else if err == nil {
		call.wasMade(name)
	}
	if err != nil {
		code := call.g.codeOf(keyMetadata, call.c.peer, err)
		if code == wire.UnknownServerError {
			code = wire.LeaderNotAvailable // clients try again
		}
		return nil, code
	}
	call.g.fresh.refresh(ctx)
	if t := call.g.watcher.Snapshot().TopicByName(call.tenant, name); t != nil && !t.Deleting {
		return t, wire.None
	}
	return nil, wire.LeaderNotAvailable
}

// metadataWriter encodes the answer.
type metadataWriter struct {
	encoder
	v       *view
	ask     *asker
	version int16
	flags   byte
	// throttleAt is where the throttle time is, from version 3 on.
	throttleAt int
}

func (m *metadataWriter) head(call *call) {
	v := m.version
	m.flexible = v >= 9
	if v >= 3 {
		m.throttleAt = len(m.b)
		m.int32(0) // throttle time
	}
	m.array(len(m.v.brokers.list))
	for i := range m.v.brokers.list {
		b := &m.v.brokers.list[i]
		m.int32(b.node)
		m.string(b.host)
		m.int32(b.port)
		if v >= 1 {
			m.optional(b.rack)
		}
		m.tags()
	}
	if v >= 2 {
		m.optional(call.g.clusterID(call.tenant))
	}
	if v >= 1 {
		m.int32(m.v.brokers.controller(call.tenant))
	}
}

func (m *metadataWriter) topic(t *catalog.Topic) {
	v := m.version
	m.int16(0)
	m.string(t.Name)
	if v >= 10 {
		m.uuid(t.ID)
	}
	if v >= 1 {
		m.bool(internalTopic(t.Name))
	}
	m.array(int(t.Partitions))
	first := int32(0)
	for page := range m.v.snapshot.Pages(t.ID) {
		for i := range page.Chains {
			p := first + int32(i)
			if p >= t.Partitions {
				break
			}
			m.partition(t.ID, p, chainEpoch(&page.Chains[i]))
		}
		first += int32(len(page.Chains))
	}
	// The snapshot shows a topic only with all its pages; should it not, the
	// count above still has to be right.
	for p := first; p < t.Partitions; p++ {
		m.partition(t.ID, p, -1)
	}
	m.operations(t.Name)
}

func (m *metadataWriter) partition(id catalog.ID, p, epoch int32) {
	v := m.version
	leader := m.v.brokers.leader(id, p)
	m.int16(0)
	m.int32(p)
	m.int32(leader)
	if v >= 7 {
		m.int32(epoch)
	}
	m.array(1)
	m.int32(leader)
	m.array(1)
	m.int32(leader)
	if v >= 5 {
		m.array(0)
	}
	m.tags()
}

func (m *metadataWriter) absent(name string, id catalog.ID, code wire.Code) {
	m.int16(int16(code))
	if m.version >= 12 && !id.IsZero() {
		m.nullString()
	} else {
		m.string(name)
	}
	if m.version >= 10 {
		m.uuid(id)
	}
	if m.version >= 1 {
		m.bool(internalTopic(name))
	}
	m.array(0)
	if code == wire.TopicAuthorizationFailed {
		name = ""
	}
	m.operations(name)
}

// operations ends a topic; of one without a name nothing is said.
func (m *metadataWriter) operations(topic string) {
	if m.version >= 8 {
		operations := notAsked
		if m.flags&flagTopicOperations != 0 && topic != "" {
			operations = m.ask.operations(acl.Topic, topic)
		}
		m.int32(operations)
	}
	m.tags()
}

func (m *metadataWriter) tail() {
	if m.version >= 8 && m.version <= 10 {
		operations := notAsked
		if m.flags&flagClusterOperations != 0 {
			operations = m.ask.clusterOperations()
		}
		m.int32(operations)
	}
	if m.version >= 13 {
		m.int16(0) // error code, for clients that bootstrap anew (KIP-1102)
	}
	m.tags()
}

// withCount puts the length of an array that was not known before into the four
// bytes of room at at.
func (m *metadataWriter) withCount(at, n int) []byte {
	count := encoder{flexible: m.flexible}
	count.array(n)
	m.b = slices.Replace(m.b, at, at+4, count.b...)
	return m.b
}

// chainEpoch is the leader epoch that clients are told.
func chainEpoch(c *catalog.Chain) int32 {
	if len(c.Spans) == 0 {
		return -1
	}
	return c.Spans[len(c.Spans)-1].Epoch
}

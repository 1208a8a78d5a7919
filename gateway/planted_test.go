package gateway

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// The tenants of the leak matrix: one that must not be seen, and one that looks. The
// third listener serves both, by who signs on.
const (
	plantedTenant, otherTenant = "plantedcorp", "onlookers"
	signedListener             = "signed"
	plantedPassword            = "a password of the planted user"
	ownPassword                = "a password of the onlookers' user"
	plantedEpoch               = int32(0x5eed1234)
	neverProducer              = int64(0x0eee_beef_0102)
	plantedHost                = "127.0.0.77" // where the planted tenant's clients come from
)

// plantedFleet has two gateways and two tenants, both of which have something of every kind.
type plantedFleet struct {
	*fleet
	planted, own estate
	never        askedNames // like planted's, of the same lengths, of what never was
	secrets      map[string][]byte
}

// estate is what a tenant has.
type estate struct {
	names  askedNames
	doomed catalog.Topic
	client *kgo.Client
}

func (f *fleet) listenerAddr(gateway int, name string) string {
	f.tb.Helper()
	for _, a := range f.gateways[gateway].Addrs() {
		if a.Name == name {
			return a.Advertise
		}
	}
	f.tb.Fatalf("no listener %s", name)
	return ""
}

func newPlantedFleet(t *testing.T) *plantedFleet {
	t.Helper()
	f := newFleet(t, gateways(2), secure(Security{Mechanisms: mechanisms, Demand: true}), func(c *fleetConfig) {
		c.listeners[0].Name = signedListener
		c.config.AutoCreateTopics = false // a topic of the asked name would be the asker's own
		for _, tenant := range []string{plantedTenant, otherTenant} {
			c.listeners = append(c.listeners, ListenerConfig{Name: tenant, Bind: "127.0.0.1:0", Security: Security{Tenant: tenant}})
		}
	})
	ctx := t.Context()
	p := &plantedFleet{fleet: f, secrets: map[string][]byte{}}
	// So that the planted tenant's producer id is like no other number.
	if _, err := f.cat.ProducerIDs(ctx, 987_654); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{plantedTenant, otherTenant} {
		if _, err := f.cat.CreateTenant(ctx, catalog.Tenant{Name: tenant, DisplayName: "Display of " + tenant, SuperUsers: []string{"User:ANONYMOUS", "User:own-user"}}); err != nil {
			t.Fatal(err)
		}
	}
	f.awaitGroups()
	p.own = p.settle(otherTenant, "own", 7, ownPassword, "")
	p.planted = p.settle(plantedTenant, "planted", plantedEpoch, plantedPassword, plantedHost)
	p.conceal()
	p.pretend()
	return p
}

// settle gives a tenant one of everything, whose names begin alike.
func (p *plantedFleet) settle(tenant, word string, epoch int32, password, host string) (e estate) {
	t := p.tb
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rec, err := p.cat.Tenant(ctx, tenant)
	must(err)
	n := &e.names
	*n = askedNames{
		tenant: tenant, cluster: rec.ClusterID, topic: word + ".topic.kumquat", group: word + "-group-tamarind", modern: word + "-modern-loquat",
		txn: word + "-txn-rambutan", user: word + "-user", client: word + "-client", instance: word + "-instance", modernMember: word + "-member-pomelo", epoch: epoch,
		dir: [16]byte{0xd1, 0xd2, byte(len(word))},
	}
	p.user(tenant, n.user, password)
	must(p.cat.PutGroupConfig(ctx, catalog.GroupConfig{Tenant: tenant, Group: n.group, Config: map[string]string{"consumer.session.timeout.ms": map[string]string{"planted": "51234", "own": "46000"}[word]}}))
	_, err = p.cat.PutACLs(ctx, tenant, []catalog.ACL{{Tenant: tenant, ResourceType: "TOPIC", ResourceName: word + ".secret.persimmon", PatternType: "PREFIXED", Principal: "User:" + word + "-principal",
		Host: map[string]string{"planted": "10.11.12.13", "own": "10.1.1.1"}[word], Operation: "READ", Permission: "ALLOW"}})
	must(err)
	_, err = p.cat.PutQuotas(ctx, tenant, []catalog.ClientQuota{{Tenant: tenant, Entity: []catalog.EntityPart{{Type: "user", Name: &n.user}}, Values: map[string]float64{"producer_byte_rate": plantedRate(word)}}})
	must(err)
	p.admin.epoch = epoch
	for _, name := range []string{n.topic, word + ".doomed.quince"} {
		topic, err := p.admin.CreateTopic(ctx, TopicSpec{Tenant: tenant, Name: name, Partitions: 2, Config: map[string]string{"retention.ms": map[string]string{"planted": "612345678", "own": "600000000"}[word]}})
		must(err)
		if name == n.topic {
			n.id = topic.ID
		} else {
			e.doomed = topic
		}
	}
	_, err = p.watcher.Refresh(ctx)
	must(err)
	p.admin.epoch = 7 // of whatever is made later
	e.client = p.live(ctx, n, word, host)
	return e
}

func plantedRate(word string) float64 {
	if word == "planted" {
		return 7654321.125
	}
	return 1e9
}

// live gives a tenant records in each partition, a transaction that is open, and a group of
// either kind that has a member; the classic one has offsets.
func (p *plantedFleet) live(ctx context.Context, n *askedNames, word, host string) *kgo.Client {
	t := p.tb
	t.Helper()
	dialer := net.Dialer{}
	if host != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(host)}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.listenerAddr(0, n.tenant)), kgo.ClientID(n.client), kgo.TransactionalID(n.txn),
		kgo.ConsumeTopics(n.topic), kgo.ConsumerGroup(n.group), kgo.InstanceID(n.instance), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.TransactionTimeout(10*time.Minute), kgo.SessionTimeout(5*time.Minute), kgo.RetryTimeout(patience), kgo.DisableAutoCommit(), kgo.Dialer(dialer.DialContext))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.CloseAllowingRebalance)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	produce := func() {
		t.Helper()
		must(cl.BeginTransaction())
		for part := range int32(2) {
			must(cl.ProduceSync(ctx, &kgo.Record{Topic: n.topic, Partition: part, Value: []byte(word + "-record")}).FirstErr())
		}
	}
	produce()
	must(cl.EndTransaction(ctx, kgo.TryCommit))
	for got := 0; got < 2; {
		fs := cl.PollFetches(ctx)
		must(fs.Err0())
		got += fs.NumRecords()
	}
	n.member, n.generation = cl.GroupMetadata()
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.MemberID, commit.Generation, commit.InstanceID = n.group, n.member, n.generation, &n.instance
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = n.topic, n.id
	for part := range int32(2) {
		rp, metadata := kmsg.NewOffsetCommitRequestTopicPartition(), word+"-metadata"
		rp.Partition, rp.Offset, rp.Metadata = part, 1, &metadata
		rt.Partitions = append(rt.Partitions, rp)
	}
	commit.Topics = append(commit.Topics, rt)
	committed, err := commit.RequestWith(ctx, cl)
	must(err)
	must(kerr.ErrorForCode(committed.Topics[0].Partitions[0].ErrorCode))
	p.joinModern(ctx, cl, n)
	produce()
	n.producer, n.producerEpoch, err = cl.ProducerID(ctx)
	must(err)
	return cl
}

// joinModern makes the one member of the tenant's group of KIP-848, or makes it again.
func (p *plantedFleet) joinModern(ctx context.Context, cl *kgo.Client, n *askedNames) {
	p.tb.Helper()
	beat := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	beat.Group, beat.MemberID, beat.RebalanceTimeoutMillis, beat.SubscribedTopicNames = n.modern, n.modernMember, 60_000, []string{n.topic}
	beat.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	joined, err := beat.RequestWith(ctx, cl)
	if err != nil {
		p.tb.Fatal(err)
	}
	if err := kerr.ErrorForCode(joined.ErrorCode); err != nil {
		p.tb.Fatal(err)
	}
}

// conceal lists what must not be seen by others, under the name by which a finding tells it.
func (p *plantedFleet) conceal() {
	t := p.tb
	t.Helper()
	n := &p.planted.names
	for what, secret := range map[string]string{
		"tenant": n.tenant, "cluster id": n.cluster, "display name": "Display of ", "topic": n.topic, "topic to delete": p.planted.doomed.Name, "group": n.group, "modern group": n.modern,
		"transactional id": n.txn, "user": n.user, "client id": n.client, "instance": n.instance, "member": n.member, "modern member": n.modernMember, "client host": plantedHost,
		"record": "planted-record", "metadata": "planted-metadata", "config of a topic": "612345678", "config of a group": "\x0651234",
		"resource of an ACL": "planted.secret.persimmon", "principal of an ACL": "planted-principal", "host of an ACL": "10.11.12.13",
		"quota":    string(binary.BigEndian.AppendUint64(nil, math.Float64bits(plantedRate("planted")))),
		"topic id": string(n.id[:]), "epoch": string(binary.BigEndian.AppendUint32(nil, uint32(n.epoch))), "producer id": string(binary.BigEndian.AppendUint64(nil, uint64(n.producer))),
		"name of the cluster behind, or of a topic there": "physical", "name of Braid's own": catalog.SystemTenant + ".",
	} {
		p.secrets[what] = []byte(secret)
	}
	for i := range p.gateways {
		_, port, err := net.SplitHostPort(p.listenerAddr(i, plantedTenant))
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		p.secrets[fmt.Sprint("address of gateway ", i)] = binary.BigEndian.AppendUint32(nil, uint32(number))
	}
	topics, err := p.store.Topics(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range topics {
		p.secrets["id behind of "+topic.Name] = topic.ID[:]
	}
}

// pretend makes up names that nothing has: of the lengths of the planted ones, and
// answered by the same gateway, so that answers about either can be compared.
func (p *plantedFleet) pretend() {
	p.tb.Helper()
	w := &walker{p: p, tenant: otherTenant}
	defer w.leave()
	never := p.planted.names
	like := func(s string, kind int8) string {
		p.tb.Helper()
		for c := byte('a'); c <= 'z'; c++ {
			made := strings.Replace(s, "planted", "planned", 1)
			made = made[:len(made)-1] + string(c)
			if kind < 0 || w.coordinator(made, kind) == w.coordinator(s, kind) {
				return made
			}
		}
		p.tb.Fatalf("no name like %s has its coordinator", s)
		return ""
	}
	never.tenant, never.topic, never.user, never.client, never.instance = like(never.tenant, -1), like(never.topic, -1), like(never.user, -1), like(never.client, -1), like(never.instance, -1)
	never.member, never.modernMember = like(never.member, -1), like(never.modernMember, -1)
	never.group, never.modern, never.txn = like(never.group, 0), like(never.modern, 0), like(never.txn, 1)
	never.cluster = strings.Repeat("n", len(never.cluster))
	for i := range never.id {
		never.id[i] = byte(0xa0 + i)
	}
	never.producer = neverProducer
	p.never = never
}

// unharmed tells that the planted tenant's things are as they were.
func (p *plantedFleet) unharmed(ctx context.Context) error {
	n := &p.planted.names
	if err := p.planted.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("the open transaction: %w", err)
	}
	adm := kadm.NewClient(p.planted.client)
	offsets, err := adm.FetchOffsets(ctx, n.group)
	if err != nil {
		return err
	}
	at := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { at += o.At })
	if at != 2 {
		return fmt.Errorf("the group's offsets are %v", offsets)
	}
	groups, err := adm.DescribeGroups(ctx, n.group)
	if err != nil {
		return err
	}
	if g := groups[n.group]; g.Err != nil || len(g.Members) != 1 || g.Members[0].MemberID != n.member {
		return fmt.Errorf("the group is %+v", g)
	}
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	if got := slices.Sorted(maps.Keys(topics)); !slices.Equal(got, []string{p.planted.doomed.Name, n.topic}) || topics[n.topic].Err != nil || len(topics[n.topic].Partitions) != 2 {
		return fmt.Errorf("its topics are %v", got)
	}
	s, err := p.watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	if u, a, q := s.Users(n.tenant), s.ACLs(n.tenant), s.Quotas(n.tenant); len(u) != 1 || len(a) != 1 || len(q) != 1 {
		return fmt.Errorf("it has %d users, %d ACLs, %d quotas", len(u), len(a), len(q))
	}
	if g := s.GroupConfig(n.tenant, n.group); g == nil || g.Config["consumer.session.timeout.ms"] != "51234" {
		return fmt.Errorf("the group's config is %v", g)
	}
	return nil
}

// coordinator is the node that a tenant is told for a group (0) or a transactional id (1).
func (w *walker) coordinator(key string, kind int8) int32 {
	w.p.tb.Helper()
	req := withVersion(kmsg.NewPtrFindCoordinatorRequest(), 3)
	req.CoordinatorKey, req.CoordinatorType = key, kind
	resp := w.asked(req).(*kmsg.FindCoordinatorResponse)
	if resp.ErrorCode != 0 {
		w.p.tb.Fatalf("coordinator of %s: %v", key, wire.Code(resp.ErrorCode))
	}
	return resp.NodeID
}

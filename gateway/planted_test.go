package gateway

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/catalog"
)

// The tenants of the leak matrix, and what is planted with the one that must not
// be seen. What the other one asks for has names of the same lengths, so that
// answers about what is there and is not its own can be compared with answers
// about what never was.
const (
	plantedTenant, otherTenant = "plantedcorp", "onlookers"
	plantedTopic, neverTopic   = "planted.topic.kumquat", "nowhere.topic.kumquat"
	plantedGroup, neverGroup   = "planted-group-tamarind", "nowhere-group-tamarind"
	plantedTxn, neverTxn       = "planted-txn-rambutan", "nowhere-txn-rambutan"
	plantedUser, neverUser     = "planted-user-durian", "nowhere-user-durian"
	plantedEpoch               = int32(0x5eed1234)
)

// plantedFleet has two tenants, each with a listener of its own on every gateway,
// and the planted one has something of every kind.
type plantedFleet struct {
	*fleet
	planted  catalog.Topic
	own      catalog.Topic
	clients  *kgo.Client
	secrets  map[string][]byte
	neverIDs [16]byte
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
	f := newFleet(t, func(c *fleetConfig) {
		c.listeners = []ListenerConfig{
			{Name: plantedTenant, Bind: "127.0.0.1:0", Security: Security{Tenant: plantedTenant}},
			{Name: otherTenant, Bind: "127.0.0.1:0", Security: Security{Tenant: otherTenant}},
		}
	})
	ctx := t.Context()
	p := &plantedFleet{fleet: f, secrets: map[string][]byte{}}
	for i := range p.neverIDs {
		p.neverIDs[i] = byte(0xa0 + i)
	}
	// So that the planted tenant's producer id is like no other number.
	if _, err := f.cat.ProducerIDs(ctx, 987_654); err != nil {
		t.Fatal(err)
	}
	f.admin.epoch = plantedEpoch
	for _, name := range []string{plantedTenant, otherTenant} {
		x, err := f.cat.CreateTenant(ctx, catalog.Tenant{Name: name, DisplayName: "Display of " + name})
		if err != nil {
			t.Fatal(err)
		}
		if name == plantedTenant {
			p.plant("cluster id", x.ClusterID)
		}
		if _, err := f.cat.PutUser(ctx, catalog.User{Tenant: name, Name: map[string]string{plantedTenant: plantedUser, otherTenant: "own-user"}[name],
			Credentials: map[string]catalog.Scram{"SCRAM-SHA-256": {Salt: []byte("salt"), StoredKey: []byte("key"), ServerKey: []byte("key"), Iterations: 4096}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.cat.PutGroupConfig(ctx, catalog.GroupConfig{Tenant: plantedTenant, Group: plantedGroup, Config: map[string]string{"consumer.session.timeout.ms": "51234"}}); err != nil {
		t.Fatal(err)
	}
	make := func(tenant, name string) catalog.Topic {
		topic, err := f.admin.CreateTopic(ctx, TopicSpec{Tenant: tenant, Name: name, Partitions: 2, Config: map[string]string{}})
		if err != nil {
			t.Fatal(err)
		}
		return topic
	}
	p.planted = make(plantedTenant, plantedTopic)
	f.admin.epoch = 7
	p.own = make(otherTenant, "own-topic")
	if _, err := f.watcher.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	f.awaitGroups()
	for _, s := range []string{plantedTenant, "Display of ", plantedTopic, plantedGroup, plantedTxn, plantedUser, "planted-client", "planted-instance",
		"physical", "planted-record", catalog.SystemTenant + ".", "51234"} {
		p.plant(s, s)
	}
	p.plant("topic id", string(p.planted.ID[:]))
	p.plant("epoch", string(binary.BigEndian.AppendUint32(nil, uint32(plantedEpoch))))
	for i := range f.gateways {
		addr := f.listenerAddr(i, plantedTenant)
		p.plant("address", addr)
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		p.plant("port of "+addr, string(binary.BigEndian.AppendUint32(nil, uint32(n))))
	}
	p.live()
	return p
}

func (p *plantedFleet) plant(what, secret string) { p.secrets[what] = []byte(secret) }

// live gives the planted tenant records, a transaction that is open, a group with
// a member and offsets.
func (p *plantedFleet) live() {
	t := p.tb
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.listenerAddr(0, plantedTenant)), kgo.ClientID("planted-client"), kgo.TransactionalID(plantedTxn),
		kgo.DefaultProduceTopic(plantedTopic), kgo.ConsumeTopics(plantedTopic), kgo.ConsumerGroup(plantedGroup), kgo.InstanceID("planted-instance"),
		kgo.TransactionTimeout(10*time.Minute), kgo.RetryTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.CloseAllowingRebalance)
	p.clients = cl
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, kgo.StringRecord("planted-record")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	for got := 0; got == 0; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatal(err)
		}
		got = fs.NumRecords()
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, kgo.StringRecord("planted-record open")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	id, _, err := cl.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p.plant("producer id", string(binary.BigEndian.AppendUint64(nil, uint64(id))))
	member, _ := cl.GroupMetadata()
	p.plant("member id", member)
}

// unharmed tells that the planted tenant's things are as they were.
func (p *plantedFleet) unharmed(ctx context.Context) error {
	if err := p.clients.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("the open transaction: %w", err)
	}
	adm := kadm.NewClient(p.clients)
	offsets, err := adm.FetchOffsets(ctx, plantedGroup)
	if err != nil {
		return err
	}
	n := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { n += o.At })
	if n == 0 {
		return fmt.Errorf("the group's offsets are gone: %v", offsets)
	}
	groups, err := adm.DescribeGroups(ctx, plantedGroup)
	if err != nil {
		return err
	}
	if g := groups[plantedGroup]; g.Err != nil || len(g.Members) != 1 {
		return fmt.Errorf("the group is %+v", g)
	}
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	if d := topics[plantedTopic]; d.Err != nil || len(d.Partitions) != 2 {
		return fmt.Errorf("the topic is %+v", d)
	}
	for name := range topics {
		if strings.Contains(name, "own") || strings.Contains(name, "nowhere") {
			return fmt.Errorf("it has the other's topic %s", name)
		}
	}
	return nil
}

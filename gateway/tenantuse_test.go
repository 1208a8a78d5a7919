package gateway

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// limit changes the record of the default tenant.
func (f *fleet) limit(change func(*catalog.Tenant)) {
	f.tb.Helper()
	ctx := context.Background()
	t, err := f.cat.Tenant(ctx, catalog.DefaultTenant)
	if err != nil {
		f.tb.Fatal(err)
	}
	change(&t)
	if _, err := f.cat.UpdateTenant(ctx, t); err != nil {
		f.tb.Fatal(err)
	}
	f.refresh()
}

func (f *fleet) refresh() {
	f.tb.Helper()
	if _, err := f.watcher.Refresh(context.Background()); err != nil {
		f.tb.Fatal(err)
	}
}

func (f *fleet) share(s catalog.Share) {
	f.tb.Helper()
	s.Tenant = catalog.DefaultTenant
	if err := f.cat.PutShare(context.Background(), s, catalog.Fence{}); err != nil {
		f.tb.Fatal(err)
	}
	f.refresh()
}

func metadataOf(r *raw, version int16) *kmsg.MetadataResponse {
	return do[*kmsg.MetadataResponse](r, version, kmsg.NewPtrMetadataRequest())
}

// A tenant's connections are counted on this gateway and, as far as they told, on the
// others; one too many is ended, and there is room again when one ends.
func TestLimitOfConnections(t *testing.T) {
	f := newFleet(t, gateways(2))
	f.limit(func(x *catalog.Tenant) { x.Limits.Connections = 3 })
	a, b := f.raw(), f.raw()
	metadataOf(a, 9)
	metadataOf(b, 9)
	f.share(catalog.Share{Connections: map[int32]int64{1: 2, 2: 1, 77: 5}}) // 77 does not live
	f.raw().closed()
	if err := b.nc.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if n := f.gateways[0].usage.Account(catalog.DefaultTenant).Connections(); n > 1 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	metadataOf(f.raw(), 9)
	f.limit(func(x *catalog.Tenant) { x.Limits.Connections = 1 })
	metadataOf(a, 9) // those that are open stay
	f.raw().closed()
	f.limit(func(x *catalog.Tenant) { x.Limits.Connections = 0 })
	metadataOf(f.raw(), 9)
}

// Requests that would make one group more than a tenant may have are refused, whatever
// their key; groups that are there go on.
func TestLimitOfGroups(t *testing.T) {
	f := newFleet(t)
	f.topic("orders", 1)
	f.limit(func(x *catalog.Tenant) { x.Limits.Groups = 1 })
	r := f.raw()
	commit := func(group string) wire.Code {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = group, -1
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = "orders"
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Offset = 1
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		return wire.Code(do[*kmsg.OffsetCommitResponse](r, 8, req).Topics[0].Partitions[0].ErrorCode)
	}
	join := func(group string) wire.Code {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = group, 10_000, 10_000, "consumer"
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name = "range"
		req.Protocols = append(req.Protocols, p)
		return wire.Code(do[*kmsg.JoinGroupResponse](r, 5, req).ErrorCode)
	}
	beat := func(group string) wire.Code {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.RebalanceTimeoutMillis = group, "AAAAAAAAAAAAAAAAAAAAAA", 10_000
		req.SubscribedTopicNames, req.Topics = []string{"orders"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		return wire.Code(do[*kmsg.ConsumerGroupHeartbeatResponse](r, 0, req).ErrorCode)
	}
	wait := func(do func() wire.Code) (code wire.Code) {
		eventually(t, func() error {
			switch code = do(); code {
			case wire.CoordinatorLoadInProgress, wire.CoordinatorNotAvailable, wire.NotCoordinator:
				return code
			}
			return nil
		})
		return code
	}
	if code := wait(func() wire.Code { return commit("one") }); code != wire.None {
		t.Fatalf("the first: %v", code)
	}
	for name, code := range map[string]wire.Code{"OffsetCommit": wait(func() wire.Code { return commit("two") }), "JoinGroup": wait(func() wire.Code { return join("two") }),
		"ConsumerGroupHeartbeat": wait(func() wire.Code { return beat("two") })} {
		if code != wire.PolicyViolation {
			t.Errorf("%s of one too many: %v", name, code)
		}
	}
	if code := wait(func() wire.Code { return commit("one") }); code != wire.None {
		t.Errorf("a group that is there: %v", code)
	}
	if got := f.coords[0].Groups()[catalog.DefaultTenant]; got != 1 {
		t.Errorf("%d groups", got)
	}
	for _, c := range []struct {
		tenant     string
		here, most int64
		may        bool
	}{{"acme", DefaultGroups - 1, 0, true}, {"acme", DefaultGroups, 0, false}, {"acme", DefaultGroups, DefaultGroups + 1, true}, {"acme", 5, 5, false}, {catalog.SystemTenant, DefaultGroups, 0, true}} {
		if MayHaveGroup(f.watcher.Snapshot(), c.tenant, 1, c.here, c.most) != c.may {
			t.Errorf("without a limit: %+v", c)
		}
	}
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Groups = []string{"one"}
	if code := wait(func() wire.Code {
		return wire.Code(do[*kmsg.DeleteGroupsResponse](r, 2, del).Groups[0].ErrorCode)
	}); code != wire.None {
		t.Fatalf("delete: %v", code)
	}
	if code := wait(func() wire.Code { return commit("two") }); code != wire.None {
		t.Errorf("after one was deleted: %v", code)
	}
	f.share(catalog.Share{Groups: map[int32]int64{1: 1}})
	f.limit(func(x *catalog.Tenant) { x.Limits.Groups = 2 })
	if code := wait(func() wire.Code { return commit("three") }); code != wire.None {
		t.Errorf("what this gateway itself told of counts twice: %v", code)
	}
}

// A tenant whose storage is full is refused its appends, and nothing else.
func TestLimitOfStorage(t *testing.T) {
	f := newFleet(t)
	topic := f.topic("orders", 1)
	r := f.raw()
	produce := func() kmsg.ProduceResponseTopicPartition {
		return do[*kmsg.ProduceResponse](r, 11, produceRequest("orders", topic.ID, -1, map[int32][]byte{0: records(t, nil, "x")})).Topics[0].Partitions[0]
	}
	if p := produce(); p.ErrorCode != 0 {
		t.Fatal(wire.Code(p.ErrorCode))
	}
	f.limit(func(x *catalog.Tenant) { x.Limits.StorageBytes = 10 })
	f.share(catalog.Share{Stored: 11, Full: true})
	if p := produce(); wire.Code(p.ErrorCode) != wire.PolicyViolation || p.ErrorMessage == nil || p.BaseOffset != -1 {
		t.Errorf("%+v", p)
	}
	if resp := do[*kmsg.FetchResponse](r, 12, fetchRequest("orders", topic.ID, map[int32]int64{0: 0})); len(resp.Topics[0].Partitions[0].RecordBatches) == 0 {
		t.Error("what is stored is not read")
	}
	f.limit(func(x *catalog.Tenant) { x.Limits.StorageBytes = 0 })
	if p := produce(); p.ErrorCode != 0 {
		t.Errorf("without a limit: %v", wire.Code(p.ErrorCode))
	}
}

// An address that opens connections faster than it may is not read from until its rate is back.
func TestConnectionCreationRate(t *testing.T) {
	f := newFleet(t)
	metadataOf(f.raw(), 9)
	entity := []catalog.EntityPart{{Type: "ip"}}
	if _, err := f.cat.PutQuotas(context.Background(), catalog.DefaultTenant, []catalog.ClientQuota{{Entity: entity, Values: map[string]float64{"connection_creation_rate": 1}}}); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	first := time.Now()
	for range 10 {
		metadataOf(f.raw(), 9)
	}
	began := time.Now()
	r := f.raw()
	metadataOf(r, 9)
	// The eleventh in ten seconds is 1.1 a second: a tenth too many, over ten.
	if took := time.Since(began); took < 500*time.Millisecond && time.Since(first) < 9*time.Second {
		t.Errorf("answered after %v", took)
	}
}

// Work on Produce, Fetch and Metadata is counted, and told.
func TestRequestTime(t *testing.T) {
	f := newFleet(t)
	topic := f.topic("orders", 1)
	if e := do[*kmsg.AlterClientQuotasResponse](f.raw(), 1, alterQuota("ANONYMOUS", "request_percentage", 1e-6)).Entries[0]; e.ErrorCode != 0 {
		t.Fatal(*e.ErrorMessage)
	}
	f.refresh()
	for name, throttle := range map[string]func(*raw) int32{
		"Produce": func(r *raw) int32 {
			return do[*kmsg.ProduceResponse](r, 11, produceRequest("orders", topic.ID, -1, map[int32][]byte{0: records(t, nil, "x")})).ThrottleMillis
		},
		"Fetch": func(r *raw) int32 {
			return do[*kmsg.FetchResponse](r, 12, fetchRequest("orders", topic.ID, map[int32]int64{0: 0})).ThrottleMillis
		},
		"Metadata of all": func(r *raw) int32 { return metadataOf(r, 9).ThrottleMillis },
		"Metadata of one": func(r *raw) int32 {
			req := kmsg.NewPtrMetadataRequest()
			name := "orders"
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = &name
			req.Topics = append(req.Topics, rt)
			resp := do[*kmsg.MetadataResponse](r, 12, req)
			if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 {
				t.Errorf("%+v", resp)
			}
			return resp.ThrottleMillis
		},
	} {
		if ms := throttle(f.raw()); ms < 1 || ms > 1000 {
			t.Errorf("%s: throttled by %d ms", name, ms)
		}
	}
}

// Topics that are made because somebody asks for them are mutations: made, and waited for.
func TestTopicsMadeByMetadataAreMutations(t *testing.T) {
	f := newFleet(t, withConfig(func(c *Config) { c.NumPartitions = 30 }))
	if e := do[*kmsg.AlterClientQuotasResponse](f.raw(), 1, alterQuota("ANONYMOUS", "controller_mutation_rate", 1)).Entries[0]; e.ErrorCode != 0 {
		t.Fatal(*e.ErrorMessage)
	}
	f.refresh()
	req := kmsg.NewPtrMetadataRequest()
	name := "made"
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &name
	req.Topics, req.AllowAutoTopicCreation = append(req.Topics, rt), true
	resp := do[*kmsg.MetadataResponse](f.raw(), 9, req)
	if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 || resp.ThrottleMillis < 1000 {
		t.Errorf("throttled by %d ms: %+v", resp.ThrottleMillis, resp.Topics)
	}
}

// All clients of a tenant share what the gateway has of its budget; a larger share lets
// them go on at once.
func TestShareOfABudget(t *testing.T) {
	f := newFleet(t, gateways(2))
	topic := f.topic("orders", 1)
	f.limit(func(x *catalog.Tenant) { x.Budget = map[string]float64{"producer_byte_rate": 100_000} })
	f.share(catalog.Share{Of: map[string]float64{"producer_byte_rate": 100_000}, Rates: map[string]map[int32]float64{"producer_byte_rate": {1: 100, 2: 99_900}}})
	value := string(make([]byte, 30_000))
	produce := func(r *raw) int32 {
		p := do[*kmsg.ProduceResponse](r, 11, produceRequest("orders", topic.ID, -1, map[int32][]byte{0: records(t, nil, value)}))
		if code := p.Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Error(wire.Code(code))
		}
		return p.ThrottleMillis
	}
	r := f.raw()
	// 30,000 bytes at 100 a second are minutes; what is told is a window.
	if ms := produce(r); ms != 1000 {
		t.Errorf("told to wait %d ms", ms)
	}
	if ms := produce(f.rawTo(1)); ms != 0 {
		t.Errorf("throttled by %d ms where there is room", ms)
	}
	u := f.gateways[0].uses().Tenants[catalog.DefaultTenant]
	if len(u.Limited) != 1 || u.Limited[0] != "producer_byte_rate" || u.Rates["producer_byte_rate"] <= 0 {
		t.Errorf("told: %+v", u)
	}
	if u := f.gateways[1].uses().Tenants[catalog.DefaultTenant]; len(u.Limited) != 0 {
		t.Errorf("told: %+v", u)
	}
	f.share(catalog.Share{Of: map[string]float64{"producer_byte_rate": 100_000}, Rates: map[string]map[int32]float64{"producer_byte_rate": {1: 99_000, 2: 1000}}})
	produce(r)
	if f.gateways[0].news(catalog.GatewayUse{}, catalog.GatewayUse{}) {
		t.Error("nothing is news")
	}
}

// acme makes a tenant with a user, joe, and a limit of connections.
func (f *fleet) acme(connections int64) {
	f.tb.Helper()
	if _, err := f.cat.CreateTenant(f.tb.Context(), catalog.Tenant{Name: "acme", Limits: catalog.TenantLimits{Connections: connections}}); err != nil {
		f.tb.Fatal(err)
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return s.Tenant("acme") != nil })
	f.user("acme", "joe", "secret")
}

// A connection that signs on and is one too many of its tenant's is answered and ended,
// whichever way its tokens come, and is in no count.
func TestLimitOfConnectionsThatSignOn(t *testing.T) {
	t.Parallel()
	for name, demand := range map[string]bool{"demanded": true, "optional": false} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: demand}))
			f.acme(1)
			first := f.raw()
			if resp := first.signOn(as("joe", "secret")); resp.ErrorCode != 0 {
				t.Fatal(wire.Code(resp.ErrorCode))
			}
			first.metadata()
			r := f.raw()
			if resp := r.signOn(as("joe", "secret")); resp.ErrorCode != 0 {
				t.Fatal(wire.Code(resp.ErrorCode))
			}
			r.closed()
			bare := f.raw()
			hello := kmsg.NewPtrSASLHandshakeRequest()
			hello.Mechanism = sasl.Plain
			do[*kmsg.SASLHandshakeResponse](bare, 0, hello)
			bare.write(framed([]byte("\x00joe\x00secret")))
			if b, err := bare.frame(); err != nil || len(b) != 0 {
				t.Fatalf("%q, %v", b, err)
			}
			bare.closed()
			a := f.gateways[0].usage.Account("acme")
			if n, opened := a.Connections(), a.Counts(time.Now()).Connections; n != 1 || opened != 1 {
				t.Errorf("%d connections, %d were opened", n, opened)
			}
			first.metadata()
		})
	}
}

// Where clients may sign on or not, one that does is the tenant's that it signs on to from
// the beginning: the default tenant's limits, rates and counts have nothing to do with it.
func TestWhoMaySignOnIsNobodysUntilThen(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms}))
	f.acme(0)
	f.limit(func(x *catalog.Tenant) { x.Limits.Connections = 1 })
	entity := []catalog.EntityPart{{Type: "ip"}}
	if _, err := f.cat.PutQuotas(t.Context(), catalog.DefaultTenant, []catalog.ClientQuota{{Entity: entity, Values: map[string]float64{"connection_creation_rate": 1000}}}); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	g := f.gateways[0]
	asAcme := func() {
		t.Helper()
		r := f.raw()
		do[*kmsg.ApiVersionsResponse](r, 0, kmsg.NewPtrApiVersionsRequest())
		if resp := r.signOn(as("joe", "secret")); resp.ErrorCode != 0 {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
		r.metadata()
	}
	asAcme()
	if a := g.usage.Find(catalog.DefaultTenant); a != nil {
		t.Errorf("the default tenant is charged for another's connection: %+v", a.Counts(time.Now()))
	}
	g.opening.mu.Lock()
	measured := len(g.opening.by)
	g.opening.mu.Unlock()
	if measured != 0 {
		t.Error("another's connection counts in the default tenant's rate")
	}
	anonymous := f.raw()
	do[*kmsg.ApiVersionsResponse](anonymous, 0, kmsg.NewPtrApiVersionsRequest())
	anonymous.metadata()
	if c := g.usage.Account(catalog.DefaultTenant).Counts(time.Now()); c.Connections != 1 || c.Requests != 1 || c.Received == 0 {
		t.Errorf("%+v", c)
	}
	asAcme() // the default tenant has as many as it may
	many := f.raw()
	do[*kmsg.ApiVersionsResponse](many, 0, kmsg.NewPtrApiVersionsRequest())
	many.send(withVersion(kmsg.NewPtrMetadataRequest(), 9))
	many.closed()
	anonymous.metadata()
	if n := g.usage.Account("acme").Connections(); n != 2 {
		t.Errorf("%d connections of the other tenant", n)
	}
}

// A wait beyond any number mutes all the same.
func TestLongestThrottle(t *testing.T) {
	f := newFleet(t)
	c := &conn{g: f.gateways[0]}
	if told := c.throttle(math.MaxInt64); told != math.MaxInt32 || time.Until(c.muted) < time.Hour {
		t.Errorf("told to wait %d ms, muted until %v", told, c.muted)
	}
}

// One tenant does not take all connections that a gateway has: another connects beside it, and what is nobody's yet
// takes no more than half.
func TestConnectionsAreSharedByTenants(t *testing.T) {
	t.Parallel()
	const most = 32
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) { c.MaxConnections = most }))
	f.acme(0)
	f.user(catalog.DefaultTenant, "ann", "secret")
	g := f.gateways[0]
	open := func(user string, want int64) {
		t.Helper()
		tenant := map[string]string{"joe": "acme", "ann": catalog.DefaultTenant}[user]
		for range most {
			n := g.usage.Account(tenant).Connections()
			r := f.raw()
			if resp := r.signOn(as(user, "secret")); resp.ErrorCode != 0 {
				t.Fatal(wire.Code(resp.ErrorCode))
			}
			if g.usage.Account(tenant).Connections() == n { // it is one too many
				r.closed()
				if n != want {
					t.Errorf("%s has %d connections, want %d", user, n, want)
				}
				eventually(t, func() error {
					g.mu.Lock()
					defer g.mu.Unlock()
					if have := int64(len(g.conns)); have != g.usage.Account("acme").Connections()+g.usage.Account(catalog.DefaultTenant).Connections() {
						return fmt.Errorf("%d connections", have)
					}
					return nil
				})
				return
			}
		}
		t.Errorf("%s has all connections", user)
	}
	open("joe", most-most/16)
	open("ann", 1)  // one of the two that are left, and as many are free
	open("joe", 30) // none beside another
	strangers := 0
	for ; strangers < most; strangers++ {
		r := f.raw()
		hello := kmsg.NewPtrSASLHandshakeRequest()
		hello.Mechanism = sasl.Plain
		hello.SetVersion(1)
		if _, err := r.nc.Write(appendRequest(1, hello)); err != nil {
			break
		}
		if _, err := r.frame(); err != nil {
			break
		}
	}
	if strangers > 1 {
		t.Errorf("%d connections are nobody's where one is free", strangers)
	}
}

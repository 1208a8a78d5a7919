package gateway

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// ruleRequests has one request for each key of rules, for the matrix of versions.
func ruleRequests() map[int16]func(*testing.T, int16) (kmsg.Request, func(kmsg.Response) error) {
	str := kmsg.StringPtr
	return map[int16]func(*testing.T, int16) (kmsg.Request, func(kmsg.Response) error){
		keyCreateACLs: func(_ *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrCreateACLsRequest()
			// A first rule has to leave somebody who can change the rules.
			for _, b := range []acl.Binding{
				{Type: acl.Cluster, Name: acl.ClusterName, Pattern: acl.Literal, Principal: "User:ANONYMOUS", Host: "*", Operation: acl.All, Permission: acl.Allow},
				{Type: acl.Topic, Name: "*", Pattern: acl.Literal, Principal: "User:ANONYMOUS", Host: "*", Operation: acl.All, Permission: acl.Allow},
				{Type: acl.Group, Name: "*", Pattern: acl.Literal, Principal: "User:ANONYMOUS", Host: "*", Operation: acl.All, Permission: acl.Allow},
				{Type: acl.TransactionalID, Name: "*", Pattern: acl.Literal, Principal: "User:ANONYMOUS", Host: "*", Operation: acl.All, Permission: acl.Allow},
				{Type: acl.Topic, Name: fmt.Sprintf("rule-%d", v), Pattern: acl.Prefixed, Principal: "User:ann", Host: "10.0.0.1", Operation: acl.Read, Permission: acl.Deny},
			} {
				req.Creations = append(req.Creations, creation(b))
			}
			return req, func(resp kmsg.Response) error {
				for _, r := range resp.(*kmsg.CreateACLsResponse).Results {
					if r.ErrorCode != 0 {
						return fmt.Errorf("%+v", r)
					}
				}
				return nil
			}
		},
		keyDescribeACLs: func(_ *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeACLsRequest()
			req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType = 1, 1, 1, 1
			return req, func(resp kmsg.Response) error {
				return codeError(resp.(*kmsg.DescribeACLsResponse).ErrorCode)
			}
		},
		keyDeleteACLs: func(_ *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDeleteACLsRequest()
			f := kmsg.NewDeleteACLsRequestFilter()
			f.ResourceType, f.ResourceName, f.ResourcePatternType, f.Operation, f.PermissionType = 2, str(fmt.Sprintf("rule-%d", v)), 1, 1, 1
			req.Filters = append(req.Filters, f)
			return req, func(resp kmsg.Response) error {
				r := resp.(*kmsg.DeleteACLsResponse).Results[0]
				if r.ErrorCode != 0 || len(r.MatchingACLs) != 1 || r.MatchingACLs[0].Principal != "User:ann" || r.MatchingACLs[0].ResourcePatternType != kmsg.ACLResourcePatternTypePrefixed {
					return fmt.Errorf("%+v", r)
				}
				return nil
			}
		},
		keyAlterClientQuotas: func(_ *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			return alterQuota("ann", "consumer_byte_rate", 1<<40), func(resp kmsg.Response) error {
				return codeError(resp.(*kmsg.AlterClientQuotasResponse).Entries[0].ErrorCode)
			}
		},
		keyDescribeClientQuotas: func(_ *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			return kmsg.NewPtrDescribeClientQuotasRequest(), func(resp kmsg.Response) error {
				return codeError(resp.(*kmsg.DescribeClientQuotasResponse).ErrorCode)
			}
		},
	}
}

func creation(b acl.Binding) kmsg.CreateACLsRequestCreation {
	c := kmsg.NewCreateACLsRequestCreation()
	c.ResourceType, c.ResourceName, c.ResourcePatternType = kmsg.ACLResourceType(b.Type), b.Name, kmsg.ACLResourcePatternType(b.Pattern)
	c.Principal, c.Host, c.Operation, c.PermissionType = b.Principal, b.Host, kmsg.ACLOperation(b.Operation), kmsg.ACLPermissionType(b.Permission)
	return c
}

func alterQuota(user, key string, value float64) *kmsg.AlterClientQuotasRequest {
	req := kmsg.NewPtrAlterClientQuotasRequest()
	e := kmsg.NewAlterClientQuotasRequestEntry()
	p := kmsg.NewAlterClientQuotasRequestEntryEntity()
	p.Type, p.Name = "user", &user
	op := kmsg.NewAlterClientQuotasRequestEntryOp()
	op.Key, op.Value = key, value
	e.Entity, e.Ops = append(e.Entity, p), append(e.Ops, op)
	req.Entries = append(req.Entries, e)
	return req
}

// Clients compare whole answers: the parts of an entity and its values are in the order of an Apache Kafka node.
func TestQuotasAreToldInTheOrderOfKafka(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := f.raw()
	req := alterQuota("ann", "producer_byte_rate", 1000)
	e := &req.Entries[0]
	client := kmsg.NewAlterClientQuotasRequestEntryEntity()
	client.Type, client.Name = "client-id", nil
	e.Entity = append(e.Entity, client)
	for _, key := range []string{"request_percentage", "controller_mutation_rate", "consumer_byte_rate"} {
		op := kmsg.NewAlterClientQuotasRequestEntryOp()
		op.Key, op.Value = key, 50
		e.Ops = append(e.Ops, op)
	}
	altered := do[*kmsg.AlterClientQuotasResponse](r, 1, req).Entries
	if len(altered) != 1 || altered[0].ErrorCode != 0 || len(altered[0].Entity) != 2 || altered[0].Entity[0].Type != "client-id" || altered[0].Entity[1].Type != "user" {
		t.Errorf("altered: %+v", altered)
	}
	told := do[*kmsg.DescribeClientQuotasResponse](r, 1, kmsg.NewPtrDescribeClientQuotasRequest()).Entries
	if len(told) != 1 || len(told[0].Entity) != 2 || told[0].Entity[0].Type != "client-id" || told[0].Entity[1].Type != "user" {
		t.Fatalf("described: %+v", told)
	}
	var keys []string
	for _, v := range told[0].Values {
		keys = append(keys, v.Key)
	}
	if want := []string{"consumer_byte_rate", "request_percentage", "producer_byte_rate", "controller_mutation_rate"}; !slices.Equal(keys, want) {
		t.Errorf("values %v, want %v", keys, want)
	}
}

// A tenant's own admin cannot lock everybody out, nor take the last admin away.
func TestNobodyIsLockedOut(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := f.raw()
	create := func(rules ...acl.Binding) wire.Code {
		req := kmsg.NewPtrCreateACLsRequest()
		for _, b := range rules {
			req.Creations = append(req.Creations, creation(b))
		}
		return wire.Code(do[*kmsg.CreateACLsResponse](r, 3, req).Results[0].ErrorCode)
	}
	remove := func() wire.Code {
		req := kmsg.NewPtrDeleteACLsRequest()
		d := kmsg.NewDeleteACLsRequestFilter()
		d.ResourceType, d.ResourcePatternType, d.Operation, d.PermissionType = 1, 1, 1, 1
		req.Filters = append(req.Filters, d)
		return wire.Code(do[*kmsg.DeleteACLsResponse](r, 3, req).Results[0].ErrorCode)
	}
	if code := create(somebodyElse); code != wire.PolicyViolation {
		t.Errorf("a first rule that leaves nobody who could change it: %v", code)
	}
	if code := create(grant{acl.Alter, acl.Cluster, acl.ClusterName}.rule(), somebodyElse); code != wire.None {
		t.Errorf("with an admin: %v", code)
	}
	everybody := acl.Binding{Type: acl.Topic, Name: acl.Wildcard, Pattern: acl.Literal, Principal: acl.Everyone, Host: acl.Wildcard, Operation: acl.All, Permission: acl.Deny}
	if code := create(everybody); code != wire.PolicyViolation {
		t.Errorf("everybody denied: %v", code)
	}
	if code := remove(); code != wire.PolicyViolation {
		t.Errorf("the last admin: %v", code)
	}
	bad := somebodyElse
	bad.Principal = "nobody"
	if code := create(bad); code != wire.InvalidRequest {
		t.Errorf("a bad rule: %v", code)
	}
	rules, err := f.cat.ACLs(context.Background(), catalog.DefaultTenant)
	if err != nil || len(rules) != 2 {
		t.Errorf("%v, %v", rules, err)
	}
}

// Whoever exceeds a quota is told to wait, is not read from meanwhile, and loses
// nothing.
func TestQuotas(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	topic := f.topic("orders", 1)
	r := f.raw()
	set := func(key string, value float64) {
		t.Helper()
		if e := do[*kmsg.AlterClientQuotasResponse](f.raw(), 1, alterQuota("ANONYMOUS", key, value)).Entries[0]; e.ErrorCode != 0 {
			t.Fatal(*e.ErrorMessage)
		}
	}
	for _, bad := range []float64{0, -1} {
		if e := do[*kmsg.AlterClientQuotasResponse](r, 1, alterQuota("ANONYMOUS", "producer_byte_rate", bad)).Entries[0]; wire.Code(e.ErrorCode) != wire.InvalidRequest {
			t.Errorf("a quota of %v: %v", bad, wire.Code(e.ErrorCode))
		}
	}
	if d := do[*kmsg.DescribeClientQuotasResponse](r, 1, kmsg.NewPtrDescribeClientQuotasRequest()); d.ErrorCode != 0 || d.Entries == nil || len(d.Entries) != 0 {
		t.Errorf("without quotas: %+v", d)
	}
	big := make([]byte, 60_000)
	produce := func() *kmsg.ProduceResponse {
		req := produceRequest("orders", topic.ID, -1, map[int32][]byte{0: records(t, nil, string(big))})
		return do[*kmsg.ProduceResponse](r, 11, req)
	}
	if p := produce(); p.ThrottleMillis != 0 {
		t.Errorf("%d ms without a quota", p.ThrottleMillis)
	}
	set("producer_byte_rate", 6000)
	// 60,000 bytes in 10 s are what is allowed, and the rest of the frame is not.
	asked := time.Now()
	p := produce()
	if p.ThrottleMillis < 1 || p.ThrottleMillis > 1000 || p.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Errorf("throttled by %d ms: %+v", p.ThrottleMillis, p.Topics[0].Partitions[0])
	}
	do[*kmsg.MetadataResponse](r, 9, kmsg.NewPtrMetadataRequest())
	if waited := time.Since(asked); waited < time.Duration(p.ThrottleMillis)*time.Millisecond {
		t.Errorf("read from after %v, throttled for %d ms", waited, p.ThrottleMillis)
	}

	// A fetch is cut to what a window allows, and never starves.
	set("consumer_byte_rate", 7000)
	fetch := func() *kmsg.FetchResponse {
		return do[*kmsg.FetchResponse](r, 12, fetchRequest("orders", topic.ID, map[int32]int64{0: 0}))
	}
	first := fetch()
	if first.ThrottleMillis != 0 || len(first.Topics) != 1 || len(first.Topics[0].Partitions[0].RecordBatches) < 60_000 {
		t.Fatalf("the first fetch: %d ms, %d topics", first.ThrottleMillis, len(first.Topics))
	}
	if held := fetch(); held.ThrottleMillis <= 0 || held.SessionID != 0 || len(held.Topics) != 0 {
		t.Errorf("the second fetch: %d ms, %+v", held.ThrottleMillis, held)
	}

	// A burst is let through, then nothing until the bucket fills.
	other := f.raw()
	set("controller_mutation_rate", 0.01)
	create := func(name string, partitions int32) *kmsg.CreateTopicsResponse {
		req := kmsg.NewPtrCreateTopicsRequest()
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
		req.Topics = append(req.Topics, rt)
		return do[*kmsg.CreateTopicsResponse](other, 6, req)
	}
	if c := create("a", 12); c.Topics[0].ErrorCode != 0 || c.ThrottleMillis != 0 {
		t.Errorf("a burst: %v, %d ms", wire.Code(c.Topics[0].ErrorCode), c.ThrottleMillis)
	}
	if c := create("b", 1); wire.Code(c.Topics[0].ErrorCode) != wire.ThrottlingQuotaExceeded || c.ThrottleMillis <= 0 {
		t.Errorf("overdrawn: %v, %d ms", wire.Code(c.Topics[0].ErrorCode), c.ThrottleMillis)
	}
}

// What is too much for a quota's window at any time is not held back for ever: one
// batch that is larger, and batches of several partitions that are it together.
func TestAQuotaDoesNotStarve(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	large, several := f.topic("large", 1), f.topic("several", 2)
	r := f.raw()
	value := func(n int) []byte { return records(t, nil, string(make([]byte, n))) }
	do[*kmsg.ProduceResponse](r, 11, produceRequest("large", large.ID, -1, map[int32][]byte{0: value(120_000)}))
	do[*kmsg.ProduceResponse](r, 11, produceRequest("several", several.ID, -1, map[int32][]byte{0: value(60_000), 1: value(60_000)}))
	if e := do[*kmsg.AlterClientQuotasResponse](f.raw(), 1, alterQuota("ANONYMOUS", "consumer_byte_rate", 10_000)).Entries[0]; e.ErrorCode != 0 {
		t.Fatal(*e.ErrorMessage)
	}
	bytes := func(resp *kmsg.FetchResponse) (n int) {
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				n += len(p.RecordBatches)
			}
		}
		return n
	}
	resp := do[*kmsg.FetchResponse](r, 12, fetchRequest("several", several.ID, map[int32]int64{0: 0, 1: 0}))
	if n := bytes(resp); n < 60_000 || n > 100_000 || resp.ThrottleMillis != 0 {
		t.Errorf("of two partitions: %d bytes, %d ms", n, resp.ThrottleMillis)
	}
	// 60,000 bytes of 100,000 are used: the rate is within the quota, and this never would be.
	resp = do[*kmsg.FetchResponse](r, 12, fetchRequest("large", large.ID, map[int32]int64{0: 0}))
	if n := bytes(resp); n < 120_000 || resp.ThrottleMillis <= 0 {
		t.Errorf("a batch of more than a window: %d bytes, %d ms", n, resp.ThrottleMillis)
	}
}

// A connection that has to be silent for days ends when one may no longer be idle: its
// client may have gone long ago.
func TestMutedConnectionsEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t, withConfig(func(c *Config) { c.IdleTimeout = 100 * time.Millisecond }))
	topic := f.topic("orders", 1)
	if e := do[*kmsg.AlterClientQuotasResponse](f.raw(), 1, alterQuota("ANONYMOUS", "producer_byte_rate", 1)).Entries[0]; e.ErrorCode != 0 {
		t.Fatal(*e.ErrorMessage)
	}
	r := f.raw()
	p := do[*kmsg.ProduceResponse](r, 11, produceRequest("orders", topic.ID, -1, map[int32][]byte{0: records(t, nil, string(make([]byte, 10_000)))}))
	if p.ThrottleMillis < 60_000 || p.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("throttled by %d ms: %+v", p.ThrottleMillis, p.Topics[0].Partitions[0])
	}
	r.closed()
}

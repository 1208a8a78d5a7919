package gateway

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// grant is one right, of whom the tests connect as.
type grant struct {
	o    acl.Operation
	t    acl.ResourceType
	name string
}

func (g grant) rule() acl.Binding {
	return acl.Binding{Type: g.t, Name: g.name, Pattern: acl.Literal, Principal: "User:ANONYMOUS", Host: acl.Wildcard, Operation: g.o, Permission: acl.Allow}
}

// guarded is a request that needs rights.
type guarded struct {
	name    string
	version int16
	// req is made anew each time, so that what it makes does not exist yet.
	req func() kmsg.Request
	// needs are all needed; without one of them the answer has code, or else the
	// code of that one's resource type.
	needs []grant
	code  wire.Code
	// instead: each of these does in place of all of needs.
	instead []grant
	// hides: without the rights there is no error, and this is not in the answer.
	hides string
	free  bool // everybody may
}

// setRules replaces the default tenant's rules.
func (f *fleet) setRules(rules ...acl.Binding) {
	f.tb.Helper()
	ctx := context.Background()
	old, err := f.cat.ACLs(ctx, catalog.DefaultTenant)
	if err != nil {
		f.tb.Fatal(err)
	}
	records := make([]catalog.ACL, len(rules))
	for i, b := range rules {
		records[i] = b.Record()
	}
	if _, err := f.cat.DeleteACLs(ctx, catalog.DefaultTenant, old); err != nil {
		f.tb.Fatal(err)
	}
	if _, err := f.cat.PutACLs(ctx, catalog.DefaultTenant, records); err != nil {
		f.tb.Fatal(err)
	}
	if _, err := f.watcher.Refresh(ctx); err != nil {
		f.tb.Fatal(err)
	}
}

// somebodyElse is a rule that makes a tenant a guarded one.
var somebodyElse = acl.Binding{Type: acl.Topic, Name: "unrelated", Pattern: acl.Literal, Principal: "User:else", Host: acl.Wildcard, Operation: acl.Read, Permission: acl.Allow}

// codesIn collects every error code of an answer.
func codesIn(v reflect.Value, into map[wire.Code]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			codesIn(v.Elem(), into)
		}
	case reflect.Slice:
		for i := range v.Len() {
			codesIn(v.Index(i), into)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name == "ErrorCode" || name == "ConfigErrorCode" {
				into[wire.Code(v.Field(i).Int())] = true
			} else {
				codesIn(v.Field(i), into)
			}
		}
	}
}

// denials are the codes of denials, by resource type.
var denials = map[acl.ResourceType]wire.Code{acl.Topic: wire.TopicAuthorizationFailed, acl.Group: wire.GroupAuthorizationFailed,
	acl.Cluster: wire.ClusterAuthorizationFailed, acl.TransactionalID: wire.TransactionalIDAuthorizationFailed}

func authorization(c wire.Code) bool {
	for _, d := range denials {
		if c == d {
			return true
		}
	}
	return false
}

// Every key that is advertised asks for the rights that Apache Kafka asks for: with
// all of them it is served, without any one of them it is denied.
func TestEveryKeyIsGuarded(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	topic := f.topic("orders", 2)
	f.awaitGroups()
	r := f.raw()
	// A group with a committed offset, and a transaction.
	setUp := kmsg.NewPtrOffsetCommitRequest()
	setUp.Group, setUp.Generation, setUp.Topics = "billing", -1, commitOf("orders", topic.ID)
	do[*kmsg.OffsetCommitResponse](r, 9, setUp)
	txn := kmsg.NewPtrInitProducerIDRequest()
	txn.TransactionalID, txn.TransactionTimeoutMillis = kmsg.StringPtr("payments"), 60_000
	if p := do[*kmsg.InitProducerIDResponse](r, 4, txn); p.ErrorCode != 0 {
		t.Fatalf("%+v", p)
	}

	all := guardedRequests(t, f, topic)
	for _, a := range servedAPIs() {
		if len(all[a.key]) == 0 {
			t.Errorf("no request says what rights key %d (%s) needs", a.key, apiName(a.key))
		}
	}
	for _, a := range servedAPIs() {
		for _, c := range all[a.key] {
			t.Run(strings.TrimSuffix(fmt.Sprintf("%s/%d/%s", apiName(a.key), c.version, c.name), "/"), func(t *testing.T) {
				r.tb, f.tb = t, t
				ask := func(grants ...grant) (codes map[wire.Code]bool, text string) {
					t.Helper()
					rules := []acl.Binding{somebodyElse}
					for _, g := range grants {
						rules = append(rules, g.rule())
					}
					f.setRules(rules...)
					req := c.req()
					req.SetVersion(c.version)
					resp := r.receive(req, r.send(req))
					codes = map[wire.Code]bool{}
					codesIn(reflect.ValueOf(resp), codes)
					return codes, string(resp.AppendTo(nil))
				}
				served := func(grants ...grant) {
					t.Helper()
					codes, text := ask(grants...)
					for code := range codes {
						if authorization(code) {
							t.Errorf("%v with %v", code, grants)
						}
					}
					if c.hides != "" && !strings.Contains(text, c.hides) {
						t.Errorf("%s is not shown with %v", c.hides, grants)
					}
				}
				denied := func(without grant, grants ...grant) {
					t.Helper()
					codes, text := ask(grants...)
					switch {
					case c.free:
						return
					case c.hides != "" && strings.Contains(text, c.hides):
						t.Errorf("%s is shown with %v", c.hides, grants)
					case c.hides == "" && !codes[cmp.Or(c.code, denials[without.t])]:
						t.Errorf("%v with %v, want %v", codes, grants, cmp.Or(c.code, denials[without.t]))
					}
				}
				served(c.needs...)
				for _, g := range c.instead {
					served(g)
				}
				for i := range c.needs {
					denied(c.needs[i], slices.Delete(slices.Clone(c.needs), i, i+1)...)
				}
				if c.free {
					served()
				}
			})
		}
	}
}

// A name that may not be described is answered alike whether there is such a topic
// or not, in every key that takes names.
func TestDeniedNamesTellNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	topic := f.topic("orders", 1)
	f.awaitGroups()
	r := f.raw()
	f.setRules(somebodyElse, grant{acl.Read, acl.Group, "billing"}.rule(), grant{acl.Delete, acl.Group, "billing"}.rule())
	there, absent := guardedRequests(t, f, topic), guardedRequests(t, f, catalog.Topic{Name: "absent", ID: topic.ID})
	for _, key := range []int16{keyProduce, keyFetch, keyListOffsets, keyMetadata, keyOffsetCommit, keyOffsetFetch, keyDeleteTopics,
		keyDeleteRecords, keyOffsetForLeaderEpoch, keyDescribeConfigs, keyAlterConfigs, keyIncrementalAlterConfigs, keyCreatePartitions, keyOffsetDelete,
		keyDescribeProducers, keyDescribeTopicPartitions, keyConsumerGroupHeartbeat} {
		for i, c := range there[key] {
			if c.hides != "" || c.free || strings.Contains(c.name, "by id") {
				continue
			}
			answer := func(c guarded) string {
				req := c.req()
				req.SetVersion(c.version)
				resp := r.receive(req, r.send(req))
				return strings.ReplaceAll(fmt.Sprintf("%+v", kmsgText(resp)), "absent", "orders")
			}
			if a, b := answer(c), answer(absent[key][i]); a != b {
				t.Errorf("%s %d: a topic that is there: %s\none that is not: %s", apiName(key), c.version, a, b)
			}
		}
	}
}

// kmsgText shows an answer with what its pointers point to.
func kmsgText(resp kmsg.Response) string { return fmt.Sprintf("%q", resp.AppendTo(nil)) }

// A tenant is guarded from its first rule or super user on, and super users pass.
func TestWhenATenantIsGuarded(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("orders", 1)
	r := f.raw()
	list := func() int {
		req := kmsg.NewPtrMetadataRequest()
		return len(do[*kmsg.MetadataResponse](r, 12, req).Topics)
	}
	if n := list(); n != 1 {
		t.Errorf("%d topics without rules", n)
	}
	f.setRules(somebodyElse)
	if n := list(); n != 0 {
		t.Errorf("%d topics with a rule about somebody else", n)
	}
	set := func(supers ...string) {
		t.Helper()
		rec, err := f.cat.Tenant(context.Background(), catalog.DefaultTenant)
		if err != nil {
			t.Fatal(err)
		}
		rec.SuperUsers = supers
		if _, err := f.cat.UpdateTenant(context.Background(), rec); err != nil {
			t.Fatal(err)
		}
		if _, err := f.watcher.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	set("User:ANONYMOUS")
	if n := list(); n != 1 {
		t.Errorf("%d topics for a super user", n)
	}
	f.setRules()
	set("User:root")
	if n := list(); n != 0 {
		t.Errorf("%d topics with another super user", n)
	}
	set()
	if n := list(); n != 1 {
		t.Errorf("%d topics after the last rule and super user went", n)
	}
}

// Of a lenient tenant that alone is guarded which a rule is about, from the moment when it is set on.
func TestALenientTenantIsGuardedWhereRulesAre(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("orders", 1)
	f.topic("unrelated", 1)
	r := f.raw()
	seen := func(want ...string) {
		t.Helper()
		req := kmsg.NewPtrMetadataRequest()
		req.IncludeTopicAuthorizedOperations, req.IncludeClusterAuthorizedOperations = true, true
		resp := do[*kmsg.MetadataResponse](r, 10, req)
		var got []string
		for _, x := range resp.Topics {
			got = append(got, *x.Topic)
			if x.AuthorizedOperations != acl.Supported(acl.Topic) {
				t.Errorf("%s: operations %b", *x.Topic, x.AuthorizedOperations)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("topics %q, want %q", got, want)
		}
		if open := resp.AuthorizedOperations == acl.Supported(acl.Cluster); open != (len(want) > 0) {
			t.Errorf("operations on the cluster: %b", resp.AuthorizedOperations)
		}
	}
	f.setRules(somebodyElse) // of topic unrelated
	seen()
	for _, lenient := range []bool{true, false} {
		rec, err := f.cat.Tenant(context.Background(), catalog.DefaultTenant)
		if err != nil {
			t.Fatal(err)
		}
		rec.Lenient = lenient
		if _, err := f.cat.UpdateTenant(context.Background(), rec); err != nil {
			t.Fatal(err)
		}
		if _, err := f.watcher.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
		if lenient {
			seen("orders")
		} else {
			seen()
		}
	}
}

func TestAuthorizerOnGuardsWithoutRules(t *testing.T) {
	t.Parallel()
	f := newFleet(t, withConfig(func(c *Config) { c.Authorizer = true }))
	f.topic("orders", 1)
	req := kmsg.NewPtrMetadataRequest()
	if m := do[*kmsg.MetadataResponse](f.raw(), 12, req); len(m.Topics) != 0 {
		t.Errorf("%+v", m.Topics)
	}
}

func TestAuthorizedOperationsAreThoseOfTheRules(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("orders", 1)
	r := f.raw()
	f.setRules(grant{acl.Write, acl.Topic, "orders"}.rule())
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations, req.IncludeClusterAuthorizedOperations = true, true
	m := do[*kmsg.MetadataResponse](r, 10, req)
	if len(m.Topics) != 1 || m.Topics[0].AuthorizedOperations != 1<<acl.Write|1<<acl.Describe || m.AuthorizedOperations != 0 {
		t.Errorf("%+v", m)
	}
	f.setRules(grant{acl.Alter, acl.Cluster, acl.ClusterName}.rule())
	d := kmsg.NewPtrDescribeClusterRequest()
	d.IncludeClusterAuthorizedOperations, d.EndpointType = true, 1
	if c := do[*kmsg.DescribeClusterResponse](r, 1, d); c.ClusterAuthorizedOperations != 1<<acl.Alter|1<<acl.Describe {
		t.Errorf("%b", c.ClusterAuthorizedOperations)
	}
}

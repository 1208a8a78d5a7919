package gateway

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/audit"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// audited gives the fleet an audit log; read gives what is in it.
func audited(t *testing.T) (option fleetOption, read func() []audit.Event) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	log, err := audit.Open(audit.Options{Path: path, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return func(c *fleetConfig) { c.audit = log }, func() []audit.Event {
		page, err := audit.Read(path, audit.Query{})
		if err != nil {
			t.Fatal(err)
		}
		return page.Events
	}
}

// unadministered are the keys that change nothing which administrators do: those of clients' records, groups and
// transactions, and those that only look.
var unadministered = []int16{keyProduce, keyFetch, keyListOffsets, keyMetadata, keyOffsetCommit, keyOffsetFetch, keyFindCoordinator, keyJoinGroup, keyHeartbeat, keyLeaveGroup,
	keySyncGroup, keyDescribeGroups, keyListGroups, keySaslHandshake, keyApiVersions, keyInitProducerID, keyOffsetForLeaderEpoch, keyAddPartitionsToTxn, keyAddOffsetsToTxn,
	keyEndTxn, keyTxnOffsetCommit, keyDescribeACLs, keyDescribeConfigs, keySaslAuthenticate, keyDescribeClientQuotas, keyDescribeCluster, keyDescribeProducers,
	keyDescribeTransactions, keyListTransactions, keyDescribeTopicPartitions, keyDescribeLogDirs, keyListPartitionReassignments, keyDescribeQuorum, keyConsumerGroupHeartbeat,
	keyConsumerGroupDescribe, keyDescribeUserScram, keyListConfigResources}

// Of each key that changes what administrators do there is an event of the change, and of each key a denial where who
// asks may not. A key that is served is one or the other, so that none is forgotten.
func TestChangesAndDenialsAreAudited(t *testing.T) {
	t.Parallel()
	log, read := audited(t)
	f := newFleet(t, log)
	topic := f.topic("orders", 2)
	f.awaitGroups()
	r := f.raw()
	all := guardedRequests(t, f, topic)
	ask := func(c guarded) {
		req := c.req()
		req.SetVersion(c.version)
		if v := reflect.ValueOf(req).Elem().FieldByName("ValidateOnly"); v.IsValid() {
			v.SetBool(false) // what only checks changes nothing
		}
		r.receive(req, r.send(req))
	}
	told := func(kind string, keys []int16) {
		t.Helper()
		eventually(t, func() error {
			list := read()
			var missing []string
			for _, key := range keys {
				if !slices.ContainsFunc(list, func(e audit.Event) bool {
					return e.Kind == kind && e.Action == apiName(key) && e.Who == "User:ANONYMOUS" && e.Tenant == catalog.DefaultTenant && e.From != "" && e.Via == "PLAIN" && e.Resource != "" && e.Result != ""
				}) {
					missing = append(missing, apiName(key))
				}
			}
			if len(missing) > 0 {
				return fmt.Errorf("no event %s of %q", kind, missing)
			}
			return nil
		})
	}
	var changed []int16
	for _, a := range servedAPIs() {
		if administers(a.key) == slices.Contains(unadministered, a.key) {
			t.Errorf("it is not said whether %s changes what administrators do", apiName(a.key))
		}
		if administers(a.key) {
			ask(all[a.key][0])
			changed = append(changed, a.key)
		}
	}
	told(audit.Change, changed)
	f.setRules(somebodyElse)
	var denied []int16
	for _, a := range servedAPIs() {
		if i := slices.IndexFunc(all[a.key], func(c guarded) bool { return !c.free && c.hides == "" }); i >= 0 {
			ask(all[a.key][i])
			denied = append(denied, a.key)
		}
	}
	told(audit.Denied, denied)
}

// A topic that is made since a client asks for it is a change too.
func TestTopicsOfMetadataAreAudited(t *testing.T) {
	t.Parallel()
	log, read := audited(t)
	f := newFleet(t, log)
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = true
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = kmsg.StringPtr("wanted")
	req.Topics = append(req.Topics, mt)
	do[*kmsg.MetadataResponse](f.raw(), 9, req)
	eventually(t, func() error {
		list := read()
		if len(list) != 1 || list[0].Action != "Metadata" || list[0].Resource != "TOPIC wanted" || list[0].Result != audit.Done {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
}

// A token that is refused is told so before the exchange has failed: it is written down then, once, though most clients
// go without another message.
func TestRefusedTokensAreAudited(t *testing.T) {
	t.Parallel()
	log, read := audited(t)
	f := newFleet(t, log, secure(Security{Mechanisms: []string{sasl.OAuthBearer}, Demand: true}))
	refused := func() (n int) {
		for _, e := range read() {
			if e.Kind == audit.Unauthenticated && e.Action == sasl.OAuthBearer {
				n++
			}
		}
		return n
	}
	for i, goesOn := range []bool{false, true} {
		r := f.raw()
		hello := kmsg.NewPtrSASLHandshakeRequest()
		hello.Mechanism = sasl.OAuthBearer
		do[*kmsg.SASLHandshakeResponse](r, 1, hello)
		_, message, err := oauth.Auth{Token: "a.b.c"}.AsMechanism().Authenticate(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.SASLAuthBytes = message
		if resp := do[*kmsg.SASLAuthenticateResponse](r, 2, req); resp.ErrorCode != 0 || len(resp.SASLAuthBytes) == 0 {
			t.Fatalf("%+v", resp)
		}
		if goesOn {
			req.SASLAuthBytes = []byte{1}
			if resp := do[*kmsg.SASLAuthenticateResponse](r, 2, req); resp.ErrorCode == 0 {
				t.Fatalf("%+v", resp)
			}
			r.closed()
		} else if err := r.nc.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if n := refused(); n != i+1 {
				return fmt.Errorf("%d refusals are written down, want %d", n, i+1)
			}
			return nil
		})
	}
}

// A failure as NAME@TENANT is that tenant's to know; a tenant that is none is not told.
func TestFailuresAreTheirTenants(t *testing.T) {
	t.Parallel()
	log, read := audited(t)
	f := newFleet(t, log, secure(Security{Mechanisms: []string{sasl.Plain}, Demand: true}))
	if _, err := f.cat.CreateTenant(t.Context(), catalog.Tenant{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return s.Tenant("acme") != nil })
	want := map[string]string{"alice@acme": "acme", "alice@nowhere": "", "alice": ""}
	for name := range want {
		if resp := f.raw().signOn(plain.Auth{User: name, Pass: "wrong"}.AsMechanism()); wire.Code(resp.ErrorCode) != wire.SASLAuthenticationFailed {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
	}
	eventually(t, func() error {
		list := read()
		if len(list) != len(want) {
			return fmt.Errorf("%+v", list)
		}
		for _, e := range list {
			if of, ok := want[e.Who]; !ok || e.Tenant != of {
				return fmt.Errorf("%+v", e)
			}
		}
		return nil
	})
}

package controller

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func (f *fleet) tenant(name string, change TenantChange) catalog.Tenant {
	f.t.Helper()
	t, err := f.admin.CreateTenant(f.ctx, name, change)
	f.check(err)
	return t
}

func (f *fleet) topicOf(tenant, name string, partitions int32) (catalog.Topic, error) {
	return f.admin.CreateTopic(f.ctx, gateway.TopicSpec{Tenant: tenant, Name: name, Partitions: partitions})
}

func TestTenantNames(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"a", "0", "team-7", strings.Repeat("x", 63), "xn--bcher-kva", "default"} {
		if err := CheckTenantName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "-a", "a-", "A", "a.b", "a/b", "a_b", "__consumer_offsets", "ä", "а", "a\x00", "a\n", "a b", "..", "a@b",
		strings.Repeat("x", 64), strings.Repeat("x", 10<<10), catalog.SystemTenant, "\u202ea"} {
		err := CheckTenantName(bad)
		wantProblem(t, err, Invalid, "")
		if err != nil && (len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x00\n\u202e")) {
			t.Errorf("the error of %.20q shows it as it came: %q", bad, err)
		}
	}
}

func TestTenantIsMadeChangedAndRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	set := func(v string) *string { return &v }
	rate := 1e6
	clusters, supers := []string{"b", "b"}, []string{"User:root"}
	one := f.tenant("one", TenantChange{DisplayName: set("Team One"), Clusters: &clusters, SuperUsers: &supers,
		Limits: map[string]int64{"topics": 2}, Defaults: map[string]*string{"retention.ms": set("1000")}, Budget: map[string]*float64{"producer_byte_rate": &rate}})
	if one.State != catalog.TenantActive || len(one.Clusters) != 1 || one.Limits.Topics != 2 || one.Budget["producer_byte_rate"] != rate {
		t.Errorf("made: %+v", one)
	}
	topic, err := f.topicOf("one", "orders", 1)
	f.check(err)
	if on := chain.OpenSpan(f.chain(topic, 0)).Copies[0]; on.Cluster != "b" || !strings.Contains(on.Topic, ".one.orders.") || topic.Config["retention.ms"] != "1000" {
		t.Errorf("placed at %+v with %v", on, topic.Config)
	}
	two := f.tenant("two", TenantChange{})
	other, err := f.topicOf("two", "orders", 1)
	f.check(err)
	if two.ClusterID == one.ClusterID || other.ID == topic.ID || other.Config["retention.ms"] != "" {
		t.Error("two tenants are not apart")
	}

	bad := func(p Problem, text string, ch TenantChange) {
		t.Helper()
		_, err := f.admin.SetTenant(f.ctx, "one", ch)
		wantProblem(t, err, p, text)
	}
	bad(Unknown, "did you mean a?", TenantChange{Clusters: &[]string{"aa"}})
	bad(Invalid, "did you mean topics?", TenantChange{Limits: map[string]int64{"topic": 1}})
	bad(Invalid, "limit topics of -1", TenantChange{Limits: map[string]int64{"topics": -1}})
	bad(Invalid, "did you mean producer_byte_rate?", TenantChange{Budget: map[string]*float64{"producer_byte_rat": &rate}})
	for _, v := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		bad(Invalid, "more than 0", TenantChange{Budget: map[string]*float64{"producer_byte_rate": &v}})
	}
	bad(Invalid, "super user", TenantChange{SuperUsers: &[]string{"root"}})
	bad(Invalid, "super user", TenantChange{SuperUsers: &[]string{"User:*"}})
	bad(Invalid, "display name", TenantChange{DisplayName: set("a\x1b[2J")})
	bad(Invalid, "display name", TenantChange{DisplayName: set(strings.Repeat("x", 10<<10))})
	bad(Invalid, "default", TenantChange{Defaults: map[string]*string{ConfigCluster: set("a")}})
	_, err = f.admin.SetTenant(f.ctx, "one", TenantChange{Defaults: map[string]*string{"retention.mss": set("1")}})
	wantCode(t, err, wire.InvalidConfig, "retention.ms?")
	_, err = f.admin.CreateTenant(f.ctx, "one", TenantChange{})
	wantProblem(t, err, Exists, "braid tenant set")
	_, err = f.admin.CreateTenant(f.ctx, catalog.DefaultTenant, TenantChange{})
	wantProblem(t, err, Exists, "")
	_, err = f.admin.SetTenant(f.ctx, "onee", TenantChange{})
	wantProblem(t, err, Unknown, "did you mean one?")
	now, err := f.cat.Tenant(f.ctx, "one")
	f.check(err)
	if now.Revision != one.Revision {
		t.Error("a refused change was written")
	}
	changed, err := f.admin.SetTenant(f.ctx, "one", TenantChange{Limits: map[string]int64{"topics": 0}, Defaults: map[string]*string{"retention.ms": nil},
		Budget: map[string]*float64{"producer_byte_rate": nil}, Clusters: &[]string{}})
	f.check(err)
	if changed.Limits != (catalog.TenantLimits{}) || len(changed.Defaults)+len(changed.Budget)+len(changed.Clusters) != 0 || changed.DisplayName != "Team One" {
		t.Errorf("changed: %+v", changed)
	}
	d, err := f.admin.SetTenant(f.ctx, catalog.DefaultTenant, TenantChange{Limits: map[string]int64{"topics": 1000}})
	if err != nil || d.Limits.Topics != 1000 {
		t.Errorf("default tenant: %+v, %v", d, err)
	}
}

// Taking super users away leaves the tenant to somebody, unless that is forced.
func TestSuperUsersAreNotTakenFromATenantThatHasNobodyElse(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	set := func(force bool, users ...string) error {
		_, err := f.admin.SetTenant(f.ctx, "one", TenantChange{SuperUsers: &users, Force: force})
		return err
	}
	f.tenant("one", TenantChange{SuperUsers: &[]string{"User:root", "User:ops"}})
	f.check(set(false, "User:root"))
	wantProblem(t, set(false), Refused, "everybody who is let in may do everything")
	read := acl.Binding{Type: acl.Topic, Name: "a", Pattern: acl.Literal, Principal: "User:bob", Host: acl.Wildcard, Operation: acl.Read, Permission: acl.Allow}
	_, err := f.cat.PutACLs(f.ctx, "one", []catalog.ACL{read.Record()})
	f.check(err)
	wantProblem(t, set(false), Refused, "nobody would be left")
	f.check(set(false, "User:other"))
	admin := read
	admin.Type, admin.Name, admin.Operation = acl.Cluster, acl.ClusterName, acl.Alter
	_, err = f.cat.PutACLs(f.ctx, "one", []catalog.ACL{admin.Record()})
	f.check(err)
	f.check(set(false))
	f.check(set(false, "User:root"))
	_, err = f.cat.DeleteACLs(f.ctx, "one", []catalog.ACL{admin.Record()})
	f.check(err)
	f.check(set(true))
	f.check(set(false)) // nobody is left already
	// Rules that change meanwhile are looked at again.
	f.check(set(false, "User:root"))
	now, err := f.cat.Tenant(f.ctx, "one")
	f.check(err)
	at, err := f.cat.RulesAt(f.ctx, "one")
	f.check(err)
	_, err = f.cat.PutACLs(f.ctx, "one", []catalog.ACL{admin.Record()})
	f.check(err)
	if _, err := f.cat.UpdateTenantAt(f.ctx, now, at); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("written over a change of the rules: %v", err)
	}
}

// Lenience ends where somebody is left who may change the rules, or by force.
func TestLenienceEndsWhereSomebodyIsLeft(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	set := func(change TenantChange) error {
		_, err := f.admin.SetTenant(f.ctx, "one", change)
		return err
	}
	yes, no := true, false
	if x := f.tenant("one", TenantChange{}); x.Lenient {
		t.Error("a tenant that was created is lenient")
	}
	f.check(set(TenantChange{Lenient: &yes}))
	f.check(set(TenantChange{Lenient: &no})) // no rules: everybody may change them
	f.check(set(TenantChange{Lenient: &yes}))
	read := acl.Binding{Type: acl.Topic, Name: "a", Pattern: acl.Literal, Principal: "User:bob", Host: acl.Wildcard, Operation: acl.Read, Permission: acl.Allow}
	_, err := f.cat.PutACLs(f.ctx, "one", []catalog.ACL{read.Record()})
	f.check(err)
	wantProblem(t, set(TenantChange{Lenient: &no}), Refused, "nobody would be left")
	f.check(set(TenantChange{Lenient: &no, SuperUsers: &[]string{"User:root"}}))
	f.check(set(TenantChange{Lenient: &yes}))
	f.check(set(TenantChange{SuperUsers: &[]string{}})) // everybody may change the rules
	f.check(set(TenantChange{Lenient: &no, Force: true}))
	if x, err := f.cat.Tenant(f.ctx, "one"); err != nil || x.Lenient {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestPlacementHolds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	clusters := []string{"a"}
	f.tenant("one", TenantChange{Clusters: &clusters})
	_, err := f.topicOf("one", "orders", 1)
	f.check(err)
	_, err = f.admin.CreateTopicOn(f.ctx, gateway.TopicSpec{Tenant: "one", Name: "x", Partitions: 1}, "b")
	wantProblem(t, err, Refused, "not in the placement")
	// A client learns the same of a cluster that is not there as of one that is not its own.
	for _, c := range []string{"b", "nowhere"} {
		_, err = f.admin.CreateTopic(f.ctx, gateway.TopicSpec{Tenant: "one", Name: "x", Partitions: 1, Config: map[string]string{ConfigCluster: c}})
		wantCode(t, err, wire.PolicyViolation, "is not open")
	}
	for _, req := range []OpRequest{
		{Kind: catalog.OpMove, Tenant: "one", Topics: []string{"orders"}, To: "b"},
		{Kind: catalog.OpDrain, Cluster: "a", To: "b"},
	} {
		p, err := f.admin.Plan(f.ctx, req)
		f.check(err)
		if !strings.Contains(p.Refused, "placement of tenant one") {
			t.Errorf("plan of %s: %+v", req.Kind, p)
		}
	}
	p, err := f.admin.Plan(f.ctx, OpRequest{Kind: catalog.OpDrain, Cluster: "a"})
	f.check(err)
	if !strings.Contains(p.Refused, "no other cluster takes topic orders") {
		t.Errorf("plan without a target: %+v", p)
	}
}

// Many topics at once, over two processes' worth of requests in one: not more than
// the limit are made.
func TestLimitsOfTopicsAndPartitions(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.tenant("one", TenantChange{Limits: map[string]int64{"topics": 5, "partitions": 20}})
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 20 {
		wg.Go(func() {
			_, err := f.topicOf("one", fmt.Sprint("t", i), 2)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
				return
			}
			wantCode(t, err, wire.PolicyViolation, "limit of 5 topics")
		})
	}
	wg.Wait()
	if made != 5 {
		t.Errorf("%d topics were made, the limit is 5", made)
	}
	_, err := f.topicOf("one", "__consumer_offsets", 1)
	f.check(err)
	var name string
	for x := range f.watch.Snapshot().Topics("one") {
		if x.Name != "__consumer_offsets" {
			name = x.Name
		}
	}
	err = f.admin.GrowTopic(f.ctx, gateway.GrowSpec{Tenant: "one", Name: name, Total: 13})
	wantCode(t, err, wire.PolicyViolation, "11 more partitions would pass the limit of 20")
	f.check(f.admin.GrowTopic(f.ctx, gateway.GrowSpec{Tenant: "one", Name: name, Total: 12}))
	_, err = f.admin.SetTenant(f.ctx, "one", TenantChange{Limits: map[string]int64{"topics": 0}})
	f.check(err)
	_, err = f.topicOf("one", "one-more", 1)
	wantCode(t, err, wire.PolicyViolation, "limit of 20")
	f.tenant("two", TenantChange{})
	if _, err := f.topicOf("two", "t0", 100); err != nil {
		t.Errorf("another tenant: %v", err)
	}
}

// A topic that is shown already while its maker has not returned counts once.
func TestLimitsCountATopicOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.tenant("one", TenantChange{Limits: map[string]int64{"topics": 2, "partitions": 4}})
	_, err := f.topicOf("one", "first", 2)
	f.check(err)
	release, err := f.admin.admit(f.ctx, "one", "first", 2)
	f.check(err)
	if _, err := f.topicOf("one", "second", 2); err != nil {
		t.Errorf("beside one that is shown and being made: %v", err)
	}
	release()
	_, err = f.topicOf("one", "third", 1)
	wantCode(t, err, wire.PolicyViolation, "limit of 2 topics")
	wantCode(t, f.admin.GrowTopic(f.ctx, gateway.GrowSpec{Tenant: "one", Name: "first", Total: 3}), wire.PolicyViolation, "1 more partitions would pass the limit of 4")
}

func TestDeletedTenantComesBackOrGoes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.controller()
	f.tenant("one", TenantChange{})
	f.tenant("two", TenantChange{})
	for _, x := range []string{"one", "two", catalog.DefaultTenant} {
		_, err := f.topicOf(x, "orders", 1)
		f.check(err)
	}
	_, _, err := f.admin.AddUser(f.ctx, "one", "alice", Credentials{})
	f.check(err)
	_, err = f.admin.DeleteTenant(f.ctx, catalog.DefaultTenant, 0)
	wantProblem(t, err, Refused, "default tenant")
	_, err = f.admin.DeleteTenant(f.ctx, "one", -time.Second)
	wantProblem(t, err, Invalid, "grace")
	_, err = f.admin.UndeleteTenant(f.ctx, "one")
	wantProblem(t, err, Refused, "not being deleted")

	marked, err := f.admin.DeleteTenant(f.ctx, "one", time.Hour)
	f.check(err)
	if marked.State != catalog.TenantDeleting || time.Until(marked.DeleteAt) > time.Hour || time.Until(marked.DeleteAt) < 50*time.Minute {
		t.Errorf("marked: %+v", marked)
	}
	_, err = f.topicOf("one", "more", 1)
	wantCode(t, err, wire.PolicyViolation, "being deleted")
	_, _, err = f.admin.AddUser(f.ctx, "one", "bob", Credentials{})
	wantProblem(t, err, Refused, "undelete")
	_, err = f.admin.SetTenant(f.ctx, "one", TenantChange{})
	wantProblem(t, err, Refused, "undelete")
	back, err := f.admin.UndeleteTenant(f.ctx, "one")
	f.check(err)
	if back.State != catalog.TenantActive || !back.DeleteAt.IsZero() || f.watch.Snapshot().TopicByName("one", "orders") == nil {
		t.Errorf("brought back: %+v", back)
	}

	_, err = f.admin.DeleteTenant(f.ctx, "one", 0)
	f.check(err)
	f.until("the tenant to be removed", func() bool {
		s, err := f.watch.Refresh(f.ctx)
		f.check(err)
		return s.Tenant("one") == nil
	})
	left := 0
	f.doubles["a"].set(func() { left = len(f.doubles["a"].topics) })
	if left != 2 {
		t.Errorf("%d physical topics are left, want those of the others", left)
	}
	s := f.watch.Snapshot()
	if s.User("one", "alice") != nil || s.TopicByName("two", "orders") == nil || s.TopicByName(catalog.DefaultTenant, "orders") == nil {
		t.Error("too much or too little went")
	}
	_, err = f.admin.CreateTenant(f.ctx, "one", TenantChange{})
	wantProblem(t, err, Exists, "not given twice")
	_, err = f.admin.UndeleteTenant(f.ctx, "one")
	wantProblem(t, err, Unknown, "")
}

// The cluster that holds a tenant's topic is away: the tenant stays, marked, and
// cannot be brought back half; when the cluster is there again it goes.
func TestRemovalWaitsForACluster(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.controller()
	f.tenant("one", TenantChange{})
	_, err := f.topicOf("one", "orders", 1)
	f.check(err)
	f.doubles["a"].set(func() { f.doubles["a"].away = true })
	_, err = f.admin.DeleteTenant(f.ctx, "one", 0)
	f.check(err)
	f.until("the grace to be over", func() bool {
		x, err := f.cat.Tenant(f.ctx, "one")
		f.check(err)
		return x.State == catalog.TenantRemoving
	})
	_, err = f.admin.UndeleteTenant(f.ctx, "one")
	wantProblem(t, err, Refused, "grace of tenant one is over")
	_, err = f.admin.DeleteTenant(f.ctx, "one", time.Hour)
	wantProblem(t, err, Refused, "being removed")
	f.doubles["a"].set(func() { f.doubles["a"].away = false })
	f.until("the tenant to be removed", func() bool {
		_, err := f.cat.Tenant(f.ctx, "one")
		return errors.Is(err, catalog.ErrNotFound)
	})
}

func TestUsers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.tenant("one", TenantChange{})
	u, password, err := f.admin.AddUser(f.ctx, "one", "alice", Credentials{})
	f.check(err)
	if len(password) != passwordLength || len(u.Credentials) != 1 || u.Credentials["SCRAM-SHA-256"].Iterations != 8192 {
		t.Errorf("made %v with a password of %d characters", u, len(password))
	}
	_, _, err = f.admin.AddUser(f.ctx, "one", "alice", Credentials{})
	wantProblem(t, err, Exists, "braid user rotate")
	_, shown, err := f.admin.AddUser(f.ctx, "one", "bob", Credentials{Mechanism: "SCRAM-SHA-512", Password: "given"})
	if f.check(err); shown != "" {
		t.Error("a password that was given is shown")
	}
	for name, hostile := range map[string]string{"empty": "", "all": "*", "nobody": "ANONYMOUS", "control": "a\x00b", "newline": "a\nb",
		"long": strings.Repeat("x", 10<<10), "bytes": "\xff", "turned": "a\u202eb", "no width": "a\u200bb"} {
		_, _, err := f.admin.AddUser(f.ctx, "one", hostile, Credentials{})
		wantProblem(t, err, Invalid, "")
		if err != nil && strings.ContainsAny(err.Error(), "\x00\n\u202e\u200b") {
			t.Errorf("%s: the error shows it as it came", name)
		}
	}
	_, _, err = f.admin.AddUser(f.ctx, "one", "x", Credentials{Mechanism: "SCRAM-SHA-1"})
	wantProblem(t, err, Invalid, "SCRAM-SHA-512")
	_, _, err = f.admin.AddUser(f.ctx, "one", "x", Credentials{Iterations: 1})
	wantProblem(t, err, Invalid, "iterations")
	// Who signs on as carl@newco is nobody of newco's.
	_, _, err = f.admin.AddUser(f.ctx, "one", "carl@newco", Credentials{})
	f.check(err)
	_, err = f.admin.CreateTenant(f.ctx, "newco", TenantChange{})
	wantProblem(t, err, Refused, "carl@newco")
	f.check(f.admin.DeleteUser(f.ctx, "one", "carl@newco", false))
	f.tenant("newco", TenantChange{})
	_, _, err = f.admin.AddUser(f.ctx, "onne", "x", Credentials{})
	wantProblem(t, err, Unknown, "did you mean one?")
	before := u.Credentials["SCRAM-SHA-256"].StoredKey
	u, password2, err := f.admin.RotateUser(f.ctx, "one", "alice", Credentials{})
	f.check(err)
	if password2 == password || password2 == "" || string(u.Credentials["SCRAM-SHA-256"].StoredKey) == string(before) {
		t.Error("the password was not changed")
	}
	_, _, err = f.admin.RotateUser(f.ctx, "one", "alise", Credentials{})
	wantProblem(t, err, Unknown, "did you mean alice?")
	f.check(f.admin.DeleteUser(f.ctx, "one", "alice", false))
	wantProblem(t, f.admin.DeleteUser(f.ctx, "one", "alice", false), Unknown, "no user")
	if got := f.watch.Snapshot().Users("one"); len(got) != 1 || got[0].Name != "bob" {
		t.Errorf("left: %v", got)
	}
}

// The last user with a password who may change a tenant's rules goes by force only, as do the rights that it has.
func TestTheLastAdminOfATenantIsNotDeletedSilently(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.tenant("one", TenantChange{SuperUsers: &[]string{"User:gina", "User:by-certificate"}})
	for _, name := range []string{"gina", "hugo", "app"} {
		_, _, err := f.admin.AddUser(f.ctx, "one", name, Credentials{})
		f.check(err)
	}
	wantProblem(t, f.admin.DeleteUser(f.ctx, "one", "gina", false), Refused, "the last user")
	set := func(force bool, supers ...string) error {
		_, err := f.admin.SetTenant(f.ctx, "one", TenantChange{SuperUsers: &supers, Force: force})
		return err
	}
	wantProblem(t, set(false, "User:nobody"), Refused, "no user with a password")
	// The first super user of a tenant that everybody administered is one who exists.
	f.tenant("two", TenantChange{})
	_, _, err := f.admin.AddUser(f.ctx, "two", "alice", Credentials{})
	f.check(err)
	typo := []string{"User:alcie"}
	_, err = f.admin.SetTenant(f.ctx, "two", TenantChange{SuperUsers: &typo})
	wantProblem(t, err, Refused, "User:alcie")
	var lost *RequestError
	if !errors.As(err, &lost) || !strings.Contains(lost.Hint, "User:alice?") || !strings.Contains(lost.Hint, "--force") {
		t.Errorf("hint %+v", lost)
	}
	_, err = f.admin.SetTenant(f.ctx, "two", TenantChange{SuperUsers: &typo, Force: true})
	f.check(err)
	_, err = f.admin.SetTenant(f.ctx, "two", TenantChange{SuperUsers: &[]string{"User:alice"}})
	f.check(err)
	f.check(f.admin.DeleteUser(f.ctx, "one", "app", false)) // administers nothing
	f.check(set(false, "User:gina", "User:hugo"))
	f.check(f.admin.DeleteUser(f.ctx, "one", "gina", false)) // hugo is left
	wantProblem(t, f.admin.DeleteUser(f.ctx, "one", "hugo", false), Refused, "the last user")
	f.check(f.admin.DeleteUser(f.ctx, "one", "hugo", true))
	f.check(set(false, "User:nobody")) // nobody could before
}

// A tenant without limits of its own is bounded all the same, and its own limit goes before.
func TestTenantsWithoutLimitsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.controller()
	f.admin.MaxTopics, f.admin.MaxPartitions = 2, 5
	f.tenant("one", TenantChange{})
	_, err := f.topicOf("one", "a", 6)
	wantCode(t, err, wire.PolicyViolation, "limit of 5")
	_, err = f.topicOf("one", "a", 1)
	f.check(err)
	_, err = f.topicOf("one", "b", 4)
	f.check(err)
	_, err = f.topicOf("one", "c", 1)
	wantCode(t, err, wire.PolicyViolation, "limit of 2 topics")
	_, err = f.admin.SetTenant(f.ctx, "one", TenantChange{Limits: map[string]int64{"topics": 3}})
	f.check(err)
	_, err = f.topicOf("one", "c", 1)
	wantCode(t, err, wire.PolicyViolation, "limit of 5")
	_, err = f.admin.SetTenant(f.ctx, "one", TenantChange{Limits: map[string]int64{"partitions": 6}})
	f.check(err)
	_, err = f.topicOf("one", "c", 1)
	f.check(err)
}

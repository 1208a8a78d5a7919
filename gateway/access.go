package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/quota"
	"github.com/braidstream/braid/wire"
)

// access holds each tenant's rules, compiled. They are made anew when the tenant's
// ACLs or super users have changed, by the first request that finds it so.
type access struct {
	// always is [Config.Authorizer]: also a tenant without any rule is guarded.
	always bool
	node   func() int32 // of this gateway

	mu sync.Mutex
	by map[string]*tenantRules
}

// tenantRules are a tenant's at one snapshot.
type tenantRules struct {
	snapshot *catalog.Snapshot
	supers   []string
	lenient  bool
	index    *acl.Index // nil: everything is allowed
	quotas   *quota.Table
	meters   *quota.Meters // of the tenant, whatever its quotas are
	// allowance is this gateway's share of the tenant's budget; nil: it has none.
	allowance *quota.Allowance
	full      bool // nothing more is stored
}

// of returns a tenant's rules and quotas.
//
// A tenant is guarded from its first ACL or super user on: then Kafka's rules
// hold, and what no ACL allows is denied; of a lenient one only where an ACL is about
// the resource. A tenant that has neither has nobody who could have written rules, so
// whoever is let in at all may do everything in it, as in a Kafka cluster without an
// authorizer.
func (a *access) of(s *catalog.Snapshot, tenant string) *tenantRules {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.by[tenant]
	if old != nil && old.snapshot == s {
		return old
	}
	r := &tenantRules{snapshot: s, meters: new(quota.Meters)}
	if t := s.Tenant(tenant); t != nil {
		r.supers, r.lenient = t.SuperUsers, t.Lenient
	}
	if old != nil {
		r.meters, r.allowance = old.meters, old.allowance
	}
	r.budget(s, tenant, a.node())
	if old != nil && s.SameQuotas(old.snapshot, tenant) {
		r.quotas = old.quotas
	} else {
		r.quotas = quota.Compile(s.Quotas(tenant))
	}
	switch {
	case old != nil && s.SameACLs(old.snapshot, tenant) && slices.Equal(r.supers, old.supers) && r.lenient == old.lenient:
		r.index = old.index
	case a.always || len(r.supers) > 0 || len(s.ACLs(tenant)) > 0:
		r.index = acl.Compile(acl.FromRecords(s.ACLs(tenant)), acl.Options{SuperUsers: r.supers, Lenient: r.lenient})
	}
	if a.by == nil {
		a.by = map[string]*tenantRules{}
	}
	a.by[tenant] = r
	return r
}

// limited names the tenants that have an allowance.
func (a *access) limited() (tenants []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for tenant, r := range a.by {
		if r.allowance != nil {
			tenants = append(tenants, tenant)
		}
	}
	return tenants
}

// asker is who sent a request, and what holds for them while it is served.
type asker struct {
	g     *Gateway
	c     *conn
	key   int16
	index *acl.Index // nil: everything is allowed
	who   acl.Subject
}

// look takes up what has changed of the tenant's rules and quotas since the last
// request. Only the reader calls it: when nothing has, it costs three compares. An
// error is that who asks is gone: nobody is served by what is taken back, however
// late those who watch for that get to the connection.
func (c *conn) look() error {
	s := c.g.watcher.Snapshot()
	if s == c.rulesAt && c.clientID == c.quotaOf && c.principal == c.subjectOf && c.tenant == c.rulesOf {
		return nil
	}
	if s != c.rulesAt && !c.stands() {
		return errRevoked
	}
	r := c.g.access.of(s, c.tenant)
	if c.principal != c.subjectOf || c.subject.Host == "" {
		c.subjectOf = c.principal
		c.subject = acl.Subject{Principal: c.principal.String(), Host: acl.Host(c.host)}
		c.granted.of = nil
	}
	c.rulesAt, c.rulesOf, c.rules, c.quotaOf = s, c.tenant, r.index, c.clientID
	c.quota = r.quotas.Client(r.meters, c.principal.Name, c.clientID, time.Now().UnixMilli()).Within(r.allowance).After(c.quota)
	c.full = r.full
	return nil
}

// asker says who asks, as of the last look.
func (c *conn) asker(key int16) asker {
	a := asker{g: c.g, c: c, key: key}
	if c.rules != nil && !c.rules.Super(c.subject.Principal) {
		a.index, a.who = c.rules, c.subject
	}
	return a
}

// may tells whether who asks may do something. That they may not is no denial
// yet: it decides what is shown, or another right may do instead.
func (a *asker) may(o acl.Operation, t acl.ResourceType, name string) bool {
	return a.index == nil || a.index.Allowed(a.who, o, t, name)
}

// allowed is may for what was asked for by name.
func (a *asker) allowed(o acl.Operation, t acl.ResourceType, name string) bool {
	if a.may(o, t, name) {
		return true
	}
	a.g.metrics.denied.WithLabelValues(t.String()).Inc()
	a.wasDenied(o, t, name)
	return false
}

// on is allowed as a code of the resource's type.
func (a *asker) on(o acl.Operation, t acl.ResourceType, name string) wire.Code {
	if a.allowed(o, t, name) {
		return wire.None
	}
	switch t {
	case acl.Topic:
		return wire.TopicAuthorizationFailed
	case acl.Group:
		return wire.GroupAuthorizationFailed
	case acl.TransactionalID:
		return wire.TransactionalIDAuthorizationFailed
	}
	return wire.ClusterAuthorizationFailed
}

func (a *asker) onTopic(o acl.Operation, name string) wire.Code { return a.on(o, acl.Topic, name) }
func (a *asker) onGroup(o acl.Operation, name string) wire.Code { return a.on(o, acl.Group, name) }
func (a *asker) onTxn(o acl.Operation, id string) wire.Code {
	return a.on(o, acl.TransactionalID, id)
}
func (a *asker) onCluster(o acl.Operation) wire.Code { return a.on(o, acl.Cluster, acl.ClusterName) }

// somewhere tells whether who asks may do something on any resource of a type.
func (a *asker) somewhere(o acl.Operation, t acl.ResourceType) bool {
	return a.index == nil || a.index.AllowedSomewhere(a.who, o, t)
}

// operations are all that who asks may do on a resource, for an answer.
func (a *asker) operations(t acl.ResourceType, name string) int32 {
	if a.index == nil {
		return acl.Supported(t)
	}
	return a.index.Operations(a.who, t, name)
}

// clusterOperations are what who asks may do on the cluster: none are told to
// those who may not describe it.
func (a *asker) clusterOperations() int32 {
	if !a.may(acl.Describe, acl.Cluster, acl.ClusterName) {
		return 0
	}
	return a.operations(acl.Cluster, acl.ClusterName)
}

// granted keeps what a connection may do on the topics that it used last: records
// flow to and from the same topics again and again.
type granted struct {
	of *acl.Index
	on map[string]uint32
}

// grantedTopics bounds what one connection keeps.
const grantedTopics = 1024

// onStream is onTopic for Produce and Fetch. Only the reader calls it.
func (a *asker) onStream(o acl.Operation, topic []byte) wire.Code {
	if a.index == nil {
		return wire.None
	}
	g := &a.c.granted
	if g.of != a.index || len(g.on) >= grantedTopics {
		g.of, g.on = a.index, map[string]uint32{}
	}
	m, known := g.on[string(topic)]
	if !known {
		m = a.index.Granted(a.who, acl.Topic, string(topic))
		if len(topic) <= maxTopicName { // what is longer is no topic's, and not worth the memory
			g.on[string(topic)] = m
		}
	}
	if m&(1<<o) != 0 {
		return wire.None
	}
	return a.onTopic(o, string(topic))
}

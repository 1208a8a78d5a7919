package gateway

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/quota"
)

// What a whole tenant uses: its connections are counted and limited, its budget is
// enforced as far as this gateway's share goes, and what it uses is told to the
// leading controller, which divides budgets (catalog.Share).

// errConnections ends a connection that is one too many of its tenant's.
var errConnections = errors.New("the tenant has as many connections as its limit allows")

// errConnectionShare ends a connection that a tenant has no share for beside others.
var errConnectionShare = errors.New("the tenant has its share of the gateway's max.connections")

// storageFull is what producers of a tenant are told whose storage is at its limit.
const storageFull = "The storage limit is reached: delete records or topics, shorten retention, or have the limit raised"

// owned counts the connection for the tenant that it is bound to, unless that has as many
// as it may: then it is refused. Only the reader calls it.
func (c *conn) owned() {
	g := c.g
	a := g.usage.Account(c.tenant)
	if a == c.account {
		return
	}
	c.account.Close()
	c.account, c.in.account, c.refused = nil, nil, nil
	if most, share := g.mayHave(c.tenant), g.shareOfConnections(); !a.Open(min(most, share)) {
		c.refused = errConnections
		if share < most {
			c.refused = errConnectionShare
		}
		g.metrics.refused.Inc()
		return
	}
	c.account, c.in.account = a, a
	a.Received(c.in.nobodys)
	c.in.nobodys = 0
	// KIP-612: who opens connections faster than its address may is not read from until
	// its rate is back.
	host := acceptable(c.host)
	if limit := g.access.of(g.watcher.Snapshot(), c.tenant).quotas.Connections(host); limit > 0 {
		c.throttle(g.opening.record(c.tenant, host, limit, time.Now().UnixMilli()))
	}
}

// taken counts a connection that was let in unasked, at its first request that is not part
// of signing on: until then it may become another tenant's, whose it is then from the
// beginning.
func (c *conn) taken() error {
	if c.owned(); c.refused != nil {
		return c.refused
	}
	return c.unmute()
}

// acceptable is an address as quotas name it.
func acceptable(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().WithZone("").String()
	}
	return host
}

// mayHave is how many connections a tenant may have here, beside those that the other
// gateways told of last.
func (g *Gateway) mayHave(tenant string) int64 {
	s := g.watcher.Snapshot()
	t := s.Tenant(tenant)
	if t == nil || t.Limits.Connections <= 0 {
		return math.MaxInt64
	}
	return t.Limits.Connections - elsewhere(s, tenant, g.opts.Node, func(sh *catalog.Share) map[int32]int64 { return sh.Connections })
}

// shareOfConnections is how many connections a tenant may have of those that the gateway takes (max.connections): beside
// others as many as are left free, so that there is always room for who comes with none ([fair.Allows]); and alone, where
// others may come, all but a sixteenth.
func (g *Gateway) shareOfConnections() int64 {
	most := int64(g.cfg.MaxConnections)
	g.mu.Lock()
	free := most - int64(len(g.conns)) + 1 // the connection that asks is among them
	g.mu.Unlock()
	switch {
	case g.usage.Several():
		return free
	case len(g.watcher.Snapshot().Tenants()) > 1:
		return most - most/16
	}
	return most
}

// several tells whether room has to be left for other tenants: also for those who have not come since the gateway began,
// which who comes first would find out.
func (g *Gateway) several() bool {
	return g.usage.Several() || len(g.watcher.Snapshot().Tenants()) > 1
}

// elsewhere sums what the other live gateways have.
func elsewhere(s *catalog.Snapshot, tenant string, node int32, of func(*catalog.Share) map[int32]int64) (n int64) {
	if sh := s.Share(tenant); sh != nil {
		for other, have := range of(sh) {
			if other != node && s.Gateway(other) != nil {
				n += have
			}
		}
	}
	return n
}

// DefaultGroups is how many groups a tenant without a limit of its own has on a gateway.
const DefaultGroups = 20_000

// MayHaveGroup tells whether a tenant that has groups in the coordinator of a gateway may
// have one more there: beside those of the other gateways, as they told of them last. A tenant without a limit of its
// own has DefaultGroups, or as many as most says, on each gateway: it is for the process's memory.
func MayHaveGroup(s *catalog.Snapshot, tenant string, node int32, here, most int64) bool {
	t := s.Tenant(tenant)
	if t == nil || t.Limits.Groups == 0 {
		return tenant == catalog.SystemTenant || here < cmp.Or(most, DefaultGroups)
	}
	return here+elsewhere(s, tenant, node, func(sh *catalog.Share) map[int32]int64 { return sh.Groups }) < t.Limits.Groups
}

// openings measure how fast addresses open connections to tenants. Only addresses that
// have a quota are in it.
type openings struct {
	mu sync.Mutex
	by map[opening]*quota.Rate
}

type opening struct{ tenant, host string }

// maxOpenings bounds the addresses that are measured; beyond, any is forgotten.
const maxOpenings = 50_000

func (o *openings) record(tenant, host string, limit float64, now int64) (wait int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := opening{tenant, host}
	r := o.by[key]
	if r == nil {
		if o.by == nil {
			o.by = map[opening]*quota.Rate{}
		}
		for other := range o.by {
			if len(o.by) < maxOpenings {
				break
			}
			delete(o.by, other)
		}
		r = &quota.Rate{}
		o.by[key] = r
	}
	r.Record(1, now)
	return r.Throttle(limit, now)
}

// budget brings the tenant's allowance on this gateway up to a snapshot. A gateway that
// the last division does not know has an even part until the next one.
func (r *tenantRules) budget(s *catalog.Snapshot, tenant string, node int32) {
	t, sh := s.Tenant(tenant), s.Share(tenant)
	r.full = sh != nil && sh.Full && t != nil && t.Limits.StorageBytes > 0
	if t == nil || len(t.Budget) == 0 {
		if r.allowance != nil {
			r.allowance.Set(nil, nil) // who waits for a share waits no more
		}
		r.allowance = nil
		return
	}
	shares := make(map[string]float64, len(t.Budget))
	for name, whole := range t.Budget {
		share := whole / float64(max(1, len(s.Gateways())))
		if sh != nil && sh.Of[name] > 0 {
			if part, ok := sh.Rates[name][node]; ok {
				share = part * whole / sh.Of[name] // of a budget that was changed since
			}
		}
		shares[name] = share
	}
	if r.allowance == nil {
		r.allowance = &quota.Allowance{}
	}
	r.allowance.Set(shares, t.Budget)
}

// Reporter tells what tenants use of a gateway; *catalog.Session is one.
type Reporter interface {
	// PutUse replaces the gateway's report; it goes with the registration.
	PutUse(ctx context.Context, u catalog.GatewayUse) error
	// Lease changes when the registration was lost and made anew.
	Lease() int64
}

// keepReporting tells until the gateway ends. A report is written when it says something
// new, so that tenants without load cost nothing.
func (g *Gateway) keepReporting() {
	tick := time.NewTicker(g.cfg.ReportEvery)
	defer tick.Stop()
	told := catalog.GatewayUse{Tenants: map[string]catalog.TenantUse{}}
	lease := int64(0)
	for {
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		now := g.uses()
		at := g.opts.Reporter.Lease()
		if at == lease && !g.news(told, now) || len(told.Tenants)+len(now.Tenants) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(g.ctx, g.cfg.RequestTimeout)
		err := g.opts.Reporter.PutUse(ctx, now)
		cancel()
		if err != nil {
			// The leader goes on with what it knows, and so do the shares.
			g.log.Debug("use was not reported, tried again", "err", err)
			continue
		}
		told, lease = now, at
	}
}

// uses is what tenants that have a budget or a limit use now.
func (g *Gateway) uses() catalog.GatewayUse {
	out := catalog.GatewayUse{Node: g.opts.Node, Tenants: map[string]catalog.TenantUse{}}
	s := g.watcher.Snapshot()
	var groups map[string]int64
	if g.opts.Groups != nil {
		groups = g.opts.Groups()
	}
	names := g.usage.Tenants()
	for name := range groups {
		if g.usage.Find(name) == nil {
			names = append(names, name)
		}
	}
	for _, name := range names {
		t := s.Tenant(name)
		if t == nil || len(t.Budget) == 0 && t.Limits.Connections == 0 && t.Limits.Groups == 0 {
			continue
		}
		u := catalog.TenantUse{Rates: map[string]float64{}}
		if t.Limits.Connections > 0 {
			if a := g.usage.Find(name); a != nil {
				u.Connections = a.Connections()
			}
		}
		if t.Limits.Groups > 0 {
			u.Groups = groups[name]
		}
		if a := g.access.of(s, name).allowance; a != nil {
			for what, use := range a.Sample(time.Now().UnixMilli()) {
				if use.Rate > 0 {
					u.Rates[what] = use.Rate
				}
				if use.Limited {
					u.Limited = append(u.Limited, what)
				}
			}
			slices.Sort(u.Limited)
		}
		if len(u.Rates)+len(u.Limited) > 0 || u.Connections > 0 || u.Groups > 0 {
			out.Tenants[name] = u
		}
	}
	return out
}

// news tells whether a report differs from the one before by what could change a
// division: a fiftieth of a budget, a hundredth of a limit, or where shares are too small.
func (g *Gateway) news(told, now catalog.GatewayUse) bool {
	s := g.watcher.Snapshot()
	names := maps.Clone(told.Tenants)
	maps.Copy(names, now.Tenants)
	for name := range names {
		a, b := told.Tenants[name], now.Tenants[name]
		t := s.Tenant(name)
		if t == nil {
			continue
		}
		if !slices.Equal(a.Limited, b.Limited) {
			return true
		}
		for what, whole := range t.Budget {
			if d := a.Rates[what] - b.Rates[what]; d > whole/50 || d < -whole/50 {
				return true
			}
		}
		if far(a.Connections, b.Connections, t.Limits.Connections) || far(a.Groups, b.Groups, t.Limits.Groups) {
			return true
		}
	}
	return false
}

func far(a, b, limit int64) bool {
	d := max(a-b, b-a)
	return d > 0 && d >= max(1, limit/100)
}

package quota

import (
	"crypto/sha256"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/catalog"
)

// kind of quota, by its place in a table.
type kind int

const (
	produce kind = iota
	consume
	request
	mutation
	kinds
)

var kindNames = [kinds]string{ProducerByteRate, ConsumerByteRate, RequestPercentage, ControllerMutationRate}

// whom a quota is for. A part is absent, a name, or the default.
type whom struct{ user, client part }

type part struct {
	is   byte // absent, named or standard
	name string
}

const (
	absent = byte(iota)
	named
	standard
)

// Table is what was set for a tenant. It is immutable.
type Table struct {
	limits [kinds]map[whom]float64
	ips    map[string]float64
	anyIP  float64 // 0: none
}

// Compile makes a table; nil if nothing is set.
func Compile(quotas []*catalog.ClientQuota) *Table {
	t := &Table{}
	set := false
	for _, q := range quotas {
		if CheckEntity(q.Entity) != nil {
			continue
		}
		var w whom
		for _, p := range q.Entity {
			v := part{is: standard}
			if p.Name != nil {
				v = part{is: named, name: *p.Name}
			}
			switch p.Type {
			case UserEntity:
				w.user = v
			case ClientIDEntity:
				w.client = v
			case IPEntity:
				limit := q.Values[ConnectionCreationRate]
				if limit <= 0 {
					continue
				}
				set = true
				if p.Name == nil {
					t.anyIP = limit
				} else {
					if t.ips == nil {
						t.ips = map[string]float64{}
					}
					if a, err := netip.ParseAddr(*p.Name); err == nil {
						t.ips[a.Unmap().WithZone("").String()] = limit
					}
				}
			}
		}
		if w == (whom{}) {
			continue
		}
		for k, name := range kindNames {
			limit, has := q.Values[name]
			if !has || limit <= 0 {
				continue
			}
			if t.limits[k] == nil {
				t.limits[k] = map[whom]float64{}
			}
			t.limits[k][w] = limit
			set = true
		}
	}
	if !set {
		return nil
	}
	return t
}

// share is who uses one allowance together: all connections of a user, of a
// client id, or of the pair.
type share struct{ user, client string }

// find returns the limit that holds for a user and a client id, 0 for none, and
// who shares it. The most specific quota wins:
//
//	user and client id; user and default client id; user;
//	default user and client id; default user and default client id; default user;
//	client id; default client id
//
// as in Kafka's ClientQuotaManager, where a quota of a default is an allowance for
// each one that it holds for.
func (t *Table) find(k kind, user, client string) (limit float64, of share) {
	m := t.limits[k]
	if len(m) == 0 {
		return 0, share{}
	}
	u, c := part{named, user}, part{named, client}
	std := part{is: standard}
	for _, try := range [...]struct {
		w  whom
		of share
	}{
		{whom{u, c}, share{user, client}},
		{whom{u, std}, share{user, client}},
		{whom{u, part{}}, share{user, ""}},
		{whom{std, c}, share{user, client}},
		{whom{std, std}, share{user, client}},
		{whom{std, part{}}, share{user, ""}},
		{whom{part{}, c}, share{"", client}},
		{whom{part{}, std}, share{"", client}},
	} {
		if limit, ok := m[try.w]; ok && (client != "" || try.w.client.is == absent) {
			return limit, try.of
		}
	}
	return 0, share{}
}

// Connections returns how many connections by the second an address may open, 0
// for no limit.
func (t *Table) Connections(ip string) float64 {
	if t == nil {
		return 0
	}
	if limit, ok := t.ips[ip]; ok {
		return limit
	}
	return t.anyIP
}

// Meters measure the use of a tenant's clients. They outlive tables: what was used
// before a quota changed counts under the next one.
type Meters struct {
	mu    sync.Mutex
	by    map[meterKey]*Meter
	swept int64 // when idle ones were looked for, ms
}

type meterKey struct {
	k  kind
	of share
}

// maxMeters bounds the meters of one tenant; beyond, those are forgotten that
// measure nothing just now, or, if all do, any: clients make up as many ids as they like.
const maxMeters = 50_000

// longName is from how many bytes on a client's id is known by its hash: a meter is
// not to be larger for it.
const longName = 256

// brief is the share by names that are not long.
func (s share) brief() share {
	if len(s.client) > longName {
		sum := sha256.Sum256([]byte(s.client))
		s.client = "\x00" + string(sum[:])
	}
	return s
}

// Meter measures what one share uses.
type Meter struct {
	mu     sync.Mutex
	rate   Rate
	bucket Bucket
	last   int64
}

func (m *Meters) get(k kind, of share, now int64) *Meter {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := meterKey{k, of.brief()}
	if meter := m.by[key]; meter != nil {
		return meter
	}
	if m.by == nil {
		m.by = map[meterKey]*Meter{}
	}
	if len(m.by) >= maxMeters && now-m.swept >= WindowMillis {
		m.swept = now
		for key, meter := range m.by {
			meter.mu.Lock()
			idle := now-meter.last > Samples*WindowMillis
			meter.mu.Unlock()
			if idle {
				delete(m.by, key)
			}
		}
	}
	for key := range m.by {
		if len(m.by) < maxMeters {
			break
		}
		delete(m.by, key)
	}
	meter := &Meter{last: now}
	m.by[key] = meter
	return meter
}

// limited is a meter under a limit.
type limited struct {
	*Meter
	limit float64
}

// Client is what holds for the connections of one user with one client id. The nil
// Client is nobody's limit. Its methods may be called concurrently.
type Client struct {
	of     [kinds]limited
	within *Allowance // of the whole tenant; nil: none
	// touched tells of what the tenant's share was exceeded by this client.
	touched [kinds]atomic.Bool
	last    [kinds]atomic.Int64 // what it used last
}

// Client returns what holds for a user and a client id at a time, ms; nil for nothing.
func (t *Table) Client(m *Meters, user, client string, now int64) *Client {
	if t == nil {
		return nil
	}
	c := &Client{}
	any := false
	for k := range kinds {
		if limit, of := t.find(k, user, client); limit > 0 {
			c.of[k] = limited{m.get(k, of, now), limit}
			any = true
		}
	}
	if !any {
		return nil
	}
	return c
}

func (c *Client) rate(k kind, value float64, now int64) int64 {
	if c == nil {
		return 0
	}
	wait := c.within.use(k, value, now)
	if wait > 0 {
		c.touched[k].Store(true)
		if value > 0 { // less takes back what was recorded, and is no use
			c.last[k].Store(int64(min(value, math.MaxInt32*1000)))
		}
	}
	if c.of[k].Meter == nil {
		return wait
	}
	l := &c.of[k]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = now
	l.rate.Record(value, now)
	return max(wait, l.rate.Throttle(l.limit, now))
}

// Produced records bytes that came in, and returns the wait, ms.
func (c *Client) Produced(bytes int, now int64) int64 { return c.rate(produce, float64(bytes), now) }

// Fetched records bytes that are to go out, and returns the wait, ms. Who does not
// send them for that says so with Unfetched.
func (c *Client) Fetched(bytes int, now int64) int64 { return c.rate(consume, float64(bytes), now) }

// Unfetched takes bytes back that were not sent, and returns the wait without them, ms.
func (c *Client) Unfetched(bytes int, now int64) int64 {
	return c.rate(consume, -float64(bytes), now)
}

// FetchAtMost returns how many bytes one fetch may bring at most; no limit is a
// very large number.
func (c *Client) FetchAtMost() float64 {
	most := float64(1 << 62)
	if c != nil && c.of[consume].Meter != nil {
		most = Largest(c.of[consume].limit)
	}
	if c != nil && c.within != nil {
		most = min(most, c.within.largest(consume))
	}
	return most
}

// Metered tells whether the time of requests is measured.
func (c *Client) Metered() bool {
	return c != nil && (c.of[request].Meter != nil || c.within.limits(request))
}

// Worked records nanoseconds of work on a request, and returns the wait, ms, which is
// at most a window.
func (c *Client) Worked(nanos, now int64) int64 {
	return min(c.rate(request, float64(nanos)*100/1e9, now), WindowMillis)
}

// Mutate asks to create or delete partitions. A strict request is refused while the
// bucket is overdrawn, and is not counted; another one is counted all the same. wait,
// ms, is for how long the bucket is overdrawn.
func (c *Client) Mutate(partitions int, strict bool, now int64) (wait int64, refused bool) {
	if c == nil {
		return 0, false
	}
	wait = c.within.overdrawn(now)
	l := &c.of[mutation]
	if l.Meter != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.last = now
		wait = max(wait, l.bucket.Wait(l.limit, now))
	}
	if wait > 0 && strict {
		return wait, true
	}
	c.within.take(float64(partitions), now)
	if l.Meter != nil {
		l.bucket.Take(float64(partitions), l.limit, now)
		wait = l.bucket.Wait(l.limit, now)
	}
	if strict {
		return 0, false
	}
	return max(wait, c.within.overdrawn(now)), false
}

package coordinator

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/leaks"
	"github.com/braidstream/braid/wire"
)

func TestMain(m *testing.M) {
	code := testkit.Main(m)
	if code == 0 {
		if err := leaks.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines leaked:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// quiet is a logger that nobody hears.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

type allTopics struct {
	gone    map[[16]byte]bool
	topics  map[string]int32 // partitions by name, of the default tenant
	changes *uint64
}

func newTopics() allTopics {
	return allTopics{gone: map[[16]byte]bool{}, topics: map[string]int32{}, changes: new(uint64)}
}

// set makes a topic, or gives it more partitions; 0 removes it.
func (a allTopics) set(name string, partitions int32) {
	*a.changes++
	if a.topics[name] = partitions; partitions == 0 {
		delete(a.topics, name)
	}
}

func (a allTopics) exists(id [16]byte) bool { return !a.gone[id] }

func (a allTopics) named(tenant, name string) (catalog.ID, int32, bool) {
	n, ok := a.topics[name]
	return idOf(name), n, ok && tenant == testGroup.tenant
}

func (a allTopics) name(id catalog.ID) (string, bool) {
	for name := range a.topics {
		if catalog.ID(idOf(name)) == id {
			return name, true
		}
	}
	return "", false
}

func (a allTopics) version(string) uint64 { return *a.changes + 1 }

// driver drives a machine with a virtual clock and a log in memory, as shard
// does with the real ones.
type driver struct {
	t       testing.TB
	m       *machine
	log     []record
	durable int
	hold    bool // the log takes nothing for now
	waits   []queuedWait
	topics  allTopics
	ids     *int // given out, also by successors
}

func (d *driver) newID() string {
	*d.ids++
	return fmt.Sprintf("id%d", *d.ids)
}

func newDriver(t testing.TB, config Config) *driver {
	d := &driver{t: t, topics: newTopics()}
	d.ids = new(int)
	d.m = newMachine(config.withDefaults(), d.newID, d.topics, quiet())
	d.m.now = 1_000_000
	d.m.begin()
	d.settle()
	return d
}

// event runs fn and everything that follows from it.
func (d *driver) event(fn func(m *machine)) {
	fn(d.m)
	d.settle()
}

func (d *driver) settle() {
	for {
		e := d.m.take()
		d.log = append(d.log, e.records...)
		for _, w := range e.waits {
			d.waits = append(d.waits, queuedWait{wait: w, upTo: uint64(len(d.log))})
		}
		if !d.hold {
			d.durable = len(d.log)
		}
		for _, r := range e.replies {
			r()
		}
		if len(d.waits) == 0 || d.waits[0].upTo > uint64(d.durable) {
			return
		}
		w := d.waits[0]
		d.waits = d.waits[1:]
		if w.then != nil {
			w.then()
		}
		if w.ok != nil {
			w.ok()
		}
	}
}

// release lets the log take what was held.
func (d *driver) release() {
	d.hold = false
	d.settle()
}

// pass lets ms pass, timer by timer.
func (d *driver) pass(ms int64) {
	end := d.m.now + ms
	for {
		at, ok := d.m.wake()
		if !ok || at > end {
			break
		}
		d.m.now = max(d.m.now, at)
		d.event(func(m *machine) { m.tick() })
	}
	d.m.now = end
}

// successor is a machine that replayed the log.
func (d *driver) successor() *driver {
	n := &driver{t: d.t, topics: d.topics, log: slices.Clone(d.log[:d.durable]), durable: d.durable, ids: d.ids}
	n.m = newMachine(d.m.config, n.newID, d.topics, quiet())
	n.m.now = d.m.now
	for _, r := range n.log {
		if _, err := n.m.apply(r); err != nil {
			d.t.Fatalf("replay: %v", err)
		}
	}
	if e := n.m.take(); len(e.records)+len(e.replies)+len(e.waits) > 0 {
		d.t.Fatal("replay has effects")
	}
	n.m.begin()
	n.settle()
	return n
}

// client is a member as a client sees it.
type client struct {
	d          *driver
	key        groupKey
	typ        string
	protocols  []protocol
	instance   *string
	version    int16
	session    int32
	rebalance  int32
	id         string
	generation int32
	joined     *joinAnswer // the last answer, nil while parked
	synced     *syncAnswer
	joins      int // answers
	syncs      int
}

var testGroup = groupKey{"default", "g"}

func (d *driver) client(name string) *client {
	return &client{
		d: d, key: testGroup, typ: consumerType, version: 9, session: 10_000, rebalance: 60_000, generation: -1,
		protocols: []protocol{{"range", subscribe("topic")}, {"roundrobin", subscribe("topic")}},
	}
}

// subscribe is a consumer's metadata.
func subscribe(topics ...string) []byte {
	b := []byte{0, 0, 0, 0, 0, byte(len(topics))}
	for _, t := range topics {
		b = append(b, byte(len(t)>>8), byte(len(t)))
		b = append(b, t...)
	}
	return append(b, 255, 255, 255, 255)
}

func (c *client) join() *client {
	c.joined = nil
	c.d.event(func(m *machine) {
		m.join(&joinRequest{
			key: c.key, version: c.version, memberID: c.id, instance: c.instance, clientID: "client", clientHost: "/h",
			protocolType: c.typ, protocols: c.protocols, rebalanceTimeout: c.rebalance, sessionTimeout: c.session,
			done: func(a joinAnswer) {
				c.joins++
				c.joined = &a
				if a.code == wire.None || a.code == wire.MemberIDRequired {
					c.id = a.memberID
				}
				if a.code == wire.None {
					c.generation = a.generation
				}
			},
		})
	})
	return c
}

// enter joins with a member id of its own.
func (c *client) enter() *client {
	c.join()
	if c.joined != nil && c.joined.code == wire.MemberIDRequired {
		c.join()
	}
	return c
}

func (c *client) sync(assignments map[string]string) *client {
	c.synced = nil
	r := &syncRequest{
		key: c.key, generation: c.generation, memberID: c.id, instance: c.instance, assignments: map[string][]byte{},
		done: func(a syncAnswer) { c.syncs++; c.synced = &a },
	}
	for id, a := range assignments {
		r.assignments[id] = []byte(a)
	}
	c.d.event(func(m *machine) { m.sync(r) })
	return c
}

func (c *client) beat() (code wire.Code) {
	c.d.event(func(m *machine) { code = m.heartbeat(c.key, c.id, c.instance, c.generation) })
	return code
}

func (c *client) leave() (code wire.Code) {
	c.d.event(func(m *machine) { code = m.leave(c.key, []leaver{{memberID: c.id, instance: c.instance}})[0] })
	return code
}

func (c *client) commit(topic string, partition int32, offset int64) *wire.Code {
	return c.d.commit(&commitRequest{
		key: c.key, version: 9, generation: c.generation, memberID: c.id, instance: c.instance, retention: -1,
		topics: []topicOffsets{{name: topic, id: idOf(topic), partitions: []partitionOffset{{partition, offset, -1, "m"}}}},
	})
}

func idOf(topic string) (id [16]byte) {
	copy(id[:], topic)
	return id
}

// commit returns nil in *code while it waits for the log.
func (d *driver) commit(r *commitRequest) *wire.Code {
	var code *wire.Code
	holder := &code
	d.event(func(m *machine) { m.commit(r, func(c wire.Code) { *holder = &c }) })
	return *holder
}

func (c *client) wantJoin(code wire.Code) *client {
	c.d.t.Helper()
	if c.joined == nil {
		c.d.t.Fatalf("JoinGroup of %q is parked, want %v", c.id, code)
	}
	if c.joined.code != code {
		c.d.t.Fatalf("JoinGroup of %q: %v, want %v", c.id, c.joined.code, code)
	}
	return c
}

func (c *client) wantSync(code wire.Code, assignment string) *client {
	c.d.t.Helper()
	if c.synced == nil {
		c.d.t.Fatalf("SyncGroup of %q is parked, want %v", c.id, code)
	}
	if c.synced.code != code || string(c.synced.assignment) != assignment {
		c.d.t.Fatalf("SyncGroup of %q: %v %q, want %v %q", c.id, c.synced.code, c.synced.assignment, code, assignment)
	}
	return c
}

func (c *client) wantParked() *client {
	c.d.t.Helper()
	if c.joined != nil {
		c.d.t.Fatalf("JoinGroup of %q: %v, want parked", c.id, c.joined.code)
	}
	return c
}

func (d *driver) wantState(s state) {
	d.t.Helper()
	g := d.m.groups[testGroup]
	if g == nil {
		d.t.Fatalf("no group, want %v", s)
	}
	if g.state != s {
		d.t.Fatalf("group is %v, want %v", g.state, s)
	}
}

// stable makes a group of n members that is stable.
func (d *driver) stable(n int) []*client {
	d.t.Helper()
	var all []*client
	for range n {
		all = append(all, d.client("").enter().wantParked())
	}
	d.pass(3000 * int64(n+1))
	d.spread(all)
	return all
}

// spread has all that joined synced, the leader first.
func (d *driver) spread(all []*client) {
	d.t.Helper()
	assignments := map[string]string{}
	var leader *client
	for _, c := range all {
		c.wantJoin(wire.None)
		assignments[c.id] = "a" + c.id
		if c.joined.leader == c.id {
			leader = c
		}
	}
	if leader == nil {
		d.t.Fatal("no leader")
	}
	leader.sync(assignments)
	for _, c := range all {
		if c != leader {
			c.sync(nil)
		}
		c.wantSync(wire.None, "a"+c.id)
	}
	d.wantState(stateStable)
}

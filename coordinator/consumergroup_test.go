package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/braidstream/braid/wire"
)

// beater is a member that speaks the consumer protocol, as a client sees it.
type beater struct {
	d        *driver
	id       string
	instance *string
	topics   []string
	regex    *string
	assignor *string
	epoch    int32
	owned    assignment
	answers  int
	last     *consumerAnswer
}

func (d *driver) beater(id string, topics ...string) *beater {
	return &beater{d: d, id: id, topics: topics, owned: assignment{}}
}

func (b *beater) request() *consumerBeat {
	r := &consumerBeat{
		key: testGroup, memberID: b.id, epoch: b.epoch, instance: b.instance, clientID: "client", clientHost: "/h", rebalance: 60_000,
		topics: slices.Sorted(slices.Values(b.topics)), hasTopics: b.topics != nil, regex: b.regex, assignor: b.assignor,
	}
	owned := maps.Clone(b.owned)
	r.owned = &owned
	if b.regex != nil {
		_, r.badRegex = compileTopicRegex(*b.regex)
	}
	r.done = func(a consumerAnswer) { b.take(a, r.epoch) }
	return r
}

// take does what a client does with an answer: it gives up at once what it shall not
// have any more.
func (b *beater) take(a consumerAnswer, asked int32) {
	b.answers++
	b.last = &a
	switch a.code {
	case wire.None:
	case wire.UnknownMemberID, wire.FencedMemberEpoch, wire.GroupIDNotFound, wire.FencedInstanceID:
		b.epoch, b.owned = 0, assignment{}
		return
	default:
		return
	}
	if asked < 0 {
		b.owned = assignment{}
		return
	}
	b.epoch = a.epoch
	if a.tell {
		b.owned = assignment{}
		for topic, all := range a.assigned {
			for _, p := range all {
				b.owned[topic] = append(b.owned[topic], p.partition)
			}
		}
	}
}

func (b *beater) send(r *consumerBeat) *beater {
	b.last = nil
	if exprs := b.d.m.unresolved(r); len(exprs) > 0 {
		r.resolved = b.d.resolve(exprs)
	}
	b.d.event(func(m *machine) { m.consumerHeartbeat(r) })
	return b
}

// resolve does for the driver what a coordinator does.
func (d *driver) resolve(exprs []string) map[string]*resolvedRegex {
	out := map[string]*resolvedRegex{}
	for _, expr := range exprs {
		r := &resolvedRegex{at: d.m.now, version: d.topics.version("")}
		if re, err := compileTopicRegex(expr); err == nil {
			for name := range d.topics.topics {
				if re.MatchString(name) {
					r.topics = append(r.topics, name)
				}
			}
		}
		slices.Sort(r.topics)
		out[expr] = r
	}
	return out
}

func (b *beater) beat() *beater {
	if b.epoch == 0 {
		b.owned = assignment{}
	}
	return b.send(b.request())
}

func (b *beater) leave(epoch int32) *beater {
	r := b.request()
	r.epoch = epoch
	b.send(r)
	if b.last != nil && b.last.code == wire.None {
		b.epoch = 0
	}
	return b
}

func (b *beater) want(code wire.Code) *beater {
	b.d.t.Helper()
	if b.last == nil {
		b.d.t.Fatalf("heartbeat of %s is not answered, want %v", b.id, code)
	}
	if b.last.code != code {
		b.d.t.Fatalf("heartbeat of %s: %v %s, want %v", b.id, b.last.code, b.last.message, code)
	}
	return b
}

// has checks what the member owns: "topic-0 topic-1", and its epoch.
func (b *beater) has(epoch int32, want string) *beater {
	b.d.t.Helper()
	if got := b.d.names(b.owned); got != want || b.epoch != epoch {
		b.d.t.Fatalf("%s has %q at epoch %d, want %q at %d", b.id, got, b.epoch, want, epoch)
	}
	return b
}

func (d *driver) names(a assignment) string {
	var all []string
	for topic, partitions := range a {
		name, _ := d.topics.name(topic)
		for _, p := range partitions {
			all = append(all, fmt.Sprintf("%s-%d", name, p))
		}
	}
	slices.Sort(all)
	out := ""
	for i, s := range all {
		if i > 0 {
			out += " "
		}
		out += s
	}
	return out
}

func (d *driver) consumers() *consumerGroup {
	d.t.Helper()
	g := d.m.groups[testGroup]
	if g == nil || g.consumer == nil {
		d.t.Fatal("no consumer group")
	}
	return g.consumer
}

func (d *driver) wantConsumer(state string, epoch int32) {
	d.t.Helper()
	if c := d.consumers(); c.name() != state || c.epoch != epoch {
		d.t.Fatalf("group is %s at epoch %d, want %s at %d", c.name(), c.epoch, state, epoch)
	}
}

func newConsumerDriver(t testing.TB, config Config, topics map[string]int32) *driver {
	d := newDriver(t, config)
	for name, n := range topics {
		d.topics.set(name, n)
	}
	return d
}

func TestConsumerRevokesBeforeAssigning(t *testing.T) {
	d := newConsumerDriver(t, Config{}, map[string]int32{"a": 4})
	x, y := d.beater("x", "a"), d.beater("y", "a")
	x.beat().want(wire.None).has(2, "a-0 a-1 a-2 a-3")
	d.wantConsumer("Stable", 2)
	y.beat().want(wire.None).has(3, "") // nothing is free yet
	d.wantConsumer("Reconciling", 3)
	y.beat().has(3, "")
	x.beat().has(2, "a-0 a-1") // told to give up two, and stays at its epoch until it has
	y.beat().has(3, "")
	x.beat().has(3, "a-0 a-1")
	y.beat().has(3, "a-2 a-3")
	d.wantConsumer("Stable", 3)
	if x.beat(); x.last.tell && len(x.owned) == 0 {
		t.Error("a steady member was told nothing")
	}
}

func TestConsumerThatDoesNotRevokeIsFenced(t *testing.T) {
	d := newConsumerDriver(t, Config{}, map[string]int32{"a": 2})
	x, y := d.beater("x", "a"), d.beater("y", "a")
	x.beat().has(2, "a-0 a-1")
	y.beat()
	// x lives, and says that it still has both.
	both := maps.Clone(x.owned)
	for range 13 {
		d.pass(5000)
		x.owned = both
		x.beat()
		y.beat()
	}
	x.want(wire.UnknownMemberID)
	if y.beat(); d.names(y.owned) != "a-0 a-1" {
		t.Fatalf("y has %s", d.names(y.owned))
	}
}

func TestConsumerSessionTimeout(t *testing.T) {
	d := newConsumerDriver(t, Config{}, map[string]int32{"a": 2})
	x, y := d.beater("x", "a"), d.beater("y", "a")
	x.beat()
	y.beat()
	for range 10 {
		d.pass(5000)
		y.beat()
	}
	y.has(4, "a-0 a-1")
	x.beat().want(wire.UnknownMemberID)
	x.beat().want(wire.None)
	d.pass(60_000)
	d.wantConsumer("Empty", 7)
}

func TestConsumerFencing(t *testing.T) {
	d := newConsumerDriver(t, Config{ConsumerMaxSize: 2}, map[string]int32{"a": 2})
	x := d.beater("x", "a")
	x.epoch = 4
	x.beat().want(wire.GroupIDNotFound)
	x.beat().want(wire.None)
	stranger := d.beater("s", "a")
	stranger.epoch = 2
	stranger.beat().want(wire.UnknownMemberID)
	d.beater("y", "a").beat().want(wire.None)
	d.beater("z", "a").beat().want(wire.GroupMaxSizeReached)
	x.epoch = 10
	x.beat().want(wire.FencedMemberEpoch)
	x.beat().want(wire.None)
	x.beat().beat().has(3, "a-0")
	// The answer that gave it its epoch was lost.
	x.epoch = 2
	x.beat().want(wire.None).has(3, "a-0")
	// But not if it has what it was not assigned.
	x.epoch, x.owned = 2, assignment{idOf("a"): {0, 1}}
	x.beat().want(wire.FencedMemberEpoch)
	bad := d.beater("x", "a")
	bad.regex = str("(")
	bad.beat().want(wire.InvalidRegularExpression)
}

func TestConsumerStaticMember(t *testing.T) {
	d := newConsumerDriver(t, Config{}, map[string]int32{"a": 2})
	x, y := d.beater("x", "a"), d.beater("y", "a")
	x.instance, y.instance = str("i1"), str("i2")
	for range 4 {
		x.beat()
		y.beat()
	}
	x.has(3, "a-0")
	again := d.beater("x2", "a")
	again.instance = str("i1")
	again.beat().want(wire.UnreleasedInstanceID)
	x.leave(-2).want(wire.None)
	d.wantConsumer("Reconciling", 3)
	y.beat().has(3, "a-1")
	again.beat().want(wire.None).has(3, "a-0") // no rebalance
	d.wantConsumer("Stable", 3)
	x.epoch = 3
	x.beat().want(wire.FencedInstanceID)
	// Gone for longer than its session.
	again.leave(-2)
	for range 10 {
		d.pass(5000)
		y.beat()
	}
	y.has(4, "a-0 a-1")
	y.leave(-1).want(wire.None)
	d.wantConsumer("Empty", 5)
	unknown := d.beater("u", "a")
	unknown.leave(-1).want(wire.UnknownMemberID)
}

func TestConsumerTopicGrowsMovesAndGoes(t *testing.T) {
	d := newConsumerDriver(t, Config{}, map[string]int32{"a": 1, "other": 3})
	x := d.beater("x", "a", "b")
	x.beat().has(2, "a-0")
	// Topics of no concern, and a move, change the version of the directory and nothing else.
	d.topics.set("other", 4)
	*d.topics.changes++
	written := len(d.log)
	x.beat().has(2, "a-0")
	if len(d.log) != written {
		t.Error("the group wrote something when a topic moved")
	}
	d.topics.set("a", 2)
	x.beat().has(3, "a-0 a-1")
	d.topics.set("b", 1)
	x.beat().has(4, "a-0 a-1 b-0")
	d.topics.set("a", 0)
	x.beat()
	x.beat().has(5, "b-0")
	d.wantConsumer("Stable", 5)
	// A new owner sees the same topics: no rebalance.
	n := d.successor()
	x.d = n
	x.beat().has(5, "b-0")
	n.wantConsumer("Stable", 5)
}

func TestConsumerRegex(t *testing.T) {
	d := newConsumerDriver(t, Config{}, map[string]int32{"foo-1": 1, "foo-2": 1, "bar": 1, "xfoo-1": 1})
	x, y := d.beater("x"), d.beater("y", "bar")
	x.topics, x.regex = []string{}, str("foo-[0-9]+")
	x.beat().want(wire.None).has(2, "foo-1-0 foo-2-0")
	y.beat().has(3, "bar-0")
	x.beat().has(3, "foo-1-0 foo-2-0")
	d.topics.set("foo-3", 1)
	x.beat().has(3, "foo-1-0 foo-2-0")
	d.pass(10_000)
	x.beat().has(4, "foo-1-0 foo-2-0 foo-3-0")
	n := d.successor()
	x.d = n
	x.beat().has(4, "foo-1-0 foo-2-0 foo-3-0")
	n.topics.set("foo-4", 1)
	x.beat()
	n.pass(10_000)
	x.beat().has(5, "foo-1-0 foo-2-0 foo-3-0 foo-4-0")
	// Another subscription takes effect at once; partitions are given up first.
	x.topics, x.regex = []string{"bar"}, str("")
	x.beat()
	if got := n.names(x.owned); got != "" {
		t.Fatalf("x has %s", got)
	}
	for range 3 {
		y.d = n
		x.beat()
		y.beat()
	}
	if len(n.consumers().regexes) != 0 {
		t.Error("an expression without subscribers was kept")
	}
}

func TestRegexIsBounded(t *testing.T) {
	for _, expr := range []string{"(", "(?P<", "a{1001}", "((a{100}){100}){100}", "(a{900}|b{900}|c{900}|d{900}|e{900})"} {
		if _, err := compileTopicRegex(expr); err == nil {
			t.Errorf("%s is taken", expr)
		}
	}
	if re, err := compileTopicRegex("a|ab"); err != nil || !re.MatchString("ab") || re.MatchString("abc") || re.MatchString("xa") {
		t.Error("the whole name has to match", err)
	}
}

func TestConsumerCommitsAndFetches(t *testing.T) {
	d := newConsumerDriver(t, Config{}, map[string]int32{"a": 2})
	x, y := d.beater("x", "a"), d.beater("y", "a")
	x.beat()
	commit := func(member string, epoch int32, version int16, partition int32) wire.Code {
		t.Helper()
		return *d.commit(&commitRequest{key: testGroup, version: version, generation: epoch, memberID: member, retention: -1,
			topics: []topicOffsets{{name: "a", id: idOf("a"), partitions: []partitionOffset{{partition, 7, -1, ""}}}}})
	}
	check := func(got, want wire.Code) {
		t.Helper()
		if got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	check(commit("x", 2, 9, 0), wire.None)
	check(commit("x", 2, 8, 0), wire.UnsupportedVersion)
	check(commit("x", 3, 9, 0), wire.StaleMemberEpoch)
	check(commit("", -1, 9, 0), wire.UnknownMemberID)
	check(commit("s", 2, 9, 0), wire.UnknownMemberID)
	y.beat()
	x.beat() // gives a-1 up
	check(commit("x", 2, 9, 1), wire.None)
	x.beat()
	y.beat().has(3, "a-1")
	check(commit("x", 3, 9, 0), wire.None)
	check(commit("x", 2, 9, 0), wire.None) // has had it since epoch 2
	check(commit("x", 2, 9, 1), wire.StaleMemberEpoch)
	check(commit("y", 2, 9, 1), wire.StaleMemberEpoch)
	g := d.m.groups[testGroup]
	check(g.checkConsumerFetch(nil, -1), wire.None)
	check(g.checkConsumerFetch(str("x"), 3), wire.None)
	check(g.checkConsumerFetch(str("x"), 2), wire.StaleMemberEpoch)
	check(g.checkConsumerFetch(str("s"), 2), wire.UnknownMemberID)
	if code := d.m.deleteGroup(testGroup); code != wire.NonEmptyGroup {
		t.Error(code)
	}
	if codes, code := d.m.deleteOffsets(testGroup, []topicPartitions{{"a", []int32{0}}}); code != wire.None || codes[0] != wire.GroupSubscribedToTopic {
		t.Error(codes, code)
	}
	x.leave(-1)
	y.leave(-1)
	check(commit("", -1, 9, 0), wire.None)
	// Offsets of an empty group expire from the commit on.
	d.pass((7*24*time.Hour + 20*time.Minute).Milliseconds())
	if d.m.groups[testGroup] != nil {
		t.Error("an empty group outlived its offsets")
	}
}

func TestConsumerAssignorsAndInterval(t *testing.T) {
	d := newConsumerDriver(t, Config{ConsumerAssignmentInterval: time.Second}, map[string]int32{"a": 4, "b": 4})
	x, y := d.beater("x", "a", "b"), d.beater("y", "a", "b")
	x.assignor, y.assignor = str("range"), str("range")
	x.beat()
	y.beat().has(2, "") // the next target is not before a second has passed
	d.wantConsumer("Assigning", 3)
	d.pass(1000)
	for range 3 {
		y.beat()
		x.beat()
	}
	x.has(3, "a-0 a-1 b-0 b-1")
	y.has(3, "a-2 a-3 b-2 b-3")
	if got := d.m.assignorOf(d.consumers()); got != "range" {
		t.Error(got)
	}
}

func TestSubscriptionParsers(t *testing.T) {
	b := appendConsumerAssignment(nil, []byte{0, 1}, map[string][]int32{"a": {0, 2}, "b": {1}})
	owned, userData, ok := parseConsumerAssignment(b)
	if !ok || len(userData) > 0 || !slices.Equal(owned["a"], []int32{0, 2}) || !slices.Equal(owned["b"], []int32{1}) {
		t.Fatal(owned, userData, ok)
	}
	for n := range b {
		if _, _, ok := parseConsumerAssignment(b[:n]); ok && n < len(b)-4 {
			t.Errorf("cut at %d is taken", n)
		}
	}
	if s, ok := parseConsumerSubscription(subscribe("t")); !ok || !slices.Equal(s.topics, []string{"t"}) {
		t.Error(s, ok)
	}
}

package gateway

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	client "github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// shownOf is what each key shows the one whose it is: the walk that finds none of it with others finds
// all of it here, so it is known to see. What is missing has nothing in its answers but codes,
// what was asked, and what is drawn for the answer.
var shownOf = map[int16][]string{
	keyFetch:                   {"record", "epoch"},
	keyListOffsets:             {"epoch"},
	keyMetadata:                {"topic", "topic id", "epoch", "cluster id", "address of gateway 0", "address of gateway 1"},
	keyOffsetFetch:             {"metadata", "topic"},
	keyFindCoordinator:         {"address of gateway 0", "address of gateway 1"},
	keySyncGroup:               {"topic"},
	keyDescribeGroups:          {"client id", "client host", "instance", "member", "topic"},
	keyListGroups:              {"group", "modern group"},
	keyDeleteTopics:            {"topic to delete"},
	keyInitProducerID:          {"producer id"},
	keyDescribeACLs:            {"resource of an ACL", "principal of an ACL", "host of an ACL"},
	keyDeleteACLs:              {"resource of an ACL", "principal of an ACL", "host of an ACL"},
	keyDescribeConfigs:         {"config of a topic", "config of a group"},
	keyDescribeLogDirs:         {"topic", "topic to delete"},
	keyDescribeUserScram:       {"user"},
	keyDescribeClientQuotas:    {"user", "quota"},
	keyDescribeCluster:         {"cluster id", "address of gateway 0", "address of gateway 1"},
	keyDescribeProducers:       {"producer id"},
	keyDescribeTransactions:    {"producer id", "topic"},
	keyListTransactions:        {"transactional id", "producer id"},
	keyConsumerGroupHeartbeat:  {"topic id"},
	keyConsumerGroupDescribe:   {"modern member", "client id", "client host", "topic", "topic id"},
	keyListConfigResources:     {"topic", "group"},
	keyDescribeTopicPartitions: {"topic", "topic id", "epoch"},
}

// TestLeakMatrix: in every key and every version, through either gateway, unasked or signed on, one
// tenant asks about what is its own, in ways that make no sense, and by each name and id of
// another's. Nothing of the other is in any answer, and what is another's is answered, to the byte,
// like what never was; the other is as it was. Outsiders are told less. Then the other asks
// the same, and is shown what was looked for.
func TestLeakMatrix(t *testing.T) {
	t.Parallel()
	p := newPlantedFleet(t)
	var onlookers, all []*walker
	for i := range p.gateways {
		for _, signed := range []bool{false, true} {
			onlookers = append(onlookers, &walker{p: p, tenant: otherTenant, gateway: i, signed: signed})
		}
		all = append(all, p.outsider(t, i))
	}
	all = append(all, onlookers...)
	for _, w := range onlookers {
		w.askWell(p.own.names)
	}
	for _, w := range onlookers {
		w.askBadly(p.own.names)
		w.askUnserved()
	}
	for _, w := range onlookers {
		w.made = []string{p.planted.names.topic, p.planted.names.group, p.planted.names.modern, p.planted.names.txn, p.planted.names.user, p.planted.names.instance, p.planted.names.modernMember}
		w.compare(t)
	}
	for _, w := range onlookers {
		w.make(t)
	}
	for _, w := range onlookers {
		w.leave()
	}
	if err := p.unharmed(t.Context()); err != nil {
		t.Errorf("after the walk: %v", err)
	}
	p.count(t, all)
	p.control(t)
}

// outsider asks without signing on, then signs on with what is wrong.
func (p *plantedFleet) outsider(t *testing.T, gateway int) *walker {
	t.Helper()
	w := &walker{p: p, gateway: gateway, nobody: true}
	defer w.leave()
	w.each(func(a api, empty func() kmsg.Request) {
		req := filled(t, empty(), p.planted.names)
		if answer := w.send(req); answer != nil && !signsOn(a.key) {
			t.Errorf("%s: %s version %d is answered", w.who(), apiName(a.key), req.GetVersion())
		}
		w.leave()
		w.scan(apiName(a.key), "a cut "+apiName(a.key), nil, w.disturb(cut(wire.AppendRequest(nil, 1, []byte("outsider"), req), 1, 2), false))
		w.toldOf(a.key, req.GetVersion()).malformed++
	})
	// Each mechanism by names that are, and that are not: by the first as by the last the same is told.
	a, n := &p.planted.names, &p.never
	for _, mechanism := range mechanisms {
		var first []byte
		for _, user := range []string{n.user + "@" + n.tenant, n.user, a.user, a.user + "@" + a.tenant, n.user + "@" + a.tenant, a.user + "@" + otherTenant} {
			var m client.Mechanism
			switch mechanism {
			case "PLAIN":
				m = plain.Auth{User: user, Pass: "guess"}.AsMechanism()
			case "SCRAM-SHA-256":
				m = scram.Auth{User: user, Pass: "guess"}.AsSha256Mechanism()
			default:
				m = scram.Auth{User: user, Pass: "guess"}.AsSha512Mechanism()
			}
			said := w.guess(t, m)
			if first == nil {
				first = said
			}
			if string(first) != string(said) {
				t.Errorf("%s: %s by %s:\n%q, where nobody is told\n%q", w.who(), user, mechanism, said, first)
			}
		}
	}
	// Who has the right password is answered by each version, which shows that such answers are looked at.
	for v := int16(0); v <= 2; v++ {
		w.send(withVersion(&kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"}, 1))
		token := withVersion(kmsg.NewPtrSASLAuthenticateRequest(), v)
		token.SASLAuthBytes = []byte("\x00own-user@" + otherTenant + "\x00" + ownPassword)
		w.send(token)
		w.leave()
	}
	return w
}

// guess signs on with a mechanism and returns all that was answered, without the nonces and salts, which
// are of one length.
func (w *walker) guess(t *testing.T, m client.Mechanism) (said []byte) {
	t.Helper()
	defer w.leave()
	w.asked(withVersion(&kmsg.SASLHandshakeRequest{Mechanism: m.Name()}, 1))
	session, message, err := m.Authenticate(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for {
		token := withVersion(kmsg.NewPtrSASLAuthenticateRequest(), 2)
		token.SASLAuthBytes = message
		resp := w.asked(token).(*kmsg.SASLAuthenticateResponse)
		challenge := string(resp.SASLAuthBytes)
		if resp.ErrorCode == 0 {
			done, next, err := session.Challenge(resp.SASLAuthBytes)
			if err != nil || done {
				t.Fatalf("signed on by a guess: %t, %v", done, err)
			}
			message = next
			var masked []string
			for _, part := range strings.Split(challenge, ",") {
				if strings.HasPrefix(part, "r=") || strings.HasPrefix(part, "s=") {
					part = part[:2] + strings.Repeat("x", len(part)-2)
				}
				masked = append(masked, part)
			}
			challenge = strings.Join(masked, ",")
		}
		code := resp.ErrorCode
		resp.SASLAuthBytes = []byte(challenge)
		said = resp.AppendTo(said)
		if code != 0 {
			if after := w.exchange(wire.AppendRequest(nil, 9, nil, withVersion(kmsg.NewPtrMetadataRequest(), 9))); after != nil {
				t.Errorf("%s is answered after it failed to sign on", w.who())
			}
			return said
		}
	}
}

// askWell asks each key in each version about what is the walker's own, as it is answered without an error, in each other
// way, and with everything empty.
func (w *walker) askWell(own askedNames) {
	w.p.tb.Helper()
	w.each(func(a api, empty func() kmsg.Request) {
		if !slices.Contains(parting, a.key) {
			for _, v := range append([]variant{{}}, variants[a.key]...) {
				w.send(v.of(w.p.tb, empty(), own))
			}
		}
		req := filled(w.p.tb, empty(), own)
		if edit := well[a.key]; edit != nil {
			edit(w, own, req)
		}
		answer := w.settled(req)
		if answer != nil && a.key == keyJoinGroup {
			w.part(req, answer)
		}
		bare := empty()
		if d, ok := bare.(interface{ Default() }); ok {
			d.Default()
		}
		if produce, ok := bare.(*kmsg.ProduceRequest); ok {
			produce.Acks = 1 // else there is no answer
		}
		w.send(bare)
	})
}

// parting are the keys by which one's own would be taken away, held up, or written over.
var parting = []int16{keyOffsetCommit, keyJoinGroup, keyLeaveGroup, keyDeleteTopics}

func (v variant) of(tb testing.TB, req kmsg.Request, n askedNames) kmsg.Request {
	tb.Helper()
	if v.names != nil {
		n = v.names(n)
	}
	filled(tb, req, n)
	if v.edit != nil {
		v.edit(req, n)
	}
	return req
}

// part takes out of a group who has just come in, so that nobody waits for it.
func (w *walker) part(req kmsg.Request, answer []byte) {
	joined, resp := req.(*kmsg.JoinGroupRequest), w.decoded(req, answer).(*kmsg.JoinGroupResponse)
	leave := withVersion(kmsg.NewPtrLeaveGroupRequest(), 3)
	leave.Group = joined.Group
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = resp.MemberID
	if resp.ErrorCode == 0 && joined.Version >= 5 {
		m.InstanceID = joined.InstanceID
	}
	leave.Members = append(leave.Members, m)
	w.asked(leave)
}

// pieces of a request are cut off, and as many bytes of it turned.
const pieces = 5

func cut(frame []byte, part, of int) []byte {
	b := slices.Clone(frame[:4+(len(frame)-4)*part/of])
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// askBadly sends what is no request, or is one by accident, of each key in each version.
func (w *walker) askBadly(own askedNames) {
	w.p.tb.Helper()
	w.leave()
	w.each(func(a api, empty func() kmsg.Request) {
		n := own
		if slices.Contains(parting, a.key) {
			n.topic, n.id, n.group = n.topic+".bad", [16]byte{1}, n.group+"-bad"
		}
		req := filled(w.p.tb, empty(), n)
		frame := wire.AppendRequest(nil, w.corr, []byte("onlooker"), req)
		waits := a.key == keyFetch || a.key == keyJoinGroup || a.key == keySyncGroup
		for i := 1; i <= pieces; i++ {
			short := cut(frame, i, pieces+1)
			w.scan(apiName(a.key), "a cut "+apiName(a.key), short, w.disturb(short, false))
			turned := slices.Clone(frame)
			turned[8+(len(turned)-8)*i/(pieces+1)] ^= byte(1 << (i % 8))
			w.scan(apiName(a.key), "a turned "+apiName(a.key), slices.Concat(turned, frame), w.disturb(turned, waits))
			w.told(req).malformed += 2
		}
	})
}

// askUnserved sends requests of keys, and of versions, that are not served, those of telemetry among them.
func (w *walker) askUnserved() {
	w.p.tb.Helper()
	for key := int16(-1); key < maxKey; key++ {
		known := kmsg.RequestForKey(key)
		served := w.p.gateways[w.gateway].apis.find(key)
		if known == nil || key == keyApiVersions {
			continue
		}
		for v := int16(0); v <= known.MaxVersion()+1; v++ {
			if served != nil && v >= served.min && v <= served.max {
				continue
			}
			frame := binary.BigEndian.AppendUint32(nil, 14)
			frame = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(frame, uint16(key)), uint16(v))
			frame = append(binary.BigEndian.AppendUint32(frame, 7), 0xff, 0xff, 0, 0, 0, 0)
			if answer := w.exchange(frame); answer != nil {
				w.p.tb.Errorf("%s: key %d version %d is not served, and answered: %x", w.who(), key, v, answer)
			}
		}
	}
}

// passing are codes of a moment, in which groups and transactions change hands.
var passing = []wire.Code{wire.CoordinatorNotAvailable, wire.CoordinatorLoadInProgress, wire.NotCoordinator, wire.ConcurrentTransactions}

// pair asks one way for what never was, and for the same of what is another's. Where the answers differ it asks
// again, as often as it may: what differs once is a member whose session ends, or a shard that
// changes hands, between the two.
func (w *walker) pair(t *testing.T, v variant, a api, empty func() kmsg.Request, again int) {
	t.Helper()
	for {
		var answers [][]byte
		moved := false
		for _, n := range []askedNames{w.p.never, w.p.planted.names} {
			req := v.of(t, empty(), n)
			answer := w.send(req)
			if answer != nil {
				moved = moved || slices.Contains(passing, wire.Code(complaint(reflect.ValueOf(w.decoded(req, answer)))))
				if a.key == keyJoinGroup {
					w.part(req, answer)
				}
			}
			answers = append(answers, w.judged(t, req, answer))
		}
		if string(answers[0]) == string(answers[1]) {
			return
		}
		if again--; again < 0 && !moved || again < -1000 {
			t.Errorf("%s: %s version %d %s tells what is another's from what is not there:\n%q\nand\n%q", w.who(), apiName(a.key), empty().GetVersion(), v.name, answers[1], answers[0])
			return
		}
	}
}

// compare asks for what never was, and for the same of what is another's, in every way.
func (w *walker) compare(t *testing.T) {
	t.Helper()
	w.each(func(a api, empty func() kmsg.Request) {
		for _, v := range append([]variant{{}}, variants[a.key]...) {
			w.pair(t, v, a, empty, 3)
		}
	})
	// By ids alone, with names that are the walker's own.
	w.each(func(a api, empty func() kmsg.Request) {
		for _, v := range append([]variant{{}}, variants[a.key]...) {
			if v.name == "joins" || v.name == "as a new one" || a.key == keyJoinGroup && v.name != "" || a.key == keyProduce && strings.HasPrefix(v.name, "of the") {
				continue // changes what is its own
			}
			inner := v.names
			v.name += " by another's ids"
			v.names = func(n askedNames) askedNames {
				mixed := w.p.own.names
				mixed.id, mixed.producer, mixed.producerEpoch, mixed.member, mixed.modernMember, mixed.instance = n.id, n.producer, n.producerEpoch, n.member, n.modernMember, n.instance
				mixed.generation, mixed.cluster = n.generation, n.cluster
				if slices.Contains(parting, a.key) {
					mixed.topic, mixed.group = w.p.never.topic, w.p.never.group
				}
				if inner != nil {
					mixed = inner(mixed)
				}
				return mixed
			}
			if string(v.of(t, empty(), w.p.never).AppendTo(nil)) != string(v.of(t, empty(), w.p.planted.names).AppendTo(nil)) {
				w.pair(t, v, a, empty, 3)
			}
		}
	})
}

// make makes what never was, and what another has, for the walker's own tenant.
func (w *walker) make(t *testing.T) {
	t.Helper()
	w.each(func(a api, empty func() kmsg.Request) {
		for _, v := range making[a.key] {
			w.pair(t, v, a, empty, 0)
		}
	})
}

// count prints how much was said of what, and fails where a walk has looked at nothing.
func (p *plantedFleet) count(t *testing.T, walkers []*walker) {
	t.Helper()
	var b strings.Builder
	sum := tally{}
	for _, a := range p.gateways[0].apis.list {
		of := tally{}
		for v := a.min; v <= a.max; v++ {
			one := tally{}
			for _, w := range walkers {
				k := w.toldOf(a.key, v)
				one.answers, one.well, one.malformed, one.closed = one.answers+k.answers, one.well+k.well, one.malformed+k.malformed, one.closed+k.closed
			}
			if one.answers == 0 || one.malformed == 0 || one.well == 0 {
				t.Errorf("%s version %d: %d answers, %d without an error, %d malformed requests", apiName(a.key), v, one.answers, one.well, one.malformed)
			}
			of.answers, of.well, of.malformed, of.closed = of.answers+one.answers, of.well+one.well, of.malformed+one.malformed, of.closed+one.closed
		}
		fmt.Fprintf(&b, "\n%-30s %2d to %2d  %5d answers, %5d without an error, %4d malformed, %3d closed", apiName(a.key), a.min, a.max, of.answers, of.well, of.malformed, of.closed)
		sum.answers, sum.well, sum.malformed, sum.closed = sum.answers+of.answers, sum.well+of.well, sum.malformed+of.malformed, sum.closed+of.closed
	}
	t.Logf("%s\n%d answers, %d without an error, %d malformed requests, %d closed", b.String(), sum.answers, sum.well, sum.malformed, sum.closed)
}

// control has the planted tenant walk as the others did.
func (p *plantedFleet) control(t *testing.T) {
	t.Helper()
	n := p.planted.names
	if err := p.planted.client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := p.planted.client.ProduceSync(t.Context(), &kgo.Record{Topic: n.topic, Value: []byte("planted-record")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var owners []*walker
	for i := range p.gateways {
		w := &walker{p: p, tenant: plantedTenant, gateway: i, owner: true}
		owners = append(owners, w)
		p.joinModern(t.Context(), p.planted.client, &n)
		// Before what follows makes them anew.
		for _, key := range []int16{keyDescribeTransactions, keyConsumerGroupDescribe} {
			w.send(filled(t, kmsg.RequestForKey(key), ofModern(n)))
		}
	}
	for _, w := range owners {
		w.askWell(n)
	}
	found := map[string]map[string]bool{}
	for _, w := range owners { // and takes away what was looked for
		for v := int16(0); v <= 5; v++ {
			w.send(takesOver(v, n.txn))
		}
		byID := withVersion(kmsg.NewPtrDeleteTopicsRequest(), 6)
		byID.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: p.planted.doomed.ID}}
		w.send(byID)
		rules := withVersion(kmsg.NewPtrDeleteACLsRequest(), 3)
		rules.Filters = []kmsg.DeleteACLsRequestFilter{{ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1}}
		w.send(rules)
		w.leave()
		for key, names := range w.found {
			if found[key] == nil {
				found[key] = map[string]bool{}
			}
			maps.Copy(found[key], names)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(shownOf)) {
		for _, what := range shownOf[key] {
			if !found[apiName(key)][what] {
				t.Errorf("%s shows the one whose it is no %s, only %v: the walk looks past it", apiName(key), what, slices.Sorted(maps.Keys(found[apiName(key)])))
			}
		}
	}
	for key, names := range found {
		t.Logf("%s shows %v", key, slices.Sorted(maps.Keys(names)))
		for what := range names {
			if strings.Contains(what, "behind") || what == "tenant" || what == "display name" || strings.HasPrefix(what, "name of ") {
				t.Errorf("%s shows %s", key, what)
			}
		}
	}
}

func takesOver(v int16, txn string) *kmsg.InitProducerIDRequest {
	req := withVersion(kmsg.NewPtrInitProducerIDRequest(), v)
	req.TransactionalID, req.TransactionTimeoutMillis = &txn, 60_000
	return req
}

// Two tenants use the same names for everything at once.
func TestSameNamesInTwoTenants(t *testing.T) {
	t.Parallel()
	f := newFleet(t, func(c *fleetConfig) {
		c.listeners = []ListenerConfig{
			{Name: "one", Bind: "127.0.0.1:0", Security: Security{Tenant: "one"}},
			{Name: "two", Bind: "127.0.0.1:0", Security: Security{Tenant: "two"}},
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ids := map[string]bool{}
	type side struct {
		tenant string
		cl     *kgo.Client
	}
	var sides []side
	for _, tenant := range []string{"one", "two"} {
		if _, err := f.cat.CreateTenant(ctx, catalog.Tenant{Name: tenant}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.watcher.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		cl, err := kgo.NewClient(kgo.SeedBrokers(f.listenerAddr(0, tenant)), kgo.TransactionalID("t"), kgo.DefaultProduceTopic("orders"),
			kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("orders"), kgo.ConsumerGroup("billing"), kgo.RetryTimeout(patience))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.CloseAllowingRebalance()
		sides = append(sides, side{tenant, cl})
	}
	// Both transactions are open at once: the same id fences nobody of the other.
	for _, s := range sides {
		if err := s.cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := s.cl.ProduceSync(ctx, kgo.StringRecord("of "+s.tenant)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range sides {
		if err := s.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatalf("tenant %s: %v", s.tenant, err)
		}
	}
	for _, s := range sides {
		var got []string
		for len(got) == 0 {
			fs := s.cl.PollFetches(ctx)
			if err := fs.Err0(); err != nil {
				t.Fatal(err)
			}
			fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
		}
		if err := s.cl.CommitUncommittedOffsets(ctx); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0] != "of "+s.tenant {
			t.Errorf("tenant %s reads %q", s.tenant, got)
		}
		adm := kadm.NewClient(s.cl)
		groups, err := adm.ListGroups(ctx)
		if err != nil {
			t.Fatal(err)
		}
		txns, err := adm.ListTransactions(ctx, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		meta, err := adm.Metadata(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(groups) != 1 || len(txns) != 1 || len(meta.Brokers) != 1 || len(meta.Cluster) != 22 || ids[meta.Cluster] {
			t.Errorf("tenant %s sees groups %v, transactions %v, cluster %s with brokers %v", s.tenant, groups.Groups(), txns.TransactionalIDs(), meta.Cluster, meta.Brokers)
		}
		ids[meta.Cluster] = true
		id := meta.Topics["orders"].ID
		if ids[id.String()] {
			t.Error("both topics have one id")
		}
		ids[id.String()] = true
	}
	// What one deletes is there for the other.
	if resp, err := kadm.NewClient(sides[0].cl).DeleteTopics(ctx, "orders"); err != nil || resp["orders"].Err != nil {
		t.Fatal(err, resp)
	}
	if resp, err := kadm.NewClient(sides[1].cl).ListTopics(ctx); err != nil || resp["orders"].Err != nil || len(resp["orders"].Partitions) != 1 {
		t.Errorf("the other tenant's topic: %v, %v", resp, err)
	}
}

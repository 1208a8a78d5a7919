package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// The tenants of the leak matrix, and what is planted with the one that must not
// be seen. What the other one asks for has names of the same lengths, so that
// answers about what is there and is not its own can be compared with answers
// about what never was.
const (
	plantedTenant, otherTenant = "plantedcorp", "onlookers"
	plantedTopic, neverTopic   = "planted.topic.kumquat", "nowhere.topic.kumquat"
	plantedGroup, neverGroup   = "planted-group-tamarind", "nowhere-group-tamarind"
	plantedTxn, neverTxn       = "planted-txn-rambutan", "nowhere-txn-rambutan"
	plantedUser, neverUser     = "planted-user-durian", "nowhere-user-durian"
	plantedEpoch               = int32(0x5eed1234)
)

// plantedFleet has two tenants, each with a listener of its own on every gateway,
// and the planted one has something of every kind.
type plantedFleet struct {
	*fleet
	planted  catalog.Topic
	own      catalog.Topic
	clients  *kgo.Client
	secrets  map[string][]byte
	neverIDs [16]byte
}

func (f *fleet) listenerAddr(gateway int, name string) string {
	f.tb.Helper()
	for _, a := range f.gateways[gateway].Addrs() {
		if a.Name == name {
			return a.Advertise
		}
	}
	f.tb.Fatalf("no listener %s", name)
	return ""
}

func newPlantedFleet(t *testing.T) *plantedFleet {
	t.Helper()
	f := newFleet(t, func(c *fleetConfig) {
		c.listeners = []ListenerConfig{
			{Name: plantedTenant, Bind: "127.0.0.1:0", Security: Security{Tenant: plantedTenant}},
			{Name: otherTenant, Bind: "127.0.0.1:0", Security: Security{Tenant: otherTenant}},
		}
	})
	ctx := t.Context()
	p := &plantedFleet{fleet: f, secrets: map[string][]byte{}}
	for i := range p.neverIDs {
		p.neverIDs[i] = byte(0xa0 + i)
	}
	// So that the planted tenant's producer id is like no other number.
	if _, err := f.cat.ProducerIDs(ctx, 987_654); err != nil {
		t.Fatal(err)
	}
	f.admin.epoch = plantedEpoch
	for _, name := range []string{plantedTenant, otherTenant} {
		x, err := f.cat.CreateTenant(ctx, catalog.Tenant{Name: name, DisplayName: "Display of " + name})
		if err != nil {
			t.Fatal(err)
		}
		if name == plantedTenant {
			p.plant("cluster id", x.ClusterID)
		}
		if _, err := f.cat.PutUser(ctx, catalog.User{Tenant: name, Name: map[string]string{plantedTenant: plantedUser, otherTenant: "own-user"}[name],
			Credentials: map[string]catalog.Scram{"SCRAM-SHA-256": {Salt: []byte("salt"), StoredKey: []byte("key"), ServerKey: []byte("key"), Iterations: 4096}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.cat.PutGroupConfig(ctx, catalog.GroupConfig{Tenant: plantedTenant, Group: plantedGroup, Config: map[string]string{"consumer.session.timeout.ms": "51234"}}); err != nil {
		t.Fatal(err)
	}
	make := func(tenant, name string) catalog.Topic {
		topic, err := f.admin.CreateTopic(ctx, TopicSpec{Tenant: tenant, Name: name, Partitions: 2, Config: map[string]string{}})
		if err != nil {
			t.Fatal(err)
		}
		return topic
	}
	p.planted = make(plantedTenant, plantedTopic)
	f.admin.epoch = 7
	p.own = make(otherTenant, "own-topic")
	if _, err := f.watcher.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	f.awaitGroups()
	for _, s := range []string{plantedTenant, "Display of ", plantedTopic, plantedGroup, plantedTxn, plantedUser, "planted-client", "planted-instance",
		"physical", "planted-record", catalog.SystemTenant + ".", "51234"} {
		p.plant(s, s)
	}
	p.plant("topic id", string(p.planted.ID[:]))
	p.plant("epoch", string(binary.BigEndian.AppendUint32(nil, uint32(plantedEpoch))))
	for i := range f.gateways {
		addr := f.listenerAddr(i, plantedTenant)
		p.plant("address", addr)
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		p.plant("port of "+addr, string(binary.BigEndian.AppendUint32(nil, uint32(n))))
	}
	p.live()
	return p
}

func (p *plantedFleet) plant(what, secret string) { p.secrets[what] = []byte(secret) }

// live gives the planted tenant records, a transaction that is open, a group with
// a member and offsets.
func (p *plantedFleet) live() {
	t := p.tb
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.listenerAddr(0, plantedTenant)), kgo.ClientID("planted-client"), kgo.TransactionalID(plantedTxn),
		kgo.DefaultProduceTopic(plantedTopic), kgo.ConsumeTopics(plantedTopic), kgo.ConsumerGroup(plantedGroup), kgo.InstanceID("planted-instance"),
		kgo.TransactionTimeout(10*time.Minute), kgo.RetryTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.CloseAllowingRebalance)
	p.clients = cl
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, kgo.StringRecord("planted-record")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	for got := 0; got == 0; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatal(err)
		}
		got = fs.NumRecords()
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, kgo.StringRecord("planted-record open")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	id, _, err := cl.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p.plant("producer id", string(binary.BigEndian.AppendUint64(nil, uint64(id))))
	member, _ := cl.GroupMetadata()
	p.plant("member id", member)
}

// unharmed tells that the planted tenant's things are as they were.
func (p *plantedFleet) unharmed(ctx context.Context) error {
	if err := p.clients.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("the open transaction: %w", err)
	}
	adm := kadm.NewClient(p.clients)
	offsets, err := adm.FetchOffsets(ctx, plantedGroup)
	if err != nil {
		return err
	}
	n := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { n += o.At })
	if n == 0 {
		return fmt.Errorf("the group's offsets are gone: %v", offsets)
	}
	groups, err := adm.DescribeGroups(ctx, plantedGroup)
	if err != nil {
		return err
	}
	if g := groups[plantedGroup]; g.Err != nil || len(g.Members) != 1 {
		return fmt.Errorf("the group is %+v", g)
	}
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	if d := topics[plantedTopic]; d.Err != nil || len(d.Partitions) != 2 {
		return fmt.Errorf("the topic is %+v", d)
	}
	for name := range topics {
		if strings.Contains(name, "own") || strings.Contains(name, "nowhere") {
			return fmt.Errorf("it has the other's topic %s", name)
		}
	}
	return nil
}

// names are what a request of the matrix asks about.
type askedNames struct {
	topic, group, txn, user string
	id                      [16]byte
}

// filled makes a request whose lists have one entry and whose names are the given.
func filled(req kmsg.Request, n askedNames) kmsg.Request {
	if d, ok := req.(interface{ Default() }); ok {
		d.Default()
	}
	fillValue(reflect.ValueOf(req).Elem(), "", n, 0)
	return req
}

func fillValue(v reflect.Value, field string, n askedNames, depth int) {
	if depth > 8 {
		return
	}
	name := func() string {
		switch {
		case strings.Contains(field, "Topic"), field == "ResourceName", field == "Name":
			return n.topic
		case strings.Contains(field, "Group"), strings.HasPrefix(field, "CoordinatorKey"):
			return n.group
		case strings.Contains(field, "Transactional"), strings.Contains(field, "TxnID"):
			return n.txn
		case strings.Contains(field, "User"), strings.Contains(field, "Principal"), field == "Match":
			return n.user
		}
		return "x"
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Name == "Version" || f.Name == "UnknownTags" || f.Name == "ThrottleMillis" || !f.IsExported() {
				continue
			}
			below := f.Name
			if (f.Name == "Name" || f.Name == "Topics") && strings.Contains(v.Type().Name(), "Group") && f.Name == "Name" {
				below = "Group"
			}
			fillValue(v.Field(i), below, n, depth+1)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if d, ok := v.Interface().(interface{ Default() }); ok {
			d.Default()
		}
		fillValue(v.Elem(), field, n, depth+1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if field == "Records" {
				b := batch.NewBuilder()
				b.Add(batch.Record{Value: []byte("v")})
				if out, err := b.Build(); err == nil {
					v.SetBytes(out)
				}
			}
			return
		}
		s := reflect.MakeSlice(v.Type(), 1, 1)
		if d, ok := s.Index(0).Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		fillValue(s.Index(0), field, n, depth+1)
		v.Set(s)
	case reflect.Array:
		if v.Type() == reflect.TypeFor[[16]byte]() {
			v.Set(reflect.ValueOf(n.id))
		}
	case reflect.String:
		v.SetString(name())
	case reflect.Bool:
		// Nothing is made by the way: a topic of the asked name would be the asker's own.
		v.SetBool(field == "ValidateOnly" || strings.HasPrefix(field, "Include"))
	case reflect.Int16:
		if field == "Acks" {
			v.SetInt(1)
		}
	case reflect.Int32:
		switch {
		case strings.Contains(field, "WaitMillis"):
			v.SetInt(1)
		case strings.Contains(field, "TimeoutMillis"):
			v.SetInt(10_000)
		case strings.Contains(field, "Bytes"):
			v.SetInt(1 << 20)
		}
	case reflect.Int8:
		if strings.Contains(field, "ResourceType") || field == "Type" {
			v.SetInt(2) // a topic
		}
		if field == "ResourcePatternType" {
			v.SetInt(3)
		}
		if field == "PermissionType" || field == "Operation" {
			v.SetInt(3)
		}
	}
}

// matrixKeys are those that are walked: all but those that end a session or belong
// to signing on, whose answers have nothing of tenants in them.
func matrixKeys(g *Gateway) []api {
	return slices.DeleteFunc(slices.Clone(g.apis.list), func(a api) bool {
		return a.key == int16(kmsg.SASLHandshake) || a.key == int16(kmsg.SASLAuthenticate)
	})
}

// ask sends raw bytes of a request; nil is a connection that was closed.
func (p *plantedFleet) ask(r **raw, frame []byte) []byte {
	p.tb.Helper()
	if *r == nil {
		*r = p.dial(p.listenerAddr(0, otherTenant))
	}
	if _, err := (*r).nc.Write(frame); err != nil {
		*r = nil
		return nil
	}
	b, err := (*r).frame()
	if err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			p.tb.Fatalf("no answer to %x", frame[:min(len(frame), 200)])
		}
		_ = (*r).nc.Close() // it is closed by the other side
		*r = nil
		return nil
	}
	return b
}

// judged is an answer as it is compared: the names of which both kinds of questions
// are made put alike, what differs from answer to answer left out, lists in an order.
func judged(t testing.TB, req kmsg.Request, answer []byte, alike *strings.Replacer) string {
	t.Helper()
	if answer == nil {
		return "closed"
	}
	_, body, err := wire.ParseResponseHeader(answer, req.Key(), req.GetVersion())
	if err != nil {
		t.Fatalf("key %d version %d: %v", req.Key(), req.GetVersion(), err)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(body); err != nil {
		t.Fatalf("key %d version %d: %v", req.Key(), req.GetVersion(), err)
	}
	b, err := json.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal([]byte(alike.Replace(string(b))), &v); err != nil {
		t.Fatal(err)
	}
	b, err = json.Marshal(blank(v))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// drawn are the members of answers that are drawn, counted or measured.
var drawn = []string{"MemberID", "LeaderID", "Members", "ProducerID", "ProducerEpoch", "ThrottleMillis", "NodeID", "Leader", "Host", "Port",
	"ControllerID", "SessionID", "BaseOffset", "LogAppendTime", "HighWatermark", "LogEndOffset", "Generation", "MemberEpoch", "TopicID"}

func blank(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k := range x {
			if slices.Contains(drawn, k) {
				x[k] = ""
			} else {
				x[k] = blank(x[k])
			}
		}
	case []any:
		as := map[string]any{}
		for i := range x {
			item := blank(x[i])
			b, err := json.Marshal(item)
			if err != nil {
				panic(err) // it came out of JSON
			}
			as[string(b)] = item
		}
		x = nil
		for _, k := range slices.Sorted(maps.Keys(as)) {
			x = append(x, as[k])
		}
		return x
	}
	return v
}

// walker asks as the other tenant and scans what it is answered.
type walker struct {
	p     *plantedFleet
	r     *raw
	corr  int32
	asked int
	own   []string // planted names that it has itself asked for, and so may have made
}

func (w *walker) send(req kmsg.Request) (frame, answer []byte) {
	w.p.tb.Helper()
	w.corr++
	frame = wire.AppendRequest(nil, w.corr, []byte("onlooker"), req)
	answer = w.p.ask(&w.r, frame)
	w.scan(fmt.Sprintf("%s version %d", apiName(req.Key()), req.GetVersion()), frame, answer)
	return frame, answer
}

// scan fails for a planted thing in an answer that was not in the question.
func (w *walker) scan(what string, asked, answer []byte) {
	w.p.tb.Helper()
	w.asked++
	if len(answer) < 4 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(w.p.secrets)) {
		secret := w.p.secrets[name]
		if i := bytes.Index(answer[4:], secret); i >= 0 && !bytes.Contains(asked, secret) && !slices.Contains(w.own, string(secret)) {
			w.p.tb.Errorf("%s: the answer holds the other tenant's %s (%q) at %d of %d bytes", what, name, secret, i, len(answer))
		}
	}
}

// walk calls f for each key and version with what builds its requests.
func (w *walker) walk(f func(a api, v int16, build func(askedNames) kmsg.Request)) {
	for _, a := range matrixKeys(w.p.gateways[0]) {
		for v := a.min; v <= a.max; v++ {
			f(a, v, func(n askedNames) kmsg.Request {
				req := kmsg.RequestForKey(a.key)
				req.SetVersion(v)
				return filled(req, n)
			})
		}
	}
}

// One tenant asks, in every key and every version, about what is its own, about
// what never was, by ids that are another's, and in ways that make no sense; then
// by another's names. Nothing of the other is in any answer, what is another's is
// answered like what is not there, and the other is as it was.
func TestLeakMatrix(t *testing.T) {
	t.Parallel()
	p := newPlantedFleet(t)
	own := askedNames{"own-topic", "own-group", "own-txn", "own-user", p.own.ID}
	never := askedNames{neverTopic, neverGroup, neverTxn, neverUser, p.neverIDs}
	theirs := askedNames{plantedTopic, plantedGroup, plantedTxn, plantedUser, p.planted.ID}
	byID := never
	byID.id = p.planted.ID
	w := &walker{p: p}
	const pieces = 5
	w.walk(func(a api, _ int16, build func(askedNames) kmsg.Request) {
		empty := kmsg.RequestForKey(a.key)
		empty.SetVersion(build(own).GetVersion())
		if d, ok := empty.(interface{ Default() }); ok {
			d.Default()
		}
		if produce, ok := empty.(*kmsg.ProduceRequest); ok {
			produce.Acks = 1 // else there is no answer
		}
		w.send(empty)
		w.send(build(never))
		frame, _ := w.send(build(byID))
		if a.key != keyDeleteTopics && a.key != keyDeleteRecords {
			frame, _ = w.send(build(own))
		}
		for i := 1; i <= pieces; i++ { // cut, and with bytes turned
			cut := slices.Clone(frame[:4+(len(frame)-4)*i/(pieces+1)])
			binary.BigEndian.PutUint32(cut, uint32(len(cut)-4))
			w.scan("a cut "+apiName(a.key), cut, p.askBriefly(&w.r, cut))
			turned := slices.Clone(frame)
			turned[8+(len(turned)-8)*i/(pieces+1)] ^= byte(1 << (i % 8))
			w.scan("a turned "+apiName(a.key), slices.Concat(turned, frame), p.askBriefly(&w.r, turned))
		}
	})
	// From here on it may have made things of the planted names, which are its own then.
	w.own = []string{plantedTopic, plantedGroup, plantedTxn, plantedUser}
	alike := strings.NewReplacer(neverTopic, "TOPIC", plantedTopic, "TOPIC", neverGroup, "GROUP", plantedGroup, "GROUP",
		neverTxn, "TXN", plantedTxn, "TXN", neverUser, "USER", plantedUser, "USER")
	w.walk(func(a api, v int16, build func(askedNames) kmsg.Request) {
		_, missing := w.send(build(never))
		_, answer := w.send(build(theirs))
		if got, want := judged(t, build(theirs), answer, alike), judged(t, build(never), missing, alike); got != want {
			t.Errorf("%s version %d tells what is another's from what is not there:\n%s\nand\n%s", apiName(a.key), v, got, want)
		}
	})
	if err := p.unharmed(t.Context()); err != nil {
		t.Errorf("after the walk: %v", err)
	}
	t.Logf("%d requests", w.asked)
}

// askBriefly is ask for a request that may be one without an answer (acks=0), or
// one that waits: what has not come when the next request is answered is given up.
func (p *plantedFleet) askBriefly(r **raw, frame []byte) []byte {
	p.tb.Helper()
	if *r == nil {
		*r = p.dial(p.listenerAddr(0, otherTenant))
	}
	if err := (*r).nc.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		p.tb.Fatal(err)
	}
	if _, err := (*r).nc.Write(frame); err != nil {
		*r = nil
		return nil
	}
	b, err := (*r).frame()
	if err != nil {
		_ = (*r).nc.Close() // nothing more is wanted of it
		*r = nil
		return nil
	}
	if err := (*r).nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.tb.Fatal(err)
	}
	return b
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

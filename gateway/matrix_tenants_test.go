package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

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

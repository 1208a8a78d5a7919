package gateway

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/braidstream/braid/wire"
)

// walker asks as somebody, and scans what it is answered.
type walker struct {
	p       *plantedFleet
	tenant  string
	gateway int
	signed  bool // comes to the listener that serves both tenants, as the tenant's user
	nobody  bool // and does not sign on
	r       *raw
	corr    int32
	made    []string // planted names that the tenant may have given to its own

	of    map[keyVersion]*tally
	found map[string]map[string]bool // names of secrets in answers, by key; a finding only for those who must not see them
	owner bool                       // everything is its own
}

type keyVersion struct{ key, version int16 }

// tally counts what was said of a version of a key.
type tally struct{ answers, well, malformed, closed int }

func (w *walker) told(req kmsg.Request) *tally { return w.toldOf(req.Key(), req.GetVersion()) }

func (w *walker) toldOf(key, version int16) *tally {
	if w.of == nil {
		w.of = map[keyVersion]*tally{}
	}
	k := keyVersion{key, version}
	if w.of[k] == nil {
		w.of[k] = &tally{}
	}
	return w.of[k]
}

// who names the walker in findings.
func (w *walker) who() string {
	switch {
	case w.nobody:
		return fmt.Sprintf("an outsider at gateway %d", w.gateway)
	case w.signed:
		return fmt.Sprintf("%s, signed on, at gateway %d", w.tenant, w.gateway)
	}
	return fmt.Sprintf("%s at gateway %d", w.tenant, w.gateway)
}

// connect makes the walker's connection, if it has none.
func (w *walker) connect() {
	w.p.tb.Helper()
	if w.r != nil {
		return
	}
	at := w.tenant
	if w.signed || w.nobody {
		at = signedListener
	}
	w.r = w.p.dial(w.p.listenerAddr(w.gateway, at))
	if w.signed {
		if resp := w.r.signOn(plain.Auth{User: "own-user@" + w.tenant, Pass: ownPassword}.AsMechanism()); resp.ErrorCode != 0 {
			w.p.tb.Fatalf("%s: %v", w.who(), wire.Code(resp.ErrorCode))
		}
	}
}

// leave ends the walker's connection.
func (w *walker) leave() {
	if w.r != nil {
		_ = w.r.nc.Close() // nothing more is wanted of it
		w.r = nil
	}
}

// exchange sends a frame and returns its answer, which begins with the correlation id; nil
// if the connection was closed.
func (w *walker) exchange(frame []byte) []byte {
	w.p.tb.Helper()
	w.connect()
	w.r.patient()
	if _, err := w.r.nc.Write(frame); err != nil {
		w.leave()
		return nil
	}
	b, err := w.r.frame()
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			w.p.tb.Fatalf("%s: no answer to %x", w.who(), frame[:min(len(frame), 200)])
		}
		w.leave()
		return nil
	}
	return b
}

// last is what ends a piece of a walk: who is answered to it was answered to all before.
const lastID = int32(0x1a571a57)

// disturb sends a frame that makes no sense, and what is answered to it. Nothing has to
// be: acks=0 is, or the connection ends. So another request is sent behind it, up to whose
// answer is read; some may wait as long as they say, and are given up.
func (w *walker) disturb(frame []byte, waits bool) (answers []byte) {
	w.p.tb.Helper()
	w.connect()
	w.r.patient()
	end := wire.AppendRequest(nil, lastID, []byte("last"), withVersion(kmsg.NewPtrMetadataRequest(), 4))
	if _, err := w.r.nc.Write(slices.Concat(frame, end)); err != nil {
		w.leave()
		return nil
	}
	if waits {
		if err := w.r.nc.SetDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			w.p.tb.Fatal(err)
		}
	}
	for {
		b, err := w.r.frame()
		ne, timeout := errors.AsType[net.Error](err)
		switch {
		case err == nil && len(b) >= 4 && int32(binary.BigEndian.Uint32(b)) == lastID:
			return answers
		case err == nil:
			answers = append(answers, b...)
		case timeout && ne.Timeout() && !waits:
			w.p.tb.Fatalf("%s: no answer to the request behind %x", w.who(), frame[:min(len(frame), 200)])
		default:
			w.leave()
			return answers
		}
	}
}

// send asks, scans and counts; the answer is nil if the connection was closed.
func (w *walker) send(req kmsg.Request) (answer []byte) {
	w.p.tb.Helper()
	w.corr++
	frame := wire.AppendRequest(nil, w.corr, []byte("onlooker"), req)
	answer = w.exchange(frame)
	t := w.told(req)
	if answer == nil {
		t.closed++
		return nil
	}
	t.answers++
	w.scan(apiName(req.Key()), fmt.Sprintf("%s version %d", apiName(req.Key()), req.GetVersion()), frame, answer)
	resp := w.decoded(req, answer)
	if complaint(reflect.ValueOf(resp)) == 0 {
		t.well++
	}
	w.placeless(req, resp)
	return answer
}

// settled is send for what has to wait for the end of a transaction.
func (w *walker) settled(req kmsg.Request) (answer []byte) {
	w.p.tb.Helper()
	until(w.p.tb, func() error {
		answer = w.send(req)
		if answer != nil && wire.Code(complaint(reflect.ValueOf(w.decoded(req, answer)))) == wire.ConcurrentTransactions {
			return wire.ConcurrentTransactions
		}
		return nil
	})
	return answer
}

// asked is send with its answer decoded, for what has to be answered.
func (w *walker) asked(req kmsg.Request) kmsg.Response {
	w.p.tb.Helper()
	answer := w.settled(req)
	if answer == nil {
		w.p.tb.Fatalf("%s: %s version %d closed the connection", w.who(), apiName(req.Key()), req.GetVersion())
	}
	return w.decoded(req, answer)
}

func (w *walker) decoded(req kmsg.Request, answer []byte) kmsg.Response {
	w.p.tb.Helper()
	_, body, err := wire.ParseResponseHeader(answer, req.Key(), req.GetVersion())
	if err != nil {
		w.p.tb.Fatalf("%s version %d: %v", apiName(req.Key()), req.GetVersion(), err)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(body); err != nil {
		w.p.tb.Fatalf("%s version %d: %v", apiName(req.Key()), req.GetVersion(), err)
	}
	return resp
}

// complaint is the first error code of an answer, wherever it is in it; 0 if there is none.
func complaint(v reflect.Value) int16 {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return complaint(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			if code := complaint(v.Index(i)); code != 0 {
				return code
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			switch f := v.Type().Field(i); {
			case !f.IsExported():
			case f.Name == "ErrorCode":
				if code := int16(v.Field(i).Int()); code != 0 {
					return code
				}
			default:
				if code := complaint(v.Field(i)); code != 0 {
					return code
				}
			}
		}
	}
	return 0
}

// placeless fails where an answer names another node for what was asked of this one
// (KIP-951, KIP-392), which gateways never do.
func (w *walker) placeless(req kmsg.Request, resp kmsg.Response) {
	w.p.tb.Helper()
	named := false
	switch resp := resp.(type) {
	case *kmsg.ProduceResponse:
		named = len(resp.Brokers) > 0
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				named = named || p.CurrentLeader.LeaderID != -1 || p.CurrentLeader.LeaderEpoch != -1
			}
		}
	case *kmsg.FetchResponse:
		named = len(resp.Brokers) > 0
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				named = named || p.CurrentLeader.LeaderID != -1 || p.CurrentLeader.LeaderEpoch != -1 || p.PreferredReadReplica != -1
			}
		}
	}
	if named {
		w.p.tb.Errorf("%s version %d names nodes: %+v", apiName(req.Key()), req.GetVersion(), resp)
	}
}

// scan looks for planted things in an answer that were not in the question. Who does not
// own them must not find any.
func (w *walker) scan(key, what string, asked, answer []byte) {
	w.p.tb.Helper()
	if len(answer) < 4 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(w.p.secrets)) {
		secret := w.p.secrets[name]
		i := bytes.Index(answer[4:], secret)
		if i < 0 || bytes.Contains(asked, secret) || slices.Contains(w.made, string(secret)) {
			continue
		}
		if w.found == nil {
			w.found = map[string]map[string]bool{}
		}
		if w.found[key] == nil {
			w.found[key] = map[string]bool{}
		}
		w.found[key][name] = true
		if !w.owner {
			w.p.tb.Errorf("%s: %s: the answer holds the other tenant's %s (%q) at %d of %d bytes", w.who(), what, name, secret, i, len(answer))
		}
	}
}

// each calls f for each version of each key, with a request that is empty.
func (w *walker) each(f func(a api, req func() kmsg.Request)) {
	for _, a := range w.p.gateways[0].apis.list {
		for v := a.min; v <= a.max; v++ {
			f(a, func() kmsg.Request {
				req := kmsg.RequestForKey(a.key)
				req.SetVersion(v)
				return req
			})
		}
	}
}

// alike puts what was made up in the place of what is planted: texts and ids, which have the same
// lengths.
func (p *plantedFleet) alike(b []byte) []byte {
	a, n := &p.planted.names, &p.never
	id := func(x int64) string { return string(binary.BigEndian.AppendUint64(nil, uint64(x))) }
	for _, pair := range [][2]string{{a.tenant, n.tenant}, {a.cluster, n.cluster}, {a.topic, n.topic}, {a.group, n.group}, {a.modern, n.modern}, {a.txn, n.txn}, {a.user, n.user},
		{a.client, n.client}, {a.member, n.member}, {a.modernMember, n.modernMember}, {a.instance, n.instance}, {string(a.id[:]), string(n.id[:])}, {id(a.producer), id(n.producer)}} {
		b = bytes.ReplaceAll(b, []byte(pair[0]), []byte(pair[1]))
	}
	return b
}

// judged is an answer as it is compared: all its bytes, with what is drawn, counted or
// measured taken out, which is named by key.
func (w *walker) judged(t testing.TB, req kmsg.Request, answer []byte) []byte {
	t.Helper()
	if answer == nil {
		return []byte("closed")
	}
	resp := w.decoded(req, w.p.alike(answer))
	blank(reflect.ValueOf(resp), append(slices.Clone(drawn[req.Key()]), "ThrottleMillis"))
	ordered(t, reflect.ValueOf(resp))
	return resp.AppendTo(nil)
}

// drawn are the members of answers that differ from answer to answer.
var drawn = map[int16][]string{
	keyFetch:                  {"SessionID"},                                                                    // drawn
	keyProduce:                {"BaseOffset", "LogAppendTime"},                                                  // counted
	keyJoinGroup:              {"MemberID", "LeaderID"},                                                         // drawn
	keyInitProducerID:         {"ProducerID"},                                                                   // counted, over all tenants
	keyListTransactions:       {"ProducerID"},                                                                   // counted
	keyDescribeTransactions:   {"ProducerID"},                                                                   // counted
	keyFindCoordinator:        {"NodeID", "Host", "Port"},                                                       // by the name, which is the asker's own
	keyCreateTopics:           {"TopicID"},                                                                      // drawn
	keyConsumerGroupHeartbeat: {"MemberID"},                                                                     // drawn in version 0
	keySaslAuthenticate:       {"SASLAuthBytes"},                                                                // a nonce, and a salt of the name
	keyDescribeQuorum:         {"LastFetchTimestamp", "LastCaughtUpTimestamp", "LogEndOffset", "HighWatermark"}, // measured
}

// ordered puts lists in an order: many are of what is kept in none.
func ordered(t testing.TB, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			ordered(t, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				ordered(t, v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Struct {
			return
		}
		items, by := make([]reflect.Value, v.Len()), map[int]string{}
		at := make([]int, v.Len())
		for i := range v.Len() {
			ordered(t, v.Index(i))
			b, err := json.Marshal(v.Index(i).Interface())
			if err != nil {
				t.Fatal(err)
			}
			items[i] = reflect.New(v.Type().Elem()).Elem()
			items[i].Set(v.Index(i))
			at[i], by[i] = i, string(b)
		}
		slices.SortStableFunc(at, func(a, b int) int { return strings.Compare(by[a], by[b]) })
		for i, from := range at {
			v.Index(i).Set(items[from])
		}
	}
}

// blank clears fields by their names.
func blank(v reflect.Value, names []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			blank(v.Elem(), names)
		}
	case reflect.Slice:
		for i := range v.Len() {
			blank(v.Index(i), names)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case !f.IsExported():
			case slices.Contains(names, f.Name):
				v.Field(i).SetZero()
			default:
				blank(v.Field(i), names)
			}
		}
	}
}

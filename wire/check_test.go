package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// body is what a decoder of package kmsg has in common for both directions.
type body interface {
	Key() int16
	MaxVersion() int16
	SetVersion(int16)
	IsFlexible() bool
	ReadFrom([]byte) error
	AppendTo([]byte) []byte
}

// decoders calls f for each request and response version that both kmsg and the
// schema tables know.
func decoders(f func(name string, version int16, root uint16, fresh func() body)) {
	for key := range messages {
		m := lookup(int16(key))
		if m == nil {
			continue
		}
		req := kmsg.RequestForKey(int16(key))
		if req == nil {
			continue
		}
		for v := m.min; v <= min(m.max, req.MaxVersion()); v++ {
			f(fmt.Sprintf("%s request v%d", m.name, v), v, m.request[v-m.min], func() body {
				b := kmsg.RequestForKey(int16(key))
				b.SetVersion(v)
				return b
			})
			f(fmt.Sprintf("%s response v%d", m.name, v), v, m.response[v-m.min], func() body {
				b := kmsg.ResponseForKey(int16(key))
				b.SetVersion(v)
				return b
			})
		}
	}
}

// betweenControllers are the messages in which a tag of a later version is
// refused; kmsg writes such tags.
func betweenControllers(b body) bool {
	switch b.Key() {
	case 52, 53, 54, 59, 63: // Vote, BeginQuorumEpoch, EndQuorumEpoch, FetchSnapshot, BrokerHeartbeat
		return true
	}
	return false
}

func checkBody(b body, version int16, raw []byte, budget Budget) error {
	if _, ok := b.(kmsg.Request); ok {
		return Check(b.Key(), version, raw, budget)
	}
	return CheckResponse(b.Key(), version, raw, budget)
}

var generous = Budget{Factor: 1 << 20, Base: 1 << 30}

// fill sets every field of a kmsg value at random.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			if rng.IntN(4) == 0 {
				v.Addr().Interface().(*kmsg.Tags).Set(100+rng.Uint32N(1<<20), []byte("unknown"))
			}
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name != "Version" && f.IsExported() {
				fill(rng, v.Field(i))
			}
		}
	case reflect.Slice:
		n := rng.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString("text"[:rng.IntN(5)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rng.Uint64()) >> (64 - v.Type().Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(rng.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Float64:
		v.SetFloat(rng.Float64())
	default:
		panic("unexpected kind " + v.Kind().String())
	}
}

// Whatever kmsg encodes, the walk over our tables takes, to the last byte; and
// of every prefix of it, it takes none.
func TestCheckTakesWhatKmsgEncodes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := 0
	decoders(func(name string, version int16, root uint16, fresh func() body) {
		for range 25 {
			b := fresh()
			if betweenControllers(b) && version < lookup(b.Key()).max {
				return
			}
			fill(rng, reflect.ValueOf(b).Elem())
			raw := b.AppendTo(nil)
			w := walker{r: NewReader(raw), left: 1 << 40}
			w.walk(root)
			if w.r.bad || w.r.Len() > 0 {
				t.Errorf("%s: refused or %d bytes left of %x", name, w.r.Len(), raw)
				return
			}
			if err := checkBody(b, version, raw, generous); err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if len(raw) > 0 {
				cut := raw[:rng.IntN(len(raw))]
				if err := checkBody(b, version, cut, generous); !errors.Is(err, ErrMalformed) {
					t.Errorf("%s: %d of %d bytes: %v", name, len(cut), len(raw), err)
					return
				}
			}
			seen++
		}
	})
	if seen < 10_000 {
		t.Fatalf("only %d bodies tried", seen)
	}
}

// bodyMaker makes well-formed bodies from the tables: mostly nothing in them, but
// one array or tag section filled until a size is reached. These are what blows a
// decoder up.
type bodyMaker struct {
	rng     *rand.Rand
	room    int // bytes that may still be filled
	pending int // sections to pass by before one is filled
	hostile int // tag put into empty tag sections with an unreadable value; -1: none
	out     []byte
}

func (m *bodyMaker) chosen() bool {
	m.pending--
	return m.pending == 0
}

func (m *bodyMaker) length(compact bool, width, n int) {
	switch {
	case compact:
		m.out = binary.AppendUvarint(m.out, uint64(n+1))
	case width == 2:
		m.out = binary.BigEndian.AppendUint16(m.out, uint16(n))
	default:
		m.out = binary.BigEndian.AppendUint32(m.out, uint32(n))
	}
}

func (m *bodyMaker) shape(id uint16) {
	for ops := shapes[id].ops; len(ops) > 0; {
		op := ops[0]
		ops = ops[1:]
		compact := op >= 'A' && op <= 'Z'
		switch op {
		case opFixed:
			m.out = append(m.out, make([]byte, ops[0])...)
			ops = ops[1:]
		case opString, opNullableString, opCompactString, opCompactNullable:
			n := m.rng.IntN(3)
			m.length(compact, 2, n)
			m.out = append(m.out, "abc"[:n]...)
		case opBytes, opNullableBytes, opCompactBytes, opCompactNullableBytes:
			m.length(compact, 4, 0)
		case opArray, opNullableArray, opCompactArray, opCompactNullableArray:
			elem := u16(ops)
			ops = ops[2:]
			n := m.rng.IntN(3)
			if m.chosen() {
				n = m.room / int(max(shapes[elem].min, 1))
				m.room = 0
			}
			m.length(compact, 4, n)
			for range n {
				m.shape(elem)
			}
		case opNullableStruct:
			m.out = append(m.out, 1)
			m.shape(u16(ops))
			ops = ops[2:]
		case opTags:
			n := int(ops[0])
			m.tags(ops[1 : 1+3*n])
			ops = ops[1+3*n:]
		}
	}
}

func (m *bodyMaker) tags(known string) {
	if m.hostile >= 0 {
		m.out = append(m.out, 1, byte(m.hostile), 1, 0xff)
		return
	}
	unknown := 0
	if m.chosen() {
		unknown = min(m.room/5, maxTags/2)
		m.room = 0
	} else if m.rng.IntN(8) == 0 {
		unknown = 1
	}
	for k := known; len(k) > 0; k = k[3:] {
		if u16(k[1:]) == refusedTag {
			known = ""
			break
		}
	}
	n := unknown
	if m.rng.IntN(2) == 0 {
		n += len(known) / 3
	}
	m.out = binary.AppendUvarint(m.out, uint64(n))
	for ; n > unknown && len(known) > 0; known = known[3:] {
		outer := m.out
		m.out = nil
		m.shape(u16(known[1:]))
		value := m.out
		m.out = append(outer, known[0])
		m.out = binary.AppendUvarint(m.out, uint64(len(value)))
		m.out = append(m.out, value...)
	}
	for i := range unknown {
		m.out = binary.AppendUvarint(m.out, uint64(1000+i))
		m.out = append(m.out, 0)
	}
}

// allocated is the number of bytes that f allocates. The runtime counts for the
// whole process, so what is more than expected is measured again: the least of
// three counts.
func allocated(expected int, f func()) int {
	least := math.MaxInt
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, int(after.TotalAlloc-before.TotalAlloc))
		if least <= expected {
			break
		}
	}
	return least
}

// The budget holds: of whatever Check lets pass, kmsg allocates no more than the
// budget says. Bodies are made to blow up, for every message and version.
func TestBudgetHoldsForEveryMessage(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	passed, costly := 0, 0
	worst, worstName := 0.0, ""
	decoders(func(name string, version int16, root uint16, fresh func() body) {
		for i := range 6 {
			m := bodyMaker{rng: rng, room: 1 << (6 + 3*rng.IntN(4)), pending: i + 1, hostile: -1}
			m.shape(root)
			b := fresh()
			err := checkBody(b, version, m.out, DefaultBudget)
			if errors.Is(err, ErrTooCostly) {
				costly++
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			passed++
			estimate := estimateOf(root, m.out)
			got := allocated(int(estimate), func() { err = fresh().ReadFrom(m.out) })
			if err != nil {
				t.Errorf("%s: passed the check, but kmsg says %v", name, err)
			}
			if limit := slack * (DefaultBudget.Factor*len(m.out) + DefaultBudget.Base); got > limit {
				t.Errorf("%s: %d bytes made kmsg allocate %d, limit %d", name, len(m.out), got, limit)
			}
			// And the estimate itself is no less than what is allocated.
			if ratio := float64(got) / float64(estimate+1024); ratio > worst {
				worst, worstName = ratio, name
			}
		}
	})
	t.Logf("%d bodies passed, %d were too costly; allocated/estimate at most %.2f (%s)", passed, costly, worst, worstName)
	if passed < 1000 || costly < 100 {
		t.Fatal("the bodies do not try the budget")
	}
	if worst > slack {
		t.Errorf("%s: kmsg allocates %.2f times the estimate", worstName, worst)
	}
}

func estimateOf(root uint16, raw []byte) int64 {
	const plenty = 1 << 50
	w := walker{r: NewReader(raw), left: plenty}
	w.spend(int64(shapes[root].size))
	w.walk(root)
	return plenty - w.left
}

// A tag that Check passes by unread is one that kmsg does not read either, be it
// one of a later version: kmsg does not look at the version there.
func TestTagsUnknownToCheckAreUnknownToKmsg(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	passed, refused := 0, 0
	decoders(func(name string, version int16, root uint16, fresh func() body) {
		for tag := range 16 {
			m := bodyMaker{rng: rng, hostile: tag}
			m.shape(root)
			b := fresh()
			if err := checkBody(b, version, m.out, generous); err != nil {
				refused++
				continue
			}
			passed++
			if err := b.ReadFrom(m.out); err != nil {
				t.Errorf("%s: tag %d passed the check, but kmsg says %v", name, tag, err)
			}
		}
	})
	if passed == 0 || refused == 0 {
		t.Fatalf("%d passed, %d refused", passed, refused)
	}
}

// A five-byte varint as the number of tagged fields makes kmsg's loop run four
// billion times. Check refuses it at once.
func TestTagCountOfFiveBytesIsRefused(t *testing.T) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version = 4
	raw := req.AppendTo(nil)
	raw = append(raw[:len(raw)-1], 0xff, 0xff, 0xff, 0xff, 0x0f)
	if err := Check(req.Key(), req.Version, raw, DefaultBudget); !errors.Is(err, ErrMalformed) {
		t.Fatalf("got %v", err)
	}
}

func TestCheckRefuses(t *testing.T) {
	heartbeat := func(edit func([]byte) []byte) []byte {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version = 4
		req.Group = "g"
		return edit(req.AppendTo(nil))
	}
	fetchOfEmptyTopics := func(n int) []byte {
		req := kmsg.NewPtrFetchRequest()
		req.Version = 12
		req.Topics = make([]kmsg.FetchRequestTopic, n)
		return req.AppendTo(nil)
	}
	cases := []struct {
		name         string
		key, version int16
		body         []byte
		want         error
	}{
		{"empty", 12, 4, nil, ErrMalformed},
		{"good", 12, 4, heartbeat(func(b []byte) []byte { return b }), nil},
		{"bytes behind", 12, 4, heartbeat(func(b []byte) []byte { return append(b, 1, 2, 3) }), nil},
		{"null group", 12, 4, heartbeat(func(b []byte) []byte { return append([]byte{0}, b[2:]...) }), ErrMalformed},
		{"string past the end", 12, 4, heartbeat(func(b []byte) []byte { b[0] = 100; return b }), ErrMalformed},
		{"varint of six bytes", 12, 4, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, ErrMalformed},
		{"tag value past the end", 12, 4, heartbeat(func(b []byte) []byte { return append(b[:len(b)-1], 1, 7, 50) }), ErrMalformed},
		{"tags that do not ascend", 12, 4, heartbeat(func(b []byte) []byte { return append(b[:len(b)-1], 2, 7, 0, 7, 0) }), ErrMalformed},
		{"string over 32767 bytes", 12, 4, heartbeat(func(b []byte) []byte {
			long := append(binary.AppendUvarint(nil, 40_001), make([]byte, 40_000)...)
			return append(long, b[2:]...)
		}), ErrMalformed},
		{"over 10,000 tags", 12, 4, heartbeat(func(b []byte) []byte {
			b = binary.AppendUvarint(b[:len(b)-1], 10_001)
			for tag := range uint64(10_001) {
				b = append(binary.AppendUvarint(b, tag), 0)
			}
			return b
		}), ErrMalformed},
		{"array of two billion", 3, 1, []byte{0x7f, 0xff, 0xff, 0xff}, ErrMalformed},
		{"array of minus two", 3, 1, []byte{0xff, 0xff, 0xff, 0xfe}, ErrMalformed},
		{"null array", 3, 1, []byte{0xff, 0xff, 0xff, 0xff}, nil},
		{"null array that must not be", 3, 0, []byte{0xff, 0xff, 0xff, 0xff}, ErrMalformed},
		{"a megabyte of empty topics", 1, 12, fetchOfEmptyTopics(300_000), ErrTooCostly},
		{"over a million elements", 1, 12, fetchOfEmptyTopics(1_000_001), ErrMalformed},
		{"unknown key", 999, 0, nil, ErrUnknownKey},
		{"negative key", -1, 0, nil, ErrUnknownKey},
		{"removed key", 4, 0, nil, ErrUnknownKey},
		{"version too new", 12, 99, nil, ErrUnknownVersion},
		{"version too old", 1, 3, nil, ErrUnknownVersion},
		{"version negative", 12, -1, nil, ErrUnknownVersion},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := Check(c.key, c.version, c.body, DefaultBudget); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

// What real clients send must pass: many topics of short names.
func TestBudgetLetsOrdinaryMessagesPass(t *testing.T) {
	names := make([]string, 20_000)
	for i := range names {
		names[i] = fmt.Sprintf("t%d", i)
	}
	meta := kmsg.NewPtrMetadataRequest()
	fetch := kmsg.NewPtrOffsetFetchRequest()
	group := kmsg.NewOffsetFetchRequestGroup()
	commit := kmsg.NewPtrOffsetCommitRequest()
	for _, n := range names {
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = kmsg.StringPtr(n)
		meta.Topics = append(meta.Topics, mt)
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.Partitions = n, []int32{1}
		group.Topics = append(group.Topics, gt)
		ct := kmsg.NewOffsetCommitRequestTopic()
		ct.Topic = n
		ct.Partitions = append(ct.Partitions, kmsg.NewOffsetCommitRequestTopicPartition())
		commit.Topics = append(commit.Topics, ct)
	}
	fetch.Groups = append(fetch.Groups, group)
	for _, req := range []kmsg.Request{meta, fetch, commit} {
		m := lookup(req.Key())
		for v := m.min; v <= min(m.max, req.MaxVersion()); v++ {
			if v < 8 && req == kmsg.Request(fetch) {
				continue // another layout of the same request
			}
			req.SetVersion(v)
			raw := req.AppendTo(nil)
			if err := Check(req.Key(), v, raw, DefaultBudget); err != nil {
				t.Errorf("%s v%d of %d bytes: %v", m.name, v, len(raw), err)
			}
		}
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	for range 100 {
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = kmsg.StringPtr("some topic")
		req.Topics = append(req.Topics, mt)
	}
	raw := req.AppendTo(nil)
	if n := testing.AllocsPerRun(100, func() {
		if err := Check(3, 12, raw, DefaultBudget); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// The tables agree with kmsg on which versions are flexible.
func TestHeaderVersionsAgainstKmsg(t *testing.T) {
	decoders(func(name string, version int16, _ uint16, fresh func() body) {
		b := fresh()
		got := RequestHeaderVersion(b.Key(), version) == 2
		if _, ok := b.(kmsg.Response); ok {
			if b.Key() == keyApiVersions {
				return // always version 0; its body is flexible nevertheless
			}
			got = ResponseHeaderVersion(b.Key(), version) == 1
		}
		if got != b.IsFlexible() {
			t.Errorf("%s: flexible %v, kmsg says %v", name, got, b.IsFlexible())
		}
	})
}

func TestHeaderRoundTripAgainstKmsg(t *testing.T) {
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID("a client"))
	for key := range messages {
		m := lookup(int16(key))
		req := kmsg.RequestForKey(int16(key))
		if m == nil || req == nil {
			continue
		}
		for v := m.min; v <= min(m.max, req.MaxVersion()); v++ {
			req.SetVersion(v)
			frame := format.AppendRequest(nil, req, 4711)
			ours := AppendRequest(nil, 4711, []byte("a client"), req)
			if !bytes.Equal(frame, ours) {
				t.Fatalf("%s v%d: %x, want %x", m.name, v, ours, frame)
			}
			h, rest, err := ParseHeader(frame[4:])
			if err != nil {
				t.Fatalf("%s v%d: %v", m.name, v, err)
			}
			if h.Key != int16(key) || h.Version != v || h.CorrelationID != 4711 || string(h.ClientID) != "a client" {
				t.Fatalf("%s v%d: header %+v", m.name, v, h)
			}
			if !bytes.Equal(rest, req.AppendTo(nil)) {
				t.Fatalf("%s v%d: body %x", m.name, v, rest)
			}
			resp := req.ResponseKind()
			resp.SetVersion(v)
			frame = AppendResponse(nil, 4711, resp)
			id, rest, err := ParseResponseHeader(frame[4:], int16(key), v)
			if err != nil || id != 4711 || !bytes.Equal(rest, resp.AppendTo(nil)) {
				t.Fatalf("%s v%d: response %d %x %v", m.name, v, id, rest, err)
			}
		}
	}
}

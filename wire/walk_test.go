package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// walkDecoder is one of the four decoders that replace kmsg on the hot path.
type walkDecoder struct {
	name     string
	lo, hi   int16
	key      int16
	response bool
	decode   func(version int16, body []byte) error
}

// walkDecoders are fresh: nothing of an earlier message helps them.
func walkDecoders() []walkDecoder {
	return []walkDecoder{
		{"Produce request", ProduceMinVersion, ProduceMaxVersion, ProduceKey, false, new(ProduceRequest).Decode},
		{"Produce response", ProduceMinVersion, ProduceMaxVersion, ProduceKey, true, new(ProduceResponse).Decode},
		{"Fetch request", FetchMinVersion, FetchMaxVersion, FetchKey, false, new(FetchRequest).Decode},
		{"Fetch response", FetchMinVersion, FetchMaxVersion, FetchKey, true, new(FetchResponse).Decode},
	}
}

func (w walkDecoder) root(version int16) uint16 {
	m := lookup(w.key)
	if w.response {
		return m.response[version-m.min]
	}
	return m.request[version-m.min]
}

// walkFactor and walkBase are the bound that the decoders promise.
const (
	walkFactor = 32
	walkBase   = 4 << 10
)

func TestWalkersAllocateInProportion(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	worst := map[string]float64{}
	for range 15 {
		for i := range walkDecoders() {
			for pending := range 8 {
				w := walkDecoders()[i]
				fresh := func() walkDecoder { return walkDecoders()[i] }
				version := w.lo + int16(rng.IntN(int(w.hi-w.lo)+1))
				m := bodyMaker{rng: rng, room: 1 << (4 + 3*rng.IntN(5)), pending: pending + 1, hostile: -1}
				m.shape(w.root(version))
				var err error
				limit := slack * (walkFactor*len(m.out) + walkBase)
				got := allocated(limit, func() { err = fresh().decode(version, m.out) })
				if err != nil {
					t.Fatalf("%s v%d: %v of %x", w.name, version, err, m.out)
				}
				if got > limit {
					t.Errorf("%s v%d: %d bytes made it allocate %d, limit %d", w.name, version, len(m.out), got, limit)
				}
				if len(m.out) > 4096 {
					worst[w.name] = max(worst[w.name], float64(got)/float64(len(m.out)))
				}
			}
		}
	}
	t.Logf("allocated bytes per byte at worst: %v", worst)
}

// A count that the bytes cannot hold costs nothing, wherever it stands.
func TestWalkersDoNotTrustCounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	for i := range walkDecoders() {
		for range 50 {
			w := walkDecoders()[i]
			version := w.lo + int16(rng.IntN(int(w.hi-w.lo)+1))
			m := bodyMaker{rng: rng, room: 64, pending: 1 + rng.IntN(3), hostile: -1}
			m.shape(w.root(version))
			for at := range m.out {
				damaged := bytes.Clone(m.out)
				copy(damaged[at:], []byte{0x7f, 0xff, 0xff, 0xff})
				compact := append(bytes.Clone(m.out[:at]), 0xff, 0xff, 0xff, 0xff, 0x07)
				compact = append(compact, m.out[at:]...)
				for _, body := range [][]byte{damaged, compact} {
					// Taken or not, it must not cost more than its bytes allow.
					limit := slack * (walkFactor*len(body) + walkBase)
					if got := allocated(limit, func() { _ = walkDecoders()[i].decode(version, body) }); got > limit {
						t.Fatalf("%s v%d: %d bytes made it allocate %d", w.name, version, len(body), got)
					}
				}
			}
		}
	}
}

// A walker takes what the definition allows and nothing else: it agrees with
// Check on bodies that were damaged in one place.
func TestWalkersAgreeWithCheckOnDamage(t *testing.T) {
	var taken, refused int
	rapid.Check(t, func(t *rapid.T) {
		all := walkDecoders()
		w := all[rapid.IntRange(0, len(all)-1).Draw(t, "decoder")]
		version := drawVersion(t, w.lo, w.hi)
		var raw []byte
		switch w.name {
		case "Produce request":
			raw = drawProduceRequest(t, version).AppendTo(nil)
		case "Produce response":
			raw = drawProduceResponse(t, version).AppendTo(nil)
		case "Fetch request":
			raw = drawFetchRequest(t, version).AppendTo(nil)
		case "Fetch response":
			raw = drawFetchResponse(t, version).AppendTo(nil)
		}
		switch rapid.IntRange(0, 2).Draw(t, "damage") {
		case 0:
			raw = raw[:rapid.IntRange(0, len(raw)).Draw(t, "cut")]
		case 1:
			if len(raw) > 0 {
				at := rapid.IntRange(0, min(len(raw)-1, 200)).Draw(t, "at")
				raw[at] = rapid.SampledFrom([]byte{0, 1, 2, 0x7f, 0x80, 0xff}).Draw(t, "byte")
			}
		}
		check := Check
		if w.response {
			check = CheckResponse
		}
		want := check(w.key, version, raw, generous)
		got := w.decode(version, raw)
		if (want == nil) != (got == nil) {
			t.Fatalf("%s v%d: walker says %v, check says %v of %x", w.name, version, got, want, raw)
		}
		if got != nil {
			refused++
			if !errors.Is(got, ErrMalformed) {
				t.Fatalf("error %v", got)
			}
		} else {
			taken++
		}
	})
	if taken == 0 || refused == 0 {
		t.Fatalf("%d taken, %d refused", taken, refused)
	}
}

func TestWalkersRefuseVersions(t *testing.T) {
	for _, w := range walkDecoders() {
		for _, v := range []int16{-1, w.lo - 1, w.hi + 1, 32767} {
			if err := w.decode(v, make([]byte, 100)); !errors.Is(err, ErrUnknownVersion) {
				t.Errorf("%s v%d: %v", w.name, v, err)
			}
		}
	}
	var s Scatter
	if err := new(ProduceRequest).AppendFrame(&s, 2, 0, nil); !errors.Is(err, ErrUnknownVersion) {
		t.Error(err)
	}
	if err := new(FetchResponse).AppendFrame(&s, 19, 0); !errors.Is(err, ErrUnknownVersion) || s.Len() > 0 {
		t.Error(err)
	}
}

func produceBody(version int16, topics, partitions int, records []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version = version
	for i := range topics {
		topic := kmsg.NewProduceRequestTopic()
		topic.Topic, topic.TopicID = fmt.Sprintf("topic-%d", i), [16]byte{byte(i)}
		for j := range partitions {
			p := kmsg.NewProduceRequestTopicPartition()
			p.Partition, p.Records = int32(j), records
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics, topic)
	}
	return req.AppendTo(nil)
}

// The whole life of a Produce and of a Fetch on a connection, both towards
// clients and towards brokers, without an allocation.
func TestHotPathAllocatesNothing(t *testing.T) {
	records := bytes.Repeat([]byte("r"), 4000)
	body := produceBody(9, 5, 4, records)
	var req ProduceRequest
	var answer, upstream ProduceResponse
	var s Scatter
	var out []byte
	check := func(what string, f func()) {
		t.Helper()
		f()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check("produce", func() {
		must(req.Decode(9, body))
		s.Reset()
		must(req.AppendFrame(&s, 9, 1, []byte("braid")))
		answer.Answer(&req)
		for i := range answer.Partitions {
			answer.Partitions[i].BaseOffset = int64(i)
		}
		var err error
		out, err = answer.AppendFrame(out[:0], 9, 1)
		must(err)
		must(upstream.Decode(9, out[4+5:]))
	})
	var freq FetchRequest
	freq.Reset()
	var fresp, fup FetchResponse
	var fout []byte
	for i := range 20 {
		freq.AddTopic(req.Topics[i%5].Name, [16]byte{})
		freq.AddPartition(NewFetchPartition(int32(i), 5, 1<<20))
	}
	fbody := freq.AppendTo(nil, 12)
	var whole []byte
	check("fetch", func() {
		must(freq.Decode(12, fbody))
		var err error
		fout, err = freq.AppendFrame(fout[:0], 12, 2, nil)
		must(err)
		fresp.Reset()
		for i := range freq.Partitions {
			fresp.AddTopic(freq.Topics[i].Name, freq.Topics[i].ID)
			p := NewFetchResult(freq.Partitions[i].Index, None)
			p.Records = records
			fresp.AddPartition(p)
		}
		s.Reset()
		must(fresp.AppendFrame(&s, 12, 2))
		whole = whole[:0]
		for _, p := range s.Pieces() {
			whole = append(whole, p...)
		}
		must(fup.Decode(12, whole[4+5:]))
	})
	if len(fup.Partitions) != 20 || len(upstream.Partitions) != 20 {
		t.Fatal("not what was sent")
	}
}

// One absurd message does not hold its memory for the life of a connection.
func TestReusedMessageDropsAbsurdSlices(t *testing.T) {
	var req ProduceRequest
	if err := req.Decode(9, produceBody(9, 1, 50_000, nil)); err != nil {
		t.Fatal(err)
	}
	req.Reset()
	if cap(req.Partitions) > keptElements {
		t.Fatalf("room for %d partitions is kept", cap(req.Partitions))
	}
}

func BenchmarkProduceDecode(b *testing.B) {
	body := produceBody(9, 5, 4, make([]byte, 1000))
	var req ProduceRequest
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := req.Decode(9, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFetchResponseFrame(b *testing.B) {
	var resp FetchResponse
	run := make([]byte, 64<<10)
	for i := range 20 {
		resp.AddTopic(fmt.Appendf(nil, "topic-%d", i), [16]byte{})
		p := NewFetchResult(0, None)
		p.Records = run
		resp.AddPartition(p)
	}
	var s Scatter
	b.ReportAllocs()
	for b.Loop() {
		s.Reset()
		if err := resp.AppendFrame(&s, 12, 1); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(s.Len()))
}

func BenchmarkCheckMetadata(b *testing.B) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	for i := range 100 {
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = kmsg.StringPtr(fmt.Sprintf("topic-%d", i))
		req.Topics = append(req.Topics, mt)
	}
	raw := req.AppendTo(nil)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(3, 12, raw, DefaultBudget); err != nil {
			b.Fatal(err)
		}
	}
}

package gateway

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// BenchmarkFrameBeforeAuthentication is what the largest frames cost that are made to blow up: of tags, in a header and in a body. 10 ms are the
// bound of the design.
func BenchmarkFrameBeforeAuthentication(b *testing.B) {
	tags := func(head []byte, n int) []byte {
		out := binary.AppendUvarint(append([]byte(nil), head...), uint64(n))
		for i := range n {
			out = append(binary.AppendUvarint(out, uint64(i)), 0)
		}
		return out
	}
	header := wire.AppendRequestHeader(nil, keyApiVersions, 4, 1, nil)
	for name, frame := range map[string][]byte{
		"tags of the header": tags(header[:len(header)-1], 20_000),
		"tags of the body":   tags(append(header, 2, 'a', 2, 'b'), 20_000),
		"tags of a token":    tags(append(wire.AppendRequestHeader(nil, keySaslAuthenticate, 2, 1, nil), 1), 20_000),
		"a long token":       append(append(wire.AppendRequestHeader(nil, keySaslAuthenticate, 1, 1, nil), 0, 0, 0xf0, 0), make([]byte, 0xf000)...),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				h, body, err := wire.ParseHeader(frame)
				if err != nil || wire.Check(h.Key, h.Version, body, wire.DefaultBudget) != nil {
					continue
				}
				req := kmsg.RequestForKey(h.Key)
				req.SetVersion(h.Version)
				if err := req.ReadFrom(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Before authentication nothing that a client sends takes more than 16 MB, or
// 10 ms of computing for a frame: the frames are small, their number is, and the
// only work that costs by intent, the comparison of a password, is done once for
// a connection.
func FuzzBeforeAuthentication(f *testing.F) {
	fl := newFleet(f, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) { c.FailedAuthDelay, c.MaxFailedAuthDelay = 1, 1 }))
	fl.user(catalog.DefaultTenant, "alice", "a password that no fuzzer guesses")
	g := fl.gateways[0]
	hello := func(mechanism string, v int16) []byte {
		h := kmsg.NewPtrSASLHandshakeRequest()
		h.Mechanism = mechanism
		return appendRequest(1, withVersion(h, v))
	}
	token := func(b string) []byte {
		a := kmsg.NewPtrSASLAuthenticateRequest()
		a.SASLAuthBytes = []byte(b)
		return appendRequest(2, withVersion(a, 2))
	}
	versions := appendRequest(0, withVersion(kmsg.NewPtrApiVersionsRequest(), 4))
	f.Add(versions)
	for _, m := range append(mechanisms, "OAUTHBEARER", "GSSAPI") {
		f.Add(append(hello(m, 1), token("n,,n=alice,r=abc")...))
		f.Add(append(append(append([]byte(nil), versions...), hello(m, 1)...), token("\x00alice\x00guess")...))
		f.Add(append(hello(m, 0), framed([]byte("n,,\x01auth=Bearer a.b.c\x01\x01"))...))
	}
	for _, a := range servedAPIs() {
		req := kmsg.RequestForKey(a.key)
		req.SetVersion(a.max)
		f.Add(appendRequest(1, req))
	}
	// Five bytes that say 2^32-1 tags, in a header and in a body.
	many := []byte{0xff, 0xff, 0xff, 0xff, 0x0f}
	f.Add(framed(append(wire.AppendRequestHeader(nil, keyApiVersions, 4, 1, nil)[:10], many...)))
	f.Add(framed(append(append(wire.AppendRequestHeader(nil, keyApiVersions, 4, 1, nil), 2, 'a', 2, 'b'), many...)))
	f.Add(framed(append(append(wire.AppendRequestHeader(nil, keySaslAuthenticate, 2, 1, nil), 1), many...)))
	f.Add([]byte{0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 512<<10 {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		client, c, done, drained := pipeTo(g)
		_ = client.SetWriteDeadline(time.Now().Add(30 * time.Second)) // a pipe has deadlines
		_, _ = client.Write(b)                                        // the gateway may close before it has read all
		_ = client.Close()
		<-done
		<-drained
		if c.principal.Name != "ANONYMOUS" || c.used {
			t.Fatalf("served as %v", c.principal)
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
			t.Fatalf("%d bytes made it allocate %d", len(b), grown)
		}
	})
}

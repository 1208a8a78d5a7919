package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// hostile are connections' bytes that are made to cost: the largest frames, with what a decoder may loop or
// allocate by.
func hostile(t *testing.T) map[string][]byte {
	t.Helper()
	hello := func(mechanism string, v int16) []byte {
		return appendRequest(1, withVersion(&kmsg.SASLHandshakeRequest{Mechanism: mechanism}, v))
	}
	token := func(v int16, text string) []byte {
		return appendRequest(2, withVersion(&kmsg.SASLAuthenticateRequest{SASLAuthBytes: []byte(text)}, v))
	}
	tags := func(head []byte, said uint64, n int) []byte {
		out := binary.AppendUvarint(slices.Clone(head), said)
		for i := range n {
			out = append(binary.AppendUvarint(out, uint64(i)), 0)
		}
		return framed(out)
	}
	header := wire.AppendRequestHeader(nil, keyApiVersions, 4, 1, nil)
	large := strings.Repeat("x", preAuthFrame-1000)
	all := map[string][]byte{
		"ApiVersions, tags of the header":        tags(header[:len(header)-1], 20_000, 20_000),
		"ApiVersions, tags of the body":          tags(append(slices.Clone(header), 2, 'a', 2, 'b'), 20_000, 20_000),
		"ApiVersions, 2^32-1 tags of the header": tags(header[:len(header)-1], 1<<32-1, 20_000),
		"ApiVersions, 2^32-1 tags of the body":   tags(append(slices.Clone(header), 2, 'a', 2, 'b'), 1<<32-1, 20_000),
		"ApiVersions, 2^63 tags":                 tags(header[:len(header)-1], 1<<63, 0),
		"ApiVersions of no version":              framed(append(wire.AppendRequestHeader(nil, keyApiVersions, 4, 1, nil)[:2], append([]byte{0x7f, 0xff, 0, 0, 0, 1}, large...)...)),
		"ApiVersions, a long name":               appendRequest(1, withVersion(&kmsg.ApiVersionsRequest{ClientSoftwareName: large, ClientSoftwareVersion: "1"}, 4)),
		"a mechanism of a frame's length":        hello(large[:32_000], 1),
		"tokens of nothing":                      slices.Concat(hello("PLAIN", 0), bytes.Repeat(framed(nil), 20_000)),
		"a frame of all the bytes there are":     append(binary.BigEndian.AppendUint32(nil, 1<<31-1), large...),
		"a frame of less than none":              append(binary.BigEndian.AppendUint32(nil, 1<<31), large...),
	}
	for v := int16(0); v <= 2; v++ {
		text := func(name string) string { return fmt.Sprintf("SaslAuthenticate %d, %s", v, name) }
		body := wire.AppendRequestHeader(nil, keySaslAuthenticate, v, 2, nil)
		said := func(b ...byte) []byte { return framed(slices.Concat(body, b, []byte(large))) }
		all[text("a token of 2 GB")] = slices.Concat(hello("PLAIN", 1), said(0x7f, 0xff, 0xff, 0xff))
		all[text("a token of -1 bytes")] = slices.Concat(hello("PLAIN", 1), said(0xff, 0xff, 0xff, 0xff, 0x0f))
		for name, b := range map[string]string{
			"a long user of SCRAM":        "n,,n=" + large + ",r=abc",
			"a long nonce of SCRAM":       "n,,n=alice,r=" + large,
			"commas in SCRAM":             "n,," + strings.Repeat(",", len(large)),
			"escapes in SCRAM":            "n,,n=" + strings.Repeat("=2C", len(large)/3) + ",r=abc",
			"iterations in SCRAM":         "n,,n=alice,r=abc,i=2147483647",
			"marks in a name of SCRAM":    "n,,n=" + strings.Repeat("e\u0301", len(large)/3) + ",r=abc",
			"a long first of SCRAM again": "n," + large + ",n=alice,r=abc",
		} {
			for _, m := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
				all[text(name+" "+m)] = slices.Concat(hello(m, 1), token(v, b), token(v, "c=biws,r="+large+",p="+large[:10]))
			}
		}
		jose := base64.RawURLEncoding.EncodeToString
		deep := jose([]byte(strings.Repeat(`{"a":`, 7_000) + "1" + strings.Repeat("}", 7_000)))
		for name, b := range map[string]string{
			"a long token":    "n,,\x01auth=Bearer " + large + "\x01\x01",
			"dots":            "n,,\x01auth=Bearer " + strings.Repeat(".", len(large)) + "\x01\x01",
			"a deep header":   "n,,\x01auth=Bearer " + deep[:len(deep)/2] + ".e30.\x01\x01",
			"a deep body":     "n,,\x01auth=Bearer " + jose([]byte(`{"alg":"ES256","kid":"k"}`)) + "." + deep + ".AAAA\x01\x01",
			"many properties": "n,,\x01" + strings.Repeat("a=b\x01", len(large)/4) + "auth=Bearer a.b.c\x01\x01",
			"nothing of all":  "n,," + strings.Repeat("\x01", len(large)),
		} {
			all[text("OAUTHBEARER, "+name)] = slices.Concat(hello("OAUTHBEARER", 1), token(v, b))
		}
		all[text("PLAIN, nothing but NUL")] = slices.Concat(hello("PLAIN", 1), token(v, strings.Repeat("\x00", len(large))))
	}
	// Every other key, with lists that say to be long, and records that are much more than their bytes.
	bomb := oneRecord(func(b *batch.Builder) {
		b.Codec(batch.Zstd)
		b.Add(batch.Record{Value: bytes.Repeat([]byte{0}, 32<<20)})
	})
	if len(bomb) > preAuthFrame/2 {
		t.Fatalf("a bomb of %d bytes", len(bomb))
	}
	for _, a := range servedAPIs() {
		for _, v := range []int16{a.min, a.max} {
			if signsOn(a.key) {
				continue
			}
			head := wire.AppendRequestHeader(nil, a.key, v, 1, nil)
			all[fmt.Sprintf("%s %d, long lists", apiName(a.key), v)] = framed(slices.Concat(head, bytes.Repeat([]byte{0x7f, 0xff, 0xff, 0xff}, 10_000)))
			all[fmt.Sprintf("%s %d, lists of 2^32", apiName(a.key), v)] = framed(slices.Concat(head, bytes.Repeat([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, 10_000)))
			all[fmt.Sprintf("%s %d, as it should be", apiName(a.key), v)] = appendRequest(1, filled(t, withVersion(kmsg.RequestForKey(a.key), v), askedNames{topic: "t"}))
		}
	}
	all["a bomb of records"] = appendRequest(1, withVersion(produceRequest("t", [16]byte{}, 1, map[int32][]byte{0: bomb}), 9))
	return all
}

// Before authentication no frame makes more than 16 MB, or takes more than 10 ms of a processor: each is sent
// several times, and its best time counts, which is what it takes. Others' work is in it, so
// this test is not parallel. What compares a password costs by intent, and is not among them.
func TestFramesBeforeAuthenticationAreCheap(t *testing.T) {
	// Its keys cannot be had: what is looked at is what comes before they are asked for.
	oidc, err := sasl.NewOIDC(sasl.OIDCConfig{Issuer: "https://127.0.0.1:1", JWKS: "https://127.0.0.1:1/keys", Audience: []string{"braid"}})
	if err != nil {
		t.Fatal(err)
	}
	fl := newFleet(t, secure(Security{Mechanisms: append(slices.Clone(mechanisms), "OAUTHBEARER"), Demand: true}), withConfig(func(c *Config) { c.FailedAuthDelay, c.MaxFailedAuthDelay = 1, 1 }),
		func(c *fleetConfig) { c.sasl = sasl.NewServer(sasl.Options{Secret: []byte("test"), OIDC: oidc}) })
	g := fl.gateways[0]
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	const mostBytes, mostTime = 16 << 20, slowed * 10 * time.Millisecond
	var worstBytes uint64
	var worstTime time.Duration
	all := hostile(t)
	for name, b := range all {
		bytes, took := ^uint64(0), time.Hour
		for range 20 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := spent()
			client, c, done, drained := pipeTo(g)
			if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			_, _ = client.Write(b) // the gateway may close before it has read all
			_ = client.Close()
			<-done
			<-drained
			took = min(took, spent()-start)
			runtime.ReadMemStats(&after)
			bytes = min(bytes, after.TotalAlloc-before.TotalAlloc)
			if c.principal.Name != "ANONYMOUS" || c.used {
				t.Fatalf("%s: served as %v", name, c.principal)
			}
			if bytes <= mostBytes && took <= mostTime {
				break
			}
		}
		if bytes > mostBytes || took > mostTime {
			t.Errorf("%s: %d bytes make %d, and take %v", name, len(b), bytes, took)
		}
		worstBytes, worstTime = max(worstBytes, bytes), max(worstTime, took)
	}
	t.Logf("%d frames: at most %d bytes, %v", len(all), worstBytes, worstTime)
}

package gateway

import (
	"flag"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

var update = flag.Bool("update", false, "write generated pages anew")

// What is served is within what Apache Kafka has as stable.
func TestServedVersionsAreStable(t *testing.T) {
	t.Parallel()
	for _, a := range servedAPIs() {
		k, ok := wire.LookupAPI(a.key)
		if !ok || a.min < k.Min || a.max > k.Stable {
			t.Errorf("key %d: served %d to %d, stable are %d to %d", a.key, a.min, a.max, k.Min, k.Stable)
		}
		if a.max != k.Stable {
			t.Errorf("key %d %s: newest stable version is %d, served %d", a.key, k.Name, k.Stable, a.max)
		}
	}
}

func TestApiVersionsOfTheFuture(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, version := range []int16{5, 6, 99, 32767} {
		r := f.raw()
		// The request header of the future is whatever it is; only key, version and
		// correlation id are sure.
		b := wire.AppendRequestHeader(nil, keyApiVersions, 3, 42, []byte("x"))
		b[2], b[3] = byte(version>>8), byte(version)
		b = append(b, 9, 9, 9)
		r.write(append([]byte{0, 0, 0, byte(len(b))}, b...))
		out, err := r.frame()
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		corr, body, err := wire.ParseResponseHeader(out, keyApiVersions, 0)
		resp := kmsg.NewPtrApiVersionsResponse()
		if err != nil || corr != 42 {
			t.Fatalf("version %d: correlation id %d: %v", version, corr, err)
		}
		if err := resp.ReadFrom(body); err != nil || resp.ErrorCode != int16(wire.UnsupportedVersion) || len(resp.ApiKeys) != len(servedAPIs()) {
			t.Errorf("version %d: %+v: %v", version, resp, err)
		}
		// The connection goes on.
		req := kmsg.NewPtrApiVersionsRequest()
		if got := do[*kmsg.ApiVersionsResponse](r, 2, req); got.ErrorCode != 0 {
			t.Errorf("version %d: afterwards %+v", version, got)
		}
	}
	bad := kmsg.NewPtrApiVersionsRequest()
	bad.ClientSoftwareName, bad.ClientSoftwareVersion = "-no-", ""
	if got := do[*kmsg.ApiVersionsResponse](f.raw(), 3, bad); wire.Code(got.ErrorCode) != wire.InvalidRequest {
		t.Errorf("bad software name: %+v", got)
	}
}

package gateway

import (
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// An idle connection costs little: no buffers, one goroutine.
func TestIdleConnectionsAreCheap(t *testing.T) {
	f := newFleet(t)
	f.topic("idle", 3)
	const n = 1000
	measure := func() (heap uint64, goroutines int) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse, runtime.NumGoroutine()
	}
	before, had := measure()
	for range n {
		r := f.raw()
		do[*kmsg.ApiVersionsResponse](r, 3, func() kmsg.Request {
			req := kmsg.NewPtrApiVersionsRequest()
			req.ClientSoftwareName, req.ClientSoftwareVersion = "idle", "1"
			return req
		}())
		metadata(r, 12, "idle")
		fetch := sessionFetch(0, 0, "idle", map[int32]int64{0: 0, 1: 0, 2: 0})
		fetch.MinBytes = 0
		do[*kmsg.FetchResponse](r, 12, fetch)
	}
	after, have := measure()
	// The client's side of a connection is in this process too.
	if per := (int64(after) - int64(before)) / n; per > 40<<10 {
		t.Errorf("%d bytes for each idle connection", per)
	} else {
		t.Logf("%d bytes for each idle connection, client's side included", per)
	}
	if have-had > n+20 {
		t.Errorf("%d goroutines for %d connections", have-had, n)
	}
}

package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// arriving sends all but the last byte of a frame of a size, which is no request, in the background.
// The connection is closed at the end of the test, or by the caller.
func (r *raw) arriving(wg *sync.WaitGroup, size int) {
	wg.Go(func() {
		b := append(binary.BigEndian.AppendUint32(nil, uint32(size)), 0)
		if _, err := r.nc.Write(b); err != nil {
			return
		}
		piece := make([]byte, 1<<20)
		for left := size - 2; left > 0; {
			n, err := r.nc.Write(piece[:min(len(piece), left)])
			if err != nil {
				return // it was closed while it waited
			}
			left -= n
		}
	})
}

// empty waits until nothing is held of the budgets for requests.
func (f *fleet) empty() {
	f.tb.Helper()
	for _, g := range f.gateways {
		eventually(f.tb, func() error {
			if a, b, n := g.arriving.used.Load(), g.budget.used.Load(), g.nobody.Arriving(0); a != 0 || b != 0 || n != 0 {
				return fmt.Errorf("%d bytes are arriving, %d of them nobody's, %d in flight", a, n, b)
			}
			for _, name := range g.usage.Tenants() {
				if a := g.usage.Find(name); a.Arriving(0) != 0 || a.InFlight() != 0 {
					return fmt.Errorf("tenant %s has %d arriving, %d in flight", name, a.Arriving(0), a.InFlight())
				}
			}
			return nil
		})
	}
}

func (g *Gateway) someoneWaits() bool {
	g.arriving.mu.Lock()
	defer g.arriving.mu.Unlock()
	return g.arriving.room != nil
}

// Twenty connections of a tenant that each send a request of 100 MB make as much memory as the
// tenant's share of what may arrive, and another tenant goes on beside them. Not parallel: the
// whole process is measured.
func TestLargeRequestsThatArriveAreBounded(t *testing.T) {
	const most, size = 256 << 20, 100 << 20
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) {
		c.ArrivingBytes, c.FrameTimeout = most, 2*patience
	}))
	f.acme(0)
	f.topic("orders", 1)
	f.user(catalog.DefaultTenant, "ann", "secret")
	quiet := f.raw()
	if resp := quiet.signOn(as("ann", "secret")); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	quiet.metadata()
	g := f.gateways[0]
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	var noisy []*raw
	for range 20 {
		r := f.raw()
		if resp := r.signOn(as("joe", "secret")); resp.ErrorCode != 0 {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
		noisy = append(noisy, r)
	}
	for _, r := range noisy {
		r.patient()
		r.arriving(&wg, size)
	}
	acme := g.usage.Account("acme")
	// One frame has all that it may before the last byte, the others wait with what is free.
	whole := int64(size - 1 + 19*wire.FreeFrame)
	eventually(t, func() error {
		if n := acme.Counts(time.Now()).Received; n < whole {
			return fmt.Errorf("%d of %d bytes were received", n, whole)
		}
		return nil
	})
	runtime.GC()
	runtime.ReadMemStats(&now)
	if used := g.arriving.used.Load(); used != size || acme.Arriving(0) != used {
		t.Errorf("%d bytes are held, %d of the tenant's", used, acme.Arriving(0))
	}
	if n := acme.Counts(time.Now()).Received; n > whole+20*1024 {
		t.Errorf("%d bytes were received", n)
	}
	if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > 3*size {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	put(quiet, "orders", 0, "small")
	put(quiet, "orders", 0, strings.Repeat("large", 100_000))
	for _, r := range noisy {
		if err := r.nc.Close(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	f.empty()
	put(quiet, "orders", 0, "small")
}

// The first tenant to come after a start has no more of the room than beside others: who comes after it finds some.
func TestFirstTenantLeavesRoomForLargeRequests(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) {
		c.ArrivingBytes, c.FrameTimeout = 18<<20, 2*patience
	}))
	f.acme(0)
	f.topic("orders", 1)
	f.user(catalog.DefaultTenant, "ann", "secret")
	g := f.gateways[0]
	var noisy []*raw
	for range 3 {
		r := f.raw()
		if resp := r.signOn(as("joe", "secret")); resp.ErrorCode != 0 {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
		noisy = append(noisy, r)
	}
	if g.usage.Several() {
		t.Fatal("another tenant has come before")
	}
	var wg sync.WaitGroup
	for _, r := range noisy {
		r.arriving(&wg, 8<<20)
	}
	eventually(t, func() error {
		if n := g.arriving.used.Load(); n < 8<<20 || !g.someoneWaits() {
			return fmt.Errorf("%d bytes are arriving, others wait: %v", n, g.someoneWaits())
		}
		return nil
	})
	if n := g.arriving.used.Load(); n != 8<<20 {
		t.Errorf("%d bytes are arriving", n)
	}
	quiet := f.raw()
	if resp := quiet.signOn(as("ann", "secret")); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	put(quiet, "orders", 0, strings.Repeat("large", 40_000))
	for _, r := range noisy {
		if err := r.nc.Close(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	f.empty()
}

// Two tenants whose large requests come at hardly the least rate hold all the room: a third one waits only until the slowest
// of them is ended, and the other one goes on.
func TestSlowRequestsAreHurriedForOthers(t *testing.T) {
	t.Parallel()
	book := &logBook{}
	const size = 16 << 20
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), func(c *fleetConfig) { c.logger = book.logger() }, withConfig(func(c *Config) {
		c.ArrivingBytes, c.FrameTimeout, c.FrameRate, c.RoomPatience, c.MaxMessageBytes = 2*size, 2*patience, 64<<10, 50*time.Millisecond, 8<<20
	}))
	f.acme(0)
	if _, err := f.cat.CreateTenant(t.Context(), catalog.Tenant{Name: "globex"}); err != nil {
		t.Fatal(err)
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return s.Tenant("globex") != nil })
	f.user("globex", "gina", "secret")
	f.topic("orders", 1)
	f.user(catalog.DefaultTenant, "ann", "secret")
	g := f.gateways[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var noisy []*raw
	for _, name := range []string{"joe", "gina"} {
		r := f.raw()
		noisy = append(noisy, r)
		if resp := r.signOn(as(name, "secret")); resp.ErrorCode != 0 {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
		r.patient()
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			b := binary.BigEndian.AppendUint32(nil, size)
			for b = append(b, make([]byte, 100<<10)...); ctx.Err() == nil; b = b[:1] {
				if _, err := r.nc.Write(b); err != nil {
					return
				}
				<-tick.C
			}
		})
	}
	eventually(t, func() error {
		if n := g.arriving.used.Load(); n != 2*size {
			return fmt.Errorf("%d bytes are arriving", n)
		}
		return nil
	})
	quiet := f.raw()
	if resp := quiet.signOn(as("ann", "secret")); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	put(quiet, "orders", 0, strings.Repeat("x", 4<<20))
	if s := book.String(); strings.Count(s, errHurried.Error()) != 1 {
		t.Errorf("one slow request was to be ended:\n%s", s)
	}
	if n := g.arriving.used.Load(); n != size {
		t.Errorf("%d bytes are arriving", n)
	}
	cancel()
	for _, r := range noisy {
		if err := r.nc.Close(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	f.empty()
}

// What is nobody's yet has a share together, and leaves room to those who have signed on.
func TestRequestsOfNobodyShareTheRoom(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms}), withConfig(func(c *Config) {
		c.ArrivingBytes, c.FrameTimeout = 32<<20, 2*patience
	}))
	f.acme(0)
	g := f.gateways[0]
	joe := f.raw()
	if resp := joe.signOn(as("joe", "secret")); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	var wg sync.WaitGroup
	var strangers []*raw
	for range 6 {
		r := f.raw()
		strangers = append(strangers, r)
		r.arriving(&wg, 8<<20)
	}
	eventually(t, func() error {
		if n := g.nobody.Arriving(0); n != 16<<20 || !g.someoneWaits() {
			return fmt.Errorf("%d bytes are nobody's, others wait: %v", n, g.someoneWaits())
		}
		return nil
	})
	large := kmsg.NewPtrMetadataRequest()
	for i := range 20_000 {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(fmt.Sprint("t", i))
		large.Topics = append(large.Topics, topic)
	}
	large.AllowAutoTopicCreation = false
	if n := len(do[*kmsg.MetadataResponse](joe, 9, large).Topics); n != 20_000 {
		t.Errorf("%d topics are told of", n)
	}
	for _, r := range strangers {
		if err := r.nc.Close(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	f.empty()
}

// A large request counts as arriving until it is in flight, and never as both; one that is
// larger than all that may be is served alone, and nobody waits for ever.
func TestLargeRequestsComeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f, cluster := newGatedFleet(t, withConfig(func(c *Config) {
		c.InflightBytes, c.ArrivingBytes, c.MaxMessageBytes = 1<<20, 1<<20, 8<<20
	}))
	g := f.gateways[0]
	cluster.hang()
	req := produceRequest("bad", [16]byte{}, -1, map[int32][]byte{0: records(t, nil, strings.Repeat("x", 3<<20))})
	req.SetVersion(9)
	var conns []*raw
	var corrs []int32
	for range 2 {
		r := f.raw()
		conns, corrs = append(conns, r), append(corrs, r.send(req))
	}
	eventually(t, func() error {
		// The other one arrives, or is not read yet, since what is in flight is full.
		if a, b := g.arriving.used.Load(), g.budget.used.Load(); a > 4<<20 || b != 4<<20 {
			return fmt.Errorf("%d bytes are arriving, %d in flight", a, b)
		}
		return nil
	})
	if b := g.budget.used.Load(); b != 4<<20 {
		t.Errorf("%d bytes are in flight", b)
	}
	sent := make(chan int32)
	for range 6 {
		r := f.raw()
		conns = append(conns, r)
		go func() { sent <- r.send(req) }() // the socket takes no more than some of it
	}
	cluster.goOn()
	for range 6 {
		corrs = append(corrs, <-sent)
	}
	for i, r := range conns {
		if p := r.receive(req, corrs[i]).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
			t.Errorf("%v", wire.Code(p.ErrorCode))
		}
	}
	f.empty()
}

// A request that trickles in is ended with its connection, and one that stays away too: what they
// hold is others' then.
func TestSlowRequestsGiveTheirRoomBack(t *testing.T) {
	t.Parallel()
	book := &logBook{}
	f := newFleet(t, func(c *fleetConfig) { c.logger = book.logger() }, withConfig(func(c *Config) {
		c.ArrivingBytes, c.FrameTimeout, c.FrameRate = 1<<20, 2*time.Second, 1<<40
	}))
	var wg sync.WaitGroup
	trickles, stays, third := f.raw(), f.raw(), f.raw()
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		b := append([]byte{0, 0x40, 0, 0}, make([]byte, 100<<10)...) // of 4 MiB
		for ctx.Err() == nil {
			if _, err := trickles.nc.Write(b); err != nil {
				return
			}
			b = b[:1]
			<-tick.C
		}
	})
	trickles.closed()
	cancel()
	wg.Wait()
	stays.write(append([]byte{0, 0x40, 0, 0}, make([]byte, 100<<10)...))
	stays.closed()
	for _, r := range []*raw{trickles, stays} {
		peer := r.nc.LocalAddr().String()
		eventually(t, func() error {
			if !strings.Contains(book.String(), peer) {
				return errors.New("no line names the peer " + peer)
			}
			return nil
		})
	}
	f.empty()
	do[*kmsg.ApiVersionsResponse](third, 0, kmsg.NewPtrApiVersionsRequest())
}

// A request that waits for room does not keep the gateway from ending.
func TestDrainEndsWaitsForRoom(t *testing.T) {
	t.Parallel()
	f := newFleet(t, withConfig(func(c *Config) { c.ArrivingBytes, c.FrameTimeout = 1<<20, 2*patience }))
	g := f.gateways[0]
	g.arriving.take(1<<20, &g.nobody)
	var wg sync.WaitGroup
	r := f.raw()
	r.arriving(&wg, 4<<20)
	eventually(t, func() error {
		if !g.someoneWaits() {
			return errors.New("nobody waits")
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := g.Drain(ctx); err != nil {
		t.Error(err)
	}
	wg.Wait()
	g.arriving.put(1<<20, &g.nobody)
	f.empty()
}

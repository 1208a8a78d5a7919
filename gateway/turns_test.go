package gateway

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/tenant/usage"
	"github.com/braidstream/braid/wire"
)

// queueOf waits until so many wait at a gate.
func queueOf(t *testing.T, g *fair.Gate, n int) {
	t.Helper()
	eventually(t, func() error {
		if w := g.Waiting(); w != n {
			return fmt.Errorf("%d wait instead of %d", w, n)
		}
		return nil
	})
}

// Requests of a tenant that floods and those of another wait for turns, and all are answered;
// what waits for records or for a cluster waits outside of its turn.
func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms}))
	g := f.gateways[0]
	g.work = fair.NewGate(1, time.Hour)
	f.acme(0)
	topic := f.topic("orders", 1)
	quiet := f.raw()
	if resp := quiet.signOn(as("joe", "secret")); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	quiet.metadata()
	const flood = 12
	noisy := make([]*raw, flood)
	for i := range noisy {
		noisy[i] = f.raw()
		metadataOf(noisy[i], 9)
	}
	// A consumer that waits for records holds nobody up.
	consumer := f.raw()
	fetch := fetchRequest("orders", topic.ID, map[int32]int64{0: 0})
	fetch.MaxWaitMillis = int32(patience / time.Millisecond)
	fetch.SetVersion(12)
	fetched := consumer.send(fetch)

	eventually(t, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		for c := range g.conns {
			if c.fetching.Load() {
				return nil
			}
		}
		return errors.New("no Fetch waits")
	})
	place, err := g.work.Enter(t.Context(), "nobody")
	if err != nil {
		t.Fatal(err)
	}
	req := produceRequest("orders", topic.ID, -1, map[int32][]byte{0: records(t, nil, "x")})
	req.SetVersion(11)
	corrs := make([]int32, flood)
	for i, r := range noisy {
		corrs[i] = r.send(req)
	}
	queueOf(t, g.work, flood)
	ask := kmsg.NewPtrMetadataRequest()
	ask.SetVersion(9)
	asked := quiet.send(ask)
	queueOf(t, g.work, flood+1)
	place.Leave(0)
	quiet.receive(ask, asked)
	for i, r := range noisy {
		if code := r.receive(req, corrs[i]).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Error(wire.Code(code))
		}
	}
	if n := len(consumer.receive(fetch, fetched).(*kmsg.FetchResponse).Topics); n != 1 {
		t.Errorf("%d topics are fetched", n)
	}
	// It waits for ever if somebody has kept the place.
	if place, err = g.work.Enter(t.Context(), "nobody"); err != nil {
		t.Fatal(err)
	}
	place.Leave(0)
}

// Handshakes wait for those of others, and who is signed on does not.
func TestHandshakesTakeTurns(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t, "ours")
	cert, key := ca.IssueTo(t, t.TempDir(), "server", pkix.Name{CommonName: "braid"}, nil)
	f := newFleet(t, secure(Security{TLS: &TLSFiles{Cert: cert, Key: key}}))
	g := f.gateways[0]
	g.signing = fair.NewGate(1, time.Hour)
	first, err := f.dialTLS(ca, nil)
	if err != nil {
		t.Fatal(err)
	}
	first.metadata()
	place, err := g.signing.Enter(context.Background(), "nobody")
	if err != nil {
		t.Fatal(err)
	}
	const storm = 5
	served := make(chan error, storm)
	for range storm {
		go func() {
			r, err := f.dialTLS(ca, nil)
			if err == nil {
				err = r.served()
			}
			served <- err
		}()
	}
	queueOf(t, g.signing, storm)
	first.metadata()
	place.Leave(0)
	for range storm {
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// Consumers of a tenant share what the gateway has of its budget, as producers do.
func TestShareOfAConsumersBudget(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2))
	topic := f.topic("orders", 1)
	value := string(make([]byte, 30_000))
	for range 4 {
		put(f.raw(), "orders", 0, value)
	}
	const whole = 100_000.0
	f.limit(func(x *catalog.Tenant) { x.Budget = map[string]float64{"consumer_byte_rate": whole} })
	share := func(one, two float64) {
		f.share(catalog.Share{Of: map[string]float64{"consumer_byte_rate": whole}, Rates: map[string]map[int32]float64{"consumer_byte_rate": {1: one, 2: two}}})
	}
	fetch := func(r *raw) (int32, int) {
		resp := do[*kmsg.FetchResponse](r, 12, fetchRequest("orders", topic.ID, map[int32]int64{0: 0}))
		n := 0
		for _, rt := range resp.Topics {
			for _, rp := range rt.Partitions {
				n += len(rp.RecordBatches)
			}
		}
		return resp.ThrottleMillis, n
	}
	share(100, whole-100)
	if ms, n := fetch(f.raw()); ms != 1000 || n == 0 {
		t.Errorf("told to wait %d ms, with %d bytes: the first batch comes whole, and the wait after it", ms, n)
	}
	if ms, n := fetch(f.rawTo(1)); ms != 0 || n < 4*len(value) {
		t.Errorf("throttled by %d ms where there is room, with %d bytes", ms, n)
	}
	u := f.gateways[0].uses().Tenants[catalog.DefaultTenant]
	if len(u.Limited) != 1 || u.Limited[0] != "consumer_byte_rate" || u.Rates["consumer_byte_rate"] <= 0 {
		t.Errorf("told: %+v", u)
	}
	if u := f.gateways[1].uses().Tenants[catalog.DefaultTenant]; len(u.Limited) != 0 || u.Rates["consumer_byte_rate"] <= 0 {
		t.Errorf("told: %+v", u)
	}
	share(whole-100, 100)
	if ms, n := fetch(f.raw()); ms != 0 || n < 4*len(value) {
		t.Errorf("throttled by %d ms under a larger share, with %d bytes", ms, n)
	}
	if n := f.gateways[0].answers.used.Load(); n != 0 {
		eventually(t, func() error {
			if n := f.gateways[0].answers.used.Load(); n != 0 {
				return fmt.Errorf("%d bytes are still on their way", n)
			}
			return nil
		})
	}
}

// Clients that ask for much and take nothing keep no more of it in memory than there is room for,
// and others are served beside them.
func TestConsumersThatTakeNothing(t *testing.T) {
	t.Parallel()
	const most = 64 << 20
	f := newFleet(t, withConfig(func(c *Config) { c.InflightBytes = most }))
	answers := &f.gateways[0].answers
	topic := f.topic("orders", 1)
	value := string(make([]byte, 100_000))
	for range 90 {
		put(f.raw(), "orders", 0, value)
	}
	req := fetchRequest("orders", topic.ID, map[int32]int64{0: 0})
	req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 50<<20, 50<<20
	req.SetVersion(12)
	const clients = 12
	var stuck []*raw
	for range clients {
		r := f.raw()
		if err := r.nc.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
			t.Fatal(err)
		}
		r.send(req)
		stuck = append(stuck, r)
	}
	for _, r := range stuck {
		if _, err := io.ReadFull(r.nc, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if used := answers.used.Load(); used > answers.max {
		t.Errorf("%d bytes are on their way where %d may be", used, answers.max)
	}
	if n := len(do[*kmsg.FetchResponse](f.raw(), 12, fetchRequest("orders", topic.ID, map[int32]int64{0: 0})).Topics[0].Partitions[0].RecordBatches); n < len(value) {
		t.Errorf("another client has %d bytes", n)
	}
	for _, r := range stuck {
		if err := r.nc.Close(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, func() error {
		if n := answers.used.Load(); n != 0 {
			return fmt.Errorf("%d bytes are still on their way", n)
		}
		return nil
	})
}

// A tenant that has nothing on its way goes on whatever others have.
func TestNobodyWaitsForOthersRoom(t *testing.T) {
	of := map[*usage.Account]int64{}
	b := byteBudget{max: 1000, shared: func() bool { return true }, of: func(a *usage.Account, n int64) int64 { of[a] += n; return of[a] }}
	noisy, quiet := new(usage.Account), new(usage.Account)
	b.take(5000, noisy)
	if !b.full(noisy) || b.full(quiet) {
		t.Errorf("noisy waits: %v, quiet waits: %v", b.full(noisy), b.full(quiet))
	}
	if n := b.share(quiet); n != leastShare {
		t.Errorf("a share of %d bytes where nothing is free", n)
	}
	b.put(5000, noisy)
	b.max = 1 << 30
	for range 40 {
		b.take(int64(b.share(noisy)), noisy)
	}
	if b.used.Load() >= b.max || b.share(quiet) < leastShare || b.full(quiet) {
		t.Errorf("%d of %d bytes are taken", b.used.Load(), b.max)
	}
}

// Keys of compressed records are looked at outside of the turns at requests: others go on meanwhile.
func TestUnpackingHoldsNoTurn(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms}))
	g := f.gateways[0]
	g.work = fair.NewGate(1, time.Hour)
	f.acme(0)
	f.topic("compacted", 1, "cleanup.policy", "compact")
	large := records(t, func(b *batch.Builder) { b.Codec(batch.Gzip) }, strings.Repeat("x", 16<<20))
	quiet := f.raw()
	if resp := quiet.signOn(as("joe", "secret")); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	quiet.metadata()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 3 {
		r := f.raw()
		all.Go(func() {
			for ctx.Err() == nil {
				if r.patient(); !f.putLarge(r, large) {
					return
				}
			}
		})
	}
	seen := 0 // in a row
	eventually(t, func() error {
		working := g.budget.used.Load() > 0
		place, err := g.work.Enter(t.Context(), "nobody")
		if err != nil {
			t.Fatal(err)
		}
		waited := place.Waited()
		working = working && g.budget.used.Load() > 0
		place.Leave(0)
		if seen++; !working || waited > 0 {
			seen = 0
		}
		if seen < 3 {
			return errors.New("the place is kept while batches are unpacked")
		}
		return nil
	})
	cancel()
	all.Wait()
}

// putLarge appends a batch to a compacted topic, and tells whether that went well.
func (f *fleet) putLarge(r *raw, b []byte) bool {
	req := produceRequest("compacted", [16]byte{}, -1, map[int32][]byte{0: b})
	p := do[*kmsg.ProduceResponse](r, 9, req).Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		f.tb.Error(wire.Code(p.ErrorCode))
	}
	return p.ErrorCode == 0
}

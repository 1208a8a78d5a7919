package chain_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/chain/chaintest"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// scenario is drawn by rapid; the rest follows from the seed and the scheduler.
type scenario struct {
	seed      uint64
	producers int // with a producer id
	plain     int
	batches   int // of each
	moves     int
	takenBack int // seals, in 100 moves
	drops     int // in 1000 batches: the client's connection is cut
	lost      int // in 1000 appends, for each kind of fault
	restarts  int // in 100 moves: a gateway is restarted
	lag       bool
	hide      bool
}

// client behaves as an idempotent Kafka client: at most five batches in flight,
// and after an error it sends what has no answer again, in order.
type client struct {
	m    *model
	rng  *rand.Rand
	id   int64
	via  *gateway
	acks []int64 // offsets by sequence; -1: acknowledged without an offset
}

type model struct {
	t  *rapid.T
	w  *world
	sc scenario
	gs []*gateway
	mu sync.Mutex
	no []string // what went wrong

	plainAcks map[string]int64
	unknown   map[string]bool
}

func (m *model) wrong(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.no) < 20 {
		m.no = append(m.no, fmt.Sprintf(format, args...))
	}
}

type attempt struct {
	seq  int32
	done chan struct{}
	a    *chain.Append
}

func (c *client) send(seq int32) *attempt {
	raw, h := records(c.m.w.t, fmt.Sprintf("p%d.%d", c.id, seq), 1, c.id, 0, seq)
	at := &attempt{seq: seq, done: make(chan struct{})}
	c.via.p.Append(&chain.Append{Batch: raw, Header: h, Done: func(a *chain.Append) { at.a = a; close(at.done) }})
	clear(raw)
	return at
}

func (c *client) run() {
	n := int32(c.m.sc.batches)
	next, base := int32(0), int32(0) // next to send, first without an answer
	var flying []*attempt
	tries := 0
	for base < n {
		for len(flying) < 5 && next < n {
			if c.rng.IntN(1000) < c.m.sc.drops {
				// The connection is cut: whatever is in flight may still land. The next
				// one goes to any gateway, and begins with what has no answer.
				flying, next = nil, base
				c.via = c.m.any(c.rng)
			}
			flying = append(flying, c.send(next))
			next++
		}
		f := flying[0]
		select {
		case <-f.done:
		case <-time.After(patience):
			c.m.wrong("producer %d: sequence %d was never answered", c.id, f.seq)
			return
		}
		if err := f.a.Err; err != nil && !errors.Is(err, chain.ErrDuplicate) {
			if kind := refusal(err); kind != "" {
				// It is the first without an answer, all before it are acknowledged: a
				// broker would not have refused it.
				c.m.wrong("producer %d: sequence %d was refused: %v", c.id, f.seq, err)
				return
			}
			if tries++; tries > 2000 {
				c.m.wrong("producer %d: sequence %d fails for ever: %v", c.id, f.seq, err)
				return
			}
			// Wait for the answers of the others, keep the successes out of it: a client
			// sends all of them again in order.
			for _, g := range flying[1:] {
				select {
				case <-g.done:
				case <-time.After(patience):
					c.m.wrong("producer %d: sequence %d was never answered", c.id, g.seq)
					return
				}
			}
			flying, next = nil, base
			if errors.Is(err, chain.ErrClosed) {
				c.via = c.m.any(c.rng)
			}
			continue
		}
		offset := f.a.BaseOffset
		if f.a.Err != nil {
			offset = -1
		}
		c.acks[f.seq] = offset
		base, flying = f.seq+1, flying[1:]
	}
}

// refusal names the answers that end a producer's sequence.
func refusal(err error) string {
	var r *span.RejectedError
	switch {
	case errors.Is(err, chain.ErrOutOfOrder), errors.Is(err, chain.ErrOldProducerEpoch):
		return err.Error()
	case errors.As(err, &r) && r.Code != wire.None:
		return r.Code.Name()
	}
	return ""
}

func (m *model) plainProducer(k int, rng *rand.Rand) {
	for i := range m.sc.batches {
		value := fmt.Sprintf("plain%d.%d", k, i)
		for {
			g := m.any(rng)
			raw, h := records(m.w.t, value, 1, -1, -1, -1)
			done := make(chan *chain.Append, 1)
			g.p.Append(&chain.Append{Batch: raw, Header: h, Done: func(a *chain.Append) { done <- a }})
			var a *chain.Append
			select {
			case a = <-done:
			case <-time.After(patience):
				m.wrong("%s was never answered", value)
				return
			}
			m.mu.Lock()
			switch {
			case a.Err == nil:
				m.plainAcks[value+"-0"] = a.BaseOffset
			case errors.Is(a.Err, chain.ErrTimedOut):
				m.unknown[value+"-0"] = true
			}
			m.mu.Unlock()
			if a.Err == nil || errors.Is(a.Err, chain.ErrTimedOut) {
				break
			}
			if refusal(a.Err) != "" {
				m.wrong("%s was refused: %v", value, a.Err)
				return
			}
		}
	}
}

func (m *model) any(rng *rand.Rand) *gateway {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gs[rng.IntN(len(m.gs))]
}

// restart replaces a gateway; what it held is answered, and what it had sent may land.
func (m *model) restart(i int) {
	g := m.start(i)
	m.mu.Lock()
	old := m.gs[i]
	m.gs[i] = g
	m.mu.Unlock()
	old.logs.Close()
	old.clients.Close()
}

func (m *model) mover(rng *rand.Rand, stop *atomic.Bool) {
	clusters := []string{"a", "b", "c"}
	for i := range m.sc.moves {
		if stop.Load() {
			return
		}
		mv, err := m.w.fleet.NewMove(m.w.ctx, m.w.topic, clusters[(i+1)%len(clusters)])
		if err != nil {
			m.wrong("move: %v", err)
			return
		}
		pause(rng)
		if err := mv.Seal(m.w.ctx); err != nil {
			m.wrong("seal: %v", err)
			return
		}
		pause(rng)
		if rng.IntN(100) < m.sc.takenBack {
			err = mv.TakeSealBack()
			pause(rng)
			err = errors.Join(err, mv.Seal(m.w.ctx))
			pause(rng)
		}
		if err == nil {
			err = mv.Commit(m.w.ctx)
		}
		if err != nil {
			m.wrong("end of move: %v", err)
			return
		}
		if rng.IntN(100) < m.sc.restarts {
			m.restart(rng.IntN(len(m.gs)))
		}
		if m.sc.lag {
			// The watch of the last gateway is mostly behind.
			m.gs[len(m.gs)-1].view.SetLag(rng.IntN(4) > 0)
		}
		pause(rng)
	}
}

// pause is a delay, not a wait: it moves events against each other.
func pause(rng *rand.Rand) {
	if n := rng.IntN(4); n > 0 {
		time.Sleep(time.Duration(rng.IntN(300*n)) * time.Microsecond)
	}
}

// check reads the whole chain from its copies and compares it with what was acknowledged.
func (m *model) check(cs []*client) {
	fresh := m.w.gateway(func(o *chain.Options) { o.CacheBytes = -1 })
	at := map[string][]int64{}
	lastSeq := map[int64]int32{}
	prev := int64(-1)
	for _, f := range fresh.readAll(0) {
		if f.offset <= prev {
			m.wrong("offset %d after %d", f.offset, prev)
		}
		prev = f.offset
		at[f.value] = append(at[f.value], f.offset)
		if f.pid >= 0 {
			var id int64
			var seq int32
			if _, err := fmt.Sscanf(f.value, "p%d.%d-0", &id, &seq); err != nil {
				m.wrong("value %q", f.value)
			}
			if last, ok := lastSeq[id]; ok && seq != last+1 || !ok && seq != 0 {
				m.wrong("producer %d: sequence %d after %d at %d", id, seq, last, f.offset)
			}
			lastSeq[id] = seq
		}
	}
	for _, c := range cs {
		for seq, offset := range c.acks {
			value := fmt.Sprintf("p%d.%d-0", c.id, seq)
			got := at[value]
			if len(got) != 1 || offset >= 0 && got[0] != offset {
				m.wrong("%s was acknowledged at %d, and is at %v", value, offset, got)
			}
		}
	}
	for value, offset := range m.plainAcks {
		if got := at[value]; len(got) != 1 || got[0] != offset {
			m.wrong("%s was acknowledged at %d, and is at %v", value, offset, got)
		}
	}
	for value := range m.unknown {
		if got := at[value]; len(got) > 1 {
			m.wrong("%s, of unknown outcome, is at %v", value, got)
		}
	}
	// Another gateway's cache tells the same.
	for _, g := range m.gs {
		g.view.SetLag(false)
		for _, f := range g.readAll(0) {
			if got := at[f.value]; len(got) != 1 || got[0] != f.offset {
				m.wrong("a gateway serves %s at %d, it is at %v", f.value, f.offset, got)
			}
		}
	}
}

// start makes gateway i with the scenario's faults.
func (m *model) start(i int) *gateway {
	g := m.w.gateway(func(o *chain.Options) { o.Node = int32(i) })
	for j, name := range []string{"a", "b", "c"} {
		rng := rand.New(rand.NewPCG(m.sc.seed, uint64(100+10*i+j)))
		var mu sync.Mutex
		g.clients.Of(name).HideBatches(m.sc.hide)
		g.clients.Of(name).SetFault(func(span.Topic, int32, []byte) chaintest.Fault {
			mu.Lock()
			n, d := rng.IntN(1000), rng.IntN(200)
			mu.Unlock()
			time.Sleep(time.Duration(d) * time.Microsecond)
			switch {
			case n < m.sc.lost:
				return chaintest.Fault{Lost: true}
			case n < 2*m.sc.lost:
				return chaintest.Fault{Unanswered: true}
			case n < 3*m.sc.lost:
				return chaintest.Fault{Err: span.ErrUnavailable}
			}
			return chaintest.Fault{}
		})
	}
	return g
}

func (m *model) run() {
	w := m.w
	w.fleet.HideBatches(m.sc.hide)
	for i := range 2 {
		m.gs = append(m.gs, m.start(i))
	}
	var wg, mv sync.WaitGroup
	var stop atomic.Bool
	var cs []*client
	for k := range m.sc.producers {
		c := &client{m: m, rng: rand.New(rand.NewPCG(m.sc.seed, uint64(k))), id: int64(k + 1), via: m.gs[k%2], acks: make([]int64, m.sc.batches)}
		cs = append(cs, c)
		wg.Go(c.run)
	}
	for k := range m.sc.plain {
		wg.Go(func() { m.plainProducer(k, rand.New(rand.NewPCG(m.sc.seed, uint64(50+k)))) })
	}
	mv.Go(func() { m.mover(rand.New(rand.NewPCG(m.sc.seed, 999)), &stop) })
	wg.Wait()
	stop.Store(true)
	mv.Wait()
	if len(m.no) == 0 {
		m.check(cs)
	}
	for _, s := range m.no {
		m.t.Error(s)
	}
}

// Random appends of producers with and without id through two gateways, one of
// which mostly lags, while the chain is extended, seals are taken back, answers are
// lost and connections cut: each acknowledged record is in the chain exactly once,
// at its offset, in its producer's order, and no producer is refused what Kafka
// would have taken.
func TestModelOfTwoGatewaysUnderMoves(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sc := scenario{
			seed:      rapid.Uint64().Draw(rt, "seed"),
			producers: rapid.IntRange(1, 3).Draw(rt, "producers"),
			plain:     rapid.IntRange(0, 2).Draw(rt, "plain"),
			batches:   rapid.IntRange(5, 60).Draw(rt, "batches"),
			moves:     rapid.IntRange(0, 8).Draw(rt, "moves"),
			takenBack: rapid.SampledFrom([]int{0, 30}).Draw(rt, "taken back"),
			drops:     rapid.SampledFrom([]int{0, 20, 100}).Draw(rt, "drops"),
			lost:      rapid.SampledFrom([]int{0, 0, 5, 30}).Draw(rt, "lost"),
			restarts:  rapid.SampledFrom([]int{0, 0, 40}).Draw(rt, "restarts"),
			lag:       rapid.Bool().Draw(rt, "lag"),
			hide:      rapid.Bool().Draw(rt, "hide"),
		}
		ok := t.Run("", func(t *testing.T) {
			m := &model{t: rt, w: newWorld(t, "a", "b", "c"), sc: sc, plainAcks: map[string]int64{}, unknown: map[string]bool{}}
			m.run()
		})
		if !ok {
			rt.Fatalf("%+v", sc)
		}
	})
}

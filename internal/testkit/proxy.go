package testkit

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Direction is one way through a Proxy, or both.
type Direction uint8

const (
	Up   Direction = 1 << iota // from the client to the target: requests
	Down                       // from the target to the client: responses
	Both = Up | Down
)

// chunk is how much a proxy reads at once, and queueDepth how many chunks it holds for one
// direction of one connection; past that the sender feels the back pressure of TCP.
const (
	chunk      = 64 << 10
	queueDepth = 64
)

// A Proxy forwards TCP connections from an address on the loopback interface to a target, and
// injects faults on command. All methods may be called from any goroutine, and take effect on the
// connections that are open as well as on new ones. Faults add up until Heal.
type Proxy struct {
	reserved *port

	bytes    [2]atomic.Int64 // delivered, by lane
	accepted atomic.Int64

	mu       sync.Mutex
	target   string
	listener net.Listener // nil while cut
	links    map[*link]struct{}
	lanes    [2]lane
	changed  chan struct{} // closed and replaced at every change of the faults
	closed   bool
	wg       sync.WaitGroup
}

// lane holds the faults of one direction. 0 is Up, 1 is Down.
type lane struct {
	stalled bool
	lost    bool // read from the sender, never delivered
	delay   time.Duration
	left    int64 // bytes until the reset; negative: no limit
}

// link is one client connection and its connection to the target.
type link struct {
	client, target *net.TCPConn
	gone           chan struct{}
	once           sync.Once
	lossy          atomic.Bool // bytes were lost: the stream cannot go on
}

// reset closes both connections with RST, so that the peers see an error and not an end of stream.
func (l *link) reset() {
	l.once.Do(func() {
		close(l.gone)
		for _, c := range []*net.TCPConn{l.client, l.target} {
			// The connection is going away: failing to set the option changes only how.
			_ = c.SetLinger(0)
			_ = c.Close()
		}
	})
}

// NewProxy starts a proxy that closes with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := StartProxy(target)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}

// StartProxy starts a proxy to target, HOST:PORT. The caller calls Close.
func StartProxy(target string) (*Proxy, error) {
	reserved, err := reservePort()
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		reserved: reserved, target: target,
		links: map[*link]struct{}{}, changed: make(chan struct{}),
	}
	p.lanes[0].left, p.lanes[1].left = -1, -1
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.listen(); err != nil {
		reserved.release()
		return nil, err
	}
	return p, nil
}

// Addr is the address to connect to, HOST:PORT. It stays the same over Cut and Heal.
func (p *Proxy) Addr() string { return p.reserved.addr() }

// listen is called with the lock held.
func (p *Proxy) listen() error {
	if p.listener != nil || p.closed {
		return nil
	}
	l, err := net.Listen("tcp", p.reserved.addr())
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	p.listener = l
	p.wg.Go(func() { p.accept(l) })
	return nil
}

func (p *Proxy) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed by Cut or Close
		}
		p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	c, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		_ = client.SetLinger(0) // what the client sees of an unreachable target is a reset
		_ = client.Close()
		return
	}
	l := &link{client: client, target: c.(*net.TCPConn), gone: make(chan struct{})}
	p.mu.Lock()
	if p.closed || p.listener == nil {
		p.mu.Unlock()
		l.reset()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	p.accepted.Add(1)

	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, 0, l.client, l.target) })
	pumps.Go(func() { p.pump(l, 1, l.target, l.client) })
	pumps.Wait()
	l.reset()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

type parcel struct {
	data []byte // owned by whoever holds the parcel
	at   time.Time
}

// pump moves one direction: a reader takes what comes, a writer delivers it as the faults allow.
// The queue between them is what makes a delay a latency and not a bandwidth.
func (p *Proxy) pump(l *link, way int, from, to *net.TCPConn) {
	queue := make(chan parcel, queueDepth)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(queue)
		for {
			b := make([]byte, chunk)
			n, err := from.Read(b)
			if n > 0 {
				select {
				case queue <- parcel{b[:n], time.Now()}:
				case <-l.gone:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for item := range queue {
		if !p.deliver(l, way, to, item) {
			l.reset()
		}
	}
	reader.Wait()
	// The sender has ended: pass that on; the other direction may still have something to say.
	// On a link that is reset already this fails, as it should.
	_ = to.CloseWrite()
}

// deliver says whether the link can go on.
func (p *Proxy) deliver(l *link, way int, to *net.TCPConn, item parcel) bool {
	for {
		p.mu.Lock()
		f := &p.lanes[way]
		changed := p.changed
		var wait time.Duration
		switch {
		case f.stalled:
			wait = -1
		case f.delay > 0:
			wait = max(0, f.delay-time.Since(item.at))
		}
		if wait == 0 {
			data, last := item.data, false
			lost := f.lost
			if !lost && f.left >= 0 {
				if last = int64(len(data)) >= f.left; last {
					data = data[:f.left]
				}
				f.left -= int64(len(data))
			}
			p.mu.Unlock()
			if lost {
				l.lossy.Store(true)
				return true
			}
			if l.lossy.Load() {
				return false // healed: what was lost leaves a hole in the stream
			}
			// Counted before, so that whoever has received bytes finds them counted.
			p.bytes[way].Add(int64(len(data)))
			n, err := to.Write(data)
			p.bytes[way].Add(int64(n - len(data)))
			if last {
				// Let what was allowed through arrive: a reset would overtake it.
				_ = to.CloseWrite()
				return false
			}
			return err == nil
		}
		p.mu.Unlock()
		if !sleep(wait, changed, l.gone) {
			return false
		}
	}
}

// sleep waits for the time (for ever if negative), a change of the faults, or the end of the link,
// and then says false.
func sleep(d time.Duration, changed, gone <-chan struct{}) bool {
	var due <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-changed:
	case <-gone:
		return false
	}
	return true
}

// set changes the faults of a direction and wakes whoever waits on them.
func (p *Proxy) set(d Direction, f func(*lane)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for way, bit := range []Direction{Up, Down} {
		if d&bit != 0 {
			f(&p.lanes[way])
		}
	}
	p.wake()
}

// wake is called with the lock held.
func (p *Proxy) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// SetTarget makes new connections go to another address.
func (p *Proxy) SetTarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Cut resets every connection and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	l := p.listener
	p.listener = nil
	p.mu.Unlock()
	if l != nil {
		_ = l.Close() // only ever fails when closed before
	}
	p.Reset()
}

// Reset resets every connection that is open; new ones are taken.
func (p *Proxy) Reset() {
	p.mu.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.reset()
	}
}

// Stall holds all bytes of a direction: connections stay up, and new ones are taken, but nothing
// arrives. Heal delivers what was held.
func (p *Proxy) Stall(d Direction) { p.set(d, func(f *lane) { f.stalled = true }) }

// Delay adds latency to a direction without lowering its bandwidth.
func (p *Proxy) Delay(d Direction, by time.Duration) { p.set(d, func(f *lane) { f.delay = by }) }

// DropAfter lets n more bytes of a direction through, counted over all connections, and then
// resets the connection that carries the last of them, and each that carries more until Heal.
func (p *Proxy) DropAfter(d Direction, n int64) { p.set(d, func(f *lane) { f.left = max(n, 0) }) }

// LoseResponses delivers requests and swallows what is answered: the acknowledgement is lost.
// Connections that lost something are reset by Heal, or by Cut or Reset.
func (p *Proxy) LoseResponses() { p.set(Down, func(f *lane) { f.lost = true }) }

// Heal ends all faults. Connections whose bytes were lost are reset.
func (p *Proxy) Heal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lanes = [2]lane{{left: -1}, {left: -1}}
	p.wake()
	for l := range p.links {
		if l.lossy.Load() {
			l.reset()
		}
	}
	return p.listen()
}

// Bytes is how many bytes were delivered in a direction (for Both, the sum), over all connections.
func (p *Proxy) Bytes(d Direction) int64 {
	var n int64
	if d&Up != 0 {
		n += p.bytes[0].Load()
	}
	if d&Down != 0 {
		n += p.bytes[1].Load()
	}
	return n
}

// Accepted is how many connections were made through the proxy so far.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

// Open is how many connections are open through the proxy now.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close resets all connections and ends the proxy.
func (p *Proxy) Close() {
	p.mu.Lock()
	was := p.closed
	p.closed = true
	p.mu.Unlock()
	if was {
		return
	}
	p.Cut()
	p.wg.Wait()
	p.reserved.release()
}

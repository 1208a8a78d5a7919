package kafka_test

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// modestBroker knows of no other and of no topic. It cuts whoever asks it for anything else than what it is and who
// is in its cluster, once it is told to.
type modestBroker struct {
	l     net.Listener
	cuts  atomic.Bool
	asked atomic.Int32 // for something else
	wg    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil: closed
}

func newModestBroker(t *testing.T) *modestBroker {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &modestBroker{l: l, conns: map[net.Conn]bool{}}
	b.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			if b.conns == nil {
				_ = c.Close()
			} else {
				b.conns[c] = true
			}
			b.mu.Unlock()
			b.wg.Go(func() {
				b.serve(t, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.mu.Lock()
		for c := range b.conns {
			_ = c.Close()
		}
		b.conns = nil
		b.mu.Unlock()
		b.wg.Wait()
	})
	return b
}

func (b *modestBroker) serve(t *testing.T, c net.Conn) {
	frames := wire.NewFrameReader(c, 1<<20)
	for {
		frame, err := frames.Next()
		if err != nil {
			return
		}
		h, body, err := wire.ParseHeader(frame.B)
		if err != nil {
			t.Errorf("header: %v", err)
			return
		}
		req := kmsg.RequestForKey(h.Key)
		req.SetVersion(h.Version)
		if err := req.ReadFrom(append([]byte(nil), body...)); err != nil {
			t.Errorf("key %d: %v", h.Key, err)
			return
		}
		frame.Release()
		resp := req.ResponseKind()
		resp.SetVersion(h.Version)
		switch q := req.(type) {
		case *kmsg.ApiVersionsRequest:
			for key := range int16(kmsg.MaxKey) {
				if of := kmsg.RequestForKey(key); of != nil {
					k := kmsg.NewApiVersionsResponseApiKey()
					k.ApiKey, k.MaxVersion = key, of.MaxVersion()
					resp.(*kmsg.ApiVersionsResponse).ApiKeys = append(resp.(*kmsg.ApiVersionsResponse).ApiKeys, k)
				}
			}
		case *kmsg.MetadataRequest:
			if len(q.Topics) > 0 && b.refuses() {
				return
			}
		default:
			if b.refuses() {
				return
			}
		}
		if _, err := c.Write(wire.AppendResponse(nil, h.CorrelationID, resp)); err != nil {
			return
		}
	}
}

func (b *modestBroker) refuses() bool {
	b.asked.Add(1)
	return b.cuts.Load()
}

// A broker that is away says nothing of what its cluster grants: the others are asked, and only if none answers it is not known.
func TestRightsAreAskedOfBrokersThatAnswer(t *testing.T) {
	brokers := []*modestBroker{newModestBroker(t), newModestBroker(t)}
	var refused int32
	for i, away := range brokers {
		other := brokers[1-i]
		away.cuts.Store(true)
		other.cuts.Store(false)
		// Which is asked first is the store's affair: whichever it is, all answers are the other's.
		s := openAt(t, []string{away.l.Addr().String(), other.l.Addr().String()})
		asked, before := other.asked.Load(), away.asked.Load()
		list, err := s.Rights(t.Context())
		if err != nil || len(list) != 11 {
			t.Errorf("%d rights, %v", len(list), err)
		}
		if n := other.asked.Load() - asked; n < int32(len(list)) {
			t.Errorf("the broker that answers was asked %d times", n)
		}
		refused += away.asked.Load() - before
	}
	if refused == 0 {
		t.Error("the broker that is away was never asked")
	}
	for _, b := range brokers {
		b.cuts.Store(true)
	}
	s := openAt(t, []string{brokers[0].l.Addr().String(), brokers[1].l.Addr().String()})
	if list, err := s.Rights(t.Context()); !errors.Is(err, span.ErrUnavailable) {
		t.Errorf("%v, %v of a cluster none of whose brokers answers", list, err)
	}
}

package testkit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// A Harm is one thing that a Saboteur does to acknowledged records.
type Harm string

const (
	Drop   Harm = "drop"   // one record is acknowledged, and not appended
	Double Harm = "double" // one record is appended twice, and acknowledged once
	Swap   Harm = "swap"   // two neighbours of one batch are appended in each other's place
)

// A Deed is one harm that was done: the client holds the acknowledgement.
type Deed struct {
	Harm      Harm
	Topic     string
	Partition int32
	Offset    int64 // that the client was told for the record (for Swap the first of both), -1: none
}

// A Saboteur is a proxy between Kafka clients and a Kafka endpoint that stays in the way: wherever
// an answer names a broker, it names an address of its own instead. It forwards everything as it
// is until it is told to harm. Its clients must have topics' metadata from it too, because newer
// produce requests name topics by an id.
//
// Each harm is done to one batch: Drop and Double to its last record, Swap to its first two, so
// Swap waits for a batch of at least two. The batch is taken apart and made anew. Sequence numbers
// of the producer's later batches are shifted, so that the endpoint finds nothing amiss and keeps
// refusing true duplicates.
type Saboteur struct {
	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool
	first  *door
	doors  map[string]*door // by the target's address
	conns  map[net.Conn]struct{}
	topics map[[16]byte]string
	armed  []order
	shifts map[producerKey]int32
	ends   map[topicPartition]int64 // what the endpoint will append next, as far as seen
	done   []Deed
	change chan struct{} // closed and replaced when done grows
}

type order struct {
	harm      Harm
	topic     string // empty: any
	partition int32  // negative: any
	sequence  int32  // the least base sequence of the batch
}

type topicPartition struct {
	topic     string
	partition int32
}

type producerKey struct {
	topicPartition
	id    int64
	epoch int16
}

// door is a listener that stands for one broker.
type door struct {
	target   string
	listener net.Listener
}

const (
	maxFrame    = 256 << 20
	maxDoors    = 1000
	maxInFlight = 1000 // requests without an answer by connection
)

// NewSaboteur starts a saboteur that closes with the test.
func NewSaboteur(t testing.TB, target string) *Saboteur {
	t.Helper()
	s, err := StartSaboteur(target)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// StartSaboteur starts a saboteur in front of one address of an endpoint, HOST:PORT; the endpoint's
// other addresses it learns. The caller calls Close.
func StartSaboteur(target string) (*Saboteur, error) {
	s := &Saboteur{
		doors: map[string]*door{}, conns: map[net.Conn]struct{}{}, topics: map[[16]byte]string{},
		shifts: map[producerKey]int32{}, ends: map[topicPartition]int64{}, change: make(chan struct{}),
	}
	d, err := s.open(target)
	if err != nil {
		return nil, err
	}
	s.first = d
	return s, nil
}

// Addr is the address to bootstrap from, HOST:PORT.
func (s *Saboteur) Addr() string { return s.first.listener.Addr().String() }

// Harm orders one harm, to be done to the next produce request that allows it. An empty topic and
// a negative partition mean any. Orders are carried out in their order, each to a batch of its own.
func (s *Saboteur) Harm(h Harm, topic string, partition int32) { s.HarmAfter(h, topic, partition, 0) }

// HarmAfter is Harm for a batch of a producer that has sent so many records to the partition
// before: none of those by which a workload finds out whether a topic is there.
func (s *Saboteur) HarmAfter(h Harm, topic string, partition, sequence int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = append(s.armed, order{h, topic, partition, sequence})
}

// Deeds lists what was done so far.
func (s *Saboteur) Deeds() []Deed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Deed(nil), s.done...)
}

// Wait waits until n deeds are done.
func (s *Saboteur) Wait(ctx context.Context, n int) ([]Deed, error) {
	for {
		s.mu.Lock()
		done, change := append([]Deed(nil), s.done...), s.change
		s.mu.Unlock()
		if len(done) >= n {
			return done, nil
		}
		select {
		case <-ctx.Done():
			return done, fmt.Errorf("%d of %d harms done: %w", len(done), n, ctx.Err())
		case <-change:
		}
	}
}

// Close ends all connections and listeners.
func (s *Saboteur) Close() {
	s.mu.Lock()
	s.closed = true
	for _, d := range s.doors {
		_ = d.listener.Close() // they end their goroutines, whatever they say
	}
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// open returns the door to a target, making it if need be.
func (s *Saboteur) open(target string) (*door, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.doors[target]; d != nil {
		return d, nil
	}
	if s.closed || len(s.doors) >= maxDoors {
		return nil, errors.New("saboteur: closed, or too many brokers")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("saboteur: %w", err)
	}
	d := &door{target: target, listener: l}
	s.doors[target] = d
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			s.wg.Go(func() { s.serve(d, c) })
		}
	})
	return d, nil
}

// track remembers a connection for Close; it says false when that has been.
func (s *Saboteur) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Saboteur) drop(c net.Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	_ = c.Close() // may be closed by the other side's end
}

// exchange is a request that waits for its answer. Answers come in the order of the requests.
type exchange struct {
	key, version int16
	answer       []byte // a whole answer of our own, instead of the endpoint's
	produce      *produceExchange
}

// serve couples one client connection with one to the endpoint.
func (s *Saboteur) serve(d *door, client net.Conn) {
	defer s.drop(client)
	if !s.track(client) {
		return
	}
	target, err := net.Dial("tcp", d.target)
	if err != nil {
		return // the client sees its connection close
	}
	defer s.drop(target)
	if !s.track(target) {
		return
	}
	waiting := make(chan *exchange, maxInFlight)
	var down sync.WaitGroup
	down.Go(func() {
		s.answers(target, client, waiting)
		_, _ = client.Close(), target.Close() // ends the loop below
	})
	for {
		frame, err := readFrame(client)
		if err != nil {
			break
		}
		x, forward, err := s.request(frame)
		if err != nil {
			break
		}
		if x != nil {
			waiting <- x
		}
		if forward == nil {
			continue
		}
		if err := writeFrame(target, forward); err != nil {
			break
		}
	}
	close(waiting)
	_ = target.Close()
	down.Wait()
}

// answers passes on one answer for each exchange. After an error it only empties the queue.
func (s *Saboteur) answers(target, client net.Conn, waiting <-chan *exchange) {
	broken := false
	for x := range waiting {
		if !broken {
			broken = s.answer(target, client, x) != nil
			if broken {
				_, _ = client.Close(), target.Close() // the request loop must not wait for us
			}
		}
		if broken {
			s.undo(x)
		}
	}
}

func (s *Saboteur) answer(target, client net.Conn, x *exchange) error {
	frame := x.answer
	if frame == nil {
		var err error
		if frame, err = readFrame(target); err != nil {
			return err
		}
	}
	frame, err := s.response(x, frame)
	if err != nil {
		return err
	}
	return writeFrame(client, frame)
}

// readFrame reads one frame without its size.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 4 || n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(r, frame)
	return frame, err
}

func writeFrame(w io.Writer, frame []byte) error {
	b := make([]byte, 0, 4+len(frame))
	b = binary.BigEndian.AppendUint32(b, uint32(len(frame)))
	_, err := w.Write(append(b, frame...))
	return err
}

// instead is the address to show for a broker's.
func (s *Saboteur) instead(host *string, port *int32) error {
	if *host == "" || *port <= 0 {
		return nil // no broker
	}
	d, err := s.open(net.JoinHostPort(*host, strconv.Itoa(int(*port))))
	if err != nil {
		return err
	}
	at := d.listener.Addr().(*net.TCPAddr)
	*host, *port = at.IP.String(), int32(at.Port)
	return nil
}

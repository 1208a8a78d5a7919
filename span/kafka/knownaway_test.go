package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
)

// reach is how a store comes to a fake cluster without a network, so that all of it can live in
// a bubble whose time moves only while everybody waits.
type reach struct {
	f  *fakeCluster
	wg sync.WaitGroup

	mu    sync.Mutex
	away  bool          // connections are refused
	hung  chan struct{} // answers wait for its end; nil: they do not
	conns map[net.Conn]bool
}

func (r *reach) dial(_ context.Context, addr string) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return nil, errors.New("connection refused")
	}
	for node, l := range r.f.brokers {
		if l.Addr().String() != addr {
			continue
		}
		client, server := net.Pipe()
		r.conns[server] = true
		r.wg.Go(func() {
			r.f.serve(int32(node), hanging{server, r})
			_ = server.Close()
		})
		return client, nil
	}
	return nil, fmt.Errorf("nobody listens at %s", addr)
}

// hanging is a broker's end of a connection. What a stopped process is sent is taken by its
// kernel; it says nothing.
type hanging struct {
	net.Conn
	r *reach
}

func (c hanging) Write(b []byte) (int, error) {
	c.r.mu.Lock()
	hung := c.r.hung
	c.r.mu.Unlock()
	if hung != nil {
		<-hung
	}
	return c.Conn.Write(b)
}

// take takes the cluster away: stopped, or killed.
func (r *reach) take(stopped bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stopped {
		r.hung = make(chan struct{})
		return
	}
	r.away = true
	for c := range r.conns {
		_ = c.Close()
	}
	clear(r.conns)
}

func (r *reach) giveBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = false
	if r.hung != nil {
		close(r.hung)
		r.hung = nil
	}
}

// TestNoLeader: where the cluster answers, and says that nobody leads a partition, the same holds
// with more patience, and for that partition alone.
func TestNoLeader(t *testing.T) {
	f := newFake(t, 2, 1, 0)
	synctest.Test(t, func(t *testing.T) {
		r := &reach{f: f, conns: map[net.Conn]bool{}}
		s, err := kafka.Open(kafka.Options{Name: "east", Bootstrap: f.bootstrap(), Dial: r.dial, AwayAfter: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer r.wg.Wait()
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		logs := [2]span.Log{}
		for p := range logs {
			logs[p] = s.Log(span.Topic{Name: f.name, ID: f.id}, int32(p))
			defer logs[p].Release()
		}
		next := [2]int32{}
		send := func(p int) (time.Duration, error) {
			done := make(chan *span.Append, 1)
			began := time.Now()
			logs[p].Append(&span.Append{Batch: producerBatch(t, 1<<40+int64(p), 0, next[p], 1, fmt.Sprint(next[p])),
				Done: func(a *span.Append) { done <- a }})
			a := <-done
			if a.Err == nil {
				next[p]++
			}
			return time.Since(began), a.Err
		}
		for p := range logs {
			if _, err := send(p); err != nil {
				t.Fatal(err)
			}
		}
		leads := func(node, epoch int32) {
			f.mu.Lock()
			f.parts[0].leader, f.parts[0].epoch = node, epoch
			f.mu.Unlock()
			time.Sleep(time.Millisecond) // else what was heard in this very moment is no older than it
		}
		for round := range int32(3) {
			leads(-1, 2*round+1)
			took, err := send(0)
			t.Logf("the first waited %v", took)
			if !errors.Is(err, span.ErrUnavailable) || took < 4*time.Second || took > 6*time.Second {
				t.Errorf("the first append to a partition without a leader: %v after %v", err, took)
			}
			for range 20 {
				// One question for the leader, which waits for the last one's to be a little past.
				if took, err := send(0); !errors.Is(err, span.ErrUnavailable) || took > 20*time.Millisecond {
					t.Errorf("a later append to a partition without a leader: %v after %v", err, took)
				}
				if took, err := send(1); err != nil || took > 0 {
					t.Errorf("an append to the other partition: %v after %v", err, took)
				}
			}
			leads(round%2, 2*round+2)
			if took, err := send(0); err != nil || took > 100*time.Millisecond {
				t.Errorf("an append when there is a leader again: %v after %v", err, took)
			}
		}
	})
}

// TestBackWithoutLeaders: brokers that are started again answer before anybody leads their partitions. Who came in vain while the
// cluster was away goes on being refused until they do: he has waited once, and clients' other partitions wait with him.
func TestBackWithoutLeaders(t *testing.T) {
	f := newFake(t, 1, 1, 0)
	synctest.Test(t, func(t *testing.T) {
		r := &reach{f: f, conns: map[net.Conn]bool{}}
		s, err := kafka.Open(kafka.Options{Name: "east", Bootstrap: f.bootstrap(), Dial: r.dial, AwayAfter: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer r.wg.Wait()
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		log := s.Log(span.Topic{Name: f.name, ID: f.id}, 0)
		defer log.Release()
		next := int32(0)
		send := func() (time.Duration, error) {
			done := make(chan *span.Append, 1)
			began := time.Now()
			log.Append(&span.Append{Batch: producerBatch(t, 1<<40, 0, next, 1, fmt.Sprint(next)), Done: func(a *span.Append) { done <- a }})
			a := <-done
			if a.Err == nil {
				next++
			}
			return time.Since(began), a.Err
		}
		leads := func(node, epoch int32) {
			f.mu.Lock()
			f.parts[0].leader, f.parts[0].epoch = node, epoch
			f.mu.Unlock()
		}
		for round := range int32(3) {
			if _, err := send(); err != nil {
				t.Fatal(err)
			}
			r.take(false)
			if _, err := send(); !errors.Is(err, span.ErrUnavailable) && !errors.Is(err, span.ErrUnknownOutcome) {
				t.Errorf("an append to a cluster that is away: %v", err)
			}
			time.Sleep(10 * time.Second)
			leads(-1, 2*round+1)
			r.giveBack()
			for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(50 * time.Millisecond) {
				// The first finds out with the others.
				if took, err := send(); !errors.Is(err, span.ErrUnavailable) || took > 350*time.Millisecond {
					t.Errorf("round %d, %v after the cluster was back, without a leader: %v after %v", round, time.Since(began), err, took)
				}
			}
			leads(0, 2*round+2)
			time.Sleep(10 * time.Millisecond)
			if took, err := send(); err != nil || took > 100*time.Millisecond {
				t.Errorf("an append when there is a leader again: %v after %v", err, took)
			}
		}
	})
}

// TestTroubleIsForgotten: appends that met a partition without a leader and ran out of time, or of
// the store's patience, say nothing about an election that comes long after them.
func TestTroubleIsForgotten(t *testing.T) {
	for name, deadline := range map[string]time.Duration{"deadline": 2 * time.Second, "patience": time.Minute} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, 2, 1, 0)
			synctest.Test(t, func(t *testing.T) {
				r := &reach{f: f, conns: map[net.Conn]bool{}}
				s, err := kafka.Open(kafka.Options{Name: "east", Bootstrap: f.bootstrap(), Dial: r.dial, AwayAfter: 300 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				defer r.wg.Wait()
				defer func() {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				}()
				log := s.Log(span.Topic{Name: f.name, ID: f.id}, 0)
				defer log.Release()
				send := func(seq int32, patience time.Duration) error {
					done := make(chan *span.Append, 1)
					log.Append(&span.Append{Batch: producerBatch(t, 1<<40, 0, seq, 1, fmt.Sprint(seq)), Deadline: time.Now().Add(patience),
						Done: func(a *span.Append) { done <- a }})
					return (<-done).Err
				}
				leads := func(node, epoch int32) {
					f.mu.Lock()
					f.parts[0].leader, f.parts[0].epoch = node, epoch
					f.mu.Unlock()
					time.Sleep(time.Millisecond) // else what was heard in this very moment is no older than it
				}
				if err := send(0, time.Minute); err != nil {
					t.Fatal(err)
				}
				leads(-1, 1)
				if err := send(1, deadline); !errors.Is(err, span.ErrUnavailable) {
					t.Fatalf("without a leader: %v", err)
				}
				leads(1, 2)
				time.Sleep(time.Hour)
				leads(-1, 3)
				var elected sync.WaitGroup
				elected.Go(func() {
					time.Sleep(700 * time.Millisecond)
					leads(0, 4)
				})
				if err := send(1, time.Minute); err != nil {
					t.Errorf("an append that meets a short election: %v", err)
				}
				elected.Wait()
			})
		})
	}
}

// TestKnownAway: only those that meet the absence of a cluster first wait for it. Whoever comes
// later is refused in no time, whatever it asks for and on whichever connection, as often as it
// comes; the store itself finds out soon that the cluster is back, and order is kept.
func TestKnownAway(t *testing.T) {
	for name, stopped := range map[string]bool{"killed": false, "stopped": true} {
		t.Run(name, func(t *testing.T) {
			const partitions = 4
			f := newFake(t, partitions, 1, 0) // its listeners are real, and nobody comes by them
			synctest.Test(t, func(t *testing.T) {
				r := &reach{f: f, conns: map[net.Conn]bool{}}
				s, err := kafka.Open(kafka.Options{Name: "east", Bootstrap: f.bootstrap(), Dial: r.dial, AwayAfter: 300 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				defer r.wg.Wait()
				defer func() {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				}()
				var logs []span.Log
				done := make(chan *span.Append, 10*partitions)
				var next [partitions]int32 // sequences
				send := func(p int, seq int32) {
					logs[p].Append(&span.Append{Batch: producerBatch(t, 1<<40+int64(p), 0, seq, 1, fmt.Sprint(seq)),
						Done: func(a *span.Append) { done <- a }})
				}
				for p := range int32(partitions) {
					logs = append(logs, s.Log(span.Topic{Name: f.name, ID: f.id}, p))
					defer logs[p].Release()
				}
				for p := range partitions { // each has its connection, and knows who leads
					send(p, 0)
					if a := <-done; a.Err != nil {
						t.Fatal(a.Err)
					}
					next[p]++
				}
				// Gateways look after clusters twice a second.
				ctx, stop := context.WithCancel(t.Context())
				var asking sync.WaitGroup
				asking.Go(func() {
					for ctx.Err() == nil {
						_, _ = s.Health(ctx) // the store itself remembers what it said
						select {
						case <-time.After(500 * time.Millisecond):
						case <-ctx.Done():
						}
					}
				})
				defer asking.Wait()
				defer stop()

				for range 3 {
					r.take(stopped)
					began := time.Now()
					const sent = 3
					for i := range int32(sent) {
						send(0, next[0]+i)
					}
					for range sent {
						a := <-done
						if !errors.Is(a.Err, span.ErrUnavailable) && !errors.Is(a.Err, span.ErrUnknownOutcome) {
							t.Errorf("an append to a cluster that is away: %v", a.Err)
						}
					}
					first := time.Since(began)
					t.Logf("the first that met it waited %v", first)
					if first < 300*time.Millisecond || first > 3*time.Second {
						t.Errorf("the first that met it waited %v", first)
					}
					for round := range 50 {
						began = time.Now()
						for p := range partitions {
							send(p, next[p])
						}
						for range partitions {
							if a := <-done; !errors.Is(a.Err, span.ErrUnavailable) || errors.Is(a.Err, span.ErrUnknownOutcome) {
								t.Errorf("round %d: %v", round, a.Err)
							}
						}
						if err := logs[1].Probe(ctx); !errors.Is(err, span.ErrUnavailable) {
							t.Errorf("round %d: a probe: %v", round, err)
						}
						if _, err := logs[2].Offsets(ctx); !errors.Is(err, span.ErrUnavailable) {
							t.Errorf("round %d: offsets: %v", round, err)
						}
						if took := time.Since(began); took > 0 {
							t.Fatalf("round %d: though the cluster is known to be away it took %v to be refused", round, took)
						}
						time.Sleep(100 * time.Millisecond) // as clients do before they come again
					}
					r.giveBack()
					began = time.Now()
					for p := range partitions {
						for {
							send(p, next[p])
							if a := <-done; a.Err == nil {
								next[p]++
								break
							}
							time.Sleep(10 * time.Millisecond)
						}
					}
					back := time.Since(began)
					t.Logf("all were back after %v", back)
					if back > 3*time.Second {
						t.Errorf("all were back after %v", back)
					}
					// What was sent to the first and never answered has landed, if it is only stopped.
					for range sent - 1 {
						send(0, next[0])
						if a := <-done; a.Err != nil {
							t.Fatal(a.Err)
						}
						next[0]++
					}
				}
				for p := range partitions {
					want := ""
					for i := range next[p] {
						want += fmt.Sprint(i) + " "
					}
					got := ""
					for _, v := range f.values(p) {
						got += v + " "
					}
					if got != want {
						t.Errorf("partition %d holds %s, want %s", p, got, want)
					}
				}
			})
		})
	}
}

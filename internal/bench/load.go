package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// loadPlan is what a load generator is told, as JSON on its first line of input.
type loadPlan struct {
	Kind       string `json:"kind"` // produce, consume, commit, join, steady, transact, metadata, storm
	Addr       string `json:"addr"`
	Topic      string `json:"topic"`
	ClientID   string `json:"clientId"`
	Partitions int32  `json:"partitions"` // of the topic

	// TLS, and SCRAM-SHA-256 where a user is named.
	TLS      bool   `json:"tls"`
	User     string `json:"user"`
	Password string `json:"password"`

	Connections int     `json:"connections"`
	Rate        float64 `json:"rate"` // records per second over all connections; 0: as fast as it goes

	// Produce: each request carries Spread partitions with Records records each.
	Records     int  `json:"records"`
	RecordBytes int  `json:"recordBytes"`
	Spread      int  `json:"spread"`
	InFlight    int  `json:"inFlight"`
	KeepAcks    bool `json:"keepAcks"` // report when each partition was acknowledged
	// Limit ends the load by itself, saying "done", after so many records; 0: none.
	Limit int64 `json:"limit"`
	// Own gives each connection one partition, by its number, instead of all in turn.
	Own bool `json:"own"`

	// Commit, join, steady: names of groups begin so; transact: transactional ids.
	Prefix string `json:"prefix"`
	// Steady: how many groups of three members there are, in all.
	Groups int `json:"groups"`
	// Transact: the records of a transaction go to these topics in turn.
	Topics []string `json:"topics"`

	// Consume: each connection reads all partitions (Share false) or its share of them.
	Share bool `json:"share"`
	Once  bool `json:"once"` // each partition to its end; the load then says "done"
	Tail  bool `json:"tail"` // from the end on; else from the start, again and again
	// MayStarve lets a run end without a single record: a broker may hold back a client that is
	// far over its quota for longer than the run.
	MayStarve      bool  `json:"mayStarve"`
	PartitionBytes int32 `json:"partitionBytes"`
	MaxBytes       int32 `json:"maxBytes"`
}

// loadResult is what it prints at its end, over the time between "mark" and "stop".
type loadResult struct {
	Records int64             `json:"records"`
	Bytes   int64             `json:"bytes"` // of batches
	Seconds float64           `json:"seconds"`
	CPU     float64           `json:"cpu"` // seconds
	Micros  []uint32          `json:"micros,omitempty"`
	Acks    map[int32][]int64 `json:"acks,omitempty"` // unix microseconds, in order
	Error   string            `json:"error,omitempty"`
}

// loader is a load generator process.
type loader struct {
	plan   loadPlan
	marked atomic.Bool
	// signing bounds the connections of a storm that are being made.
	signing chan struct{}
	warm    sync.WaitGroup // one count for each connection until its first answer

	records, bytes atomic.Int64
	started        atomic.Int64 // records of requests that were begun

	mu     sync.Mutex
	micros []uint32
	acks   map[int32][]int64
}

// runLoad is the process's main: it reads its plan, connects, says "ready" when every connection had
// its first answer, counts from "mark" to "stop", and prints the result.
func runLoad(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return errors.New("no plan")
	}
	l := &loader{acks: map[int32][]int64{}, signing: make(chan struct{}, stormWidth)}
	if err := json.Unmarshal(lines.Bytes(), &l.plan); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	serve := map[string]func(context.Context, int, func()) error{"produce": l.produce, "consume": l.consume, "commit": l.commit,
		"join": l.join, "steady": l.steady, "transact": l.transact, "metadata": l.metadata, "storm": l.storm}[l.plan.Kind]
	if serve == nil {
		return fmt.Errorf("no load %q", l.plan.Kind)
	}
	var all sync.WaitGroup
	for i := range l.plan.Connections {
		l.warm.Add(1)
		all.Go(func() {
			var first sync.Once
			if err := serve(ctx, i, func() { first.Do(l.warm.Done) }); err != nil && ctx.Err() == nil {
				cancel(err)
			}
			first.Do(l.warm.Done)
		})
	}
	l.warm.Wait()
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	if l.plan.Limit > 0 || l.plan.Once {
		go func() {
			all.Wait()
			// Whoever started this reads it before it says "stop".
			fmt.Fprintln(out, "done")
		}()
	}
	var began time.Time
	var before float64
	for lines.Scan() && lines.Text() != "stop" {
		if lines.Text() == "mark" {
			before, began = ownCPU(), time.Now()
			l.marked.Store(true)
		}
	}
	l.marked.Store(false)
	result := loadResult{Records: l.records.Load(), Bytes: l.bytes.Load(), Seconds: time.Since(began).Seconds(), CPU: ownCPU() - before}
	if cause := context.Cause(ctx); cause != nil {
		result.Error = cause.Error()
	}
	cancel(nil)
	all.Wait()
	result.Micros, result.Acks = l.micros, l.acks
	slices.Sort(result.Micros)
	return json.NewEncoder(out).Encode(result)
}

// answered counts one answer, taken us after it was due.
func (l *loader) answered(records, bytes int64, took time.Duration) {
	if !l.marked.Load() {
		return
	}
	l.records.Add(records)
	l.bytes.Add(bytes)
	l.mu.Lock()
	l.micros = append(l.micros, uint32(min(took.Microseconds(), 1<<32-1)))
	l.mu.Unlock()
}

func ownCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		fmt.Fprintln(os.Stderr, "getrusage:", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// pacer hands out due times at a steady rate; without a rate everything is due at once.
type pacer struct {
	next time.Time
	step time.Duration
}

func newPacer(perSecond float64, connection, connections int) *pacer {
	p := &pacer{next: time.Now()}
	if perSecond > 0 {
		p.step = time.Duration(float64(time.Second) / perSecond)
		// Connections take turns rather than all send at once.
		p.next = p.next.Add(p.step * time.Duration(connection) / time.Duration(connections))
	}
	return p
}

// wait sleeps until the next request is due and returns that time: what is sent late counts as late,
// so that a stall shows in the percentiles with all that it held up.
func (p *pacer) wait(ctx context.Context, cost float64) (time.Time, error) {
	if p.step == 0 {
		return time.Now(), ctx.Err()
	}
	due := p.next
	p.next = p.next.Add(time.Duration(float64(p.step) * cost))
	if d := time.Until(due); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			// The kernel's timers come late; that is not the peer's doing.
			if late := time.Since(due); late < 5*time.Millisecond {
				return due.Add(late), nil
			}
		case <-ctx.Done():
			return due, ctx.Err()
		}
	}
	return due, ctx.Err()
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	storage "github.com/braidstream/braid/span/local"
)

// storeAsk is one request to the process that has nothing but an engine, as JSON on a line.
type storeAsk struct {
	Do string `json:"do"` // open, create, append, keys, touch, stats, close

	Dir         string        `json:"dir"`
	Maintenance time.Duration `json:"maintenance"`
	Descriptors uint64        `json:"descriptors"` // the process may have open; 0: as it is

	Topics     int               `json:"topics"`
	Partitions int32             `json:"partitions"`
	Config     map[string]string `json:"config"`

	Bytes      int64 `json:"bytes"`
	BatchBytes int   `json:"batchBytes"`
	InFlight   int   `json:"inFlight"`
	Keys       int   `json:"keys"`
}

// storeAnswer is what it says to each.
type storeAnswer struct {
	Seconds float64       `json:"seconds"`
	Micros  []float64     `json:"micros"` // p50 and p99 of an append
	Stats   storage.Stats `json:"stats"`
	Error   string        `json:"error"`
}

// engineProcess is an engine and the logs of the topics that it made.
type engineProcess struct {
	store *storage.Store
	logs  []span.Log
}

// runStore is the process's main.
func runStore(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	enc := json.NewEncoder(out)
	var p engineProcess
	for lines.Scan() {
		var ask storeAsk
		if err := json.Unmarshal(lines.Bytes(), &ask); err != nil {
			return err
		}
		var a storeAnswer
		began := time.Now()
		err := p.do(&ask, &a)
		a.Seconds = time.Since(began).Seconds()
		if err != nil {
			a.Error = err.Error()
		} else if p.store != nil {
			a.Stats = p.store.Stats()
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
	return nil // whoever asks has gone, and wants it to end as by a kill
}

func (p *engineProcess) do(ask *storeAsk, a *storeAnswer) (err error) {
	switch ask.Do {
	case "open":
		if ask.Descriptors > 0 {
			limit := syscall.Rlimit{Cur: ask.Descriptors, Max: ask.Descriptors}
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
				return fmt.Errorf("limit descriptors: %w", err)
			}
		}
		p.store, err = storage.Open(storage.Options{Dir: ask.Dir, Name: "bench", Maintenance: ask.Maintenance, Logger: slog.New(slog.DiscardHandler)})
		return err
	case "create":
		for range ask.Topics {
			t, err := p.store.Create(context.Background(), span.Spec{Name: fmt.Sprint("t", len(p.logs)), Partitions: ask.Partitions, Config: ask.Config})
			if err != nil {
				return err
			}
			for i := range ask.Partitions {
				p.logs = append(p.logs, p.store.Log(t, i))
			}
		}
		return nil
	case "append":
		raw, err := records(ask.BatchBytes/recordBytes, func(int) []byte { return nil })
		if err != nil {
			return err
		}
		return p.append(ask, a, func(int) ([]byte, error) { return raw, nil })
	case "keys":
		// Keys come again in an order of their own, with a step that no power of two shares.
		return p.append(ask, a, func(n int) ([]byte, error) {
			per := ask.BatchBytes / recordBytes
			return records(per, func(i int) []byte { return fmt.Appendf(nil, "key-%09d", (n*per+i)*7919%ask.Keys) })
		})
	case "touch":
		raw, err := records(1, func(int) []byte { return nil })
		if err != nil {
			return err
		}
		ask.Bytes, ask.BatchBytes, ask.InFlight = int64(len(p.logs))*recordBytes, recordBytes, 1000
		return p.append(ask, a, func(int) ([]byte, error) { return raw, nil })
	case "stats":
		return nil
	case "close":
		return p.store.Close()
	}
	return fmt.Errorf("unknown request %q", ask.Do)
}

// records makes a batch of records of recordBytes bytes each.
func records(n int, key func(int) []byte) ([]byte, error) {
	b := batch.NewBuilder()
	now := time.Now().UnixMilli()
	value := make([]byte, recordBytes)
	for i := range n {
		k := key(i)
		b.Add(batch.Record{Timestamp: now, Key: k, Value: value[:recordBytes-len(k)]})
	}
	return b.Build()
}

// append keeps InFlight appends under way, over all partitions in turn.
func (p *engineProcess) append(ask *storeAsk, a *storeAnswer, next func(int) ([]byte, error)) error {
	type slot struct {
		span.Append
		began time.Time
	}
	free := make(chan *slot, ask.InFlight)
	for range ask.InFlight {
		s := &slot{}
		s.Done = func(*span.Append) { free <- s }
		free <- s
	}
	var took []float64
	var first error
	done := func(s *slot) {
		if !s.began.IsZero() {
			took = append(took, float64(time.Since(s.began).Nanoseconds())/1000)
			first = errors.Join(first, s.Err)
		}
	}
	for i := 0; int64(i)*int64(ask.BatchBytes) < ask.Bytes && first == nil; i++ {
		s := <-free
		done(s)
		raw, err := next(i)
		if err != nil {
			return err
		}
		s.Batch, s.began = raw, time.Now()
		p.logs[i%len(p.logs)].Append(&s.Append)
	}
	for range ask.InFlight {
		done(<-free)
	}
	slices.Sort(took)
	for _, q := range []float64{0.5, 0.99} {
		a.Micros = append(a.Micros, took[min(int(q*float64(len(took))), len(took)-1)])
	}
	return first
}

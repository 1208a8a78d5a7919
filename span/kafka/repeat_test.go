package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
	"github.com/braidstream/braid/wire"
)

// logEnd asks a broker itself, past its proxy.
func logEnd(t *testing.T, addr, topic string) int64 {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp, rp.CurrentLeaderEpoch = -1, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return -1
	}
	return resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].Offset
}

// TestRepeatAfterKill: several batches of a producer land, their answers are lost, and the broker
// is killed. When it is back it knows the last batch of the producer alone. Those before are
// acknowledged where they are, whoever sends them again: this store, or a client that was told
// that the outcome is unknown.
func TestRepeatAfterKill(t *testing.T) {
	const id = 1<<41 + 5
	for name, within := range map[string]time.Duration{"sent again by the store": 2 * patience, "sent again by the client": 8 * time.Second} {
		t.Run(name, func(t *testing.T) {
			c, proxy := proxied(t)
			s := open(t, c, func(o *kafka.Options) { o.Bootstrap = []string{proxy.Addr()} })
			topic := create(t, s, 1, nil)
			l := s.Log(topic, 0)
			defer l.Release()
			send := func(seq int32, wait time.Duration, done chan<- *span.Append) {
				l.Append(&span.Append{Batch: producerBatch(t, id, 0, seq, 1, fmt.Sprint(seq)), Deadline: time.Now().Add(wait),
					Done: func(a *span.Append) { done <- a }})
			}
			done := make(chan *span.Append, 4)
			send(0, patience, done)
			if a := <-done; a.Err != nil {
				t.Fatal(a.Err)
			}
			proxy.Stall(testkit.Down)
			for seq := range int32(3) {
				send(seq+1, within, done)
				waitFor(t, "the batch to land", func() bool { return logEnd(t, c.Node(1).Addr(), topic.Name) == int64(seq)+2 })
			}
			if err := c.Node(1).Kill(); err != nil {
				t.Fatal(err)
			}
			proxy.Reset()
			if err := proxy.Heal(); err != nil {
				t.Fatal(err)
			}
			if within < patience {
				for range 3 {
					if a := <-done; !errors.Is(a.Err, span.ErrUnknownOutcome) {
						t.Fatalf("without its broker: %v", a.Err)
					}
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := c.Node(1).Start(ctx); err != nil {
				t.Fatal(err)
			}
			if within < patience {
				for seq := range int32(3) {
					send(seq+1, patience, done)
				}
			}
			at := map[int64]bool{}
			for range 3 {
				a := <-done
				if a.Err != nil {
					t.Fatalf("sent again: %v", a.Err)
				}
				at[a.BaseOffset] = true
			}
			if !at[1] || !at[2] || !at[3] {
				t.Errorf("acknowledged at %v", at)
			}
			send(4, patience, done)
			if a := <-done; a.Err != nil || a.BaseOffset != 4 {
				t.Errorf("the next: offset %d, %v", a.BaseOffset, a.Err)
			}
			var rejected *span.RejectedError
			send(9, patience, done)
			if a := <-done; !errors.As(a.Err, &rejected) || rejected.Code != wire.OutOfOrderSequenceNumber {
				t.Errorf("after a gap: %v", a.Err)
			}
			if values, _ := readAll(t, l, 0); len(values) != 5 {
				t.Errorf("the log holds %v", values)
			}
		})
	}
}

package clients

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/braidstream/braid/verify"
	"github.com/twmb/franz-go/pkg/kgo"
)

// marker is the value that ends each partition: it is written after everything else, so a reader
// that meets it has met all there is.
func marker(session int32, partition int32) verify.Value {
	return verify.Value{Producer: math.MaxInt32 - 1, Partition: partition, Sequence: int64(session)}
}

// finalRead reads each partition from its start to a marker that it writes first.
func (s *Session) finalRead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	offsets := map[int32]kgo.Offset{}
	for p := range int32(s.o.Partitions) {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(s.o.Bootstrap, ",")...), kgo.DefaultProduceTopic(s.o.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.o.Topic: offsets}),
	)
	if err != nil {
		return fmt.Errorf("final read: %w", err)
	}
	defer cl.Close()
	var records []*kgo.Record
	for p := range int32(s.o.Partitions) {
		records = append(records, &kgo.Record{Partition: p, Value: []byte(marker(s.o.Producer, p).String())})
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("final read: write the markers: %w", err)
	}
	done := make([]bool, s.o.Partitions)
	for left := s.o.Partitions; left > 0; {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("final read: %d partitions were not read to the end: %w", left, ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			v, err := verify.ParseValue(string(r.Value))
			switch {
			case err == nil && v == marker(s.o.Producer, r.Partition):
				if !done[r.Partition] {
					done[r.Partition] = true
					left--
					s.history.FinalDone(r.Partition)
				}
			case err != nil || v.Producer != s.o.Producer:
				s.history.Foreign(r.Partition)
			default:
				s.history.Final(r.Partition, r.Offset, v)
			}
		})
	}
	return nil
}

package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// debuggingConsumer is the replica id with which Kafka's own tools look at what a replica
// holds. Apache Kafka serves it as a consumer; a Braid gateway serves it from the cluster that
// has the records, past its cache, where a record may still be as it was appended.
const debuggingConsumer = -2

// finalFetchVersion is the last version of Fetch that names topics by name.
const finalFetchVersion = 12

// lookup reads every partition once more, by a client that knows nothing of the run. It speaks
// Fetch itself, since the client's consumer cannot say that it is no ordinary one.
type lookup struct {
	*run
	client *kgo.Client
	admin  *kadm.Client

	next []int64 // a partition's is its reader's

	mu   sync.Mutex
	done []bool
}

// finalRead reads what the endpoint holds at the end.
func (r *run) finalRead(ctx context.Context, admin *kadm.Client) error {
	settle, cancel := context.WithTimeout(ctx, r.Settle)
	defer cancel()
	starts, err := admin.ListStartOffsets(settle, r.Topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		r.problem("final read: where the log starts: %v", err)
		return ctx.Err()
	}
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.Fetch.Int16(), finalFetchVersion)
	cl, err := r.Options.client(kgo.MaxVersions(versions))
	if err != nil {
		return err
	}
	defer cl.Close()
	l := &lookup{run: r, client: cl, admin: kadm.NewClient(cl), next: append([]int64(nil), r.begin...),
		done: make([]bool, r.Partitions)}
	for p, s := range starts[r.Topic] {
		// Retention may have removed what the run wrote first.
		if int(p) < len(r.begin) && s.Offset > r.begin[p] {
			r.history.FinalFrom(p, s.Offset)
			l.next[p] = s.Offset
		}
	}
	l.read(settle)
	if open := l.open(); len(open) > 0 {
		r.problem("final read: partitions %v were not read to the end within %s", open, r.Settle)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("final read: %w", err)
	}
	return nil
}

func (l *lookup) open() (open []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, d := range l.done {
		if !d {
			open = append(open, p)
		}
	}
	return open
}

// read asks each partition's leader until all are read to their ends; whatever goes wrong, the
// leaders are looked up again.
func (l *lookup) read(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		open := l.open()
		if len(open) == 0 || ctx.Err() != nil {
			return
		}
		leaders, err := l.leaders(ctx, open)
		if err != nil && ctx.Err() == nil {
			l.problem("final read: %v", err)
		}
		var wg sync.WaitGroup
		for broker, partitions := range leaders {
			wg.Go(func() {
				if err := l.ask(ctx, broker, partitions); err != nil && ctx.Err() == nil {
					l.problem("final read: %v", err)
				}
			})
		}
		wg.Wait()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (l *lookup) isDone(p int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done[p]
}

func (l *lookup) leaders(ctx context.Context, open []int) (map[int32][]int32, error) {
	meta, err := l.admin.Metadata(ctx, l.Topic)
	if err != nil {
		return nil, err
	}
	out := map[int32][]int32{}
	for _, p := range open {
		if d, ok := meta.Topics[l.Topic].Partitions[int32(p)]; ok && d.Leader >= 0 {
			out[d.Leader] = append(out[d.Leader], int32(p))
		}
	}
	return out, nil
}

// ask reads partitions from one broker until they are done or it says something else than records.
func (l *lookup) ask(ctx context.Context, broker int32, partitions []int32) error {
	for ctx.Err() == nil {
		req := kmsg.NewPtrFetchRequest()
		req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = debuggingConsumer, 500, 1, 16<<20
		t := kmsg.NewFetchRequestTopic()
		t.Topic = l.Topic
		for _, p := range partitions {
			if l.isDone(p) {
				continue
			}
			fp := kmsg.NewFetchRequestTopicPartition()
			fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes = p, l.next[p], 1<<20
			t.Partitions = append(t.Partitions, fp)
		}
		if len(t.Partitions) == 0 {
			return nil
		}
		req.Topics = append(req.Topics, t)
		if l.committed {
			req.IsolationLevel = 1
		}
		resp, err := l.client.Broker(int(broker)).RetriableRequest(ctx, req)
		if err != nil {
			return fmt.Errorf("broker %d: %w", broker, err)
		}
		answer, ok := resp.(*kmsg.FetchResponse)
		if !ok {
			return errors.New("not an answer to a fetch")
		}
		if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
			return fmt.Errorf("broker %d: %w", broker, err)
		}
		if err := l.take(answer); err != nil {
			return err
		}
	}
	return nil
}

// take hands on the records of an answer. The error is of a partition; the others' are taken too.
func (l *lookup) take(answer *kmsg.FetchResponse) error {
	var failed error
	for i := range answer.Topics {
		for j := range answer.Topics[i].Partitions {
			p := &answer.Topics[i].Partitions[j]
			if p.Partition < 0 || int(p.Partition) >= len(l.next) || answer.Topics[i].Topic != l.Topic {
				return fmt.Errorf("an answer has partition %d, which was not asked for", p.Partition)
			}
			opts := kgo.ProcessFetchPartitionOpts{Offset: l.next[p.Partition], Topic: l.Topic, Partition: p.Partition}
			if l.committed {
				opts.IsolationLevel = kgo.ReadCommitted()
			}
			got, next := kgo.ProcessFetchPartition(opts, p, kgo.DefaultDecompressor(), nil)
			l.each("final read", kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: l.Topic, Partitions: []kgo.FetchPartition{{Partition: p.Partition, Records: got.Records}}}}}}, l.final)
			l.next[p.Partition] = next
			if got.Err != nil {
				failed = fmt.Errorf("partition %d: %w", p.Partition, got.Err)
			}
		}
	}
	return failed
}

// final takes one value.
func (l *lookup) final(p int32, offset int64, v Value) {
	l.run.final.Add(1)
	l.history.Final(p, offset, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.done[p] && l.reached(v, p, offset) {
		l.done[p] = true
		l.history.FinalDone(p)
	}
}

package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/console/api"
)

// moveRate is the load on a topic that moves, records per second.
const moveRate = 2000

// movesScenario moves a topic to and fro between two Kafka clusters under load. The pause is the
// longest time without an acknowledgement on a partition, for each move and partition; the peer is the
// same measure over as long a time without a move.
func movesScenario(ctx context.Context, e *env) ([]figure, error) {
	f, err := e.twoClusters(ctx)
	if err != nil {
		return nil, err
	}
	p := &peer{name: gateway, addr: f.addr, fleet: f, place: "a"}
	topic, drop, err := e.topic(ctx, p, partitions)
	if err != nil {
		return nil, err
	}
	defer drop()
	l, err := e.startLoad(ctx, loadPlan{Kind: "produce", Addr: f.addr, Topic: topic, ClientID: "bench", Partitions: partitions,
		Connections: partitions, Own: true, Rate: moveRate, Records: 1, RecordBytes: recordBytes, Spread: 1, InFlight: 5, KeepAcks: true})
	if err != nil {
		return nil, err
	}
	defer l.end()
	if err := l.say("mark"); err != nil {
		return nil, err
	}
	// The first moves meet cold connections and code; they count like all others.
	quiet := time.Now()
	if err := pause(ctx, time.Duration(e.opts.pick(15, 2))*time.Second); err != nil {
		return nil, err
	}
	var moves [][2]time.Time
	var took []float64
	profiled := e.profile(ctx, f, "moves", 10*time.Second)
	verdicts := map[string]int{}
	for i := range e.opts.pick(100, 6) {
		began := time.Now()
		op, err := f.move(ctx, []string{topic}, []string{"b", "a"}[i%2])
		if err != nil {
			return nil, fmt.Errorf("move %d: %w", i+1, err)
		}
		ended := time.Now()
		for _, c := range op.Certificates {
			verdicts[c.Verdict]++
		}
		moves = append(moves, [2]time.Time{began, ended})
		took = append(took, float64(ended.Sub(began).Microseconds())/1000)
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	profiled()
	r, err := l.stop(ctx)
	if err != nil {
		return nil, err
	}
	length := time.Duration(median(took) * float64(time.Millisecond))
	var still [][2]time.Time
	for t := quiet; t.Add(length).Before(moves[0][0]); t = t.Add(length) {
		still = append(still, [2]time.Time{t, t.Add(length)})
	}
	moving, resting := gaps(r.Acks, moves), gaps(r.Acks, still)
	pauses := func(name string, q float64) figure {
		return figure{Name: "append pause of a move " + name, Unit: "ms", Value: quantile(moving, q), Peer: "no move",
			PeerValue: quantile(resting, q), Ratio: quantile(moving, q) / quantile(resting, q)}
	}
	return []figure{
		pauses("p50", 0.5).valueAtMost(15).note("%d moves, %d partitions, %d records/s; certificates %v", len(moves), partitions, moveRate, verdicts),
		pauses("p99", 0.99).valueAtMost(50),
		pauses("max", 1),
		{Name: "a move from request to certificate p50", Unit: "ms", Value: median(took)},
		{Name: "a move from request to certificate p99", Unit: "ms", Value: quantile(took, 0.99)},
	}, nil
}

// gaps is, for each span of time and each partition, the longest time without an acknowledgement that
// overlaps it, in ms.
func gaps(acks map[int32][]int64, spans [][2]time.Time) (out []float64) {
	for _, times := range acks {
		slices.Sort(times)
		for _, s := range spans {
			from, to := s[0].UnixMicro(), s[1].UnixMicro()
			// From the last acknowledgement before the span to the first after it.
			i, _ := slices.BinarySearch(times, from)
			longest := int64(0)
			for i = max(i, 1); i < len(times); i++ {
				longest = max(longest, times[i]-times[i-1])
				if times[i] > to {
					break
				}
			}
			out = append(out, float64(longest)/1000)
		}
	}
	return out
}

// twoClusters starts the fleet with two Kafka clusters, "a" and "b".
func (e *env) twoClusters(ctx context.Context) (*fleet, error) {
	f, err := e.gateway(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"a", "b"} {
		k, err := e.kafka(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := f.attach(ctx, name, k.Bootstrap()); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// move runs one operation to its end.
func (f *fleet) move(ctx context.Context, topics []string, to string) (api.Op, error) {
	op, err := f.admin.Submit(ctx, api.OpRequest{Kind: "move", Topics: topics, To: to})
	if err != nil {
		return op, err
	}
	for !op.Ended() {
		if op, err = f.admin.Op(ctx, op.ID, op.Revision); err != nil {
			return op, err
		}
	}
	if op.State != "done" {
		return op, fmt.Errorf("%s: %s", op.State, op.Message)
	}
	return op, nil
}

// batchScenario moves many topics as one operation.
func batchScenario(ctx context.Context, e *env) ([]figure, error) {
	f, err := e.twoClusters(ctx)
	if err != nil {
		return nil, err
	}
	n := e.opts.pick(1000, 50)
	names := make([]string, n)
	began := time.Now()
	next := make(chan int)
	errs := make(chan error, 8)
	var makers sync.WaitGroup
	for range cap(errs) {
		makers.Go(func() {
			for i := range next {
				names[i] = fmt.Sprintf("many-%04d", i)
				if _, err := f.admin.CreateTopic(ctx, api.TopicCreate{Name: names[i], Partitions: 1, Cluster: "a"}); err != nil {
					errs <- fmt.Errorf("create topic %s: %w", names[i], err)
					return
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case err = <-errs:
		}
		if err != nil {
			break
		}
	}
	close(next)
	makers.Wait()
	select {
	case err = <-errs:
	default:
	}
	if err != nil {
		return nil, err
	}
	made := time.Since(began)
	began = time.Now()
	if _, err := f.move(ctx, names, "b"); err != nil {
		return nil, err
	}
	took := time.Since(began)
	_, peak, err := memory(f.pids["controller"])
	if err != nil {
		return nil, err
	}
	whole := figure{Name: fmt.Sprintf("move of %d topics as one operation", n), Unit: "s", Value: took.Seconds()}.
		note("until every certificate is written; made in %.1f s", made.Seconds())
	if n == 1000 {
		whole = whole.valueAtMost(30)
	}
	return []figure{whole, {Name: "controller memory after it", Unit: "MB", Value: float64(peak) / 1e6}}, nil
}

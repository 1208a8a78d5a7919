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

// movesParts are the scenario's parts, in their order.
var movesParts = []string{"kafka", "local", "mixed"}

// movesScenario moves a topic to and fro under load: between two Kafka clusters, between two engines of
// `braid up`, and between an engine there and a Kafka cluster.
func movesScenario(ctx context.Context, e *env) ([]figure, error) {
	var out []figure
	for _, part := range movesParts {
		if len(e.opts.parts) > 0 && !slices.Contains(e.opts.parts, part) {
			continue
		}
		figures, err := e.moves(ctx, part)
		out = append(out, figures...)
		if err != nil {
			return out, fmt.Errorf("%s: %w", part, err)
		}
	}
	return out, nil
}

// moves measures one part. The pause is the longest time without an acknowledgement on a partition, for
// each move and partition; the peer is the same measure over as long a time without a move.
func (e *env) moves(ctx context.Context, part string) ([]figure, error) {
	f, places, n, err := e.movesBetween(ctx, part)
	if err != nil {
		return nil, err
	}
	p := &peer{name: gateway, addr: f.addr, fleet: f, place: places[0]}
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
	moves := map[string][][2]time.Time{} // by where they went
	took := map[string][]float64{}
	profiled := e.profile(ctx, f, "moves-"+part, 10*time.Second)
	verdicts := map[string]int{}
	first := time.Now()
	for i := range n {
		began, to := time.Now(), places[(i+1)%2]
		op, err := f.move(ctx, []string{topic}, to)
		if err != nil {
			return nil, fmt.Errorf("move %d: %w", i+1, err)
		}
		ended := time.Now()
		for _, c := range op.Certificates {
			verdicts[c.Verdict]++
		}
		moves[to] = append(moves[to], [2]time.Time{began, ended})
		took[to] = append(took[to], float64(ended.Sub(began).Microseconds())/1000)
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	profiled()
	r, err := l.stop(ctx)
	if err != nil {
		return nil, err
	}
	if part != "mixed" { // both ways are alike
		to, back := places[0], places[1]
		moves, took = map[string][][2]time.Time{to: append(moves[to], moves[back]...)}, map[string][]float64{to: append(took[to], took[back]...)}
	}
	var out []figure
	for _, to := range places {
		if len(moves[to]) == 0 {
			continue
		}
		length := time.Duration(median(took[to]) * float64(time.Millisecond))
		var still [][2]time.Time
		for t := quiet; t.Add(length).Before(first); t = t.Add(length) {
			still = append(still, [2]time.Time{t, t.Add(length)})
		}
		moving, resting := gaps(r.Acks, moves[to]), gaps(r.Acks, still)
		way := movesNames[part]
		if part == "mixed" {
			way = movesNames[to]
		}
		pauses := func(name string, q float64) figure {
			return figure{Name: "append pause of a move " + way + " " + name, Unit: "ms", Value: quantile(moving, q), Peer: "no move",
				PeerValue: quantile(resting, q), Ratio: quantile(moving, q) / quantile(resting, q)}
		}
		out = append(out,
			pauses("p50", 0.5).valueAtMost(15).note("%d moves, %d partitions, %d records/s; certificates of both ways %v", len(moves[to]), partitions, moveRate, verdicts),
			pauses("p99", 0.99).valueAtMost(50),
			pauses("max", 1),
			figure{Name: "a move " + way + " from request to certificate p50", Unit: "ms", Value: median(took[to])},
			figure{Name: "a move " + way + " from request to certificate p99", Unit: "ms", Value: quantile(took[to], 0.99)})
	}
	return out, nil
}

// movesNames say which way topics moved: by part, or by where they went.
var movesNames = map[string]string{"kafka": "between Kafka clusters", "local": "between engines", "a": "from an engine to Kafka", "local-1": "from Kafka to an engine"}

// movesBetween starts what a part needs, and tells between which clusters how many moves go.
func (e *env) movesBetween(ctx context.Context, part string) (f *fleet, places [2]string, n int, err error) {
	if part == "kafka" {
		f, err = e.twoClusters(ctx)
		return f, [2]string{"a", "b"}, e.opts.pick(100, 6), err
	}
	if f, err = e.up(ctx, "local-1", "local-2"); err != nil {
		return f, places, 0, err
	}
	if part == "local" {
		return f, [2]string{"local-1", "local-2"}, e.opts.pick(100, 6), nil
	}
	k, err := e.kafka(ctx, "a")
	if err != nil {
		return f, places, 0, err
	}
	return f, [2]string{"local-1", "a"}, e.opts.pick(100, 6), f.attach(ctx, "a", k.Bootstrap())
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

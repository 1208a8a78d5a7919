package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/clients"
	"github.com/braidstream/braid/internal/testkit/summary"
)

// piping is a file that a source of Kafka Connect reads into a topic, which a sink writes to
// another file.
type piping struct {
	t        testing.TB
	up       *running
	workers  []*clients.ConnectWorker
	from, to string // files
	written  int    // lines
	kept     int    // of them those that the sink had committed before anything happened
}

// TestKafkaConnect: workers of Kafka Connect in distributed mode, with their internal topics on
// Braid, read the lines of a file into a topic exactly once and from there into another file, while all
// those topics move between clusters and a gateway is killed. Each line is in the topic once, and
// in the second file: once if the sink had committed it before, since a sink to a file delivers again what it
// had not committed when it was stopped. The long run has two workers, of which the first goes while it works, and
// moves all topics every two seconds.
func TestKafkaConnect(t *testing.T) {
	if testing.Short() {
		return // the race detector learns nothing of a JVM
	}
	up := startUp(t, "--set", "group.initial.rebalance.delay.ms=0")
	second := up.gateway("--set", "group.initial.rebalance.delay.ms=0")
	bootstrap := []string{up.ready.Kafka[0], second.ready.Kafka[0]}
	up.must("topic", "create", "piped", "--partitions", "2", "--cluster", "a")
	dir := t.TempDir()
	p := &piping{t: t, up: up, from: filepath.Join(dir, "from"), to: filepath.Join(dir, "to")}
	count, long := 300, os.Getenv("BRAID_SOAK") != ""
	if long {
		count = 5000
	}
	p.write(count / 4)
	p.workers = append(p.workers, clients.StartConnect(t, bootstrap, "pipes"))
	p.create()
	p.arrived("at first")
	p.settled(bootstrap)
	stop := func() {}
	if long {
		stop = up.keepMoving(t, 2*time.Second, []string{"a", "b"})
		p.workers = append(p.workers, clients.StartConnect(t, bootstrap, "pipes"))
	} else {
		p.write(count / 4)
		p.moveAll()
	}
	p.write(count / 4)
	second.kill()
	second.start()
	p.arrived("after a gateway was killed")
	if long {
		p.write(count / 4)
		if err := p.workers[0].Stop(); err != nil {
			t.Fatal(err)
		}
		p.workers = p.workers[1:]
	}
	p.write(count - p.written)
	p.arrived("at the end")
	stop()
	p.healthy("source")
	p.healthy("sink")
	p.exactly("the sink's file", p.read(), p.kept)
	lines, _ := p.consumed(bootstrap)
	p.exactly("the topic", lines, p.written)
	if !t.Failed() {
		summary.Line(t, "Kafka Connect: %d lines piped exactly once, gateway and workers ended meanwhile, topics moved", p.written)
	}
}

// write appends so many lines to the source's file.
func (p *piping) write(n int) {
	p.t.Helper()
	f, err := os.OpenFile(p.from, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	var b strings.Builder
	for ; n > 0; n-- {
		fmt.Fprintln(&b, p.line(p.written))
		p.written++
	}
	_, err = f.WriteString(b.String())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// line is longer than the source's buffer: what it has in the buffer when a batch is full, it takes up only once
// more has come, so that the last lines of many short ones would never arrive (FileStreamSourceTask.poll).
func (p *piping) line(i int) string { return fmt.Sprintf("line %d %s", i, strings.Repeat(".", 1100)) }

// create makes the two connectors.
func (p *piping) create() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Minute)
	defer cancel()
	for name, config := range map[string]map[string]string{
		// Few records in a transaction, so that there are many; and a source that is not exactly once is refused.
		"source": {"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "tasks.max": "1", "file": p.from, "topic": "piped",
			"batch.size": "50", "exactly.once.support": "required"},
		"sink": {"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "tasks.max": "2", "file": p.to, "topics": "piped"},
	} {
		if err := p.workers[0].Create(ctx, name, config); err != nil {
			p.t.Fatal(err)
		}
	}
}

// read is the lines that the sink has written.
func (p *piping) read() (lines []string) {
	p.t.Helper()
	f, err := os.Open(p.to)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it is only read
	s := bufio.NewScanner(f)
	for s.Scan() {
		lines = append(lines, s.Text())
	}
	if err := s.Err(); err != nil {
		p.t.Fatal(err)
	}
	return lines
}

// arrived waits until every line is in the sink's file.
func (p *piping) arrived(what string) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			for _, name := range []string{"source", "sink"} {
				s, err := p.workers[0].Status(context.WithoutCancel(p.t.Context()), name)
				p.t.Logf("%s: %+v, %v; %d lines have arrived of %d", name, s, err, len(p.read()), p.written)
			}
		}
	}()
	eventually(p.t, 5*time.Minute, "every line has arrived "+what, func() bool {
		for _, w := range p.workers {
			select {
			case <-w.Exited():
				p.t.Fatal("a worker has ended")
			default:
			}
		}
		seen := map[string]bool{}
		for _, l := range p.read() {
			seen[l] = true
		}
		return len(seen) >= p.written
	})
}

// moveAll moves each topic, Kafka Connect's own included, to the other cluster.
func (p *piping) moveAll() {
	p.t.Helper()
	topics, err := p.up.admin.Topics(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	to, own := map[string][]string{}, 0
	for i := range topics {
		if strings.HasPrefix(topics[i].Name, "pipes-") {
			own++
		}
		if len(topics[i].Clusters) == 1 {
			target := map[string]string{"a": "b", "b": "a"}[topics[i].Clusters[0]]
			to[target] = append(to[target], topics[i].Name)
		}
	}
	if own != 3 {
		p.t.Errorf("%d internal topics of Kafka Connect, there should be three: configs, offsets and status", own)
	}
	for target, names := range to {
		op, err := p.up.move(p.t.Context(), target, names...)
		if err != nil {
			p.t.Fatal(err)
		}
		if op.State != "done" {
			p.t.Errorf("move of %v to %s: %s: %s", names, target, op.State, op.Message)
		}
	}
}

// healthy demands that a connector and its tasks run and have not failed.
func (p *piping) healthy(name string) {
	p.t.Helper()
	var last string
	eventually(p.t, patience, name+" runs", func() bool {
		s, err := p.workers[0].Status(p.t.Context(), name)
		running := err == nil && s.Connector.State == "RUNNING" && len(s.Tasks) > 0
		for _, task := range s.Tasks {
			running = running && task.State == "RUNNING"
		}
		if now := fmt.Sprint(s, err); !running && now != last {
			last = now
			p.t.Logf("%s: %s", name, now)
		}
		return running
	})
}

// settled waits until the sink has committed all that has arrived.
func (p *piping) settled(bootstrap []string) {
	p.t.Helper()
	_, next := p.consumed(bootstrap)
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...))
	if err != nil {
		p.t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	eventually(p.t, patience, "the sink has committed what has arrived", func() bool {
		ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
		defer cancel()
		got, err := adm.FetchOffsets(ctx, "connect-sink")
		for partition, offset := range next {
			at, ok := got.Lookup("piped", partition)
			if !ok || at.Err != nil || at.At < offset {
				return false
			}
		}
		return err == nil
	})
	p.kept = p.written
}

// consumed reads the topic's committed records, and tells by partition what follows the last.
func (p *piping) consumed(bootstrap []string) (lines []string, next map[int32]int64) {
	p.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.ConsumeTopics("piped"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		p.t.Fatal(err)
	}
	defer cl.Close()
	seen := map[string]bool{}
	next = map[int32]int64{}
	eventually(p.t, time.Minute, "every line is in the topic", func() bool {
		ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
		defer cancel()
		got := cl.PollFetches(ctx)
		got.EachRecord(func(r *kgo.Record) {
			lines = append(lines, string(r.Value))
			seen[string(r.Value)] = true
			next[r.Partition] = r.Offset + 1
		})
		// One poll without records after the last line: nothing comes twice behind it.
		return len(seen) >= p.written && got.Empty()
	})
	return lines, next
}

// exactly demands every line, the first ones once, and nothing else.
func (p *piping) exactly(where string, lines []string, once int) {
	p.t.Helper()
	count := map[string]int{}
	for _, l := range lines {
		count[l]++
	}
	wrong := 0
	for i := range p.written {
		if n := count[p.line(i)]; n == 0 || n > 1 && i < once {
			if wrong++; wrong < 10 {
				p.t.Errorf("%s: line %d is there %d times", where, i, n)
			}
		}
	}
	p.t.Logf("%s: %d lines, %d different ones", where, len(lines), len(count))
	if wrong > 0 || len(count) != p.written {
		p.t.Errorf("%s: %d lines, %d different ones, %d of %d not there once", where, len(lines), len(count), wrong, p.written)
	}
}

package local_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit/summary"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
)

const (
	victimEnv    = "BRAID_LOCAL_TEST_VICTIM" // the data directory of the process to be killed
	killsEnv     = "BRAID_LOCAL_TEST_KILLS"  // how often; default 10
	victimTopics = 2
	victimParts  = 4
	// Partition victimProduced of each topic is written by a producer id; partition victimTrimmed is trimmed behind what
	// is written; partition victimTransacted is written in transactions.
	victimProduced   = 1
	victimTrimmed    = 2
	victimTransacted = 3
	// Less than a store keeps of a producer's batches: the last one that is known to be acknowledged is among them.
	victimInFlight = 4
	killsOfOne     = 20 // kills of a process on one directory
)

// victimID is the producer id of a run.
func victimID(run uint64) int64 { return 1<<40 + int64(run%(1<<30)) }

// victimBatch is the i-th append of a run to a partition.
func victimBatch(run uint64, i int, partition int32) (raw []byte, value string, err error) {
	value = fmt.Sprintf("%x-%d-%0*d", run, i, 1+i%3*700, 0)
	b := batch.NewBuilder()
	if partition == victimProduced {
		b.Producer(victimID(run), 0, int32(i))
	}
	raw, err = b.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)}).Build()
	return raw, value, err
}

// victimOptions makes flushes, checkpoints and recycling happen all the time.
func victimOptions(dir string) local.Options {
	return local.Options{Dir: dir, Name: "here", FlushBytes: 256 << 10, LogFileBytes: 256 << 10, MemoryBudget: 4 << 20,
		OpenFiles: 8, MinSpace: -1, LowSpace: -1, Logger: slog.New(slog.DiscardHandler)}
}

// victim appends for ever and says what was acknowledged, one line each.
func victim(dir string) error {
	s, err := local.Open(victimOptions(dir))
	if err != nil {
		return err
	}
	ctx := context.Background()
	list, err := s.Topics(ctx, "")
	if err != nil {
		return err
	}
	for i := len(list); i < victimTopics; i++ {
		t, err := s.Create(ctx, span.Spec{Name: fmt.Sprint("t", i), Partitions: victimParts, Config: map[string]string{"segment.bytes": "100000"}})
		if err != nil {
			return err
		}
		list = append(list, t)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		// One write per line: what is printed is in the pipe when the process dies.
		if _, err := fmt.Fprintf(os.Stdout, format+"\n", args...); err != nil {
			os.Exit(1)
		}
	}
	run := rand.Uint64()
	for ti, t := range list {
		for p := range int32(victimParts) {
			l := s.Log(t, p)
			if p == victimTransacted {
				for i := range victimTransactors {
					go transactor{l, ti, i, run, say}.write()
				}
				continue
			}
			go func() {
				inFlight := make(chan struct{}, victimInFlight)
				var acked atomic.Int64
				for i := 0; ; i++ {
					inFlight <- struct{}{}
					raw, value, err := victimBatch(run, i, p)
					if err != nil {
						os.Exit(1)
					}
					l.Append(&span.Append{Batch: raw, Done: func(a *span.Append) {
						if a.Err != nil {
							say("error %v", a.Err)
						} else {
							acked.Store(a.BaseOffset)
							say("ack %d %d %d %s", ti, p, a.BaseOffset, value)
						}
						<-inFlight
					}})
					if before := acked.Load() - 50; p == victimTrimmed && i%100 == 99 && before > 0 {
						say("trim %d %d %d -", ti, p, before)
						start, err := l.DeleteBefore(ctx, before)
						if err != nil {
							say("error %v", err)
						}
						say("start %d %d %d -", ti, p, start)
					}
				}
			}()
		}
	}
	select {}
}

// TestKill kills a process that appends, again and again, and looks for what it
// had acknowledged.
func TestKill(t *testing.T) {
	if dir := os.Getenv(victimEnv); dir != "" {
		t.Fatal(victim(dir))
	}
	kills := 10
	if v := os.Getenv(killsEnv); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		kills = n
	}
	type place struct {
		topic     int
		partition int32
		offset    int64
	}
	acked := map[place]string{}
	type start struct{ least, most int64 }
	starts := map[place]start{} // of trimmed partitions; the offset is 0
	var dir string
	appends, duplicates, trimmed := 0, 0, false
	told := newTransactions()
	for round := range kills {
		// All that there is, is read after each kill: many kills of one directory would take a time that grows with their square.
		if round%killsOfOne == 0 {
			dir = t.TempDir()
			appends += len(acked)
			clear(acked)
			clear(starts)
			told.another()
		}
		last := map[place]place{} // of produced partitions, likewise: the last that is known to be acknowledged
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), victimEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		enough := 500 + rand.IntN(3000)
		n := 0
		for lines.Scan() {
			var at place
			var what, value string
			if c, err := fmt.Sscanf(lines.Text(), "%s %d %d %d %s", &what, &at.topic, &at.partition, &at.offset, &value); c != 5 || err != nil {
				t.Errorf("victim said %q", lines.Text())
				continue
			}
			log := place{topic: at.topic, partition: at.partition}
			switch what {
			case "trim":
				starts[log] = start{starts[log].least, max(starts[log].most, at.offset)}
				continue
			case "start":
				starts[log] = start{at.offset, at.offset}
				continue
			}
			if at.partition == victimTransacted {
				if err := told.tell(what, at.topic, at.offset, value); err != nil {
					t.Fatalf("round %d: victim said %q: %v", round, lines.Text(), err)
				}
				if what != "ack" {
					continue
				}
			}
			if at.partition == victimProduced {
				last[log] = at
			}
			if was, ok := acked[at]; ok {
				t.Fatalf("offset %+v was acknowledged twice: %.40q, %.40q", at, was, value)
			}
			acked[at] = value
			if n++; n == enough {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the victim ended by itself")
		}
		if n < enough {
			t.Fatalf("the victim said only %d lines", n)
		}
		s, err := local.Open(victimOptions(dir))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		list, err := s.Topics(context.Background(), "")
		if err != nil || len(list) != victimTopics {
			t.Fatalf("topics %v, %v", list, err)
		}
		found := map[place]string{}
		values := map[string]bool{}
		for ti, topic := range list {
			for p := range int32(victimParts) {
				l := s.Log(topic, p)
				log := place{topic: ti, partition: p}
				off, err := l.Offsets(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if want := starts[log]; off.Start < want.least || off.Start > want.most {
					t.Fatalf("round %d: %+v begins at %d, was trimmed to %d, and asked to be to %d", round, log, off.Start, want.least, want.most)
				}
				starts[log] = start{off.Start, off.Start}
				if p == victimTransacted {
					for offset, value := range told.check(t, round, ti, l) {
						found[place{ti, p, offset}] = value
					}
					l.Release()
					continue
				}
				trimmed = trimmed || off.Start > 0
				// A client that has not heard of its last batch sends it again.
				if at, ok := last[log]; ok {
					var run uint64
					var i int
					if _, err := fmt.Sscanf(acked[at], "%x-%d-", &run, &i); err != nil {
						t.Fatal(err)
					}
					raw, _, err := victimBatch(run, i, p)
					if err != nil {
						t.Fatal(err)
					}
					if a := put(l, raw); a.Err != nil || !a.Duplicate || a.BaseOffset != at.offset {
						t.Fatalf("round %d: %+v sent again: offset %d, duplicate %v, %v", round, at, a.BaseOffset, a.Duplicate, a.Err)
					}
					duplicates++
				}
				for _, r := range readAll(t, l, off.Start) {
					at := place{topic: ti, partition: p}
					var value string
					if _, err := fmt.Sscanf(r, "%d=%s", &at.offset, &value); err != nil {
						t.Fatal(err)
					}
					found[at] = value
					key := fmt.Sprint(ti, p, value)
					if values[key] {
						t.Fatalf("round %d: %.60q is there twice", round, value)
					}
					values[key] = true
				}
				l.Release()
			}
		}
		for at, value := range acked {
			if at.offset < starts[place{topic: at.topic, partition: at.partition}].least {
				continue // trimmed away
			}
			if found[at] != value {
				t.Fatalf("round %d: %+v was acknowledged as %.40q and holds %.40q", round, at, value, found[at])
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	summary.Line(t, "local engine: %d kills (kill -9) of a process that appends: %d acknowledged appends are there, %d of them sent again are not there twice; %s", kills, appends+len(acked), duplicates, told)
	if duplicates == 0 || !trimmed {
		t.Error("nothing was sent again, or trimmed")
	}
	if told.committed == 0 || told.aborted == 0 || told.left == 0 {
		t.Errorf("transactions were not committed, aborted, or left open: %s", told)
	}
}

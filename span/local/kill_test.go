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
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
)

const (
	victimEnv    = "BRAID_LOCAL_TEST_VICTIM" // the data directory of the process to be killed
	killsEnv     = "BRAID_LOCAL_TEST_KILLS"  // how often; default 10
	victimTopics = 2
	victimParts  = 3
)

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
			go func() {
				inFlight := make(chan struct{}, 8)
				for i := 0; ; i++ {
					inFlight <- struct{}{}
					value := fmt.Sprintf("%x-%d-%0*d", run, i, 1+i%3*700, 0)
					raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)}).Build()
					if err != nil {
						os.Exit(1)
					}
					l.Append(&span.Append{Batch: raw, Done: func(a *span.Append) {
						if a.Err != nil {
							say("error %v", a.Err)
						} else {
							say("ack %d %d %d %s", ti, p, a.BaseOffset, value)
						}
						<-inFlight
					}})
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
	dir := t.TempDir()
	type place struct {
		topic     int
		partition int32
		offset    int64
	}
	acked := map[place]string{}
	for round := range kills {
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
			var value string
			if c, err := fmt.Sscanf(lines.Text(), "ack %d %d %d %s", &at.topic, &at.partition, &at.offset, &value); c != 4 || err != nil {
				t.Errorf("victim said %q", lines.Text())
				continue
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
				for _, r := range readAll(t, l, 0) {
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
			if found[at] != value {
				t.Fatalf("round %d: %+v was acknowledged as %.40q and holds %.40q", round, at, value, found[at])
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d acknowledged appends", kills, len(acked))
}

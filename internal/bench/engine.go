package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// engineChild is a process with an engine only.
type engineChild struct{ *child }

func (e *env) engine() (*engineChild, error) {
	c, err := e.self("store", "store")
	if err != nil {
		return nil, err
	}
	return &engineChild{c}, nil
}

// do asks and waits.
func (c *engineChild) do(ctx context.Context, ask storeAsk) (storeAnswer, error) {
	var a storeAnswer
	b, err := json.Marshal(ask)
	if err != nil {
		return a, err
	}
	if err := c.say(string(b)); err != nil {
		return a, err
	}
	line, err := c.line(ctx)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: %s", ask.Do, a.Error)
	}
	return a, nil
}

// all asks one after the other and returns the last answer.
func (c *engineChild) all(ctx context.Context, asks ...storeAsk) (a storeAnswer, err error) {
	for _, ask := range asks {
		if a, err = c.do(ctx, ask); err != nil {
			return a, err
		}
	}
	return a, nil
}

// engineScenario measures the engine by itself: how close its log comes to what the disk can, what it
// writes, and how it copes with many partitions, much data and a compaction. Its process is killed in the
// places where a restart is measured.
func engineScenario(ctx context.Context, e *env) ([]figure, error) {
	var out []figure
	for _, part := range []func(context.Context, *env) ([]figure, error){diskPart, partitionsPart, restartPart, compactionPart} {
		figures, err := part(ctx, e)
		out = append(out, figures...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// diskPart compares the log with bare writes and syncs over blocks that were written before.
func diskPart(ctx context.Context, e *env) ([]figure, error) {
	small, _, err := bareDisk(e.dir, 64<<10, 400)
	if err != nil {
		return nil, err
	}
	_, large, err := bareDisk(e.dir, 4<<20, e.opts.pick(200, 50))
	if err != nil {
		return nil, err
	}
	c, err := e.engine()
	if err != nil {
		return nil, err
	}
	defer c.end()
	one, err := c.all(ctx, storeAsk{Do: "open", Dir: filepath.Join(e.dir, "disk")}, storeAsk{Do: "create", Topics: 1, Partitions: partitions},
		storeAsk{Do: "append", Bytes: 64 * mib, BatchBytes: 64 << 10, InFlight: 1})
	if err != nil {
		return nil, err
	}
	bytes := int64(e.opts.pick(2048, 512)) * mib
	before := one.Stats
	many, err := c.do(ctx, storeAsk{Do: "append", Bytes: bytes, BatchBytes: 64 << 10, InFlight: 64})
	if err != nil {
		return nil, err
	}
	st := many.Stats
	written := st.LogBytes + st.SegmentBytes + st.CheckpointBytes - before.LogBytes - before.SegmentBytes - before.CheckpointBytes
	_, peak, err := memory(c.proc.Pid())
	if err != nil {
		return nil, err
	}
	return []figure{
		{Name: "append of 64 KiB, one at a time, p50", Unit: "ms", Value: one.Micros[0] / 1000, Peer: "bare write + fdatasync", PeerValue: small, Ratio: one.Micros[0] / 1000 / small},
		{Name: "64 KiB appends, 64 under way", Unit: "MiB/s", Value: float64(bytes) / mib / many.Seconds, Peer: "bare 4 MiB write + fdatasync", PeerValue: large,
			Ratio: float64(bytes) / mib / many.Seconds / large, Note: "checksums and the writes to segments included"},
		figure{Name: "write amplification", Unit: "bytes/byte", Value: float64(written) / float64(st.Appended-before.Appended)}.valueAtMost(2.1),
		figure{Name: "engine's memory at that load", Unit: "MB", Value: float64(peak) / 1e6}.valueAtMost(200),
	}, nil
}

// bareDisk writes and syncs a file that exists, and returns the median of one in ms and the rate in MiB/s.
func bareDisk(dir string, size, n int) (ms, rate float64, err error) {
	name := filepath.Join(dir, "bare")
	f, err := os.Create(name)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * 7)
	}
	var took []float64
	var began time.Time
	for range 2 { // the first makes the blocks
		took, began = took[:0], time.Now()
		for i := range n {
			at := time.Now()
			if _, err := f.WriteAt(b, int64(i)*int64(size)); err != nil {
				return 0, 0, err
			}
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return 0, 0, err
			}
			took = append(took, float64(time.Since(at).Microseconds())/1000)
		}
	}
	return median(took), float64(size) * float64(n) / mib / time.Since(began).Seconds(), nil
}

// partitionsPart has ten thousand partitions and a thousand descriptors.
func partitionsPart(ctx context.Context, e *env) ([]figure, error) {
	topics, dir := e.opts.pick(100, 10), filepath.Join(e.dir, "partitions")
	c, err := e.engine()
	if err != nil {
		return nil, err
	}
	defer c.end()
	if _, err := c.do(ctx, storeAsk{Do: "open", Dir: dir, Descriptors: 1000}); err != nil {
		return nil, err
	}
	created, err := c.do(ctx, storeAsk{Do: "create", Topics: topics, Partitions: 100})
	if err != nil {
		return nil, err
	}
	// Enough in each that all of them go to segments, and something that only the log has.
	for range e.opts.pick(15, 2) {
		if _, err = c.do(ctx, storeAsk{Do: "touch"}); err != nil {
			return nil, err
		}
	}
	_, peak, err := memory(c.proc.Pid())
	if err != nil {
		return nil, err
	}
	opened, rss, err := e.reopen(ctx, c, dir)
	if err != nil {
		return nil, err
	}
	n := topics * 100
	return []figure{
		figure{Name: fmt.Sprintf("%d partitions, created", n), Unit: "s", Value: created.Seconds}.valueAtMost(10),
		figure{Name: fmt.Sprintf("%d partitions, memory when written to", n), Unit: "MB", Value: float64(peak) / 1e6}.valueAtMost(200).note("peak; 1,000 descriptors"),
		figure{Name: fmt.Sprintf("%d partitions, start after kill -9", n), Unit: "s", Value: opened}.valueAtMost(2).note("%s MB after it", number(float64(rss)/1e6)),
	}, nil
}

// reopen kills the engine's process and measures the next one's start.
func (e *env) reopen(ctx context.Context, c *engineChild, dir string) (seconds float64, rss int64, err error) {
	c.end()
	next, err := e.engine()
	if err != nil {
		return 0, 0, err
	}
	defer next.end()
	a, err := next.do(ctx, storeAsk{Do: "open", Dir: dir, Descriptors: 1000})
	if err != nil {
		return 0, 0, err
	}
	rss, _, err = memory(next.proc.Pid())
	return a.Seconds, rss, err
}

// restartPart starts on much data after a kill.
func restartPart(ctx context.Context, e *env) ([]figure, error) {
	dir := filepath.Join(e.dir, "restart")
	defer os.RemoveAll(dir) // as much as this goes before the next part
	c, err := e.engine()
	if err != nil {
		return nil, err
	}
	defer c.end()
	size := int64(e.opts.pick(5, 1))
	if _, err := c.all(ctx, storeAsk{Do: "open", Dir: dir}, storeAsk{Do: "create", Topics: 1, Partitions: partitions},
		storeAsk{Do: "append", Bytes: size * gib, BatchBytes: 64 << 10, InFlight: 64}); err != nil {
		return nil, err
	}
	opened, _, err := e.reopen(ctx, c, dir)
	if err != nil {
		return nil, err
	}
	return []figure{figure{Name: fmt.Sprintf("start with %d GiB after kill -9", size), Unit: "s", Value: opened}.valueAtMost(1)}, nil
}

// compactionPart compacts two values for each key, in a process that does nothing else.
func compactionPart(ctx context.Context, e *env) ([]figure, error) {
	dir := filepath.Join(e.dir, "compaction")
	defer os.RemoveAll(dir)
	c, err := e.engine()
	if err != nil {
		return nil, err
	}
	defer c.end()
	// 1 GiB holds as many records as there are keys; two of each make a compaction worth while.
	bytes := int64(e.opts.pick(2048, 256)) * mib
	keys := int(bytes / recordBytes / 2)
	if _, err := c.all(ctx, storeAsk{Do: "open", Dir: dir, Maintenance: time.Hour},
		storeAsk{Do: "create", Topics: 1, Partitions: 1, Config: map[string]string{"cleanup.policy": "compact", "segment.bytes": fmt.Sprint(64 * mib), "min.cleanable.dirty.ratio": "0.01"}},
		storeAsk{Do: "keys", Bytes: bytes + 128*mib, BatchBytes: 64 << 10, InFlight: 64, Keys: keys}, storeAsk{Do: "close"}); err != nil {
		return nil, err
	}
	c.end()
	next, err := e.engine()
	if err != nil {
		return nil, err
	}
	defer next.end()
	if _, err := next.do(ctx, storeAsk{Do: "open", Dir: dir, Maintenance: 100 * time.Millisecond}); err != nil {
		return nil, err
	}
	began := time.Now()
	for {
		a, err := next.do(ctx, storeAsk{Do: "stats"})
		if err != nil {
			return nil, err
		}
		if a.Stats.Compactions > 0 {
			break
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	took := time.Since(began).Seconds()
	_, peak, err := memory(next.proc.Pid())
	if err != nil {
		return nil, err
	}
	return []figure{
		figure{Name: fmt.Sprintf("compaction of %d MiB, %d keys, memory", bytes/mib, keys), Unit: "MB", Value: float64(peak) / 1e6}.valueAtMost(128).note("the whole process"),
		{Name: "compaction, rate", Unit: "MiB/s", Value: float64(bytes) / mib / took, Note: number(took) + " s"},
	}, nil
}

// forgetPages drops a directory's files from the page cache, so that the next read of them is cold.
func forgetPages(dir string) error {
	unix.Sync()
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return vanished(err)
		}
		f, err := os.Open(path)
		if err != nil {
			return vanished(err)
		}
		return errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	})
}

// vanished forgives a file that is gone: servers are at work there.
func vanished(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

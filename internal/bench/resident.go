package main

import (
	"sync"
	"time"
)

// resident is what a process has in memory, in bytes: pages of its own, and pages of files that it
// has mapped, which are page cache that the kernel takes back when it needs room.
type resident struct {
	anon, file int64
}

// watcher looks at a process's memory again and again. The kernel keeps a peak of the sum only.
type watcher struct {
	stop chan struct{}
	once sync.Once // closes stop
	done sync.WaitGroup

	peak resident // of each by itself
	sum  int64    // of both together
	err  error
}

const watchEvery = 20 * time.Millisecond

// watchMemory begins to look; end stops it.
func watchMemory(pid int) *watcher {
	w := &watcher{stop: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			r, err := residentOf(pid)
			if err != nil {
				w.err = err
				return
			}
			w.peak.anon, w.peak.file, w.sum = max(w.peak.anon, r.anon), max(w.peak.file, r.file), max(w.sum, r.anon+r.file)
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
		}
	})
	return w
}

// end stops the watch; what was seen may be read then.
func (w *watcher) end() error {
	w.once.Do(func() { close(w.stop) })
	w.done.Wait()
	return w.err
}

package audit

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a log.
type Options struct {
	// Path of the file; "" for none. Files before it are PATH.1 (the newest) to PATH.8.
	Path string
	// FileBytes is how large a file grows; 0: 16 MiB.
	FileBytes int64
	// Stream gets the lines too; nil for none. It is written to by one goroutine.
	Stream io.Writer
	// Topic appends lines to the internal topic and returns when they are kept; nil for
	// none. It is called by one goroutine, again with the same lines after an error.
	Topic  func(ctx context.Context, lines [][]byte) error
	Logger *slog.Logger
}

// Bounds of what waits to be written, in events.
const (
	maxQueued  = 4096
	maxWaiting = 10_000 // for the topic
	// What clients make happen leaves a quarter of either to operators and the fleet itself.
	maxQueuedOfClients  = maxQueued / 4 * 3
	maxWaitingOfClients = maxWaiting / 4 * 3

	topicLines = 200 // in one batch
	topicRetry = time.Second
)

// Log writes events. Its methods may be called concurrently.
type Log struct {
	o      Options
	queue  chan Event
	bounds bounds
	file   *file

	written, lost, topicLost, leftOut atomic.Int64

	mu      sync.Mutex
	waiting [][]byte // for the topic
	poke    chan struct{}

	ctx    context.Context // of what is appended to the topic
	cancel context.CancelFunc
	closed chan struct{}
	wrote  chan struct{} // closed when nothing more comes for the topic
	once   sync.Once

	unflushed int64     // lines; only write uses it, as the next
	said      time.Time // when a failure was logged last
	done      sync.WaitGroup
}

// Open starts a log; Close it.
func Open(o Options) (*Log, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.FileBytes == 0 {
		o.FileBytes = 16 << 20
	}
	l := &Log{o: o, queue: make(chan Event, maxQueued), bounds: bounds{by: map[sort]*bucket{}}, poke: make(chan struct{}, 1), closed: make(chan struct{}), wrote: make(chan struct{})}
	if o.Path != "" {
		var err error
		if l.file, err = openFile(o.Path, o.FileBytes); err != nil {
			return nil, err
		}
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.done.Go(l.write)
	if o.Topic != nil {
		l.done.Go(l.append)
	}
	return l, nil
}

// Record takes an event, and never waits. A nil log takes nothing.
func (l *Log) Record(e Event) {
	if l == nil {
		return
	}
	now := time.Now()
	if e.Time.IsZero() {
		e.Time = now.UTC()
	}
	n, ok := l.bounds.pass(&e, now)
	if !ok {
		l.leftOut.Add(1)
		return
	}
	e.LeftOut += n
	e.bound()
	if !e.fleets() && len(l.queue) >= maxQueuedOfClients {
		l.lost.Add(1)
		return
	}
	select {
	case l.queue <- e:
	default:
		l.lost.Add(1)
	}
}

// Counts of a log since its start.
type Counts struct {
	Written, LeftOut int64
	Lost             int64 // neither written nor left out on purpose
	TopicLost        int64 // not appended to the topic
}

// Counts tells what became of the events.
func (l *Log) Counts() Counts {
	return Counts{Written: l.written.Load(), LeftOut: l.leftOut.Load(), Lost: l.lost.Load(), TopicLost: l.topicLost.Load()}
}

// Drain waits until what was told before is written, in the topic too, or ctx ends.
func (l *Log) Drain(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		n := len(l.waiting)
		l.mu.Unlock()
		if n+len(l.queue) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Close writes what was told before, and ends; what the topic has not taken by the
// end of ctx is lost to it.
func (l *Log) Close(ctx context.Context) error {
	var err error
	l.once.Do(func() {
		stop := context.AfterFunc(ctx, l.cancel)
		close(l.closed)
		l.done.Wait()
		stop()
		l.cancel()
		if l.file != nil {
			err = l.file.close()
		}
	})
	return err
}

// write takes events off the queue.
func (l *Log) write() {
	defer close(l.wrote)
	tick := time.NewTicker(sumsEvery)
	defer tick.Stop()
	for {
		select {
		case e := <-l.queue:
			l.line(&e)
		case now := <-tick.C:
			l.sum(now)
		case <-l.closed:
			for {
				select {
				case e := <-l.queue:
					l.line(&e)
					continue
				default:
				}
				break
			}
			l.sum(time.Now())
			l.flush()
			return
		}
		if len(l.queue) == 0 {
			l.flush()
		}
	}
}

func (l *Log) flush() {
	n := l.unflushed
	if l.unflushed = 0; n == 0 {
		return
	}
	if err := l.file.flush(); err != nil {
		l.failed(err)
		l.lost.Add(n)
		return
	}
	l.written.Add(n)
}

func (l *Log) sum(now time.Time) {
	for _, e := range l.bounds.sums(now.UTC()) {
		l.line(&e)
	}
}

func (l *Log) line(e *Event) {
	b, err := json.Marshal(e)
	if err != nil {
		l.lost.Add(1)
		l.failed(err)
		return
	}
	b = append(b, '\n')
	switch {
	case l.file != nil:
		if err := l.file.write(b); err != nil {
			l.failed(err)
			l.lost.Add(l.unflushed + 1)
			l.unflushed = 0
		} else {
			l.unflushed++
		}
	case l.o.Stream == nil:
		l.written.Add(1)
	}
	if l.o.Stream != nil {
		_, err := l.o.Stream.Write(b)
		l.failed(err)
		switch {
		case l.file != nil:
		case err != nil:
			l.lost.Add(1)
		default:
			l.written.Add(1)
		}
	}
	if l.o.Topic == nil {
		return
	}
	most := maxWaiting
	if !e.fleets() {
		most = maxWaitingOfClients
	}
	l.mu.Lock()
	if len(l.waiting) < most {
		l.waiting = append(l.waiting, b[:len(b)-1])
	} else {
		l.topicLost.Add(1)
	}
	l.mu.Unlock()
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// failed says why a line is not kept, and not for each.
func (l *Log) failed(err error) {
	if now := time.Now(); err != nil && now.Sub(l.said) > sumsEvery {
		l.said = now
		l.o.Logger.Error("the audit log cannot be written", "err", err, "lost", l.lost.Load())
	}
}

// append brings lines to the topic. It tries until they are there: the topic's
// cluster may be away for a while.
func (l *Log) append() {
	for {
		l.mu.Lock()
		lines := l.waiting[:min(len(l.waiting), topicLines)]
		l.mu.Unlock()
		if len(lines) == 0 {
			select {
			case <-l.poke:
				continue
			case <-l.wrote:
			}
			l.mu.Lock()
			n := len(l.waiting)
			l.mu.Unlock()
			if n == 0 {
				return
			}
			continue
		}
		if err := l.o.Topic(l.ctx, lines); err != nil {
			l.o.Logger.Debug("audit events are not in the topic yet", "err", err)
			select {
			case <-time.After(topicRetry):
				continue
			case <-l.ctx.Done():
				l.mu.Lock()
				l.topicLost.Add(int64(len(l.waiting)))
				l.mu.Unlock()
				return
			}
		}
		l.mu.Lock()
		l.waiting = append([][]byte(nil), l.waiting[len(lines):]...)
		l.mu.Unlock()
	}
}

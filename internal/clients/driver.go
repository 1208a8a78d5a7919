package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/verify"
)

// Options say what a family does.
type Options struct {
	Bootstrap  string // HOST:PORT,...
	Topic      string // exists, and holds nothing of an earlier session with the same Producer
	Partitions int    // of the topic
	Producer   int32  // number in the values: another one for each session on a topic
	Count      int    // records
	Rate       int    // records a second, 0: as fast as it goes
	Group      string // empty: one of the session's own
	Protocol   string // of the group, "consumer" (KIP-848: Java, confluent and franz-go only) or empty for the family's default

	// Hold, if set, keeps the consumer in its group until it is closed, although all was read.
	Hold <-chan struct{}

	// Timeout bounds the production and the consumption, and then the final read: 60 s.
	Timeout time.Duration
}

const defaultTimeout = time.Minute

// Session is one family at work: a producer, and a consumer in a group.
type Session struct {
	family  Family
	o       Options
	history *verify.History
	start   time.Time

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	errs     []error
	acked    map[verify.Value]bool // by the producer's own lines
	read     map[verify.Value]bool // by the consumer
	readAll  chan struct{}         // closed when every value was read
	sentDone chan struct{}         // closed when the producer has ended
}

// Run lets a family produce and consume in a group, and checks what it saw.
func Run(t testing.TB, f Family, o Options) verify.Report {
	t.Helper()
	s := Start(t, f, o)
	r, err := s.Wait()
	if err != nil {
		t.Fatalf("%s: %v\n%s", f, err, &r)
	}
	return r
}

// Start starts a family's producer and consumer. The programs end with the test, if not before.
func Start(t testing.TB, f Family, o Options) *Session {
	t.Helper()
	s, err := StartSession(t.Context(), f, o)
	if err != nil {
		t.Fatalf("clients: %s: %v", f, err)
	}
	t.Cleanup(s.Close)
	return s
}

// StartSession is Start without a test. The caller calls Wait or Close.
func StartSession(ctx context.Context, f Family, o Options) (*Session, error) {
	if o.Partitions < 1 || o.Count < 1 {
		return nil, fmt.Errorf("%d partitions, %d records: both must be 1 or more", o.Partitions, o.Count)
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Group == "" {
		o.Group = fmt.Sprintf("%s-%s-%d", f, o.Topic, o.Producer)
	}
	s := &Session{
		family: f, o: o, history: verify.NewHistory(o.Partitions), start: time.Now(),
		acked: map[verify.Value]bool{}, read: map[verify.Value]bool{},
		readAll: make(chan struct{}), sentDone: make(chan struct{}),
	}
	for i := range o.Count {
		// Noted before any program runs, since a record may be read before its sender says so.
		if err := s.history.Sent(s.value(i)); err != nil {
			return nil, err
		}
	}
	s.ctx, s.cancel = context.WithTimeout(ctx, o.Timeout)
	produce, consume, err := s.commands()
	if err != nil {
		s.cancel()
		return nil, err
	}
	s.wg.Go(func() { s.consume(consume) })
	s.wg.Go(func() {
		defer close(s.sentDone)
		var senders sync.WaitGroup
		for partition, cmd := range produce {
			senders.Go(func() { s.produce(cmd, partition) })
		}
		senders.Wait()
	})
	return s, nil
}

func (s *Session) value(i int) verify.Value {
	return verify.Value{Producer: s.o.Producer, Partition: int32(i % s.o.Partitions), Sequence: int64(i / s.o.Partitions)}
}

// commands are the producers (kcat needs one for each partition) and the consumer.
func (s *Session) commands() (produce []*exec.Cmd, consume *exec.Cmd, err error) {
	o := s.o
	if s.family == Kcat {
		if _, err := exec.LookPath("kcat"); err != nil {
			return nil, nil, fmt.Errorf("kcat: %w", testkit.ErrNotInstalled)
		}
		for p := range o.Partitions {
			produce = append(produce, kcatProduce(o, p))
		}
		return produce, kcatConsume(o), nil
	}
	cmd, err := command(s.ctx, s.family, "produce", "--bootstrap", o.Bootstrap, "--topic", o.Topic,
		"--partitions", strconv.Itoa(o.Partitions), "--producer", strconv.Itoa(int(o.Producer)),
		"--count", strconv.Itoa(o.Count), "--rate", strconv.Itoa(o.Rate))
	if err != nil {
		return nil, nil, err
	}
	args := []string{"consume", "--bootstrap", o.Bootstrap, "--topic", o.Topic, "--group", o.Group}
	if o.Protocol != "" {
		args = append(args, "--protocol", o.Protocol)
	}
	consume, err = command(s.ctx, s.family, args...)
	return []*exec.Cmd{cmd}, consume, err
}

// fail keeps an error and ends the session.
func (s *Session) fail(err error) {
	s.mu.Lock()
	s.errs = append(s.errs, err)
	s.mu.Unlock()
	s.cancel()
}

// line is what a program prints.
type line struct {
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Value     *string `json:"value"`
	Assigned  []int32 `json:"assigned"`
}

// program starts a command, hands its lines to f, and waits for its end. Stop, when it closes, ends
// the program in order.
func (s *Session) program(role string, cmd *exec.Cmd, stop <-chan struct{}, f func(line)) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	said := &tail{}
	cmd.Stderr = said
	p, err := startReading(cmd, out, f)
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	for {
		select {
		case <-p.exited():
			if err := p.result(); err != nil {
				return fmt.Errorf("%s: %w: %s", role, err, said)
			}
			return nil
		case <-stop:
			stop = nil
			if err := p.Signal(syscall.SIGTERM); err != nil {
				return fmt.Errorf("%s: %w", role, err)
			}
		case <-s.ctx.Done():
			err := p.Signal(syscall.SIGKILL)
			<-p.exited()
			return errors.Join(fmt.Errorf("%s: %w: %s", role, s.ctx.Err(), said), err)
		}
	}
}

// reading is a process and the goroutine that reads its output.
type reading struct {
	*testkit.Process
	done chan struct{}
	err  error // of a line; read after done is closed
}

func startReading(cmd *exec.Cmd, out io.Reader, f func(line)) (*reading, error) {
	p, err := testkit.StartProcessPiped(cmd)
	if err != nil {
		return nil, err
	}
	r := &reading{Process: p, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var l line
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				r.err = errors.Join(r.err, fmt.Errorf("not a line of the contract: %q: %w", lines.Text(), err))
				continue
			}
			f(l)
		}
		r.err = errors.Join(r.err, lines.Err())
		// Only now: waiting closes the pipe, whatever is left in it.
		p.Wait()
	}()
	return r, nil
}

func (r *reading) exited() <-chan struct{} { return r.done }

func (r *reading) result() error { return errors.Join(r.err, r.Err()) }

// produce runs one producer.
func (s *Session) produce(cmd *exec.Cmd, partition int) {
	if s.family == Kcat {
		if err := s.kcatProduce(cmd, partition); err != nil {
			s.fail(err)
		}
		return
	}
	err := s.program("producer", cmd, nil, func(l line) {
		if l.Value == nil {
			s.fail(fmt.Errorf("producer: a line without a value"))
			return
		}
		v, err := verify.ParseValue(*l.Value)
		if err == nil && v.Partition != l.Partition {
			err = fmt.Errorf("value %s acknowledged in partition %d", v, l.Partition)
		}
		if err == nil {
			err = s.ack(v, l.Offset)
		}
		if err != nil {
			s.fail(fmt.Errorf("producer: %w", err))
		}
	})
	if err != nil {
		s.fail(err)
	}
}

// ack records an acknowledgement. The programs do not say when they sent, so the statistics of
// latency mean nothing here, and a pause is the time between two acknowledgements.
func (s *Session) ack(v verify.Value, offset int64) error {
	s.mu.Lock()
	s.acked[v] = true
	s.mu.Unlock()
	return s.history.Acked(v, offset, s.start, time.Now())
}

// kcatProduce feeds kcat at the rate, and takes its good end for all acknowledgements.
func (s *Session) kcatProduce(cmd *exec.Cmd, partition int) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("producer: %w", err)
	}
	var feeding sync.WaitGroup
	feeding.Go(func() {
		defer in.Close()
		for i := partition; i < s.o.Count; i += s.o.Partitions {
			if s.o.Rate > 0 {
				due := time.NewTimer(time.Until(s.start.Add(time.Duration(i) * time.Second / time.Duration(s.o.Rate))))
				select {
				case <-due.C:
				case <-s.ctx.Done():
					due.Stop()
					return
				}
			}
			if _, err := io.WriteString(in, s.value(i).String()+"\n"); err != nil {
				return // kcat has ended, and its status says why
			}
		}
	})
	err = s.program("producer", cmd, nil, func(line) {})
	feeding.Wait()
	if err != nil {
		return err
	}
	for i := partition; i < s.o.Count; i += s.o.Partitions {
		s.mu.Lock()
		s.acked[s.value(i)] = true
		s.mu.Unlock()
		if err := s.history.Acked(s.value(i), -1, time.Time{}, time.Time{}); err != nil {
			return fmt.Errorf("producer: %w", err)
		}
	}
	return nil
}

// consume runs the consumer until it has read every value.
func (s *Session) consume(cmd *exec.Cmd) {
	me := verify.Reader{Name: string(s.family), Group: s.o.Group}
	at := map[int32]int64{}
	stop := make(chan struct{})
	s.wg.Go(func() {
		for _, c := range []<-chan struct{}{s.readAll, s.o.Hold} {
			if c == nil {
				continue
			}
			select {
			case <-c:
			case <-s.ctx.Done():
				return
			}
		}
		close(stop)
	})
	err := s.program("consumer", cmd, stop, func(l line) {
		if l.Value == nil {
			for _, p := range l.Assigned {
				s.history.Assigned(me, p)
			}
			return
		}
		v, err := verify.ParseValue(*l.Value)
		if err != nil {
			s.history.Foreign(l.Partition)
			return
		}
		if v.Producer != s.o.Producer {
			s.history.Foreign(l.Partition)
			return
		}
		if last, ok := at[l.Partition]; s.family == Kcat && ok && l.Offset <= last {
			// kcat does not tell its assignments: a step back may be a new one.
			s.history.Assigned(me, l.Partition)
		}
		at[l.Partition] = l.Offset
		s.history.Polled(me, l.Partition, l.Offset, v)
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.read[v] {
			s.read[v] = true
			if len(s.read) == s.o.Count {
				close(s.readAll)
			}
		}
	})
	if err != nil {
		s.fail(err)
	}
}

// Acked is how many records were acknowledged so far (by kcat: none before its end).
func (s *Session) Acked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

// Close ends the programs.
func (s *Session) Close() {
	s.cancel()
	s.wg.Wait()
}

// Wait waits until everything was produced and consumed, reads the topic once more by a client of
// its own, and checks. The error says that a program failed, or did not finish in time; the report
// then holds what was seen.
func (s *Session) Wait() (verify.Report, error) {
	s.wg.Wait()
	final := context.WithoutCancel(s.ctx)
	s.cancel()
	s.mu.Lock()
	err := errors.Join(s.errs...)
	if missing := s.o.Count - len(s.acked); missing > 0 && err == nil {
		err = fmt.Errorf("the producer ended well, but did not name %d of %d acknowledgements", missing, s.o.Count)
	}
	s.mu.Unlock()
	for p := range int32(s.o.Partitions) {
		// A group that was not given everything has timed out: then this names what it missed.
		s.history.GroupDone(s.o.Group, p)
	}
	if ferr := s.finalRead(final); ferr != nil {
		err = errors.Join(err, ferr)
	}
	r := verify.Check(s.history)
	r.Topic, r.Seconds = s.o.Topic, time.Since(s.start).Seconds()
	return r, err
}

// tail keeps the end of what a program says about itself.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	const most = 4000
	if len(t.buf) > most {
		t.buf = slices.Clone(t.buf[len(t.buf)-most:])
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(bytes.ToValidUTF8(t.buf, []byte("?"))))
}

package spantest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid/span"
)

func (e *env) createAndList() {
	name := e.name()
	t := e.createNamed(name+"-a", 3)
	if t.Name != name+"-a" || t.ID == [16]byte{} {
		e.Fatalf("created %+v", t)
	}
	other := e.createNamed(name+"-b", 1)
	if other.ID == t.ID {
		e.Fatal("two topics share an id")
	}
	_, err := e.s.Create(e.ctx, e.spec(t.Name, 3))
	e.wantErr("create again", err, span.ErrExists)
	e.lists(name, t, other)
	e.lists(name+"-b", other)
	// Takes appends at once, in every partition.
	for p := range int32(3) {
		if a := e.mustPut(e.log(t, p), e.plain(now(), "x")); a.BaseOffset != 0 {
			e.Fatalf("first offset of partition %d is %d", p, a.BaseOffset)
		}
	}
}

// lists waits until topics of a prefix are listed: a broker that leads none of them may hear of them late.
func (e *env) lists(prefix string, want ...span.Topic) {
	e.Helper()
	for end := time.Now().Add(e.caps.Patience); ; {
		list, err := e.s.Topics(e.ctx, prefix)
		slices.SortFunc(list, func(a, b span.Topic) int { return strings.Compare(a.Name, b.Name) })
		if err == nil && slices.Equal(list, want) {
			return
		}
		if err != nil && !errors.Is(err, span.ErrUnavailable) || time.Now().After(end) {
			e.Fatalf("listed %v, %v, want %v", list, err, want)
		}
	}
}

func (e *env) freshIDs() {
	name := e.name()
	first := e.createNamed(name, 1)
	l := e.log(first, 0)
	e.mustPut(l, e.plain(now(), "old"))
	if err := e.s.Delete(e.ctx, first); err != nil {
		e.Fatal(err)
	}
	second := e.recreate(name)
	if second.ID == first.ID {
		e.Fatal("the id was used again")
	}
	// The old topic's handle must never reach the new one.
	e.untilGone("append to the deleted topic", func() error { return e.put(l, e.plain(now(), "stray")).Err })
	if got := e.all(e.log(second, 0), 0); len(got) != 0 {
		e.Fatalf("the new topic holds %v", got)
	}
	// Deleting by the old id leaves the new one alone.
	if err := e.s.Delete(e.ctx, first); err != nil {
		e.Fatal(err)
	}
	e.mustPut(e.log(second, 0), e.plain(now(), "new"))
}

// recreate makes a topic whose name may still be taken for a moment.
func (e *env) recreate(name string) span.Topic {
	e.Helper()
	for end := time.Now().Add(e.caps.Patience); ; {
		t, err := e.s.Create(e.ctx, e.spec(name, 1))
		if err == nil {
			e.Cleanup(func() { _ = e.s.Delete(e.ctx, t) })
			return t
		}
		if !errors.Is(err, span.ErrExists) || time.Now().After(end) {
			e.Fatalf("create again after delete: %v", err)
		}
	}
}

func (e *env) gone() {
	t := e.create(1)
	l := e.log(t, 0)
	e.mustPut(l, e.plain(now(), "x"))
	waiting := make(chan error, 1)
	go func() {
		r, err := l.Read(e.ctx, span.ReadRequest{Offset: 1, MaxWait: e.caps.Patience})
		r.Release()
		waiting <- err
	}()
	if err := e.s.Delete(e.ctx, t); err != nil {
		e.Fatal(err)
	}
	if err := e.s.Delete(e.ctx, t); err != nil {
		e.Fatalf("delete what is gone: %v", err)
	}
	e.untilGone("append", func() error { return e.put(l, e.plain(now(), "y")).Err })
	e.untilGone("offsets", func() error { _, err := l.Offsets(e.ctx); return err })
	e.untilGone("read", func() error {
		r, err := l.Read(e.ctx, span.ReadRequest{Offset: 0})
		r.Release()
		return err
	})
	e.untilGone("offset by time", func() error { _, _, err := l.OffsetFor(e.ctx, 0); return err })
	e.untilGone("delete before", func() error { _, err := l.DeleteBefore(e.ctx, 1); return err })
	e.untilGone("probe", func() error { return l.Probe(e.ctx) })
	e.untilGone("producers", func() error { _, err := l.Producers(e.ctx); return err })
	e.untilGone("add partitions", func() error { return e.s.AddPartitions(e.ctx, t, 2) })
	e.untilGone("configure", func() error {
		return e.s.Configure(e.ctx, t, map[string]string{"retention.ms": "-1"})
	})
	if !e.caps.NoSeal {
		e.untilGone("seal", func() error { _, err := e.s.Seal(e.ctx, t); return err })
	}
	select {
	case err := <-waiting:
		// It may have ended with nothing just before.
		if err != nil && !errors.Is(err, span.ErrGone) {
			e.Fatalf("waiting read: %v", err)
		}
	case <-time.After(2 * e.caps.Patience):
		e.Fatal("a read that waits outlives its topic")
	}
	// Another id under the name of a live topic is gone as well.
	live := e.create(1)
	stranger := live
	stranger.ID[0] ^= 0xff
	a := e.put(e.log(stranger, 0), e.plain(now(), "z"))
	e.wantErr("append under a wrong id", a.Err, span.ErrGone)
	if o := e.offsets(e.log(live, 0)); o.End != 0 {
		e.Fatalf("it landed: %+v", o)
	}
}

func (e *env) addPartitions() {
	t := e.create(1)
	e.mustPut(e.log(t, 0), e.plain(now(), "a"))
	for range 2 {
		if err := e.s.AddPartitions(e.ctx, t, 3); err != nil {
			e.Fatal(err)
		}
	}
	for p := range int32(3) {
		e.mustPut(e.log(t, p), e.plain(now(), "b"))
	}
	if o := e.offsets(e.log(t, 0)); o.End != 2 {
		e.Fatalf("partition 0: %+v", o)
	}
	if e.caps.NoSeal {
		return
	}
	if ends := e.mustSeal(t); len(ends) != 3 || ends[2].End != 1 {
		e.Fatalf("ends %+v", ends)
	}
}

func (e *env) handles() {
	t := e.create(2)
	a, b, c := e.s.Log(t, 0), e.s.Log(t, 0), e.s.Log(t, 1)
	if a != b || a == c {
		e.Fatal("handles of one partition are one object, of two they are two")
	}
	a.Release()
	if d := e.s.Log(t, 0); d != b {
		e.Fatal("the handle changed while one was in use")
	} else {
		d.Release()
	}
	b.Release()
	c.Release()
}

func (e *env) health() {
	// A check that is late tells less, or nothing, of a cluster that is well.
	well := func() (span.Health, error) {
		h, err := answered(e, func() (span.Health, error) { return e.s.Health(e.ctx) })
		for end := time.Now().Add(e.caps.Patience); err == nil && (!h.Writable || h.SealUnknown) && time.Now().Before(end); {
			h, err = e.s.Health(e.ctx)
		}
		return h, err
	}
	h, err := well()
	if err != nil {
		e.Fatal(err)
	}
	if h.ClusterID == "" || !h.Writable || h.CanSeal == e.caps.NoSeal {
		e.Fatalf("health %+v", h)
	}
	again, err := well()
	if err != nil || again.ClusterID != h.ClusterID {
		e.Fatalf("the cluster id changed: %+v, %v", again, err)
	}
}

func (e *env) close() {
	t := e.create(1)
	l := e.log(t, 0)
	var pending []<-chan *span.Append
	for range 50 {
		pending = append(pending, e.start(l, e.plain(now(), "x")))
	}
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		r, err := l.Read(e.ctx, span.ReadRequest{Offset: 1 << 30, MaxWait: e.caps.Patience})
		r.Release()
		_ = err // whatever it is, it must come
	}()
	if err := e.s.Close(); err != nil {
		e.Fatal(err)
	}
	pending = append(pending, e.start(l, e.plain(now(), "late")))
	for _, p := range pending {
		if a := e.wait(p); a.Err != nil && !errors.Is(a.Err, span.ErrUnavailable) && !errors.Is(a.Err, span.ErrUnknownOutcome) {
			e.Fatalf("append while closing: %v", a.Err)
		}
	}
	<-waiting
}

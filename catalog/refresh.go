package catalog

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Refresh returns a snapshot that is at least as new as the moment of the call:
// a linearizable read of the revision, then the watch up to it.
func (w *Watcher) Refresh(ctx context.Context) (*Snapshot, error) {
	revision, err := w.c.Now(ctx)
	if err != nil {
		return nil, fmt.Errorf("refresh: %w", err)
	}
	return w.RevisionAtLeast(ctx, revision)
}

// RevisionAtLeast waits for a snapshot that is complete up to revision.
func (w *Watcher) RevisionAtLeast(ctx context.Context, revision int64) (*Snapshot, error) {
	ctx, cancel := w.c.bounded(ctx)
	defer cancel()
	var ask *time.Ticker
	for {
		w.mu.Lock()
		s, applied := w.snapshot.Load(), w.applied
		w.mu.Unlock()
		if s.revision >= revision {
			return s, nil
		}
		if ask == nil {
			ask = time.NewTicker(50 * time.Millisecond)
			defer ask.Stop()
			// Nothing of ours may have changed since: only a progress answer tells.
			if err := w.c.cli.RequestProgress(w.streamContext(ctx)); err != nil {
				return nil, failure(ctx, "refresh", err)
			}
		}
		select {
		case <-applied:
		case <-ask.C:
			if err := w.c.cli.RequestProgress(w.streamContext(ctx)); err != nil {
				return nil, failure(ctx, "refresh", err)
			}
		case <-w.done:
			return nil, fmt.Errorf("refresh: watcher is closed: %w", ErrUnavailable)
		case <-ctx.Done():
			return nil, failure(ctx, "refresh", ctx.Err())
		}
	}
}

// RefreshTopic reads a topic and its chains linearizably and returns a snapshot
// that has them as of the call or later; other topics may be behind. Only what
// has changed is transferred. Concurrent calls for one topic share a read.
func (w *Watcher) RefreshTopic(ctx context.Context, tenant string, id ID) (*Snapshot, error) {
	for {
		shared, err := w.flights.do(ctx, id, func() error { return w.refreshTopic(ctx, tenant, id) })
		if err == nil {
			return w.Snapshot(), nil
		}
		// Another caller's read may have failed for that caller's own reasons.
		if !shared || ctx.Err() != nil {
			return nil, fmt.Errorf("refresh topic %s: %w", id, err)
		}
	}
}

func (w *Watcher) refreshTopic(ctx context.Context, tenant string, id ID) error {
	prefix := topicKey(tenant, id)
	keys, _, err := w.c.list(ctx, "read revisions", prefix, clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	if w.Snapshot().hasAll(id, keys) {
		return nil
	}
	items, revision, err := w.c.list(ctx, "read", prefix)
	if err != nil {
		return err
	}
	return w.takeTopic(id, items, revision)
}

// takeTopic makes one topic what items are, which are all of it at revision.
func (w *Watcher) takeTopic(id ID, items []item, revision int64) error {
	type value struct {
		a address
		v any
		r int64
	}
	values := make([]value, 0, len(items))
	for _, it := range items {
		a := parseKey(it.key)
		if a.kind != kindTopic && a.kind != kindPage {
			continue
		}
		v, err := decoded(a, it)
		if err != nil {
			return err
		}
		w.fresh.take(v)
		values = append(values, value{a, v, it.revision})
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.snapshot.Load()
	if s.revision >= revision || w.floors[id] >= revision {
		return nil // the watch was faster
	}
	ed := newEdit(s)
	seen := make(map[address]struct{}, len(values))
	for _, x := range values {
		seen[x.a] = struct{}{}
		if x.r > ed.revision(x.a) {
			ed.put(x.a, x.v)
		}
	}
	if st, ok := ed.s.topics.get(id); ok {
		gone := []address{{kind: kindTopic, tenant: st.tenant, id: id}}
		for i := range st.pages {
			gone = append(gone, address{kind: kindPage, tenant: st.tenant, id: id, number: int32(i * PageSize)})
		}
		for _, a := range gone {
			if _, ok := seen[a]; !ok {
				ed.remove(a)
			}
		}
	}
	w.floors[id] = revision
	w.publish(ed, 0)
	return nil
}

// hasAll tells whether the snapshot has a topic exactly at these revisions.
func (s *Snapshot) hasAll(id ID, keys []item) bool {
	st, ok := s.topics.get(id)
	if !ok {
		return len(keys) == 0
	}
	n := 0
	for _, p := range st.pages {
		if p != nil {
			n++
		}
	}
	if st.topic != nil {
		n++
	}
	if n != len(keys) {
		return false
	}
	e := edit{s: s}
	for _, it := range keys {
		if e.revision(parseKey(it.key)) != it.revision {
			return false
		}
	}
	return true
}

// flights lets calls for one id share work that begins after they came: joining
// work that has begun would return a state from before the call.
type flights struct {
	mu   sync.Mutex
	byID map[ID]*flight
}

type flight struct {
	next *call // waits for the running one; others join it
}

type call struct {
	start chan struct{} // closed when it is this call's turn
	done  chan struct{}
	err   error
}

func (f *flights) do(ctx context.Context, id ID, work func() error) (shared bool, err error) {
	f.mu.Lock()
	if f.byID == nil {
		f.byID = map[ID]*flight{}
	}
	fl := f.byID[id]
	if fl == nil {
		f.byID[id] = &flight{}
		f.mu.Unlock()
		err := work()
		f.land(id)
		return false, err
	}
	if c := fl.next; c != nil {
		f.mu.Unlock()
		select {
		case <-c.done:
			return true, c.err
		case <-ctx.Done():
			return false, failure(ctx, "wait for a read", ctx.Err())
		}
	}
	c := &call{start: make(chan struct{}), done: make(chan struct{})}
	fl.next = c
	f.mu.Unlock()
	// The work is bounded in time by itself, so its turn comes.
	<-c.start
	c.err = work()
	close(c.done)
	f.land(id)
	return false, c.err
}

// land gives the turn to the next call, if any.
func (f *flights) land(id ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.byID[id]
	if fl.next == nil {
		delete(f.byID, id)
		return
	}
	c := fl.next
	fl.next = nil
	close(c.start)
}

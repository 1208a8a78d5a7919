package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// Scope limits what a watcher holds.
type Scope struct {
	Tenants []string // nil: all
}

func (sc Scope) prefixes() []string {
	if sc.Tenants == nil {
		return []string{fleetRoot, tenantRoot}
	}
	out := []string{fleetRoot}
	for _, t := range sc.Tenants {
		out = append(out, tenantPrefix(t))
	}
	return out
}

// Watcher keeps a [Snapshot] up to date. The watch behind it may repeat, skip
// and be compacted: values are applied by higher revision only, and after a break
// everything is loaded anew and compared.
type Watcher struct {
	c        *Catalog
	prefixes []string
	stream   string // keeps this watcher's etcd stream apart
	logger   *slog.Logger
	snapshot atomic.Pointer[Snapshot]
	stop     context.CancelFunc
	done     chan struct{}

	mu      sync.Mutex    // held while a snapshot is made and told of
	applied chan struct{} // closed when the revision advances
	floors  map[ID]int64  // topics that were read ahead of the watch, at this revision
	nextSub int
	subs    map[int]func(Change)

	flights flights
	fresh   fresh
}

// Watch loads what is in scope, linearizably, and follows it until Close. The
// context bounds only the load.
func (c *Catalog) Watch(ctx context.Context, scope Scope) (*Watcher, error) {
	w := &Watcher{c: c, prefixes: scope.prefixes(), stream: RandomName(8), logger: c.logger, done: make(chan struct{}),
		applied: make(chan struct{}), floors: map[ID]int64{}, subs: map[int]func(Change){}}
	w.snapshot.Store(&Snapshot{})
	revision, err := w.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch the catalog: %w", err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	go w.run(run, revision)
	return w, nil
}

// Snapshot returns the state as last heard. No I/O.
func (w *Watcher) Snapshot() *Snapshot { return w.snapshot.Load() }

// OnChange calls f after each change, in order, until cancel. f must be quick, and
// must not call the watcher's methods other than Snapshot: no change is applied
// while it runs.
func (w *Watcher) OnChange(f func(Change)) (cancel func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.nextSub
	w.nextSub++
	w.subs[id] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subs, id)
	}
}

// Close ends the watch and waits for it.
func (w *Watcher) Close() {
	w.stop()
	<-w.done
}

// run follows the watch; after any break it loads again.
func (w *Watcher) run(ctx context.Context, revision int64) {
	defer close(w.done)
	for wait := 20 * time.Millisecond; ; {
		began := time.Now()
		err := w.follow(ctx, revision)
		if ctx.Err() != nil {
			return
		}
		w.logger.Debug("catalog watch broke, loading again", "err", err)
		if time.Since(began) > time.Second {
			wait = 20 * time.Millisecond
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			wait = min(2*wait, time.Second)
			r, err := w.load(ctx)
			if err == nil {
				revision = r
				break
			}
			if ctx.Err() == nil {
				w.logger.Warn("catalog cannot be loaded, going on with what is known", "err", err)
			}
		}
	}
}

// streamContext names a stream of this watcher's own, so that its progress
// requests concern only its own watches.
func (w *Watcher) streamContext(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), "braid-watcher", w.stream)
}

type heard struct {
	channel int
	resp    clientv3.WatchResponse
	ok      bool
}

func (w *Watcher) follow(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithCancel(ctx)
	merged := make(chan heard)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	sctx := w.streamContext(ctx)
	upTo := make([]int64, len(w.prefixes))
	for i, p := range w.prefixes {
		upTo[i] = revision
		ch := w.c.cli.Watch(sctx, p, clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithProgressNotify())
		wg.Go(func() {
			for {
				r, ok := <-ch
				select {
				case merged <- heard{i, r, ok}:
				case <-ctx.Done():
					return
				}
				if !ok {
					return
				}
			}
		})
	}
	for {
		var h heard
		select {
		case <-ctx.Done():
			return ctx.Err()
		case h = <-merged:
		}
		if !h.ok {
			return errors.New("watch channel was closed")
		}
		if err := h.resp.Err(); err != nil {
			return err
		}
		if h.resp.IsProgressNotify() {
			upTo[h.channel] = max(upTo[h.channel], h.resp.Header.Revision)
		}
		evs := events(h.resp.Events, upTo[h.channel])
		for _, e := range evs {
			upTo[h.channel] = max(upTo[h.channel], e.revision)
		}
		least := upTo[0]
		for _, r := range upTo {
			least = min(least, r)
		}
		w.apply(evs, least)
	}
}

// event is a put or a delete of a watched key.
type event struct {
	item
	deleted bool
}

// events takes over what the watch sent, less what it sent before: up to known.
func events(in []*clientv3.Event, known int64) []event {
	out := make([]event, 0, len(in))
	for _, e := range in {
		if e.Kv.ModRevision <= known {
			continue
		}
		out = append(out, event{item{string(e.Kv.Key), e.Kv.Value, e.Kv.ModRevision, e.Kv.Lease}, e.Type == mvccpb.Event_DELETE})
	}
	return out
}

// apply takes events of the watch; revision is up to where all of them are known.
func (w *Watcher) apply(evs []event, revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.snapshot.Load()
	ed := newEdit(s)
	for _, ev := range evs {
		a := parseKey(ev.key)
		// The snapshot is complete up to its revision: what is older is a repeat, also
		// a put of what was deleted since.
		if a.kind == kindOther || ev.revision <= s.revision || ev.revision <= ed.revision(a) {
			continue
		}
		if (a.kind == kindTopic || a.kind == kindPage) && ev.revision <= w.floors[a.id] {
			continue // read ahead: the topic is known as of a later revision
		}
		if ev.deleted {
			ed.remove(a)
			continue
		}
		v, err := decoded(a, ev.item)
		if err != nil {
			w.logger.Error("a catalog value cannot be read; the last one known is kept", "key", ev.key, "err", err)
			continue
		}
		w.fresh.take(v)
		ed.put(a, v)
	}
	for id, floor := range w.floors {
		if floor <= revision {
			delete(w.floors, id)
		}
	}
	w.publish(ed, revision)
}

// publish makes the edit the current snapshot. Needs w.mu.
func (w *Watcher) publish(ed *edit, revision int64) {
	c, changed := ed.finish(revision)
	if !changed && c.New.revision == c.Old.revision {
		return
	}
	w.snapshot.Store(c.New)
	if changed {
		for _, f := range w.subs {
			f(c)
		}
	}
	close(w.applied)
	w.applied = make(chan struct{})
}

// load reads everything in scope at one revision. What the snapshot has at the
// same revision is not decoded again.
func (w *Watcher) load(ctx context.Context) (int64, error) {
	var items []item
	var revision int64
	for _, p := range w.prefixes {
		opts := []clientv3.OpOption(nil)
		if revision != 0 {
			opts = append(opts, clientv3.WithRev(revision))
		}
		more, r, err := w.c.list(ctx, "load", p, opts...)
		if err != nil {
			return 0, err
		}
		if revision == 0 {
			revision = r
		}
		items = append(items, more...)
	}
	w.take(items, revision)
	return revision, nil
}

// take makes the snapshot equal to items, which are all of the scope at revision.
func (w *Watcher) take(items []item, revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ed := newEdit(w.snapshot.Load())
	seen := make(map[address]struct{}, len(items))
	for _, it := range items {
		a := parseKey(it.key)
		if a.kind == kindOther {
			continue
		}
		key := a
		if a.kind == kindExtend {
			key.tenant = ""
		}
		seen[key] = struct{}{}
		if it.revision <= ed.revision(a) || w.floors[a.id] > revision {
			continue
		}
		v, err := decoded(a, it)
		if err != nil {
			w.logger.Error("a catalog value cannot be read; the last one known is kept", "key", it.key, "err", err)
			continue
		}
		w.fresh.take(v)
		ed.put(a, v)
	}
	var gone []address
	ed.s.addresses(func(a address) {
		if _, ok := seen[a]; !ok && (w.floors[a.id] <= revision || a.kind == kindExtend) {
			gone = append(gone, a)
		}
	})
	for _, a := range gone {
		ed.remove(a)
	}
	for id, floor := range w.floors {
		if floor <= revision {
			delete(w.floors, id)
		}
	}
	w.publish(ed, revision)
}

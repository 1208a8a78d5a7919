package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// moveTopic extends one topic for an operation.
func (t *term) moveTopic(ctx context.Context, r *opRun, ref catalog.TopicRef, target string) (catalog.Extend, error) {
	for !t.take(ref.ID) {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return catalog.Extend{}, err
		}
		if r.cancelled() {
			return catalog.Extend{}, errCancelled
		}
	}
	defer t.release(ref.ID)
	tried := []string{r.op.Cluster}
	for {
		e, err := t.beginFor(ctx, r, ref, target)
		if next := r.another(ctx, ref, target, &tried, err); next != "" {
			target = next
			continue
		}
		if err != nil || e.Op == "" {
			if isConflict(err) && !errors.Is(err, catalog.ErrFenced) && ctx.Err() == nil {
				continue // the topic changed between two reads
			}
			return e, err
		}
		o, err := t.driver.extend(ctx, e, r.cancelled, func(why string) { r.waitsFor(ref.Name, why) })
		if o.extend.Step == catalog.StepUndone {
			t.noteUndone(ref.ID)
		}
		if err == nil && o.committed {
			if why := r.elsewhere(&o.extend); why != nil {
				return o.extend, why
			}
		}
		switch {
		case err != nil:
			return o.extend, err
		case o.committed:
			return o.extend, nil
		case r.cancelled():
			return o.extend, errCancelled
		}
		err = refuse(Refused, "", "%s", o.refused)
		if o.byTarget {
			if next := r.another(ctx, ref, target, &tried, &targetRefusal{err}); next != "" {
				target = next
				continue
			}
		}
		return o.extend, err
	}
}

// targetRefusal is what a target has against a topic that was not touched yet.
type targetRefusal struct{ error }

func (e *targetRefusal) Unwrap() error { return e.error }

// another gives the next cluster for a topic whose target refuses it, where placement chooses; "" if there is none, or if
// the failure is another one.
func (r *opRun) another(ctx context.Context, ref catalog.TopicRef, target string, tried *[]string, failure error) string {
	var refusal *targetRefusal
	if r.op.To != "" || r.op.Kind != catalog.OpFailover && r.op.Kind != catalog.OpDrain || !errors.As(failure, &refusal) || ctx.Err() != nil || r.cancelled() {
		return ""
	}
	*tried = append(*tried, target)
	s := r.t.o.Watcher.Snapshot()
	topic := s.TopicByID(ref.ID)
	if topic == nil {
		return ""
	}
	from := slices.DeleteFunc(candidates(s, r.t.loads), func(c candidate) bool { return slices.Contains(*tried, c.name) })
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range from {
		from[i].load += r.sent[from[i].name]
	}
	next := place(from, "", placementOf(s, ref.Tenant)...)
	if next == "" {
		return ""
	}
	if r.sent == nil {
		r.sent = map[string]int{}
	}
	r.sent[next] += int(topic.Partitions)
	r.t.o.Logger.Warn("a topic goes on to another cluster: the first one refuses it", "topic", ref.Name, "op", r.op.ID, "refused", target, "target", next, "err", failure)
	return next
}

// elsewhere tells of an extend that did not end where it was to.
func (r *opRun) elsewhere(e *catalog.Extend) error {
	if e.Aim == "" || e.Aim == e.Target {
		return nil
	}
	if r.op.Kind == catalog.OpFailover && r.op.To == "" && e.Target != r.op.Cluster {
		return nil // wherever it is now, it is off the lost cluster
	}
	if r.cancelled() {
		return fmt.Errorf("%w: it had begun to seal, so it was rolled forward onto a fresh topic of cluster %s", errCancelled, e.Target)
	}
	return refuse(Refused, "", "%s; it had begun to seal, so it was rolled forward onto a fresh topic of cluster %s", e.Message, e.Target)
}

// beginFor finds or makes the operation's extend of a topic; a zero one means
// that there is nothing to do.
func (t *term) beginFor(ctx context.Context, r *opRun, ref catalog.TopicRef, target string) (catalog.Extend, error) {
	for {
		e, err := t.o.Catalog.Extend(ctx, ref.Tenant, ref.ID)
		if err == nil && e.Op == r.op.ID {
			return e, nil
		}
		if err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return e, err
		}
		if err == nil {
			if r.op.Kind == catalog.OpMove {
				return catalog.Extend{}, &catalog.BusyError{Op: e.Op, Topic: ref.Name}
			}
			// A drain or failover waits for what is under way: resumeExtends drives it.
			t.release(ref.ID)
			err := pause(ctx, 50*time.Millisecond)
			for err == nil && !t.take(ref.ID) {
				err = pause(ctx, 50*time.Millisecond)
			}
			if err != nil {
				return e, err
			}
			continue
		}
		topic, pages, err := t.o.Catalog.Chains(ctx, ref.Tenant, ref.ID)
		if errors.Is(err, catalog.ErrNotFound) || err == nil && topic.Deleting {
			return catalog.Extend{}, nil // gone: nothing is left to move
		}
		if err != nil {
			return e, err
		}
		chains := chainsOf(pages)
		mode, room, ok := r.modeFor(t.o.Watcher.Snapshot(), chains, target)
		if r.op.Kind == catalog.OpRepair {
			gone, err := t.openGone(ctx, chains)
			for errors.Is(err, errUnconfirmed) { // a leader before this one was told so
				if err = pause(ctx, t.driver.limits.gone); err == nil {
					gone, err = t.openGone(ctx, chains)
				}
			}
			if gone && err == nil {
				mode, room, ok = catalog.ModeLossy, unknownRoom, true
			} else if ok, err = t.needsRepair(ctx, ref, chains); err != nil {
				return e, err
			}
		}
		if !ok {
			// There already: this operation's own doing, maybe, whose certificate is due.
			if c, err := t.o.Catalog.Certification(ctx, ref.ID, r.op.ID); err == nil {
				return catalog.Extend{}, t.awaitCertificate(ctx, c)
			}
			return catalog.Extend{}, nil
		}
		if target == "" {
			return e, &targetRefusal{refuse(Refused, "add a cluster, or name one with --to", "no cluster takes the topic")}
		}
		if err := r.checkTarget(ctx, target); err != nil {
			return e, &targetRefusal{err}
		}
		if err := r.checkSource(ctx, &topic, chains, mode); err != nil {
			return e, err
		}
		return t.driver.begin(ctx, &r.op, topic, chains, t.o.Catalog.Fleet(), target, mode, room)
	}
}

// targetPatience is how long a target may be too busy to answer before an
// operation is refused for it, targetPause the time between two questions.
const (
	targetPatience = 8 * time.Second
	targetPause    = 300 * time.Millisecond
)

// patientHealth asks a target how it is until it can take appends, refuses
// connections, or its time is up: a health check is quick to give up, since
// detection needs it so, and one that failed says little of a busy cluster.
func (t *term) patientHealth(ctx context.Context, st span.Store, patience time.Duration) (span.Health, error) {
	for end := time.Now().Add(patience); ; {
		call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		h, err := st.Health(call)
		cancel()
		silent := err == nil && !h.Writable || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
		if !silent || time.Now().After(end) {
			return h, err
		}
		select {
		case <-ctx.Done():
			return h, ctx.Err()
		case <-time.After(targetPause):
		}
	}
}

// targetFresh is how long what a target said of itself holds for the next topic
// of the same operation.
const targetFresh = time.Second

// targetAnswer is what a look at a target gave.
type targetAnswer struct {
	once sync.Once
	at   time.Time
	err  error
}

// checkTarget refuses a target that cannot take the topic, before anything is made.
// Topics of an operation share a look.
func (r *opRun) checkTarget(ctx context.Context, target string) error {
	return r.look(target, func() error { return r.t.lookAtTarget(ctx, target, r.op.Kind, targetPatience) })
}

// look shares what ask gives, for a moment, among the topics of the operation.
func (r *opRun) look(key string, ask func() error) error {
	r.mu.Lock()
	a := r.looks[key]
	if a == nil || !a.at.IsZero() && time.Since(a.at) > targetFresh {
		a = &targetAnswer{}
		if r.looks == nil {
			r.looks = map[string]*targetAnswer{}
		}
		r.looks[key] = a
	}
	r.mu.Unlock()
	a.once.Do(func() {
		err := ask()
		r.mu.Lock()
		defer r.mu.Unlock()
		a.err, a.at = err, time.Now()
	})
	return a.err
}

// lookAtTarget gives what speaks against a target; patience is how long it may be silent.
func (t *term) lookAtTarget(ctx context.Context, target string, kind catalog.OpKind, patience time.Duration) error {
	c, err := t.o.Catalog.Cluster(ctx, target)
	if err != nil {
		return requestError(err, "cluster "+target)
	}
	if c.State != catalog.ClusterActive && kind != catalog.OpRepair {
		return refuse(Refused, "", "cluster %s is %s and takes no new spans%s", target, c.State, backHint(&c))
	}
	st, err := t.o.Stores.Store(target)
	if err != nil {
		return requestError(err, "cluster "+target)
	}
	if kind == catalog.OpRepair {
		patience = 0 // whether it takes the fresh topic shows when that is made; the topic has no other place
	}
	h, err := t.patientHealth(ctx, st, patience)
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &RequestError{Problem: Unavailable, Message: fmt.Sprintf("target cluster %s does not answer: %v", target, err), Err: err}
	case !h.Writable && kind != catalog.OpRepair:
		return refuse(Refused, "", "target cluster %s takes no appends: %s", target, h.Detail)
	}
	return nil
}

// modeFor chooses how the open spans end; ok is false if there is nothing to do.
func (r *opRun) modeFor(s *catalog.Snapshot, chains []*catalog.Chain, target string) (m catalog.Mode, room int64, ok bool) {
	on := openOn(chains)
	switch r.op.Kind {
	case catalog.OpFailover:
		for _, c := range on {
			if c == r.op.Cluster {
				return catalog.ModeLossy, unknownRoom, true
			}
		}
		return "", 0, false
	case catalog.OpDrain:
		found := false
		for _, c := range on {
			found = found || c == r.op.Cluster
		}
		if !found {
			return "", 0, false
		}
	default:
		if len(on) == 1 && on[0] == target {
			return "", 0, false
		}
	}
	for _, c := range on {
		if cl := s.Cluster(c); cl != nil && !cl.CanSeal {
			return catalog.ModeFence, 0, true
		}
	}
	return catalog.ModeSeal, 0, true
}

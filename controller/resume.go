package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
)

// resumeExtends drives extends that no operation here has in hand: those that a
// former leader left, and those whose undoing is stuck.
func (t *term) resumeExtends(ctx context.Context) error {
	changed, stop := t.changes(ctx, 2*time.Second, func(c catalog.Change) bool { return false })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		for e := range t.o.Watcher.Snapshot().Extends() {
			if !t.orphaned(ctx, e) || !t.take(e.Topic.ID) {
				continue
			}
			select {
			case t.slots <- struct{}{}:
			case <-ctx.Done():
				t.release(e.Topic.ID)
				return ctx.Err()
			}
			wg.Go(func() {
				defer func() { <-t.slots }()
				defer t.release(e.Topic.ID)
				op, err := t.o.Catalog.Op(ctx, e.Op)
				if err != nil && !errors.Is(err, catalog.ErrNotFound) {
					return
				}
				now, err := t.o.Catalog.Extend(ctx, e.Topic.Tenant, e.Topic.ID)
				if err != nil {
					return // ended meanwhile, or tried again
				}
				if now.Kind == catalog.OpReturn {
					if err := t.bringBack(ctx, now.Topic, now.Target, ""); err != nil && ctx.Err() == nil {
						t.o.Logger.Warn("return did not end", "topic", e.Topic.Name, "cluster", now.Target, "err", err)
					}
					return
				}
				t.o.Logger.Info("extend is taken up", "topic", e.Topic.Name, "op", e.Op, "step", now.Step)
				o, err := t.driver.extend(ctx, now, func() bool { return op.Cancel }, nil)
				if o.extend.Step == catalog.StepUndone {
					t.noteUndone(e.Topic.ID)
				}
				if err != nil && ctx.Err() == nil {
					t.o.Logger.Warn("extend did not end", "topic", e.Topic.Name, "op", e.Op, "err", err)
				}
			})
		}
	}
}

// orphaned tells whether no running operation will drive the extend.
func (t *term) orphaned(ctx context.Context, e *catalog.Extend) bool {
	if e.Kind == catalog.OpReturn {
		return true // no runner has returns; who works on one has taken the topic
	}
	t.mu.Lock()
	running := t.ops[e.Op]
	t.mu.Unlock()
	if running {
		return e.Step == catalog.StepUndo
	}
	op, err := t.o.Catalog.Op(ctx, e.Op)
	return errors.Is(err, catalog.ErrNotFound) || err == nil && op.IsFinished()
}

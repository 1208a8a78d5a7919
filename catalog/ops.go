package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// finishedOps is how many finished operations are kept.
const finishedOps = 1000

// NewOpID gives an id that sorts by time.
func NewOpID(at time.Time) string {
	const digits = "0123456789abcdefghjkmnpqrstvwxyz"
	ms := at.UnixMilli()
	var b [9]byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i], ms = digits[ms&31], ms>>5
	}
	return string(b[:]) + RandomName(4)
}

// CreateOp stores a new operation; an unset ID and Created are chosen here.
func (c *Catalog) CreateOp(ctx context.Context, op Op) (Op, error) {
	op = op.created()
	rev, err := c.put(ctx, "create operation", opKey(op.ID), 0, Fence{}, &op)
	op.Revision = rev
	return op, err
}

// CreateOpAfter is [Catalog.CreateOp] for who has checked a list of all operations:
// it fails with [ErrConflict] if another was created since the list's revision.
func (c *Catalog) CreateOpAfter(ctx context.Context, op Op, listed int64) (Op, error) {
	op = op.created()
	value, err := encode(&op)
	if err != nil {
		return op, fmt.Errorf("create operation: %w", err)
	}
	prefix := dataRoot + "op/"
	none := clientv3.Compare(clientv3.CreateRevision(prefix), "<", listed+1).WithRange(clientv3.GetPrefixRangeEnd(prefix))
	r, err := c.txn(ctx, "create operation", []clientv3.Cmp{none, clientv3.Compare(clientv3.ModRevision(opKey(op.ID)), "=", 0)}, []clientv3.Op{clientv3.OpPut(opKey(op.ID), value)}, nil)
	if err != nil {
		return op, err
	}
	if !r.Succeeded {
		return op, fmt.Errorf("create operation: %w: another one was created meanwhile", ErrConflict)
	}
	op.Revision = r.Header.Revision
	return op, nil
}

// created fills in what an operation has from its beginning on.
func (o Op) created() Op {
	if o.Created.IsZero() {
		o.Created = time.Now().UTC()
	}
	o.Updated = o.Created
	if o.ID == "" {
		o.ID = NewOpID(o.Created)
	}
	if o.State == "" {
		o.State = OpPending
	}
	return o
}

// UpdateOp writes an operation at its Revision. When it finishes, the oldest
// finished ones past the last 1000 are dropped.
func (c *Catalog) UpdateOp(ctx context.Context, op Op, fence Fence) (Op, error) {
	op.Updated = time.Now().UTC()
	rev, err := c.put(ctx, "operation "+op.ID, opKey(op.ID), op.Revision, fence, &op)
	if err != nil {
		return op, err
	}
	op.Revision = rev
	if op.IsFinished() {
		if err := c.pruneOps(ctx); err != nil {
			c.logger.Warn("old operations were not pruned", "err", err)
		}
	}
	return op, nil
}

// IsFinished tells whether nothing more will happen to the operation.
func (o *Op) IsFinished() bool {
	return o.State == OpDone || o.State == OpFailed || o.State == OpCancelled
}

func (c *Catalog) pruneOps(ctx context.Context) error {
	items, _, err := c.list(ctx, "operations", dataRoot+"op/", clientv3.WithKeysOnly())
	if err != nil || len(items) <= finishedOps {
		return err
	}
	// Ids sort by time: only the oldest are looked at.
	for _, it := range items[:len(items)-finishedOps] {
		var op Op
		rev, err := c.get(ctx, "operation", it.key, &op)
		if errors.Is(err, ErrNotFound) || err == nil && !op.IsFinished() {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.remove(ctx, "operation", it.key, rev, Fence{}); err != nil {
			return err
		}
	}
	return nil
}

// Op reads one operation.
func (c *Catalog) Op(ctx context.Context, id string) (Op, error) {
	var op Op
	rev, err := c.get(ctx, "operation "+id, opKey(id), &op)
	op.Revision = rev
	return op, err
}

// Ops reads all operations, oldest first.
func (c *Catalog) Ops(ctx context.Context) ([]Op, error) {
	ops, _, err := c.OpsAt(ctx)
	return ops, err
}

// OpsAt lists the operations, and tells the revision at which they were so.
func (c *Catalog) OpsAt(ctx context.Context) ([]Op, int64, error) {
	return listAt(ctx, c, "operations", dataRoot+"op/", func(o *Op, rev int64) { o.Revision = rev })
}

// OpChanges signals after every change of operations and alarms until ctx ends.
// It may signal too often, and starts with one signal.
//
// The first signal comes when the watches stand: who lists the operations at a signal
// that came before would never hear of one that was created between its list and
// the watch, until the next one is.
func (c *Catalog) OpChanges(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		ops := c.cli.Watch(clientv3.WithRequireLeader(ctx), dataRoot+"op/", clientv3.WithPrefix())
		alarms := c.cli.Watch(clientv3.WithRequireLeader(ctx), dataRoot+"alarm/", clientv3.WithPrefix())
		out <- struct{}{} // nobody else sends, and it has room for one
		retry := time.NewTicker(time.Second)
		defer retry.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case _, ok := <-ops:
				if !ok {
					ops = nil
				}
			case _, ok := <-alarms:
				if !ok {
					alarms = nil
				}
			case <-retry.C:
				if ops != nil && alarms != nil {
					continue
				}
				if ops == nil {
					ops = c.cli.Watch(clientv3.WithRequireLeader(ctx), dataRoot+"op/", clientv3.WithPrefix())
				}
				if alarms == nil {
					alarms = c.cli.Watch(clientv3.WithRequireLeader(ctx), dataRoot+"alarm/", clientv3.WithPrefix())
				}
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

package catalog

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Certificates of spans whose cluster is away are postponed: nothing of them can be read until it
// is back, which may be in weeks. They are kept apart from those that are under way.

// Postpone moves a certification to those that wait for a cluster. One that went with its topic
// stays gone.
func (c *Catalog) Postpone(ctx context.Context, e Extend, fence Fence) error {
	what := "postpone the certificate of topic " + e.Topic.Name
	value, err := encode(&e)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	key := certificationKey(e.Topic.ID, e.Op)
	r, err := c.txn(ctx, what, fence.guard([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), ">", 0)}),
		[]clientv3.Op{clientv3.OpPut(postponedKey(e.Topic.ID, e.Op), value), clientv3.OpDelete(key)}, fence.probe(nil))
	if err != nil || r.Succeeded {
		return err
	}
	if err := fence.check(r); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Postponed reads those of one topic.
func (c *Catalog) Postponed(ctx context.Context, topic ID) ([]Extend, error) {
	return listOf(ctx, c, "postponed certificates", postponedPrefix(topic), func(e *Extend, rev int64) { e.Revision = rev })
}

// PostponedTopics tells which topics have any.
func (c *Catalog) PostponedTopics(ctx context.Context) (map[ID]struct{}, error) {
	items, _, err := c.list(ctx, "postponed certificates", postponedRoot, clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	out := map[ID]struct{}{}
	for _, it := range items {
		name, _, _ := strings.Cut(strings.TrimPrefix(it.key, postponedRoot), "/")
		var id ID
		if id.UnmarshalText([]byte(name)) == nil {
			out[id] = struct{}{}
		} // else of a later release
	}
	return out, nil
}

// DeletePostponed says that a postponed certificate had its last word.
func (c *Catalog) DeletePostponed(ctx context.Context, e Extend, fence Fence) error {
	return c.remove(ctx, "postponed certificate", postponedKey(e.Topic.ID, e.Op), -1, fence)
}

// EndReturn ends the extend of a return, whose chains are changed, and has it certified. It
// may be repeated.
func (c *Catalog) EndReturn(ctx context.Context, e Extend, fence Fence) error {
	what := "end the return of topic " + e.Topic.Name
	value, err := encode(&e)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	key, to := extendKey(e.Topic.Tenant, e.Topic.ID), certificationKey(e.Topic.ID, e.Op)
	r, err := c.txn(ctx, what, fence.guard([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", e.Revision)}),
		[]clientv3.Op{clientv3.OpDelete(key), clientv3.OpPut(to, value)}, append(fence.probe(nil), clientv3.OpGet(to, clientv3.WithKeysOnly())))
	if err != nil || r.Succeeded {
		return err
	}
	if err := fence.check(r); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if len(r.Responses[len(r.Responses)-1].GetResponseRange().Kvs) > 0 {
		return nil // by a try whose answer was lost
	}
	return fmt.Errorf("%s: the extend was changed: %w", what, ErrConflict)
}

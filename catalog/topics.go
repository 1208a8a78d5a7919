package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// nameEntry is the value of a topic's name key.
type nameEntry struct {
	ID ID `json:"id"`
}

// write is one put of a chunked write with what it compares.
type write struct {
	key   string
	value string
	cmp   clientv3.Cmp
}

// chunks packs writes into as few transactions as etcd takes; extra operations
// and comparisons join each of them.
func chunks(writes []write, extra int) [][]write {
	var out [][]write
	var cur []write
	size := 0
	for _, w := range writes {
		if len(cur) > 0 && (len(cur)+extra >= txnOps-2 || size+len(w.value) > txnBytes) {
			out, cur, size = append(out, cur), nil, 0
		}
		cur, size = append(cur, w), size+len(w.value)+len(w.key)
	}
	return append(out, cur)
}

// Paginate cuts chains into pages that begin at a multiple of [PageSize].
func Paginate(topic ID, chains []Chain) []Page {
	pages := make([]Page, 0, (len(chains)+PageSize-1)/PageSize)
	for first := 0; first < len(chains); first += PageSize {
		pages = append(pages, Page{Topic: topic, First: int32(first), Chains: chains[first:min(first+PageSize, len(chains))]})
	}
	return pages
}

// CreateTopic writes a topic with its chains. A topic of many pages takes
// several transactions; the last makes it visible, so nobody sees half of one.
// It fails with [ErrExists] when the name is taken. An unset ID is chosen here.
func (c *Catalog) CreateTopic(ctx context.Context, t Topic, chains []Chain) (Topic, error) {
	what := "create topic " + t.Name
	if t.ID.IsZero() {
		t.ID = RandomID()
	}
	if t.Created.IsZero() {
		t.Created = time.Now().UTC()
	}
	t.Partitions = int32(len(chains))
	value, err := encode(&t)
	if err != nil {
		return t, fmt.Errorf("%s: %w", what, err)
	}
	name, err := encode(nameEntry{ID: t.ID})
	if err != nil {
		return t, fmt.Errorf("%s: %w", what, err)
	}
	writes, err := pageWrites(t.Tenant, Paginate(t.ID, chains))
	if err != nil {
		return t, fmt.Errorf("%s: %w", what, err)
	}
	groups := chunks(writes, 3)
	if len(groups) > 1 {
		// The name is looked at early too, to spare the pages of a topic that exists.
		var e nameEntry
		if _, err := c.get(ctx, what, nameKey(t.Tenant, t.Name), &e); err == nil {
			return t, fmt.Errorf("%s: %w", what, ErrExists)
		} else if !errors.Is(err, ErrNotFound) {
			return t, err
		}
	}
	for i, group := range groups {
		var cmps []clientv3.Cmp
		var ops []clientv3.Op
		for _, w := range group {
			cmps = append(cmps, w.cmp)
			ops = append(ops, clientv3.OpPut(w.key, w.value))
		}
		if i == len(groups)-1 {
			// A request that is late makes no topic of a tenant that was removed.
			cmps = append(cmps, absent(nameKey(t.Tenant, t.Name)), absent(topicKey(t.Tenant, t.ID)), absent(retiredKey(t.Tenant)))
			ops = append(ops, clientv3.OpPut(topicKey(t.Tenant, t.ID), value), clientv3.OpPut(nameKey(t.Tenant, t.Name), name))
		}
		r, err := c.txn(ctx, what, cmps, ops, nil)
		if err == nil && r.Succeeded {
			t.Revision = r.Header.Revision
			continue
		}
		if err == nil {
			err = fmt.Errorf("%s: %w", what, ErrExists)
		}
		if i > 0 && errors.Is(err, ErrExists) {
			return t, errors.Join(err, c.deletePages(ctx, t.Tenant, t.ID))
		}
		return t, err
	}
	return t, nil
}

// deletePages removes the pages of a topic that was never made visible.
func (c *Catalog) deletePages(ctx context.Context, tenant string, id ID) error {
	prefix := topicKey(tenant, id) + "/"
	_, err := c.txn(ctx, "undo pages", []clientv3.Cmp{absent(topicKey(tenant, id))},
		[]clientv3.Op{clientv3.OpDelete(prefix, clientv3.WithPrefix())}, nil)
	return err
}

func pageWrites(tenant string, pages []Page) ([]write, error) {
	writes := make([]write, 0, len(pages))
	for i := range pages {
		p := &pages[i]
		value, err := encode(p)
		if err != nil {
			return nil, err
		}
		key := pageKey(tenant, p.Topic, p.First)
		writes = append(writes, write{key, value, clientv3.Compare(clientv3.ModRevision(key), "=", p.Revision)})
	}
	return writes, nil
}

// Topic reads one topic linearizably.
func (c *Catalog) Topic(ctx context.Context, tenant string, id ID) (Topic, error) {
	var t Topic
	rev, err := c.get(ctx, "topic "+id.String(), topicKey(tenant, id), &t)
	t.Revision = rev
	return t, err
}

// TopicNamed reads the topic that has this name now.
func (c *Catalog) TopicNamed(ctx context.Context, tenant, name string) (Topic, error) {
	var e nameEntry
	if _, err := c.get(ctx, "topic "+name, nameKey(tenant, name), &e); err != nil {
		return Topic{}, err
	}
	return c.Topic(ctx, tenant, e.ID)
}

// UpdateTopic writes a topic's config if its Revision still stands. Partitions
// and name are not changed by it.
func (c *Catalog) UpdateTopic(ctx context.Context, t Topic) (Topic, error) {
	rev, err := c.put(ctx, "topic "+t.Name, topicKey(t.Tenant, t.ID), t.Revision, Fence{}, &t)
	if err == nil {
		t.Revision = rev
	}
	return t, err
}

// MarkDeleting takes the topic's name away and marks it, in one transaction:
// from then on a topic of the same name may be made, with another id.
func (c *Catalog) MarkDeleting(ctx context.Context, t Topic) (Topic, error) {
	what := "delete topic " + t.Name
	t.Deleting = true
	value, err := encode(&t)
	if err != nil {
		return t, err
	}
	key := topicKey(t.Tenant, t.ID)
	r, err := c.txn(ctx, what, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", t.Revision)},
		[]clientv3.Op{clientv3.OpPut(key, value), clientv3.OpDelete(nameKey(t.Tenant, t.Name))},
		[]clientv3.Op{clientv3.OpGet(key, clientv3.WithKeysOnly())})
	if err != nil {
		return t, err
	}
	if !r.Succeeded {
		if len(r.Responses[0].GetResponseRange().Kvs) == 0 {
			return t, fmt.Errorf("%s: %w", what, ErrNotFound)
		}
		return t, fmt.Errorf("%s: %w", what, ErrConflict)
	}
	t.Revision = r.Header.Revision
	return t, nil
}

// RemoveTopic drops a topic that was marked, with everything the catalog knows
// of it. Certificates are kept.
func (c *Catalog) RemoveTopic(ctx context.Context, t Topic, fence Fence) error {
	what := "remove topic " + t.Name
	if !t.Deleting {
		return fmt.Errorf("%s: it is not marked as deleting: %w", what, ErrConflict)
	}
	key := topicKey(t.Tenant, t.ID)
	cmps := fence.guard([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", t.Revision)})
	ops := []clientv3.Op{
		clientv3.OpDelete(key),
		clientv3.OpDelete(key+"/", clientv3.WithPrefix()),
		clientv3.OpDelete(extendKey(t.Tenant, t.ID)),
		clientv3.OpDelete(ackPrefix(t.ID), clientv3.WithPrefix()),
		clientv3.OpDelete(producersPrefix(t.ID), clientv3.WithPrefix()),
		clientv3.OpDelete(certificationPrefix(t.ID), clientv3.WithPrefix()),
		clientv3.OpDelete(postponedPrefix(t.ID), clientv3.WithPrefix()),
		clientv3.OpDelete(dataRoot+"hold/"+t.ID.String()+"/", clientv3.WithPrefix()),
		clientv3.OpDelete(dataRoot+"alarm/"+t.ID.String()+"/", clientv3.WithPrefix()),
	}
	return c.removeAll(ctx, what, key, cmps, ops, fence)
}

// removeAll removes key and what belongs to it, in one transaction. What is gone already is
// no error; a key that stands although cmps do not hold is an [ErrConflict].
func (c *Catalog) removeAll(ctx context.Context, what, key string, cmps []clientv3.Cmp, ops []clientv3.Op, fence Fence) error {
	r, err := c.txn(ctx, what, cmps, ops, append(fence.probe(nil), clientv3.OpGet(key, clientv3.WithKeysOnly())))
	if err != nil {
		return err
	}
	if r.Succeeded {
		return nil
	}
	if err := fence.check(r); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if len(r.Responses[len(r.Responses)-1].GetResponseRange().Kvs) == 0 {
		return nil // removed before
	}
	return fmt.Errorf("%s: %w", what, ErrConflict)
}

// Chains reads a topic and its pages linearizably, at one revision.
func (c *Catalog) Chains(ctx context.Context, tenant string, id ID) (Topic, []Page, error) {
	what := "chains of topic " + id.String()
	items, _, err := c.list(ctx, what, topicKey(tenant, id))
	if err != nil {
		return Topic{}, nil, err
	}
	var t Topic
	var pages []Page
	for _, it := range items {
		switch a := parseKey(it.key); a.kind {
		case kindTopic:
			if err := decode(it.value, &t); err != nil {
				return Topic{}, nil, fmt.Errorf("%s: %w", what, err)
			}
			t.Revision = it.revision
		case kindPage:
			p, err := decodePage(it)
			if err != nil {
				return Topic{}, nil, fmt.Errorf("%s: %w", what, err)
			}
			pages = append(pages, p)
		}
	}
	if t.Revision == 0 {
		return Topic{}, nil, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	pages, err = trimPages(pages, t.Partitions)
	if err != nil {
		return Topic{}, nil, fmt.Errorf("%s: %w", what, err)
	}
	return t, pages, nil
}

func decodePage(it item) (Page, error) {
	var p Page
	if err := decode(it.value, &p); err != nil {
		return p, err
	}
	if len(p.Chains) > PageSize {
		return p, fmt.Errorf("page of %d chains: %w", len(p.Chains), ErrCorrupt)
	}
	p.Revision = it.revision
	return p, nil
}

// trimPages leaves out what a growth that never finished had written, and makes
// sure that no page is missing.
func trimPages(pages []Page, partitions int32) ([]Page, error) {
	need := (int(partitions) + PageSize - 1) / PageSize
	if len(pages) < need {
		return nil, fmt.Errorf("%d pages of %d: %w", len(pages), need, ErrCorrupt)
	}
	pages = pages[:need]
	for i := range pages {
		want := min(PageSize, int(partitions)-i*PageSize)
		if pages[i].First != int32(i*PageSize) || len(pages[i].Chains) < want {
			return nil, fmt.Errorf("page %d at %d with %d chains: %w", i, pages[i].First, len(pages[i].Chains), ErrCorrupt)
		}
		pages[i].Chains = pages[i].Chains[:want]
	}
	return pages, nil
}

// GrowTopic adds chains for the partitions from t.Partitions on. It fails with
// a [BusyError] while an extend runs and with [ErrConflict] if the topic changed.
func (c *Catalog) GrowTopic(ctx context.Context, t Topic, added []Chain) (Topic, error) {
	what := "grow topic " + t.Name
	_, pages, err := c.Chains(ctx, t.Tenant, t.ID)
	if err != nil {
		return t, err
	}
	old := t.Partitions
	t.Partitions += int32(len(added))
	var grown []Page
	if n := len(pages); n > 0 && len(pages[n-1].Chains) < PageSize {
		last := pages[n-1]
		k := min(PageSize-len(last.Chains), len(added))
		last.Chains = append(last.Chains[:len(last.Chains):len(last.Chains)], added[:k]...)
		added = added[k:]
		grown = append(grown, last)
	}
	next := (old + PageSize - 1) / PageSize * PageSize
	for _, p := range Paginate(t.ID, added) {
		p.First += next
		grown = append(grown, p)
	}
	// Pages past the last are either absent or left by a growth that never finished.
	leftovers, _, err := c.list(ctx, what, topicKey(t.Tenant, t.ID)+"/", clientv3.WithKeysOnly())
	if err != nil {
		return t, err
	}
	for _, it := range leftovers {
		for i := range grown {
			if grown[i].First == parseKey(it.key).number && grown[i].First >= next {
				grown[i].Revision = it.revision
			}
		}
	}
	writes, err := pageWrites(t.Tenant, grown)
	if err != nil {
		return t, fmt.Errorf("%s: %w", what, err)
	}
	value, err := encode(&t)
	if err != nil {
		return t, fmt.Errorf("%s: %w", what, err)
	}
	key, busy := topicKey(t.Tenant, t.ID), extendKey(t.Tenant, t.ID)
	guard := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", t.Revision), absent(busy)}
	groups := chunks(writes, 4)
	// The page that old and new partitions share goes with the topic itself:
	// an extend between the two would be overwritten otherwise.
	if len(groups) > 1 {
		groups = append(groups[1:], groups[0])
	}
	for i, group := range groups {
		cmps := append([]clientv3.Cmp(nil), guard...)
		var ops []clientv3.Op
		for _, w := range group {
			cmps, ops = append(cmps, w.cmp), append(ops, clientv3.OpPut(w.key, w.value))
		}
		if i == len(groups)-1 {
			ops = append(ops, clientv3.OpPut(key, value))
		}
		r, err := c.txn(ctx, what, cmps, ops, []clientv3.Op{clientv3.OpGet(busy)})
		if err != nil {
			return t, err
		}
		if !r.Succeeded {
			if kvs := r.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
				return t, busyWith(t.Name, kvs[0].Value)
			}
			return t, fmt.Errorf("%s: %w", what, ErrConflict)
		}
		t.Revision = r.Header.Revision
	}
	return t, nil
}

func busyWith(topic string, value []byte) error {
	var e Extend
	if err := decode(value, &e); err != nil {
		return err
	}
	return &BusyError{Op: e.Op, Topic: topic}
}

package catalog

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// CommitRequest changes chains of one topic.
type CommitRequest struct {
	Tenant string
	Topic  ID
	// TopicRevision is that of the topic as it was read; a topic that grew or is
	// being deleted refuses the commit.
	TopicRevision int64
	// Pages with the revisions at which they were read; whole pages are written.
	Pages []Page
	Fence Fence
	// AlarmsAt, if not 0, is the revision as of which the topic's alarms were read: a
	// later one refuses the commit, with [ErrConflict].
	AlarmsAt int64
	// Extend, if set, is written (at its Revision) with the last page, and its
	// Revision is advanced.
	Extend *Extend
	// Finish ends the extend with the last page: its key is freed for the next one,
	// and what is to be certified is kept; see [Catalog.Certifications].
	Finish bool
}

// CommitPages writes pages, one transaction each, every one guarded by the
// topic's revision, the page's revision and the fence. A page that already
// holds what is asked counts as written, so a commit that was cut off may be
// repeated as it was. On success Pages hold their new revisions.
//
// A topic of several pages may therefore be committed in part when this fails
// half-way: the caller goes on with the rest (its chains are independent).
func (c *Catalog) CommitPages(ctx context.Context, req CommitRequest) error {
	topic := topicKey(req.Tenant, req.Topic)
	for i := range req.Pages {
		p := &req.Pages[i]
		if p.Topic != req.Topic {
			return fmt.Errorf("commit of topic %s: page of topic %s", req.Topic, p.Topic)
		}
		var extend *Extend
		if i == len(req.Pages)-1 {
			extend = req.Extend
		}
		if err := c.commitPage(ctx, req, topic, p, extend); err != nil {
			return fmt.Errorf("commit of topic %s, partitions from %d: %w", req.Topic, p.First, err)
		}
	}
	return nil
}

func (c *Catalog) commitPage(ctx context.Context, req CommitRequest, topic string, p *Page, extend *Extend) error {
	p.Fresh = small(p.States)
	value, err := encode(p)
	if err != nil {
		return err
	}
	page := pageKey(req.Tenant, req.Topic, p.First)
	cmps := req.Fence.guard([]clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(topic), "=", req.TopicRevision),
		clientv3.Compare(clientv3.ModRevision(page), "=", p.Revision),
	})
	if req.AlarmsAt > 0 {
		// etcd compares each key of the range; if there is none, one of revision 0.
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(alarmPrefix(req.Topic)), "<", req.AlarmsAt+1).WithPrefix())
	}
	then := []clientv3.Op{clientv3.OpPut(page, value)}
	size := len(value)
	var ahead []StoredState
	for _, s := range p.States {
		if len(s.Blob) > blobChunk || size+len(s.Blob) > txnBytes || len(then) > txnOps-8 {
			ahead = append(ahead, s)
			continue
		}
		size += len(s.Blob)
		then = append(then, clientv3.OpPut(producersKey(s.Ref, 0), string(s.Blob)))
	}
	if err := c.putStates(ctx, ahead); err != nil {
		return err
	}
	otherwise := append(req.Fence.probe(nil), clientv3.OpGet(topic, clientv3.WithKeysOnly()), clientv3.OpGet(page))
	if extend != nil {
		ev, err := encode(extend)
		if err != nil {
			return err
		}
		key := extendKey(req.Tenant, req.Topic)
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(key), "=", extend.Revision))
		if req.Finish {
			then = append(then, clientv3.OpDelete(key))
			key = certificationKey(req.Topic, extend.Op)
		}
		then = append(then, clientv3.OpPut(key, ev))
		otherwise = append(otherwise, clientv3.OpGet(key))
	}
	r, err := c.txn(ctx, "write", cmps, then, otherwise)
	if err != nil {
		return err
	}
	if r.Succeeded {
		p.Revision = r.Header.Revision
		if extend != nil {
			extend.Revision = r.Header.Revision
		}
		return nil
	}
	if err := req.Fence.check(r); err != nil {
		return err
	}
	rs := r.Responses
	if req.Fence.Key != "" {
		rs = rs[1:]
	}
	kvs := rs[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return fmt.Errorf("the topic is gone: %w", ErrNotFound)
	}
	sameTopic := kvs[0].ModRevision == req.TopicRevision
	kvs = rs[1].GetResponseRange().Kvs
	written := len(kvs) == 1 && string(kvs[0].Value) == value
	if !written || !sameTopic && kvs[0].ModRevision == p.Revision {
		if !sameTopic {
			return fmt.Errorf("the topic was changed: %w", ErrConflict)
		}
		return fmt.Errorf("the chains were changed: %w", ErrConflict)
	}
	if extend == nil {
		p.Revision = kvs[0].ModRevision
		return nil
	}
	// The page is there: written by an earlier try of this commit, with its
	// extend, or equal to what it was before, without it.
	ekvs := rs[2].GetResponseRange().Kvs
	if len(ekvs) == 1 {
		if ev, err := encode(extend); err == nil && string(ekvs[0].Value) == ev {
			p.Revision, extend.Revision = kvs[0].ModRevision, ekvs[0].ModRevision
			return nil
		}
	}
	return fmt.Errorf("the extend was changed: %w", ErrConflict)
}

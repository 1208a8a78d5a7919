package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// blobChunk keeps one put far below etcd's request limit.
	blobChunk = 512 << 10
	// maxBlob bounds the producers' state of one span.
	maxBlob = 64 << 20
	// finishedOps is how many finished operations are kept.
	finishedOps = 1000
	// maxTail bounds AckReport.Tail.
	maxTail = 64
)

// PutProducers stores the producers' state of one sealed span in chunks and
// gives the reference to put into [Span.Producers]. An empty blob has reference "".
// Each call makes a fresh reference: one that was cut off is never read.
func (c *Catalog) PutProducers(ctx context.Context, topic ID, partition, seq int32, blob []byte) (ref string, err error) {
	if len(blob) == 0 {
		return "", nil
	}
	if len(blob) > maxBlob {
		return "", fmt.Errorf("producers of partition %d: %d bytes: %w", partition, len(blob), ErrTooLarge)
	}
	ref = fmt.Sprintf("%s/%d/%d-%s", topic, partition, seq, RandomName(8))
	ctx2 := ctx
	for i := 0; i*blobChunk < len(blob); i++ {
		chunk := blob[i*blobChunk : min((i+1)*blobChunk, len(blob))]
		if err := c.putRaw(ctx2, fmt.Sprintf("%sproducers/%s/%04d", dataRoot, ref, i), string(chunk)); err != nil {
			return "", fmt.Errorf("producers of partition %d: %w", partition, err)
		}
	}
	return ref, nil
}

func (c *Catalog) putRaw(ctx context.Context, key, value string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := c.cli.Put(ctx, key, value)
	return failure(ctx, "write", err)
}

// Producers reads what [Catalog.PutProducers] stored; nil for "".
func (c *Catalog) Producers(ctx context.Context, ref string) ([]byte, error) {
	if ref == "" {
		return nil, nil
	}
	prefix := dataRoot + "producers/" + ref + "/"
	var out bytes.Buffer
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		r, err := c.getRange(ctx, "producers "+ref, from, []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(4)})
		if err != nil {
			return nil, err
		}
		for _, kv := range r.Kvs {
			if string(kv.Key) != fmt.Sprintf("%s%04d", prefix, out.Len()/blobChunk) || out.Len()%blobChunk != 0 {
				return nil, fmt.Errorf("producers %s: a chunk is missing: %w", ref, ErrCorrupt)
			}
			out.Write(kv.Value)
		}
		if out.Len() > maxBlob {
			return nil, fmt.Errorf("producers %s: %w", ref, ErrTooLarge)
		}
		if !r.More || len(r.Kvs) == 0 {
			break
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("producers %s: %w", ref, ErrNotFound)
	}
	return out.Bytes(), nil
}

// DeleteProducers drops a stored state; dropping what is gone succeeds.
func (c *Catalog) DeleteProducers(ctx context.Context, ref string) error {
	if ref == "" {
		return nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := c.cli.Delete(ctx, dataRoot+"producers/"+ref+"/", clientv3.WithPrefix())
	return failure(ctx, "delete producers "+ref, err)
}

// ProducerRefs lists the stored states of a topic, for the sweep of those that
// no span refers to.
func (c *Catalog) ProducerRefs(ctx context.Context, topic ID) ([]string, error) {
	items, _, err := c.list(ctx, "producers of topic "+topic.String(), producersPrefix(topic), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	var refs []string
	for _, it := range items {
		ref := strings.TrimPrefix(it.key, dataRoot+"producers/")
		ref = ref[:strings.LastIndexByte(ref, '/')]
		if len(refs) == 0 || refs[len(refs)-1] != ref {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

// CreateExtend begins an extend. While another one works on the topic it fails
// with a [BusyError] that has that one's operation; it fails with [ErrConflict]
// when the topic is no longer at e.TopicRevision.
func (c *Catalog) CreateExtend(ctx context.Context, e Extend, fence Fence) (Extend, error) {
	what := "extend topic " + e.Topic.Name
	value, err := encode(&e)
	if err != nil {
		return e, fmt.Errorf("%s: %w", what, err)
	}
	key := extendKey(e.Topic.Tenant, e.Topic.ID)
	cmps := fence.guard([]clientv3.Cmp{absent(key),
		clientv3.Compare(clientv3.ModRevision(topicKey(e.Topic.Tenant, e.Topic.ID)), "=", e.TopicRevision)})
	r, err := c.txn(ctx, what, cmps, []clientv3.Op{clientv3.OpPut(key, value)}, append(fence.probe(nil), clientv3.OpGet(key)))
	if err != nil {
		return e, err
	}
	if r.Succeeded {
		e.Revision = r.Header.Revision
		return e, nil
	}
	if err := fence.check(r); err != nil {
		return e, fmt.Errorf("%s: %w", what, err)
	}
	if kvs := r.Responses[len(r.Responses)-1].GetResponseRange().Kvs; len(kvs) > 0 {
		return e, busyWith(e.Topic.Name, kvs[0].Value)
	}
	return e, fmt.Errorf("%s: the topic was changed: %w", what, ErrConflict)
}

// UpdateExtend writes the state of an extend at its Revision.
func (c *Catalog) UpdateExtend(ctx context.Context, e Extend, fence Fence) (Extend, error) {
	rev, err := c.put(ctx, "extend of topic "+e.Topic.Name, extendKey(e.Topic.Tenant, e.Topic.ID), e.Revision, fence, &e)
	if err == nil {
		e.Revision = rev
	}
	return e, err
}

// DeleteExtend ends an extend. Ending what is gone succeeds.
func (c *Catalog) DeleteExtend(ctx context.Context, e Extend, fence Fence) error {
	return c.remove(ctx, "extend of topic "+e.Topic.Name, extendKey(e.Topic.Tenant, e.Topic.ID), e.Revision, fence)
}

// Extend reads one topic's extend linearizably.
func (c *Catalog) Extend(ctx context.Context, tenant string, topic ID) (Extend, error) {
	var e Extend
	rev, err := c.get(ctx, "extend of topic "+topic.String(), extendKey(tenant, topic), &e)
	e.Revision = rev
	return e, err
}

// HoldAck is a gateway's word that it stopped appending to and reading from the
// open span of a topic, for an extend that cannot seal ([ModeFence]).
type HoldAck struct {
	Node int32     `json:"node"`
	At   time.Time `json:"at"`
	// Next per partition: the first logical offset past the highest that the
	// gateway saw acknowledged or served; -1 none.
	Next []int64 `json:"next,omitempty"`
}

// PutHoldAck publishes a gateway's word for the extend of this operation.
func (c *Catalog) PutHoldAck(ctx context.Context, topic ID, op string, a HoldAck) error {
	_, err := c.put(ctx, "acknowledge hold", holdPrefix(topic, op)+strconv.Itoa(int(a.Node)), -1, Fence{}, &a)
	return err
}

// HoldAcks reads the gateways' words for one extend.
func (c *Catalog) HoldAcks(ctx context.Context, topic ID, op string) ([]HoldAck, error) {
	return listOf[HoldAck](ctx, c, "hold acknowledgements", holdPrefix(topic, op), nil)
}

// DeleteHoldAcks drops the words for one extend.
func (c *Catalog) DeleteHoldAcks(ctx context.Context, topic ID, op string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := c.cli.Delete(ctx, holdPrefix(topic, op), clientv3.WithPrefix())
	return failure(ctx, "delete hold acknowledgements", err)
}

// Alarm is a gateway's report of a physical log that went back ([OpRepair]).
type Alarm struct {
	Topic        TopicRef  `json:"topic"`
	Partition    int32     `json:"partition"`
	Span         int32     `json:"span"`         // Span.Seq
	Acknowledged int64     `json:"acknowledged"` // logical, first past the last acknowledged
	End          int64     `json:"end"`          // logical, first past what is left
	LeaderEpoch  int32     `json:"leaderEpoch"`
	Node         int32     `json:"node"`
	At           time.Time `json:"at"`

	Revision int64 `json:"-"`
}

// PutAlarm reports; of several reports on a partition the last stays.
func (c *Catalog) PutAlarm(ctx context.Context, a Alarm) error {
	_, err := c.put(ctx, "alarm", alarmKey(a.Topic.ID, a.Partition), -1, Fence{}, &a)
	return err
}

// Alarms reads all alarms.
func (c *Catalog) Alarms(ctx context.Context) ([]Alarm, error) {
	return listOf(ctx, c, "alarms", dataRoot+"alarm/", func(a *Alarm, rev int64) { a.Revision = rev })
}

// DeleteAlarm drops an alarm that was dealt with, unless it was raised again.
func (c *Catalog) DeleteAlarm(ctx context.Context, a Alarm) error {
	return c.remove(ctx, "alarm", alarmKey(a.Topic.ID, a.Partition), a.Revision, Fence{})
}

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
	if op.Created.IsZero() {
		op.Created = time.Now().UTC()
	}
	op.Updated = op.Created
	if op.ID == "" {
		op.ID = NewOpID(op.Created)
	}
	if op.State == "" {
		op.State = OpPending
	}
	rev, err := c.put(ctx, "create operation", opKey(op.ID), 0, Fence{}, &op)
	op.Revision = rev
	return op, err
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
	return listOf(ctx, c, "operations", dataRoot+"op/", func(o *Op, rev int64) { o.Revision = rev })
}

// OpChanges signals after every change of operations and alarms until ctx ends.
// It may signal too often, and starts with one signal.
func (c *Catalog) OpChanges(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	out <- struct{}{}
	go func() {
		defer close(out)
		ops := c.cli.Watch(clientv3.WithRequireLeader(ctx), dataRoot+"op/", clientv3.WithPrefix())
		alarms := c.cli.Watch(clientv3.WithRequireLeader(ctx), dataRoot+"alarm/", clientv3.WithPrefix())
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

// PutCertificate stores a certificate; that of the same operation is replaced.
func (c *Catalog) PutCertificate(ctx context.Context, v Certificate, fence Fence) error {
	_, err := c.put(ctx, "certificate", certificatePrefix(v.Topic.ID)+segment(v.Op), -1, fence, &v)
	return err
}

// Certificates reads a topic's certificates, oldest operation first.
func (c *Catalog) Certificates(ctx context.Context, topic ID) ([]Certificate, error) {
	return listOf[Certificate](ctx, c, "certificates", certificatePrefix(topic), nil)
}

// PutAckReports publishes what a gateway saw acknowledged on spans of a topic.
func (c *Catalog) PutAckReports(ctx context.Context, topic ID, reports []AckReport) error {
	writes := make([]write, 0, len(reports))
	for i := range reports {
		r := reports[i]
		if len(r.Tail) > maxTail {
			r.Tail = r.Tail[len(r.Tail)-maxTail:]
		}
		value, err := encode(&r)
		if err != nil {
			return err
		}
		writes = append(writes, write{key: ackKey(topic, &r), value: value})
	}
	for _, group := range chunks(writes, 0) {
		ops := make([]clientv3.Op, 0, len(group))
		for _, w := range group {
			ops = append(ops, clientv3.OpPut(w.key, w.value))
		}
		if len(ops) == 0 {
			return nil
		}
		if _, err := c.txn(ctx, "report acknowledgements", nil, ops, nil); err != nil {
			return err
		}
	}
	return nil
}

// AckReports reads all reports on a topic, by partition, span and node.
func (c *Catalog) AckReports(ctx context.Context, topic ID) ([]AckReport, error) {
	return listOf[AckReport](ctx, c, "acknowledgement reports", ackPrefix(topic), nil)
}

// DeleteAckReports drops the reports on one partition's spans up to and including seq.
func (c *Catalog) DeleteAckReports(ctx context.Context, topic ID, partition, seq int32) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	prefix := fmt.Sprintf("%s%08d/", ackPrefix(topic), partition)
	_, err := c.cli.Delete(ctx, prefix, clientv3.WithRange(fmt.Sprintf("%s%08d", prefix, seq+1)))
	return failure(ctx, "delete acknowledgement reports", err)
}

func listOf[T any](ctx context.Context, c *Catalog, what, prefix string, set func(*T, int64)) ([]T, error) {
	items, _, err := c.list(ctx, what, prefix)
	if err != nil {
		return nil, err
	}
	out := make([]T, len(items))
	for i, it := range items {
		if err := decode(it.value, &out[i]); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", what, strings.TrimPrefix(it.key, dataRoot), err)
		}
		if set != nil {
			set(&out[i], it.revision)
		}
	}
	return out, nil
}

package catalog

import (
	"context"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

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
	// Accounts say more of the partitions that the gateway appended to or read, where
	// the copy is gone.
	Accounts []Account `json:"accounts,omitempty"`
}

// Account is what a gateway knows of the end of one partition's open span. All
// offsets are logical.
type Account struct {
	Partition int32 `json:"partition"`
	// Doubt is the lowest offset at which an append may lie whose outcome the gateway
	// does not know and whose producer will send it again; -1 none.
	Doubt int64 `json:"doubt"`
	// Floor: of what it saw acknowledged, only what lies below is not in Batches.
	Floor int64 `json:"floor"`
	// Batches were acknowledged to the gateway, or read by it, at their offsets;
	// ascending, apart from each other.
	Batches []KnownBatch `json:"batches,omitempty"`
}

// KnownBatch is a batch that is known to lie at [From, To).
type KnownBatch struct {
	From     int64 `json:"f"`
	To       int64 `json:"t"`
	Producer int64 `json:"p"` // -1 none
	Epoch    int16 `json:"e"`
	First    int32 `json:"s"` // sequences
	Last     int32 `json:"l"`
	// Acked: the gateway saw it acknowledged; else it has read it.
	Acked bool `json:"a,omitempty"`
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
	ctx, cancel := c.bounded(ctx)
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

// AlarmsOf reads the alarms on one topic, and the revision as of which these are
// all of them: a commit can compare that, see [CommitRequest.AlarmsAt].
func (c *Catalog) AlarmsOf(ctx context.Context, topic ID) ([]Alarm, int64, error) {
	items, revision, err := c.list(ctx, "alarms", alarmPrefix(topic))
	if err != nil {
		return nil, 0, err
	}
	out := make([]Alarm, len(items))
	for i, it := range items {
		if err := decode(it.value, &out[i]); err != nil {
			return nil, 0, fmt.Errorf("alarms: %w", err)
		}
		out[i].Revision = it.revision
	}
	return out, revision, nil
}

// DeleteAlarm drops an alarm that was dealt with, unless it was raised again.
func (c *Catalog) DeleteAlarm(ctx context.Context, a Alarm) error {
	return c.remove(ctx, "alarm", alarmKey(a.Topic.ID, a.Partition), a.Revision, Fence{})
}

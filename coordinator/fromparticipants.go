package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// ChainParticipants ends the parts of transactions in chains. timeout is asked
// of clusters that run their own transactions: as long as they allow, since
// theirs must outlast ours.
func ChainParticipants(l *chain.Logs, timeout time.Duration) Participants {
	return &chainParticipants{logs: l, timeout: timeout, held: map[catalog.ID]int64{}}
}

type chainParticipants struct {
	logs    *chain.Logs
	timeout time.Duration

	mu   sync.Mutex
	held map[catalog.ID]int64 // since when
}

func (c *chainParticipants) transactor(cluster string) (span.Transactor, error) {
	t, err := c.logs.Transactor(cluster)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, fmt.Errorf("cluster %s runs no transactions: %w", cluster, span.ErrUnavailable)
	}
	return t, nil
}

func (c *chainParticipants) Begin(ctx context.Context, cluster, id string) (int64, int16, error) {
	t, err := c.transactor(cluster)
	if err != nil {
		return noID, noEpoch, err
	}
	x, err := t.BeginTransaction(ctx, id, c.timeout)
	return x.Producer, x.Epoch, err
}

func (c *chainParticipants) Add(ctx context.Context, cluster string, x span.Transaction, topic string, partitions []int32, until time.Time) error {
	t, err := c.transactor(cluster)
	if err != nil {
		return err
	}
	return participantError(t.AddToTransaction(ctx, x, topic, partitions, until))
}

func (c *chainParticipants) Open(ctx context.Context, cluster string, x span.Transaction) error {
	t, err := c.transactor(cluster)
	if err != nil {
		return err
	}
	return participantError(t.TransactionOpen(ctx, x))
}

func (c *chainParticipants) End(ctx context.Context, cluster string, x span.Transaction, commit bool) (span.Transaction, error) {
	t, err := c.transactor(cluster)
	if err != nil {
		return span.Transaction{}, err
	}
	next, err := t.EndTransaction(ctx, x, commit)
	return next, participantError(err)
}

func (c *chainParticipants) Written(ctx context.Context, cluster string, x span.Transaction) error {
	t, err := c.transactor(cluster)
	if err != nil {
		return err
	}
	return t.TransactionWritten(ctx, x)
}

// EndHanging implements hangEnder.
func (c *chainParticipants) EndHanging(ctx context.Context, cluster string, x span.Transaction, at []span.PartPlace, commit bool) (int, error) {
	t, err := c.transactor(cluster)
	if err != nil {
		return 0, err
	}
	w, ok := t.(span.MarkerWriter)
	if !ok {
		return 0, nil
	}
	n, err := w.EndHanging(ctx, x, at, commit)
	return n, participantError(err)
}

func participantError(err error) error {
	if errors.Is(err, span.ErrTransactionEnded) {
		return fmt.Errorf("%w: %w", ErrParticipantEnded, err)
	}
	return err
}

func (c *chainParticipants) Mark(ctx context.Context, topic catalog.ID, partition int32, m batch.Marker) error {
	p, err := c.logs.Partition(topic, partition)
	switch {
	case errors.Is(err, chain.ErrUnknownTopic):
		return nil
	case err != nil:
		return err
	}
	m.Timestamp = time.Now().UnixMilli()
	return p.Mark(ctx, m)
}

// Marked implements witness.
func (c *chainParticipants) Marked(topic catalog.ID, partition int32, physical catalog.ID) {
	c.logs.Marked(topic, partition, physical)
}

func (c *chainParticipants) Find(ctx context.Context, at chain.PartCopy, t span.Transaction) (chain.Part, error) {
	return c.logs.FindPart(ctx, at, t.Producer, t.Epoch)
}

func (c *chainParticipants) Repeat(ctx context.Context, part chain.Part, topic catalog.ID, partition int32, producer int64, epoch int16,
	first int32, txn *chain.Transaction) (int32, chain.LeftOut, error) {
	return c.logs.AppendPart(ctx, part, topic, partition, producer, epoch, first, txn)
}

func (c *chainParticipants) Held(at *chain.Enlist) (int64, bool) {
	held, sealing := c.logs.HoldsNew(at)
	topic := at.Topic
	c.mu.Lock()
	defer c.mu.Unlock()
	if !held {
		delete(c.held, topic)
		return 0, false
	}
	if sealing {
		return 0, true
	}
	since, known := c.held[topic]
	if !known {
		since = time.Now().UnixMilli()
		c.held[topic] = since
	}
	return since, true
}

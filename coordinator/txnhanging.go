package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// A cluster that runs its own transactions may call one complete and have lost markers of it, when a broker was killed or
// stood still meanwhile. Where that can be, the logs themselves are asked: when the end took longer than it does where
// nothing is wrong, when it was told before, also by a former owner, and when the cluster has ended the part by
// itself. What is open still gets the marker of our decision. Its producer and epoch are of this transaction
// only, and its id is not begun anew before the transaction is complete.

// markersSure is how long an end takes at most that is taken for granted: no broker is back sooner that was killed.
const markersSure = time.Second

// errHanging: a part may be open on its cluster, which has ended it.
var errHanging = errors.New("a part of a transaction may have lost its marker")

// endHanging ends what is left open of a part that its cluster has ended, and tells how many markers that took.
func (c *Coordinator) endHanging(ctx context.Context, t *settling, p *participant, commit bool) (int, error) {
	e, ok := c.participants.(hangEnder)
	if !ok {
		return 0, nil
	}
	var at []span.PartPlace
	for _, k := range t.sortedParts() {
		for _, b := range t.parts[k].places {
			if b.foreign && b.cluster == p.cluster {
				at = append(at, span.PartPlace{Topic: span.Topic{Name: b.topic, ID: b.id}, Partition: b.index, Floor: b.floor})
			}
		}
	}
	n, err := e.EndHanging(ctx, p.cluster, span.Transaction{ID: p.id, Producer: p.producer, Epoch: p.epoch}, at, commit)
	if n > 0 {
		c.logger.Warn("a cluster had lost markers of a transaction, which were written", "cluster", p.cluster, "tenant", t.key.tenant,
			"transactional_id", t.key.group, "there", p.id, "partitions", n, "commit", commit)
	}
	if err != nil {
		return n, fmt.Errorf("%w: %w", errHanging, err)
	}
	return n, nil
}

// hangs knows since when the lost markers of clusters cannot be written.
type hangs struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// late tells whether that has been for so long that the transaction is complete without.
func (h *hangs) late(cluster string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first, known := h.since[cluster]
	if !known {
		if h.since == nil {
			h.since = map[string]time.Time{}
		}
		h.since[cluster] = now
		return false
	}
	return now.Sub(first) > pendingPatience
}

// hung names a participant whose lost markers operators know of, in what was told.
func hung(cluster string) string { return "hung " + cluster }

// reportHanging tells operators that markers are lost and cannot be written.
func (c *Coordinator) reportHanging(ctx context.Context, t *settling, p *participant) {
	c.reportTorn(ctx, &catalog.Torn{Tenant: t.key.tenant, TransactionalID: t.key.group, Producer: t.producer, Cluster: p.cluster, There: p.id,
		ThereProducer: p.producer, ThereEpoch: p.epoch, State: catalog.TornHanging, Found: time.Now().UTC()})
}

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// A cluster that runs its own transactions may call one complete and have lost markers of it, when a broker was killed or
// stood still meanwhile. Where that can be, the logs themselves are asked: when the markers took longer than they do where
// nothing is wrong, when the end was told before, also by a former owner, and when the cluster has ended the part by
// itself. What is open still gets the marker of our decision. Its producer and epoch are of this transaction
// only, and its id is not begun anew before.

// markersSure is how long markers take at most that are taken for granted: no broker is back sooner that was killed.
const markersSure = time.Second

// looksAtOnce bounds the parts whose lost markers are looked for at the same time: after a take-over all are looked at that were written last.
const looksAtOnce = 32

// errHanging: a part may be open on its cluster, which has ended it.
var errHanging = errors.New("a part of a transaction may have lost its marker")

// endHanging ends what is left open of a part that its cluster has ended, and tells how many markers that took.
func (c *Coordinator) endHanging(ctx context.Context, key groupKey, parts map[partKey]*txnPart, p *participant, commit bool) (int, error) {
	e, ok := c.participants.(hangEnder)
	if !ok {
		return 0, nil
	}
	var at []span.PartPlace
	for _, k := range sortedParts(parts) {
		for _, b := range parts[k].places {
			if b.foreign && b.cluster == p.cluster {
				at = append(at, span.PartPlace{Topic: span.Topic{Name: b.topic, ID: b.id}, Partition: b.index, Floor: b.floor})
			}
		}
	}
	n, err := e.EndHanging(ctx, p.cluster, p.there(), at, commit)
	if n > 0 {
		c.logger.Warn("a cluster had lost markers of a transaction, which were written", "cluster", p.cluster, "tenant", key.tenant,
			"transactional_id", key.group, "there", p.id, "partitions", n, "commit", commit)
	}
	if err != nil {
		return n, fmt.Errorf("%w: %w", errHanging, err)
	}
	return n, nil
}

// hung names a participant whose lost markers operators know of, in what was told.
func hung(cluster string) string { return "hung " + cluster }

// reportHanging tells operators that markers are lost and cannot be written.
func (c *Coordinator) reportHanging(ctx context.Context, key groupKey, producer int64, p *participant) {
	c.reportTorn(ctx, &catalog.Torn{Tenant: key.tenant, TransactionalID: key.group, Producer: producer, Cluster: p.cluster, There: p.id,
		ThereProducer: p.producer, ThereEpoch: p.epoch, State: catalog.TornHanging, Found: time.Now().UTC()})
}

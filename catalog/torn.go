package catalog

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Torn reports a part of a committed transaction that its cluster has aborted by
// itself, since it was away for longer than its own timeout.
type Torn struct {
	Tenant          string      `json:"tenant"`
	TransactionalID string      `json:"transactionalId"`
	Producer        int64       `json:"producer"`
	Cluster         string      `json:"cluster"`
	There           string      `json:"there"` // transactional id on the cluster
	ThereProducer   int64       `json:"thereProducer"`
	ThereEpoch      int16       `json:"thereEpoch"`
	State           TornState   `json:"state"`
	Found           time.Time   `json:"found"`
	Records         int64       `json:"records"`               // that were found
	Missing         bool        `json:"missing,omitempty"`     // some were not
	Refused         int64       `json:"refused,omitempty"`     // of Records: their topics refuse them by now, and they are left out
	RefusedCode     int16       `json:"refusedCode,omitempty"` // Kafka's error code, of the last one
	Stamped         int64       `json:"stamped,omitempty"`     // of Records: their topics refuse their timestamps by now, and they have new ones
	Ranges          []TornRange `json:"ranges,omitempty"`      // the first [MaxTornRanges]
}

// TornRange is where the aborted records of one partition lie.
type TornRange struct {
	Topic     ID     `json:"topic"`
	Partition int32  `json:"partition"`
	Physical  string `json:"physical"` // topic
	Index     int32  `json:"index"`    // physical partition
	First     int64  `json:"first"`    // physical offsets [First, End)
	End       int64  `json:"end"`
	Records   int64  `json:"records"`
}

// TornState is how far it is mended.
type TornState string

const (
	TornFound   TornState = "found"   // its records are being appended anew
	TornMended  TornState = "mended"  // all are there
	TornHanging TornState = "hanging" // its cluster has lost markers of it, which cannot be written; the decision may be an abort
	TornLost    TornState = "lost"    // what could be found, and is not refused, is there
)

const (
	// MaxTornRanges bounds Torn.Ranges.
	MaxTornRanges = 200
	// tornKept is how long a report stays.
	tornKept = 7 * 24 * time.Hour
)

const tornPrefix = dataRoot + "torn/"

// PutTorn reports; the report on the same part is replaced. It goes by itself after a week.
func (c *Catalog) PutTorn(ctx context.Context, t Torn) error {
	lease, err := c.cli.Grant(ctx, int64(tornKept/time.Second))
	if err != nil {
		return failure(ctx, "report a torn transaction", err)
	}
	_, err = c.put(ctx, "torn transaction", fmt.Sprintf("%s%s/%d/%d", tornPrefix, segment(t.There), t.ThereProducer, t.ThereEpoch), -1, Fence{}, &t,
		clientv3.WithLease(lease.ID))
	return err
}

// Torn reads all reports.
func (c *Catalog) Torn(ctx context.Context) ([]Torn, error) {
	return listOf[Torn](ctx, c, "torn transactions", tornPrefix, nil)
}

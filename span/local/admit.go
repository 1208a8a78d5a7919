package local

import (
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/wire"
)

// admissible tells whether the topic's configs let a batch's records in, as Apache
// Kafka's LogValidator does: times within the limits with CreateTime, a key on each record of a compacted topic.
// It runs on the caller's goroutine. Records are unpacked only where a
// config asks for it. The topics of chains have no limits on times: the gateway
// keeps those, so that what was taken once can be copied for ever.
func (c *topicConfig) admissible(b []byte, h *batch.Header, now int64) error {
	if h.IsControl() || h.NumRecords == 0 {
		return nil
	}
	if !c.logAppendTime && c.afterMax >= 0 && h.MaxTimestamp-now > c.afterMax {
		return badTime(h.MaxTimestamp)
	}
	before := !c.logAppendTime && c.beforeMax >= 0
	if !before && !c.compacts {
		return nil
	}
	for r, err := range batch.Records(b, unpackBudget) {
		switch {
		case err != nil:
			return corrupt(err)
		case c.compacts && r.Key == nil:
			return errNoKey
		case before && r.Timestamp != batch.NoTimestamp && now-r.Timestamp > c.beforeMax:
			return badTime(r.Timestamp)
		}
	}
	return nil
}

var errNoKey = reject(wire.InvalidRecord, "a record without a key in a compacted topic")

func badTime(ms int64) error {
	return reject(wire.InvalidTimestamp, fmt.Sprintf("the record's time %s is outside of the topic's limits", time.UnixMilli(ms).UTC().Format(time.RFC3339)))
}

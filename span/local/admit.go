package local

import (
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/wire"
)

// admissible tells whether the topic's configs let a batch's records in, as Apache
// Kafka's LogValidator does: times within the limits with CreateTime, a key on each record of a compacted topic.
// It runs on the caller's goroutine. Records are unpacked only where a
// config asks for it, for which owners take turns. The topics of chains have no limits on times: the gateway
// keeps those, so that what was taken once can be copied for ever.
func (c *topicConfig) admissible(owner string, b []byte, h *batch.Header, now int64) error {
	if h.IsControl() || h.NumRecords == 0 {
		return nil
	}
	asked := batch.Admission{Keys: c.compacts, Before: -1, After: -1, Now: now}
	if !c.logAppendTime {
		asked.Before, asked.After = c.beforeMax, c.afterMax
	}
	err := asked.Check(owner, b, h)
	var out *batch.TimeError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, batch.ErrNoKey):
		return errNoKey
	case errors.As(err, &out):
		return badTime(out.Timestamp)
	}
	return corrupt(err)
}

var errNoKey = reject(wire.InvalidRecord, "a record without a key in a compacted topic")

func badTime(ms int64) error {
	return reject(wire.InvalidTimestamp, fmt.Sprintf("the record's time %s is outside of the topic's limits", time.UnixMilli(ms).UTC().Format(time.RFC3339)))
}

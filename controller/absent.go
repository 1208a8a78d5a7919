package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// A physical topic may be gone while its cluster is well: somebody has deleted it there, or the cluster's disks
// were emptied. That is a log that went back to its start, and is dealt with alike, once it is
// certain: nothing is given up for an answer of a broker that lags, or for none at all.

// errUnconfirmed: a cluster says that it has a physical topic no more, and has to say so again.
var errUnconfirmed = errors.New("the cluster is asked once more later")

// confirmGone is nil once a cluster has said twice, apart from each other, that it has a copy's physical topic no
// more. found is the error that it was found by.
func (t *term) confirmGone(ctx context.Context, c *catalog.Copy, found error) error {
	st, err := t.o.Stores.Store(c.Cluster)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	asked := time.Now()
	gone, err := span.IsGone(call, st, span.Topic{Name: c.Topic, ID: c.TopicID})
	t.mu.Lock()
	defer t.mu.Unlock()
	since, before := t.absent[c.TopicID]
	switch {
	case err != nil || !gone:
		delete(t.absent, c.TopicID)
		if err == nil {
			err = span.ErrUnavailable // found by one that lags
		}
		return fmt.Errorf("%w (%w)", err, found)
	case !before:
		t.absent[c.TopicID] = time.Now()
		return fmt.Errorf("%w: %w", found, errUnconfirmed)
	case asked.Sub(since) < t.driver.limits.gone:
		return fmt.Errorf("%w: %w", found, errUnconfirmed)
	}
	return nil
}

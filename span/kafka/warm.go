package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/braidstream/braid/span"
)

var _ span.Warmer = (*partition)(nil)

// Warm implements [span.Warmer]: it attaches the partition to its leader's lane,
// as the recovery before a first append would, and has the lane connect.
func (p *partition) Warm(ctx context.Context) error {
	lead, b, err := p.leader(ctx, time.Time{})
	if err != nil {
		return p.s.wrap(fmt.Sprintf("warm partition %d of", p.index), p.topic, err)
	}
	p.s.closeMu.RLock()
	defer p.s.closeMu.RUnlock()
	if p.s.closed || p.s.draining.Load() {
		return p.s.wrap(fmt.Sprintf("warm partition %d of", p.index), p.topic, unavailable(errClosed))
	}
	l := b.lanes.get(partitionKey{p.topic.ID, p.index}, false)
	p.mu.Lock()
	if p.lane == nil && !p.blocked && !p.recovery && len(p.queue) == 0 && p.flying == 0 && !p.suspect && p.lost == nil && p.lead == lead {
		p.lane, p.laneTurn = l, l.turn.Load()
	}
	p.mu.Unlock()
	l.warm()
	return nil
}

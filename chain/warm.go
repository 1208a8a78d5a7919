package chain

import (
	"context"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

const (
	// warmTime bounds one warming: an extend takes no longer from its announcement
	// to its commit, or is in trouble.
	warmTime = 5 * time.Second
	// warmWidth is how many copies are warmed at once.
	warmWidth = 32
)

// warmed is the copy that an extend is about to open, made ready for its first
// append, so that what was held need not wait for metadata and a connection.
type warmed struct {
	topic catalog.ID // physical
	log   span.Log
}

// nextCopy is the physical topic that an extend will open next, once it is made;
// nil if there is none.
func nextCopy(e *catalog.Extend) *catalog.PhysicalTopic {
	if e == nil || e.New.TopicID.IsZero() {
		return nil
	}
	switch e.Step {
	case catalog.StepHold, catalog.StepSeal, catalog.StepRead, catalog.StepCommit:
		return &e.New
	}
	return nil
}

// lookAhead takes up the handle of the copy that is coming if this gateway appends
// to the partition, and gives back one that is not needed any more: the open span
// has its own by then, or the extend was undone.
func (p *Partition) lookAhead() {
	next := nextCopy(p.l.source.Extend(p.topic))
	p.mu.Lock()
	defer p.unlock()
	if w := p.warm; w != nil && (next == nil || next.TopicID != w.topic || p.dead != nil) {
		p.warm = nil
		p.wakes = append(p.wakes, w.log.Release)
	}
	if next == nil || p.warm != nil || p.dead != nil || p.cur == nil || p.cur.acks.batches == 0 {
		return
	}
	st, err := p.l.stores.Store(next.Cluster)
	if err != nil {
		return // said when it is needed
	}
	log := st.Log(span.Topic{Name: next.Topic, ID: next.TopicID}, p.index)
	w, ok := log.(span.Warmer)
	if !ok {
		p.wakes = append(p.wakes, log.Release)
		return
	}
	p.warm = &warmed{next.TopicID, log}
	p.l.run(func(ctx context.Context) {
		select {
		case p.l.warming <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-p.l.warming }()
		ctx, cancel := context.WithTimeout(ctx, warmTime)
		defer cancel()
		if err := w.Warm(ctx); err != nil {
			p.l.log.Debug("the next copy is not warm", "topic", p.topic, "partition", p.index, "err", err)
		}
	})
}

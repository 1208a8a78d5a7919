package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

const (
	// retryFirst and retryMost bound the pause between attempts that fail.
	retryFirst = 5 * time.Millisecond
	retryMost  = 500 * time.Millisecond
	// maxTooLarge is how often an append may be refused as too large by a log that
	// a probe then finds open: once is a seal that was undone, twice is its size.
	maxTooLarge = 2
	// leaderPatience is how long appends wait for a partition that nobody leads, or whose leader
	// refuses, where they do not wait for clusters that are away: longer than an orderly change of
	// leaders, shorter than what a crash costs (broker.session.timeout.ms, 9 s).
	leaderPatience = 4 * time.Second
	// troubleFor is how long it counts that nobody took appends while nobody appends. Clients that are
	// refused come again sooner.
	troubleFor = 5 * time.Second
)

// recover runs while nothing of the partition is under way and something is
// queued: at the first append, and after each failure. It finds out who leads and
// what became of the log, ends what can be ended, and lets the rest go on in
// its original order.
func (p *partition) recover() {
	began := time.Now()
	leaderless := false // a broker answered, and named no leader
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.recovery, p.blocked, p.lane, p.next = false, false, nil, 0
			p.mu.Unlock()
			return
		}
		troubled := p.troubled
		tries, since, first := p.tries, p.since, p.queue[0].code
		// A connection was lost, or never was while reads were: who leads, and
		// whether the log is whole, is asked before anything is appended.
		unattached := p.lane == nil && p.lead.epoch >= 0
		refused, held := false, false
		for _, e := range p.queue {
			refused = refused || kindOf(e.code) == kindTooLarge
			held = held || e.held
		}
		p.tries++
		p.mu.Unlock()

		if p.s.closing.Err() != nil {
			p.endRecovery(unavailable(errClosed))
			return
		}
		if p.s.givesUp(began) {
			p.endRecovery(unavailable(errAway))
			return
		}
		hopeless := p.s.opts.AwayAfter > 0 && time.Since(troubled) >= leaderPatience ||
			(leaderless || kindOf(first) == kindMoved) && p.s.justBack()
		if hopeless && tries > 0 {
			// From here on each append is tried once, until one lands.
			p.endRecovery(unavailable(errTrouble))
			return
		}
		if tries > 1 || tries == 1 && kindOf(first) != kindNone {
			if p.s.pause(p.s.closing, p.s.meta.away.atMost(min(retryFirst<<min(tries, 16), retryMost))) != nil {
				continue
			}
		}
		if refused {
			sealed, err := p.judgeTooLarge()
			if err != nil {
				p.s.log.Debug("a probe failed", "topic", p.topic.Name, "partition", p.index, "error", err)
				if errors.Is(err, span.ErrGone) || errors.Is(err, span.ErrDenied) {
					p.endRecovery(err)
					return
				}
				continue
			}
			if sealed {
				p.endRecovery(fmt.Errorf("%w: %w", span.ErrSealed, wire.MessageTooLarge))
				return
			}
		}
		after := time.Time{}
		switch kindOf(first) {
		case kindMoved, kindGone, kindRange:
			after = since
		default:
			if first == wire.NetworkException || held || unattached || tries > 0 {
				after = since
			}
		}
		ctx, cancel := p.s.short(p.s.closing)
		if hopeless {
			cancel()
			ctx, cancel = context.WithTimeout(p.s.closing, p.s.opts.AwayAfter)
		}
		lead, err := p.resolve(ctx, after, held)
		cancel()
		if err != nil {
			var lost *span.TruncatedError
			if errors.As(err, &lost) || errors.Is(err, span.ErrGone) || errors.Is(err, span.ErrDenied) {
				p.endRecovery(err)
				return
			}
			p.s.log.Debug("no leader yet", "topic", p.topic.Name, "partition", p.index, "error", err)
			leaderless = errors.Is(err, errNoLeader)
			p.noteFailure()
			continue
		}
		b := p.s.broker(lead.leader)
		if b == nil {
			p.noteFailure()
			continue
		}
		p.resume(b)
		return
	}
}

// noteFailure makes the next round ask anew.
func (p *partition) noteFailure() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lane, p.since = nil, time.Now()
}

// resume acknowledges what was held, and lets the lane have the rest.
func (p *partition) resume(b *broker) {
	var ended []*entry
	p.mu.Lock()
	for i := 0; i < len(p.queue); {
		if !p.queue[i].held {
			i++
			continue
		}
		// The log is whole, so this was a duplicate.
		ended = append(ended, p.unqueue(p.queue[i], nil))
	}
	p.lane = b.lanes.get(partitionKey{p.topic.ID, p.index}, p.suspect)
	p.laneTurn = p.lane.turn.Load()
	p.next, p.blocked, p.recovery = 0, false, false
	for _, e := range p.queue {
		e.code = wire.None
	}
	lane := p.kick()
	p.mu.Unlock()
	p.finish(ended)
	if lane != nil {
		lane.add(p)
	}
}

// endRecovery ends everything that is queued, and what is submitted until the
// first Done has returned, with err. Later appends begin anew.
func (p *partition) endRecovery(err error) {
	p.mu.Lock()
	p.sealing = true
	for len(p.queue) > 0 {
		var ended []*entry
		for len(p.queue) > 0 {
			ended = append(ended, p.unqueue(p.queue[0], err))
		}
		p.next = 0
		p.mu.Unlock()
		p.finish(ended)
		p.mu.Lock()
	}
	p.sealing, p.recovery, p.blocked, p.lane, p.next, p.tries = false, false, false, nil, 0, 0
	if !errors.Is(err, errTrouble) {
		p.troubled = time.Time{}
	}
	p.mu.Unlock()
}

// judgeTooLarge asks the leader whether the partition is sealed. If it is not,
// the appends that are too large or stamped wrongly in truth are ended.
func (p *partition) judgeTooLarge() (sealed bool, err error) {
	err = p.Probe(p.s.closing)
	if errors.Is(err, span.ErrSealed) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	var ended []*entry
	p.mu.Lock()
	for i := 0; i < len(p.queue); {
		e := p.queue[i]
		if kindOf(e.code) != kindTooLarge {
			i++
			continue
		}
		code := e.code
		e.code = wire.None
		if e.tooLarge++; e.tooLarge < maxTooLarge {
			i++
			continue
		}
		ended = append(ended, p.unqueue(e, &span.RejectedError{Code: code}))
	}
	p.mu.Unlock()
	p.finish(ended)
	return false, nil
}

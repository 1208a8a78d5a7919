package chain

import (
	"context"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
)

// endedSpan is a span that ended here, until its report is complete: the first
// acknowledgement on the next span bounds the pause.
type endedSpan struct {
	t        *target
	ended    time.Time
	firstAck time.Time
	asked    time.Time // since when it was waited for
	sent     bool
}

// reportWait is how long a report waits for the first acknowledgement on the next
// span; if that comes later the report is published again.
const reportWait = 100 * time.Millisecond

// forgetReport bounds how long that is waited for.
const forgetReport = time.Minute

// reporter keeps the partitions whose reports are due.
type reporter struct {
	mu   sync.Mutex
	due  map[*Partition]struct{}
	poke chan struct{}
}

func (r *reporter) add(p *Partition) {
	r.mu.Lock()
	if r.due == nil {
		r.due = map[*Partition]struct{}{}
	}
	r.due[p] = struct{}{}
	r.mu.Unlock()
	poke(r.poke)
}

// retire ends a target. Needs mu.
func (p *Partition) retire(t *target) {
	p.wakes = append(p.wakes, t.log.Release)
	t.known, t.state, t.placing = nil, nil, nil
	if t.told || t.acks.nothing() {
		return
	}
	p.ended = append(p.ended, &endedSpan{t: t, ended: time.Now()})
	p.l.report.add(p)
}

// asking is since when clients come again with what was sent back, and no append was acknowledged.
type asking struct {
	since time.Time // zero: none
	last  time.Time // when something was last sent back
}

// givenUp is how long after the last of that nobody waits any more: clients come again after a second or so.
const givenUp = 30 * time.Second

// waits notes that an append is sent back, whose client comes again with it. Needs mu.
func (p *Partition) waits(f *flight) {
	if p.asked.since.IsZero() || f.came.Sub(p.asked.last) > givenUp || f.came.Before(p.asked.since) {
		p.asked.since = f.came
	}
	p.asked.last = time.Now()
}

// firstAck notes the first acknowledgement after a span's end, that of f. Needs mu.
func (p *Partition) firstAck(t *target, f *flight, now time.Time) {
	asked := f.came
	if a := &p.asked; !a.since.IsZero() && a.since.Before(asked) && asked.Sub(a.last) <= givenUp {
		asked = a.since
	}
	p.asked = asking{}
	for _, e := range p.ended {
		if e.firstAck.IsZero() && e.t.seq < t.seq {
			e.firstAck, e.asked = now, asked
			p.l.report.add(p)
		}
	}
}

// report is what is said of the span. Needs p.mu.
func (e *endedSpan) report(p *Partition) catalog.AckReport {
	r := e.t.acks.report(p.l, p.index, e.t.seq)
	switch {
	case !e.firstAck.IsZero():
		r.FirstAck, r.Asked, r.Idle = e.firstAck.UnixNano(), e.asked.UnixNano(), e.asked.After(e.ended)
	case !p.asked.since.IsZero():
		r.Asked = p.asked.since.UnixNano() // for nothing, so far
	}
	return r
}

// marked counts a marker that the cluster of a copy wrote by itself.
func (p *Partition) marked(physical catalog.ID) {
	p.mu.Lock()
	defer p.unlock()
	if p.dead != nil {
		return
	}
	if p.cur == nil {
		p.open()
	}
	if t := p.cur; t != nil && t.copy.TopicID == physical {
		t.acks.markers++
		return
	}
	for _, e := range p.ended {
		if e.t.copy.TopicID == physical {
			e.t.acks.markers++
			e.sent = false // said again
			p.l.report.add(p)
		}
	}
}

// dueReports gives the reports to publish now, and tells whether more are to come.
func (p *Partition) dueReports(now time.Time, all bool) (out []catalog.AckReport, more bool) {
	p.mu.Lock()
	defer p.unlock()
	kept := p.ended[:0]
	for _, e := range p.ended {
		complete := !e.firstAck.IsZero()
		if complete || all || !e.sent && now.Sub(e.ended) >= reportWait {
			out = append(out, e.report(p))
			e.sent = true
		}
		if !complete && now.Sub(e.ended) < forgetReport {
			kept = append(kept, e)
			more = more || !e.sent
		}
	}
	clear(p.ended[len(kept):])
	p.ended = kept
	return out, more
}

// publishReports writes what is due, off the path of records.
func (l *Logs) publishReports(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.report.poke:
		}
		// Reports of a topic's partitions come within moments of each other.
		for more := true; more; {
			if !sleep(ctx, reportWait/4) {
				return
			}
			more = l.publishDue(ctx)
		}
	}
}

func (l *Logs) publishDue(ctx context.Context) (more bool) {
	l.report.mu.Lock()
	due := l.report.due
	l.report.due = nil
	l.report.mu.Unlock()
	now := time.Now()
	byTopic := map[catalog.ID][]catalog.AckReport{}
	again := map[*Partition]struct{}{}
	for p := range due {
		rs, m := p.dueReports(now, false)
		byTopic[p.topic] = append(byTopic[p.topic], rs...)
		if m {
			again[p] = struct{}{}
		}
	}
	for p := range again {
		l.report.add(p)
	}
	l.writeReports(ctx, byTopic)
	return len(again) > 0
}

func (l *Logs) writeReports(ctx context.Context, byTopic map[catalog.ID][]catalog.AckReport) {
	for topic, rs := range byTopic {
		if len(rs) == 0 {
			continue
		}
		wctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := l.source.Report(wctx, topic, rs)
		cancel()
		if err != nil {
			// The certificate will call the span unverified.
			l.log.Warn("acknowledgement reports were not published", "topic", topic, "reports", len(rs), "err", err)
		}
	}
}

// flushReports publishes everything at shutdown, complete or not: also what was
// acknowledged on spans that are still open, since nobody else will know.
func (l *Logs) flushReports(all []*Partition) {
	byTopic := map[catalog.ID][]catalog.AckReport{}
	for _, p := range all {
		rs, _ := p.dueReports(time.Now(), true)
		p.mu.Lock()
		if t := p.cur; t != nil && !t.acks.nothing() {
			// Said once and never again, so that it may be folded with those of other runs.
			t.told = true
			r := t.acks.report(l, p.index, t.seq)
			r.Last = true
			rs = append(rs, r)
		}
		p.unlock()
		byTopic[p.topic] = append(byTopic[p.topic], rs...)
	}
	l.writeReports(l.ctx, byTopic)
}

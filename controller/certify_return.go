package controller

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// The certificate of a failover cannot say much while the cluster is away. When it is back the
// return has its own certificate, and both get the same last word: what the log that came
// back holds is compared with what gateways saw acknowledged on it, as for a move, and the
// stranded records are looked up where they were appended anew.

// returnPatience is how long a cluster that is back, and does not answer when it is to be read,
// is asked again until its spans are called unverified.
const returnPatience = 10 * time.Minute

// certifyReturn gives that last word.
func (t *term) certifyReturn(ctx context.Context, e *catalog.Extend) error {
	if err := pause(ctx, time.Until(e.Sealed.Add(catalog.FenceWait(t.o.Lease)+time.Second))); err != nil {
		return err
	}
	failovers, err := t.postponedBy(ctx, e)
	if err != nil {
		return err
	}
	if err := t.awaitReports(ctx, e); err != nil {
		return err
	}
	parts, err := t.judgeReturn(ctx, e, failovers)
	if err != nil {
		return err
	}
	cert := firstWord(e)
	cert.Partitions = parts
	// A controller before this one may have revised some, of which nothing is postponed any more.
	if was, err := t.o.Catalog.Certificate(ctx, e.Topic.ID, e.Op); err == nil {
		cert.Failovers = was.Failovers
	} else if !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	for i := range failovers {
		if !slices.Contains(cert.Failovers, failovers[i].Op) {
			cert.Failovers = append(cert.Failovers, failovers[i].Op)
		}
	}
	if err := t.o.Catalog.PutCertificate(ctx, cert, t.driver.fence); err != nil {
		return err
	}
	for i := range failovers {
		if err := t.lastWord(ctx, e, &failovers[i], parts); err != nil {
			return err
		}
	}
	if err := t.o.Catalog.PruneCertificates(ctx, e.Topic.ID, keptCertificates); err != nil {
		return err
	}
	if err := t.o.Catalog.DeleteCertification(ctx, *e, t.driver.fence); err != nil {
		return err
	}
	return t.dropReports(ctx, e.Topic)
}

// firstWord is a return's certificate before anything was compared.
func firstWord(e *catalog.Extend) catalog.Certificate {
	kind := catalog.OpReturn
	if e.Forfeit {
		kind = catalog.OpRepair
	}
	cert := catalog.Certificate{Op: e.Op, Kind: kind, Topic: e.Topic, From: e.Target, To: e.Target, Mode: e.Mode, Issued: time.Now().UTC(), Standing: summary(e.Standing)}
	for i := range e.Ends {
		cert.Partitions = append(cert.Partitions, judgeEarly(&evidence{end: e.Ends[i], returned: &e.Returned[i]}))
	}
	return cert
}

// postponedBy reads the postponed certificates that the return has an answer to. One that is
// not postponed yet is waited for: it will be in a moment.
func (t *term) postponedBy(ctx context.Context, e *catalog.Extend) ([]catalog.Extend, error) {
	concerns := func(f *catalog.Extend) bool {
		return f.Op != e.Op && f.Unreadable && slices.ContainsFunc(f.Ends, func(end catalog.SealedEnd) bool { return endOf(e, &end) >= 0 })
	}
	for {
		pending, err := t.o.Catalog.CertificationsOf(ctx, e.Topic.ID)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(pending, func(f catalog.Extend) bool { return concerns(&f) }) {
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	list, err := t.o.Catalog.Postponed(ctx, e.Topic.ID)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(f catalog.Extend) bool { return !concerns(&f) }), nil
}

// endOf finds which of an extend's ends is of the same span; -1: none.
func endOf(e *catalog.Extend, end *catalog.SealedEnd) int {
	return slices.IndexFunc(e.Ends, func(x catalog.SealedEnd) bool { return x.Partition == end.Partition && x.Span == end.Span })
}

// strandedIn is how many stranded records a return has found in one of its spans; 0 for others' extends.
func strandedIn(e *catalog.Extend, i int) int64 {
	if i >= len(e.Returned) {
		return 0
	}
	return e.Returned[i].Records()
}

func oldCluster(e *catalog.Extend, end *catalog.SealedEnd) string {
	if end.Old < 0 || end.Old >= len(e.Old) {
		return ""
	}
	return e.Old[end.Old].Cluster
}

// judgeReturn reads and judges all spans of a return.
func (t *term) judgeReturn(ctx context.Context, e *catalog.Extend, failovers []catalog.Extend) ([]catalog.PartitionCertificate, error) {
	topic, err := t.o.Catalog.Topic(ctx, e.Topic.Tenant, e.Topic.ID)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return nil, err
	}
	all, err := t.o.Catalog.AckReports(ctx, e.Topic.ID)
	if err != nil {
		return nil, err
	}
	parts := make([]catalog.PartitionCertificate, len(e.Ends))
	err = each(ctx, make([]*catalog.Chain, len(e.Ends)), func(ctx context.Context, i int, _ *catalog.Chain) error {
		end := e.Ends[i]
		ev := evidence{end: end, strayEnd: -1, returned: &e.Returned[i], forfeit: e.Forfeit,
			rewritten: isRestamped(topic.Config), compacted: isCompacted(topic.Config),
			sized: configInt(topic.Config, "retention.bytes") >= 0}
		// A log that is shorter than what was acknowledged is judged up to there.
		ev.end.End = max(end.End, ev.returned.Cut)
		for j := range all {
			if r := &all[j]; r.Partition == end.Partition && r.Span == end.Span {
				ev.reports = append(ev.reports, *r)
				ev.end.End = max(ev.end.End, r.Next)
			}
		}
		var next *catalog.PhysicalTopic
		for j := range failovers {
			if f := &failovers[j]; endOf(f, &end) >= 0 {
				next = &f.New
				ev.silent = append(ev.silent, f.Silent...)
			}
		}
		if !ev.returned.Gone {
			t.readReturned(ctx, e, i, next, &ev)
		}
		ev.chainStart, ev.released = t.chainNow(ctx, e, &end)
		if err := ev.unavailable(); err != nil && !ev.released && time.Since(e.Sealed) < returnPatience {
			return err
		}
		parts[i] = judgeReturned(end.Partition, &ev)
		return nil
	})
	return parts, err
}

// readReturned reads what a return's certificate is made from; failures are evidence.
func (t *term) readReturned(ctx context.Context, e *catalog.Extend, i int, next *catalog.PhysicalTopic, ev *evidence) {
	boundary := *e
	if next != nil {
		boundary.New = *next
	}
	t.readBoundary(ctx, &boundary, ev, true)
	t.readContent(ctx, e, ev)
	t.readReplay(ctx, e, i, ev)
}

// unavailable is the error of what may be readable in a while; nil if there is none.
func (ev *evidence) unavailable() error {
	errs := []error{ev.tailErr, ev.strayErr, ev.replay.err}
	if ev.content != nil {
		errs = append(errs, ev.content.err)
	}
	for _, err := range errs {
		if errors.Is(err, span.ErrUnavailable) {
			return err
		}
	}
	return nil
}

// lastWord revises the certificate of a failover by what the return's says of its spans.
func (t *term) lastWord(ctx context.Context, e, f *catalog.Extend, parts []catalog.PartitionCertificate) error {
	cert, err := t.o.Catalog.Certificate(ctx, f.Topic.ID, f.Op)
	if errors.Is(err, catalog.ErrNotFound) {
		return t.o.Catalog.DeletePostponed(ctx, *f, t.driver.fence) // so many came after it
	}
	if err != nil {
		return err
	}
	left := false
	for _, end := range f.Ends {
		c := earlier(&cert, end.Partition)
		if c == nil {
			continue
		}
		i := endOf(e, &end)
		if i < 0 {
			left = left || c.Unread
			continue
		}
		pause, idle := c.PauseMs, c.Idle
		*c = parts[i]
		if c.PauseMs == nil {
			c.PauseMs, c.Idle = pause, idle
		}
	}
	cert.Return, cert.Issued = e.Op, time.Now().UTC()
	if e.Standing != nil {
		cert.Standing = summary(e.Standing)
	}
	if err := t.o.Catalog.PutCertificate(ctx, cert, t.driver.fence); err != nil || left {
		return err
	}
	return t.o.Catalog.DeletePostponed(ctx, *f, t.driver.fence)
}

// goneUnread is what a certificate says of a span that left the chain before its cluster was back.
const goneUnread = "the span was dropped before its cluster was back, by retention or by an operator: it was never read"

// sweepPostponed ends the wait of certificates whose spans are not in the chain any more.
//
// The order of the reads matters. A return marks its spans as readable while its extend
// stands, and leaves its certification when that ends.
func (t *term) sweepPostponed(ctx context.Context) error {
	topics, err := t.o.Catalog.PostponedTopics(ctx)
	if err != nil || len(topics) == 0 {
		return err
	}
	s, err := t.o.Watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	for id := range topics {
		chains := s.Chains(id)
		away := slices.ContainsFunc(chains, func(ch *catalog.Chain) bool {
			return slices.ContainsFunc(ch.Spans, func(sp catalog.Span) bool {
				return sp.Hole && slices.ContainsFunc(sp.Copies, func(c catalog.Copy) bool { return c.Unreadable && !c.Gone })
			})
		})
		if s.TopicByID(id) == nil || away || s.Extend(id) != nil {
			continue
		}
		pending, err := t.o.Catalog.CertificationsOf(ctx, id)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(pending, func(e catalog.Extend) bool { return e.Kind == catalog.OpReturn }) {
			continue
		}
		list, err := t.o.Catalog.Postponed(ctx, id)
		if err != nil {
			return err
		}
		for i := range list {
			if err := t.neverRead(ctx, &list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// neverRead gives a postponed certificate its last word without a reading.
func (t *term) neverRead(ctx context.Context, f *catalog.Extend) error {
	cert, err := t.o.Catalog.Certificate(ctx, f.Topic.ID, f.Op)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	if err == nil {
		for i := range cert.Partitions {
			c := &cert.Partitions[i]
			if n := len(c.Checked); c.Unread {
				for j := range c.Groups {
					c.Groups[j].What = catalog.GroupDropped
				}
				if c.Checked = slices.DeleteFunc(c.Checked, isToCome); len(c.Checked) < n {
					c.Checked = append(c.Checked, goneUnread)
				}
			}
		}
		if err := t.o.Catalog.PutCertificate(ctx, cert, t.driver.fence); err != nil {
			return err
		}
	}
	if err := t.o.Catalog.DeletePostponed(ctx, *f, t.driver.fence); err != nil {
		return err
	}
	return t.dropReports(ctx, f.Topic)
}

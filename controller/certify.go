package controller

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

const (
	// boundaryBytes bounds what is read on either side of a boundary, per partition.
	boundaryBytes   = 4 << 20
	boundaryBatches = 256
)

// certifyAll takes up the certifications that no operation has in hand.
func (t *term) certifyAll(ctx context.Context) error {
	for {
		list, err := t.o.Catalog.Certifications(ctx)
		if err != nil {
			return err
		}
		for _, e := range list {
			t.certifying(e)
		}
		if err := pause(ctx, 5*time.Second); err != nil {
			return err
		}
	}
}

func certifyKey(e *catalog.Extend) string { return e.Topic.ID.String() + "/" + e.Op }

// certifying begins to certify an extend, unless that is under way, and gives a
// channel that is closed when the first certificate is issued.
func (t *term) certifying(e catalog.Extend) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := certifyKey(&e)
	if ch, ok := t.kicked[key]; ok {
		return ch
	}
	issued := make(chan struct{})
	t.kicked[key] = issued
	t.wg.Go(func() {
		defer func() {
			t.mu.Lock()
			delete(t.kicked, key)
			t.mu.Unlock()
		}()
		if err := t.certify(t.ctx, e, issued); err != nil && t.ctx.Err() == nil {
			t.o.Logger.Warn("certificate is not complete, trying again", "topic", e.Topic.Name, "op", e.Op, "err", err)
		}
	})
	return issued
}

func (t *term) awaitCertificate(ctx context.Context, e catalog.Extend) error {
	select {
	case <-t.certifying(e):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stage is how much a certificate says by now.
type stage int

const (
	none       stage = iota
	early            // the gateways' reports are in
	turnedOver       // their leases have turned over, and the sealed end was read again
	complete         // the sealed span was read
)

// certify issues a certificate at each [stage]. It holds nothing up: the commit has
// released the producers.
func (t *term) certify(ctx context.Context, e catalog.Extend, issued chan struct{}) error {
	first := true
	announce := func() {
		if first {
			first = false
			close(issued)
		}
	}
	defer announce() // whoever waits must not wait for ever on a failure
	if e.Kind == catalog.OpReturn {
		return t.certifyReturn(ctx, &e)
	}
	// What another controller has issued stands, and is not said again: by now there may be less to read.
	was, err := t.issued(ctx, &e)
	if err != nil {
		return err
	}
	if was == none {
		if err := t.awaitReports(ctx, &e); err != nil {
			return err
		}
		if err := t.issue(ctx, &e, early); err != nil {
			return err
		}
		if err := t.driver.at(FaultCertified); err != nil {
			return err
		}
	}
	announce()
	if was < turnedOver {
		if err := pause(ctx, time.Until(e.Sealed.Add(catalog.FenceWait(t.o.Lease)+time.Second))); err != nil {
			return err
		}
		t.growIndexes(ctx, &e)
		t.askLate(ctx, &e)
		if err := t.issue(ctx, &e, turnedOver); err != nil {
			return err
		}
		if err := t.driver.at(FaultTurnedOver); err != nil {
			return err
		}
	}
	// Last, because it may take long: one span is read at a time.
	if err := t.issue(ctx, &e, complete); err != nil {
		return err
	}
	if e.Mode == catalog.ModeFence || e.Unreadable {
		if err := t.o.Catalog.DeleteHoldAcks(ctx, e.Topic.ID, e.Op); err != nil {
			return err
		}
	}
	if err := t.dropStates(ctx, e.Topic); err != nil {
		return err
	}
	if err := t.o.Catalog.PruneCertificates(ctx, e.Topic.ID, keptCertificates); err != nil {
		return err
	}
	if e.Unreadable {
		// Its last word is given when the cluster is back; the reports are kept until then.
		if err := t.o.Catalog.Postpone(ctx, e, t.driver.fence); err != nil {
			return err
		}
	} else if err := t.o.Catalog.DeleteCertification(ctx, e, t.driver.fence); err != nil {
		return err
	}
	// Only now: whoever takes over from here must not certify without them. The sweep
	// finds what is left.
	return t.dropReports(ctx, e.Topic)
}

// growIndexes gives the segments that the fresh copy will begin from now on indexes of
// their full size. It is done when the commit is some seconds past, so that it is in
// nobody's way; where it fails, segments are only smaller until the topic moves again.
func (t *term) growIndexes(ctx context.Context, e *catalog.Extend) {
	err := func() error {
		topic, err := t.o.Catalog.Topic(ctx, e.Topic.Tenant, e.Topic.ID)
		if err != nil {
			return err
		}
		c, err := t.o.Catalog.Cluster(ctx, e.New.Cluster)
		if err != nil || !growsIndexes(topic.Config, &c) {
			return err
		}
		st, err := t.o.Stores.Store(e.New.Cluster)
		if err != nil {
			return err
		}
		call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		defer cancel()
		return st.Configure(call, storeTopic(e.New), map[string]string{indexSize: strconv.FormatInt(indexBytes(topic.Config), 10)})
	}()
	if err != nil && !errors.Is(err, catalog.ErrNotFound) && !errors.Is(err, span.ErrGone) && ctx.Err() == nil {
		t.o.Logger.Warn("segments stay small", "topic", e.Topic.Name, "cluster", e.New.Cluster, "err", err)
	}
}

// keptCertificates is how many a topic keeps.
const keptCertificates = 100

// dropStates deletes the producers' states that no chain of the topic refers to:
// those of earlier seals, and of commits that failed. The order of the reads
// matters: a state in the list whose extend is not there any more is either in
// the chains that are read after, or will never be.
func (t *term) dropStates(ctx context.Context, topic catalog.TopicRef) error {
	refs, err := t.o.Catalog.ProducerRefs(ctx, topic.ID)
	if err != nil || len(refs) == 0 {
		return err
	}
	if _, err := t.o.Catalog.Extend(ctx, topic.Tenant, topic.ID); !errors.Is(err, catalog.ErrNotFound) {
		return err // under way: its own certification looks again
	}
	_, pages, err := t.o.Catalog.Chains(ctx, topic.Tenant, topic.ID)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil // they went with the topic
	}
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, ch := range chainsOf(pages) {
		for _, ref := range chain.ProducerRefs(ch) {
			used[ref] = true
		}
	}
	for _, ref := range refs {
		if !used[ref] {
			if err := t.o.Catalog.DeleteProducers(ctx, ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitReports waits until the reports account for all that the spans hold.
func (t *term) awaitReports(ctx context.Context, e *catalog.Extend) error {
	deadline := time.Now().Add(t.o.ReportsWait)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 300*time.Millisecond) {
		sealed, _, err := t.reports(ctx, e)
		if err != nil {
			return err
		}
		complete := true
		for i, end := range e.Ends {
			n := strandedIn(e, i)
			for _, r := range sealed[end.Partition] {
				n += r.Records + r.Unknown + r.Markers
			}
			complete = complete && n >= end.End-end.Start
		}
		if complete || time.Now().After(deadline) {
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// reports gives the reports on the sealed spans and on later ones, by partition.
func (t *term) reports(ctx context.Context, e *catalog.Extend) (sealed, next map[int32][]catalog.AckReport, err error) {
	list, err := t.o.Catalog.AckReports(ctx, e.Topic.ID)
	if err != nil {
		return nil, nil, err
	}
	spans := map[int32]int32{}
	for _, end := range e.Ends {
		spans[end.Partition] = end.Span
	}
	sealed, next = map[int32][]catalog.AckReport{}, map[int32][]catalog.AckReport{}
	for _, r := range list {
		switch at, ok := spans[r.Partition]; {
		case !ok:
		case r.Span == at:
			sealed[r.Partition] = append(sealed[r.Partition], r)
		case r.Span > at:
			next[r.Partition] = append(next[r.Partition], r)
		}
	}
	return sealed, next, nil
}

// issue gathers the evidence, judges, and stores the certificate.
func (t *term) issue(ctx context.Context, e *catalog.Extend, at stage) error {
	sealed, next, err := t.reports(ctx, e)
	if err != nil {
		return err
	}
	topic, err := t.o.Catalog.Topic(ctx, e.Topic.Tenant, e.Topic.ID)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	alarms := map[int32]*catalog.Alarm{}
	for i := range e.Alarms {
		alarms[e.Alarms[i].Partition] = &e.Alarms[i]
	}
	var before catalog.Certificate
	if at == complete {
		if before, err = t.o.Catalog.Certificate(ctx, e.Topic.ID, e.Op); err != nil && !errors.Is(err, catalog.ErrNotFound) {
			return err
		}
	}
	cert := catalog.Certificate{Op: e.Op, Kind: e.Kind, Topic: e.Topic, To: e.Target, Mode: e.Mode,
		Partitions: make([]catalog.PartitionCertificate, len(e.Ends)), Issued: time.Now().UTC(), Standing: summary(e.Standing)}
	for i, old := range e.Old {
		if i > 0 {
			cert.From += ","
		}
		cert.From += old.Cluster
	}
	err = each(ctx, make([]*catalog.Chain, len(e.Ends)), func(ctx context.Context, i int, _ *catalog.Chain) error {
		end := e.Ends[i]
		ev := evidence{end: end, reports: sealed[end.Partition], next: next[end.Partition], strayEnd: -1,
			rewritten: isRestamped(topic.Config), compacted: isCompacted(topic.Config),
			alarm: alarms[end.Partition], lossy: e.Unreadable, gone: e.Kind == catalog.OpRepair, silent: e.Silent, away: oldCluster(e, &end), standing: e.Standing}
		if !ev.lossy && end.Old >= 0 {
			t.readBoundary(ctx, e, &ev, at >= turnedOver)
			if at == complete {
				t.readContent(ctx, e, &ev)
				ev.chainStart, ev.released = t.chainNow(ctx, e, &end)
				if ev.released && (ev.tailErr != nil || ev.strayErr != nil) {
					ev.before = earlier(&before, end.Partition)
				}
			} else {
				var c *content
				c, ev.contentWhy = contentOf(&ev, t.o.CertifyBytes)
				ev.contentLater = c != nil
			}
		}
		ev.sized, ev.final = configInt(topic.Config, "retention.bytes") >= 0, at == complete
		cert.Partitions[i] = judge(end.Partition, &ev)
		return nil
	})
	if err != nil {
		return err
	}
	return t.o.Catalog.PutCertificate(ctx, cert, t.driver.fence)
}

// issued tells how far the certificate of an extend has come.
func (t *term) issued(ctx context.Context, e *catalog.Extend) (stage, error) {
	c, err := t.o.Catalog.Certificate(ctx, e.Topic.ID, e.Op)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return none, nil
	case err != nil:
		return none, err
	}
	for i := range c.Partitions {
		if slices.Contains(c.Partitions[i].Checked, toComeEnd) {
			return early, nil
		}
	}
	return turnedOver, nil
}

// earlier gives what a certificate says of a partition.
func earlier(c *catalog.Certificate, p int32) *catalog.PartitionCertificate {
	for i := range c.Partitions {
		if c.Partitions[i].Partition == p {
			return &c.Partitions[i]
		}
	}
	return nil
}

// readBoundary reads the batches on both sides of the boundary; failures are evidence.
func (t *term) readBoundary(ctx context.Context, e *catalog.Extend, ev *evidence, again bool) {
	ctx, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	end := &ev.end
	old, err := t.o.Stores.Store(e.Old[end.Old].Cluster)
	if err != nil {
		ev.tailErr, ev.strayErr = err, err
	} else {
		log := old.Log(storeTopic(e.Old[end.Old]), end.At)
		defer log.Release()
		ev.tailFrom = end.Start
		if end.End > end.Start {
			for range readTries {
				if ev.tailFrom, ev.tail, ev.tailErr = readTail(ctx, log, ev); !errors.Is(ev.tailErr, span.ErrOffsetOutOfRange) {
					break
				}
			}
		}
		if again {
			var o span.Offsets
			if o, ev.strayErr = log.Offsets(ctx); ev.strayErr == nil {
				ev.strayEnd = o.End
			}
		}
	}
	if e.New.Cluster == "" {
		return // a return that no failover is known of
	}
	fresh, err := t.o.Stores.Store(e.New.Cluster)
	if err != nil {
		ev.headErr = err
		return
	}
	log := fresh.Log(storeTopic(e.New), end.Partition)
	defer log.Release()
	ev.head, ev.headErr = readSome(ctx, log, 0, -1, end.Next)
	if errors.Is(ev.headErr, span.ErrGone) || errors.Is(ev.headErr, span.ErrOffsetOutOfRange) {
		// Moved on and trimmed meanwhile: its own certificate has looked at it.
		ev.head, ev.headErr = nil, nil
	}
}

// readTail reads the sealed span from the first batch that a report names, or as
// much of its end as the limit allows, the last batch at least.
func readTail(ctx context.Context, log span.Log, ev *evidence) (from int64, tail []seenBatch, err error) {
	end := &ev.end
	from = max(end.Start, end.End-boundaryBatches)
	for _, r := range ev.reports {
		for _, a := range r.Tail {
			from = min(from, max(a.Offset, end.Start))
		}
	}
	o, err := log.Offsets(ctx)
	if err != nil {
		return from, nil, err
	}
	// A log that came back shorter ends before the span does.
	from = min(max(from, o.Start+end.Delta), end.Physical+end.Delta)
	for n := end.Physical + end.Delta - from; ; n /= 2 {
		tail, err = readSome(ctx, log, from-end.Delta, end.Physical, end.Delta)
		if !errors.Is(err, errEnough) || n <= 1 {
			break
		}
		// More than the limit lies there: its end is what counts, and be it one batch.
		from = end.Physical + end.Delta - n/2
	}
	if len(tail) > 0 {
		from = min(from, tail[0].offset)
	}
	return from, tail, err
}

// errEnough ends a walk at its limit.
var errEnough = errors.New("limit of a read is reached")

// readSome reads batch headers from a physical offset on. With no end it stops at
// the limit without an error.
func readSome(ctx context.Context, log span.Log, from, end, delta int64) ([]seenBatch, error) {
	var out []seenBatch
	size := 0
	err := walk(ctx, log, from, end, func(h batch.Header, b []byte) error {
		if h.IsControl() {
			return nil
		}
		if size += len(b); size > boundaryBytes && len(out) > 0 || end < 0 && len(out) >= boundaryBatches {
			return errEnough
		}
		out = append(out, seen(&h, delta))
		return nil
	})
	if end < 0 && errors.Is(err, errEnough) {
		err = nil
	}
	return out, err
}

// unknownRoom is what a failover leaves free.
const unknownRoom = chain.UnknownRoom

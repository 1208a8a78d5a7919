package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// A cluster that is lost between the look and the end of its part, and stays away
// past the timeout of its own transaction, aborts what was decided to be committed.
// The records lie in its log still. They are appended anew, through the chain, in a
// transaction of our own: the redo. It is a transactional id like any other, in the
// same shard, that no client can name. What it decides is a record too, so that
//
//   - before its commit is decided, whoever finds it (after kill -9 of the owner, say)
//     aborts what it has appended and begins again from the aborted range;
//   - once it is decided it is carried out like any commit, and never begun again.
//
// The transaction whose part it is stays PrepareCommit until the redo is complete, so the client's
// next transaction comes behind it, and the order of its records in a partition is kept. A redo whose
// own part is aborted has a redo itself.
//
// What its topic refuses by now, since it was configured anew, is left out: a limit may stay as it is for ever, and so
// would the transaction, with its transactional id. The log says how much that is before the redo's commit is decided, so
// that whoever comes next reports it.

// redoPrefix begins the ids of redos; the tenant is [catalog.SystemTenant].
const redoPrefix = "redo/"

// redoKey names the redo of a participant's part. The participant's producer and
// epoch are of one transaction only.
func redoKey(shard int32, p *participant) groupKey {
	return groupKey{catalog.SystemTenant, fmt.Sprintf("%s%d/%s/%s/%d/%d", redoPrefix, shard, p.cluster, p.id, p.producer, p.epoch)}
}

func (k groupKey) isRedo() bool {
	return k.tenant == catalog.SystemTenant && strings.HasPrefix(k.group, redoPrefix)
}

// redoShard is the shard of a redo: that of the transaction whose part it appends anew.
func redoShard(key string) (int32, bool) {
	number, _, ok := strings.Cut(strings.TrimPrefix(key, redoPrefix), "/")
	n, err := strconv.ParseInt(number, 10, 32)
	return int32(n), ok && err == nil
}

// Fault points between the side effects of settling, for tests.
const (
	FaultTxnDecided   = "txn.decided"   // a commit with parts on other clusters is in the log
	FaultRedoBegun    = "redo.begun"    // the redo has a producer, nothing is appended
	FaultRedoAppended = "redo.appended" // all is, its commit is not decided
	FaultRedoDone     = "redo.done"     // it is complete, the transaction is not
)

func (c *Coordinator) at(point string) error {
	if c.fault == nil {
		return nil
	}
	return c.fault(point)
}

// redoPatience bounds one attempt to append a part anew.
const redoPatience = 15 * time.Minute

var errRedo = errors.New("a part of a transaction is not appended anew yet")

// tornPart is a partition of a part that its cluster has aborted.
type tornPart struct {
	key  partKey
	part chain.Part
}

// redo has the part of a participant appended anew. nil: all that is there of it is
// committed. It may be called again after any error.
func (c *Coordinator) redo(ctx context.Context, t *settling, p *participant, told map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, redoPatience)
	defer cancel()
	number, ok := c.number(t.key.tenant, t.key.group)
	if !ok {
		return errRedo
	}
	key := redoKey(number, p)
	report := &catalog.Torn{Tenant: t.key.tenant, TransactionalID: t.key.group, Producer: t.producer, Cluster: p.cluster, There: p.id,
		ThereProducer: p.producer, ThereEpoch: p.epoch, State: catalog.TornFound, Found: time.Now().UTC()}
	done, err := c.redoDone(ctx, key)
	if err != nil {
		return err
	}
	parts, committed, err := c.findTorn(ctx, t, p, report)
	var left chain.LeftOut
	switch {
	case err != nil && !done:
		if errors.Is(err, errHanging) && !told[hung(p.cluster)] {
			c.reportHanging(ctx, t.key, t.producer, p)
			told[hung(p.cluster)] = true
		}
		return err
	case committed:
		return c.abandonRedo(ctx, key)
	case done:
		if left, err = c.leftOut(ctx, key); err != nil {
			return err
		}
	case len(parts) == 0:
		if err := c.abandonRedo(ctx, key); err != nil {
			return err
		}
	default:
		if !told[reported(p.cluster)] {
			c.reportTorn(ctx, report)
			told[reported(p.cluster)] = true
		}
		if left, err = c.appendTorn(ctx, key, parts); err != nil {
			return err
		}
	}
	if err := c.at(FaultRedoDone); err != nil {
		return err
	}
	report.Refused, report.RefusedCode, report.Stamped = left.Records, int16(left.Code), left.Stamped
	c.metrics.txnRefused.Add(float64(left.Records))
	report.State = catalog.TornMended
	log := c.logger.Warn
	switch {
	case report.Missing:
		report.State, log = catalog.TornLost, c.logger.Error
		c.metrics.txnLost.Inc()
	case left.Records > 0:
		report.State, log = catalog.TornLost, c.logger.Error
	default:
		c.metrics.txnMended.Inc()
	}
	log("a cluster had aborted its part of a committed transaction; its records were appended anew", "cluster", p.cluster, "tenant", t.key.tenant,
		"transactional_id", t.key.group, "producer_id", t.producer, "there", p.id, "records", report.Records, "missing", report.Missing,
		"stamped_anew", left.Stamped, "refused", left.Records, "refused_with", left.Code.String())
	c.reportTorn(ctx, report)
	return nil
}

// findTorn finds what is left of a part. committed: its cluster has not aborted it after all.
func (c *Coordinator) findTorn(ctx context.Context, t *settling, p *participant, report *catalog.Torn) (parts []tornPart, committed bool, err error) {
	x := span.Transaction{ID: p.id, Producer: p.producer, Epoch: p.epoch}
	open := false
	for _, k := range t.sortedParts() {
		for _, at := range t.parts[k].places {
			if !at.foreign || at.cluster != p.cluster {
				continue
			}
			part, err := c.participants.Find(ctx, chain.PartCopy{Cluster: at.cluster, Physical: span.Topic{Name: at.topic, ID: at.id}, Index: at.index,
				Floor: at.floor, Since: t.started}, x)
			switch {
			case errors.Is(err, span.ErrGone):
				// Trimmed, or deleted with its topic.
				report.Missing = true
				continue
			case err != nil:
				return nil, false, fmt.Errorf("look for a part: %w", err)
			case part.Ended && part.Committed:
				committed = true
				continue
			case part.Batches > 0 && !part.Ended:
				open = true
				continue
			}
			report.Missing = report.Missing || !part.Whole
			if part.Records == 0 {
				continue // none came there, or a cleaner has emptied them
			}
			report.Records += part.Records
			if len(report.Ranges) < catalog.MaxTornRanges {
				report.Ranges = append(report.Ranges, catalog.TornRange{Topic: k.topic, Partition: k.partition, Physical: at.topic, Index: at.index,
					First: part.First, End: part.End, Records: part.Records})
			}
			parts = append(parts, tornPart{k, part})
		}
	}
	if open {
		// The cluster has lost the marker, or has not written it yet. What it lost is committed there, as was decided: only what has an
		// abort marker is to be appended anew.
		n, err := c.endHanging(ctx, t.key, t.parts, p, true)
		return nil, false, errors.Join(fmt.Errorf("%w: the marker of %s was not there, %d are written now", errRedo, p.id, n), err)
	}
	return parts, committed && len(parts) == 0, nil
}

// redoDone tells whether a redo is complete, and has one that is decided settled.
func (c *Coordinator) redoDone(ctx context.Context, key groupKey) (bool, error) {
	state, err := c.redoState(ctx, key)
	switch {
	case err != nil:
		return false, err
	case state == txnCompleteCommit:
		return true, nil
	case state.decided():
		c.awaitSettled(ctx, key, nil)
		return false, errRedo // looked at again
	}
	return false, nil
}

func (c *Coordinator) redoState(ctx context.Context, key groupKey) (txnState, error) {
	state, code := ask(ctx, c, key, func(m *machine) (txnState, wire.Code) {
		if t := m.txns[key]; t != nil {
			return t.state, wire.None
		}
		return txnEmpty, wire.None
	})
	if code != wire.None {
		return txnEmpty, fmt.Errorf("%w: %w", errRedo, code)
	}
	return state, nil
}

// abandonRedo aborts what a former attempt has appended, where nothing is left to append.
func (c *Coordinator) abandonRedo(ctx context.Context, key groupKey) error {
	switch state, err := c.redoState(ctx, key); {
	case err != nil:
		return err
	case state == txnOngoing:
		_, _, err := c.beginRedo(ctx, key)
		return err
	case state.decided():
		return errRedo // looked at again
	}
	return nil
}

// appendTorn is one attempt of a redo. It tells what is left out.
func (c *Coordinator) appendTorn(ctx context.Context, key groupKey, parts []tornPart) (left chain.LeftOut, err error) {
	producer, epoch, err := c.beginRedo(ctx, key)
	if err != nil {
		return left, err
	}
	if err := c.at(FaultRedoBegun); err != nil {
		return left, err
	}
	txn := &chain.Transaction{Epochal: true, Enlist: func(ctx context.Context, e chain.Enlist) (chain.Enlisted, error) {
		as, code := c.EnlistLocal(ctx, &Enlist{Tenant: key.tenant, ID: key.group, Producer: producer, Epoch: epoch, Implicit: true, At: e})
		switch code {
		case wire.None:
			return as, nil
		case wire.ReassignmentInProgress:
			return as, chain.ErrTransactionsHeld
		}
		return as, &span.RejectedError{Code: code}
	}}
	if left, err = c.repeatParts(ctx, parts, producer, epoch, txn); err != nil {
		return left, fmt.Errorf("append a part anew: %w", err)
	}
	if left.Records > 0 || left.Stamped > 0 {
		if err := c.leaveOut(ctx, key, producer, epoch, left); err != nil {
			return left, err
		}
	}
	if err := c.at(FaultRedoAppended); err != nil {
		return left, err
	}
	if state, err := c.redoState(ctx, key); err != nil || state == txnEmpty {
		return left, err // all topics were deleted meanwhile, or all records refused: there is nothing to commit
	}
	if _, _, code := c.endTxn(ctx, &endRequest{key: key, producer: producer, epoch: epoch, commit: true, bump: true, fresh: noID}); code != wire.None {
		return left, fmt.Errorf("%w: commit: %w", errRedo, code)
	}
	if done, err := c.redoDone(ctx, key); err != nil || !done {
		return left, errors.Join(errRedo, err)
	}
	return left, nil
}

// redoAtOnce bounds the partitions that are appended to at the same time.
const redoAtOnce = 16

// repeatParts appends the parts, those of one partition one after the other.
func (c *Coordinator) repeatParts(ctx context.Context, parts []tornPart, producer int64, epoch int16, txn *chain.Transaction) (chain.LeftOut, error) {
	by := map[partKey][]chain.Part{}
	for _, torn := range parts {
		by[torn.key] = append(by[torn.key], torn.part)
	}
	var mu sync.Mutex
	var left chain.LeftOut
	var failed []error
	var wg sync.WaitGroup
	limit := make(chan struct{}, redoAtOnce)
	for key, list := range by {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			next := int32(0)
			for _, part := range list {
				var out chain.LeftOut
				var err error
				next, out, err = c.participants.Repeat(ctx, part, key.topic, key.partition, producer, epoch, next, txn)
				mu.Lock()
				left.Add(out)
				gone := errors.Is(err, chain.ErrUnknownTopic) // deleted, and its records with it
				if err != nil && !gone {
					failed = append(failed, err)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return left, errors.Join(failed...)
}

// leaveOut writes down what a redo leaves out.
func (c *Coordinator) leaveOut(ctx context.Context, key groupKey, producer int64, epoch int16, left chain.LeftOut) error {
	_, code := ask(ctx, c, key, func(m *machine) (struct{}, wire.Code) {
		t, code := m.checkTxn(key, producer, epoch)
		if code != wire.None {
			return struct{}{}, code
		}
		t.left = left
		m.emit(txnLeftOut{key, left}.encode())
		return struct{}{}, wire.None
	})
	if code != wire.None {
		return fmt.Errorf("%w: %w", errRedo, code)
	}
	return nil
}

// leftOut is what a complete redo has left out.
func (c *Coordinator) leftOut(ctx context.Context, key groupKey) (chain.LeftOut, error) {
	left, code := ask(ctx, c, key, func(m *machine) (chain.LeftOut, wire.Code) {
		if t := m.txns[key]; t != nil {
			return t.left, wire.None
		}
		return chain.LeftOut{}, wire.None
	})
	if code != wire.None {
		return left, fmt.Errorf("%w: %w", errRedo, code)
	}
	return left, nil
}

// beginRedo aborts what a former attempt has left, and gives the next one its producer.
func (c *Coordinator) beginRedo(ctx context.Context, key groupKey) (int64, int16, error) {
	unlock, code := c.locks.take(ctx, key)
	if code != wire.None {
		return noID, noEpoch, errRedo
	}
	defer unlock()
	r := &initRequest{key: key, timeout: int32(c.config.MaxTransactionTimeout.Milliseconds()), producer: noID, epoch: noEpoch, fresh: noID}
	for {
		res, code := c.askInit(ctx, r)
		switch {
		case code != wire.None:
			return noID, noEpoch, fmt.Errorf("%w: %w", errRedo, code)
		case res.aborting:
			c.awaitSettled(ctx, key, nil)
			if ctx.Err() != nil {
				return noID, noEpoch, errRedo
			}
		case res.writing:
			awaitMarkers(ctx, res.written)
			if ctx.Err() != nil {
				return noID, noEpoch, errRedo
			}
		case !res.needID:
			return res.producer, res.epoch, nil
		default:
			if r.fresh, code = c.freshID(ctx); code != wire.None {
				return noID, noEpoch, fmt.Errorf("%w: %w", errRedo, code)
			}
		}
	}
}

// reportTorn tells operators; what cannot be told now is told by the log and the metrics.
func (c *Coordinator) reportTorn(ctx context.Context, r *catalog.Torn) {
	if c.report == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, participantPatience)
	defer cancel()
	if err := c.report(ctx, *r); err != nil {
		c.logger.Warn("the report of a torn transaction is not in the catalog", "transactional_id", r.TransactionalID, "err", err)
	}
}

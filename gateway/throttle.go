package gateway

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/quota"
	"github.com/braidstream/braid/wire"
)

// Quotas, as a broker enforces them: whoever exceeds one is answered at once and
// told for how long to be silent, and is not read from meanwhile (KIP-219). Without
// quotas a connection's quota is nil, and all of this a compare.

// throttle mutes the connection for a time, ms, and returns it for the answer. Only
// the reader calls it.
func (c *conn) throttle(wait int64) int32 {
	if wait <= 0 {
		return 0
	}
	wait = min(wait, quota.LongestMillis)
	until := time.Now().Add(time.Duration(wait) * time.Millisecond)
	if until.After(c.muted) {
		c.muted = until
	}
	c.g.metrics.throttled.Inc()
	return int32(wait)
}

// unmute waits until the connection may be read from again, or it ends, or the
// gateway drains. A connection that has to be silent for longer than one may be
// idle ends by then, as a broker's does: that its client has gone is not seen while
// nothing is read, and a small quota mutes for days.
func (c *conn) unmute() error {
	wait := time.Until(c.muted)
	c.muted = time.Time{}
	if wait <= 0 {
		return nil
	}
	most := c.g.cfg.IdleTimeout
	timer := time.NewTimer(min(wait, most))
	defer timer.Stop()
	select {
	case <-timer.C:
		if wait <= most {
			return c.held()
		}
		// What was taken up is answered first.
		if err := c.settled(); err != nil {
			return err
		}
		return fmt.Errorf("muted by a quota for longer than a connection may be idle: %w", os.ErrDeadlineExceeded)
	case <-c.ctx.Done():
	case <-c.g.drained:
	}
	return nil
}

// heldMost bounds for how long a client is not read from beyond what it was told: its
// next request is on the way and has a time limit.
const heldMost = quota.HeldMillis * time.Millisecond

// held waits for the client's turn, if it has used of what its tenant's share is exceeded
// of. Shares grow where the load is, which wakes who waits: thousands may.
func (c *conn) held() error {
	for until := time.Now().Add(heldMost); ; {
		now := time.Now()
		wait, epoch := c.quota.Turn(now.UnixMilli())
		if wait <= 0 {
			return nil
		}
		turn := now.Add(time.Duration(min(wait, quota.LongestMillis)) * time.Millisecond)
		if turn.After(until) {
			turn = until
		}
		for {
			grown := c.quota.Grown()
			if c.quota.Epoch() != epoch {
				break
			}
			left := time.Until(turn)
			if left <= 0 {
				return nil
			}
			if ended := c.pause(left, grown); ended {
				return nil
			}
			if err := c.look(); err != nil {
				return err
			}
		}
	}
}

// pause waits, or for something else, and tells whether the connection or the gateway ends
// meanwhile.
func (c *conn) pause(d time.Duration, or <-chan struct{}) (ended bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-or:
		return false
	case <-c.ctx.Done():
	case <-c.g.drained:
	}
	return true
}

// keepShares takes up new shares of tenants' budgets until the gateway ends: all clients of a tenant
// may be waiting for one, so that no request does.
func (g *Gateway) keepShares() {
	for {
		select {
		case <-g.divided:
		case <-g.ctx.Done():
			return
		}
		s := g.watcher.Snapshot()
		for _, tenant := range g.access.limited() {
			g.access.of(s, tenant)
		}
	}
}

// waits are the keys whose time goes by with waiting, for other members, for the
// catalog or for records. Produce, Fetch and Metadata have codecs of their own and count
// their work there.
func waits(key int16) bool {
	switch key {
	case keySaslHandshake, keySaslAuthenticate, // failures wait out their penalties
		keyFetch, keyJoinGroup, keySyncGroup, keyCreateTopics, keyDeleteTopics, keyCreatePartitions, keyDeleteRecords,
		keyAlterConfigs, keyIncrementalAlterConfigs, keyCreateACLs, keyDeleteACLs, keyAlterClientQuotas, keyEndTxn,
		keyOffsetCommit, keyTxnOffsetCommit, keyInitProducerID, keyAddPartitionsToTxn, keyAddOffsetsToTxn, keyConsumerGroupHeartbeat:
		return true
	}
	return false
}

// worked counts the time of a request against its client's share, and says so in
// the answer.
func (call *call) worked(resp kmsg.Response) {
	c := call.c
	if !c.quota.Metered() || waits(call.header.Key) || !c.used {
		return
	}
	if wait := c.throttle(c.quota.Worked(int64(time.Since(call.start)-c.queued), time.Now().UnixMilli())); wait > 0 {
		call.tell(resp, wait)
	}
}

// tell writes a throttle time into an answer that has room for one, unless it says
// a longer one already.
func (call *call) tell(resp kmsg.Response, wait int32) {
	if r, ok := resp.(kmsg.ThrottleResponse); ok {
		if said, _ := r.Throttle(); said >= wait {
			return
		}
	}
	if r, ok := resp.(kmsg.SetThrottleResponse); ok {
		r.SetThrottle(wait)
	}
}

// mutate counts partitions that a request wants made or deleted (KIP-599). From the
// version strict on, a request that finds the quota exceeded is refused part by
// part; before, it is served, and its client waits.
func (call *call) mutate(partitions int32, strict int16) error {
	c := call.c
	if c.quota == nil {
		return nil
	}
	call.mutations.Lock()
	defer call.mutations.Unlock()
	wait, refused := c.quota.Mutate(int(max(partitions, 1)), call.header.Version >= strict, time.Now().UnixMilli())
	call.mutationWait = max(call.mutationWait, wait)
	if refused {
		return &span.RejectedError{Code: wire.ThrottlingQuotaExceeded, Detail: wire.ThrottlingQuotaExceeded.Message()}
	}
	return nil
}

// mutated says in the answer for how long the quota is exceeded.
func (call *call) mutated(resp kmsg.Response) {
	if call.mutationWait > 0 {
		call.tell(resp, call.c.throttle(call.mutationWait))
	}
}

// worked counts the time of a Fetch without its waits, and says so in the answer.
func (f *fetcher) worked() {
	c := f.call.c
	if !c.quota.Metered() {
		return
	}
	now := time.Now()
	if wait := c.throttle(c.quota.Worked(int64(now.Sub(f.call.start)-f.waited-c.queued), now.UnixMilli())); wait > f.resp.ThrottleMillis {
		f.resp.ThrottleMillis = wait
	}
}

// worked is call.worked for Metadata, whose answers are written already; topics that it made count
// as mutations.
func (m *metadataWriter) worked(call *call) {
	c := call.c
	if c.quota == nil {
		return
	}
	wait := int32(0)
	if call.mutationWait > 0 {
		wait = c.throttle(call.mutationWait)
	}
	if c.quota.Metered() {
		wait = max(wait, c.throttle(c.quota.Worked(int64(time.Since(call.start)-c.queued), time.Now().UnixMilli())))
	}
	if wait > 0 && m.version >= 3 {
		binary.BigEndian.PutUint32(m.b[m.throttleAt:], uint32(wait))
	}
}

// fetched counts what an answer is about to bring, and holds it back if that is
// more than the quota allows: then there are no records in it, and nothing is
// counted, as the client will fetch them again.
func (f *fetcher) fetched() {
	c := f.call.c
	if c.quota == nil {
		return
	}
	now := time.Now().UnixMilli()
	total := f.outgoing()
	wait := c.quota.Fetched(total, now)
	if wait <= 0 {
		return
	}
	if before := c.quota.Unfetched(total, now); before <= 0 && float64(total) > c.quota.FetchAtMost() {
		// Batches come whole, whatever their size: this is too much at any time, and would
		// be held back for ever. It goes out, and the silence is after it.
		f.resp.ThrottleMillis = c.throttle(c.quota.Fetched(total, now))
		return
	}
	f.resp.ThrottleMillis = c.throttle(wait)
	for _, fp := range f.parts {
		fp.drop()
	}
	f.withheld = true
}

// outgoing is how many of the bytes that were read the answer will hold: see fill.
func (f *fetcher) outgoing() int {
	total := 0
	for _, fp := range f.ordered {
		if fp.job == nil || total > 0 && total+fp.job.size > int(f.maxBytes) {
			continue
		}
		total += fp.job.size
	}
	return total
}

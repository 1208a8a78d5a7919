package gateway

import (
	"context"
	"errors"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// offsetsTopic is the internal topic that a Kafka cluster has as soon as
// somebody has looked for a group's coordinator. Tools and clients look for it,
// to leave it out of patterns for instance. Here it is empty: groups live in the
// coordinators' own log, which tenants do not see.
const offsetsTopic = "__consumer_offsets"

// ensureOffsetsTopic has the tenant's offsets topic made, in the background, if
// there is none. Only one gateway goroutine tries at a time; a failure is tried
// again at the next call.
func (g *Gateway) ensureOffsetsTopic(tenant string) {
	if known(g.watcher.Snapshot(), tenant, offsetsTopic) != nil {
		return
	}
	if _, running := g.makingOffsets.LoadOrStore(tenant, struct{}{}); running {
		return
	}
	// The caller's connection is counted in serving, so this is no race with a Wait.
	g.serving.Go(func() {
		defer g.makingOffsets.Delete(tenant)
		ctx, cancel := context.WithTimeout(g.ctx, g.cfg.RequestTimeout)
		defer cancel()
		spec := TopicSpec{Tenant: tenant, Name: offsetsTopic, Partitions: 1, ReplicationFactor: -1,
			Config: map[string]string{"cleanup.policy": "compact"}}
		_, err := g.admin.CreateTopic(ctx, spec)
		if rejected := (*span.RejectedError)(nil); errors.As(err, &rejected) && rejected.Code == wire.TopicAlreadyExists {
			err = nil
		}
		if err != nil && g.limiter.allow() {
			g.log.Warn("internal topic is not made", "topic", offsetsTopic, "err", err)
		}
		if err == nil {
			g.fresh.refresh(ctx)
		}
	})
}

package coordinator

import (
	"context"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/wire"
)

// What one coordinator asks of another: the transactional id of an append, or the
// group of a transaction, may belong to another gateway. Each of these may be
// asked again.

// Peers reach the coordinators of other gateways.
type Peers interface {
	// Ask sends a request to the coordinator of a gateway, for [Coordinator.ServePeer].
	Ask(ctx context.Context, node int32, req *PeerRequest) (*PeerResponse, error)
}

// PeerRequest is one of the questions; what is nil was not asked.
type PeerRequest struct {
	Enlist  *Enlist
	Add     *PeerAdd
	Settle  *PeerSettle
	Offsets *PeerOffsets
	Stand   *PeerStand
}

// PeerAdd takes a group into a transaction, or asks whether it is in it.
type PeerAdd struct {
	Tenant, ID string // transactional id
	Producer   int64
	Epoch      int16
	Group      string
	Verify     bool
}

// PeerSettle ends the offsets of a producer's transaction in a group.
type PeerSettle struct {
	Tenant, Group string
	Producer      int64
	Began         int64 // which of the producer's, see PeerResponse; 0: whichever it has
	Commit        bool
}

// PeerOffsets asks what the groups of shards have committed for a partition.
type PeerOffsets struct {
	Topic     catalog.ID
	Partition int32
}

// PeerResponse answers one.
type PeerResponse struct {
	Code     wire.Code
	Enlisted chain.Enlisted
	Began    int64 // of a PeerAdd: what tells the transaction from others of its producer, grows
	Offsets  []GroupOffset
	Shards   []int32 // whose groups are in Offsets, or in Stand
	Stand    []TopicStand
}

// ServePeer answers another gateway's coordinator.
func (c *Coordinator) ServePeer(ctx context.Context, req *PeerRequest) *PeerResponse {
	resp := &PeerResponse{Code: wire.InvalidRequest}
	switch {
	case req.Enlist != nil:
		resp.Enlisted, resp.Code = c.EnlistLocal(ctx, req.Enlist)
	case req.Add != nil:
		a := req.Add
		resp.Began, resp.Code = c.add(ctx, &addRequest{key: groupKey{a.Tenant, a.ID}, producer: a.Producer, epoch: a.Epoch, groups: []string{a.Group}, verify: a.Verify})
	case req.Settle != nil:
		s := req.Settle
		resp.Code = c.settleLocal(ctx, groupKey{s.Tenant, s.Group}, s.Producer, s.Began, s.Commit)
	case req.Offsets != nil:
		resp.Code = wire.None
		resp.Offsets, resp.Shards = c.ownOffsets(req.Offsets.Topic, req.Offsets.Partition)
	case req.Stand != nil:
		resp.Code = wire.None
		resp.Stand, resp.Shards = c.ownStand(req.Stand)
	}
	return resp
}

// route has the owner of a key answer: here, or the gateway that has its shard.
func (c *Coordinator) route(ctx context.Context, key groupKey, req *PeerRequest) *PeerResponse {
	number, ok := c.number(key.tenant, key.group)
	if !ok {
		return &PeerResponse{Code: wire.CoordinatorNotAvailable}
	}
	s, ok := c.directory.Shard(number)
	if !ok {
		return &PeerResponse{Code: wire.CoordinatorNotAvailable}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*participantPatience)
	defer cancel()
	// A gateway that stands still answers nothing, and another has its shards long before this gives up.
	looked := make(chan struct{})
	look := time.AfterFunc(ownerLook, func() {
		defer close(looked)
		c.untilMoved(ctx, number, s.Node)
		cancel()
	})
	defer func() {
		cancel()
		if !look.Stop() {
			<-looked
		}
	}()
	resp, err := c.askNode(ctx, s.Node, req)
	if err != nil {
		c.logger.Debug("another gateway's coordinator did not answer", "node", s.Node, "err", err)
		return &PeerResponse{Code: wire.CoordinatorNotAvailable}
	}
	return resp
}

// ownerLook is how often whoever waits for another gateway's coordinator looks whether it is still the owner.
const ownerLook = 250 * time.Millisecond

// untilMoved returns when a shard has another owner, or none, or the context has ended.
func (c *Coordinator) untilMoved(ctx context.Context, number, node int32) {
	tick := time.NewTicker(ownerLook)
	defer tick.Stop()
	for {
		if s, ok := c.directory.Shard(number); !ok || s.Node != node {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// askNode asks a gateway's coordinator, which may be this one.
func (c *Coordinator) askNode(ctx context.Context, node int32, req *PeerRequest) (*PeerResponse, error) {
	switch {
	case node == c.node:
		return c.ServePeer(ctx, req), nil
	case c.peers == nil:
		return &PeerResponse{Code: wire.NotCoordinator}, nil
	}
	return c.peers.Ask(ctx, node, req)
}

// Enlist tells the transactional id's coordinator, wherever it is, that records
// of its transaction go to a copy.
func (c *Coordinator) Enlist(ctx context.Context, e *Enlist) (chain.Enlisted, wire.Code) {
	resp := c.route(ctx, groupKey{e.Tenant, e.ID}, &PeerRequest{Enlist: e})
	return resp.Enlisted, resp.Code
}

func (c *Coordinator) peerAdd(ctx context.Context, r *addRequest) (began int64, code wire.Code) {
	resp := c.route(ctx, r.key, &PeerRequest{Add: &PeerAdd{Tenant: r.key.tenant, ID: r.key.group, Producer: r.producer, Epoch: r.epoch,
		Group: r.groups[0], Verify: r.verify}})
	return resp.Began, resp.Code
}

func (c *Coordinator) peerSettle(ctx context.Context, key groupKey, producer, began int64, commit bool) wire.Code {
	return c.route(ctx, key, &PeerRequest{Settle: &PeerSettle{Tenant: key.tenant, Group: key.group, Producer: producer, Began: began, Commit: commit}}).Code
}

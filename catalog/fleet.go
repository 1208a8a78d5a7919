package catalog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Process is one running Braid process, under a lease. Gateways find the owner
// of a local cluster by it.
type Process struct {
	ID       string    `json:"id"`
	Internal string    `json:"internal,omitempty"` // host:port of its internal listener, "" if none
	Roles    []string  `json:"roles,omitempty"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`

	Revision int64 `json:"-"`
}

// ClusterVote is one gateway's opinion of one cluster, under the gateway's lease.
type ClusterVote struct {
	Cluster string    `json:"cluster"`
	Node    int32     `json:"node"`
	Up      bool      `json:"up"`
	Full    bool      `json:"full,omitempty"` // up, but without room for appends
	Since   time.Time `json:"since"`          // when the gateway came to this opinion
	Detail  string    `json:"detail,omitempty"`

	Revision int64 `json:"-"`
}

// Cluster reads one cluster linearizably.
func (c *Catalog) Cluster(ctx context.Context, name string) (Cluster, error) {
	var v Cluster
	rev, err := c.get(ctx, "cluster "+name, clusterKey(name), &v)
	v.Revision = rev
	return v, err
}

// Clusters reads all clusters, by name.
func (c *Catalog) Clusters(ctx context.Context) ([]Cluster, error) {
	items, _, err := c.list(ctx, "clusters", fleetRoot+"cluster/")
	if err != nil {
		return nil, err
	}
	out := make([]Cluster, len(items))
	for i, it := range items {
		if err := decode(it.value, &out[i]); err != nil {
			return nil, fmt.Errorf("clusters: %s: %w", it.key, err)
		}
		out[i].Revision = it.revision
	}
	return out, nil
}

// PutCluster writes v if its Revision is still the catalog's (0: it must not
// exist yet, else [ErrExists]) and returns it with the new revision.
func (c *Catalog) PutCluster(ctx context.Context, v Cluster, fence Fence) (Cluster, error) {
	rev, err := c.put(ctx, "cluster "+v.Name, clusterKey(v.Name), v.Revision, fence, &v)
	if err == nil {
		v.Revision = rev
	}
	return v, err
}

// DeleteCluster removes a cluster that is at this revision.
func (c *Catalog) DeleteCluster(ctx context.Context, name string, revision int64) error {
	return c.remove(ctx, "cluster "+name, clusterKey(name), revision, Fence{})
}

type counter struct {
	Next int64 `json:"next"`
}

// take hands out n numbers of a counter that begins at first. The write of
// extra, if any, lands with it.
func (c *Catalog) take(ctx context.Context, name string, first, n int64, extra func(taken int64) ([]clientv3.Cmp, []clientv3.Op, error)) (int64, error) {
	what, key := "counter "+name, dataRoot+"counter/"+name
	for {
		cur := counter{Next: first}
		rev, err := c.get(ctx, what, key, &cur)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return 0, err
		}
		taken := cur.Next
		value, err := encode(counter{Next: taken + n})
		if err != nil {
			return 0, err
		}
		cmps := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", rev)}
		ops := []clientv3.Op{clientv3.OpPut(key, value)}
		if extra != nil {
			ec, eo, err := extra(taken)
			if err != nil {
				return 0, err
			}
			cmps, ops = append(cmps, ec...), append(ops, eo...)
		}
		r, err := c.txn(ctx, what, cmps, ops, []clientv3.Op{clientv3.OpGet(key, clientv3.WithKeysOnly())})
		if err != nil {
			return 0, err
		}
		if r.Succeeded {
			return taken, nil
		}
		kvs := r.Responses[0].GetResponseRange().Kvs
		if extra != nil && (len(kvs) == 0 && rev == 0 || len(kvs) == 1 && kvs[0].ModRevision == rev) {
			return 0, fmt.Errorf("%s: %w", what, ErrConflict) // the counter stands: extra's comparison failed
		}
	}
}

type nodeEntry struct {
	Node int32 `json:"node"`
}

// NodeID gives the Kafka broker id of the gateway that advertises this address:
// allocated once, from 1, and kept, so that a restarted gateway is the same broker.
func (c *Catalog) NodeID(ctx context.Context, advertise string) (int32, error) {
	key := dataRoot + "node/" + segment(advertise)
	for {
		var e nodeEntry
		_, err := c.get(ctx, "node id of "+advertise, key, &e)
		if err == nil {
			return e.Node, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return 0, err
		}
		node, err := c.take(ctx, "node", 1, 1, func(n int64) ([]clientv3.Cmp, []clientv3.Op, error) {
			value, err := encode(nodeEntry{Node: int32(n)})
			return []clientv3.Cmp{absent(key)}, []clientv3.Op{clientv3.OpPut(key, value)}, err
		})
		if err == nil {
			return int32(node), nil
		}
		if !errors.Is(err, ErrConflict) {
			return 0, err
		}
	}
}

// InternalToken is the secret that processes of the fleet show one another on
// internal listeners; made on first use.
func (c *Catalog) InternalToken(ctx context.Context) (string, error) {
	var b [32]byte
	rand.Read(b[:]) //nolint:errcheck // see RandomName
	key := dataRoot + "token"
	token := hex.EncodeToString(b[:])
	if _, err := c.put(ctx, "internal token", key, 0, Fence{}, token); err == nil {
		return token, nil
	} else if !errors.Is(err, ErrExists) {
		return "", err
	}
	_, err := c.get(ctx, "internal token", key, &token)
	return token, err
}

// ShardTerm is the last term of a shard, 0 if it never had an owner.
func (c *Catalog) ShardTerm(ctx context.Context, number int32) (int64, error) {
	var t shardTerm
	_, err := c.get(ctx, "shard term", termKey(number), &t)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return t.Next, err
}

// shardTerm is what outlives a shard's owners.
type shardTerm struct {
	Next int64 `json:"next"` // the last term
	// Empty from the first claim on, until an owner is about to write something. Records of earlier builds have it not.
	Empty bool `json:"empty,omitempty"`
}

func termKey(number int32) string { return dataRoot + "term/" + strconv.Itoa(int(number)) }

// ClaimShard takes a shard that has no owner, with a term higher than any
// before, under the session's lease. It fails with [ErrExists] while it has
// one and with [ErrSessionLost] when the session is over.
func (c *Catalog) ClaimShard(ctx context.Context, s *Session, number int32) (Shard, error) {
	what := fmt.Sprintf("claim shard %d", number)
	lease, ok := s.lease()
	if !ok {
		return Shard{}, fmt.Errorf("%s: %w", what, ErrSessionLost)
	}
	for {
		var last shardTerm
		rev, err := c.get(ctx, what, termKey(number), &last)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Shard{}, err
		}
		shard := Shard{Number: number, Node: s.Node(), Term: last.Next + 1, Empty: last.Empty || last.Next == 0}
		value, err := encode(&shard)
		if err != nil {
			return Shard{}, err
		}
		term, err := encode(shardTerm{Next: shard.Term, Empty: shard.Empty})
		if err != nil {
			return Shard{}, err
		}
		key := shardKey(number)
		r, err := c.txn(ctx, what,
			[]clientv3.Cmp{absent(key), clientv3.Compare(clientv3.ModRevision(termKey(number)), "=", rev)},
			[]clientv3.Op{clientv3.OpPut(key, value, clientv3.WithLease(lease)), clientv3.OpPut(termKey(number), term)},
			[]clientv3.Op{clientv3.OpGet(key, clientv3.WithKeysOnly())})
		if err != nil {
			return Shard{}, leaseLost(err)
		}
		if r.Succeeded {
			shard.Revision = r.Header.Revision
			return shard, nil
		}
		if len(r.Responses[0].GetResponseRange().Kvs) > 0 {
			return Shard{}, fmt.Errorf("%s: %w", what, ErrExists)
		}
	}
}

// SetShardReady says that the owner has replayed the shard. It fails with
// [ErrConflict] or [ErrNotFound] when the shard is no longer the caller's.
func (c *Catalog) SetShardReady(ctx context.Context, shard Shard, ready bool) (Shard, error) {
	shard.Ready = ready
	rev, err := c.put(ctx, fmt.Sprintf("shard %d", shard.Number), shardKey(shard.Number), shard.Revision, Fence{}, &shard, clientv3.WithIgnoreLease())
	if err == nil {
		shard.Revision = rev
	}
	return shard, err
}

// SetShardHolds notes for good that the shard's log holds state, before the first of it is written: where the log
// cannot be read, a shard without needs nothing of it. It fails with [ErrConflict] when the shard has another owner.
func (c *Catalog) SetShardHolds(ctx context.Context, shard Shard) error {
	what := fmt.Sprintf("shard %d", shard.Number)
	var t shardTerm
	rev, err := c.get(ctx, what, termKey(shard.Number), &t)
	switch {
	case err != nil:
		return err
	case t.Next != shard.Term:
		return fmt.Errorf("%s: term %d, not %d: %w", what, t.Next, shard.Term, ErrConflict)
	case !t.Empty:
		return nil
	}
	t.Empty = false
	_, err = c.put(ctx, what, termKey(shard.Number), rev, Fence{}, &t)
	return err
}

// ReleaseShard gives a shard back; it is no error if it was lost meanwhile.
func (c *Catalog) ReleaseShard(ctx context.Context, shard Shard) error {
	err := c.remove(ctx, fmt.Sprintf("release shard %d", shard.Number), shardKey(shard.Number), shard.Revision, Fence{})
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}

// PutClusterVote publishes the session's gateway's opinion of a cluster; it vanishes with the session.
func (c *Catalog) PutClusterVote(ctx context.Context, s *Session, v ClusterVote) error {
	lease, ok := s.lease()
	if !ok {
		return fmt.Errorf("vote on cluster %s: %w", v.Cluster, ErrSessionLost)
	}
	v.Node = s.Node()
	key := votePrefix(v.Cluster) + strconv.Itoa(int(v.Node))
	_, err := c.put(ctx, "vote on cluster "+v.Cluster, key, -1, Fence{}, &v, clientv3.WithLease(lease))
	return leaseLost(err)
}

// ClusterVotes reads the opinions of all live gateways on one cluster.
func (c *Catalog) ClusterVotes(ctx context.Context, cluster string) ([]ClusterVote, error) {
	items, _, err := c.list(ctx, "votes on cluster "+cluster, votePrefix(cluster))
	if err != nil {
		return nil, err
	}
	out := make([]ClusterVote, len(items))
	for i, it := range items {
		if err := decode(it.value, &out[i]); err != nil {
			return nil, fmt.Errorf("votes on cluster %s: %w", cluster, err)
		}
		out[i].Revision = it.revision
	}
	return out, nil
}

// Gateways reads the live gateways, by node.
func (c *Catalog) Gateways(ctx context.Context) ([]Gateway, error) {
	items, _, err := c.list(ctx, "gateways", fleetRoot+"gateway/")
	if err != nil {
		return nil, err
	}
	out := make([]Gateway, len(items))
	for i, it := range items {
		if err := decode(it.value, &out[i]); err != nil {
			return nil, fmt.Errorf("gateways: %s: %w", strings.TrimPrefix(it.key, fleetRoot), err)
		}
		out[i].Revision, out[i].Lease = it.revision, it.lease
	}
	return out, nil
}

package controller

import (
	"time"

	"github.com/braidstream/braid/catalog"
)

// opinion is one live gateway's vote on a cluster.
type opinion struct {
	up    bool
	since time.Time
}

// failed decides whether a cluster is gone: most of the gateways that serve it,
// which are those that vote, and at least half of all live ones, have called it
// down without a break for the damping time. What the controller itself can
// reach does not count: it may be the one that is cut off.
func failed(votes []opinion, live int, now time.Time, damping time.Duration) bool {
	down := 0
	for _, v := range votes {
		if !v.up && now.Sub(v.since) >= damping {
			down++
		}
	}
	return down > 0 && 2*down > len(votes) && 2*down >= live
}

// healthy decides whether a cluster is back: nobody calls it down, and somebody
// has called it up for the damping time.
func healthy(votes []opinion, now time.Time, damping time.Duration) bool {
	up := 0
	for _, v := range votes {
		if !v.up {
			return false
		}
		if now.Sub(v.since) >= damping {
			up++
		}
	}
	return up > 0
}

// opinions collects the votes of live gateways on a cluster.
func opinions(s *catalog.Snapshot, cluster string) []opinion {
	var out []opinion
	for v := range s.ClusterVotes(cluster) {
		if s.Gateway(v.Node) != nil {
			out = append(out, opinion{v.Up, v.Since})
		}
	}
	return out
}

// asOf counts votes from the begin of a controller's term at the earliest. One that leads
// as soon as its process is there finds what others said while that process, which may
// hold a local cluster, was away: they get the damping time to hear of it again.
func asOf(votes []opinion, began time.Time) []opinion {
	for i := range votes {
		if votes[i].since.Before(began) {
			votes[i].since = began
		}
	}
	return votes
}

// votedFull tells whether most gateways that serve the cluster found no room there.
func votedFull(s *catalog.Snapshot, cluster string) bool {
	votes, full := 0, 0
	for v := range s.ClusterVotes(cluster) {
		if s.Gateway(v.Node) == nil {
			continue
		}
		if votes++; v.Up && v.Full {
			full++
		}
	}
	return 2*full > votes
}

// votedDown tells whether most gateways call the cluster down at the moment.
func votedDown(s *catalog.Snapshot, cluster string) bool {
	return failed(opinions(s, cluster), len(s.Gateways()), time.Now(), 0)
}

// Package controller changes chains: it creates, places, moves, fails over,
// trims and certifies. One controller of a fleet leads; the others stand by.
package controller

import (
	"cmp"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
)

// ClusterSpec asks for a cluster to be added.
type ClusterSpec struct {
	Name      string
	Kind      catalog.ClusterKind // "": kafka
	Bootstrap []string            // host:port
	Region    string
	Zone      string
	// Config holds client options under Kafka's names; secrets are references (file:PATH, env:NAME).
	Config map[string]string
	// Local clusters only.
	Dir      string
	Owner    string // Process.ID
	Internal string // host:port of the owner's internal listener
}

// OpRequest asks for an operation.
type OpRequest struct {
	Kind    catalog.OpKind
	Tenant  string   // "" is the default tenant
	Topics  []string // move
	Cluster string   // drain, failover, failback
	To      string   // target; "" lets placement choose
	Force   bool
	Reason  string // who or what asks

	back map[catalog.ID]bool // failback: what the last failover took away
}

// tenant is whose topics the request names.
func (r *OpRequest) tenant() string { return cmp.Or(r.Tenant, catalog.DefaultTenant) }

// Plan is what an operation would do, and what it would cost.
type Plan struct {
	Kind    catalog.OpKind
	Moves   []PlannedMove
	Costs   []string // consequences in words, worst first
	Refused string   // why it would be refused; "" if it would not
	// Effect is, in words, what a failback does besides its moves; "" for a cluster that is active.
	Effect string
	// Answers tells of a failover whether its cluster answered this process; nil: it was not asked.
	Answers *bool
	// Kept are the topics that a drain does not move, since they are elsewhere, and that have sealed records
	// on its cluster.
	Kept []Kept
}

// PlannedMove is one topic of a plan.
type PlannedMove struct {
	Topic      catalog.TopicRef
	Partitions int32
	From       string
	To         string
	Mode       catalog.Mode
	Note       string
	Cost       Cost
}

// Kept is a topic whose sealed spans still need a cluster.
type Kept struct {
	Topic catalog.TopicRef
	Spans int
	Until time.Time // zero: nothing in its retention lets them go
}

// Problem is what was wrong with a request.
type Problem string

// The kinds of problems.
const (
	Unknown     Problem = "unknown"     // no such cluster, topic, operation, config key
	Exists      Problem = "exists"      // the name is taken
	Busy        Problem = "busy"        // another operation has the topic
	Refused     Problem = "refused"     // it would break a guarantee, or the target cannot take it
	Invalid     Problem = "invalid"     // the request makes no sense
	Unavailable Problem = "unavailable" // catalog or cluster does not answer
)

// RequestError is a request that was refused: nothing has changed.
type RequestError struct {
	Problem Problem
	Message string
	Hint    string // what to do next
	Err     error  // cause, if any
}

func (e *RequestError) Error() string {
	if e.Hint != "" {
		return fmt.Sprintf("%s (%s)", e.Message, e.Hint)
	}
	return e.Message
}

func (e *RequestError) Unwrap() error { return e.Err }

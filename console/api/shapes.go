// Package api is version 1 of the admin API: the JSON shapes that the server
// (package console) answers, and a client for them. The command line, the
// console and automation all use it. Shapes only grow within a version.
package api

import "time"

// Version is the path prefix of every resource.
const Version = "/v1"

// Cluster is a place that stores partitions.
type Cluster struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`  // kafka, local
	State     string   `json:"state"` // active, draining, failed
	Region    string   `json:"region,omitempty"`
	Zone      string   `json:"zone,omitempty"`
	Bootstrap []string `json:"bootstrap,omitempty"`
	// Config holds client options by Kafka's names; values that hold secrets are "[hidden]".
	Config    map[string]string `json:"config,omitempty"`
	ClusterID string            `json:"clusterId,omitempty"`
	// Seal is how an append is stopped there: "enforced" by the cluster itself, or "fence"
	// (acknowledged by gateways and leases; weaker).
	Seal string `json:"seal"`
	// Partitions counts open spans, Sealed counts sealed ones that are still kept there.
	Partitions int    `json:"partitions"`
	Sealed     int    `json:"sealed"`
	Health     string `json:"health"` // up, down, full (up, without room), unknown
	Detail     string `json:"detail,omitempty"`
	// Hint says how a cluster that answers and is failed comes into use again.
	Hint string `json:"hint,omitempty"`
	// Kept says what must stay there until when, once it has been drained.
	Kept []Kept `json:"kept,omitempty"`
}

// Kept is a topic whose sealed records are still on a cluster.
type Kept struct {
	Topic string `json:"topic"`
	Spans int    `json:"spans"`
	// Until is when retention lets them go; absent when nothing does (compacted, no limit).
	Until *time.Time `json:"until,omitempty"`
}

// ClusterAdd asks for a new cluster.
type ClusterAdd struct {
	Name      string            `json:"name"`
	Bootstrap []string          `json:"bootstrap"`
	Region    string            `json:"region,omitempty"`
	Zone      string            `json:"zone,omitempty"`
	Config    map[string]string `json:"config,omitempty"`
}

// TopicSummary is one line of a list.
type TopicSummary struct {
	Name       string   `json:"name"`
	ID         string   `json:"id"`
	Partitions int      `json:"partitions"`
	Spans      int      `json:"spans"`
	Clusters   []string `json:"clusters"` // of the open spans
	Moving     string   `json:"moving,omitempty"`
}

// Topic is a topic with its chains, span by span.
type Topic struct {
	Name         string            `json:"name"`
	ID           string            `json:"id"`
	Config       map[string]string `json:"config"`
	Created      time.Time         `json:"created"`
	Moving       *Step             `json:"moving,omitempty"`
	Waits        []Wait            `json:"waits,omitempty"`
	Partitions   []Partition       `json:"partitions"`
	Certificates []Certificate     `json:"certificates"`
}

// Wait is a cluster that is away and that a topic's appends wait for: by its guarantee (ordered), or, with a
// reason, although it is to go on without the cluster.
type Wait struct {
	Cluster    string    `json:"cluster"`
	Since      time.Time `json:"since"`
	Partitions int       `json:"partitions"` // that take appends there
	Hint       string    `json:"hint"`       // what ends it
	Reason     string    `json:"reason,omitempty"`
}

// Step is an extend under way.
type Step struct {
	Op     string `json:"op"`
	Step   string `json:"step"`
	Target string `json:"target"`
}

// Partition is one chain.
type Partition struct {
	ID    int32  `json:"id"`
	Start int64  `json:"start"` // log start
	Spans []Span `json:"spans"`
}

// Span covers the offsets [start, end); end is null on the span that takes appends.
type Span struct {
	Start  int64  `json:"start"`
	End    *int64 `json:"end"`
	Epoch  int32  `json:"epoch"` // leader epoch that clients see
	Hole   bool   `json:"hole,omitempty"`
	Copies []Copy `json:"copies"`
}

// Copy is where the records of a span physically are.
type Copy struct {
	Cluster   string `json:"cluster"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Readable  bool   `json:"readable"`
	// Gone: the cluster answers, and has the physical topic no more; what it held is lost.
	Gone bool `json:"gone,omitempty"`
}

// TopicCreate asks for a topic.
type TopicCreate struct {
	Name       string            `json:"name"`
	Partitions int32             `json:"partitions"` // 0: the default of the fleet
	Cluster    string            `json:"cluster,omitempty"`
	Config     map[string]string `json:"config,omitempty"`
}

// OpRequest asks for an operation.
type OpRequest struct {
	Kind    string   `json:"kind"` // move, drain, failover, failback
	Topics  []string `json:"topics,omitempty"`
	Cluster string   `json:"cluster,omitempty"`
	To      string   `json:"to,omitempty"`
	Force   bool     `json:"force,omitempty"`
}

// Op is an operation under way or past.
type Op struct {
	ID           string        `json:"id"`
	Kind         string        `json:"kind"`  // move, drain, failover, failback; by itself: repair, return
	State        string        `json:"state"` // pending, running, done, failed, cancelled
	Topics       []string      `json:"topics,omitempty"`
	Cluster      string        `json:"cluster,omitempty"`
	To           string        `json:"to,omitempty"`
	Force        bool          `json:"force,omitempty"`
	Total        int           `json:"total"`
	Done         int           `json:"done"`
	Failed       int           `json:"failed"`
	Progress     int           `json:"progress"` // percent; the steps of topics under way count
	Message      string        `json:"message,omitempty"`
	Created      time.Time     `json:"created"`
	Finished     *time.Time    `json:"finished,omitempty"`
	Certificates []Certificate `json:"certificates,omitempty"`
	Revision     int64         `json:"revision"`
}

// Finished tells whether the operation has ended.
func (o *Op) Ended() bool {
	return o.State == "done" || o.State == "failed" || o.State == "cancelled"
}

// Plan is what an operation would do.
type Plan struct {
	Kind  string     `json:"kind"`
	Moves []PlanMove `json:"moves"`
	// Nothing is true when there is nothing to do.
	Nothing bool `json:"nothing"`
	// Costs are the consequences in words, worst first.
	Costs []string `json:"costs,omitempty"`
	// Effect is what a failback does besides its moves, in words; "" for a cluster that is active.
	Effect string `json:"effect,omitempty"`
	// Refused says why the operation would be refused, "" if it would not.
	Refused string `json:"refused,omitempty"`
	// Answers tells of a failover whether the cluster answered: then it is sealed, and nothing is lost.
	Answers *bool `json:"answers,omitempty"`
	// Kept are topics that a drain does not move, since they are elsewhere, and that have sealed records there.
	Kept []Kept `json:"kept,omitempty"`
}

// PlanMove is one topic of a plan.
type PlanMove struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	From       string `json:"from"`
	To         string `json:"to"`
	Mode       string `json:"mode"` // seal, fence, lossy
	Note       string `json:"note,omitempty"`
	// Records and Bytes are what the topic has on the clusters that it leaves. Nothing of it is copied: it stays
	// there, readable, and is to be kept there until KeptUntil, or for as long as the topic exists (KeptForever). Records
	// counts offsets, so ends of transactions and what compaction removed are among them. null: not known.
	Records     *int64     `json:"records"`
	Bytes       *int64     `json:"bytes"`
	KeptUntil   *time.Time `json:"keptUntil,omitempty"`
	KeptForever bool       `json:"keptForever,omitempty"`
	// OpenTransactions counts partitions with an open transaction, which a move waits for; null: not known.
	OpenTransactions *int64 `json:"openTransactions"`
}

// Certificate says what a move or failover did, and how that was checked.
type Certificate struct {
	Op         string            `json:"op"`
	Kind       string            `json:"kind"`
	Topic      string            `json:"topic"`
	From       string            `json:"from"`
	To         string            `json:"to"`
	Mode       string            `json:"mode"`
	Verdict    string            `json:"verdict"` // verified, unverified, violated: the worst of the partitions
	Issued     time.Time         `json:"issued"`
	Partitions []CertifiedRecord `json:"partitions"`
	// Return is the operation that took the lost cluster's spans in again, and gave this certificate of a
	// failover its last word; absent until then.
	Return string `json:"return,omitempty"`
	// Failovers are those whose certificates the return has revised.
	Failovers []string `json:"failovers,omitempty"`
	// GroupsAsked says how far the groups of the partitions are all that there are; absent where nobody asked.
	GroupsAsked *GroupsAsked `json:"groupsAsked,omitempty"`
}

// GroupsAsked says how far it is known where the groups of a topic stood when a span of it was lost, and when it came
// back. Shards are those of the group coordinators.
type GroupsAsked struct {
	// UnknownShards did not answer: nothing is known of their groups; -1: none was reached.
	UnknownShards int `json:"unknownShards"`
	// LateShards answered when the failover was done: what had gone past the span by then is not listed.
	LateShards int `json:"lateShards"`
	// UnlistedGroups are too many to be listed.
	UnlistedGroups int64 `json:"unlistedGroups"`
}

// CertifiedGroup is a consumer group that has not read a range of a lost span, [From, To) in offsets.
type CertifiedGroup struct {
	Group     string `json:"group"`
	Committed int64  `json:"committed"` // when the cluster was lost
	From      int64  `json:"from"`
	To        int64  `json:"to"`
	Records   int64  `json:"records"` // at most
	// What: waits (it stands there, and the records are read when the cluster is back), skipped (it went past them
	// meanwhile, and gets them only if it is reset to From), dropped (they left the topic unread), lost (it had not read them, and nobody will).
	What string `json:"what"`
	Now  *int64 `json:"now,omitempty"` // skipped: what it had committed when the records were readable again
}

// CertifiedRecord is one partition of a certificate. Counts are records. Acknowledged is what gateways have
// reported, null where none has and there are records, or may be. Found, lost, duplicated,
// reordered and stray are null where nothing was read that would tell (verdict unverified).
type CertifiedRecord struct {
	Partition    int32  `json:"partition"`
	End          int64  `json:"end"`
	Start        int64  `json:"start"`
	Acknowledged *int64 `json:"acknowledged"`
	Found        *int64 `json:"found"`
	Lost         *int64 `json:"lost"`
	Duplicated   *int64 `json:"duplicated"`
	Reordered    *int64 `json:"reordered"`
	Stray        *int64 `json:"stray"`
	// What became of a lost cluster's stranded records when it was back: appended anew, read in place, left out
	// since their producers had appended them again.
	Replayed int64 `json:"replayed,omitempty"`
	InPlace  int64 `json:"inPlace,omitempty"`
	LeftOut  int64 `json:"leftOut,omitempty"`
	// PauseMs is the time over the boundary in which an append waited and none was acknowledged; null: not known
	// (yet), or, with Idle, none waited: nobody produced around the boundary.
	PauseMs *float64 `json:"pauseMs"`
	Idle    bool     `json:"idle,omitempty"`
	Verdict string   `json:"verdict"`
	Checked []string `json:"checked"`
	Ranges  []Range  `json:"ranges,omitempty"`
	// Groups that have not read all of the span.
	Groups []CertifiedGroup `json:"groups,omitempty"`
}

// Range of offsets with what is the matter with it.
type Range struct {
	From int64  `json:"from"`
	To   int64  `json:"to"`
	What string `json:"what"`
	Note string `json:"note,omitempty"`
}

// Status is the fleet at a glance.
type Status struct {
	Version    string    `json:"version"`
	Fleet      string    `json:"fleet"` // cluster id that clients see
	Controller string    `json:"controller"`
	Gateways   []Gateway `json:"gateways"`
	Clusters   []Cluster `json:"clusters"`
	Topics     int       `json:"topics"`
	Partitions int       `json:"partitions"`
	Running    []Op      `json:"running"`
	Warnings   []string  `json:"warnings"`
}

// Gateway is a live gateway.
type Gateway struct {
	Node      int32      `json:"node"`
	Zone      string     `json:"zone,omitempty"`
	Listeners []Listener `json:"listeners"`
	Version   string     `json:"version"`
	Started   time.Time  `json:"started"`
	Draining  bool       `json:"draining,omitempty"` // it leaves: clients are sent to others
}

// Listener is an address that clients use.
type Listener struct {
	Name      string `json:"name"`
	Advertise string `json:"advertise"`
	Zone      string `json:"zone,omitempty"`
	// Security is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; "" is PLAINTEXT.
	Security   string   `json:"security,omitempty"`
	Mechanisms []string `json:"mechanisms,omitempty"` // of SASL
	// Tenant that all who come in belong to; "" leaves it to who signs on.
	Tenant string `json:"tenant,omitempty"`
	// ServerNames is the domain before which the tenant's name stands, for TLS server names.
	ServerNames string `json:"serverNames,omitempty"`
}

// Error is the answer to a request that failed.
type Error struct {
	Status int    `json:"-"`
	Code   string `json:"code"` // unknown_topic, exists, busy, refused, unavailable, invalid, internal
	// Message says what is wrong, Hint what to do next.
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (e *Error) Error() string {
	if e.Hint != "" {
		return e.Message + " (" + e.Hint + ")"
	}
	return e.Message
}

// Right is something that a cluster's authorizer has to grant to Braid.
type Right struct {
	Resource  string `json:"resource"`
	Operation string `json:"operation"`
	For       string `json:"for"` // what needs it
	Granted   bool   `json:"granted"`
}

package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid/catalog"
)

// Plan tells what an operation would do, and asks the clusters what that concerns. Errors are
// for requests that name what does not exist; what would be refused is in the plan.
func (a *Admin) Plan(ctx context.Context, req OpRequest) (Plan, error) {
	s, err := a.Watcher.Refresh(ctx)
	if err != nil {
		return Plan{}, requestError(err, "catalog")
	}
	ops, err := a.Catalog.Ops(ctx)
	if err != nil {
		return Plan{}, requestError(err, "the plan is not made")
	}
	whatWent(ops, &req)
	p, err := makePlan(s, candidates(s, a.loads), req)
	if err != nil {
		return p, err
	}
	if err := refuseBusy(s, ops, req); err != nil && p.Refused == "" {
		p.Refused = err.Error()
	}
	a.price(ctx, s, &p, req)
	return p, nil
}

// whatWent finds for a failback which topics the last failover took away, with what it was done again for.
func whatWent(ops []catalog.Op, req *OpRequest) {
	if req.Kind != catalog.OpFailback {
		return
	}
	for i := range ops { // oldest first
		if ops[i].Kind == catalog.OpFailover && ops[i].Cluster == req.Cluster {
			if req.back == nil || !ops[i].Again {
				req.back = map[catalog.ID]bool{}
			}
			for _, t := range ops[i].Topics {
				req.back[t.ID] = true
			}
		}
	}
}

// submitTries bounds how often a request is checked anew because another one came first.
const submitTries = 50

// Submit checks a request and stores it as an operation for the leading
// controller. With nothing to do the operation is done at once; a failback to a
// cluster that is not active has something to do also when no topic moves. Of moves
// of one topic that are asked for at once the first is taken, and the others are refused.
func (a *Admin) Submit(ctx context.Context, req OpRequest) (op catalog.Op, err error) {
	for range submitTries {
		if op, err = a.submit(ctx, req); !isConflict(err) {
			break
		}
	}
	return op, requestError(err, "operation")
}

func (a *Admin) submit(ctx context.Context, req OpRequest) (catalog.Op, error) {
	// In this order: what has ended by the list is in the snapshot, and what begins
	// after the list makes it a conflict.
	ops, listed, err := a.Catalog.OpsAt(ctx)
	if err != nil {
		return catalog.Op{}, requestError(err, "nothing is begun")
	}
	s, err := a.Watcher.Refresh(ctx)
	if err != nil {
		return catalog.Op{}, requestError(err, "catalog")
	}
	whatWent(ops, &req)
	p, err := makePlan(s, candidates(s, a.loads), req)
	if err != nil {
		return catalog.Op{}, err
	}
	if err := refuseBusy(s, ops, req); err != nil {
		return catalog.Op{}, err
	}
	if p.Refused != "" {
		return catalog.Op{}, refuse(Refused, "", "%s", p.Refused)
	}
	op := catalog.Op{Kind: req.Kind, State: catalog.OpPending, Cluster: req.Cluster, To: req.To, Force: req.Force, Reason: req.Reason, Total: len(p.Moves)}
	for _, m := range p.Moves {
		op.Topics = append(op.Topics, m.Topic)
	}
	if len(p.Moves) == 0 && p.Effect == "" && (req.Kind == catalog.OpMove || req.Kind == catalog.OpFailback) {
		op.State, op.Message, op.Progress = catalog.OpDone, "nothing to do", 100
		op.Finished = time.Now().UTC()
	}
	if req.Kind == catalog.OpMove {
		return a.Catalog.CreateOpAfter(ctx, op, listed)
	}
	return a.Catalog.CreateOp(ctx, op)
}

// refuseBusy refuses to move topics that another operation has or will take up, also to where they are.
func refuseBusy(s *catalog.Snapshot, ops []catalog.Op, req OpRequest) error {
	if req.Kind != catalog.OpMove {
		return nil // the others wait for what is under way
	}
	wanted := map[catalog.ID]bool{}
	for _, name := range req.Topics {
		t := s.TopicByName(req.tenant(), name)
		if t == nil {
			continue // the plan has refused it
		}
		wanted[t.ID] = true
		if e := s.Extend(t.ID); e != nil {
			return refuse(Busy, busyHint(e.Op, e.Kind), "topic %s is being changed by operation %s", t.Name, e.Op)
		}
	}
	for i := range ops {
		if ops[i].IsFinished() || ops[i].Kind == catalog.OpReturn {
			continue // a return has those topics alone that have its extend
		}
		for _, t := range ops[i].Topics {
			if wanted[t.ID] && !(ops[i].Kind == catalog.OpMove && moved(s, &ops[i], t)) {
				return refuse(Busy, busyHint(ops[i].ID, ops[i].Kind), "topic %s is being changed by operation %s", t.Name, ops[i].ID)
			}
		}
	}
	return nil
}

// busyHint says what can be done about an operation that has a topic.
func busyHint(op string, kind catalog.OpKind) string {
	if kind == catalog.OpReturn {
		return "braid op watch " + op + " follows it"
	}
	return "braid op watch " + op + " follows it, braid op cancel " + op + " stops it"
}

// moved tells whether a running move is through with a topic but for its certificate.
func moved(s *catalog.Snapshot, op *catalog.Op, t catalog.TopicRef) bool {
	on := openOn(s.Chains(t.ID))
	return op.State == catalog.OpRunning && op.To != "" && len(on) == 1 && on[0] == op.To && s.Extend(t.ID) == nil
}

// Cancel asks an operation to stop: what has not begun to seal is left where it is, what has is turned.
func (a *Admin) Cancel(ctx context.Context, id string) (catalog.Op, error) {
	for {
		op, err := a.Catalog.Op(ctx, id)
		if err != nil {
			return op, requestError(err, "operation "+id)
		}
		if op.IsFinished() {
			return op, refuse(Refused, "braid op watch "+id+" shows what it did", "operation %s is %s already", id, op.State)
		}
		if op.Kind == catalog.OpReturn {
			return op, refuse(Refused, "braid op watch "+id+" shows how far it is", "operation %s takes in what cluster %s came back with, and is not cancelled: until it is done these records are missing", id, op.Cluster)
		}
		if op.Cancel {
			return op, nil
		}
		op.Cancel = true
		next, err := a.Catalog.UpdateOp(ctx, op, catalog.Fence{})
		if err == nil {
			return next, nil
		}
		if e := requestError(err, "operation "+id); !isConflict(err) {
			return op, e
		}
	}
}

// makePlan is pure: the same catalog and request give the same plan.
func makePlan(s *catalog.Snapshot, from []candidate, req OpRequest) (Plan, error) {
	p := Plan{Kind: req.Kind}
	if req.To != "" && s.Cluster(req.To) == nil {
		return p, unknownCluster(s, req.To)
	}
	switch req.Kind {
	case catalog.OpMove:
		return planMove(s, from, req, p)
	case catalog.OpDrain, catalog.OpFailover, catalog.OpFailback:
		if s.Cluster(req.Cluster) == nil {
			return p, unknownCluster(s, req.Cluster)
		}
		if req.To == req.Cluster && req.To != "" {
			return p, refuse(Invalid, "name another cluster with --to", "%s of %s to itself", req.Kind, req.Cluster)
		}
		return planCluster(s, from, req, p)
	}
	return p, refuse(Invalid, "move, drain, failover or failback", "unknown kind of operation %q", req.Kind)
}

func planMove(s *catalog.Snapshot, from []candidate, req OpRequest, p Plan) (Plan, error) {
	if len(req.Topics) == 0 {
		return p, refuse(Invalid, "braid topic move NAME… --to CLUSTER", "no topics given")
	}
	seen := map[string]bool{}
	for _, name := range req.Topics {
		t := s.TopicByName(req.tenant(), name)
		if t == nil {
			return p, unknownTopic(s, req.tenant(), name)
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		p.add(s, t, req.To, from, "")
	}
	return p.finish(s), nil
}

// add plans one topic; exclude is a cluster that it must leave, "" if any move will do.
func (p *Plan) add(s *catalog.Snapshot, t *catalog.Topic, to string, from []candidate, exclude string) {
	chains := s.Chains(t.ID)
	on := openOn(chains)
	if to == "" {
		ex := exclude
		if ex == "" && len(on) == 1 {
			ex = on[0]
		}
		to = place(from, ex, placementOf(s, t.Tenant)...)
		for i := range from {
			if from[i].name == to {
				from[i].load += int(t.Partitions) // spread the rest
			}
		}
	}
	if len(on) == 1 && on[0] == to {
		return // nothing to do
	}
	m := PlannedMove{Topic: catalog.TopicRef{Tenant: t.Tenant, Name: t.Name, ID: t.ID}, Partitions: t.Partitions,
		From: strings.Join(on, ","), To: to, Mode: catalog.ModeSeal}
	for _, c := range on {
		if cl := s.Cluster(c); cl != nil && !cl.CanSeal {
			m.Mode, m.Note = catalog.ModeFence, "cluster "+c+" grants no seal: gateways are fenced, which is weaker"
		}
	}
	if limit := configInt(t.Config, ConfigMaxSpans); longest(chains) >= int(limit) && p.Refused == "" {
		p.Refused = fmt.Sprintf("topic %s: a chain has reached %d spans (%s=%d); wait for retention, or raise it",
			t.Name, longest(chains), ConfigMaxSpans, limit)
	}
	p.Moves = append(p.Moves, m)
}

func longest(chains []*catalog.Chain) int {
	n := 0
	for _, ch := range chains {
		n = max(n, len(ch.Spans))
	}
	return n
}

// planCluster plans what concerns a whole cluster.
func planCluster(s *catalog.Snapshot, from []candidate, req OpRequest, p Plan) (Plan, error) {
	var topics []*catalog.Topic
	for t := range s.AllTopics() {
		if !t.Deleting {
			topics = append(topics, t)
		}
	}
	slices.SortFunc(topics, func(a, b *catalog.Topic) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Name, b.Name))
	})
	cluster := s.Cluster(req.Cluster)
	lossy, forced, skipped, waitRead := 0, 0, 0, 0
	var waiting []string
	for _, t := range topics {
		chains := s.Chains(t.ID)
		on := openOn(chains)
		switch req.Kind {
		case catalog.OpFailback:
			// Back come those that were failed over: the last failover names them, or
			// a span with a hole behind it tells.
			if !slices.Contains(on, req.Cluster) && (req.back[t.ID] || leftBehind(chains, req.Cluster)) {
				p.add(s, t, req.Cluster, from, "")
			}
			continue
		case catalog.OpFailover:
			if !slices.Contains(on, req.Cluster) {
				switch {
				case copiesOn(chains, req.Cluster) == 0:
				case goesOn(t):
					skipped++
				default:
					waitRead++
				}
				continue
			}
			switch {
			case goesOn(t):
			case req.Force:
				forced++
			default:
				waiting = append(waiting, t.Name)
				continue
			}
			n := len(p.Moves)
			p.add(s, t, req.To, from, req.Cluster)
			for i := n; i < len(p.Moves); i++ {
				p.Moves[i].Mode = catalog.ModeLossy
				if isInternal(t) {
					p.Moves[i].Note = "Kafka's own by its name, and empty"
					continue
				}
				lossy++
				p.Moves[i].Note = "sealed instead, and nothing is lost, if the cluster can be reached"
			}
		case catalog.OpDrain:
			if slices.Contains(on, req.Cluster) {
				p.add(s, t, req.To, from, req.Cluster)
			}
		}
	}
	if forced > 0 {
		p.Costs = append(p.Costs, topicCount(forced, " with braid.guarantee=ordered is moved by force: that guarantee is broken for it", " with braid.guarantee=ordered are moved by force: that guarantee is broken for them"))
	}
	if lossy > 0 {
		p.Costs = append(p.Costs, topicCount(lossy, " goes on", " go on")+" without what "+cluster.Name+
			" had not handed out: acknowledged records may be missing until it is back, and then come later (braid.stranded)")
	}
	if len(waiting) > 0 {
		p.Costs = append(p.Costs, topicCount(len(waiting), " with braid.guarantee=ordered waits for ", " with braid.guarantee=ordered wait for ")+cluster.Name+
			" ("+firstNames(waiting)+"): --force moves them too, and breaks that guarantee")
	}
	if waiting, of := ShardsWaiting(s, cluster.Name); req.Kind == catalog.OpFailover && waiting > 0 {
		cost := fmt.Sprintf("%d of %d coordinator shards wait for what %s has of their logs: --force gives it up for good, with commits of groups and with transactions", waiting, of, cluster.Name)
		if req.Force {
			cost = fmt.Sprintf("%d of %d coordinator shards go on without what %s has of their logs: commits of their groups and transactions that lie there are lost for good, "+
				"consumers of such groups start where auto.offset.reset says", waiting, of, cluster.Name)
		}
		p.Costs = append(p.Costs, cost)
	}
	if skipped > 0 {
		p.Costs = append(p.Costs, topicCount(skipped, " has older", " have older")+" records on "+cluster.Name+": readers skip them until it is back")
	}
	if waitRead > 0 {
		p.Costs = append(p.Costs, topicCount(waitRead, " has older", " have older")+" records on "+cluster.Name+": who reads those waits until it is back")
	}
	if req.Kind == catalog.OpFailback && cluster.State != catalog.ClusterActive {
		p.Effect = "cluster " + cluster.Name + " is " + string(cluster.State) + " and becomes active: it takes new spans again"
		if votedDown(s, cluster.Name) {
			p.Refused = "cluster " + cluster.Name + " is still down"
		}
	}
	return p.finish(s), nil
}

// namesShown is how many topics a cost names.
const namesShown = 5

// firstNames lists a few names and counts the rest.
func firstNames(names []string) string {
	if len(names) <= namesShown {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:namesShown], ", ") + fmt.Sprintf(" and %d more", len(names)-namesShown)
}

// topicCount writes a count of topics with what one or many of them do.
func topicCount(n int, one, many string) string {
	if n == 1 {
		return "1 topic" + one
	}
	return strconv.Itoa(n) + " topics" + many
}

// backHint says what brings a failed cluster back into use.
func backHint(c *catalog.Cluster) string {
	if c.State != catalog.ClusterFailed {
		return ""
	}
	return ": " + backText(c)
}

// finish refuses plans that cannot work.
func (p Plan) finish(s *catalog.Snapshot) Plan {
	slices.SortFunc(p.Moves, func(a, b PlannedMove) int {
		return cmp.Or(cmp.Compare(a.Topic.Tenant, b.Topic.Tenant), cmp.Compare(a.Topic.Name, b.Topic.Name))
	})
	for _, m := range p.Moves {
		c := s.Cluster(m.To)
		switch {
		case p.Refused != "":
		case c == nil:
			p.Refused = "no other cluster takes topic " + m.Topic.Name + ": add one, or name one with --to"
		case !mayUse(s, m.Topic.Tenant, m.To):
			p.Refused = fmt.Sprintf("cluster %s is not in the placement of tenant %s, whose topic %s would go there", m.To, m.Topic.Tenant, m.Topic.Name)
		case c.State != catalog.ClusterActive && p.Kind != catalog.OpFailback:
			p.Refused = fmt.Sprintf("cluster %s is %s and takes no new spans", c.Name, c.State) + backHint(c)
		}
	}
	return p
}

// copiesOn counts the spans with a copy on a cluster that is not gone there.
func copiesOn(chains []*catalog.Chain, cluster string) int {
	n := 0
	for _, ch := range chains {
		for i := range ch.Spans {
			for j := range ch.Spans[i].Copies {
				if c := &ch.Spans[i].Copies[j]; c.Cluster == cluster && !c.Gone {
					n++
				}
			}
		}
	}
	return n
}

// leftBehind tells whether a failover left spans on the cluster.
func leftBehind(chains []*catalog.Chain, cluster string) bool {
	for _, ch := range chains {
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			if sp.Hole && slices.ContainsFunc(sp.Copies, func(c catalog.Copy) bool { return c.Cluster == cluster }) {
				return true
			}
		}
	}
	return false
}

package console

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/span"
)

// hidden stands for a value that is not shown.
const hidden = "[hidden]"

// clusterView shows a cluster with what its chains need of it.
func clusterView(c *catalog.Cluster, s *catalog.Snapshot, use map[string]clusterUse) api.Cluster {
	seal := "enforced"
	if !c.CanSeal {
		seal = "fence"
	}
	v := api.Cluster{
		Name: c.Name, Kind: string(c.Kind), State: string(c.State), Region: c.Region, Zone: c.Zone,
		Bootstrap: c.Bootstrap, Config: redact(c.Config), ClusterID: c.ClusterID, Seal: seal,
		Partitions: use[c.Name].open, Sealed: use[c.Name].sealed,
	}
	voted := votesOf(s, c.Name)
	v.Health, v.Detail = voted.health(), voted.why
	v.Hint = controller.FailedText(s, c)
	return v
}

// votes are what the gateways think of a cluster.
type votes struct {
	up, full, down int    // full: of those that are up
	why            string // what one of them says that found it down, or full if none did
}

func votesOf(s *catalog.Snapshot, cluster string) (v votes) {
	room := ""
	for vote := range s.ClusterVotes(cluster) {
		switch {
		case !vote.Up:
			v.down++
			v.why = vote.Detail
			continue
		case vote.Full:
			v.full++
			room = vote.Detail
		}
		v.up++
	}
	if v.down == 0 {
		v.why = room
	}
	return v
}

// health is what most of them think.
func (v votes) health() string {
	switch {
	case v.up+v.down == 0:
		return "unknown"
	case v.down > v.up:
		return "down"
	case 2*v.full > v.up+v.down:
		return "full"
	}
	return "up"
}

// askedHealth joins what the gateways think of a cluster with the answer that this process
// has just had from it. One of them may be cut off, so a contradiction is told, not settled.
func askedHealth(v votes, answer span.Health, err error) (health, detail string) {
	voted := v.health()
	reach, not := "most gateways reach it", "most gateways do not"
	if v.up+v.down == 1 {
		reach, not = "the gateway reaches it", "the gateway does not"
	}
	switch {
	case err == nil && voted == "down":
		return "up", "this process reaches it, " + not + ": " + v.why
	case err == nil && answer.Full:
		return "full", answer.Detail
	case err == nil:
		return "up", answer.Detail
	case voted == "up", voted == "full":
		return voted, reach + ", this process does not: " + err.Error()
	}
	return "down", err.Error()
}

// redact hides every value of a client config whose key speaks of a secret,
// references too: where a secret lies is nobody's business.
func redact(config map[string]string) map[string]string {
	out := maps.Clone(config)
	for k := range out {
		l := strings.ToLower(k)
		if strings.Contains(l, "password") || strings.Contains(l, "secret") || strings.Contains(l, "jaas") ||
			strings.Contains(l, "token") || strings.Contains(l, "ssl.keystore.key") {
			out[k] = hidden
		}
	}
	return out
}

type clusterUse struct{ open, sealed int }

// clusterUses counts the spans on each cluster.
func clusterUses(s *catalog.Snapshot) map[string]clusterUse {
	use := map[string]clusterUse{}
	for t := range s.AllTopics() {
		for _, chain := range s.Chains(t.ID) {
			for i := range chain.Spans {
				for _, copy := range chain.Spans[i].Copies {
					if copy.Gone {
						continue
					}
					u := use[copy.Cluster]
					if chain.Spans[i].IsOpen() {
						u.open++
					} else {
						u.sealed++
					}
					use[copy.Cluster] = u
				}
			}
		}
	}
	return use
}

func topicSummary(t *catalog.Topic, s *catalog.Snapshot) api.TopicSummary {
	v := api.TopicSummary{Name: t.Name, ID: t.ID.String(), Partitions: int(t.Partitions), Clusters: []string{}}
	for _, chain := range s.Chains(t.ID) {
		v.Spans += len(chain.Spans)
		if n := len(chain.Spans); n > 0 && chain.Spans[n-1].IsOpen() {
			for _, c := range chain.Spans[n-1].Copies {
				if !slices.Contains(v.Clusters, c.Cluster) {
					v.Clusters = append(v.Clusters, c.Cluster)
				}
			}
		}
	}
	slices.Sort(v.Clusters)
	if e := s.Extend(t.ID); e != nil {
		v.Moving = e.Target
	}
	return v
}

func topicView(t *catalog.Topic, s *catalog.Snapshot, ops []catalog.Op, certs []catalog.Certificate) api.Topic {
	v := api.Topic{Name: t.Name, ID: t.ID.String(), Config: t.Config, Created: t.Created,
		Partitions: []api.Partition{}, Certificates: []api.Certificate{}}
	if v.Config == nil {
		v.Config = map[string]string{}
	}
	if e := s.Extend(t.ID); e != nil {
		v.Moving = &api.Step{Op: e.Op, Step: string(e.Step), Target: e.Target}
	}
	for _, w := range controller.Waits(s, t) {
		v.Waits = append(v.Waits, api.Wait{Cluster: w.Cluster, Since: w.Since, Partitions: w.Partitions, Hint: controller.WaitHint(w.Cluster)})
	}
	for _, w := range controller.Stuck(s, ops, t) {
		v.Waits = append(v.Waits, api.Wait{Cluster: w.Cluster, Since: w.Since, Partitions: w.Partitions, Reason: w.Reason})
	}
	for i, chain := range s.Chains(t.ID) {
		p := api.Partition{ID: int32(i), Start: chain.Start, Spans: []api.Span{}}
		for _, sp := range chain.Spans {
			p.Spans = append(p.Spans, spanView(sp))
		}
		v.Partitions = append(v.Partitions, p)
	}
	for _, c := range certs {
		v.Certificates = append(v.Certificates, certificateView(c))
	}
	return v
}

func spanView(sp catalog.Span) api.Span {
	v := api.Span{Start: sp.Start, Epoch: sp.Epoch, Hole: sp.Hole, Copies: []api.Copy{}}
	if !sp.IsOpen() {
		end := sp.End
		v.End = &end
	}
	for _, c := range sp.Copies {
		v.Copies = append(v.Copies, api.Copy{Cluster: c.Cluster, Topic: c.Topic, Partition: c.Partition, Readable: !c.Unreadable, Gone: c.Gone})
	}
	return v
}

// certificateView shows a certificate; the verdict of the whole is the worst of its partitions.
func certificateView(c catalog.Certificate) api.Certificate {
	v := api.Certificate{Op: c.Op, Kind: string(c.Kind), Topic: c.Topic.Name, From: c.From, To: c.To,
		Mode: string(c.Mode), Issued: c.Issued, Verdict: string(catalog.VerdictVerified), Partitions: []api.CertifiedRecord{},
		Return: c.Return, Failovers: c.Failovers}
	if len(c.Partitions) == 0 {
		v.Verdict = string(catalog.VerdictUnverified)
	}
	if s := c.Standing; s != nil {
		v.GroupsAsked = &api.GroupsAsked{UnknownShards: len(s.Silent), LateShards: len(s.Late), UnlistedGroups: s.Unlisted}
		if s.Unasked {
			v.GroupsAsked.UnknownShards = -1
		}
	}
	for _, p := range c.Partitions {
		switch {
		case p.Verdict == catalog.VerdictViolated:
			v.Verdict = string(p.Verdict)
		case p.Verdict == catalog.VerdictUnverified && v.Verdict == string(catalog.VerdictVerified):
			v.Verdict = string(p.Verdict)
		}
		r := api.CertifiedRecord{Partition: p.Partition, End: p.End, Start: p.Start, Found: read(p, p.Found), Lost: read(p, p.Lost), Duplicated: read(p, p.Duplicated), Reordered: read(p, p.Reordered), Stray: read(p, p.Stray),
			Replayed: p.Replayed, InPlace: p.InPlace, LeftOut: p.LeftOut, PauseMs: p.PauseMs, Idle: p.Idle, Verdict: string(p.Verdict), Checked: p.Checked}
		if !p.Unreported {
			r.Acknowledged = &p.Acknowledged
		}
		if r.Checked == nil {
			r.Checked = []string{}
		}
		for _, g := range p.Ranges {
			r.Ranges = append(r.Ranges, api.Range{From: g.From, To: g.To, What: g.What, Note: g.Note})
		}
		for _, g := range p.Groups {
			x := api.CertifiedGroup{Group: g.Group, Committed: g.Committed, From: g.From, To: g.To, Records: g.Records, What: g.What}
			if g.What == catalog.GroupSkipped {
				x.Now = &g.Now
			}
			r.Groups = append(r.Groups, x)
		}
		v.Partitions = append(v.Partitions, r)
	}
	return v
}

// read gives a count as far as something was read that tells it.
func read(p catalog.PartitionCertificate, n int64) *int64 {
	if p.Unread && n == 0 {
		return nil
	}
	return &n
}

func opView(o catalog.Op) api.Op {
	v := api.Op{ID: o.ID, Kind: string(o.Kind), State: string(o.State), Cluster: o.Cluster, To: o.To, Force: o.Force,
		Total: o.Total, Done: o.Done, Failed: o.Failed, Progress: o.Progress, Message: o.Message, Created: o.Created, Revision: o.Revision}
	for _, t := range o.Topics {
		v.Topics = append(v.Topics, t.Name)
	}
	if !o.Finished.IsZero() {
		v.Finished = &o.Finished
	}
	return v
}

func planView(p controller.Plan) api.Plan {
	v := api.Plan{Kind: string(p.Kind), Moves: []api.PlanMove{}, Nothing: len(p.Moves) == 0 && p.Refused == "" && p.Effect == "",
		Effect: p.Effect, Costs: p.Costs, Refused: p.Refused, Answers: p.Answers, Kept: keptView(p.Kept)}
	for _, m := range p.Moves {
		x := api.PlanMove{Topic: m.Topic.Name, Partitions: int(m.Partitions), From: m.From, To: m.To, Mode: string(m.Mode), Note: m.Note,
			Records: told(m.Cost.Records), Bytes: told(m.Cost.Bytes), KeptForever: m.Cost.Forever, OpenTransactions: told(int64(m.Cost.OpenTransactions))}
		if !m.Cost.Until.IsZero() {
			x.KeptUntil = &m.Cost.Until
		}
		v.Moves = append(v.Moves, x)
	}
	return v
}

// told is a number that is not negative; nil else.
func told(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func keptView(list []controller.Kept) []api.Kept {
	var out []api.Kept
	for _, k := range list {
		v := api.Kept{Topic: k.Topic.Name, Spans: k.Spans}
		if !k.Until.IsZero() {
			until := k.Until.UTC().Truncate(time.Second)
			v.Until = &until
		}
		out = append(out, v)
	}
	return out
}

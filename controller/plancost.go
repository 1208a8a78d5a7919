package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

const (
	// planPatience bounds what a plan asks the clusters, all in all: what they have not said by
	// then is not known.
	planPatience = 5 * time.Second
	// planAsks bounds how many partitions are asked for their ends.
	planAsks = 2000
)

// Cost is what a planned move concerns, as far as the clusters told in time.
type Cost struct {
	// Records counts the offsets of the topic that are on the clusters it leaves: ends of transactions
	// and what compaction has removed are among them. -1 not known.
	Records int64
	// Bytes are those of its partitions there, each counted once; -1 not known.
	Bytes int64
	// Until is when retention lets the last of these records go, if the topic moves now; zero with Forever,
	// or when there are none.
	Until   time.Time
	Forever bool // nothing in its retention does
	// OpenTransactions counts the partitions with an open transaction: a move waits for its end. -1 not known.
	OpenTransactions int
}

// price asks the clusters what the moves of a plan concern.
func (a *Admin) price(ctx context.Context, s *catalog.Snapshot, p *Plan, req OpRequest) {
	ctx, cancel := context.WithTimeout(ctx, planPatience)
	defer cancel()
	q := &pricing{a: a, ctx: ctx, sizes: map[string]map[[16]byte][]int64{}, missed: map[string]missed{}}
	q.missing(s, p, req)
	q.wg.Go(func() { q.answers(s, p, req) })
	q.wg.Go(func() { q.tellDown(s, p) })
	topics := map[string][]span.Topic{}
	for i := range p.Moves {
		for _, t := range leaves(s.Chains(p.Moves[i].Topic.ID), p.Moves[i].From) {
			topics[t.Cluster] = append(topics[t.Cluster], storeTopic(t))
		}
	}
	for cluster, list := range topics {
		q.wg.Go(func() { q.measure(cluster, list) })
	}
	slots, asks := make(chan struct{}, width), planAsks
	for i := range p.Moves {
		m := &p.Moves[i]
		if asks -= int(m.Partitions); asks < 0 {
			m.Cost.Records, m.Cost.OpenTransactions = -1, -1
			continue
		}
		for _, ch := range s.Chains(m.Topic.ID) {
			slots <- struct{}{}
			q.wg.Go(func() {
				defer func() { <-slots }()
				q.count(ch, m)
			})
		}
	}
	q.wg.Wait()
	q.tellMissing(p)
	p.Costs = append(q.costs, p.Costs...)
	if req.Kind == catalog.OpDrain {
		p.Kept = keptBeside(s, p, req.Cluster)
	}
	now := time.Now()
	for i := range p.Moves {
		m := &p.Moves[i]
		m.Cost.Bytes = q.bytes(leaves(s.Chains(m.Topic.ID), m.From))
		t := s.TopicByID(m.Topic.ID)
		if t == nil || m.Cost.Records == 0 {
			continue
		}
		if t.Tenant == catalog.SystemTenant {
			m.Note = strings.TrimPrefix(m.Note+"; Braid's own: what is old is trimmed as its coordinators write snapshots", "; ")
			continue
		}
		if ms := configInt(t.Config, "retention.ms"); ms >= 0 && isDeleted(t.Config) {
			m.Cost.Until = now.Add(time.Duration(min(ms, maxRetentionShown)) * time.Millisecond).UTC().Truncate(time.Second)
		} else {
			m.Cost.Forever = true
		}
	}
}

// keptBeside lists what must stay on a cluster of the topics that a plan does not move off it.
func keptBeside(s *catalog.Snapshot, p *Plan, cluster string) (out []Kept) {
	moves := map[catalog.ID]bool{}
	for i := range p.Moves {
		moves[p.Moves[i].Topic.ID] = true
	}
	for t := range s.AllTopics() {
		if k, ok := keptOn(t, s.Chains(t.ID), cluster); ok && !moves[t.ID] && !t.Deleting {
			out = append(out, k)
		}
	}
	sortKept(out)
	return out
}

// maxRetentionShown keeps a time to come within what a duration can hold: 200 years, in ms.
const maxRetentionShown = 200 * 365 * 24 * 3600 * 1000

// leaves are the physical topics of a topic on the clusters that it would leave.
func leaves(chains []*catalog.Chain, from string) (out []catalog.PhysicalTopic) {
	gone := map[catalog.ID]bool{}
	for _, ch := range chains {
		for i := range ch.Spans {
			for _, c := range ch.Spans[i].Copies {
				gone[c.TopicID] = gone[c.TopicID] || c.Gone
			}
		}
	}
	for _, t := range allTopics(chains) {
		if isAmong(from, t.Cluster) && !gone[t.TopicID] {
			out = append(out, t)
		}
	}
	return out
}

// isAmong tells whether a cluster is in a list, as [PlannedMove.From] has it.
func isAmong(list, cluster string) bool {
	return slices.Contains(strings.Split(list, ","), cluster)
}

// pricing is one plan's questions under way.
type pricing struct {
	a   *Admin
	ctx context.Context
	wg  sync.WaitGroup

	mu    sync.Mutex
	sizes map[string]map[[16]byte][]int64 // by cluster and physical topic
	// missed is by cluster what it has no more.
	missed map[string]missed
	// costs are what tellDown found.
	costs []string
}

// measure asks one cluster for the bytes of topics.
func (q *pricing) measure(cluster string, topics []span.Topic) {
	found := map[[16]byte][]int64{}
	if st, err := q.a.Stores.Store(cluster); err == nil {
		switch m := st.(type) {
		case span.ManySizer:
			found = m.SizesOfMany(q.ctx, topics)
		case span.Sizer:
			for _, t := range topics {
				if list, err := m.Sizes(q.ctx, t); err == nil {
					found[t.ID] = list
				}
			}
		}
	} // else not known, as for a cluster that lets itself not be measured
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sizes[cluster] = found
}

func (q *pricing) bytes(topics []catalog.PhysicalTopic) (sum int64) {
	for _, t := range topics {
		list, ok := q.sizes[t.Cluster][t.TopicID]
		if !ok {
			return -1
		}
		for _, n := range list {
			if n < 0 {
				return -1
			}
			sum += n
		}
	}
	return sum
}

// count adds one chain's records, and looks for an open transaction.
func (q *pricing) count(ch *catalog.Chain, m *PlannedMove) {
	var n int64
	open := 0
	for i := range ch.Spans {
		sp := &ch.Spans[i]
		c := &sp.Copies[0]
		if !isAmong(m.From, c.Cluster) || c.Gone {
			continue
		}
		end := sp.End
		if sp.IsOpen() {
			o, err := q.offsets(c)
			if err != nil {
				n, open = -1, -1
				break
			}
			end = chain.ToLogical(c, o.HighWatermark)
			if o.LastStable < o.HighWatermark {
				open++
			}
		}
		n += max(end-max(sp.Start, ch.Start), 0)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if n < 0 || m.Cost.Records < 0 {
		m.Cost.Records, m.Cost.OpenTransactions = -1, -1
		return
	}
	m.Cost.Records += n
	m.Cost.OpenTransactions += open
}

func (q *pricing) offsets(c *catalog.Copy) (span.Offsets, error) {
	st, err := q.a.Stores.Store(c.Cluster)
	if err != nil {
		return span.Offsets{}, err
	}
	log := copyLog(st, c)
	defer log.Release()
	return log.Offsets(q.ctx)
}

// answers asks the cluster that would be failed over whether it is there: what that costs
// depends on it.
func (q *pricing) answers(s *catalog.Snapshot, p *Plan, req OpRequest) {
	if req.Kind != catalog.OpFailover || s.Cluster(req.Cluster) == nil {
		return
	}
	st, err := q.a.Stores.Store(req.Cluster)
	if err == nil {
		_, err = st.Health(q.ctx)
	}
	yes := err == nil
	p.Answers = &yes
	if len(p.Moves) == 0 {
		return
	}
	cost := req.Cluster + " answers: while it does its topics are sealed there, and nothing that it has is lost or doubled; what may be missing, as said below, is so of a cluster that is gone"
	if !yes {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errNoAnswer
		}
		cost = req.Cluster + " does not answer (" + err.Error() + "): how many records it holds that no gateway has handed out is not known; " +
			"what was on its way there without a producer id may come twice"
	}
	p.Costs = append([]string{cost}, p.Costs...)
}

var errNoAnswer = errors.New("no answer within " + planPatience.String())

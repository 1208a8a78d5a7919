package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// side is one system with what its clients know.
type side struct {
	system system
	group  string
	ids    [diffClients]string
	gens   [diffClients]int32
	leads  [diffClients][]string // members, if the client leads
	names  map[string]string     // member ids by symbol
	count  [diffClients]int

	mu     sync.Mutex
	parked map[int]int // request by client
	done   map[int]kmsg.Response
}

func newSide(s system, group string) *side {
	return &side{system: s, group: group, names: map[string]string{}, parked: map[int]int{}, done: map[int]kmsg.Response{}}
}

// action is one request, said in symbols.
type action struct {
	op      string
	client  int
	fresh   bool // without its member id
	wrong   int  // what is wrong with it: 0 nothing, 1 generation, 2 member id
	variant int
}

func (a action) String() string {
	return fmt.Sprintf("%s(client %d, fresh %v, wrong %d, variant %d)", a.op, a.client, a.fresh, a.wrong, a.variant)
}

func (s *side) request(a action) kmsg.Request {
	id, generation := s.ids[a.client], s.gens[a.client]
	var instance *string
	if a.client < 2 {
		instance = str(fmt.Sprint("i", a.client))
	}
	switch a.wrong {
	case 1:
		generation += 7
	case 2:
		id = "made-up"
	}
	switch a.op {
	case "join":
		r := kmsg.NewPtrJoinGroupRequest()
		r.Group, r.InstanceID, r.MemberID = s.group, instance, id
		if a.fresh {
			r.MemberID = ""
		}
		r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = 300_000, 300_000, "consumer"
		names := [][]string{{"range", "roundrobin"}, {"range", "roundrobin"}, {"range", "roundrobin"}, {"roundrobin", "range"}, {"sticky"}}[a.variant%5]
		for _, n := range names {
			p := kmsg.NewJoinGroupRequestProtocol()
			p.Name, p.Metadata = n, subscribe("topic")
			r.Protocols = append(r.Protocols, p)
		}
		if a.variant == 7 {
			r.ProtocolType = "connect"
		}
		return r
	case "sync":
		r := kmsg.NewPtrSyncGroupRequest()
		r.Group, r.InstanceID, r.MemberID, r.Generation = s.group, instance, id, generation
		r.ProtocolType, r.Protocol = str("consumer"), str("range")
		if a.variant == 1 {
			r.Protocol = str("roundrobin")
		}
		for _, m := range s.leads[a.client] {
			ga := kmsg.NewSyncGroupRequestGroupAssignment()
			ga.MemberID, ga.MemberAssignment = m, []byte("for "+s.names[m])
			r.GroupAssignment = append(r.GroupAssignment, ga)
		}
		return r
	case "beat":
		r := kmsg.NewPtrHeartbeatRequest()
		r.Group, r.InstanceID, r.MemberID, r.Generation = s.group, instance, id, generation
		return r
	case "leave":
		r := kmsg.NewPtrLeaveGroupRequest()
		r.Group, r.MemberID = s.group, id
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID, m.InstanceID = id, instance
		if a.fresh {
			m.MemberID = ""
		}
		r.Members = append(r.Members, m)
		return r
	case "commit":
		r := kmsg.NewPtrOffsetCommitRequest()
		r.Group, r.InstanceID, r.MemberID, r.Generation = s.group, instance, id, generation
		if a.fresh {
			r.InstanceID, r.MemberID, r.Generation = nil, "", -1
		}
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic, rt.TopicID = "topic", s.system.topic()
		for p := range int32(3) {
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = p*4, int64(a.variant)*10+int64(p), int32(a.variant), str("m")
			rt.Partitions = append(rt.Partitions, rp)
		}
		if a.variant == 3 {
			rt.Partitions[0].Metadata = str(strings.Repeat("x", 5000))
			rt.Partitions[1].Metadata = nil
		}
		if a.variant == 4 {
			rt.Topic, rt.TopicID = "none", [16]byte{1}
		}
		r.Topics = append(r.Topics, rt)
		return r
	case "fetch":
		r := kmsg.NewPtrOffsetFetchRequest()
		r.Group = s.group
		rt := kmsg.NewOffsetFetchRequestTopic()
		rt.Topic, rt.Partitions = "topic", []int32{0, 1, 4, 9}
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = s.group
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.TopicID, gt.Partitions = "topic", s.system.topic(), rt.Partitions
		none := kmsg.NewOffsetFetchRequestGroupTopic()
		none.Topic, none.TopicID, none.Partitions = "none", [16]byte{1}, []int32{0}
		switch a.variant % 3 {
		case 0:
			r.Topics, g.Topics = append(r.Topics, rt), append(g.Topics, gt, none)
		case 1:
			r.Topics, g.Topics = append(r.Topics, rt), append(g.Topics, gt)
			r.RequireStable = true
		}
		r.Groups = append(r.Groups, g)
		return r
	case "deleteOffsets":
		r := kmsg.NewPtrOffsetDeleteRequest()
		r.Group = s.group
		for _, name := range []string{"topic", "none"} {
			rt := kmsg.NewOffsetDeleteRequestTopic()
			rt.Topic = name
			for _, p := range []int32{0, 1, 99} {
				rp := kmsg.NewOffsetDeleteRequestTopicPartition()
				rp.Partition = p
				rt.Partitions = append(rt.Partitions, rp)
			}
			r.Topics = append(r.Topics, rt)
		}
		return r
	case "describe":
		r := kmsg.NewPtrDescribeGroupsRequest()
		r.Groups = []string{s.group, s.group + "-none"}
		return r
	case "list":
		r := kmsg.NewPtrListGroupsRequest()
		r.StatesFilter = [][]string{nil, {"Stable", "empty"}, {"PreparingRebalance"}}[a.variant%3]
		r.TypesFilter = [][]string{nil, {"classic"}, {"Consumer"}, nil}[a.variant%4]
		return r
	case "deleteGroup":
		r := kmsg.NewPtrDeleteGroupsRequest()
		r.Groups = []string{s.group, s.group + "-none"}
		return r
	}
	panic(a.op)
}

// send issues a request; its answer is noted when it comes.
func (s *side) send(ctx context.Context, wg *sync.WaitGroup, n int, a action) {
	req := s.request(a)
	s.mu.Lock()
	s.parked[a.client] = n
	s.mu.Unlock()
	wg.Go(func() {
		resp := s.system.do(ctx, a.client, req)
		s.mu.Lock()
		s.done[n] = resp
		if s.parked[a.client] == n {
			delete(s.parked, a.client)
		}
		s.mu.Unlock()
	})
}

func (s *side) answered() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []int
	for n := range s.done {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// away tells whether Kafka's coordinator was unloaded, as happens when the machine
// is too busy for the broker to be heard of in time.
func (s *side) away() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resp := range s.done {
		var code int16
		switch r := resp.(type) {
		case nil:
			return true
		case *kmsg.JoinGroupResponse:
			code = r.ErrorCode
		case *kmsg.SyncGroupResponse:
			code = r.ErrorCode
		case *kmsg.HeartbeatResponse:
			code = r.ErrorCode
		}
		switch wire.Code(code) {
		case wire.NotCoordinator, wire.CoordinatorLoadInProgress, wire.CoordinatorNotAvailable:
			return true
		}
	}
	return false
}

// name is the symbol of a member id.
func (s *side) name(id string) string {
	if n, ok := s.names[id]; ok || id == "" || id == "made-up" {
		return cmp.Or(n, id)
	}
	return "?"
}

// learn takes in what an answer says to its client, and says it in symbols. leads
// is who leads with which protocol, if the answer says so.
func (s *side) learn(a action, resp kmsg.Response) (said, leads string) {
	code := func(c int16) string { return wire.Code(c).Name() }
	text := func(p *string) string {
		if p == nil {
			return "-"
		}
		return *p
	}
	switch r := resp.(type) {
	case *kmsg.JoinGroupResponse:
		if r.ErrorCode == 0 || wire.Code(r.ErrorCode) == wire.MemberIDRequired {
			if _, ok := s.names[r.MemberID]; !ok {
				s.count[a.client]++
				s.names[r.MemberID] = fmt.Sprintf("m%d.%d", a.client, s.count[a.client])
			}
			s.ids[a.client] = r.MemberID
		}
		if r.ErrorCode == 0 {
			s.gens[a.client] = r.Generation
			s.leads[a.client] = nil
			leads = s.name(r.LeaderID) + "/" + text(r.Protocol)
		}
		var members []string
		for _, m := range r.Members {
			s.leads[a.client] = append(s.leads[a.client], m.MemberID)
			members = append(members, fmt.Sprintf("%s/%s/%x", s.name(m.MemberID), text(m.InstanceID), m.ProtocolMetadata))
		}
		slices.Sort(members)
		return fmt.Sprintf("join %s member %s generation %d type %s protocol %s skip %v members %d", code(r.ErrorCode), s.name(r.MemberID),
			r.Generation, text(r.ProtocolType), text(r.Protocol), r.SkipAssignment, len(members)), leads
	case *kmsg.SyncGroupResponse:
		return fmt.Sprintf("sync %s type %s protocol %s %q", code(r.ErrorCode), text(r.ProtocolType), text(r.Protocol), r.MemberAssignment), ""
	case *kmsg.HeartbeatResponse:
		return "beat " + code(r.ErrorCode), ""
	case *kmsg.LeaveGroupResponse:
		out := "leave " + code(r.ErrorCode)
		for _, m := range r.Members {
			out += fmt.Sprintf(" %s/%s %s", s.name(m.MemberID), text(m.InstanceID), code(m.ErrorCode))
		}
		return out, ""
	case *kmsg.OffsetCommitResponse:
		out := "commit"
		for _, t := range r.Topics {
			out += " " + t.Topic
			slices.SortFunc(t.Partitions, func(a, b kmsg.OffsetCommitResponseTopicPartition) int { return cmp.Compare(a.Partition, b.Partition) })
			for _, p := range t.Partitions {
				out += fmt.Sprintf(" %d %s", p.Partition, code(p.ErrorCode))
			}
		}
		return out, ""
	case *kmsg.OffsetFetchResponse:
		out := "fetch " + code(r.ErrorCode)
		for _, t := range r.Topics {
			out += " " + t.Topic
			slices.SortFunc(t.Partitions, func(a, b kmsg.OffsetFetchResponseTopicPartition) int { return cmp.Compare(a.Partition, b.Partition) })
			for _, p := range t.Partitions {
				out += fmt.Sprintf(" %d: %d %d %s %s", p.Partition, p.Offset, p.LeaderEpoch, text(p.Metadata), code(p.ErrorCode))
			}
		}
		for _, g := range r.Groups {
			out += " group " + code(g.ErrorCode)
			slices.SortFunc(g.Topics, func(a, b kmsg.OffsetFetchResponseGroupTopic) int {
				return cmp.Compare(a.Partitions[len(a.Partitions)-1].Partition, b.Partitions[len(b.Partitions)-1].Partition)
			})
			for _, t := range g.Topics {
				out += " " + t.Topic
				slices.SortFunc(t.Partitions, func(a, b kmsg.OffsetFetchResponseGroupTopicPartition) int {
					return cmp.Compare(a.Partition, b.Partition)
				})
				for _, p := range t.Partitions {
					out += fmt.Sprintf(" %d: %d %d %s %s", p.Partition, p.Offset, p.LeaderEpoch, text(p.Metadata), code(p.ErrorCode))
				}
			}
		}
		return out, ""
	case *kmsg.OffsetDeleteResponse:
		out := "delete offsets " + code(r.ErrorCode)
		slices.SortFunc(r.Topics, func(a, b kmsg.OffsetDeleteResponseTopic) int { return cmp.Compare(a.Topic, b.Topic) })
		for _, t := range r.Topics {
			out += " " + t.Topic
			slices.SortFunc(t.Partitions, func(a, b kmsg.OffsetDeleteResponseTopicPartition) int { return cmp.Compare(a.Partition, b.Partition) })
			for _, p := range t.Partitions {
				out += fmt.Sprintf(" %d %s", p.Partition, code(p.ErrorCode))
			}
		}
		return out, ""
	case *kmsg.DescribeGroupsResponse:
		out := "describe"
		slices.SortFunc(r.Groups, func(a, b kmsg.DescribeGroupsResponseGroup) int { return cmp.Compare(a.Group, b.Group) })
		for _, g := range r.Groups {
			out += fmt.Sprintf(" %s %s type %q protocol %q", code(g.ErrorCode), g.State, g.ProtocolType, g.Protocol)
			var members []string
			for _, m := range g.Members {
				members = append(members, fmt.Sprintf("%s/%s/%s/%x/%q", s.name(m.MemberID), text(m.InstanceID), m.ClientID, m.ProtocolMetadata, m.MemberAssignment))
			}
			slices.Sort(members)
			out += fmt.Sprint(members)
		}
		return out, ""
	case *kmsg.ListGroupsResponse:
		out := "list " + code(r.ErrorCode)
		for _, g := range r.Groups {
			if g.Group == s.group {
				out += fmt.Sprintf(" %s/%s/%s", g.ProtocolType, g.GroupState, g.GroupType)
			}
		}
		return out, ""
	case *kmsg.DeleteGroupsResponse:
		out := "delete groups"
		slices.SortFunc(r.Groups, func(a, b kmsg.DeleteGroupsResponseGroup) int { return cmp.Compare(a.Group, b.Group) })
		for _, g := range r.Groups {
			out += " " + code(g.ErrorCode)
		}
		return out, ""
	}
	return fmt.Sprintf("%T", resp), ""
}

// choose takes the next action. Clients mostly do what clients do.
func choose(rng *rand.Rand, s *side) (action, bool) {
	a := action{client: rng.IntN(diffClients), variant: rng.IntN(8)}
	ops := []string{"join", "join", "join", "join", "sync", "sync", "sync", "beat", "leave", "commit", "commit", "fetch", "deleteOffsets", "describe", "list", "deleteGroup"}
	a.op = ops[rng.IntN(len(ops))]
	if a.op != "join" && a.op != "sync" && rng.IntN(3) == 0 {
		a.op = "join"
	}
	if rng.IntN(8) == 0 {
		a.wrong = 1 + rng.IntN(2)
	}
	if a.op == "join" || a.op == "sync" {
		a.variant = min(a.variant, rng.IntN(8))
	}
	a.fresh = rng.IntN(5) == 0
	if a.op == "commit" {
		a.fresh = rng.IntN(2) == 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, parked := s.parked[a.client]
	return a, !parked && !(a.client == diffOld && a.op == "deleteOffsets")
}

// settled waits until both have answered the same requests, and a moment more, and
// tells which; or until it is plain that they will not. That neither has answered the
// last one says something only after a while: one of them may just be slow.
func settled(sides []*side, last int) (answers []int, alike bool) {
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for calm := 0; time.Now().Before(deadline); <-tick.C {
		now := sides[0].answered()
		if !slices.Equal(now, sides[1].answered()) || !slices.Equal(now, answers) {
			answers, calm = now, 0
			continue
		}
		enough := 100
		if slices.Contains(now, last) {
			enough = 6
		}
		if calm++; calm >= enough {
			return answers, true
		}
	}
	return answers, false
}

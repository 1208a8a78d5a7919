package coordinator

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/wire"
)

// TestConsumerDifferential sends the same random requests of the consumer protocol, with
// a classic member now and then, to Apache Kafka and to a coordinator.
//
// What is normalised: member ids that the server made, error messages, throttle times,
// client hosts, the order of members and topics; and which partitions a member has: how
// many are compared, and a sequence ends where only they differ, since assignors choose
// among equals. Kafka computes targets at once and within the request here, as the
// coordinator does.
func TestConsumerDifferential(t *testing.T) {
	kafka := testkit.Shared(t, testkit.Property("group.initial.rebalance.delay.ms", "0"), testkit.Property("group.consumer.max.size", "3"),
		testkit.Property("group.consumer.assignment.interval.ms", "0"), testkit.Property("group.consumer.assignor.offload.enable", "false"),
		testkit.Property("offsets.topic.num.partitions", "1"))
	f := newFleet(t, 2, Config{InitialRebalanceDelay: -1, ConsumerMaxSize: 3})
	ours := &consumerSystem{system: &ourSystem{c: f.join(1).c}, ids: map[string][16]byte{}}
	eventually(t, "served", func() bool { return f.ready(1) })
	theirs := &kafkaSystem{clients: []*kgo.Client{kafka.Client(t, kgo.ClientID("client"))}}
	byKafka := &consumerSystem{system: theirs, ids: map[string][16]byte{}}
	for i, name := range []string{"diff-a", "diff-b", "diff-c"} {
		f.topic(name, int32(i+2))
		kafka.CreateTopic(t, name, i+2)
		ours.ids[name] = idOf(name)
	}
	md, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), theirs.clients[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range md.Topics {
		byKafka.ids[*topic.Topic] = topic.TopicID
	}
	warm(t, theirs)
	steps := 0
	for seed := range uint64(20) {
		steps += compareConsumers(t, seed, ours, byKafka)
	}
	t.Logf("%d requests were answered alike", steps)
	if steps < 300 {
		t.Error("too few to say anything")
	}
}

// consumerSystem is a system with the ids of its topics.
type consumerSystem struct {
	system
	ids map[string][16]byte
}

// consumerSide is a system with what its members know.
type consumerSide struct {
	*consumerSystem
	group   string
	members []*diffMember
}

type diffMember struct {
	id       string
	instance *string
	epoch    int32
	owned    map[[16]byte][]int32
	classic  bool
}

const diffMembers = 5 // the last one speaks the classic protocol

func newConsumerSide(s *consumerSystem, group string) *consumerSide {
	side := &consumerSide{consumerSystem: s, group: group}
	for i := range diffMembers {
		m := &diffMember{id: fmt.Sprint("member-", i), owned: map[[16]byte][]int32{}}
		if i < 2 {
			m.instance = str(fmt.Sprint("instance-", i))
		}
		if i == diffMembers-1 {
			m.classic, m.id, m.epoch = true, "", -1
		}
		side.members = append(side.members, m)
	}
	return side
}

// consumerAction is one request, said in symbols.
type consumerAction struct {
	op      string
	member  int
	variant int
	topics  []string
}

func (s *consumerSide) request(a consumerAction) kmsg.Request {
	m := s.members[a.member]
	switch a.op {
	case "beat", "stale", "again", "leave", "pause", "bad":
		r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		r.Group, r.MemberID, r.MemberEpoch, r.InstanceID = s.group, m.id, m.epoch, m.instance
		switch a.op {
		case "leave":
			r.MemberEpoch = -1
			return r
		case "pause":
			r.MemberEpoch = -2
			return r
		case "stale":
			r.MemberEpoch += int32(a.variant%3) - 1
		case "again":
			m.id += "'"
			r.MemberID, r.MemberEpoch = m.id, 0
		}
		if r.MemberEpoch == 0 {
			m.owned = map[[16]byte][]int32{}
		}
		if r.MemberEpoch != 0 && a.variant == 0 {
			return r // nothing to say
		}
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for topic, all := range m.owned {
			rt := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			rt.TopicID, rt.Partitions = topic, all
			r.Topics = append(r.Topics, rt)
		}
		if r.MemberEpoch == 0 || a.topics != nil {
			r.SubscribedTopicNames = append([]string{}, a.topics...)
			r.RebalanceTimeoutMillis = 300_000
		}
		if a.op == "bad" {
			switch a.variant {
			case 0:
				r.Group = ""
			case 1:
				r.MemberID = ""
			case 2:
				r.MemberEpoch = -3
			case 3:
				r.ServerAssignor = str("none")
			case 4:
				r.SubscribedTopicRegex = str("(")
			case 5:
				r.InstanceID = str("")
			case 6:
				r.MemberEpoch, r.RebalanceTimeoutMillis = 0, -1
			case 7:
				r.MemberEpoch, r.SubscribedTopicNames = 0, nil
			}
		}
		return r
	case "describe":
		r := kmsg.NewPtrConsumerGroupDescribeRequest()
		r.Groups = []string{s.group, s.group + "-none"}
		return r
	case "describeClassic":
		r := kmsg.NewPtrDescribeGroupsRequest()
		r.Groups = []string{s.group}
		return r
	case "list":
		r := kmsg.NewPtrListGroupsRequest()
		r.StatesFilter = [][]string{nil, {"Stable", "empty"}, {"Reconciling"}}[a.variant%3]
		r.TypesFilter = [][]string{nil, {"classic"}, {"Consumer"}, nil}[a.variant%4]
		return r
	case "commit":
		r := kmsg.NewPtrOffsetCommitRequest()
		r.Group, r.MemberID, r.Generation = s.group, m.id, m.epoch+int32(a.variant%3)-1
		if a.variant > 5 {
			r.MemberID, r.Generation = "", -1
		}
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic, rt.TopicID = "diff-c", s.ids["diff-c"]
		for p := range int32(4) {
			// Which partitions it has may differ between the systems: all, then, or none.
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset = p, int64(a.variant)
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
		return r
	case "fetch":
		r := kmsg.NewPtrOffsetFetchRequest()
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.MemberID, g.MemberEpoch = s.group, &m.id, m.epoch+int32(a.variant%3)-1
		if a.variant > 5 {
			g.MemberID, g.MemberEpoch = nil, -1
		}
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.TopicID, gt.Partitions = "diff-c", s.ids["diff-c"], []int32{0, 3}
		g.Topics = append(g.Topics, gt)
		r.Groups = append(r.Groups, g)
		return r
	case "deleteOffsets":
		r := kmsg.NewPtrOffsetDeleteRequest()
		r.Group = s.group
		rt := kmsg.NewOffsetDeleteRequestTopic()
		rt.Topic = "diff-c"
		rt.Partitions = append(rt.Partitions, kmsg.NewOffsetDeleteRequestTopicPartition())
		r.Topics = append(r.Topics, rt)
		return r
	case "deleteGroup":
		r := kmsg.NewPtrDeleteGroupsRequest()
		r.Groups = []string{s.group}
		return r
	case "join":
		r := kmsg.NewPtrJoinGroupRequest()
		r.Group, r.MemberID, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = s.group, m.id, 300_000, 300_000, "consumer"
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = "range", subscribe("diff-a", "diff-b")
		r.Protocols = append(r.Protocols, p)
		return r
	case "sync":
		r := kmsg.NewPtrSyncGroupRequest()
		r.Group, r.MemberID, r.Generation, r.ProtocolType, r.Protocol = s.group, m.id, m.epoch, str("consumer"), str("range")
		ga := kmsg.NewSyncGroupRequestGroupAssignment()
		ga.MemberID, ga.MemberAssignment = m.id, appendConsumerAssignment(nil, subscribe("diff-a"), map[string][]int32{"diff-a": {0, 1}})
		r.GroupAssignment = append(r.GroupAssignment, ga)
		return r
	case "classicBeat":
		r := kmsg.NewPtrHeartbeatRequest()
		r.Group, r.MemberID, r.Generation = s.group, m.id, m.epoch
		return r
	case "classicLeave":
		r := kmsg.NewPtrLeaveGroupRequest()
		r.Group = s.group
		lm := kmsg.NewLeaveGroupRequestMember()
		lm.MemberID = m.id
		r.Members = append(r.Members, lm)
		return r
	}
	panic(a.op)
}

// learn takes in what an answer says to its member, and says it in symbols.
func (s *consumerSide) learn(a consumerAction, req kmsg.Request, resp kmsg.Response) string {
	m := s.members[a.member]
	code := func(c int16) string { return wire.Code(c).Name() }
	count := func(of []kmsg.AssignmentTopicPartition) string {
		var out []string
		for _, t := range of {
			out = append(out, fmt.Sprintf("%s:%d", t.Topic, len(t.Partitions)))
		}
		slices.Sort(out)
		n := 0
		for _, t := range of {
			n += len(t.Partitions)
		}
		return fmt.Sprint(n)
	}
	switch r := resp.(type) {
	case *kmsg.ConsumerGroupHeartbeatResponse:
		out := "beat " + code(r.ErrorCode)
		asked := req.(*kmsg.ConsumerGroupHeartbeatRequest)
		if r.ErrorCode != 0 {
			if c := wire.Code(r.ErrorCode); c == wire.UnknownMemberID || c == wire.FencedMemberEpoch || c == wire.GroupIDNotFound || c == wire.FencedInstanceID {
				m.epoch, m.owned = 0, map[[16]byte][]int32{}
			}
			return out
		}
		out += fmt.Sprintf(" epoch %d interval %d", r.MemberEpoch, r.HeartbeatIntervalMillis)
		if asked.MemberEpoch < 0 {
			m.epoch, m.owned = 0, map[[16]byte][]int32{}
			return out
		}
		m.epoch = r.MemberEpoch
		if r.Assignment == nil {
			return out + " same assignment"
		}
		m.owned = map[[16]byte][]int32{}
		n := 0
		for _, t := range r.Assignment.Topics {
			m.owned[t.TopicID] = t.Partitions
			n += len(t.Partitions)
		}
		return out + fmt.Sprintf(" %d partitions", n)
	case *kmsg.ConsumerGroupDescribeResponse:
		out := "describe"
		for _, g := range r.Groups {
			out += fmt.Sprintf(" %s %s epoch %d assignment %d %s", code(g.ErrorCode), g.State, g.Epoch, g.AssignmentEpoch, g.AssignorName)
			var members []string
			for _, dm := range g.Members {
				id := dm.MemberID
				if dm.MemberType == 0 {
					id = "classic"
				}
				slices.Sort(dm.SubscribedTopics)
				members = append(members, fmt.Sprintf("%s/%v/%d/%v/%v/%d has %s of %s", id, dm.InstanceID != nil, dm.MemberEpoch, dm.SubscribedTopics,
					dm.SubscribedTopicRegex != nil && *dm.SubscribedTopicRegex == "", dm.MemberType, count(dm.Assignment.TopicPartitions), count(dm.TargetAssignment.TopicPartitions)))
			}
			slices.Sort(members)
			out += fmt.Sprint(members)
		}
		return out
	case *kmsg.DescribeGroupsResponse:
		return fmt.Sprintf("describe classic %s %s %d", code(r.Groups[0].ErrorCode), r.Groups[0].State, len(r.Groups[0].Members))
	case *kmsg.ListGroupsResponse:
		out := "list " + code(r.ErrorCode)
		for _, g := range r.Groups {
			if g.Group == s.group {
				out += fmt.Sprintf(" %s/%s/%s", g.ProtocolType, g.GroupState, g.GroupType)
			}
		}
		return out
	case *kmsg.OffsetCommitResponse:
		out := "commit"
		for _, t := range r.Topics {
			slices.SortFunc(t.Partitions, func(a, b kmsg.OffsetCommitResponseTopicPartition) int { return cmp.Compare(a.Partition, b.Partition) })
			for _, p := range t.Partitions {
				out += " " + code(p.ErrorCode)
			}
		}
		return out
	case *kmsg.OffsetFetchResponse:
		out := "fetch"
		for _, g := range r.Groups {
			out += " " + code(g.ErrorCode)
			for _, t := range g.Topics {
				slices.SortFunc(t.Partitions, func(a, b kmsg.OffsetFetchResponseGroupTopicPartition) int {
					return cmp.Compare(a.Partition, b.Partition)
				})
				for _, p := range t.Partitions {
					out += fmt.Sprintf(" %d:%d %s", p.Partition, p.Offset, code(p.ErrorCode))
				}
			}
		}
		return out
	case *kmsg.OffsetDeleteResponse:
		out := "delete offsets " + code(r.ErrorCode)
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				out += " " + code(p.ErrorCode)
			}
		}
		return out
	case *kmsg.DeleteGroupsResponse:
		return "delete group " + code(r.Groups[0].ErrorCode)
	case *kmsg.JoinGroupResponse:
		out := fmt.Sprintf("join %s generation %d leads %v", code(r.ErrorCode), r.Generation, r.LeaderID != "" && r.LeaderID == r.MemberID)
		switch wire.Code(r.ErrorCode) {
		case wire.None:
			m.id, m.epoch = r.MemberID, r.Generation
		case wire.MemberIDRequired:
			m.id = r.MemberID
		case wire.UnknownMemberID:
			m.id, m.epoch = "", -1
		}
		return out
	case *kmsg.SyncGroupResponse:
		n := 0
		if owned, _, ok := parseConsumerAssignment(r.MemberAssignment); ok {
			for _, all := range owned {
				n += len(all)
			}
		}
		return fmt.Sprintf("sync %s %d", code(r.ErrorCode), n)
	case *kmsg.HeartbeatResponse:
		return "classic beat " + code(r.ErrorCode)
	case *kmsg.LeaveGroupResponse:
		out := "leave " + code(r.ErrorCode)
		for _, lm := range r.Members {
			out += " " + code(lm.ErrorCode)
		}
		m.id, m.epoch = "", -1
		return out
	}
	return fmt.Sprintf("%T", resp)
}

func chooseConsumer(rng *rand.Rand) consumerAction {
	ops := []string{"beat", "beat", "beat", "beat", "beat", "beat", "stale", "again", "leave", "pause", "bad", "describe", "describe", "describeClassic", "list",
		"commit", "fetch", "deleteOffsets", "deleteGroup", "join", "sync", "classicBeat", "classicLeave"}
	a := consumerAction{op: ops[rng.IntN(len(ops))], member: rng.IntN(diffMembers - 1), variant: rng.IntN(8)}
	switch a.op {
	case "join", "sync", "classicBeat", "classicLeave":
		a.member = diffMembers - 1
	case "pause":
		a.member = rng.IntN(2)
	}
	if a.topics = []string{"diff-a", "diff-b"}; rng.IntN(6) == 0 {
		a.topics = [][]string{{"diff-a"}, {"diff-c"}, {"diff-a", "diff-b", "diff-c"}, {"diff-none"}}[rng.IntN(4)]
	}
	return a
}

// assigned is what an answer says of how many partitions somebody has.
var (
	assigned      = regexp.MustCompile(`has \d+ of \d+|\d+ partitions|same assignment`)
	assignedMixed = regexp.MustCompile(`has \d+ of \d+|\d+ partitions|same assignment|epoch \d+|/\d+/|Reconciling|Stable`)
)

// compareConsumers runs one sequence and returns how many requests were answered alike.
func compareConsumers(t *testing.T, seed uint64, systems ...*consumerSystem) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rng := rand.New(rand.NewPCG(seed, 7))
	var sides []*consumerSide
	for _, s := range systems {
		sides = append(sides, newConsumerSide(s, fmt.Sprintf("consumer-diff-%d", seed)))
	}
	var trace []string
	mixed := false
	for n := range 60 {
		a := chooseConsumer(rng)
		var said [2]string
		for i, s := range sides {
			req := s.request(a)
			resp := s.do(ctx, 0, req)
			if resp == nil {
				return n
			}
			said[i] = s.learn(a, req, resp)
			if strings.Contains(said[i], "NOT_COORDINATOR") || strings.Contains(said[i], "COORDINATOR_LOAD") || strings.Contains(said[i], "COORDINATOR_NOT") {
				return n
			}
		}
		trace = append(trace, fmt.Sprintf("%2d %+v\n     %s", n, a, said[0]))
		free := assigned
		if mixed = mixed || len(a.topics) != 2; mixed {
			// Where subscriptions differ, what a member has to give up, and so its epoch, follow
			// from what it was given.
			free = assignedMixed
		}
		if said[0] != said[1] && free.ReplaceAllString(said[0], "") == free.ReplaceAllString(said[1], "") {
			// The assignors chose among equals, and members have other partitions since.
			return n
		}
		if said[0] != said[1] {
			t.Errorf("seed %d: after\n%s\nKafka\n     %s", seed, strings.Join(trace, "\n"), said[1])
			return n
		}
	}
	return 60
}

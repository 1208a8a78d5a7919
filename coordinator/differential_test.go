package coordinator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/wire"
)

// TestDifferential sends the same random requests of classic groups to Apache
// Kafka and to a coordinator, and compares the answers.
//
// What is normalised: member ids (by which client got which), the order of
// members and groups in lists, error messages, throttle times, and client hosts. A sequence
// ends where the two chose different leaders or protocols: Kafka takes any member when the
// leader is gone, and any protocol of those with most votes, in the order of a hash table.
func TestDifferential(t *testing.T) {
	kafka := testkit.Shared(t, testkit.Property("group.initial.rebalance.delay.ms", "0"), testkit.Property("group.max.size", "3"),
		testkit.Property("offsets.topic.num.partitions", "1"))
	f := newFleet(t, 2, Config{InitialRebalanceDelay: -1, MaxGroupSize: 3})
	ours := &ourSystem{c: f.join(1).c}
	eventually(t, "served", func() bool { return f.ready(1) })
	kafka.CreateTopic(t, "topic", 8)
	theirs := &kafkaSystem{}
	for i := range diffClients {
		opts := []kgo.Opt{kgo.ClientID("client")}
		if i == diffOld {
			opts = append(opts, kgo.MaxVersions(kversion.V2_1_0()))
		}
		theirs.clients = append(theirs.clients, kafka.Client(t, opts...))
	}
	md, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), theirs.clients[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range md.Topics {
		if *topic.Topic == "topic" {
			theirs.id = topic.TopicID
		}
	}
	warm(t, theirs)
	steps := 0
	for seed := range uint64(6) {
		steps += compare(t, seed, ours, theirs)
	}
	t.Logf("%d requests were answered alike", steps)
	if steps < 100 {
		t.Error("too few to say anything")
	}
}

// warm waits until Kafka's coordinator answers.
func warm(t *testing.T, s system) {
	eventually(t, "Kafka's coordinator answers", func() bool {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey = "warm"
		if _, err := req.RequestWith(t.Context(), s.(*kafkaSystem).clients[0]); err != nil {
			return false
		}
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.MemberID = "warm", "nobody"
		resp, ok := s.do(t.Context(), 0, beat).(*kmsg.HeartbeatResponse)
		return ok && wire.Code(resp.ErrorCode) == wire.UnknownMemberID
	})
}

const (
	diffClients = 5
	diffOld     = 4 // speaks the versions of Kafka 2.1
)

// system answers requests of clients.
type system interface {
	do(ctx context.Context, client int, req kmsg.Request) kmsg.Response
	topic() [16]byte
}

type kafkaSystem struct {
	clients []*kgo.Client
	id      [16]byte
}

func (k *kafkaSystem) topic() [16]byte { return k.id }

func (k *kafkaSystem) do(ctx context.Context, client int, req kmsg.Request) kmsg.Response {
	brokers := k.clients[client].DiscoveredBrokers()
	if len(brokers) == 0 {
		if err := k.clients[client].Ping(ctx); err != nil {
			return nil
		}
		brokers = k.clients[client].DiscoveredBrokers()
	}
	resp, err := brokers[0].Request(ctx, req)
	if err != nil {
		return nil
	}
	return resp
}

type ourSystem struct{ c *Coordinator }

func (o *ourSystem) topic() [16]byte { return idOf("topic") }

// do sends both ways through the encoding, as some fields are in some versions only.
func (o *ourSystem) do(ctx context.Context, client int, req kmsg.Request) kmsg.Response {
	resp := o.answer(ctx, client, req)
	out := req.ResponseKind()
	if err := out.ReadFrom(resp.AppendTo(nil)); err != nil {
		return nil
	}
	return out
}

func (o *ourSystem) answer(ctx context.Context, client int, req kmsg.Request) kmsg.Response {
	version := req.MaxVersion()
	if client == diffOld {
		version, _ = kversion.V2_1_0().LookupMaxKeyVersion(req.Key())
	}
	req.SetVersion(version)
	sent := req
	req = kmsg.RequestForKey(sent.Key())
	req.SetVersion(version)
	if err := req.ReadFrom(sent.AppendTo(nil)); err != nil {
		return nil
	}
	switch r := req.(type) {
	case *kmsg.JoinGroupRequest:
		return o.c.JoinGroup(ctx, caller, r)
	case *kmsg.SyncGroupRequest:
		return o.c.SyncGroup(ctx, caller, r)
	case *kmsg.HeartbeatRequest:
		return o.c.Heartbeat(ctx, caller, r)
	case *kmsg.LeaveGroupRequest:
		return o.c.LeaveGroup(ctx, caller, r)
	case *kmsg.OffsetCommitRequest:
		return o.c.OffsetCommit(ctx, caller, r)
	case *kmsg.OffsetFetchRequest:
		return o.c.OffsetFetch(ctx, caller, r)
	case *kmsg.OffsetDeleteRequest:
		return o.c.OffsetDelete(ctx, caller, r)
	case *kmsg.DescribeGroupsRequest:
		return o.c.DescribeGroups(ctx, caller, r)
	case *kmsg.ListGroupsRequest:
		return o.c.ListGroups(ctx, caller, r)
	case *kmsg.ConsumerGroupHeartbeatRequest:
		return o.c.ConsumerGroupHeartbeat(ctx, caller, r)
	case *kmsg.ConsumerGroupDescribeRequest:
		return o.c.ConsumerGroupDescribe(ctx, caller, r)
	case *kmsg.DeleteGroupsRequest:
		return o.c.DeleteGroups(ctx, caller, r)
	}
	return nil
}

// compare runs one sequence and returns how many requests were answered alike.
func compare(t *testing.T, seed uint64, systems ...system) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	rng := rand.New(rand.NewPCG(seed, 1))
	var sides []*side
	for _, s := range systems {
		sides = append(sides, newSide(s, fmt.Sprintf("diff-%d", seed)))
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var actions []action
	var trace []string
	compared := 0
	for len(actions) < 60 {
		a, ok := choose(rng, sides[0])
		if !ok {
			continue
		}
		n := len(actions)
		actions = append(actions, a)
		for _, s := range sides {
			s.send(ctx, &wg, n, a)
		}
		answers, alike := settled(sides, n)
		if !alike {
			if sides[1].away() {
				return compared
			}
			t.Fatalf("seed %d: after %v, ours has answered %v, Kafka %v\n%s", seed, a, sides[0].answered(), sides[1].answered(), strings.Join(trace, "\n"))
		}
		for _, n := range answers {
			var said, leads [2]string
			if sides[1].away() {
				return compared
			}
			for i, s := range sides {
				s.mu.Lock()
				said[i], leads[i] = s.learn(actions[n], s.done[n])
				delete(s.done, n)
				s.mu.Unlock()
			}
			trace = append(trace, fmt.Sprintf("%2d answers %2d %v\n     %s", len(actions)-1, n, actions[n], said[0]))
			if leads[0] != leads[1] {
				return compared
			}
			if said[0] != said[1] {
				t.Errorf("seed %d: after\n%s\nKafka\n     %s", seed, strings.Join(trace, "\n"), said[1])
				return compared
			}
			compared++
		}
	}
	return compared
}

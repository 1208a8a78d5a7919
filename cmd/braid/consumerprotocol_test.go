package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/clients"
)

// TestConsumerProtocolLivesThroughMovesAndKills: the families that speak the consumer
// protocol (KIP-848) produce and consume in groups of it, all at once, while their
// topics move between clusters, which rebalances nothing, and one of two gateways is
// killed and comes back.
func TestConsumerProtocolLivesThroughMovesAndKills(t *testing.T) {
	t.Parallel()
	moves := movesWanted(t, 2, 10)
	up := startUp(t)
	other := up.gateway()
	bootstrap := up.ready.Kafka[0] + "," + other.ready.Kafka[0]
	cl, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka[0]), kgo.RetryTimeout(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	families := []clients.Family{clients.Java, clients.Confluent, clients.Franz}
	var sessions []*clients.Session
	over := make(chan struct{}) // until then nobody leaves a group, however long the moves take
	var topics, groups []string
	count := int64(4000)
	if testing.Short() {
		count = 1200
	}
	for i, family := range families {
		topic := "next-" + string(family)
		up.must("topic", "create", topic, "--partitions", "4", "--cluster", "a")
		topics, groups = append(topics, topic), append(groups, "group-"+topic)
		sessions = append(sessions, clients.Start(t, family, clients.Options{
			Bootstrap: bootstrap, Topic: topic, Partitions: 4, Producer: int32(i), Count: int(count), Rate: 200,
			Group: "group-" + topic, Protocol: "consumer", Timeout: 10 * time.Minute, Hold: over,
		}))
	}
	// stable gives the groups' epochs, when all are stable.
	stable := func(what string) map[string]int32 {
		t.Helper()
		epochs := map[string]int32{}
		eventually(t, patience, "groups are stable "+what, func() bool {
			all, err := adm.DescribeConsumerGroups(t.Context(), groups...)
			if err != nil {
				return false
			}
			for _, g := range all {
				if g.Err != nil || g.State != "Stable" || len(g.Members) != 1 || len(g.AssignedPartitions()["next-"+strings.TrimPrefix(g.Group, "group-next-")]) != 4 {
					return false
				}
				epochs[g.Group] = g.Epoch
			}
			return len(epochs) == len(groups)
		})
		return epochs
	}
	before := stable("at first")
	for n := range moves {
		to := []string{"b", "a"}[n%2]
		op, err := up.move(t.Context(), to, topics...)
		if err != nil || op.State != "done" {
			t.Fatalf("move %d to %s: %v: %s %s", n, to, err, op.State, op.Message)
		}
	}
	for group, epoch := range stable("after the moves") {
		if epoch != before[group] {
			t.Errorf("moves took group %s from epoch %d to %d", group, before[group], epoch)
		}
	}
	// Groups of the killed gateway go on at the other one when its lease has ended.
	other.kill()
	said := ""
	eventually(t, patience, "all groups have their coordinator on the gateway that is left", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		// A client that keeps coordinators in mind tries the dead one until its next metadata.
		cl, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		all, err := kadm.NewClient(cl).DescribeConsumerGroups(ctx, groups...)
		for _, g := range groups {
			err = errors.Join(err, all[g].Err)
		}
		if now := fmt.Sprint(err); now != said {
			t.Log(now)
			said = now
		}
		return err == nil && len(all) == len(groups)
	})
	other.start()
	close(over)
	for i, s := range sessions {
		r, err := s.Wait()
		if err != nil {
			t.Errorf("%s: %v\n%s", families[i], err, &r)
		} else if !r.OK() || !r.Complete() || r.Acknowledged != count || r.Found != count {
			t.Errorf("%s:\n%s", families[i], &r)
		}
	}
}

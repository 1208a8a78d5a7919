package testkit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// UncleanElection makes a partition of a three-node cluster lose acknowledged records: its follower
// dies, the leader goes on alone, meanwhile is called and appends what is to be lost, the leader
// dies, the follower comes back and is elected although it lacks those records, and then the old
// leader comes back and cuts its log to the new leader's.
//
// The topic has two replicas and min.insync.replicas=1, so that a leader may go on alone while the
// controllers, which are the nodes themselves, keep their majority. It returns
// when all three nodes serve and the new leader is known; an error of meanwhile ends it early, with
// the follower still down.
func (c *Cluster) UncleanElection(ctx context.Context, topic string, partition int32, meanwhile func() error) error {
	if len(c.nodes) != 3 {
		return fmt.Errorf("unclean election: %d nodes: it takes 3", len(c.nodes))
	}
	cl, err := c.open()
	if err != nil {
		return fmt.Errorf("unclean election: %w", err)
	}
	defer cl.Close()
	fail := func(err error) error { return fmt.Errorf("unclean election of %s-%d: %w", topic, partition, err) }

	p, err := describe(ctx, cl, topic, partition)
	if err != nil {
		return fail(err)
	}
	if len(p.Replicas) != 2 || p.Leader < 0 {
		return fail(fmt.Errorf("leader %d, replicas %v: it takes a leader and two replicas", p.Leader, p.Replicas))
	}
	// On a busy machine the follower may have fallen out of step: what is lost shall be only what comes meanwhile.
	inSync := func() error {
		var err error
		if p, err = describe(ctx, cl, topic, partition); err == nil && (p.Leader < 0 || len(p.ISR) != 2) {
			err = fmt.Errorf("leader %d, in sync %v", p.Leader, p.ISR)
		}
		return err
	}
	if err := poll(ctx, inSync); err != nil {
		return fail(err)
	}
	leader, follower := p.Leader, p.Replicas[0]
	if follower == leader {
		follower = p.Replicas[1]
	}
	if err := c.Node(int(follower)).Kill(); err != nil {
		return fail(err)
	}
	alone := func() error {
		p, err := describe(ctx, cl, topic, partition)
		if err == nil && (p.Leader != leader || len(p.ISR) != 1) {
			err = fmt.Errorf("leader %d, in sync %v", p.Leader, p.ISR)
		}
		return err
	}
	if err := poll(ctx, alone); err != nil {
		return fail(err)
	}
	if err := meanwhile(); err != nil {
		return fail(err)
	}
	if err := c.Node(int(leader)).Kill(); err != nil {
		return fail(err)
	}
	if err := c.Node(int(follower)).Start(ctx); err != nil {
		return fail(err)
	}
	err = poll(ctx, func() error {
		// Asked again and again: it takes the controllers a while to see that the leader is dead.
		if err := elect(ctx, cl, topic, partition); err != nil {
			return err
		}
		p, err := describe(ctx, cl, topic, partition)
		if err == nil && p.Leader != follower {
			err = fmt.Errorf("leader %d", p.Leader)
		}
		return err
	})
	if err != nil {
		return fail(err)
	}
	if err := c.Node(int(leader)).Start(ctx); err != nil {
		return fail(err)
	}
	err = poll(ctx, func() error {
		p, err := describe(ctx, cl, topic, partition)
		if err == nil && (p.Leader < 0 || len(p.ISR) != 2) {
			err = fmt.Errorf("leader %d, in sync %v", p.Leader, p.ISR)
		}
		return err
	})
	if err != nil {
		return fail(err)
	}
	return nil
}

// describe asks for one partition. A partition without a leader is no error.
func describe(ctx context.Context, cl *kgo.Client, topic string, partition int32) (kmsg.MetadataResponseTopicPartition, error) {
	var none kmsg.MetadataResponseTopicPartition
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, t)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return none, err
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return none, err
		}
		for _, p := range t.Partitions {
			if p.Partition == partition {
				return p, nil
			}
		}
	}
	return none, errors.New("no such partition")
}

// electUnclean is the election type of KIP-460 that takes replicas which are not in sync.
const electUnclean = 1

func elect(ctx context.Context, cl *kgo.Client, topic string, partition int32) error {
	req := kmsg.NewPtrElectLeadersRequest()
	req.ElectionType = electUnclean
	t := kmsg.NewElectLeadersRequestTopic()
	t.Topic, t.Partitions = topic, []int32{partition}
	req.Topics = append(req.Topics, t)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			// A leader that is alive, or believed so, is no failure: whoever it is shows next.
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil && !errors.Is(err, kerr.ElectionNotNeeded) {
				return err
			}
		}
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// coordinate asks for a coordinator until there is one. It is always who was asked: all peers are one
// broker or one gateway.
func (c *rawConn) coordinate(kind int8, key string) error {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version = 3
	req.CoordinatorKey, req.CoordinatorType = key, kind
	return c.until("find coordinator of "+key, req, func(resp kmsg.Response) int16 {
		return resp.(*kmsg.FindCoordinatorResponse).ErrorCode
	})
}

// until repeats a request while its answer's code says that it may be taken later.
func (c *rawConn) until(what string, req kmsg.Request, code func(kmsg.Response) int16) error {
	for try := 0; ; try++ {
		resp, err := c.roundTrip(req)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		err = kerr.ErrorForCode(code(resp))
		if err == nil {
			return nil
		}
		if !kerr.IsRetriable(err) || try == 300 {
			return fmt.Errorf("%s: %w", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func commitRequest(group, topic string, partitions int32) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, group, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	for p := range partitions {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = p, 1
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// committed is the first code of an answer that says something.
func committed(resp kmsg.Response) int16 {
	for _, t := range resp.(*kmsg.OffsetCommitResponse).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return p.ErrorCode
			}
		}
	}
	return 0
}

// commit is a consumer without members that commits all partitions of the topic, at the plan's rate.
func (l *loader) commit(ctx context.Context, number int, warm func()) error {
	p := &l.plan
	c, err := dialRaw(ctx, p.Addr, p.ClientID)
	if err != nil {
		return err
	}
	defer c.close()
	req := commitRequest(fmt.Sprint(p.Prefix, number), p.Topic, p.Partitions)
	if err := c.coordinate(0, req.Group); err != nil {
		return err
	}
	if err := c.until("first commit", req, committed); err != nil {
		return err
	}
	warm()
	pace := newPacer(p.Rate/float64(p.Connections), number, p.Connections)
	for {
		due, err := pace.wait(ctx, 1)
		if err != nil {
			return err
		}
		resp, err := c.roundTrip(req)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(committed(resp)); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		l.answered(1, 0, time.Since(due))
	}
}

func joinRequest(group, member, topic string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID = 7, group, member
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = 60_000, 60_000, "consumer"
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Topics = []string{topic}
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", meta.AppendTo(nil)
	req.Protocols = append(req.Protocols, p)
	return req
}

func syncRequest(group string, r *kmsg.JoinGroupResponse) *kmsg.SyncGroupRequest {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 5, group, r.MemberID, r.Generation
	req.ProtocolType, req.Protocol = r.ProtocolType, r.Protocol
	for _, m := range r.Members {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = m.MemberID, []byte{0, 0, 0, 0, 0, 0, 255, 255, 255, 255}
		req.GroupAssignment = append(req.GroupAssignment, a)
	}
	return req
}

// member gets a member's id, as clients do since KIP-394.
func (c *rawConn) member(group, topic string) (string, error) {
	answer, err := c.roundTrip(joinRequest(group, "", topic))
	if err != nil {
		return "", err
	}
	resp := answer.(*kmsg.JoinGroupResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil && err != kerr.MemberIDRequired {
		return "", fmt.Errorf("join %s: %w", group, err)
	}
	return resp.MemberID, nil
}

// join joins a group that is empty, takes its assignment and leaves, at the plan's rate. The time is that
// from the first request to the assignment.
func (l *loader) join(ctx context.Context, number int, warm func()) error {
	p := &l.plan
	c, err := dialRaw(ctx, p.Addr, p.ClientID)
	if err != nil {
		return err
	}
	defer c.close()
	group := fmt.Sprint(p.Prefix, number)
	if err := c.coordinate(0, group); err != nil {
		return err
	}
	// Until the coordinator answers for the group.
	if err := c.until("first commit", commitRequest(group, p.Topic, 1), committed); err != nil {
		return err
	}
	pace := newPacer(p.Rate/float64(p.Connections), number, p.Connections)
	for {
		due, err := pace.wait(ctx, 1)
		if err != nil {
			return err
		}
		id, err := c.member(group, p.Topic)
		if err != nil {
			return err
		}
		answer, err := c.roundTrip(joinRequest(group, id, p.Topic))
		if err != nil {
			return err
		}
		joined := answer.(*kmsg.JoinGroupResponse)
		if err := kerr.ErrorForCode(joined.ErrorCode); err != nil {
			return fmt.Errorf("join %s: %w", group, err)
		}
		if answer, err = c.roundTrip(syncRequest(group, joined)); err != nil {
			return err
		}
		if err := kerr.ErrorForCode(answer.(*kmsg.SyncGroupResponse).ErrorCode); err != nil {
			return fmt.Errorf("sync %s: %w", group, err)
		}
		l.answered(1, 0, time.Since(due))
		warm()
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Version, leave.Group = 4, group
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID = id
		leave.Members = append(leave.Members, m)
		if _, err := c.roundTrip(leave); err != nil {
			return err
		}
	}
}

// beatEvery is how often a member's heartbeat comes, as clients do by default.
const beatEvery = 3 * time.Second

// steady is a share of the groups, each with three members on three connections, that then only send
// heartbeats. Its connections are three for each of the plan's.
func (l *loader) steady(ctx context.Context, number int, warm func()) error {
	p := &l.plan
	var conns [3]*rawConn
	for i := range conns {
		c, err := dialRaw(ctx, p.Addr, p.ClientID)
		if err != nil {
			return err
		}
		defer c.close()
		conns[i] = c
	}
	type beat struct {
		c   *rawConn
		req *kmsg.HeartbeatRequest
	}
	var beats []beat
	for g := number; g < p.Groups; g += p.Connections {
		group := fmt.Sprint(p.Prefix, g)
		if err := conns[0].coordinate(0, group); err != nil {
			return err
		}
		if err := conns[0].until("first commit", commitRequest(group, p.Topic, 1), committed); err != nil {
			return err
		}
		members, err := assemble(conns, group, p.Topic)
		if err != nil {
			return err
		}
		for i, m := range members {
			req := kmsg.NewPtrHeartbeatRequest()
			req.Version, req.Group, req.MemberID, req.Generation = 4, group, m.MemberID, m.Generation
			beats = append(beats, beat{conns[i], req})
		}
	}
	warm()
	pace := newPacer(float64(len(beats))/beatEvery.Seconds(), number, p.Connections)
	for i := 0; ; i++ {
		due, err := pace.wait(ctx, 1)
		if err != nil {
			return err
		}
		b := beats[i%len(beats)]
		answer, err := b.c.roundTrip(b.req)
		if err != nil {
			return err
		}
		if err := kerr.ErrorForCode(answer.(*kmsg.HeartbeatResponse).ErrorCode); err != nil {
			return fmt.Errorf("heartbeat of %s: %w", b.req.Group, err)
		}
		l.answered(1, 0, time.Since(due))
	}
}

// assemble brings three members into a group: each that joins makes those before it join again.
func assemble(conns [3]*rawConn, group, topic string) (members [3]*kmsg.JoinGroupResponse, err error) {
	var ids [3]string
	for n := range conns {
		if ids[n], err = conns[n].member(group, topic); err != nil {
			return members, err
		}
		for i := n; i >= 0; i-- { // the newcomer first
			if err := conns[i].send(joinRequest(group, ids[i], topic)); err != nil {
				return members, err
			}
			if i == n && n > 0 {
				// Who joins again before the newcomer's request is in gets the old generation once more.
				if err := conns[0].rebalancing(group, members[0]); err != nil {
					return members, err
				}
			}
		}
		for i := range n + 1 {
			r := kmsg.NewPtrJoinGroupResponse()
			r.Version = 7
			if err := conns[i].answer(r); err != nil {
				return members, err
			}
			if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
				return members, fmt.Errorf("join %s: %w", group, err)
			}
			members[i] = r
		}
	}
	for i, c := range conns {
		if err := c.send(syncRequest(group, members[i])); err != nil {
			return members, err
		}
	}
	for _, c := range conns {
		r := kmsg.NewPtrSyncGroupResponse()
		r.Version = 5
		if err := c.answer(r); err != nil {
			return members, err
		}
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return members, fmt.Errorf("sync %s: %w", group, err)
		}
	}
	return members, nil
}

// rebalancing sends heartbeats until the group is rebalanced.
func (c *rawConn) rebalancing(group string, m *kmsg.JoinGroupResponse) error {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 4, group, m.MemberID, m.Generation
	for range 10_000 {
		answer, err := c.roundTrip(req)
		if err != nil {
			return err
		}
		switch err := kerr.ErrorForCode(answer.(*kmsg.HeartbeatResponse).ErrorCode); err {
		case kerr.RebalanceInProgress:
			return nil
		case nil:
			time.Sleep(time.Millisecond)
		default:
			return fmt.Errorf("heartbeat of %s: %w", group, err)
		}
	}
	return fmt.Errorf("group %s is not rebalanced", group)
}

// answer waits for the answer to what was sent.
func (c *rawConn) answer(resp kmsg.Response) error {
	if err := c.nc.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	b, err := c.receive()
	if err != nil {
		return err
	}
	return decode(resp, b)
}

// metadata asks for all topics, one request after the other on each connection.
func (l *loader) metadata(ctx context.Context, number int, warm func()) error {
	p := &l.plan
	c, err := dialRaw(ctx, p.Addr, p.ClientID)
	if err != nil {
		return err
	}
	defer c.close()
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	pace := newPacer(p.Rate/float64(p.Connections), number, p.Connections)
	for {
		due, err := pace.wait(ctx, 1)
		if err != nil {
			return err
		}
		if err := c.nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if err := c.send(req); err != nil {
			return err
		}
		// Not decoded: that is the client's time.
		b, err := c.receive()
		if err != nil {
			return err
		}
		l.answered(1, int64(len(b)), time.Since(due))
		warm()
	}
}

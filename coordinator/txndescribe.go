package coordinator

import (
	"context"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// DescribeTransactions, version 0, and ListTransactions, versions 0 to 2, as
// Apache Kafka 4.3. A gateway lists the transactional ids of the shards that it has.

// DescribeTransactions tells the state of transactional ids, each of which may
// belong to another gateway.
func (c *Coordinator) DescribeTransactions(ctx context.Context, caller Caller, req *kmsg.DescribeTransactionsRequest) *kmsg.DescribeTransactionsResponse {
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	resp.Version = req.Version
	for _, id := range req.TransactionalIDs {
		s := kmsg.NewDescribeTransactionsResponseTransactionState()
		s.TransactionalID, s.ProducerID, s.ProducerEpoch, s.StartTimestamp = id, noID, noEpoch, -1
		t, code := ask(ctx, c, groupKey{caller.Tenant, id}, func(m *machine) (*transaction, wire.Code) {
			t := m.txns[groupKey{caller.Tenant, id}]
			if id == "" {
				return nil, wire.InvalidRequest
			}
			if t == nil {
				return nil, wire.TransactionalIDNotFound
			}
			return t.clone(), wire.None
		})
		if s.ErrorCode = int16(code); code == wire.None {
			s.State, s.TimeoutMillis, s.ProducerID, s.ProducerEpoch = t.state.String(), t.timeout, t.producer, t.epoch
			if t.state == txnOngoing {
				s.StartTimestamp = t.started
			}
			byName := map[string]int{}
			for _, k := range t.sortedParts() {
				topic, ok := c.directory.TopicByID(k.topic)
				if !ok {
					continue
				}
				i, seen := byName[topic.Name]
				if !seen {
					i = len(s.Topics)
					byName[topic.Name] = i
					rt := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
					rt.Topic = topic.Name
					s.Topics = append(s.Topics, rt)
				}
				s.Topics[i].Partitions = append(s.Topics[i].Partitions, k.partition)
			}
		}
		resp.TransactionStates = append(resp.TransactionStates, s)
	}
	return resp
}

// ListTransactions lists the transactional ids that this gateway coordinates.
func (c *Coordinator) ListTransactions(_ context.Context, caller Caller, req *kmsg.ListTransactionsRequest) *kmsg.ListTransactionsResponse {
	resp := kmsg.NewPtrListTransactionsResponse()
	resp.Version = req.Version
	var pattern *regexp.Regexp
	if req.Version >= 2 && req.TransactionalIDPattern != nil && *req.TransactionalIDPattern != "" {
		var err error
		// RE2: time linear in its input, whatever the pattern.
		if pattern, err = regexp.Compile("^(?:" + *req.TransactionalIDPattern + ")$"); err != nil {
			resp.ErrorCode = int16(wire.InvalidRegularExpression)
			return resp
		}
	}
	for _, s := range req.StateFilters {
		known := false
		for st := range txnStates {
			known = known || st.String() == s
		}
		if !known {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, s)
		}
	}
	loading := false
	for _, s := range c.owned() {
		code := s.do(func(m *machine) {
			for key, t := range m.txns {
				switch {
				case key.tenant != caller.Tenant,
					len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, t.state.String()),
					len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, t.producer),
					req.Version >= 1 && req.DurationFilterMillis >= 0 && (t.state != txnOngoing || m.now-t.started <= req.DurationFilterMillis),
					pattern != nil && !pattern.MatchString(key.group):
					continue
				}
				out := kmsg.NewListTransactionsResponseTransactionState()
				out.TransactionalID, out.ProducerID, out.TransactionState = key.group, t.producer, t.state.String()
				resp.TransactionStates = append(resp.TransactionStates, out)
			}
		})
		loading = loading || code == wire.CoordinatorLoadInProgress
	}
	if loading {
		resp.ErrorCode = int16(wire.CoordinatorLoadInProgress)
		resp.TransactionStates = nil
	}
	return resp
}

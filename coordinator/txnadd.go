package coordinator

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// AddPartitionsToTxn, versions 0 to 5, and AddOffsetsToTxn, versions 0 to 4, as
// Apache Kafka 4.3. What they add is only a name; where its records go is told
// by the gateway that appends them (Enlist).
//
// Differences: versions 4 and 5 of AddPartitionsToTxn, which are for brokers, are
// served to anybody.

// addRequest adds to a transaction.
type addRequest struct {
	key      groupKey
	producer int64
	epoch    int16
	parts    []partKey
	groups   []string
	verify   bool // change nothing, tell whether they are in it
}

// AddPartitionsToTxn adds partitions to the transactions of producers.
func (c *Coordinator) AddPartitionsToTxn(ctx context.Context, caller Caller, req *kmsg.AddPartitionsToTxnRequest) *kmsg.AddPartitionsToTxnResponse {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	resp.Version = req.Version
	if req.Version < 4 {
		topics := make([]kmsg.AddPartitionsToTxnRequestTransactionTopic, len(req.Topics))
		for i := range req.Topics {
			topics[i].Topic, topics[i].Partitions = req.Topics[i].Topic, req.Topics[i].Partitions
		}
		codes := c.addPartitions(ctx, caller, req.TransactionalID, req.ProducerID, req.ProducerEpoch, topics, false, req.Version)
		for i := range topics {
			t := kmsg.NewAddPartitionsToTxnResponseTopic()
			t.Topic = topics[i].Topic
			for j, p := range topics[i].Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p, int16(codes[i][j])
				t.Partitions = append(t.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp
	}
	for i := range req.Transactions {
		rt := &req.Transactions[i]
		codes := c.addPartitions(ctx, caller, rt.TransactionalID, rt.ProducerID, rt.ProducerEpoch, rt.Topics, rt.VerifyOnly, req.Version)
		out := kmsg.NewAddPartitionsToTxnResponseTransaction()
		out.TransactionalID = rt.TransactionalID
		for j := range rt.Topics {
			t := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
			t.Topic = rt.Topics[j].Topic
			for k, p := range rt.Topics[j].Partitions {
				rp := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
				rp.Partition, rp.ErrorCode = p, int16(codes[j][k])
				t.Partitions = append(t.Partitions, rp)
			}
			out.Topics = append(out.Topics, t)
		}
		resp.Transactions = append(resp.Transactions, out)
	}
	return resp
}

// addPartitions returns a code for each partition of each topic. If one of them
// is not there, none is added.
func (c *Coordinator) addPartitions(ctx context.Context, caller Caller, id string, producer int64, epoch int16,
	topics []kmsg.AddPartitionsToTxnRequestTransactionTopic, verify bool, version int16) [][]wire.Code {
	codes := make([][]wire.Code, len(topics))
	r := &addRequest{key: groupKey{caller.Tenant, id}, producer: producer, epoch: epoch, verify: verify}
	unknown := false
	for i := range topics {
		codes[i] = make([]wire.Code, len(topics[i].Partitions))
		topic, ok := c.lookUp(ctx, caller.Tenant, topics[i].Topic, [16]byte{}, false)
		for j, p := range topics[i].Partitions {
			if !ok || p < 0 || p >= topic.Partitions {
				codes[i][j], unknown = wire.UnknownTopicOrPartition, true
				continue
			}
			r.parts = append(r.parts, partKey{topic.ID, p})
		}
	}
	code := wire.OperationNotAttempted
	if !unknown {
		if _, code = c.add(ctx, r); code == wire.ProducerFenced && version < 2 {
			code = wire.InvalidProducerEpoch
		}
	}
	for i := range codes {
		for j := range codes[i] {
			if codes[i][j] == wire.None {
				codes[i][j] = code
			}
		}
	}
	return codes
}

// AddOffsetsToTxn adds a group, whose offsets come by TxnOffsetCommit, to a transaction.
func (c *Coordinator) AddOffsetsToTxn(ctx context.Context, caller Caller, req *kmsg.AddOffsetsToTxnRequest) *kmsg.AddOffsetsToTxnResponse {
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	resp.Version = req.Version
	code := wire.InvalidGroupID
	if req.Group != "" && len(req.Group) <= maxName {
		_, code = c.add(ctx, &addRequest{key: groupKey{caller.Tenant, req.TransactionalID}, producer: req.ProducerID, epoch: req.ProducerEpoch, groups: []string{req.Group}})
	}
	if code == wire.ProducerFenced && req.Version < 2 {
		code = wire.InvalidProducerEpoch
	}
	resp.ErrorCode = int16(code)
	return resp
}

// add tells when the transaction began too.
func (c *Coordinator) add(ctx context.Context, r *addRequest) (began int64, code wire.Code) {
	if r.key.group == "" || len(r.key.group) > maxName {
		return 0, wire.InvalidRequest
	}
	return ask(ctx, c, r.key, func(m *machine) (int64, wire.Code) {
		if code := m.addToTxn(r); code != wire.None {
			return 0, code
		}
		return m.txns[r.key].started, wire.None
	})
}

// addToTxn adds what is not in the transaction yet, and begins one if there is none.
func (m *machine) addToTxn(r *addRequest) wire.Code {
	t, code := m.checkTxn(r.key, r.producer, r.epoch)
	switch {
	case code != wire.None:
		return code
	case t.state.decided():
		return wire.ConcurrentTransactions
	case r.verify:
		for _, k := range r.parts {
			if t.state != txnOngoing || t.parts[k] == nil {
				return wire.TransactionAbortable
			}
		}
		for _, g := range r.groups {
			if t.state != txnOngoing || !t.groups[g] {
				return wire.InvalidTxnState
			}
		}
		return wire.None
	}
	return m.grow(t, r.parts, r.groups)
}

func (m *machine) grow(t *transaction, parts []partKey, groups []string) wire.Code {
	ongoing := t.state == txnOngoing
	var freshParts []partKey
	var freshGroups []string
	for _, k := range parts {
		if !ongoing || t.parts[k] == nil {
			freshParts = append(freshParts, k)
		}
	}
	for _, g := range groups {
		if !ongoing || !t.groups[g] {
			freshGroups = append(freshGroups, g)
		}
	}
	if ongoing && len(freshParts)+len(freshGroups) == 0 {
		return wire.None
	}
	if ongoing && (len(t.parts)+len(freshParts) > maxTxnParts || len(t.groups)+len(freshGroups) > maxTxnGroups) {
		return wire.InvalidRequest
	}
	more := int64(len(freshParts)) * weightPart
	for _, g := range freshGroups {
		more += weightOfName(g)
	}
	if !m.mayHold(t.key.tenant, more) {
		return wire.PolicyViolation
	}
	m.beginTxn(t)
	for _, k := range freshParts {
		t.part(k, &txnPart{})
	}
	for _, g := range freshGroups {
		t.addGroup(g)
	}
	m.emit(t.encodeAdded(freshParts, freshGroups, nil))
	if !ongoing {
		m.armTxn(t)
	}
	return wire.None
}

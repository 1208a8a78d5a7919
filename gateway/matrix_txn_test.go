package gateway

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// txnRequests are the requests of TestEveryKeyEveryVersion for keys of
// transactions, by a producer that nobody knows.
func txnRequests(topic catalog.Topic) map[int16]func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
	const id, producer = "nobody", int64(4711)
	return map[int16]func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error){
		keyAddPartitionsToTxn: func(_ *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrAddPartitionsToTxnRequest()
			req.TransactionalID, req.ProducerID = id, producer
			req.Topics = append(req.Topics, kmsg.AddPartitionsToTxnRequestTopic{Topic: topic.Name, Partitions: []int32{0}})
			x := kmsg.NewAddPartitionsToTxnRequestTransaction()
			x.TransactionalID, x.ProducerID = id, producer
			x.Topics = append(x.Topics, kmsg.AddPartitionsToTxnRequestTransactionTopic{Topic: topic.Name, Partitions: []int32{0, 9}})
			req.Transactions = append(req.Transactions, x)
			return req, func(resp kmsg.Response) error {
				a := resp.(*kmsg.AddPartitionsToTxnResponse)
				if v < 4 {
					return wantCode(a.Topics[0].Partitions[0].ErrorCode, wire.InvalidProducerIDMapping)
				}
				ps := a.Transactions[0].Topics[0].Partitions
				if err := wantCode(ps[1].ErrorCode, wire.UnknownTopicOrPartition); err != nil {
					return err
				}
				return wantCode(ps[0].ErrorCode, wire.OperationNotAttempted)
			}
		},
		keyAddOffsetsToTxn: func(*testing.T, int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrAddOffsetsToTxnRequest()
			req.TransactionalID, req.ProducerID, req.Group = id, producer, "g"
			return req, func(resp kmsg.Response) error {
				return wantCode(resp.(*kmsg.AddOffsetsToTxnResponse).ErrorCode, wire.InvalidProducerIDMapping)
			}
		},
		keyEndTxn: func(*testing.T, int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrEndTxnRequest()
			req.TransactionalID, req.ProducerID = id, producer
			return req, func(resp kmsg.Response) error {
				return wantCode(resp.(*kmsg.EndTxnResponse).ErrorCode, wire.InvalidProducerIDMapping)
			}
		},
		keyTxnOffsetCommit: func(*testing.T, int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrTxnOffsetCommitRequest()
			req.TransactionalID, req.ProducerID, req.Group = id, producer, "g"
			rt := kmsg.NewTxnOffsetCommitRequestTopic()
			rt.Topic = topic.Name
			for _, p := range []int32{0, 9} {
				rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
				rp.Partition = p
				rt.Partitions = append(rt.Partitions, rp)
			}
			req.Topics = append(req.Topics, rt)
			return req, func(resp kmsg.Response) error {
				ps := resp.(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions
				if err := wantCode(ps[1].ErrorCode, wire.UnknownTopicOrPartition); err != nil {
					return err
				}
				return wantCode(ps[0].ErrorCode, wire.InvalidProducerIDMapping)
			}
		},
		keyDescribeProducers: func(*testing.T, int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeProducersRequest()
			req.Topics = append(req.Topics, kmsg.DescribeProducersRequestTopic{Topic: topic.Name, Partitions: []int32{0, 9}})
			return req, func(resp kmsg.Response) error {
				ps := resp.(*kmsg.DescribeProducersResponse).Topics[0].Partitions
				if err := wantCode(ps[0].ErrorCode, wire.None); err != nil {
					return err
				}
				return wantCode(ps[1].ErrorCode, wire.UnknownTopicOrPartition)
			}
		},
		keyWriteTxnMarkers: func(*testing.T, int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrWriteTxnMarkersRequest()
			for _, commit := range []bool{false, true} {
				m := kmsg.NewWriteTxnMarkersRequestMarker()
				m.ProducerID, m.Committed = producer, commit
				m.Topics = append(m.Topics, kmsg.WriteTxnMarkersRequestMarkerTopic{Topic: topic.Name, Partitions: []int32{0, 9}})
				req.Markers = append(req.Markers, m)
			}
			return req, func(resp kmsg.Response) error {
				ms := resp.(*kmsg.WriteTxnMarkersResponse).Markers
				if err := wantCode(ms[0].Topics[0].Partitions[0].ErrorCode, wire.None); err != nil {
					return err
				}
				if err := wantCode(ms[0].Topics[0].Partitions[1].ErrorCode, wire.UnknownTopicOrPartition); err != nil {
					return err
				}
				return wantCode(ms[1].Topics[0].Partitions[0].ErrorCode, wire.InvalidRequest)
			}
		},
		keyDescribeTransactions: func(*testing.T, int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeTransactionsRequest()
			req.TransactionalIDs = []string{id}
			return req, func(resp kmsg.Response) error {
				return wantCode(resp.(*kmsg.DescribeTransactionsResponse).TransactionStates[0].ErrorCode, wire.TransactionalIDNotFound)
			}
		},
		keyListTransactions: func(_ *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrListTransactionsRequest()
			req.StateFilters = []string{"Ongoing", "Sideways"}
			return req, func(resp kmsg.Response) error {
				l := resp.(*kmsg.ListTransactionsResponse)
				if l.ErrorCode != 0 || len(l.UnknownStateFilters) != 1 || len(l.TransactionStates) != 0 {
					return fmt.Errorf("%+v", l)
				}
				return nil
			}
		},
	}
}

package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// ConfirmGone implements [span.Confirmer]. Brokers answer metadata from what they have replayed, so one that lags
// does not know a topic that is there. A trial of CreateTopics is answered by the active controller, or by
// nobody, and looks for topics of the name before all else but the right to create it; nothing is made.
func (s *Store) ConfirmGone(ctx context.Context, t span.Topic) (bool, error) {
	gone, err := s.confirmGone(ctx, t)
	return gone, s.wrap("look for", t, err)
}

func (s *Store) confirmGone(ctx context.Context, t span.Topic) (bool, error) {
	if _, err := s.meta.fresh(ctx, t); !errors.Is(err, span.ErrGone) {
		return false, err
	}
	resp, err := s.admin(ctx, func() kmsg.Request {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.ValidateOnly, req.TimeoutMillis = true, int32(s.opts.RequestTimeout.Milliseconds())
		q := kmsg.NewCreateTopicsRequestTopic()
		q.Topic, q.NumPartitions, q.ReplicationFactor = t.Name, 1, -1
		req.Topics = append(req.Topics, q)
		return req
	}, 7, 7, func(r kmsg.Response) wire.Code {
		ts := r.(*kmsg.CreateTopicsResponse).Topics
		return common(len(ts), func(i int) wire.Code { return wire.Code(ts[i].ErrorCode) })
	})
	if err != nil {
		return false, err
	}
	topics := resp.(*kmsg.CreateTopicsResponse).Topics
	if len(topics) != 1 || topics[0].Topic != t.Name {
		return false, unavailable(fmt.Errorf("%w: CreateTopics answer leaves a topic out", wire.ErrMalformed))
	}
	switch code := wire.Code(topics[0].ErrorCode); code {
	case wire.None, wire.PolicyViolation:
		return true, nil
	case wire.TopicAlreadyExists:
		return s.isAnother(ctx, t)
	default:
		return false, unavailable(code)
	}
}

// isAnother tells whether the topic that has the name by now has another id. Braid uses a name once, so
// no broker that lags can have heard of an older one.
func (s *Store) isAnother(ctx context.Context, t span.Topic) (bool, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	q := kmsg.NewMetadataRequestTopic()
	q.Topic = kmsg.StringPtr(t.Name)
	req.Topics = append(req.Topics, q)
	resp, err := s.meta.request(ctx, req)
	if err != nil {
		return false, err
	}
	for i := range resp.Topics {
		if a := &resp.Topics[i]; a.Topic != nil && *a.Topic == t.Name && wire.Code(a.ErrorCode) == wire.None {
			return a.TopicID != t.ID && a.TopicID != [16]byte{}, nil
		}
	}
	return false, nil
}

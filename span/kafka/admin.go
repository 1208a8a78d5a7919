package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// admin sends a request that changes the cluster: to the controller as metadata
// names it first (with KRaft any broker will do), then to the others. accept
// refuses the answer of one who is not in charge.
func (s *Store) admin(ctx context.Context, make func() kmsg.Request, low, high int16, accept func(kmsg.Response) wire.Code) (kmsg.Response, error) {
	var last error
	for try := range 5 {
		if try > 0 {
			if err := s.pause(ctx, retryFirst<<(2*try)); err != nil {
				return nil, unavailable(errors.Join(last, err))
			}
		}
		s.meta.mu.Lock()
		controller := s.meta.controller
		s.meta.mu.Unlock()
		list := s.candidates()
		slices.SortStableFunc(list, func(x, y *broker) int {
			switch {
			case x.node == controller && y.node != controller && x.failed.Load() == 0:
				return -1
			case y.node == controller && x.node != controller && y.failed.Load() == 0:
				return 1
			}
			return 0
		})
		for _, b := range list {
			// The next broker must not get what another is still writing.
			resp, err := b.request(ctx, make(), low, high)
			if err != nil {
				last = err
				if ctx.Err() != nil || s.closing.Err() != nil {
					return nil, unavailable(err)
				}
				continue
			}
			switch code := accept(resp); code {
			case wire.NotController, wire.BrokerNotAvailable, wire.RequestTimedOut, wire.NetworkException, wire.ThrottlingQuotaExceeded:
				last = code
				continue
			default:
				return resp, nil
			}
		}
	}
	return nil, unavailable(fmt.Errorf("%w: %w", errNoBroker, last))
}

// Create implements [span.Store]. Replicas are as many as the cluster's default.
func (s *Store) Create(ctx context.Context, spec span.Spec) (span.Topic, error) {
	t, err := s.create(ctx, spec)
	return t, s.wrap("create", span.Topic{Name: spec.Name}, err)
}

func (s *Store) create(ctx context.Context, spec span.Spec) (span.Topic, error) {
	if spec.Partitions < 1 || spec.Partitions > maxPartitions {
		return span.Topic{}, &span.RejectedError{Code: wire.InvalidPartitions}
	}
	if spec.Config[configMaxMessage] == sealedValue {
		return span.Topic{}, &span.RejectedError{Code: wire.InvalidConfig, Detail: "a topic is not created sealed"}
	}
	made, err := s.creates.do(ctx, spec)
	if err != nil {
		return span.Topic{}, err
	}
	switch code := made.code; code {
	case wire.None:
	case wire.TopicAlreadyExists:
		return span.Topic{}, span.ErrExists
	default:
		err := asError(code)
		var rejected *span.RejectedError
		if errors.As(err, &rejected) && made.message != "" {
			s.log.Warn("cluster refuses a topic", "topic", spec.Name, "code", code.Name(), "message", made.message)
		}
		return span.Topic{}, err
	}
	t := span.Topic{Name: spec.Name, ID: made.id}
	if t.ID == [16]byte{} {
		return span.Topic{}, &span.RejectedError{Code: wire.UnsupportedVersion, Detail: "the cluster gives topics no ids"}
	}
	s.rememberSeal(t.ID, spec.Config)
	if err := s.awaitPartitions(ctx, t, spec.Partitions); err != nil {
		return t, err
	}
	return t, nil
}

// awaitPartitions waits until the topic has that many partitions and each takes appends.
func (s *Store) awaitPartitions(ctx context.Context, t span.Topic, total int32) error {
	for {
		// A topic that was just made is unknown to brokers that lag: that settles nothing here.
		a := s.meta.ask(ctx, t.ID)
		if a.err == nil && kindOf(a.code) == kindDenied {
			return asError(a.code)
		}
		if a.err == nil && a.code == wire.None && len(a.topic.partitions) >= int(total) {
			return s.awaitOpen(ctx, t, a.topic)
		}
		if err := s.pause(ctx, retryFirst); err != nil {
			return unavailable(errors.Join(a.err, a.code.Err(), err))
		}
	}
}

// AddPartitions implements [span.Store].
func (s *Store) AddPartitions(ctx context.Context, t span.Topic, total int32) error {
	return s.wrap("grow", t, s.grow(ctx, t, total))
}

func (s *Store) grow(ctx context.Context, t span.Topic, total int32) error {
	meta, err := s.meta.fresh(ctx, t)
	if err != nil {
		return err
	}
	if len(meta.partitions) < int(total) {
		resp, err := s.admin(ctx, func() kmsg.Request {
			req := kmsg.NewPtrCreatePartitionsRequest()
			req.TimeoutMillis = int32(s.opts.RequestTimeout.Milliseconds())
			rt := kmsg.NewCreatePartitionsRequestTopic()
			rt.Topic, rt.Count = t.Name, total
			req.Topics = append(req.Topics, rt)
			return req
		}, 2, 3, func(r kmsg.Response) wire.Code {
			if ts := r.(*kmsg.CreatePartitionsResponse).Topics; len(ts) == 1 {
				return wire.Code(ts[0].ErrorCode)
			}
			return wire.UnknownServerError
		})
		if err != nil {
			return err
		}
		code := wire.UnknownServerError
		if ts := resp.(*kmsg.CreatePartitionsResponse).Topics; len(ts) == 1 {
			code = wire.Code(ts[0].ErrorCode)
		}
		if code == wire.InvalidPartitions {
			// Somebody else was faster, or the broker that we asked lags.
			if meta, err = s.meta.fresh(ctx, t); err != nil {
				return err
			}
			if len(meta.partitions) >= int(total) {
				code = wire.None
			}
		}
		if code != wire.None {
			return asError(code)
		}
	}
	return s.awaitPartitions(ctx, t, total)
}

// Configure implements [span.Store]. What a seal sets is only remembered for
// unseal while the topic is sealed. Kafka compares nothing when it sets a config:
// a Configure that changes one of sealConfigs must not run beside a Seal by
// another process.
func (s *Store) Configure(ctx context.Context, t span.Topic, config map[string]string) error {
	return s.wrap("configure", t, s.configure(ctx, t, config))
}

func (s *Store) configure(ctx context.Context, t span.Topic, config map[string]string) error {
	if _, err := s.meta.fresh(ctx, t); err != nil {
		return err
	}
	set := make(map[string]*string, len(config))
	for k, v := range config {
		set[k] = &v
	}
	touches := false
	for k := range sealConfigs {
		_, ok := config[k]
		touches = touches || ok
	}
	if touches {
		if isSealed(config) {
			return &span.RejectedError{Code: wire.InvalidConfig, Detail: "only a seal sets " + configMaxMessage + " to 0"}
		}
		own, err := s.ownConfigs(ctx, t)
		if err != nil {
			return err
		}
		s.rememberSeal(t.ID, config)
		for k := range sealConfigs {
			if v, ok := config[k]; ok && (isSealed(own) || own[k] == v) {
				delete(set, k)
			}
		}
	}
	if len(set) == 0 {
		return nil
	}
	return s.alterConfigs(ctx, t, set, false)
}

// alterConfigs sets configs of a topic; nil removes one.
func (s *Store) alterConfigs(ctx context.Context, t span.Topic, set map[string]*string, validateOnly bool) error {
	code, err := s.alters.do(ctx, alteration{t.Name, set, validateOnly})
	if err != nil {
		return err
	}
	return asError(code)
}

// Delete implements [span.Store]. It deletes by id, so never another topic of the name.
func (s *Store) Delete(ctx context.Context, t span.Topic) error {
	codeOf := func(r kmsg.Response) wire.Code {
		if ts := r.(*kmsg.DeleteTopicsResponse).Topics; len(ts) == 1 {
			return wire.Code(ts[0].ErrorCode)
		}
		return wire.UnknownServerError
	}
	resp, err := s.admin(ctx, func() kmsg.Request {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TimeoutMillis = int32(s.opts.RequestTimeout.Milliseconds())
		rt := kmsg.NewDeleteTopicsRequestTopic()
		rt.TopicID = t.ID
		req.Topics = append(req.Topics, rt)
		return req
	}, 6, 6, codeOf)
	if err != nil {
		return s.wrap("delete", t, err)
	}
	switch code := codeOf(resp); code {
	case wire.None, wire.UnknownTopicID, wire.UnknownTopicOrPartition:
		s.forgetTopic(t.ID)
		return nil
	default:
		return s.wrap("delete", t, asError(code))
	}
}

// Topics implements [span.Store].
func (s *Store) Topics(ctx context.Context, prefix string) ([]span.Topic, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	resp, err := s.meta.request(ctx, req)
	if err != nil {
		return nil, s.wrap("list topics with prefix", span.Topic{Name: prefix}, err)
	}
	var out []span.Topic
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Topic != nil && strings.HasPrefix(*t.Topic, prefix) && !t.IsInternal {
			out = append(out, span.Topic{Name: *t.Topic, ID: t.TopicID})
		}
	}
	slices.SortFunc(out, func(x, y span.Topic) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

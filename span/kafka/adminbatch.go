package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// gatherMost bounds the topics of one request that changes the cluster.
const gatherMost = 200

// created is what became of one topic of a CreateTopics request.
type created struct {
	id      [16]byte
	code    wire.Code
	message string
}

func newCreates(s *Store) *gather[span.Spec, created] {
	return &gather[span.Spec, created]{s: s, most: gatherMost, key: func(q span.Spec) string { return q.Name }, send: s.createAll}
}

func (s *Store) createAll(ctx context.Context, specs []span.Spec) ([]created, error) {
	resp, err := s.admin(ctx, func() kmsg.Request {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = int32(s.opts.RequestTimeout.Milliseconds())
		for i := range specs {
			spec := &specs[i]
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = spec.Name, spec.Partitions, -1
			for _, k := range slices.Sorted(maps.Keys(spec.Config)) {
				c := kmsg.NewCreateTopicsRequestTopicConfig()
				c.Name, c.Value = k, kmsg.StringPtr(spec.Config[k])
				t.Configs = append(t.Configs, c)
			}
			req.Topics = append(req.Topics, t)
		}
		return req
	}, 7, 7, func(r kmsg.Response) wire.Code {
		ts := r.(*kmsg.CreateTopicsResponse).Topics
		return common(len(ts), func(i int) wire.Code { return wire.Code(ts[i].ErrorCode) })
	})
	if err != nil {
		return nil, err
	}
	byName := map[string]created{}
	for _, t := range resp.(*kmsg.CreateTopicsResponse).Topics {
		c := created{id: t.TopicID, code: wire.Code(t.ErrorCode)}
		if t.ErrorMessage != nil {
			c.message = *t.ErrorMessage
		}
		byName[t.Topic] = c
	}
	out := make([]created, len(specs))
	for i := range specs {
		c, ok := byName[specs[i].Name]
		if !ok {
			return nil, unavailable(fmt.Errorf("%w: CreateTopics answer leaves a topic out", wire.ErrMalformed))
		}
		out[i] = c
	}
	return out, nil
}

// common is the code that all results share; else none, and each is looked at.
func common(n int, code func(int) wire.Code) wire.Code {
	if n == 0 {
		return wire.UnknownServerError
	}
	for i := 1; i < n; i++ {
		if code(i) != code(0) {
			return wire.None
		}
	}
	return code(0)
}

// alteration sets configs of one topic; nil removes one.
type alteration struct {
	topic        string
	set          map[string]*string
	validateOnly bool
}

func newAlters(s *Store) *gather[alteration, wire.Code] {
	return &gather[alteration, wire.Code]{s: s, most: gatherMost, key: func(q alteration) string { return q.topic }, send: s.alterAll}
}

// alterAll changes configs of several topics. Trials go in requests of their own.
func (s *Store) alterAll(ctx context.Context, all []alteration) ([]wire.Code, error) {
	out := make([]wire.Code, len(all))
	for _, trial := range []bool{false, true} {
		var at []int
		for i := range all {
			if all[i].validateOnly == trial {
				at = append(at, i)
			}
		}
		if len(at) == 0 {
			continue
		}
		codes, err := s.alterSome(ctx, all, at, trial)
		if err != nil {
			return nil, err
		}
		for _, i := range at {
			code, ok := codes[all[i].topic]
			if !ok {
				return nil, unavailable(fmt.Errorf("%w: IncrementalAlterConfigs answer leaves a topic out", wire.ErrMalformed))
			}
			out[i] = code
		}
	}
	return out, nil
}

func (s *Store) alterSome(ctx context.Context, all []alteration, at []int, trial bool) (map[string]wire.Code, error) {
	resp, err := s.admin(ctx, func() kmsg.Request {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.ValidateOnly = trial
		for _, i := range at {
			r := kmsg.NewIncrementalAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, all[i].topic
			for _, k := range slices.Sorted(maps.Keys(all[i].set)) {
				c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
				c.Name, c.Op, c.Value = k, kmsg.IncrementalAlterConfigOpSet, all[i].set[k]
				if c.Value == nil {
					c.Op = kmsg.IncrementalAlterConfigOpDelete
				}
				r.Configs = append(r.Configs, c)
			}
			req.Resources = append(req.Resources, r)
		}
		return req
	}, 1, 1, func(r kmsg.Response) wire.Code {
		rs := r.(*kmsg.IncrementalAlterConfigsResponse).Resources
		return common(len(rs), func(i int) wire.Code { return wire.Code(rs[i].ErrorCode) })
	})
	if err != nil {
		return nil, err
	}
	codes := map[string]wire.Code{}
	for _, r := range resp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
		codes[r.ResourceName] = wire.Code(r.ErrorCode)
	}
	return codes, nil
}

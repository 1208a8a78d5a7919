package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// sealConfigs are what a seal sets, all in one request, so that a broker's log
// takes them on at once. A size of 0 refuses batches, but is looked at before an
// append takes the log's lock: one that passed the check may wait for the lock
// while the seal comes into force, and land after a probe was refused (seen: in one
// of three seals of a busy cluster). Timestamps are looked at under the lock, so
// their limits of 0 refuse such a late one. They let through what is stamped with
// the very millisecond of the check, or with none; those would have to be late too.
//
// Source: UnifiedLog.append and LogValidator of Apache Kafka 3.9 and 4.3.
var sealConfigs = map[string]string{
	configMaxMessage:                  sealedValue,
	"message.timestamp.type":          "CreateTime", // else timestamps are not looked at
	"message.timestamp.before.max.ms": "0",
	"message.timestamp.after.max.ms":  "0",
}

// sealState is what unseal restores: the topic's own values of sealConfigs. A key
// that is absent had none.
type sealState map[string]string

// unseal takes a seal back that has told nobody an end, since it found a transaction that
// was opened under it. It restores what the topic had when this process created, configured
// or sealed it; where it did neither, the cluster's own defaults hold until Configure sets
// others.
func (s *Store) unseal(ctx context.Context, t span.Topic) error {
	meta, err := s.meta.fresh(ctx, t)
	if err != nil {
		return err
	}
	s.mu.Lock()
	to := maps.Clone(s.seals[t.ID])
	s.mu.Unlock()
	if err := s.setSealConfigs(ctx, t, to); err != nil {
		return err
	}
	return s.awaitOpen(ctx, t, meta)
}

// awaitOpen waits until the leaders of all partitions take appends.
func (s *Store) awaitOpen(ctx context.Context, t span.Topic, meta *topicMeta) error {
	ready := make([]bool, len(meta.partitions))
	var last error
	for try := 0; ; try++ {
		byLeader := map[int32][]int32{}
		left := 0
		for i, p := range meta.partitions {
			if i < len(ready) && ready[i] {
				continue
			}
			left++
			if p.leader >= 0 {
				byLeader[p.leader] = append(byLeader[p.leader], int32(i))
			}
		}
		for node, partitions := range byLeader {
			b := s.broker(node)
			if b == nil {
				continue
			}
			codes, err := s.probe(ctx, b, t, partitions)
			if err != nil {
				last = err
				continue
			}
			for p, code := range codes {
				switch {
				case code == wire.CorruptMessage:
					ready[p] = true
					left--
				case kindOf(code) == kindDenied:
					return fmt.Errorf("%w: %w", span.ErrDenied, code)
				default:
					last = code
				}
			}
		}
		if left == 0 {
			return nil
		}
		if err := s.pause(ctx, min(retryFirst<<min(try, 10), retryMost)); err != nil {
			return unavailable(fmt.Errorf("%d of %d partitions take no appends: %w", left, len(ready), errors.Join(err, last)))
		}
		if fresh, err := s.meta.fresh(ctx, t); err == nil {
			meta = fresh
			for len(ready) < len(meta.partitions) {
				ready = append(ready, false)
			}
		} else if errors.Is(err, span.ErrGone) || errors.Is(err, span.ErrDenied) {
			return err
		}
	}
}

// isSealed tells by a topic's own configs whether somebody has sealed it.
func isSealed(own map[string]string) bool { return own[configMaxMessage] == sealedValue }

// rememberSeal takes values that unseal is to restore. Others are kept.
func (s *Store) rememberSeal(id [16]byte, own map[string]string) {
	if isSealed(own) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.seals[id]
	if st == nil {
		if len(s.seals) >= maxIdle {
			return
		}
		st = sealState{}
		s.seals[id] = st
	}
	for k := range sealConfigs {
		if v, ok := own[k]; ok {
			st[k] = v
		}
	}
}

// setSealConfigs sets all of sealConfigs' keys, and removes those that to lacks.
// The answer comes when the controller has it; brokers apply it a moment later.
func (s *Store) setSealConfigs(ctx context.Context, t span.Topic, to map[string]string) error {
	set := map[string]*string{}
	for k := range sealConfigs {
		set[k] = nil
		if v, ok := to[k]; ok {
			set[k] = &v
		}
	}
	err := s.alterConfigs(ctx, t, set, false)
	var rejected *span.RejectedError
	if errors.Is(err, span.ErrDenied) || errors.As(err, &rejected) {
		return fmt.Errorf("%w: %w", span.ErrCannotSeal, err)
	}
	return err
}

// ownConfigs reads the topic's own values of sealConfigs.
func (s *Store) ownConfigs(ctx context.Context, t span.Topic) (map[string]string, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, t.Name, slices.Sorted(maps.Keys(sealConfigs))
	req.Resources = append(req.Resources, r)
	resp, err := s.any(ctx, req, 1, 4, nil)
	if err != nil {
		return nil, err
	}
	own := map[string]string{}
	for _, r := range resp.(*kmsg.DescribeConfigsResponse).Resources {
		if code := wire.Code(r.ErrorCode); code != wire.None {
			if kindOf(code) == kindDenied {
				// DESCRIBE_CONFIGS is not what a seal needs: it only tells what to restore.
				return own, nil
			}
			return nil, asError(code)
		}
		for _, c := range r.Configs {
			if c.Value != nil && c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				own[c.Name] = *c.Value
			}
		}
	}
	return own, nil
}

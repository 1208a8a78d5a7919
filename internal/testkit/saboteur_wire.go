package testkit

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var errShort = errors.New("a frame ends within its header")

// requestHeader is where a request's body begins, and what comes before.
func requestHeader(frame []byte) (key, version int16, body int, err error) {
	if len(frame) < 10 {
		return 0, 0, 0, errShort
	}
	key = int16(binary.BigEndian.Uint16(frame))
	version = int16(binary.BigEndian.Uint16(frame[2:]))
	body = 10
	if n := int16(binary.BigEndian.Uint16(frame[8:])); n > 0 {
		body += int(n)
	}
	if flexible(key, version) {
		body, err = skipTags(frame, body)
	}
	if err == nil && body > len(frame) {
		err = errShort
	}
	return key, version, body, err
}

func flexible(key, version int16) bool {
	r := kmsg.RequestForKey(key)
	if r == nil {
		return false
	}
	r.SetVersion(version)
	return r.IsFlexible()
}

// skipTags passes over a header's tagged fields.
func skipTags(frame []byte, at int) (int, error) {
	next := func() (int, error) {
		if at > len(frame) {
			return 0, errShort
		}
		v, n := binary.Uvarint(frame[at:])
		if n <= 0 || v > uint64(len(frame)) {
			return 0, errShort
		}
		at += n
		return int(v), nil
	}
	count, err := next()
	for ; err == nil && count > 0; count-- {
		if _, err = next(); err != nil {
			break
		}
		var size int
		size, err = next()
		at += size
	}
	if err == nil && at > len(frame) {
		err = errShort
	}
	return at, err
}

// request looks at what a client sent. No exchange means that no answer comes, no frame that the
// request stays here.
func (s *Saboteur) request(frame []byte) (*exchange, []byte, error) {
	key, version, body, err := requestHeader(frame)
	if err != nil {
		return nil, nil, err
	}
	x := &exchange{key: key, version: version}
	if key == kmsg.NewPtrProduceRequest().Key() {
		return s.produceRequest(x, frame, body)
	}
	return x, frame, nil
}

// response changes what a client would see of the endpoint.
func (s *Saboteur) response(x *exchange, frame []byte) ([]byte, error) {
	answer := kmsg.ResponseForKey(x.key)
	if answer == nil {
		return frame, nil
	}
	body := 4
	if apiVersions := kmsg.NewPtrApiVersionsResponse(); x.key == apiVersions.Key() {
		// Its header never has tags. An unknown version is answered with version 0.
		if len(frame) >= 6 && (frame[4] != 0 || frame[5] != 0) {
			return frame, nil
		}
	} else if flexible(x.key, x.version) {
		var err error
		if body, err = skipTags(frame, body); err != nil {
			return nil, err
		}
	}
	answer.SetVersion(x.version)
	switch answer.(type) {
	case *kmsg.ApiVersionsResponse, *kmsg.MetadataResponse, *kmsg.FindCoordinatorResponse, *kmsg.DescribeClusterResponse,
		*kmsg.ProduceResponse, *kmsg.FetchResponse, *kmsg.ShareFetchResponse, *kmsg.ShareAcknowledgeResponse:
	default:
		return frame, nil
	}
	if err := answer.ReadFrom(frame[body:]); err != nil {
		return nil, fmt.Errorf("key %d version %d: %w", x.key, x.version, err)
	}
	if err := s.rewrite(x, answer); err != nil {
		return nil, err
	}
	return answer.AppendTo(frame[:body:body]), nil
}

// rewrite puts our addresses in the place of the endpoint's.
func (s *Saboteur) rewrite(x *exchange, answer kmsg.Response) error {
	var errs []error
	at := func(host *string, port *int32) { errs = append(errs, s.instead(host, port)) }
	switch a := answer.(type) {
	case *kmsg.ApiVersionsResponse:
		for i := range a.ApiKeys {
			// A version that we cannot read would pass with the endpoint's addresses in it.
			k := &a.ApiKeys[i]
			if known := kmsg.RequestForKey(k.ApiKey); known != nil {
				k.MaxVersion = min(k.MaxVersion, known.MaxVersion())
			}
		}
	case *kmsg.MetadataResponse:
		for i := range a.Brokers {
			at(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
		s.mu.Lock()
		for _, t := range a.Topics {
			if t.Topic != nil {
				s.topics[t.TopicID] = *t.Topic
			}
		}
		s.mu.Unlock()
	case *kmsg.FindCoordinatorResponse:
		at(&a.Host, &a.Port)
		for i := range a.Coordinators {
			at(&a.Coordinators[i].Host, &a.Coordinators[i].Port)
		}
	case *kmsg.DescribeClusterResponse:
		for i := range a.Brokers {
			at(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	case *kmsg.ProduceResponse:
		for i := range a.Brokers {
			at(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
		s.produceResponse(x.produce, a)
	case *kmsg.FetchResponse:
		for i := range a.Brokers {
			at(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	case *kmsg.ShareFetchResponse:
		for i := range a.NodeEndpoints {
			at(&a.NodeEndpoints[i].Host, &a.NodeEndpoints[i].Port)
		}
	case *kmsg.ShareAcknowledgeResponse:
		for i := range a.NodeEndpoints {
			at(&a.NodeEndpoints[i].Host, &a.NodeEndpoints[i].Port)
		}
	}
	return errors.Join(errs...)
}

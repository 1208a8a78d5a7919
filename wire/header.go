package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	keyControlledShutdown = 7
	keyApiVersions        = 18
)

// Header is the header of a request.
type Header struct {
	Key           int16
	Version       int16
	CorrelationID int32
	// ClientID is nil for null. It aliases the frame.
	ClientID []byte
}

// ParseHeader decodes the header that a request's frame begins with and returns
// the body behind it, which aliases the frame.
//
// A key that is not known (ErrUnknownKey) and a version that is not known
// (ErrUnknownVersion) leave key, version and correlation id filled in. For
// ApiVersions of an unknown version, which is to be answered with version 0 and
// UNSUPPORTED_VERSION (KIP-511), the error is ErrUnknownVersion too.
func ParseHeader(frame []byte) (h Header, body []byte, err error) {
	r := NewReader(frame)
	h.Key = r.Int16()
	h.Version = r.Int16()
	h.CorrelationID = r.Int32()
	if r.bad {
		return h, nil, fmt.Errorf("%w: request header of %d bytes", ErrMalformed, len(frame))
	}
	m := lookup(h.Key)
	if m == nil && h.Key != keyControlledShutdown {
		return h, nil, fmt.Errorf("%w %d", ErrUnknownKey, h.Key)
	}
	hv := RequestHeaderVersion(h.Key, h.Version)
	if hv >= 1 {
		// The client id is never compact, not even in flexible headers (KIP-511).
		h.ClientID = r.NullableString(false)
	}
	if hv >= 2 {
		r.SkipTags()
	}
	if r.bad {
		return h, nil, fmt.Errorf("%w: request header of key %d version %d", ErrMalformed, h.Key, h.Version)
	}
	if m == nil || h.Version < m.min || h.Version > m.max {
		return h, r.b, fmt.Errorf("%w: key %d version %d", ErrUnknownVersion, h.Key, h.Version)
	}
	return h, r.b, nil
}

// RequestHeaderVersion is 0, 1 or 2 (flexible).
func RequestHeaderVersion(key, version int16) int16 {
	if key == keyControlledShutdown && version == 0 {
		return 0
	}
	if m := lookup(key); m != nil && version >= m.flexible {
		return 2
	}
	return 1
}

// ResponseHeaderVersion is 0 or 1 (flexible). That of ApiVersions is always 0: a
// client reads it before it knows what the broker speaks.
func ResponseHeaderVersion(key, version int16) int16 {
	if m := lookup(key); m != nil && version >= m.flexibleResponse {
		return 1
	}
	return 0
}

// AppendResponseHeader appends the header of a response.
func AppendResponseHeader(dst []byte, key, version int16, correlationID int32) []byte {
	dst = appendInt32(dst, correlationID)
	return appendNoTags(dst, ResponseHeaderVersion(key, version) >= 1)
}

// ParseResponseHeader decodes the header of a response to a request of that key
// and version and returns the body, which aliases the frame.
func ParseResponseHeader(frame []byte, key, version int16) (correlationID int32, body []byte, err error) {
	r := NewReader(frame)
	correlationID = r.Int32()
	if ResponseHeaderVersion(key, version) >= 1 {
		r.SkipTags()
	}
	if r.bad {
		return correlationID, nil, fmt.Errorf("%w: response header of key %d version %d", ErrMalformed, key, version)
	}
	return correlationID, r.b, nil
}

// AppendRequestHeader appends the header of a request; a nil client id is null.
func AppendRequestHeader(dst []byte, key, version int16, correlationID int32, clientID []byte) []byte {
	dst = appendInt16(dst, key)
	dst = appendInt16(dst, version)
	dst = appendInt32(dst, correlationID)
	hv := RequestHeaderVersion(key, version)
	if hv >= 1 {
		dst = appendNullableString(dst, false, clientID)
	}
	return appendNoTags(dst, hv >= 2)
}

// AppendResponse appends a whole response frame, its size included.
func AppendResponse(dst []byte, correlationID int32, resp kmsg.Response) []byte {
	at := len(dst)
	dst = appendInt32(dst, 0)
	dst = AppendResponseHeader(dst, resp.Key(), resp.GetVersion(), correlationID)
	return sized(resp.AppendTo(dst), at)
}

// AppendRequest appends a whole request frame, its size included.
func AppendRequest(dst []byte, correlationID int32, clientID []byte, req kmsg.Request) []byte {
	at := len(dst)
	dst = appendInt32(dst, 0)
	dst = AppendRequestHeader(dst, req.Key(), req.GetVersion(), correlationID, clientID)
	return sized(req.AppendTo(dst), at)
}

// sized writes the size of the frame that begins at dst[at].
func sized(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

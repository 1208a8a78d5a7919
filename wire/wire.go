// Package wire speaks the Kafka protocol's outer layers: frames, request and
// response headers, error codes, a check that no body can make a decoder
// allocate or work out of proportion, and codecs for the two requests that move
// records (Produce and Fetch) which neither copy nor allocate.
//
// Everything read from a peer is bounded before anything is allocated for it.
// Functions that alias their input say so.
//
// Source: https://kafka.apache.org/protocol, KIP-482 (tagged fields), KIP-511
// (ApiVersions), and the message definitions of Apache Kafka 4.3.
package wire

//go:generate internal/gen/run.sh

import "errors"

// Kinds of errors; they arrive wrapped with context, use errors.Is.
var (
	// ErrTLS: the peer speaks TLS on a plain port.
	ErrTLS = errors.New("TLS handshake on a plain-text port")
	// ErrHTTP: the peer speaks HTTP.
	ErrHTTP = errors.New("HTTP request on a Kafka port")
	// ErrFrameTooLarge: the frame's size is over the limit.
	ErrFrameTooLarge = errors.New("frame is too large")
	// ErrFrameSize: the frame's size is negative.
	ErrFrameSize = errors.New("frame size is negative")
	// ErrMalformed: the bytes do not follow the message's definition.
	ErrMalformed = errors.New("message is malformed")
	// ErrTooCostly: decoding would take memory out of proportion to the bytes.
	ErrTooCostly = errors.New("message is too costly to decode")
	// ErrUnknownKey: no request of that API key is known.
	ErrUnknownKey = errors.New("unknown API key")
	// ErrUnknownVersion: the API key is known, the version is not.
	ErrUnknownVersion = errors.New("unknown API version")
)

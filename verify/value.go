package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
)

// A Value names one record of a workload. Each is sent once.
type Value struct {
	Producer  int32 `json:"producer"`
	Partition int32 `json:"partition"` // the partition it was sent to
	Sequence  int64 `json:"sequence"`  // from 0, without holes, by producer and partition
}

// String is producer/partition/sequence.
func (v Value) String() string {
	return fmt.Sprintf("%d/%d/%d", v.Producer, v.Partition, v.Sequence)
}

// markerProducer sends the last record of each partition, by which readers know that they are done.
const markerProducer = 1<<31 - 1

// ParseValue reads what String wrote. Numbers are in decimal, without sign.
func ParseValue(s string) (Value, error) {
	var fields [3][]byte
	rest := []byte(s)
	for i := range fields {
		f, r, more := bytes.Cut(rest, []byte{'/'})
		if more != (i < len(fields)-1) {
			return Value{}, errNotValue
		}
		fields[i], rest = f, r
	}
	return parseFields(fields)
}

var errNotValue = errors.New("not a value of a workload")

func parseFields(f [3][]byte) (Value, error) {
	producer, ok1 := parseNumber(f[0], 31)
	partition, ok2 := parseNumber(f[1], 31)
	sequence, ok3 := parseNumber(f[2], 63)
	if !ok1 || !ok2 || !ok3 {
		return Value{}, errNotValue
	}
	return Value{int32(producer), int32(partition), int64(sequence)}, nil
}

// parseNumber takes digits only, so that one value has one spelling.
func parseNumber(b []byte, bits int) (uint64, bool) {
	if len(b) == 0 || len(b) > 19 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n>>bits == 0
}

// The payload of a record is text, version first, padded to the record size:
//
//	bv1/CRC/RUN/SENT/PRODUCER/PARTITION/SEQUENCE/xxxx
//
// CRC is CRC-32C, in 8 hexadecimal digits, of all that follows its slash; RUN 16 hexadecimal digits
// that tell runs apart; SENT nanoseconds since the run began.
const (
	payloadPrefix = "bv1/"
	runDigits     = 16
	// minPayload fits the longest numbers, so that no record is larger than asked for.
	minPayload = len(payloadPrefix) + 8 + 1 + runDigits + 1 + 19 + 1 + 10 + 1 + 10 + 1 + 19 + 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendPayload appends the payload of v to dst, padded to size bytes.
func appendPayload(dst []byte, run string, sent time.Duration, v Value, size int) []byte {
	start := len(dst)
	dst = append(dst, payloadPrefix...)
	dst = append(dst, "00000000/"...)
	body := len(dst)
	dst = append(dst, run...)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, int64(sent), 10)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, int64(v.Producer), 10)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, int64(v.Partition), 10)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, v.Sequence, 10)
	dst = append(dst, '/')
	for len(dst)-start < size {
		dst = append(dst, 'x')
	}
	sum := crc32.Checksum(dst[body:], castagnoli)
	digest := [4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
	hex.Encode(dst[start+len(payloadPrefix):], digest[:])
	return dst
}

// errForeign is a record that is none of this run's; errDamaged is one of it that was changed.
var (
	errForeign = errors.New("not a record of this run")
	errDamaged = errors.New("a record of this run whose bytes were changed")
)

// parsePayload reads what appendPayload wrote.
func parsePayload(b []byte, run string) (Value, time.Duration, error) {
	body := len(payloadPrefix) + 9
	if len(b) < body+runDigits+1 || string(b[:len(payloadPrefix)]) != payloadPrefix || b[body-1] != '/' || string(b[body:body+runDigits]) != run {
		return Value{}, 0, errForeign
	}
	var digest [4]byte
	if _, err := hex.Decode(digest[:], b[len(payloadPrefix):body-1]); err != nil {
		return Value{}, 0, errDamaged
	}
	sum := uint32(digest[0])<<24 | uint32(digest[1])<<16 | uint32(digest[2])<<8 | uint32(digest[3])
	if crc32.Checksum(b[body:], castagnoli) != sum {
		return Value{}, 0, errDamaged
	}
	rest := b[body+runDigits+1:]
	var fields [4][]byte
	for i := range fields {
		f, r, ok := bytes.Cut(rest, []byte{'/'})
		if !ok {
			return Value{}, 0, errDamaged
		}
		fields[i], rest = f, r
	}
	sent, ok := parseNumber(fields[0], 63)
	if !ok {
		return Value{}, 0, errDamaged
	}
	v, err := parseFields([3][]byte(fields[1:]))
	if err != nil {
		return Value{}, 0, errDamaged
	}
	return v, time.Duration(sent), nil
}

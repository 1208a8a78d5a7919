package main

import (
	"bytes"
	endian "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestGarbageOnTheWire: whatever bytes a peer sends, it costs that peer its connection or
// an error, and the process neither its life nor its memory.
func TestGarbageOnTheWire(t *testing.T) {
	t.Parallel()
	up := startUp(t)
	addr := up.ready.Kafka[0]
	up.must("topic", "create", "calm", "--partitions", "1")
	// A client of good manners has its connection open all the while.
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("calm"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	works := func(after string) {
		t.Helper()
		if err := client.ProduceSync(t.Context(), kgo.StringRecord(after)).FirstErr(); err != nil {
			t.Fatalf("after %s: %v", after, err)
		}
	}
	works("nothing")
	before := up.resident()

	frame := func(payload []byte) []byte {
		return append(endian.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
	}
	header := func(key, version int16) []byte {
		b := endian.BigEndian.AppendUint16(nil, uint16(key))
		b = endian.BigEndian.AppendUint16(b, uint16(version))
		b = endian.BigEndian.AppendUint32(b, 7)
		return append(b, 0xff, 0xff) // no client id
	}
	metadata := func(count uint32) []byte {
		return endian.BigEndian.AppendUint32(header(3, 1), count)
	}
	flexible := func(key, version int16, body ...byte) []byte {
		return append(append(header(key, version), 0), body...)
	}
	many := []byte{0xff, 0xff, 0xff, 0xff, 0x0f} // 2^32-1 as a varint
	produce := kmsg.NewPtrProduceRequest()
	produce.Version, produce.Acks, produce.TimeoutMillis = 9, -1, 1000
	pt := kmsg.NewProduceRequestTopic()
	pt.Topic = "calm"
	pp := kmsg.NewProduceRequestTopicPartition()
	pp.Records = bytes.Repeat([]byte{0xAB}, 500)
	pt.Partitions = append(pt.Partitions, pp)
	produce.Topics = append(produce.Topics, pt)

	for _, c := range []struct {
		name    string
		bytes   []byte
		answers bool // may be answered; else the connection ends
		hangUp  bool // we end the connection after this
	}{
		{name: "an oversized frame", bytes: []byte{0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 1}},
		{name: "a negative length", bytes: []byte{0xff, 0xff, 0xff, 0xff}},
		{name: "a length of 0", bytes: []byte{0, 0, 0, 0}},
		{name: "a header cut short", bytes: frame([]byte{0, 3, 0})},
		{name: "an array of 2^31-1 topics", bytes: frame(metadata(0x7fffffff))},
		{name: "an array of -2 topics", bytes: frame(metadata(0xfffffffe))},
		{name: "a compact array of 2^32-1 topics", bytes: frame(flexible(3, 12, many...))},
		{name: "2^32-1 tags in the header", bytes: frame(append(header(3, 12), many...))},
		{name: "a frame cut short", bytes: frame(metadata(1))[:12], hangUp: true},
		{name: "an unknown API key", bytes: frame(append(header(12345, 0), 1, 2, 3))},
		{name: "a key of which no version is served", bytes: frame(header(4, 0))},
		{name: "a batch that is none", bytes: frame(produce.AppendTo(flexible(0, 9))), answers: true},
		{name: "an ApiVersions of the future", bytes: frame(flexible(18, 99)), answers: true},
		{name: "a TLS hello", bytes: append([]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03}, bytes.Repeat([]byte{7}, 500)...)},
		{name: "HTTP", bytes: []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }() // only so that nothing leaks
			if _, err := conn.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			if c.hangUp {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			head := make([]byte, 8)
			_, err = io.ReadFull(conn, head)
			switch {
			case err == nil && !c.answers:
				t.Errorf("an answer: % x", head)
			case err == nil:
				if got := endian.BigEndian.Uint32(head[4:]); got != 7 {
					t.Errorf("an answer to request %d", got)
				}
			case c.answers || errors.Is(err, os.ErrDeadlineExceeded):
				t.Errorf("neither an answer nor an end: %v", err)
			}
			works(c.name)
		})
	}
	// Many at once, each of which claims as much as is allowed and sends none of it.
	var conns []net.Conn
	for range 50 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }() // as above
		if _, err := conn.Write([]byte{0x06, 0x00, 0x00, 0x00, 0, 0, 0, 9}); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	works(fmt.Sprintf("%d large claims", len(conns)))
	after := up.resident()
	t.Logf("resident: %d MiB before, %d MiB after", before>>20, after>>20)
	if after > before+(128<<20) {
		t.Errorf("the process grew from %d to %d MiB", before>>20, after>>20)
	}
	select {
	case <-up.process.Exited():
		t.Error("the process ended")
	default:
	}
}

// resident is the process's resident memory in bytes.
func (r *running) resident() int64 {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.process.Pid()))
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				r.t.Fatal(err)
			}
			return kb << 10
		}
	}
	r.t.Fatal("no resident size in the process's status")
	return 0
}

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxAnswer bounds one answer of a peer.
const maxAnswer = 256 << 20

// rawConn is a connection that costs the load generator as little as a client can: whole requests
// are written with one call, and answers are read into one buffer that is used again.
//
// One goroutine writes and one reads; roundTrip is both, for the time before they start.
type rawConn struct {
	nc   net.Conn
	form *kmsg.RequestFormatter
	corr int32
	out  []byte

	in         []byte
	start, end int // what of in is read and not taken
}

func dialRaw(ctx context.Context, addr, clientID string) (*rawConn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &rawConn{nc: nc, form: kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)), in: make([]byte, 64<<10)}, nil
}

func (c *rawConn) close() { _ = c.nc.Close() } // the run is over; nothing is owed to the peer

// send writes one request.
func (c *rawConn) send(req kmsg.Request) error {
	c.corr++
	c.out = c.form.AppendRequest(c.out[:0], req, c.corr)
	_, err := c.nc.Write(c.out)
	return err
}

// receive reads the next answer. Its bytes hold until the next call.
func (c *rawConn) receive() ([]byte, error) {
	if err := c.fill(4); err != nil {
		return nil, err
	}
	size := int(int32(binary.BigEndian.Uint32(c.in[c.start:])))
	if size < 4 || size > maxAnswer {
		return nil, fmt.Errorf("answer of %d bytes", size)
	}
	if err := c.fill(4 + size); err != nil {
		return nil, err
	}
	b := c.in[c.start+4 : c.start+4+size]
	c.start += 4 + size
	return b, nil
}

// fill reads until n bytes are there.
func (c *rawConn) fill(n int) error {
	if c.end-c.start >= n {
		return nil
	}
	if c.start > 0 {
		copy(c.in, c.in[c.start:c.end])
		c.start, c.end = 0, c.end-c.start
	}
	if len(c.in) < n {
		grown := make([]byte, n+n/4)
		copy(grown, c.in[:c.end])
		c.in = grown
	}
	for c.end < n {
		m, err := c.nc.Read(c.in[c.end:])
		c.end += m
		if err != nil {
			if errors.Is(err, io.EOF) && c.end > 0 {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// decode reads an answer's body; byte fields alias b.
func decode(resp kmsg.Response, b []byte) error {
	b = b[4:] // the correlation id: answers come in order
	if resp.IsFlexible() {
		if len(b) == 0 || b[0] != 0 {
			return errors.New("answer header with tags")
		}
		b = b[1:]
	}
	return resp.ReadFrom(b)
}

// roundTrip sends a request and waits for its answer.
func (c *rawConn) roundTrip(req kmsg.Request) (kmsg.Response, error) {
	if err := c.nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if err := c.send(req); err != nil {
		return nil, err
	}
	b, err := c.receive()
	if err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	if err := decode(resp, b); err != nil {
		return nil, err
	}
	return resp, c.nc.SetDeadline(time.Time{})
}

// producerID asks for a fresh idempotent producer.
func (c *rawConn) producerID() (int64, int16, error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version = 4
	req.ProducerID, req.ProducerEpoch = -1, -1
	req.TransactionTimeoutMillis = 60_000
	for try := 0; ; try++ {
		answer, err := c.roundTrip(req)
		if err != nil {
			return 0, 0, err
		}
		resp := answer.(*kmsg.InitProducerIDResponse)
		err = kerr.ErrorForCode(resp.ErrorCode)
		if err == nil {
			return resp.ProducerID, resp.ProducerEpoch, nil
		}
		if !kerr.IsRetriable(err) || try == 50 {
			return 0, 0, fmt.Errorf("init producer id: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// offsets lists the end (at = -1) or start (at = -2) of partitions, as soon as all of them have a leader.
func (c *rawConn) offsets(topic string, partitions []int32, at int64) (map[int32]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version = 5
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp = p, at
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	for try := 0; ; try++ {
		answer, err := c.roundTrip(req)
		if err != nil {
			return nil, err
		}
		found, bad := map[int32]int64{}, error(nil)
		for _, t := range answer.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					bad = fmt.Errorf("offsets of %s-%d: %w", topic, p.Partition, err)
				}
				found[p.Partition] = p.Offset
			}
		}
		if bad == nil && len(found) == len(partitions) {
			return found, nil
		}
		if try == 100 {
			return nil, fmt.Errorf("%d of %d offsets: %w", len(found), len(partitions), bad)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

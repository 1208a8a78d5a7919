package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/wire"
)

// raw is a connection of our own, for what no client sends.
type raw struct {
	tb   testing.TB
	f    *fleet
	nc   net.Conn
	corr int32
}

func (f *fleet) raw() *raw { return f.rawTo(0) }

func (f *fleet) rawTo(i int) *raw {
	f.tb.Helper()
	return f.dial(f.addr(i))
}

func (f *fleet) dial(addr string) *raw {
	f.tb.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		f.tb.Fatal(err)
	}
	f.tb.Cleanup(func() { _ = nc.Close() })
	r := &raw{tb: f.tb, f: f, nc: nc}
	r.patient()
	return r
}

// patient gives what comes next its time.
func (r *raw) patient() {
	r.tb.Helper()
	if err := r.nc.SetDeadline(time.Now().Add(patience)); err != nil {
		r.tb.Fatal(err)
	}
}

func (r *raw) write(b []byte) {
	r.tb.Helper()
	r.patient()
	if _, err := r.nc.Write(b); err != nil {
		r.tb.Fatal(err)
	}
}

// frame reads one response frame.
func (r *raw) frame() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r.nc, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(r.nc, b)
	return b, err
}

// send writes a request and returns its correlation id.
func (r *raw) send(req kmsg.Request) int32 {
	r.tb.Helper()
	r.corr++
	r.write(wire.AppendRequest(nil, r.corr, []byte("raw"), req))
	return r.corr
}

// receive reads the response to a request that was sent.
func (r *raw) receive(req kmsg.Request, corr int32) kmsg.Response {
	r.tb.Helper()
	r.patient()
	b, err := r.frame()
	if err != nil {
		r.tb.Fatalf("key %d version %d: %v", req.Key(), req.GetVersion(), err)
	}
	r.f.noLeak(b)
	got, body, err := wire.ParseResponseHeader(b, req.Key(), req.GetVersion())
	if err != nil || got != corr {
		r.tb.Fatalf("key %d version %d: correlation id %d, want %d: %v", req.Key(), req.GetVersion(), got, corr, err)
	}
	if err := wire.CheckResponse(req.Key(), req.GetVersion(), body, wire.Budget{Factor: 64, Base: 1 << 20}); err != nil {
		r.tb.Fatalf("key %d version %d: %v", req.Key(), req.GetVersion(), err)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(body); err != nil {
		r.tb.Fatalf("key %d version %d: %v", req.Key(), req.GetVersion(), err)
	}
	// What was read has to be all that was sent.
	if again := resp.AppendTo(nil); len(again) != len(body) {
		r.tb.Fatalf("key %d version %d: %d bytes, of which %d were understood", req.Key(), req.GetVersion(), len(body), len(again))
	}
	return resp
}

// noLeak fails if an answer holds the name of the cluster behind, or a name or
// id of a topic there. Whatever test talks to a fleet checks it with every answer.
func (f *fleet) noLeak(answer []byte) {
	f.tb.Helper()
	if i := bytes.Index(answer, []byte("physical")); i >= 0 {
		f.tb.Errorf("answer leaks %.60q", answer[i:])
	}
	topics, err := f.store.Topics(context.Background(), "")
	if err != nil {
		f.tb.Fatal(err)
	}
	for _, t := range topics {
		if bytes.Contains(answer, t.ID[:]) {
			f.tb.Errorf("answer leaks the id of physical topic %s", t.Name)
		}
	}
}

// do sends a request in a version and returns its response.
func do[R kmsg.Response](r *raw, version int16, req kmsg.Request) R {
	r.tb.Helper()
	req.SetVersion(version)
	return r.receive(req, r.send(req)).(R)
}

// closed waits until the gateway has closed the connection, and fails if it
// says something first.
func (r *raw) closed() {
	r.tb.Helper()
	r.patient()
	b, err := r.frame()
	if err == nil {
		r.tb.Fatalf("got %d bytes instead of the end", len(b))
	}
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		r.tb.Fatal("connection was not closed")
	}
}

// records makes a batch of values; edit changes it before it is built.
func records(tb testing.TB, edit func(*batch.Builder), values ...string) []byte {
	tb.Helper()
	b := batch.NewBuilder()
	if edit != nil {
		edit(b)
	}
	for i, v := range values {
		b.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Key: fmt.Appendf(nil, "k%d", i), Value: []byte(v)})
	}
	out, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func produceRequest(topic string, id [16]byte, acks int16, parts map[int32][]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 10_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = topic, id
	for p, b := range parts {
		part := kmsg.NewProduceRequestTopicPartition()
		part.Partition, part.Records = p, b
		t.Partitions = append(t.Partitions, part)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func fetchRequest(topic string, id [16]byte, offsets map[int32]int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 1000, 1, 1<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic, id
	for p, o := range offsets {
		part := kmsg.NewFetchRequestTopicPartition()
		part.Partition, part.FetchOffset, part.PartitionMaxBytes = p, o, 1<<20
		t.Partitions = append(t.Partitions, part)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// appendRequest is the frame of a request whose version is set.
func appendRequest(corr int32, req kmsg.Request) []byte {
	return wire.AppendRequest(nil, corr, []byte("raw"), req)
}
